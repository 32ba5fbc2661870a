//! The committed file, `baselines/ENVIRONMENT/SCENARIO.json`: sorted keys, and a line for each measure, so that its
//! difference in a pull request can be read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::environment::Environment;
use super::measure::{Better, MeasureKind};
use super::side::{RunIdentity, Series, Side};
use super::statistics::spread;
use super::workload::WorkloadIdentity;
use crate::error::{Context, Error, Result};
use crate::summary::consistency::LARGEST;

/// The schema's version: raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 4;
/// Significant digits of a value, of a count, and of a tolerance.
const VALUE_DIGITS: i32 = 5;
const COUNT_DIGITS: i32 = 9;
const TOLERANCE_DIGITS: i32 = 3;

/// A baseline as it is committed. Reading one and writing it again changes no byte.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The environment in which the figures were measured.
    pub environment: Environment,
    /// The measures, each with its value in each run.
    pub measures: BTreeMap<String, MeasureLine>,
    /// The runs.
    pub runs: Vec<RunIdentity>,
    /// The scenario.
    pub scenario: String,
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The workload.
    pub workload: WorkloadIdentity,
}

/// The line of a measure.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureLine {
    /// The direction that is better.
    pub better: Better,
    /// Its kind, which decides how it is compared.
    pub kind: MeasureKind,
    /// [`super::measure::MeasureValue::tolerance`]; absent from kinds that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The value of each run; null where a run has too few samples.
    pub values: Vec<Option<f64>>,
}

impl Baseline {
    /// Makes a baseline of runs.
    pub fn of(side: Side) -> Self {
        let measures = side.measures.into_iter().map(|(name, series)| (name, MeasureLine::of(series))).collect();
        let Side { scenario, workload, environment, runs, .. } = side;
        Self { environment, measures, runs, scenario, schema_version: SCHEMA_VERSION, workload }
    }

    /// Reads a file's text; `name` identifies it in errors.
    ///
    /// # Errors
    /// If it is of another schema, is no baseline, or was changed by hand.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| wrong(name, &error.to_string()))?;
        match value["schema_version"].as_u64() {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            Some(version) => {
                return Err(Error::invalid(format!(
                    "{name} has baseline schema {version}; this version of the suite reads {SCHEMA_VERSION}"
                ))
                .with_hint("make it again: `certctl-bench bless` of runs of this version of the suite"));
            }
            None => return Err(wrong(name, "it has no schema_version")),
        }
        let baseline: Self = serde_json::from_value(value).map_err(|error| wrong(name, &error.to_string()))?;
        baseline.check().map_err(|why| wrong(name, &why))?;
        Ok(baseline)
    }

    fn check(&self) -> Result<(), String> {
        if !self.workload.is_whole() {
            return Err("its fingerprint does not match its workload".to_owned());
        }
        if self.runs.is_empty() {
            return Err("it has no runs".to_owned());
        }
        for (name, line) in &self.measures {
            let runs = self.runs.len();
            if line.values.len() != runs {
                return Err(format!("{name} does not have one value for each of {runs} runs"));
            }
            let largest = if line.kind == MeasureKind::Share { 1.0 } else { LARGEST };
            let is_sane =
                |value: &f64| (0.0..=largest).contains(value) && (*value > 0.0 || line.kind != MeasureKind::Timed);
            if !line.values.iter().flatten().all(is_sane) {
                return Err(format!("{name} has an impossible value"));
            }
            let is_known = line.tolerance.is_some_and(|tolerance| (0.0..=1.0).contains(&tolerance));
            if line.tolerance.is_some() != has_a_tolerance(line.kind) || line.tolerance.is_some() != is_known {
                return Err(format!("{name} has an impossible tolerance"));
            }
        }
        Ok(())
    }

    /// Returns its runs as a side of a comparison.
    pub fn into_side(self) -> Side {
        let measures = self.measures.into_iter().map(|(name, line)| (name, line.into_series())).collect();
        let Self { environment, runs, scenario, workload, .. } = self;
        Side { scenario, workload, environment, runs, measures, doubts: BTreeSet::new() }
    }

    /// Returns the file's text.
    ///
    /// # Errors
    /// If a part cannot be written as JSON, which does not happen with finite numbers.
    pub fn to_text(&self) -> Result<String> {
        let value = serde_json::to_value(self).context(|| "writing a baseline as JSON".to_owned())?;
        Ok(lines(&value, 2, 0) + "\n")
    }
}

impl MeasureLine {
    fn of(series: Series) -> Self {
        let counts = matches!(series.kind, MeasureKind::Exact | MeasureKind::Shown);
        let digits = if counts { COUNT_DIGITS } else { VALUE_DIGITS };
        Self {
            better: series.better,
            kind: series.kind,
            tolerance: has_a_tolerance(series.kind).then(|| round(series.tolerance, TOLERANCE_DIGITS)),
            values: series.values.iter().map(|value| value.map(|value| round(value, digits))).collect(),
        }
    }

    /// Returns the share by which runs differ: the standard deviation of their values' logarithms. `None` where fewer
    /// than two runs have a value above zero.
    pub fn spread(&self) -> Option<f64> {
        spread(&self.values.iter().flatten().copied().filter(|value| *value > 0.0).collect::<Vec<_>>())
    }

    fn into_series(self) -> Series {
        let tolerance = self.tolerance.unwrap_or(0.0);
        Series { kind: self.kind, better: self.better, tolerance, values: self.values, lost: 0 }
    }
}

/// Reports whether measures of this kind have a tolerance.
fn has_a_tolerance(kind: MeasureKind) -> bool {
    matches!(kind, MeasureKind::Exact | MeasureKind::Share)
}

fn wrong(name: &str, why: &str) -> Error {
    Error::usage(format!("{name} is not a baseline of this suite: {why}"))
        .with_hint("make baselines with `certctl-bench bless`, and do not edit them by hand")
}

/// Rounds to this many significant digits.
fn round(value: f64, digits: i32) -> f64 {
    // The formatter rounds better than arithmetic does, and what it writes always parses.
    format!("{value:.*e}", (digits - 1) as usize).parse().unwrap_or(value)
}

/// Renders a value whose entries have lines of their own, for so many levels (one more for what the workload has), at
/// this indentation. Deeper values are on one line, with a space after each colon and comma.
fn lines(value: &Value, levels: usize, indent: usize) -> String {
    let deeper = |key: &str| if key == "workload" { levels } else { levels.saturating_sub(1) };
    let (entries, open, close): (Vec<String>, _, _) = match value {
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, _)| format!("{}: {}", json!(key), lines(value, deeper(key), indent + 2));
            (entries.iter().map(entry).collect(), '{', '}')
        }
        Value::Array(entries) => (entries.iter().map(|value| lines(value, deeper(""), indent + 2)).collect(), '[', ']'),
        plain => return plain.to_string(),
    };
    match levels {
        0 => format!("{open}{}{close}", entries.join(", ")),
        _ => {
            let entries: Vec<String> = entries.iter().map(|entry| format!("{:indent$}  {entry}", "")).collect();
            format!("{open}\n{}\n{:indent$}{close}", entries.join(",\n"), "")
        }
    }
}
