//! Runs read back from their summaries, grouped by scenario.

use std::path::PathBuf;

use serde_json::Value;

use super::plot::ink::RUNS;
use super::text;
use crate::baseline::source;
use crate::error::{Error, Result};
use crate::measure::Distribution;
use crate::summary::Summary;
use crate::summary::facts::DistributionFacts;

/// One run.
#[derive(Debug)]
pub struct LoadedRun {
    /// Its name within its group, such as `base`; empty where it is the only one.
    pub label: String,
    /// The file that it was read from.
    pub file: String,
    /// Its summary.
    pub summary: Summary,
}

/// Runs of one scenario, to be drawn over one another: the first is the base.
#[derive(Debug)]
pub struct ScenarioRuns {
    /// The scenario.
    pub scenario: String,
    /// At least one.
    pub runs: Vec<LoadedRun>,
}

/// Reads runs and groups them by scenario, in the order in which they are named.
///
/// # Errors
/// If one cannot be read or is of another schema, or there are more of a scenario than a reader can distinguish.
pub fn load_all(paths: &[PathBuf]) -> Result<Vec<ScenarioRuns>> {
    let mut groups: Vec<ScenarioRuns> = Vec::new();
    for (file, summary) in source::summaries(paths)? {
        let run = LoadedRun { label: String::new(), file, summary };
        match groups.iter_mut().find(|group| group.scenario == run.summary.about.scenario) {
            Some(group) => group.runs.push(run),
            None => groups.push(ScenarioRuns { scenario: run.summary.about.scenario.to_string(), runs: vec![run] }),
        }
    }
    for group in &mut groups {
        let count = group.runs.len();
        if count > RUNS {
            return Err(Error::usage(format!("{count} runs of {}: a report shows at most {RUNS}", group.scenario))
                .with_hint("report on fewer at a time"));
        }
        for (index, run) in group.runs.iter_mut().enumerate().filter(|_| count > 1) {
            run.label = ["base", "head"].get(index).map_or_else(|| format!("run {}", index + 1), ToString::to_string);
        }
    }
    Ok(groups)
}

impl ScenarioRuns {
    /// Returns the names of all workloads, in the order in which they first appear.
    pub fn workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (plan, _) in self.runs.iter().flat_map(|run| run.summary.measured()) {
            if !names.contains(&&*plan.name) {
                names.push(&plan.name);
            }
        }
        names
    }

    /// Describes the differences of the runs besides their figures, which a reader has to know before comparing them by
    /// eye.
    pub fn differences(&self) -> Vec<String> {
        let Some((base, others)) = self.runs.split_first() else { return Vec::new() };
        let facts = |summary: &Summary| {
            let (system, machine) = (&summary.about.system, &summary.about.machine);
            [
                ("system", system.kind.label().to_owned()),
                ("system version", system.version.clone()),
                ("binary", system.binary_sha256.clone().unwrap_or_else(|| "none".to_owned())),
                ("set of migrations", system.migrations_sha256.clone().unwrap_or_else(|| "none".to_owned())),
                ("network", system.settings.get("network").and_then(Value::as_str).unwrap_or("none").to_owned()),
                ("behaviour", system.behaviour.label().to_owned()),
                ("store", system.store.to_string()),
                ("processor", machine.cpu_model.clone()),
                ("kind of machine", machine.virtualisation.clone()),
                ("number of cores", machine.cores.to_string()),
            ]
        };
        let load = |summary: &Summary, name: &str| {
            let plan = summary.plans().find(|plan| plan.name == name);
            plan.map_or_else(|| "none".to_owned(), text::workload)
        };
        let mut differences = Vec::new();
        for run in others {
            let (base, other) = (&base.summary, &run.summary);
            let mut differ = |what: &str, base: &str, other: &str| {
                if base != other {
                    differences.push(format!("{} has another {what}: {other}, not {base}", run.label));
                }
            };
            for ((what, base), (_, other)) in facts(base).iter().zip(&facts(other)) {
                differ(what, base, other);
            }
            if let [Some(mine), Some(theirs)] = [base, other].map(|run| run.about.system.certctl_settings()) {
                let [mine, theirs] = [(mine, theirs), (theirs, mine)].map(|(of, than)| {
                    let differing = of.iter().filter(|(name, value)| than.get(*name) != Some(*value));
                    Some(text::settings(differing)).filter(|line| !line.is_empty())
                });
                let [mine, theirs] = [mine, theirs].map(|line| line.unwrap_or_else(|| "the defaults".to_owned()));
                differ("set of certctl's settings", &mine, &theirs);
            }
            for plan in base.plans() {
                differ(&format!("workload {}", plan.name), &load(base, &plan.name), &load(other, &plan.name));
            }
        }
        differences
    }
}

impl LoadedRun {
    /// Reads one of its histograms; empty where there is none.
    ///
    /// # Errors
    /// If it is damaged (a usage error).
    pub fn distribution(&self, facts: &DistributionFacts) -> Result<Distribution> {
        facts.distribution().map_err(|error| {
            Error::usage(format!("{} is damaged: {}", self.file, error.what()))
                .with_hint("give an unedited summary.json of a run")
        })
    }
}
