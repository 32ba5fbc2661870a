//! Thresholds: what a scenario promises to stay under.

use std::fmt;
use std::time::Duration;

use super::distribution::Quantile;
use super::recorder::Measurement;

/// A bound on one measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This quantile of the response time stays below the limit.
    Response(Quantile, Duration),
    /// The share of arrivals without the right answer stays below the limit, 0 to 1.
    Errors(f64),
}

/// A threshold beside what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// The bound.
    pub threshold: Threshold,
    /// What was measured, in the bound's unit (nanoseconds, or a share); `None` without enough samples.
    pub measured: Option<f64>,
}

impl Threshold {
    /// Puts the threshold beside what was measured.
    pub fn check(self, measurement: &Measurement) -> Checked {
        let measured = match self {
            Self::Response(quantile, _) => measurement.response.quantile_ns(quantile).map(|ns| ns as f64),
            Self::Errors(_) => measurement.error_share(),
        };
        Checked { threshold: self, measured }
    }

    /// The limit, in nanoseconds or as a share.
    pub fn limit(self) -> f64 {
        match self {
            Self::Response(_, limit) => limit.as_nanos() as f64,
            Self::Errors(share) => share,
        }
    }

    /// How many arrivals a run needs before this can be judged.
    pub fn samples_needed(self) -> u64 {
        match self {
            Self::Response(quantile, _) => quantile.samples_needed(),
            Self::Errors(_) => 1,
        }
    }
}

impl Checked {
    /// Whether the bound was kept; `None` if that cannot be told.
    pub fn passed(&self) -> Option<bool> {
        self.measured.map(|measured| measured < self.threshold.limit())
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(quantile, _) => write!(f, "response time {quantile}"),
            Self::Errors(_) => f.write_str("errors"),
        }
    }
}
