//! The summary of a run as data: `summary.json`. docs/summary.schema.json is its schema.

pub mod consistency;
pub mod facts;
pub mod plan;
pub mod shards;
pub mod verdict;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::evidence::Evidence;
use crate::load::cut::Ended;
use crate::measure::Measurement;
use crate::measure::breach::Breach;
use crate::measure::machine::Machine;
use crate::measure::machine_use::MachineUse;
use crate::measure::observation::Observation;
use crate::measure::threshold::{Checked, Threshold};
use crate::measure::validity::{Invalid, Work};
use crate::run::BoundWorkload;
use crate::scenario::connector_kind::ConnectorKind;
use crate::system::{SystemDescription, SystemKind, hex};
use facts::{
    ArrivalCounts, ConnectorFacts, DistributionFacts, GeneratorFacts, HandshakeFacts, Latency, ObservationFacts,
    OutcomeCount, SecondFacts, SegmentFacts, StepFacts, ThresholdFacts, TimerFacts, WorkCount, example_of, outcomes,
    seconds, segments, steps,
};
use plan::PlanFacts;
use shards::ShardFacts;
pub use verdict::Verdict;

/// The schema's version: raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 4;

/// One run of one bench target.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// The version of the schema that it follows.
    pub schema_version: u32,
    /// The suite's version.
    pub suite_version: Cow<'static, str>,
    /// The moment at which the summary was made, RFC 3339, UTC.
    pub finished_at: String,
    /// The id of this run and no other, 32 random hexadecimal digits; absent in older summaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// The description of the run.
    #[serde(flatten)]
    pub about: About,
    /// The shards, of a run that several processes played; its machine is then that of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<ShardFacts>,
    /// The workloads, in the order in which they were planned.
    pub workloads: Vec<WorkloadSummary>,
    /// The share of scheduled arrivals of all workloads without the right answer, 0 to 1.
    pub error_share: Option<f64>,
    /// Resources that the generator used.
    pub generator: GeneratorFacts,
    /// The system's evidence, once per group of workloads that ran side by side. Empty where no database was given.
    pub evidence: Vec<Evidence>,
    /// The use of the machine, once per group of workloads that ran side by side.
    pub machine_use: Vec<MachineUse>,
    /// Each threshold beside its measured value.
    pub thresholds: Vec<ThresholdFacts>,
    /// Of `connector_tier`: the figures by daemon, with the old harness's names; null for a daemon that was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connector_tier: Option<BTreeMap<String, Option<ConnectorFacts>>>,
    /// The verdict of the run.
    pub verdict: Verdict,
    /// The system's breaches of rules that are not thresholds.
    pub breaches: Vec<String>,
    /// The reason for which the run ended itself before its window did; absent if it did not.
    pub ended_early: Option<String>,
    /// The reasons for which the run is invalid, unless a breach is clear all the same.
    pub invalid: Vec<String>,
    /// True where the run is invalid for reasons of the generator and its machine alone: another run in its place hides
    /// nothing that the system did. Absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
    /// The exit code of the run.
    pub exit_code: u8,
}

/// The description of a run, known before it starts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct About {
    /// The bench target's name.
    pub scenario: Cow<'static, str>,
    /// Its requests, for people.
    pub title: String,
    /// The system under test.
    pub system: SystemDescription,
    /// The machine that the generator runs on.
    pub machine: Machine,
}

/// A workload: what was planned, and what came of it.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadSummary {
    /// The load that was planned.
    pub plan: PlanFacts,
    /// The results; null where the run ended before the workload began.
    pub results: Option<WorkloadResults>,
}

