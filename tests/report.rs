//! The summary's text is part of the front door: golden tests.

use std::time::Duration;

use certctl_bench::clock::Moment;
use certctl_bench::load::desk::Affinity;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::schedule::Pattern;
use certctl_bench::measure::generator::GeneratorUse;
use certctl_bench::measure::machine::Machine;
use certctl_bench::measure::threshold::Threshold;
use certctl_bench::measure::validity::{Work, judge, unjudged};
use certctl_bench::measure::{Measurement, Outcome, Quantile, Recorder, Sample};
use certctl_bench::report::plan::PlanFacts;
use certctl_bench::report::summary::{About, Part, Results, Summary, TargetFacts};
use certctl_bench::report::{Verdict, text};
use certctl_bench::scenario::agent_storm::{AgentStorm, Fleet};
use certctl_bench::wire::handshake::{Kind, Record};
use certctl_bench::wire::{FaultKind, Handshake, Phases};

const WINDOW: Duration = Duration::from_secs(10);
const MAX_LAG: Duration = Duration::from_millis(10);

fn plan() -> Plan {
    Plan {
        model: Model::Open { pattern: Pattern::Constant(Rate::per_second(200)), clients: 500, affinity: Affinity::Own },
        steps: 1,
        starts_after: Duration::ZERO,
        rng_seed: 1,
        warm_up: Duration::from_secs(5),
        window: WINDOW,
        connections: 500,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout: Duration::from_secs(10),
        max_lag: MAX_LAG,
    }
}

fn about() -> About {
    About {
        scenario: "agent_storm".into(),
        title: "500 agents heartbeat in turn".to_owned(),
        target: TargetFacts {
            kind: "reference".into(),
            base_url: "https://localhost:8443".to_owned(),
            version: "0.1.0".to_owned(),
            behaviour: "as-built".to_owned(),
            store: "in-memory".to_owned(),
            trust: "certificate verified against the given CA".to_owned(),
            settings: serde_json::Map::new(),
        },
        machine: Machine {
            cpu_model: "Some CPU".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1.0".to_owned(),
            virtualisation: "none".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            commit: "abc".to_owned(),
        },
        workloads: vec![PlanFacts::of(&AgentStorm::new(Fleet::Contract, 500, "h", "t"), &plan())],
    }
}

/// 2,000 arrivals of 1 to 2 ms each; `outcome` says what came of each.
fn measurement(outcome: impl Fn(u64) -> Outcome) -> Measurement {
    let handshake = Handshake {
        kind: Kind::Full,
        version: "TLS1.3",
        suite: "TLS13_AES_128_GCM_SHA256",
        group: "X25519",
        key: "ecdsa-p256",
        chain_length: 1,
        alpn: "http/1.1",
    };
    let record = Record { handshake, as_declared: true, read_bytes: 1_100, written_bytes: 350, certificate: 1 };
    let mut recorder = Recorder::new(WINDOW, MAX_LAG, &["heartbeat"]);
    for index in 0..500 {
        let phases =
            Phases { dial_ns: 50_000, hello_ns: 300_000, finish_ns: 100_000 + index * 100, ..Phases::default() };
        recorder.opened(&record, &phases);
    }
    recorder.begin(Moment::from_ns(1_000));
    for index in 0..2_000 {
        let intended = Moment::from_ns(1_000 + index * 5_000_000);
        let actual = intended + Duration::from_micros(50);
        let phases =
            Phases { send_ns: 20_000, first_byte_ns: 1_000_000 + index * 500, receive_ns: 5_000, ..Phases::default() };
        let end = actual + Duration::from_nanos(phases.total_ns());
        recorder.scheduled(0, intended);
        let outcome = outcome(index);
        if outcome != Outcome::Ok {
            recorder.example(outcome, || "what the peer said".to_owned());
        }
        recorder.record(&Sample { step: 0, intended, waited: false, actual, end, phases, outcome, handshake: None });
    }
    recorder.finish(GeneratorUse { connections: 500, scheduling: "SCHED_OTHER", ..GeneratorUse::default() })
}

/// The text of a run of `measurement` that found `found` of 2,000 rows.
fn told(measurement: Measurement, found: u64) -> String {
    let work = vec![Work { name: "rows", claimed: 2_000, found, source: "SQL" }];
    let thresholds = [Threshold::Response(Quantile::P95, Duration::from_millis(500)), Threshold::Errors(0.001)];
    let checked = thresholds.map(|threshold| threshold.check(&measurement));
    let mut invalid = judge(&measurement, &work, plan().punctuality());
    invalid.extend(unjudged(&checked));
    let verdict = Verdict::of(&invalid, &checked);
    let part = Part { measurement, work, observations: Vec::new(), thresholds: Vec::new() };
    let results = Results { parts: &[part], checked: &checked, invalid: &invalid, verdict, evidence: Vec::new() };
    let mut summary = Summary::new(about(), results);
    // The process's own memory is no golden figure.
    summary.generator.peak_rss_bytes = 64 << 20;
    // Cells are padded to the width of their column; the eye does not see it.
    let text = text::heading(&summary.about) + &text::results(&summary);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn a_run_that_passes() {
    insta::assert_snapshot!(told(measurement(|_| Outcome::Ok), 2_000));
}

#[test]
fn a_run_with_errors_breaches() {
    let outcome = |index: u64| match index {
        0..10 => Outcome::Failed(500),
        10..13 => Outcome::Broken(FaultKind::Closed),
        _ => Outcome::Ok,
    };
    insta::assert_snapshot!(told(measurement(outcome), 2_000));
}

#[test]
fn a_run_whose_work_is_missing_is_invalid() {
    insta::assert_snapshot!(told(measurement(|_| Outcome::Ok), 1_999));
}
