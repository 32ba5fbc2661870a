//! The progress of a run, for threads that show it: plain counters, so that the generator never touches a terminal.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use serde::{Deserialize, Serialize};

use crate::measure::Outcome;
use crate::measure::buckets::{BucketCounts, LiveHistogram};
use crate::measure::machine_use::CpuUse;
use crate::wire::{FaultKind, connection};

/// The stages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Connections are being opened.
    Opening,
    /// Arrivals are sent but not measured.
    WarmUp,
    /// Arrivals are measured.
    Measuring,
    /// The last arrivals are under way.
    Draining,
}

impl Stage {
    /// Returns its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::WarmUp => "warm-up",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// The counts of a generator's progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ProgressCounts {
    /// Connections opened.
    pub connections: u64,
    /// Connections that are open.
    pub open: u64,
    /// Arrivals that got the right answer.
    pub ok: u64,
    /// Arrivals that did not.
    pub not_ok: u64,
    /// Those among them that got no answer: timeouts, and connections that broke or could not be opened.
    pub unanswered: u64,
    /// Those among them that failed for want of ports or descriptors on this machine.
    pub exhausted: u64,
    /// Arrivals that were given up before they were sent.
    pub unsent: u64,
    /// Response times of right answers.
    pub response: BucketCounts,
    /// Schedule lags; in a closed workload, the lags of the generator's timer.
    pub lag: BucketCounts,
}

impl ProgressCounts {
    /// Adds the counts of another generator.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.open += other.open;
        self.ok += other.ok;
        self.not_ok += other.not_ok;
        self.unanswered += other.unanswered;
        self.exhausted += other.exhausted;
        self.unsent += other.unsent;
        self.response.add(&other.response);
        self.lag.add(&other.lag);
    }
}

/// The latest figures of the threads that observe a run beside its generator.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The use of the machine in the last second or so, with the number of processors that are watched.
    pub machine: Option<(CpuUse, u32)>,
    /// The backends of the system's database by state and by what they wait for, as the evidence counts them.
    pub backends: Option<BTreeMap<String, u64>>,
}

/// The number of lanes: so many generator threads count without waiting for each other.
const LANES: usize = 16;

thread_local! {
    /// The lane of the calling thread.
    static LANE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Counters of a run, written by the generator and read by the threads that show them.
#[derive(Debug)]
pub struct Progress {
    stage: AtomicU8,
    /// The number of windows that have not ended: one for each workload in each generator thread.
    windows: AtomicUsize,
    lanes: Box<[Lane]>,
    observed: Mutex<Observed>,
    /// The threads that wait for the next stage.
    waiting: Mutex<Vec<Thread>>,
}

impl Default for Progress {
    fn default() -> Self {
        let lanes = (0..LANES).map(|_| Lane::default()).collect();
        Self {
            stage: AtomicU8::default(),
            windows: AtomicUsize::default(),
            lanes,
            observed: Mutex::default(),
            waiting: Mutex::default(),
        }
    }
}

/// The counters of some of the threads, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    connections: AtomicU64,
    /// Those that other processes have open.
    open: AtomicU64,
    ok: AtomicU64,
    not_ok: AtomicU64,
    unanswered: AtomicU64,
    exhausted: AtomicU64,
    unsent: AtomicU64,
    response: LiveHistogram,
    lag: LiveHistogram,
}

