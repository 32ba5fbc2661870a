//! A run that was made up, for reports.

use std::time::Duration;

use certctl_bench::clock::Moment;
use certctl_bench::load::dispatcher::Affinity;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::schedule::Pattern;
use certctl_bench::measure::generator::ThreadUse;
use certctl_bench::measure::machine::Machine;
use certctl_bench::measure::threshold::Threshold;
use certctl_bench::measure::validity::{Work, judge, unjudged};
use certctl_bench::measure::{Measurement, Outcome, Quantile, Recorder, Sample};
use certctl_bench::report::runs::{LoadedRun, ScenarioRuns};
use certctl_bench::scenario::agent_storm::{AgentStorm, Fleet};
use certctl_bench::summary::plan::PlanFacts;
use certctl_bench::summary::{About, Results, Summary, Verdict, WorkloadPart};
use certctl_bench::system::{Behaviour, Store, SystemDescription, SystemKind};
use certctl_bench::wire::Phases;

use super::runs::record;

const WINDOW: Duration = Duration::from_secs(10);
const MAX_LAG: Duration = Duration::from_millis(10);

pub fn plan() -> Plan {
    Plan {
        model: Model::Open { pattern: Pattern::Constant(Rate::per_second(200)), clients: 500, affinity: Affinity::Own },
        steps: 1,
        starts_after: Duration::ZERO,
        goes_on: Duration::ZERO,
        rng_seed: 1,
        part: None,
        warm_up: Duration::from_secs(5),
        window: WINDOW,
        connections: 500,
        further: 0,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout: Duration::from_secs(10),
        max_lag: MAX_LAG,
    }
}

pub fn planned() -> PlanFacts {
    PlanFacts::of("agent_storm", &AgentStorm::new(Fleet::Contract, 500, "h", "t"), &plan())
}

pub fn about() -> About {
    About {
        scenario: "agent_storm".into(),
        title: "500 agents heartbeat in turn".to_owned(),
        system: SystemDescription {
            address: None,
            kind: SystemKind::Reference,
            base_url: "https://localhost:8443".to_owned(),
            version: "0.1.0".to_owned(),
            binary_sha256: None,
            migrations_sha256: None,
            behaviour: Behaviour::AsBuilt,
            store: Store::InMemory,
            trust: "certificate verified against the given CA".to_owned(),
            settings: serde_json::Map::new(),
        },
        machine: Machine {
            cpu_model: "Some CPU".to_owned(),
            cpu_part: None,
            microcode: None,
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1.0".to_owned(),
            virtualisation: "none".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            cpu_quota: None,
            memory_is_limited: false,
            commit: "abc".to_owned(),
        },
    }
}

/// Returns 2,000 arrivals of 1 to 2 ms each; `outcome` gives the outcome of each.
pub fn measurement(outcome: impl Fn(u64) -> Outcome) -> Measurement {
    measure(0, |index| 1_000_000 + index * 500, outcome)
}

/// Returns the same after a warm-up of 1,000, `times` as slow, with a stall of a second and a half in the midst of it.
pub fn stalled(times: u64) -> Measurement {
    let first_byte_ns = |index: u64| match index {
        1_200..1_500 => (1_500 - index) * 5_000_000,
        _ => (1_000_000 + (index * 7_919 % 1_000) * 1_000) * times,
    };
    measure(1_000, first_byte_ns, |_| Outcome::Ok)
}

/// Returns 200 arrivals a second, of which the first `warm_up` are not measured, and 2,000 are.
fn measure(warm_up: u64, first_byte_ns: impl Fn(u64) -> u64, outcome: impl Fn(u64) -> Outcome) -> Measurement {
    let record = record();
    let mut recorder = Recorder::new(WINDOW, MAX_LAG, &["heartbeat"]).with_warm_up(plan().warm_up);
    for index in 0..500 {
        let phases =
            Phases { dial_ns: 50_000, hello_ns: 300_000, finish_ns: 100_000 + index * 100, ..Phases::default() };
        recorder.opened(&record, &phases);
    }
    recorder.begin(Moment::from_ns(1_000 + warm_up * 5_000_000));
    for index in 0..warm_up + 2_000 {
        let intended = Moment::from_ns(1_000 + index * 5_000_000);
        let actual = intended + Duration::from_micros(50);
        let first_byte_ns = first_byte_ns(index.saturating_sub(warm_up));
        let phases = Phases { send_ns: 20_000, first_byte_ns, receive_ns: 5_000, ..Phases::default() };
        let end = actual + Duration::from_nanos(phases.total_ns());
        recorder.scheduled(0, intended);
        let outcome = outcome(index);
        if outcome != Outcome::Ok {
            recorder.example(outcome, || "what the peer said".to_owned());
        }
        recorder.record(&Sample {
            step: 0,
            connection: 0,
            intended,
            handed: intended,
            waited: false,
            actual,
            end,
            own_ns: 25_000,
            phases,
            outcome,
            handshake: None,
            unconnected: false,
            answer_bytes: 0,
        });
    }
    recorder.finish(ThreadUse { connections: 500, scheduling: "SCHED_OTHER", ..ThreadUse::default() }.into())
}

/// Returns the summary of a run of `measurement` that found `found` of 2,000 rows.
pub fn summary(measurement: Measurement, found: u64) -> Summary {
    let work = vec![Work { name: "rows", claimed: 2_000, found, source: "SQL" }];
    let thresholds = [Threshold::Response(Quantile::P95, Duration::from_millis(500)), Threshold::Errors(0.001)];
    let checked = thresholds.map(|threshold| threshold.check(&measurement));
    let mut invalid = judge(&measurement, &work, plan().punctuality(), None);
    invalid.extend(unjudged(&checked, "lengthen --duration"));
    let verdict = Verdict::of(&[], &invalid, &checked);
    let part = WorkloadPart { measurement, work, observations: Vec::new() };
    let results = Results {
        shards: None,
        parts: &[part],
        checked: &checked,
        breaches: &[],
        ended: None,
        invalid: &invalid,
        verdict,
        evidence: Vec::new(),
        machine_use: Vec::new(),
    };
    let mut summary = Summary::new(about(), vec![planned()], results);
    // The process's own memory and the time of day have no place in a golden file.
    summary.generator.peak_rss_bytes = 64 << 20;
    summary.finished_at = "2026-01-01T00:00:00Z".to_owned();
    summary.run_id = Some("0123456789abcdef0123456789abcdef".to_owned());
    summary
}

/// Returns runs of one scenario, each under its label.
pub fn group<const N: usize>(runs: [(&str, Summary); N]) -> ScenarioRuns {
    let runs =
        runs.map(|(label, summary)| LoadedRun { label: label.to_owned(), file: "summary.json".to_owned(), summary });
    ScenarioRuns { scenario: "agent_storm".to_owned(), runs: runs.into() }
}
