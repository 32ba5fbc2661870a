//! The capacity of a system under an open scenario: the highest rate at which it keeps the scenario's thresholds.
//!
//! Pure: [`search`] chooses the rates, [`point`] holds what was measured at one, [`stop_rule`] when a point has to end,
//! [`translation`] what a rate is for people. docs/CAPACITY.md explains it.

pub mod point;
pub mod search;
pub mod stop_rule;
pub mod translation;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::exit_code;
use crate::measure::machine::Machine;
use crate::summary::facts::ThresholdFacts;
use crate::summary::plan::PlanFacts;
use crate::system::SystemDescription;
use point::MeasuredPoint;
use search::{Conclusion, PointVerdict, SearchSettings, Tried};
use translation::{ArrivalUnit, Translation};

/// The version of [`Capacity`] as JSON: raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 1;

/// The result of a search: `capacity.json`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Capacity {
    /// The version of this form of results.
    pub schema_version: u32,
    /// The suite's version.
    pub suite_version: String,
    /// The bench target.
    pub scenario: String,
    /// The moment of its end, UTC, RFC 3339.
    pub finished_at: String,
    /// The conclusion.
    pub conclusion: Conclusion,
    /// The exit code that follows.
    pub exit_code: u8,
    /// The reason for which the search ended before its conclusion, or could not measure more; absent of an answer.
    pub why: Option<String>,
    /// The event that an arrival stands for.
    pub unit: ArrivalUnit,
    /// The answer in other terms, where there is an honest translation.
    pub translations: Vec<Translation>,
    /// The limit that was met first; absent where no point was breached.
    pub first_limit: Option<FirstLimit>,
    /// Remarks that do not change the answer.
    pub notes: Vec<String>,
    /// The bounds of the search.
    pub search: SearchSettings,
    /// The bounds of a point.
    pub point_bounds: PointBounds,
    /// The system.
    pub system: SystemDescription,
    /// The machine of the generator.
    pub machine: Machine,
    /// The workloads, as the first point had them; the rate of the first is that of the points.
    pub plans: Vec<PlanFacts>,
    /// The points, in the order in which they were measured.
    pub points: Vec<MeasuredPoint>,
}

/// The bounds of a point, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct PointBounds {
    /// The shortest window.
    pub least_s: f64,
    /// The longest, where a quantile needs more samples than the shortest has.
    pub most_s: f64,
    /// The longest time for the whole search.
    pub search_s: f64,
}

/// The limit that was met first: what was breached at the lowest rate that did not hold, and what stood beside it. An
/// observation: it does not show the cause.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FirstLimit {
    /// That rate.
    pub rate_per_s: f64,
    /// The number of the point that is described.
    pub point: usize,
    /// The thresholds that were breached.
    pub thresholds: Vec<ThresholdFacts>,
    /// The breaches that no threshold states.
    pub breaches: Vec<String>,
    /// The use of processors, and waits for locks, in the same window.
    pub beside: Vec<String>,
}

impl Conclusion {
    /// Returns the exit code of a search that ends with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Between { .. } | Self::AtLeast { .. } => exit_code::PASS,
            Self::Below { .. } => exit_code::BREACHED,
            Self::Unmeasurable { .. } | Self::Unfinished { .. } => exit_code::INVALID,
        }
    }

    /// Returns the rate that is translated for people: one that was confirmed to hold.
    pub fn confirmed_per_s(&self) -> Option<f64> {
        match self {
            Self::Between { held_per_s, .. } | Self::AtLeast { held_per_s } => Some(*held_per_s),
            Self::Unmeasurable { held_per_s, .. } => *held_per_s,
            Self::Below { .. } | Self::Unfinished { .. } => None,
        }
    }
}

impl Capacity {
    /// Returns it as the text of `capacity.json`.
    ///
    /// # Errors
    /// If a figure cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self).context(|| "writing the capacity as JSON".to_owned())?;
        Ok(json + "\n")
    }

    /// Returns the points as the search sees them.
    pub fn tried(&self) -> Vec<Tried> {
        self.points.iter().map(|point| Tried { rate_per_s: point.rate_per_s, verdict: point.verdict }).collect()
    }

    /// Sets the conclusion, and everything that follows from it.
    pub fn conclude(&mut self, conclusion: Conclusion, why: Option<String>) {
        self.exit_code = conclusion.exit_code();
        self.translations =
            conclusion.confirmed_per_s().map_or_else(Vec::new, |per_s| translation::translate(&self.unit, per_s));
        self.first_limit = self.first_limit(&conclusion);
        self.why = why.or_else(|| match conclusion {
            Conclusion::Unmeasurable { at_per_s, .. } => {
                self.void_at(at_per_s).and_then(|point| point.reasons.first().cloned())
            }
            Conclusion::Unfinished { .. } => {
                Some(format!("{} points were not enough (raise --max-points)", self.points.len()))
            }
            _ => None,
        });
        self.conclusion = conclusion;
    }

    /// Returns the last point at this rate that is invalid, or could not be planned.
    pub fn void_at(&self, per_s: f64) -> Option<&MeasuredPoint> {
        let is_void = |point: &&MeasuredPoint| {
            matches!(point.verdict, PointVerdict::Invalid | PointVerdict::Unplanned) && point.rate_per_s == per_s
        };
        self.points.iter().rev().find(is_void)
    }

    fn first_limit(&self, conclusion: &Conclusion) -> Option<FirstLimit> {
        let at = match conclusion {
            Conclusion::Between { breached_per_s, .. } | Conclusion::Below { breached_per_s } => *breached_per_s,
            Conclusion::Unfinished { not_held_per_s, .. } => (*not_held_per_s)?,
            Conclusion::AtLeast { .. } | Conclusion::Unmeasurable { .. } => return None,
        };
        let breached = self.points.iter().filter(|point| point.verdict == PointVerdict::Breached);
        // One with a whole window says more than one that was ended early.
        let mut breached: Vec<_> = breached.filter(|point| point.rate_per_s == at).collect();
        breached.sort_by_key(|point| point.ended_early.is_some());
        let point = *breached.first()?;
        Some(FirstLimit {
            rate_per_s: at,
            point: point.number,
            thresholds: point.thresholds.iter().filter(|one| one.passed == Some(false)).cloned().collect(),
            breaches: point.reasons.clone(),
            beside: point.observations(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_confirmed_rate_is_an_answer() {
        let per_s = 100.0;
        for (conclusion, code, confirmed) in [
            (Conclusion::Between { held_per_s: per_s, breached_per_s: 104.0 }, 0, Some(per_s)),
            (Conclusion::AtLeast { held_per_s: per_s }, 0, Some(per_s)),
            (Conclusion::Below { breached_per_s: per_s }, 3, None),
            (Conclusion::Unmeasurable { held_per_s: Some(per_s), at_per_s: 104.0 }, 5, Some(per_s)),
            (Conclusion::Unfinished { held_per_s: Some(per_s), not_held_per_s: None }, 5, None),
        ] {
            assert_eq!((conclusion.exit_code(), conclusion.confirmed_per_s()), (code, confirmed), "{conclusion:?}");
        }
    }
}
