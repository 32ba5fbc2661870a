//! The only clock of a measurement: `CLOCK_MONOTONIC`, in nanoseconds.
//!
//! [`std::time::Instant`] reads the same clock but hides its value, which an absolute timer needs.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A point in time on the monotonic clock, in nanoseconds since an arbitrary start (on Linux, boot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    /// Reads the clock.
    pub fn now() -> Self {
        Self(read_ns(ClockId::Monotonic))
    }

    /// Returns the moment at `ns` nanoseconds on this clock.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Returns the nanoseconds on this clock.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Returns the nanoseconds since `earlier`, or 0 if `earlier` is later.
    pub const fn ns_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0 + span.as_nanos() as u64)
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns_since(earlier))
    }
}

/// Returns the CPU time that the calling thread has used, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

/// Returns the CPU time that the process has used, all threads together, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
