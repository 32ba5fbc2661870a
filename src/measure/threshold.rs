//! Thresholds: the bounds that a scenario's measures must keep.

use std::fmt;
use std::time::Duration;

use super::binomial;
use super::distribution::Quantile;
use super::outcome::Outcome;
use super::recorder::Measurement;

/// The largest probability of a breach by chance, for a breach that holds whatever else is wrong with a run.
pub const CHANCE: f64 = 0.001;

/// A bound on one measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This quantile of the response time of right answers stays below the limit.
    Response(Quantile, Duration),
    /// The same, of one of the scenario's steps.
    Step(&'static str, Quantile, Duration),
    /// The share of arrivals without the right answer stays below the limit, 0 to 1.
    Errors(f64),
    /// The same, but a refusal with a 429 of the right shape is no error.
    Faults(f64),
    /// The share of failed attempts to connect before the load stays below the limit, 0 to 1.
    Opening(f64),
}

/// A threshold beside the measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// The workload that it is about, if a run has several and it is about one.
    pub workload: Option<&'static str>,
    /// The bound.
    pub threshold: Threshold,
    /// The measured value, in the bound's unit (nanoseconds, or a share); `None` without enough samples.
    pub measured: Option<f64>,
    /// True if the measured value is the longest sample: there are too few samples for the quantile, but enough to
    /// conclude that it is no longer than that.
    pub by_maximum: bool,
    /// The number of samples.
    pub had: u64,
    /// The number of samples that were beyond the limit because of the system, for certain.
    pub beyond: u64,
    /// True if so many cannot be beyond it by chance.
    pub certain: bool,
}

impl Threshold {
    /// Checks the threshold against the measurement of one workload.
    pub fn check(self, measurement: &Measurement) -> Checked {
        self.check_over([measurement])
    }

    /// Checks the threshold against the measurements of several workloads together. A bound on a latency is about the
    /// first.
    pub fn check_over<'m>(self, measurements: impl IntoIterator<Item = &'m Measurement>) -> Checked {
        let measurements: Vec<_> = measurements.into_iter().collect();
        let scheduled: u64 = measurements.iter().map(|measurement| measurement.scheduled).sum();
        let count = |outcome| measurements.iter().map(|measurement| measurement.outcomes.count(outcome)).sum::<u64>();
        let share = |good: u64| (scheduled > 0).then(|| (scheduled - good) as f64 / scheduled as f64);
        let errors = |of: fn(&Measurement) -> u64| {
            let each = measurements.iter().map(|one| one.errors_by_system() + of(one));
            each.sum::<u64>()
        };
        let mut by_maximum = false;
        let (measured, had, beyond) = match self {
            Self::Errors(_) => (share(count(Outcome::Ok)), scheduled, errors(|one| one.certain_errors.refused)),
            Self::Faults(_) => (share(count(Outcome::Ok) + count(Outcome::Refused)), scheduled, errors(|_| 0)),
            Self::Opening(_) => {
                let failed = measurements.iter().map(|one| one.opening.failed.total()).sum::<u64>();
                let tried = failed + measurements.iter().map(|one| one.opening.kinds.total()).sum::<u64>();
                ((tried > 0).then(|| failed as f64 / tried as f64), tried, failed)
            }
            Self::Response(quantile, _) | Self::Step(_, quantile, _) => {
                let response = measurements.first().and_then(|measurement| self.distribution(measurement));
                let measured = response.and_then(|response| {
                    response.quantile_ns(quantile).or_else(|| {
                        let enough = response.count() >= quantile.samples_needed_for_maximum();
                        let max_ns = response.max_ns().filter(|max_ns| enough && (*max_ns as f64) < self.limit())?;
                        by_maximum = true;
                        Some(max_ns)
                    })
                });
                let certain = measurements.first().and_then(|measurement| self.certain(measurement));
                let beyond = certain.map_or(0, |certain| certain.count_above(self.limit() as u64));
                (measured.map(|ns| ns as f64), response.map_or(0, super::Distribution::count), beyond)
            }
        };
        let certain = beyond > 0 && binomial::at_least(beyond, had, self.share_allowed()) <= CHANCE;
        Checked { workload: None, threshold: self, measured, by_maximum, had, beyond, certain }
    }

    fn distribution(self, measurement: &Measurement) -> Option<&super::Distribution> {
        match self {
            Self::Step(name, ..) => measurement.steps.iter().find(|step| step.name == name).map(|step| &step.response),
            _ => Some(&measurement.response),
        }
    }

    /// Returns the distribution of the part of the response times that is the system's for certain.
    fn certain(self, measurement: &Measurement) -> Option<&super::Distribution> {
        match self {
            Self::Step(name, ..) => measurement.steps.iter().find(|step| step.name == name).map(|step| &step.certain),
            _ => Some(&measurement.certain),
        }
    }

    /// Returns the share of samples that may be beyond the limit, 0 to 1.
    fn share_allowed(self) -> f64 {
        match self {
            Self::Response(quantile, _) | Self::Step(_, quantile, _) => 1.0 - quantile.fraction(),
            Self::Errors(share) | Self::Faults(share) | Self::Opening(share) => share,
        }
    }

    /// Returns the limit, in nanoseconds or as a share.
    pub fn limit(self) -> f64 {
        match self {
            Self::Response(_, limit) | Self::Step(_, _, limit) => limit.as_nanos() as f64,
            Self::Errors(share) | Self::Faults(share) | Self::Opening(share) => share,
        }
    }

    /// Returns the number of arrivals that a run needs before this can be judged.
    pub fn samples_needed(self) -> u64 {
        match self {
            Self::Response(quantile, _) | Self::Step(_, quantile, _) => quantile.samples_needed(),
            Self::Errors(_) | Self::Faults(_) | Self::Opening(_) => 1,
        }
    }
}

impl Checked {
    /// Sets the workload of the run that it is about.
    pub fn of(self, workload: &'static str) -> Self {
        Self { workload: Some(workload), ..self }
    }

    /// Returns true if the bound was kept; `None` if that cannot be determined.
    pub fn passed(&self) -> Option<bool> {
        if self.certain { Some(false) } else { self.measured.map(|measured| measured < self.threshold.limit()) }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.workload {
            Some(workload) => write!(f, "{workload}: {}", self.threshold),
            None => self.threshold.fmt(f),
        }
    }
}

/// Names the bounded measure.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Response(quantile, _) => write!(f, "response time {quantile}"),
            Threshold::Step(name, quantile, _) => write!(f, "{name} {quantile}"),
            Threshold::Errors(_) => f.write_str("errors"),
            Threshold::Faults(_) => f.write_str("errors but 429"),
            Threshold::Opening(_) => f.write_str("failed attempts to connect"),
        }
    }
}
