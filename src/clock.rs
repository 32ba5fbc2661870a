//! The only clock of a measurement: `CLOCK_MONOTONIC`, in nanoseconds; and the wall clock, for agreements between
//! machines.
//!
//! [`std::time::Instant`] reads the same clock but hides its value, which an absolute timer needs.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

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

/// A point in time on the wall clock, in nanoseconds since 1970, UTC. The clock may be set, and is another on each
/// machine: it serves for agreements between machines alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u64);

impl WallTime {
    /// Reads the clock.
    pub fn now() -> Self {
        Self(read_ns(ClockId::Realtime))
    }

    /// Returns the time at `ns` nanoseconds since 1970.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Returns the nanoseconds since 1970.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Returns the moment at which this clock shows this time, unless it is set before.
    pub fn moment(self) -> Moment {
        let (now, wall) = (Moment::now(), Self::now());
        Moment((now.0 + self.0).saturating_sub(wall.0))
    }

    /// Returns what this clock shows at a moment, unless it is set before.
    pub fn at(moment: Moment) -> Self {
        let (now, wall) = (Moment::now(), Self::now());
        Self((wall.0 + moment.0).saturating_sub(now.0))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)).fmt(f)
    }
}

impl FromStr for WallTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = |_| format!("`{text}`: write it as 2026-05-01T12:00:00Z");
        let time = humantime::parse_rfc3339(text).map_err(form)?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).map(Self).map_err(|_| format!("`{text}` is too far ahead"))
    }
}
