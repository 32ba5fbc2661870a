//! The shards of a run that several processes played, as data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The shards of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShardFacts {
    /// The id of the run, which the part of each shard has.
    pub run_id: String,
    /// The common start of the load that they agreed on, RFC 3339, UTC.
    pub start: String,
    /// The differences between their clocks.
    pub clocks: ClockFacts,
    /// Each shard, in the order of their indexes: as many as there are to be, in a run whose shards all came back.
    pub shards: Vec<OneShard>,
}

/// One shard, counted over all of its workloads.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OneShard {
    /// Its index, from 0.
    pub index: u64,
    /// Arrivals that the schedule put into the window.
    pub scheduled: u64,
    /// Those among them that were sent.
    pub started: u64,
    /// The share of the window in which its busiest thread was on a CPU, 0 to 1.
    pub busy_share: f64,
    /// The p99 of its schedule lag, in microseconds; absent where fewer than ten samples lie beyond.
    pub lag_p99_us: Option<f64>,
    /// The highest resident memory of its process, in bytes.
    pub peak_rss_bytes: u64,
}

/// The differences between the clocks of a run's machines.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClockFacts {
    /// The evidence for the figures.
    pub basis: ClockBasis,
    /// The largest difference between two clocks, in milliseconds; absent where none was measured.
    pub offset_ms: Option<f64>,
    /// The most by which the starts of two shards lie apart, in milliseconds; absent where nothing bounds it. No
    /// response time depends on it: each is measured by one machine's clock.
    pub apart_ms: Option<f64>,
}

/// The evidence for the differences between clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ClockBasis {
    /// All shards were on one machine, and have one clock.
    OneClock,
    /// Each shard exchanged timestamps with shard 0, and corrected its start by the difference.
    Measured,
    /// The bounds that the kernels keep for clocks that a time service keeps.
    Kernel,
    /// None: at least one clock is not kept by a time service.
    Unknown,
}

impl fmt::Display for ClockFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.basis, self.offset_ms, self.apart_ms) {
            (ClockBasis::OneClock, ..) => f.write_str("one clock"),
            (ClockBasis::Measured, Some(offset), Some(apart)) => {
                write!(f, "clocks differ by up to {offset:.3} ms, corrected to within {apart:.3} ms")
            }
            (ClockBasis::Kernel, _, Some(apart)) => {
                write!(f, "starts at most {apart:.3} ms apart, by the kernels' bounds")
            }
            _ => f.write_str("clocks differ by an unknown time"),
        }
    }
}
