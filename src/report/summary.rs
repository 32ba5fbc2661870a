//! The summary of a run as data: `summary.json`. docs/summary.schema.json is its schema.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::facts::{
    Arrivals, ConnectorFacts, GeneratorFacts, HandshakeFacts, Latency, ObservationFacts, OutcomeCount, SecondFacts,
    StepFacts, ThresholdFacts, TimerFacts, WorkCount, example_of, outcomes, seconds, steps,
};
use super::plan::PlanFacts;
use super::text;
use super::verdict::Verdict;
use crate::error::{Context, Result};
use crate::files;
use crate::load::cut::Ended;
use crate::measure::Measurement;
use crate::measure::breach::Breach;
use crate::measure::machine::Machine;
use crate::measure::machine_use::MachineUse;
use crate::measure::observation::Observation;
use crate::measure::threshold::{Checked, Threshold};
use crate::measure::validity::{Invalid, Work};
use crate::run::Workload;
use crate::target::Target;
use crate::target::connectors::Kind;
use crate::target::evidence::Evidence;

/// Raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 3;

/// One run of one bench target.
#[derive(Debug, Deserialize, Serialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The suite's version.
    pub suite_version: Cow<'static, str>,
    /// When the summary was made, RFC 3339, UTC.
    pub finished_at: String,
    /// Tells this run from every other, as 32 random hexadecimal digits; absent in older summaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// What was run.
    #[serde(flatten)]
    pub about: About,
    /// What was measured of each workload, in the order of `workloads`.
    pub results: Vec<WorkloadResults>,
    /// The share of scheduled arrivals of all workloads without the right answer, 0 to 1.
    pub error_share: Option<f64>,
    /// What the generator used.
    pub generator: GeneratorFacts,
    /// What the server side shows, once per group of workloads that ran side by side. Empty: no database given.
    pub evidence: Vec<Evidence>,
    /// Who used the machine, once per group of workloads that ran side by side.
    #[serde(default)]
    pub machine_use: Vec<MachineUse>,
    /// Each threshold beside what was measured.
    pub thresholds: Vec<ThresholdFacts>,
    /// Of `connector_tier`: the figures by daemon, as the old harness named them; null for one that was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector_tier: Option<BTreeMap<String, Option<ConnectorFacts>>>,
    /// What the run comes to.
    pub verdict: Verdict,
    /// What the system did that is a breach without a threshold on it.
    #[serde(default)]
    pub breaches: Vec<String>,
    /// Why the run ended before its window did, of its own accord; absent if it did not.
    #[serde(default)]
    pub ended_early: Option<String>,
    /// What was wrong with the run. It is invalid for it, unless a breach is clear all the same.
    pub invalid: Vec<String>,
    /// The exit code that says so.
    pub exit_code: u8,
}

/// What is run, known before it runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct About {
    /// The bench target's name.
    pub scenario: Cow<'static, str>,
    /// What it asks, for people.
    pub title: String,
    /// The system under test.
    pub target: TargetFacts,
    /// The machine that the generator runs on.
    pub machine: Machine,
    /// What is asked of the target.
    pub workloads: Vec<PlanFacts>,
}

/// What was measured of one workload.
#[derive(Debug, Deserialize, Serialize)]
pub struct WorkloadResults {
    /// The workload's name.
    pub workload: Cow<'static, str>,
    /// How many arrivals came to what.
    pub arrivals: Arrivals,
    /// What came of the arrivals that were sent.
    pub outcomes: Vec<OutcomeCount>,
    /// The share of scheduled arrivals without the right answer, 0 to 1.
    pub error_share: Option<f64>,
    /// Effects counted where they must show.
    pub work: Vec<WorkCount>,
    /// What else the answers showed.
    pub observations: Vec<ObservationFacts>,
    /// Latencies of all steps together.
    pub latency: Latency,
    /// How late the generator's own timer was.
    #[serde(default)]
    pub timer: TimerFacts,
    /// The steps, where there is more than one.
    pub steps: Vec<StepFacts>,
    /// Connections opened before the first arrival.
    pub opening: HandshakeFacts,
    /// Connections opened within the window.
    pub reopening: HandshakeFacts,
    /// The warm-up second by second, which no other figure counts; the last second ends where the window begins.
    #[serde(default)]
    pub warm_up_timeline: Vec<SecondFacts>,
    /// The measured window second by second.
    pub timeline: Vec<SecondFacts>,
}

/// The system under test.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TargetFacts {
    /// `certctl`, `reference` or `connectors`: figures of the one are never the other's.
    pub kind: Cow<'static, str>,
    /// Its base URL.
    pub base_url: String,
    /// The one address of its host that is loaded; absent where the URL has an address. Connectors have
    /// theirs among the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its version, as it says itself.
    pub version: String,
    /// `as-built` or `as-documented`.
    pub behaviour: String,
    /// What keeps its rows.
    pub store: String,
    /// Whether its certificate was verified.
    pub trust: String,
    /// Settings that its speed depends on, where they are known.
    pub settings: Map<String, Value>,
}

/// What one workload came to.
#[derive(Clone)]
pub struct Part {
    /// What was measured.
    pub measurement: Measurement,
    /// Effects counted.
    pub work: Vec<Work>,
    /// What else the answers showed.
    pub observations: Vec<Observation>,
    /// The bounds on its latencies.
    pub thresholds: Vec<Threshold>,
}

