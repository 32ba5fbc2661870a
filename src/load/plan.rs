//! Plans: how much load there is, when, and over how many connections.

use std::time::Duration;

use super::desk::Affinity;
use super::rate::Rate;
use super::schedule::Pattern;
use crate::measure::validity::{Punctuality, Timed};

/// The load of one workload.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who starts requests, and when.
    pub model: Model,
    /// How many kinds of request there are; they take turns.
    pub steps: usize,
    /// How long after the start of the run this workload begins.
    pub starts_after: Duration,
    /// How long requests are sent before the measured window.
    pub warm_up: Duration,
    /// How long the measured window is.
    pub window: Duration,
    /// How long requests are sent after the window, unmeasured: until the windows of all workloads beside it have ended.
    pub goes_on: Duration,
    /// How many workers, each with a connection.
    pub connections: usize,
    /// When connections are opened.
    pub opening: Opening,
    /// How long a request may take, and how long an arrival may wait for a worker.
    pub timeout: Duration,
    /// What starts later than this counts as late.
    pub max_lag: Duration,
    /// Makes a random schedule repeatable.
    pub rng_seed: u64,
}

/// The two workload models (Schroeder, Wierman, Harchol-Balter, "Open Versus Closed", NSDI 2006).
#[derive(Clone, Debug)]
pub enum Model {
    /// Arrivals come when the schedule says, whatever the target does.
    Open {
        /// When they come.
        pattern: Pattern,
        /// How many clients take turns.
        clients: u64,
        /// Which worker may take which arrival.
        affinity: Affinity,
    },
    /// Each of `connections` users asks, waits for the answer, and asks again.
    Closed {
        /// How long a user pauses after the last step of a round.
        think: Duration,
        /// How many rounds a user makes at most; the window ends early once all have.
        rounds: Option<u64>,
    },
}

/// When connections are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Before the load begins, at this rate.
    Before(Rate),
    /// By the first request on each, whose time it is part of.
    ByFirstRequest,
}

impl Plan {
    /// What may be late, and by how much.
    pub fn punctuality(&self) -> Punctuality {
        let of = match &self.model {
            Model::Open { pattern: Pattern::Fleet(_), .. } => Timed::BusyClients,
            Model::Open { .. } => Timed::Arrivals,
            Model::Closed { .. } => Timed::Ticks,
        };
        Punctuality { bound: self.max_lag, of }
    }

    /// From the start of the run to the end of this workload's window.
    pub fn end(&self) -> Duration {
        self.starts_after + self.warm_up + self.window
    }
}