impl Progress {
    /// Replaces the counts by those of several generators together.
    pub fn show(&self, counts: &ProgressCounts) {
        // No thread of this process counts beside it.
        let lane = &self.lanes[0];
        lane.response.show(&counts.response);
        lane.lag.show(&counts.lag);
        for (counter, count) in [
            (&lane.connections, counts.connections),
            (&lane.open, counts.open),
            (&lane.ok, counts.ok),
            (&lane.not_ok, counts.not_ok),
            (&lane.unanswered, counts.unanswered),
            (&lane.exhausted, counts.exhausted),
            (&lane.unsent, counts.unsent),
        ] {
            counter.store(count, Ordering::Relaxed);
        }
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> ProgressCounts {
        let (ok, not_ok) = self.answered();
        let (connections, exhausted, unsent) = (self.connections(), self.exhausted(), self.unsent());
        let open = connection::open_connections() + self.sum(|lane| &lane.open);
        let unanswered = self.sum(|lane| &lane.unanswered);
        let mut counts =
            ProgressCounts { connections, open, ok, not_ok, unanswered, exhausted, unsent, ..Default::default() };
        for lane in &self.lanes {
            lane.response.add_to(&mut counts.response);
            lane.lag.add_to(&mut counts.lag);
        }
        counts
    }

    /// Shows the latest use of the machine, of so many processors.
    pub fn observe_machine(&self, cpu: CpuUse, cpus: u32) {
        self.observed().machine = Some((cpu, cpus));
    }

    /// Shows the latest sample of the database's backends.
    pub fn observe_backends(&self, backends: BTreeMap<String, u64>) {
        self.observed().backends = Some(backends);
    }

    /// Returns the latest figures beside the generator's. No generator thread ever takes this lock.
    pub fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a stage; has no effect if the run is past it, so that the first of several workloads leads.
    pub fn enter(&self, stage: Stage) {
        if self.stage.fetch_max(stage as u8, Ordering::Relaxed) < stage as u8 {
            self.waiting().iter().for_each(Thread::unpark);
        }
    }

    /// Lets each change of the stage from now on unpark the calling thread, which need not look for it.
    pub fn unpark_at_changes(&self) {
        self.waiting().push(thread::current());
    }

    /// Expects so many windows more.
    pub fn expect_windows(&self, more: usize) {
        self.windows.fetch_add(more, Ordering::Relaxed);
    }

    /// Records that a window is over; the last one enters the draining stage.
    pub fn window_over(&self) {
        if self.windows.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enter(Stage::Draining);
        }
    }

    /// Counts a connection.
    pub fn connected(&self) {
        self.lane().connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an arrival that is over, with its response time.
    pub fn count(&self, outcome: Outcome, response_ns: u64) {
        let lane = self.lane();
        if outcome == Outcome::Ok {
            lane.ok.fetch_add(1, Ordering::Relaxed);
            lane.response.record(response_ns);
        } else {
            lane.not_ok.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(outcome, Outcome::TimedOut | Outcome::Broken(_)) {
            lane.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        if outcome == Outcome::Broken(FaultKind::Exhausted) {
            lane.exhausted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a schedule lag, or one of the generator's timer.
    pub fn lagged(&self, ns: u64) {
        self.lane().lag.record(ns);
    }

    /// Counts an arrival that was given up before it was sent.
    pub fn gave_up(&self) {
        self.lane().unsent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of arrivals that were given up before they were sent.
    pub fn unsent(&self) -> u64 {
        self.sum(|lane| &lane.unsent)
    }

    /// Returns the current stage.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Opening,
            1 => Stage::WarmUp,
            2 => Stage::Measuring,
            _ => Stage::Draining,
        }
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> u64 {
        self.sum(|lane| &lane.connections)
    }

    /// Returns the number of arrivals that failed for want of ports or descriptors on this machine.
    pub fn exhausted(&self) -> u64 {
        self.sum(|lane| &lane.exhausted)
    }

    /// Returns the number of arrivals over so far: with the right answer, and without.
    pub fn answered(&self) -> (u64, u64) {
        (self.sum(|lane| &lane.ok), self.sum(|lane| &lane.not_ok))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lane of the calling thread.
    fn lane(&self) -> &Lane {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let lane = LANE.get().unwrap_or_else(|| {
            let lane = NEXT.fetch_add(1, Ordering::Relaxed) % LANES;
            LANE.set(Some(lane));
            lane
        });
        &self.lanes[lane]
    }

    fn sum(&self, counter: impl Fn(&Lane) -> &AtomicU64) -> u64 {
        self.lanes.iter().map(|lane| counter(lane).load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_of_the_stage_unparks_those_that_wait_for_it() {
        let progress = Arc::new(Progress::default());
        let (tell, told) = mpsc::channel();
        let watched = progress.clone();
        let waiting = thread::spawn(move || {
            watched.unpark_at_changes();
            for stage in [Stage::WarmUp, Stage::Measuring] {
                tell.send(stage).unwrap();
                while watched.stage() < stage {
                    thread::park();
                }
            }
            tell.send(Stage::Draining).unwrap();
        });
        for stage in [Stage::WarmUp, Stage::Measuring, Stage::Draining] {
            assert_eq!(told.recv_timeout(Duration::from_secs(60)).ok(), Some(stage), "nobody unparked the thread");
            progress.enter(stage);
        }
        waiting.join().unwrap();
    }
}
