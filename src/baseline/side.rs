//! One side of a comparison: one or more runs of one workload in one environment.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::environment::{Consequence, Environment};
use super::measure::{self, Better, MeasureKind};
use super::workload::WorkloadIdentity;
use crate::error::{Error, Result};
use crate::summary::{SCHEMA_VERSION, Summary, Verdict};

/// The runs of one workload in one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// The scenario.
    pub scenario: String,
    /// The workload.
    pub workload: WorkloadIdentity,
    /// The environment.
    pub environment: Environment,
    /// The runs, in the order in which they were given.
    pub runs: Vec<RunIdentity>,
    /// The measures, each with its value in each run.
    pub measures: BTreeMap<String, Series>,
    /// The reasons for which counts of the database were lost, each once.
    pub doubts: BTreeSet<String>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RunIdentity {
    /// The moment of its end, RFC 3339, UTC.
    pub finished_at: String,
    /// [`Summary::run_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Its verdict.
    pub verdict: Verdict,
}

/// The values of one measure in several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its kind, which decides how it is compared.
    pub kind: MeasureKind,
    /// The direction that is better.
    pub better: Better,
    /// [`measure::MeasureValue::tolerance`], the greatest of all runs.
    pub tolerance: f64,
    /// The value of each run; `None` where it has too few samples, or does not report the measure.
    pub values: Vec<Option<f64>>,
    /// The number of runs that do not report the measure.
    pub lost: usize,
}

impl Side {
    /// Combines runs, each with a name that identifies it in errors.
    ///
    /// # Errors
    /// If a run is invalid, partial or a smoke run, or of another workload or environment than the first.
    pub fn of(summaries: &[(String, impl Borrow<Summary>)]) -> Result<Self> {
        let [(first_name, first), ..] = summaries else { return Err(Error::usage("no run to compare")) };
        let first = first.borrow();
        let (workload, environment) = (WorkloadIdentity::of(first), Environment::of(first));
        let mut side = Self {
            scenario: first.about.scenario.to_string(),
            workload,
            environment,
            runs: Vec::new(),
            measures: BTreeMap::new(),
            doubts: BTreeSet::new(),
        };
        for (name, summary) in summaries {
            let summary = summary.borrow();
            usable(name, summary)?;
            // The first run is not compared with itself: where neither names its processor, that is a difference.
            let differences = if side.runs.is_empty() { Vec::new() } else { side.differences(summary) };
            if !differences.is_empty() {
                return Err(Error::invalid(format!(
                    "{name} and {first_name} differ in workload or environment: {}",
                    differences.join("; ")
                ))
                .with_hint("combine only runs of the same workload against the same system on the same machine"));
            }
            let before = side.runs.len();
            for (measure, reading) in measure::read(summary) {
                let series = side.measures.entry(measure).or_insert_with(|| Series {
                    kind: reading.kind,
                    better: reading.better,
                    tolerance: 0.0,
                    values: vec![None; before],
                    lost: before,
                });
                series.tolerance = series.tolerance.max(reading.tolerance);
                series.values.push(reading.value);
            }
            for series in side.measures.values_mut().filter(|series| series.values.len() == before) {
                series.values.push(None);
                series.lost += 1;
            }
            side.doubts.extend(measure::doubts(summary));
            side.runs.push(RunIdentity::of(summary));
        }
        Ok(side)
    }

    /// Returns the differences in workload and environment that keep a run from this side.
    fn differences(&self, summary: &Summary) -> Vec<String> {
        let environment = Environment::of(summary);
        let mut differences = self.workload.differences(&WorkloadIdentity::of(summary));
        let grave = Consequence::GRAVE.into_iter();
        differences.extend(grave.flat_map(|grave| self.environment.differences(&environment, grave)));
        let version = |one: &Environment| format!("{} {}", one.system_version, one.suite_commit);
        if version(&self.environment) != version(&environment) {
            differences.extend(self.environment.differences(&environment, Consequence::Noted));
        }
        differences
    }
}

impl RunIdentity {
    /// Describes a run.
    pub fn of(summary: &Summary) -> Self {
        let (finished_at, run_id) = (summary.finished_at.clone(), summary.run_id.clone());
        Self { finished_at, run_id, verdict: summary.verdict }
    }

    /// Reports whether both are one run: by their ids, or where one has none by the second in which they ended.
    pub fn is(&self, other: &Self) -> bool {
        match (&self.run_id, &other.run_id) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.finished_at == other.finished_at,
        }
    }
}

impl Series {
    /// Returns the values of the runs that have one.
    pub fn known(&self) -> Vec<f64> {
        self.values.iter().flatten().copied().collect()
    }
}

/// Refuses a run that did not measure what it states to have measured.
fn usable(name: &str, summary: &Summary) -> Result<()> {
    if summary.schema_version != SCHEMA_VERSION {
        return Err(Error::invalid(format!(
            "{name} has summary schema {}; this version of the suite reads {SCHEMA_VERSION}",
            summary.schema_version
        ))
        .with_hint("measure again with this version of the suite"));
    }
    match unusable(summary) {
        None => Ok(()),
        Some(why) => Err(Error::invalid(format!("{name} cannot be compared: {why}"))
            .with_hint("give a run that passed or breached a threshold")),
    }
}

/// Returns the reason for which a run did not measure what it states to have measured, if it did not; a breached
/// threshold is no reason.
pub fn unusable(summary: &Summary) -> Option<String> {
    match summary.verdict {
        Verdict::Pass | Verdict::Breached if summary.measured().any(|(_, results)| results.arrivals.partial) => {
            Some("it is partial: it was stopped before its end".to_owned())
        }
        Verdict::Pass | Verdict::Breached if summary.ended_early.is_some() => {
            Some(format!("it was ended early, {}", summary.ended_early.as_deref().unwrap_or_default()))
        }
        // A clear breach needs no valid run.
        Verdict::Breached if !summary.invalid.is_empty() => {
            Some(format!("it breached a threshold, and is also invalid: {}", summary.invalid.join("; ")))
        }
        Verdict::Pass | Verdict::Breached => None,
        Verdict::Smoke => Some("it is a smoke run, which measures nothing".to_owned()),
        Verdict::Invalid => Some(format!("it is invalid: {}", summary.invalid.join("; "))),
    }
}
