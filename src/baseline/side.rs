//! One side of a comparison: the runs of one thing in one place, one or many.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::measure::{self, Better, Kind};
use super::workload::Asked;
use crate::error::{Error, Result};
use crate::report::summary::SCHEMA_VERSION;
use crate::report::{Summary, Verdict};

/// The runs of one thing in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// Which scenario.
    pub scenario: String,
    /// What was asked.
    pub workload: Asked,
    /// Where.
    pub environment: Environment,
    /// When, and at what verdict; in the order in which they were given.
    pub runs: Vec<Run>,
    /// What each run says of each measure.
    pub measures: BTreeMap<String, Series>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// When it was over, RFC 3339, UTC.
    pub finished_at: String,
    /// [`Summary::run_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Whether it kept its thresholds.
    pub verdict: Verdict,
}

/// What the runs say of one measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// How it is compared.
    pub kind: Kind,
    /// Which way is good.
    pub better: Better,
    /// Up to this share an exact measure's difference is none.
    pub tolerance: f64,
    /// By run; `None` where it has too few samples.
    pub values: Vec<Option<f64>>,
    /// By run: see [`measure::Reading::error`].
    pub errors: Vec<Option<f64>>,
}

impl Side {
    /// Puts runs together. `names` say which is which in errors.
    ///
    /// # Errors
    /// If a run is invalid, partial or a smoke run, or not of the same thing in the same place as the first.
    pub fn of(summaries: &[(String, Summary)]) -> Result<Self> {
        let [(first_name, first), ..] = summaries else { return Err(Error::usage("no run to compare")) };
        let (workload, environment) = (Asked::of(&first.about), Environment::of(first));
        let mut side = Self {
            scenario: first.about.scenario.to_string(),
            workload,
            environment,
            runs: Vec::new(),
            measures: BTreeMap::new(),
        };
        for (name, summary) in summaries {
            usable(name, summary)?;
            // The first is no run of another place than its own, even where it does not say which.
            let differences = if side.runs.is_empty() { Vec::new() } else { side.differences(summary) };
            if !differences.is_empty() {
                return Err(Error::invalid(format!(
                    "{name} is no run of what {first_name} is: {}",
                    differences.join("; ")
                ))
                .mend("put runs together only if they ask the same of the same target on the same machine"));
            }
            let readings = measure::read(summary).map_err(|error| Error::usage(format!("{name}: {}", error.what())))?;
            let before = side.runs.len();
            for (measure, reading) in readings {
                let series = side.measures.entry(measure).or_insert_with(|| Series {
                    kind: reading.kind,
                    better: reading.better,
                    tolerance: 0.0,
                    values: vec![None; before],
                    errors: vec![None; before],
                });
                series.tolerance = series.tolerance.max(reading.tolerance);
                series.values.push(reading.value);
                series.errors.push(reading.error);
            }
            for series in side.measures.values_mut() {
                series.values.resize(before + 1, None);
                series.errors.resize(before + 1, None);
            }
            side.runs.push(Run::of(summary));
        }
        Ok(side)
    }

    /// What makes a run another thing, or another place, than this side's.
    fn differences(&self, summary: &Summary) -> Vec<String> {
        let environment = Environment::of(summary);
        let mut differences = self.workload.differences(&Asked::of(&summary.about));
        differences.extend(self.environment.other_target(&environment));
        differences.extend(self.environment.other_place(&environment));
        differences.extend(self.environment.other_wal(&environment));
        differences.extend(self.environment.other_sql(&environment));
        let version = |one: &Environment| format!("{} {}", one.target_version, one.suite_commit);
        if version(&self.environment) != version(&environment) {
            differences.extend(self.environment.notes(&environment));
        }
        differences
    }
}

impl Run {
    /// Describes a run.
    pub fn of(summary: &Summary) -> Self {
        let (finished_at, run_id) = (summary.finished_at.clone(), summary.run_id.clone());
        Self { finished_at, run_id, verdict: summary.verdict }
    }

    /// Whether both are one run: by their ids, or where one has none by the second in which they ended.
    pub fn is(&self, other: &Self) -> bool {
        match (&self.run_id, &other.run_id) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.finished_at == other.finished_at,
        }
    }
}

impl Series {
    /// The values that there are.
    pub fn known(&self) -> Vec<f64> {
        self.values.iter().flatten().copied().collect()
    }
}

/// A run that measured what it says it measured; whether it kept its thresholds is another question.
fn usable(name: &str, summary: &Summary) -> Result<()> {
    if summary.schema_version != SCHEMA_VERSION {
        return Err(Error::invalid(format!(
            "{name} is of summary schema {}, this is version {SCHEMA_VERSION}",
            summary.schema_version
        ))
        .mend("measure again with this version of the suite"));
    }
    let why = match summary.verdict {
        Verdict::Pass | Verdict::Breached if summary.results.iter().any(|results| results.arrivals.partial) => {
            "it is partial: it was stopped before its end".to_owned()
        }
        Verdict::Pass | Verdict::Breached if summary.ended_early.is_some() => {
            format!("it was ended early, {}", summary.ended_early.as_deref().unwrap_or_default())
        }
        // A clear breach needs no valid run.
        Verdict::Breached if !summary.invalid.is_empty() => {
            format!("it breached a threshold, and is invalid otherwise: {}", summary.invalid.join("; "))
        }
        Verdict::Pass | Verdict::Breached => return Ok(()),
        Verdict::Smoke => "it is a smoke run, which measures nothing".to_owned(),
        Verdict::Invalid => format!("it is invalid: {}", summary.invalid.join("; ")),
    };
    Err(Error::invalid(format!("{name} cannot be compared: {why}"))
        .mend("give a run that passed or breached a threshold"))
}
