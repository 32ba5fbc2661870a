//! The progress of a run, for threads that show it: plain counters, so that the generator never touches a terminal.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::measure::Outcome;
use crate::wire::FaultKind;

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

/// Counters of a run, written by the generator and read by the threads that show them.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    connections: AtomicU64,
    ok: AtomicU64,
    not_ok: AtomicU64,
    exhausted: AtomicU64,
    unsent: AtomicU64,
}

impl Progress {
    /// Enters a stage; has no effect if the run is past it, so that the first of several workloads leads.
    pub fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }

    /// Counts a connection.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an arrival that is over.
    pub fn count(&self, outcome: Outcome) {
        let counter = if outcome == Outcome::Ok { &self.ok } else { &self.not_ok };
        counter.fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::Broken(FaultKind::Exhausted) {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an arrival that was given up before it was sent.
    pub fn gave_up(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of arrivals that were given up before they were sent.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
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
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns the number of arrivals that failed for want of ports or descriptors on this machine.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Returns the number of arrivals over so far: with the right answer, and without.
    pub fn answered(&self) -> (u64, u64) {
        (self.ok.load(Ordering::Relaxed), self.not_ok.load(Ordering::Relaxed))
    }
}