/// What a run came to.
pub struct Results<'a> {
    /// Its workloads.
    pub parts: &'a [Part],
    /// Thresholds beside what was measured.
    pub checked: &'a [Checked],
    /// What is a breach without a threshold on it.
    pub breaches: &'a [Breach],
    /// Why the run ended early of its own accord, if it did.
    pub ended: Option<Ended>,
    /// Why the run is invalid, if it is.
    pub invalid: &'a [Invalid],
    /// What it comes to.
    pub verdict: Verdict,
    /// What the server side shows.
    pub evidence: Vec<Evidence>,
    /// Who used the machine.
    pub machine_use: Vec<MachineUse>,
}

impl About {
    /// Puts together what the bench target `name` will ask of its target.
    pub fn new<'w>(
        name: &'static str,
        about: &str,
        target: TargetFacts,
        workloads: impl Iterator<Item = &'w Workload>,
    ) -> Self {
        let workloads: Vec<_> = workloads.collect();
        let title = match &workloads[..] {
            [only] => only.scenario.title(),
            _ => about.trim_end_matches('.').to_owned(),
        };
        let plans = workloads.iter().map(|workload| PlanFacts::of_workload(workload));
        Self { scenario: name.into(), title, target, machine: Machine::this(), workloads: plans.collect() }
    }
}

impl Summary {
    /// Sums a run up.
    pub fn new(about: About, results: Results<'_>) -> Self {
        let measurements = || results.parts.iter().map(|part| &part.measurement);
        let generator = measurements().next().map(|measurement| measurement.generator).unwrap_or_default();
        let names = about.workloads.iter().map(|plan| plan.name.clone());
        let parts: Vec<_> = names.zip(results.parts).map(|(name, part)| WorkloadResults::of(name, part)).collect();
        let connector_tier = (about.target.kind == "connectors").then(|| connector_tier(&parts));
        Self {
            schema_version: SCHEMA_VERSION,
            suite_version: env!("CARGO_PKG_VERSION").into(),
            finished_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            run_id: run_id(),
            about,
            results: parts,
            error_share: Threshold::Errors(0.0).check_over(measurements()).measured,
            generator: GeneratorFacts::of(&generator),
            evidence: results.evidence,
            machine_use: results.machine_use,
            thresholds: results.checked.iter().map(ThresholdFacts::of).collect(),
            connector_tier,
            verdict: results.verdict,
            breaches: results.breaches.iter().map(ToString::to_string).collect(),
            ended_early: results.ended.map(|ended| ended.to_string()),
            invalid: results.invalid.iter().map(ToString::to_string).collect(),
            exit_code: results.verdict.exit_code(),
        }
    }

    /// The reasons why its figures are doubtful.
    pub fn doubtful(&self) -> impl Iterator<Item = &str> {
        self.machine_use.iter().filter_map(|used| used.doubtful.as_deref())
    }

    /// Writes `summary.json` and `summary.txt` into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context(|| "writing the summary as JSON".to_owned())?;
        let text = text::heading(&self.about) + "\n" + &text::results(self);
        for (name, content) in [("summary.json", json + "\n"), ("summary.txt", text)] {
            files::write(&folder.join(name), &content)?;
        }
        Ok(())
    }
}

/// 128 random bits; `None` from a kernel that has none, which is that of no supported system.
fn run_id() -> Option<String> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the kernel writes the bytes, which outlive the call.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    (count == bytes.len() as isize).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The daemons' figures, by the names of the old harness.
fn connector_tier(results: &[WorkloadResults]) -> BTreeMap<String, Option<ConnectorFacts>> {
    let of = |kind: Kind| {
        let name = format!("{kind}_handshake");
        results.iter().find(|results| results.workload == name).map(ConnectorFacts::of)
    };
    Kind::ALL.into_iter().map(|kind| (kind.label().to_owned(), of(kind))).collect()
}

impl WorkloadResults {
    fn of(workload: Cow<'static, str>, part: &Part) -> Self {
        let measurement = &part.measurement;
        Self {
            workload,
            arrivals: Arrivals::of(measurement),
            outcomes: outcomes(&measurement.outcomes, |outcome| example_of(measurement, outcome)),
            error_share: measurement.error_share(),
            work: part.work.iter().map(WorkCount::of).collect(),
            observations: part.observations.iter().map(ObservationFacts::of).collect(),
            latency: Latency::of(measurement),
            timer: TimerFacts::of(measurement),
            steps: steps(measurement),
            opening: HandshakeFacts::of(&measurement.opening),
            reopening: HandshakeFacts::of(&measurement.reopening),
            warm_up_timeline: seconds(measurement.timeline.warm_up()),
            timeline: seconds(measurement.timeline.seconds().iter()),
        }
    }
}

impl TargetFacts {
    /// Describes a certctl or the reference server.
    pub fn of(target: &Target) -> Self {
        let system = &target.system;
        Self {
            kind: system.kind.into(),
            base_url: target.base.to_string(),
            address: None,
            version: system.version.clone(),
            behaviour: system.behaviour.clone(),
            store: system.store.clone(),
            trust: target.trust.to_string(),
            settings: system.settings.clone(),
        }
    }
}