/// The results of one workload.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkloadResults {
    /// The counts of its arrivals.
    pub arrivals: ArrivalCounts,
    /// The outcomes of the arrivals that were sent.
    pub outcomes: Vec<OutcomeCount>,
    /// The share of scheduled arrivals without the right answer, 0 to 1.
    pub error_share: Option<f64>,
    /// Side effects, as claimed and as counted.
    pub work: Vec<WorkCount>,
    /// Observations of the answers that are neither latencies nor errors.
    pub observations: Vec<ObservationFacts>,
    /// Latencies of all steps together.
    pub latency: Latency,
    /// The lag of the generator's own timer.
    pub timer: TimerFacts,
    /// The steps, where there is more than one.
    pub steps: Vec<StepFacts>,
    /// The segments of the window, in order and without gaps, where the rate varies: each step of a profile; before, in
    /// and after a spike; between the points of a file; a fifth of a ramp.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentFacts>,
    /// Connections opened before the first arrival.
    pub opening: HandshakeFacts,
    /// Connections opened within the window.
    pub reopening: HandshakeFacts,
    /// The warm-up second by second, which no other figure counts; the last second ends where the window begins.
    pub warm_up_timeline: Vec<SecondFacts>,
    /// The measured window second by second.
    pub timeline: Vec<SecondFacts>,
}

/// The parts of which [`WorkloadResults`] is made.
#[derive(Clone)]
pub struct WorkloadPart {
    /// Its measurement.
    pub measurement: Measurement,
    /// Its side effects, as claimed and as counted.
    pub work: Vec<Work>,
    /// Observations of the answers that are neither latencies nor errors.
    pub observations: Vec<Observation>,
}

/// The results of a run.
pub struct Results<'a> {
    /// Its workloads, without those that the run did not come to.
    pub parts: &'a [WorkloadPart],
    /// Thresholds beside their measured values.
    pub checked: &'a [Checked],
    /// Breaches of rules that are not thresholds.
    pub breaches: &'a [Breach],
    /// The reason for which the run ended itself early, if it did.
    pub ended: Option<Ended>,
    /// The reasons for which the run is invalid, if it is.
    pub invalid: &'a [Invalid],
    /// Its verdict.
    pub verdict: Verdict,
    /// The system's evidence.
    pub evidence: Vec<Evidence>,
    /// The use of the machine.
    pub machine_use: Vec<MachineUse>,
    /// The shards, if several processes played the run.
    pub shards: Option<ShardFacts>,
}

impl About {
    /// Describes the run of the bench target `name` that is about to start.
    pub fn new<'w>(
        name: &'static str,
        about: &str,
        system: SystemDescription,
        workloads: impl Iterator<Item = &'w BoundWorkload>,
    ) -> Self {
        let workloads: Vec<_> = workloads.collect();
        let title = match &workloads[..] {
            [only] => only.scenario.title(),
            _ => about.trim_end_matches('.').to_owned(),
        };
        Self { scenario: name.into(), title, system, machine: Machine::this() }
    }
}

impl Summary {
    /// Summarises a run of the workloads `plans`, in their order.
    pub fn new(about: About, plans: Vec<PlanFacts>, results: Results<'_>) -> Self {
        let measurements = || results.parts.iter().map(|part| &part.measurement);
        let generator = measurements().next().map(|measurement| measurement.generator.clone()).unwrap_or_default();
        let connector_tier =
            (about.system.kind == SystemKind::Connectors).then(|| connector_tier(&plans, results.parts));
        let mut parts = results.parts.iter().map(WorkloadResults::of);
        let workloads = plans.into_iter().map(|plan| WorkloadSummary { plan, results: parts.next() }).collect();
        Self {
            schema_version: SCHEMA_VERSION,
            suite_version: env!("CARGO_PKG_VERSION").into(),
            finished_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            run_id: results.shards.as_ref().map(|shards| shards.run_id.clone()).or_else(new_run_id),
            about,
            shards: results.shards,
            workloads,
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
            repeatable: results.verdict == Verdict::Invalid && results.invalid.iter().all(Invalid::is_ours),
            exit_code: results.verdict.exit_code(),
        }
    }

