//! The summary of a run as data: `summary.json`. docs/summary.schema.json is its schema.

use serde::Serialize;
use serde_json::{Map, Value};

use super::facts::{
    Arrivals, GeneratorFacts, HandshakeFacts, Latency, OutcomeCount, SecondFacts, ThresholdFacts, WorkCount, outcomes,
    timeline,
};
use super::verdict::Verdict;
use crate::load::desk::Affinity;
use crate::load::open::Plan;
use crate::measure::Measurement;
use crate::measure::machine::Machine;
use crate::measure::threshold::Checked;
use crate::measure::validity::{Invalid, Work};
use crate::scenario::Scenario;
use crate::target::Target;

/// Raised whenever a reader of the last version could misread this one.
pub const SCHEMA_VERSION: u32 = 1;

/// One run of one scenario.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The suite's version.
    pub suite_version: &'static str,
    /// When the summary was made, RFC 3339, UTC.
    pub finished_at: String,
    /// What was run.
    #[serde(flatten)]
    pub about: About,
    /// How many arrivals came to what.
    pub arrivals: Arrivals,
    /// What came of the arrivals that were sent.
    pub outcomes: Vec<OutcomeCount>,
    /// The share of scheduled arrivals without the right answer, 0 to 1.
    pub error_share: Option<f64>,
    /// Effects counted where they must show.
    pub work: Vec<WorkCount>,
    /// Latencies.
    pub latency: Latency,
    /// Connections opened before the first arrival.
    pub opening: HandshakeFacts,
    /// Connections opened within the window.
    pub reopening: HandshakeFacts,
    /// What the generator used.
    pub generator: GeneratorFacts,
    /// Each threshold beside what was measured.
    pub thresholds: Vec<ThresholdFacts>,
    /// The measured window second by second.
    pub timeline: Vec<SecondFacts>,
    /// What the run comes to.
    pub verdict: Verdict,
    /// Why it is invalid, if it is.
    pub invalid: Vec<String>,
    /// The exit code that says so.
    pub exit_code: u8,
}

/// What is run, known before it runs.
#[derive(Debug, Serialize)]
pub struct About {
    /// The scenario's name.
    pub scenario: &'static str,
    /// What it asks, for people.
    pub title: String,
    /// The system under test.
    pub target: TargetFacts,
    /// The machine that the generator runs on.
    pub machine: Machine,
    /// What is asked of the target.
    pub workload: Workload,
}

/// The system under test.
#[derive(Debug, Serialize)]
pub struct TargetFacts {
    /// `certctl` or `reference`: figures of the one are never the other's.
    pub kind: &'static str,
    /// Its base URL.
    pub base_url: String,
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

/// What was asked of the target.
#[derive(Debug, Serialize)]
pub struct Workload {
    /// `open`: arrivals do not wait for the target.
    pub model: &'static str,
    /// `constant` or `poisson`.
    pub arrivals: String,
    /// Arrivals per second.
    pub rate_per_s: f64,
    /// How many clients take turns.
    pub clients: u64,
    /// How many connections there are.
    pub connections: usize,
    /// `own`: a connection per client; `any`: pooled.
    pub affinity: &'static str,
    /// Seconds before the measured window.
    pub warm_up_s: f64,
    /// Planned seconds of the measured window.
    pub window_s: f64,
    /// How long a request may take, in seconds.
    pub timeout_s: f64,
    /// Arrivals that start later than this count as late, in milliseconds.
    pub max_lag_ms: f64,
    /// Connections opened per second before the first arrival.
    pub connect_rate_per_s: f64,
    /// Makes a random schedule repeatable.
    pub rng_seed: u64,
}

/// What a run came to.
pub struct Results<'a> {
    /// What was measured.
    pub measurement: &'a Measurement,
    /// Effects counted.
    pub work: &'a [Work],
    /// Thresholds beside what was measured.
    pub checked: &'a [Checked],
    /// Why the run is invalid, if it is.
    pub invalid: &'a [Invalid],
    /// What it comes to.
    pub verdict: Verdict,
}

impl About {
    /// Puts together what `scenario` will ask of `target` under `plan`, with `clients` taking turns.
    pub fn new<S: Scenario>(scenario: &S, target: &Target, plan: &Plan, clients: u64) -> Self {
        Self {
            scenario: scenario.id(),
            title: scenario.title(),
            target: TargetFacts::of(target),
            machine: Machine::this(),
            workload: Workload::of(plan, clients),
        }
    }
}

impl Summary {
    /// Sums a run up.
    pub fn new(about: About, results: &Results<'_>) -> Self {
        let measurement = results.measurement;
        Self {
            schema_version: SCHEMA_VERSION,
            suite_version: env!("CARGO_PKG_VERSION"),
            finished_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            about,
            arrivals: Arrivals::of(measurement),
            outcomes: outcomes(measurement),
            error_share: measurement.error_share(),
            work: results.work.iter().map(WorkCount::of).collect(),
            latency: Latency::of(measurement),
            opening: HandshakeFacts::of(&measurement.opening),
            reopening: HandshakeFacts::of(&measurement.reopening),
            generator: GeneratorFacts::of(&measurement.generator),
            thresholds: results.checked.iter().map(ThresholdFacts::of).collect(),
            timeline: timeline(&measurement.timeline),
            verdict: results.verdict,
            invalid: results.invalid.iter().map(ToString::to_string).collect(),
            exit_code: results.verdict.exit_code(),
        }
    }
}

impl TargetFacts {
    fn of(target: &Target) -> Self {
        let system = &target.system;
        Self {
            kind: system.kind,
            base_url: target.base.to_string(),
            version: system.version.clone(),
            behaviour: system.behaviour.clone(),
            store: system.store.clone(),
            trust: target.trust.to_string(),
            settings: system.settings.clone(),
        }
    }
}

impl Workload {
    /// Describes `plan`, with `clients` taking turns.
    pub fn of(plan: &Plan, clients: u64) -> Self {
        Self {
            model: "open",
            arrivals: plan.arrivals.to_string(),
            rate_per_s: plan.rate.per_second_f64(),
            clients,
            connections: plan.connections,
            affinity: match plan.affinity {
                Affinity::Own => "own",
                Affinity::Any => "any",
            },
            warm_up_s: plan.warm_up.as_secs_f64(),
            window_s: plan.window.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            max_lag_ms: plan.max_lag.as_secs_f64() * 1e3,
            connect_rate_per_s: plan.connect_rate.per_second_f64(),
            rng_seed: plan.rng_seed,
        }
    }
}
