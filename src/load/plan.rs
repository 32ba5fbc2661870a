//! Plans: the amount of load, its timing, and the number of connections.

use std::time::Duration;

use super::arrival::PlannedRequest;
use super::dispatcher::Affinity;
use super::rate::Rate;
use super::schedule::{Paired, Pattern, Schedule};
use super::shard::Share;
use crate::measure::validity::{Punctuality, Timed};

/// The load of one workload.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workload model, which decides the starts of requests.
    pub model: Model,
    /// The number of kinds of request; they take turns.
    pub steps: usize,
    /// The time from the start of the run to the beginning of this workload.
    pub starts_after: Duration,
    /// The length of the warm-up: requests are sent before the measured window.
    pub warm_up: Duration,
    /// The length of the measured window.
    pub window: Duration,
    /// The time after the window during which requests are still sent, unmeasured: until the windows of all workloads
    /// beside it have ended.
    pub goes_on: Duration,
    /// The number of workers, each with a connection.
    pub connections: usize,
    /// The most connections that they may have open beside these: those of journeys to further peers.
    pub further: usize,
    /// The moment at which connections are opened.
    pub opening: Opening,
    /// The longest time that a request may take, and that an arrival may wait for a worker.
    pub timeout: Duration,
    /// The lag above which a start counts as late.
    pub max_lag: Duration,
    /// The seed that makes a random schedule repeatable.
    pub rng_seed: u64,
    /// The part in a duet whose arrivals these are; `None` if the workload has no twin.
    pub part: Option<DuetPart>,
}

/// One of the two parts of a duet, which share a schedule in pairs of arrivals (Bulej et al., "Duet Benchmarking", ICPE
/// 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuetPart {
    /// Comes first in a pair where the coin shows heads.
    Heads,
    /// Comes first where it shows tails.
    Tails,
}

/// One of the two sides of a duet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DuetSide {
    /// The system before a change.
    Base,
    /// The system after it.
    Head,
}

impl DuetSide {
    /// Returns the side that it is compared with.
    pub const fn other(self) -> Self {
        match self {
            Self::Base => Self::Head,
            Self::Head => Self::Base,
        }
    }

    /// Both.
    pub const BOTH: [Self; 2] = [Self::Base, Self::Head];

    /// Returns its word in flags and results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Head => "head",
        }
    }
}

/// The two workload models (Schroeder, Wierman, Harchol-Balter, "Open Versus Closed", NSDI 2006).
#[derive(Clone, Debug)]
pub enum Model {
    /// Arrivals follow the schedule, whatever the system does.
    Open {
        /// The distribution of arrivals over time.
        pattern: Pattern,
        /// The number of clients that take turns.
        clients: u64,
        /// The workers that may take an arrival.
        affinity: Affinity,
    },
    /// Each of `connections` users sends a request, waits for the answer, and sends the next.
    Closed {
        /// The pause of a user after the last step of a round.
        think: Duration,
        /// The largest number of rounds of a user; the window ends early once all users have completed theirs.
        rounds: Option<u64>,
    },
}

impl Model {
    /// Returns the highest rate of arrivals; `None` where there is none: of a fleet, and of a closed workload.
    pub fn peak(&self) -> Option<Rate> {
        match self {
            Self::Open { pattern, .. } => pattern.peak(),
            Self::Closed { .. } => None,
        }
    }
}

/// The moment at which connections are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Before the load begins, at this rate.
    Before(Rate),
    /// By the first request on each, as part of its time.
    ByFirstRequest,
}

impl Plan {
    /// Returns the events that may be late, and the bound on their lag.
    pub fn punctuality(&self) -> Punctuality {
        let of = match &self.model {
            Model::Open { pattern: Pattern::Fleet(_), .. } => Timed::BusyClients,
            Model::Open { .. } => Timed::Arrivals,
            Model::Closed { .. } => Timed::Ticks,
        };
        Punctuality { bound: self.max_lag, of }
    }

    /// Returns the arrivals of `share` in an open workload, from its beginning to the end of the time after its window,
    /// in nanoseconds after that beginning; none in a closed one.
    pub fn schedule(&self, share: Share) -> Box<dyn Iterator<Item = (u64, PlannedRequest)>> {
        let Model::Open { pattern, clients, .. } = &self.model else { return Box::new(std::iter::empty()) };
        let span = self.warm_up + self.window + self.goes_on;
        let all = Schedule::new(pattern, *clients, self.steps, span, self.rng_seed).with_warm_up(self.warm_up);
        match (self.part, share.is_whole()) {
            (None, true) => Box::new(all),
            (None, false) => Box::new(all.filter(move |(_, planned)| share.owns(planned))),
            (Some(part), _) => {
                let paired = Paired::new(all, part, self.rng_seed);
                Box::new(paired.filter(move |(_, planned)| share.owns(planned)))
            }
        }
    }

    /// Returns the time from the start of the run to the end of this workload's window.
    pub fn end(&self) -> Duration {
        self.starts_after + self.warm_up + self.window
    }
}