    /// Returns it as the text of `summary.json`.
    ///
    /// # Errors
    /// If a figure cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self).context(|| "writing the summary as JSON".to_owned())?;
        Ok(json + "\n")
    }

    /// Returns the plans of its workloads.
    pub fn plans(&self) -> impl Iterator<Item = &PlanFacts> {
        self.workloads.iter().map(|workload| &workload.plan)
    }

    /// Returns the workloads that were run, each with its plan.
    pub fn measured(&self) -> impl Iterator<Item = (&PlanFacts, &WorkloadResults)> {
        self.workloads.iter().filter_map(|workload| Some((&workload.plan, workload.results.as_ref()?)))
    }

    /// Returns the workload `name`, if it was run.
    pub fn measured_named(&self, name: &str) -> Option<(&PlanFacts, &WorkloadResults)> {
        self.measured().find(|(plan, _)| plan.name == name)
    }

    /// Returns the reasons for which its figures are doubtful.
    pub fn doubtful(&self) -> impl Iterator<Item = &str> {
        self.machine_use.iter().filter_map(|used| used.doubtful.as_deref())
    }
}

/// Returns the id of a new run: 128 random bits, in hexadecimal digits; `None` from a kernel without a source of them,
/// which no supported system has.
pub fn new_run_id() -> Option<String> {
    let mut bytes = [0_u8; 16];
    let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (count == bytes.len()).then(|| hex(&bytes))
}

/// Returns the daemons' figures, by the names of the old harness.
fn connector_tier(plans: &[PlanFacts], parts: &[WorkloadPart]) -> BTreeMap<String, Option<ConnectorFacts>> {
    let of = |kind: ConnectorKind| {
        let name = format!("{kind}_handshake");
        let mut named = plans.iter().zip(parts).filter(|(plan, _)| plan.name == name);
        named.next().map(|(_, part)| ConnectorFacts::of(&part.measurement))
    };
    ConnectorKind::ALL.into_iter().map(|kind| (kind.label().to_owned(), of(kind))).collect()
}

impl WorkloadResults {
    /// Reports whether arrivals began journeys: these come to more than one step each, where other arrivals are one
    /// each.
    pub fn began_journeys(&self) -> bool {
        self.steps.iter().fold(0, |sum: u64, step| sum.saturating_add(step.scheduled)) > self.arrivals.scheduled
    }

    /// Returns its distributions, each under the name that all other names of measures are made of.
    pub fn distributions(&self) -> impl Iterator<Item = (&'static str, &DistributionFacts)> {
        let (latency, opening, reopening) = (&self.latency, &self.opening, &self.reopening);
        let times = [
            ("response", &latency.response),
            ("service", &latency.service),
            ("own_part", &latency.own_part),
            ("certain", &latency.certain),
            ("schedule_lag", &latency.schedule_lag),
            ("timer_lag", &self.timer.lag),
        ];
        let rest = [
            ("failed_response", &latency.failed_response),
            ("opening_dial", &opening.dial),
            ("opening_tls", &opening.tls),
            ("reopening_dial", &reopening.dial),
            ("reopening_tls", &reopening.tls),
        ];
        times.into_iter().chain(latency.phases()).chain(rest)
    }

    fn of(part: &WorkloadPart) -> Self {
        let measurement = &part.measurement;
        Self {
            arrivals: ArrivalCounts::of(measurement),
            outcomes: outcomes(&measurement.outcomes, |outcome| example_of(measurement, outcome)),
            error_share: measurement.error_share(),
            work: part.work.iter().map(WorkCount::of).collect(),
            observations: part.observations.iter().map(ObservationFacts::of).collect(),
            latency: Latency::of(measurement),
            timer: TimerFacts::of(measurement),
            steps: steps(measurement),
            segments: segments(measurement),
            opening: HandshakeFacts::of(&measurement.opening),
            reopening: HandshakeFacts::of(&measurement.reopening),
            warm_up_timeline: seconds(measurement.timeline.warm_up()),
            timeline: seconds(measurement.timeline.seconds().iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for the committed schema to be written anew.
    const UPDATE: &str = "CERTCTL_BENCH_UPDATE_SCHEMA";

    #[test]
    fn the_committed_schema_is_that_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/summary.schema.json");
        let schema = schemars::schema_for!(Summary);
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == generated, "docs/summary.schema.json is stale: run this test again with {UPDATE}=1");
    }
}
