//! Baselines from their front door: saved runs in; a file, a table, an exit code out.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{Permissions, read_to_string, set_permissions, write};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::html::{assert_fits, assert_well_formed};
use crate::common::process::limit;
use crate::common::runs::{Made, save};
use certctl_bench::baseline::compare::{self, CompareOptions};
use certctl_bench::baseline::local::{self, Keep};
use certctl_bench::baseline::measure::{Better, MeasureKind};
use certctl_bench::baseline::{Baseline, Comparison, Judgement, Side, bless};
use certctl_bench::error::ErrorKind;
use certctl_bench::evidence::Known;
use certctl_bench::provision::child::RunAs;
use certctl_bench::report::comparison_html;
use certctl_bench::summary::facts::{DistributionFacts, ObservationFacts, StepFacts};
use certctl_bench::summary::{Summary, Verdict, WorkloadResults};
use certctl_bench::system::SystemKind;
use rustix::process::Resource;
use tempfile::TempDir;

/// The factors by which five runs differ, as runs do.
const SLOWNESS: [f64; 5] = [1.0, 1.012, 0.991, 1.004, 0.996];

fn runs() -> Vec<(String, Summary)> {
    (1..).zip(SLOWNESS).map(|(number, slowness)| named(Made { slowness, number, ..Made::default() })).collect()
}

fn named(made: Made) -> (String, Summary) {
    (format!("run {}", made.number), made.summary())
}

/// Returns runs of a system that is so many times slower, numbered after those of the base.
fn head_runs(slowness: f64, calls: u64) -> Vec<(String, Summary)> {
    let made = |(number, own)| Made { slowness: own * slowness, number, calls, ..Made::default() };
    (11..).zip(SLOWNESS).map(made).map(named).collect()
}

fn head(slowness: f64, calls: u64) -> Side {
    Side::of(&head_runs(slowness, calls)).unwrap()
}

fn compared(base: &Side, head: &Side) -> Comparison {
    compare::run(base, head, CompareOptions::default())
}

fn verdict(comparison: &Comparison, name: &str) -> Judgement {
    comparison.measures.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no {name}: {comparison}")).verdict
}

/// Removes the padding of table cells, which a reader does not see.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Asserts that `result` is an error of this kind whose text has these parts.
#[track_caller]
fn assert_refused<T>(result: certctl_bench::Result<T>, kind: ErrorKind, parts: &[&str]) {
    let Err(error) = result else { panic!("not refused") };
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_baseline_file_is_readable_in_a_pull_request() {
    let text = bless::bless(&runs()).unwrap().to_text().unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn a_parsed_baseline_is_written_back_byte_for_byte() {
    let text = bless::bless(&runs()).unwrap().to_text().unwrap();
    let baseline = Baseline::parse("it", &text).unwrap();
    assert_eq!(baseline.to_text().unwrap(), text);
    // It is equal to the runs that it was made of.
    let (mut file, fresh) = (baseline.into_side(), Side::of(&runs()).unwrap());
    for (index, run) in file.runs.iter_mut().enumerate() {
        // As if it had been made of runs of another hour.
        run.finished_at = format!("2026-01-01T01:0{index}:00Z");
    }
    let comparison = compared(&fresh, &file);
    assert_eq!(comparison.exit_code, 0, "{comparison}");
    for measure in &comparison.measures {
        assert_eq!(measure.change.is_some(), measure.name != "agent_storm/opening_tls_p99_us", "{measure:?}");
        assert_ne!(measure.verdict, Judgement::Regressed, "{measure:?}");
        assert!(measure.change.unwrap_or(0.0).abs() < 1e-3, "{measure:?}");
    }
}

#[test]
fn numbers_are_parsed_to_their_last_digit() {
    let text = bless::bless(&runs()).unwrap().to_text().unwrap();
    let (before, after) = text.split_once("\"kind\": \"timed\", \"values\": [").expect("a timed measure");
    let rest = &after[after.find(',').unwrap()..];
    let text = format!("{before}\"kind\": \"timed\", \"values\": [0.1077777777777778{rest}");
    let baseline = Baseline::parse("it", &text).unwrap();
    let mut values = baseline.measures.values().filter_map(|line| line.values.first().copied().flatten());
    assert!(values.any(|value| value == 0.107_777_777_777_777_8), "{text}");
}

#[test]
fn a_comparison_is_rendered_as_text() {
    let base = Side::of(&runs()).unwrap();
    insta::assert_snapshot!(trimmed(&compared(&base, &head(1.25, 6)).to_string()));
}

#[test]
fn the_page_of_a_comparison_begins_with_its_verdict() {
    let base = Side::of(&runs()).unwrap();
    let comparison = compared(&base, &head(1.25, 6));
    let page = comparison_html::page(&comparison);
    assert_well_formed(&page);
    let order = [
        "<div class=\"verdict bad\"><p><strong>regressed</strong>: ",
        "<figcaption>Changes from base to head</figcaption>",
        "<caption>Measures</caption>",
        "<strong class=\"bad\">REGRESSED</strong>",
    ];
    let places = order.map(|part| page.find(part).unwrap_or_else(|| panic!("no {part}: {page}")));
    assert!(places.is_sorted(), "{places:?}");
    // A time has an interval and counts from the threshold on; a count has its own tolerance alone.
    let p50 = comparison.measures.iter().find(|one| one.name == "agent_storm/response_p50_us").unwrap();
    let [change, low, high] = [p50.change, p50.change_low, p50.change_high].map(|one| one.unwrap() * 100.0);
    let described = format!("response_p50_us: regressed {change:+.1}%, between {low:+.1}% and {high:+.1}%; ±5% count.");
    assert!(page.contains(&described), "no {described}");
    assert!(page.contains("sql_calls_per_answer: regressed +20.00%; ±"), "{page}");
    // A share of errors is no ratio.
    assert!(!page.contains("error_share: ") && page.contains("error_share</th>"), "{page}");
    assert_fits(&page, 1);
    assert_fits(&comparison_html::page(&compared(&base, &head(1.001, 5))), 1);
    // Of two sides that differ in their load nothing is judged, and the page says so first.
    let mut other = head_runs(1.0, 5);
    other.iter_mut().for_each(|(_, one)| one.workloads[0].plan.clients = 201);
    let page = comparison_html::page(&compared(&base, &Side::of(&other).unwrap()));
    assert_well_formed(&page);
    assert!(
        page.contains("<strong>incomparable</strong>: ") && page.contains("clients: 200 against 201</li>"),
        "{page}"
    );
}

#[test]
fn a_tampered_baseline_is_refused() {
    let text = bless::bless(&runs()).unwrap().to_text().unwrap();
    let parse = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is not in the file");
        Baseline::parse("b.json", &changed)
    };
    let schema = "\"schema_version\": 4";
    assert_refused(parse(schema, "\"schema_version\": 9"), ErrorKind::Invalid, &["b.json", "schema 9", "bless"]);
    for old in ["2", "3"] {
        let parts = [&*format!("b.json has baseline schema {old}"), "reads 4", "certctl-bench bless"];
        assert_refused(parse(schema, &format!("\"schema_version\": {old}")), ErrorKind::Invalid, &parts);
    }
    assert_refused(parse(schema, "\"schema_version\": null"), ErrorKind::Usage, &["b.json", "schema_version"]);
    let tolerance = "\"tolerance\": 0.02, ";
    assert_refused(parse(tolerance, ""), ErrorKind::Usage, &["impossible tolerance"]);
    for impossible in ["-0.02", "5"] {
        let changed = format!("\"tolerance\": {impossible}");
        assert_refused(parse("\"tolerance\": 0.02", &changed), ErrorKind::Usage, &["impossible tolerance"]);
    }
    let errors = "\"kind\": \"share\", \"tolerance\": 0.00125, \"values\": [0.0";
    let many = errors.replace("[0.0", "[1e300");
    assert_refused(parse(errors, &many), ErrorKind::Usage, &["error_share has an impossible value"]);
    let clients = "\"agent_storm/clients\": \"200\"";
    assert_refused(parse(clients, "\"agent_storm/clients\": \"300\""), ErrorKind::Usage, &["fingerprint"]);
    assert_refused(
        parse("\"runs\": [\n    {", "\"runs\": [\n    {\"x\": 1, "),
        ErrorKind::Usage,
        &["unknown field `x`"],
    );
    assert_refused(
        parse("{\"finished_at\": \"2026-01-01T00:01:00Z\", \"verdict\": \"pass\"},\n    ", ""),
        ErrorKind::Usage,
        &["one value for each of 4 runs"],
    );
}

#[test]
fn only_enough_valid_consistent_runs_are_blessed() {
    assert_refused(bless::bless(&runs()[..4]), ErrorKind::Usage, &["at least 5", "given: 4"]);

    let spoilt = |spoil: &dyn Fn(&mut Summary)| {
        let mut runs = runs();
        spoil(&mut runs[3].1);
        bless::bless(&runs)
    };
    let invalid = |summary: &mut Summary| {
        summary.verdict = Verdict::Invalid;
        summary.invalid = vec!["it was late".to_owned()];
    };
    assert_refused(spoilt(&invalid), ErrorKind::Invalid, &["run 4", "invalid: it was late"]);
    assert_refused(spoilt(&|one| one.verdict = Verdict::Smoke), ErrorKind::Invalid, &["run 4", "smoke"]);
    assert_refused(
        spoilt(&|one| one.workloads[0].results.as_mut().unwrap().arrivals.partial = true),
        ErrorKind::Invalid,
        &["run 4", "partial"],
    );
    assert_refused(spoilt(&|one| one.schema_version = 1), ErrorKind::Invalid, &["run 4", "schema 1"]);
    let parts = ["run 4 and run 1 differ in workload or environment", "agent_storm/clients: 200 against 201"];
    assert_refused(spoilt(&|one| one.workloads[0].plan.clients = 201), ErrorKind::Invalid, &parts);
    let cores = |one: &mut Summary| one.about.machine.cores = 4;
    assert_refused(spoilt(&cores), ErrorKind::Invalid, &["run 4", "cores: 2 against 4"]);
    let commit = |one: &mut Summary| one.about.machine.commit = "def".to_owned();
    assert_refused(spoilt(&commit), ErrorKind::Invalid, &["run 4", "suite's commit: abc against def"]);
    let unknown = |one: &mut Summary| one.about.machine.commit = "unknown".to_owned();
    let mut nameless = runs();
    nameless.iter_mut().for_each(|(_, one)| unknown(one));
    assert_refused(bless::bless(&nameless), ErrorKind::Invalid, &["the commit of the suite", "safe.directory"]);
    let twin = |one: &mut Summary| one.finished_at = "2026-01-01T00:02:00Z".to_owned();
    assert_refused(spoilt(&twin), ErrorKind::Usage, &["run 4 and run 2 are the same run"]);

    // Runs that have ids are distinguished by them; a copy is recognised by its measurements.
    let mut known = runs();
    for (index, (_, one)) in known.iter_mut().enumerate() {
        one.run_id = Some(format!("{index:032x}"));
        one.finished_at = "2026-01-01T00:02:00Z".to_owned();
    }
    bless::bless(&known).unwrap();
    known[3].1.run_id = known[1].1.run_id.clone();
    assert_refused(bless::bless(&known), ErrorKind::Usage, &["run 4 and run 2 are the same run"]);
    let mut copied = runs();
    copied[3].1 = Made { slowness: SLOWNESS[1], number: 2, ..Made::default() }.summary();
    copied[3].1.finished_at = "2026-01-01T00:59:00Z".to_owned();
    assert_refused(bless::bless(&copied), ErrorKind::Usage, &["run 4 and run 2 are the same run"]);

    let mut astray = runs();
    astray[2] = named(Made { slowness: 1.6, number: 3, ..Made::default() });
    assert_refused(
        bless::bless(&astray),
        ErrorKind::Invalid,
        &["do not agree", "run 3 is an outlier in", "against a median of"],
    );
    // It is none where the others are far apart as well.
    let scattered = [1.0, 1.02, 1.5, 0.85, 0.98].into_iter().enumerate();
    let scattered: Vec<_> = scattered
        .map(|(index, slowness)| named(Made { slowness, number: index as u64 + 1, ..Made::default() }))
        .collect();
    bless::bless(&scattered).unwrap();
    astray[2] = named(Made { calls: 6, number: 3, ..Made::default() });
    assert_refused(
        bless::bless(&astray),
        ErrorKind::Invalid,
        &["run 3 is an outlier in database/sql_calls_per_answer"],
    );

    // A run that breaches a threshold can become slower still.
    let breached = spoilt(&|one| one.verdict = Verdict::Breached).unwrap();
    assert_eq!(breached.runs[3].verdict, Verdict::Breached);
}

#[test]
fn a_slower_head_regresses_and_a_faster_one_improves() {
    let base = Side::of(&runs()).unwrap();
    let slower = compared(&base, &head(1.25, 5));
    assert_eq!((slower.verdict, slower.exit_code), (Judgement::Regressed, 4), "{slower}");
    assert_eq!(verdict(&slower, "agent_storm/response_p50_us"), Judgement::Regressed);
    assert_eq!(verdict(&slower, "database/sql_calls_per_answer"), Judgement::Unchanged);
    let faster = compared(&base, &head(0.8, 5));
    assert_eq!((faster.verdict, faster.exit_code), (Judgement::Improved, 0), "{faster}");
    let equal = compared(&base, &head(1.0, 5));
    assert_eq!(equal.exit_code, 0, "{equal}");
    let changed = |one: &compare::Compared| matches!(one.verdict, Judgement::Regressed | Judgement::Improved);
    assert!(!equal.measures.iter().any(changed), "{equal}");
    // A change within the threshold does not count.
    let options = CompareOptions { threshold: 0.5, ..CompareOptions::default() };
    assert_eq!(compare::run(&base, &head(1.25, 5), options).exit_code, 0);
}

#[test]
fn a_quantile_that_only_the_base_has_is_missing() {
    let base = Side::of(&runs()).unwrap();
    let mut head = runs();
    for (index, (_, summary)) in head.iter_mut().enumerate() {
        summary.workloads[0].results.as_mut().unwrap().latency.response.p99_us = None;
        summary.finished_at = format!("2026-01-01T01:0{index}:00Z");
    }
    let head = Side::of(&head).unwrap();
    let lost = compared(&base, &head);
    let p99 = |comparison: &Comparison| {
        comparison.measures.iter().find(|one| one.name == "agent_storm/response_p99_us").unwrap().clone()
    };
    assert_eq!((p99(&lost).verdict, p99(&lost).head, p99(&lost).change), (Judgement::Missing, None, None));
    assert_eq!((lost.verdict, lost.exit_code), (Judgement::Missing, 5), "{lost}");
    assert_eq!(lost.missing, ["agent_storm/response_p99_us: the head has too few samples"]);
    // Neither side has it, or the head alone.
    let mut neither = head.clone();
    neither.runs.clone_from(&base.runs);
    for (base, head, code) in [(&neither, &head, 0), (&head, &base, 0)] {
        let comparison = compared(base, head);
        assert_eq!((p99(&comparison).verdict, comparison.exit_code), (Judgement::Indistinct, code), "{comparison}");
    }
}

#[test]
fn a_measure_that_a_run_of_the_head_lacks_is_missing() {
    let base = Side::of(&runs()).unwrap();
    for (name, lacks) in [
        ("agent_storm/response_p99_us", "have too few samples"),
        ("agent_storm/error_share", "have too few samples"),
        ("database/sql_calls_per_answer", "do not report it"),
    ] {
        let lacking = |mut side: Side, runs: usize| {
            side.measures.get_mut(name).unwrap().values[..runs].fill(None);
            side
        };
        // The others are as ever, and no fair sample.
        let some = lacking(head(1.0, 5), 4);
        let comparison = compared(&base, &some);
        assert_eq!(comparison.missing, [format!("{name}: 4 of 5 runs of the head {lacks}")]);
        assert_eq!((verdict(&comparison, name), comparison.exit_code), (Judgement::Missing, 5), "{comparison}");
        if name.starts_with("database") {
            continue;
        }
        // Where the base lacks it in a run too, that is not the head's doing.
        let comparison = compared(&lacking(base.clone(), 1), &some);
        assert_ne!(verdict(&comparison, name), Judgement::Missing, "{comparison}");
        assert_eq!(comparison.exit_code, 0, "{comparison}");
    }
}

#[test]
fn a_changed_count_regresses_or_improves() {
    let base = Side::of(&runs()).unwrap();
    let more = compared(&base, &head(1.0, 6));
    assert_eq!((verdict(&more, "database/sql_calls_per_answer"), more.exit_code), (Judgement::Regressed, 4));
    let fewer = compared(&base, &head(1.0, 4));
    assert_eq!((verdict(&fewer, "database/sql_calls_per_answer"), fewer.exit_code), (Judgement::Improved, 0));

    // One statement more in the whole run: at the reference server that is a regression, at a certctl it may be of its
    // own loops.
    let one_more = |kind: SystemKind| {
        let side = |extra: u64| {
            let mut summary = Made { number: 1 + extra, ..Made::default() }.summary();
            summary.about.system.kind = kind;
            let Some(Known::Yes(statements)) = &mut summary.evidence[0].statements else {
                panic!("the run has statements");
            };
            statements.total.calls += extra;
            Side::of(&[("it".to_owned(), summary)]).unwrap()
        };
        verdict(&compared(&side(0), &side(1)), "database/sql_calls_per_answer")
    };
    assert_eq!(
        (one_more(SystemKind::Reference), one_more(SystemKind::Certctl)),
        (Judgement::Regressed, Judgement::Unchanged)
    );
}

#[test]
fn lost_evidence_is_never_green() {
    let spoilt = |spoil: &dyn Fn(&mut Summary)| {
        let mut runs = head_runs(1.0, 5);
        spoil(&mut runs[2].1);
        runs
    };
    let evict = |one: &mut Summary| {
        one.evidence[0].problems =
            vec!["pg_stat_statements lost counters (reset, or more statements than pg_stat_statements.max)".to_owned()];
    };
    let uncount = |one: &mut Summary| {
        one.evidence[0].statements =
            Some(Known::No { unavailable: "pg_stat_statements counts nothing".to_owned(), hint: None });
    };
    let forget = |one: &mut Summary| one.evidence.clear();
    let base = Side::of(&runs()).unwrap();
    type Spoil<'a> = &'a dyn Fn(&mut Summary);
    let spoils: [(Spoil<'_>, &str); 3] = [
        (&evict, "counts of the head are doubtful: pg_stat_statements lost counters"),
        (&uncount, "database/sql_calls_per_answer: 1 of 5 runs of the head do not report it"),
        (&forget, "database/sql_calls_per_answer: 1 of 5 runs of the head do not report it"),
    ];
    for (spoil, why) in spoils {
        // In one run of five, and in all.
        let some = compared(&base, &Side::of(&spoilt(spoil)).unwrap());
        let mut all = head_runs(1.0, 5);
        all.iter_mut().for_each(|(_, one)| spoil(one));
        let all = compared(&base, &Side::of(&all).unwrap());
        for comparison in [&some, &all] {
            assert_eq!((comparison.verdict, comparison.exit_code), (Judgement::Missing, 5), "{comparison}");
            assert_eq!(verdict(comparison, "database/sql_calls_per_answer"), Judgement::Missing);
            assert!(comparison.to_string().contains("verdict      missing (exit 5)"), "{comparison}");
        }
        assert!(some.missing.iter().any(|one| one.starts_with(why)), "{:?}", some.missing);
        // A regression beside it stands.
        let slower: Vec<_> = spoilt(spoil)
            .into_iter()
            .zip(head_runs(2.0, 5))
            .map(|(lost, (name, mut slow))| {
                slow.evidence = lost.1.evidence;
                (name, slow)
            })
            .collect();
        assert_eq!(compared(&base, &Side::of(&slower).unwrap()).exit_code, 4);
        // Nor does it make a baseline.
        assert_refused(bless::bless(&spoilt(spoil)), ErrorKind::Invalid, &["the runs lack evidence: "]);
    }
    // Evicted on both sides, nothing is there to be compared, and nothing is green.
    let evicted = |numbers: fn() -> Vec<(String, Summary)>| {
        let mut runs = numbers();
        runs.iter_mut().for_each(|(_, one)| evict(one));
        Side::of(&runs).unwrap()
    };
    assert_eq!(compared(&evicted(runs), &evicted(|| head_runs(1.0, 5))).exit_code, 5);
}

#[test]
fn a_count_that_scatters_to_twice_the_base_regresses() {
    let side = |calls: &[u64], first: u64| {
        let runs: Vec<_> = (first..)
            .zip(calls)
            .map(|(number, calls)| named(Made { number, calls: *calls, ..Made::default() }))
            .collect();
        Side::of(&runs).unwrap()
    };
    let name = "database/sql_calls_per_answer";
    let (steady, scattered) = (side(&[4; 5], 1), side(&[4, 4, 4, 8, 8], 11));
    let red = compared(&steady, &scattered);
    assert_eq!((verdict(&red, name), red.exit_code), (Judgement::Regressed, 4), "{red}");
    assert!(red.to_string().contains("REGRESSED (runs of the head differ: 4.000 to 8.000)"), "{red}");
    let measure = red.measures.iter().find(|one| one.name == name).unwrap();
    assert_eq!((measure.base, measure.head, measure.change), (Some(4.0), Some(8.0), Some(1.0)));
    // As a base it makes no room for the head, nor does it allow an improvement.
    let other = side(&[8; 5], 21);
    assert_eq!(verdict(&compared(&scattered, &other), name), Judgement::Regressed);
    let back = compared(&scattered, &steady);
    assert_eq!(verdict(&back, name), Judgement::Indistinct);
    assert!(back.to_string().contains("indistinct (runs of the base differ: 4.000 to 8.000)"), "{back}");
}

#[test]
fn a_slower_head_does_not_widen_the_tolerance_of_counts() {
    let name = "database/sql_calls_per_answer";
    let base = Side::of(&runs()).unwrap();
    // As in a closed workload whose users got few answers.
    let mut slower = head(1.0, 6);
    slower.measures.get_mut(name).unwrap().tolerance = 0.5;
    let comparison = compared(&base, &slower);
    assert_eq!((verdict(&comparison, name), comparison.exit_code), (Judgement::Regressed, 4), "{comparison}");
    let measure = comparison.measures.iter().find(|one| one.name == name).unwrap();
    assert_eq!(measure.tolerance, Some(base.measures[name].tolerance));
}

#[test]
fn counts_that_depend_on_time_are_judged_with_care() {
    let read = |change: &dyn Fn(&mut WorkloadResults)| {
        let mut summary = Made::default().summary();
        change(summary.workloads[0].results.as_mut().unwrap());
        let side = Side::of(&[("it".to_owned(), summary)]).unwrap();
        let calls = &side.measures["database/sql_calls_per_answer"];
        (calls.kind, calls.tolerance)
    };
    assert_eq!(read(&|_| ()), (MeasureKind::Exact, 1e-6));
    // Each arrival came to two steps of a journey.
    let journeys = |results: &mut WorkloadResults| {
        let step = |name: &'static str, scheduled| StepFacts {
            name: name.into(),
            scheduled,
            outcomes: Vec::new(),
            response: DistributionFacts::default(),
            service: DistributionFacts::default(),
            certain: DistributionFacts::default(),
        };
        results.steps = ["one", "two"].map(|name| step(name, results.arrivals.scheduled)).into();
    };
    assert_eq!(read(&journeys), (MeasureKind::Exact, 0.02));
    let observing = |name: &'static str| {
        move |results: &mut WorkloadResults| {
            results.observations.push(ObservationFacts {
                name: name.into(),
                count: None,
                of: None,
                duration_s: Some(8.0),
                per_s: None,
                not_within_s: None,
            });
        }
    };
    // Which answers come from a cache depends on those that are under way beside them.
    let revoked = observing("until every OCSP answer by GET says revoked");
    assert_eq!(read(&revoked), (MeasureKind::Exact, 0.02));
    // The work of a drain is the same however long the heartbeats beside it go on.
    let drain = observing("time until drained, first renewal request to last renewal");
    assert_eq!(read(&drain).0, MeasureKind::Shown);
}

#[test]
fn times_of_few_handshakes_are_not_compared() {
    let compared = |count| {
        let mut summary = Made::default().summary();
        summary.workloads[0].results.as_mut().unwrap().opening.tls.count = count;
        let side = Side::of(&[("it".to_owned(), summary)]).unwrap();
        assert!(side.measures.contains_key("agent_storm/opening_round_trips_per_handshake"), "counts stay");
        side.measures.contains_key("agent_storm/opening_tls_p50_us")
    };
    assert_eq!([30, 29].map(compared), [true, false]);
}

#[test]
fn broken_arrivals_do_not_improve_counts() {
    // One arrival in twenty is a 500 that costs no statement; the others cost as many as ever.
    let broken = |every: u64| Made { number: 11, broken_every: Some(every), ..Made::default() }.summary();
    let base = Side::of(&[named(Made::default())]).unwrap();
    let head = Side::of(&[("it".to_owned(), broken(20))]).unwrap();
    let comparison = compared(&base, &head);
    for name in ["database/sql_calls_per_answer", "database/sql_rows_per_answer"] {
        assert_eq!(verdict(&comparison, name), Judgement::Unchanged, "{comparison}");
    }
    assert_eq!(verdict(&comparison, "agent_storm/error_share"), Judgement::Regressed, "{comparison}");
}

#[test]
fn a_longer_certificate_or_more_allocations_are_not_red() {
    let base = Side::of(&runs()).unwrap();
    for kind in [SystemKind::Certctl, SystemKind::Reference] {
        let of_kind = |runs: Vec<(String, Summary)>, longer: f64, more: u64| {
            let change = |(name, mut one): (String, Summary)| {
                one.about.system.kind = kind;
                let results = one.workloads[0].results.as_mut().unwrap();
                results.opening.read_bytes.as_mut().unwrap().mean += longer;
                (one.generator.requests, one.generator.allocations) = (2_400, Some(2_400 * 20 + more));
                (name, one)
            };
            Side::of(&runs.into_iter().map(change).collect::<Vec<_>>()).unwrap()
        };
        let comparison = compared(&of_kind(runs(), 0.0, 0), &of_kind(head_runs(1.0, 5), 30.0, 2_400));
        assert_eq!(comparison.exit_code, 0, "{comparison}");
        for name in ["generator/allocations_per_request", "agent_storm/opening_read_bytes_per_handshake"] {
            assert_eq!(verdict(&comparison, name), Judgement::NotJudged, "{comparison}");
            let change = comparison.measures.iter().find(|one| one.name == name).unwrap().change.unwrap();
            assert!(change > 0.02, "it is shown: {name} {change}");
        }
    }
    // Without them on the head, nothing that is judged is missing.
    let mut head = head(1.0, 5);
    head.measures.retain(|_, series| series.kind != MeasureKind::Shown);
    assert_eq!(compared(&base, &head).exit_code, 0);
}

#[test]
fn a_flapping_tail_does_not_hide_a_head_twice_as_slow() {
    let flapping = |mut side: Side| {
        let tail = side.measures.get_mut("agent_storm/service_p99_us").unwrap();
        for (value, flap) in tail.values.iter_mut().zip([1.0, 9.0, 0.5, 20.0, 3.0]) {
            *value = value.map(|value| value * flap);
        }
        side
    };
    let base = Side::of(&runs()).unwrap();
    for (base, head) in [(base.clone(), flapping(head(2.0, 5))), (flapping(base), head(2.0, 5))] {
        let comparison = compared(&base, &head);
        assert_eq!(verdict(&comparison, "agent_storm/response_p50_us"), Judgement::Regressed, "{comparison}");
        assert_eq!(comparison.exit_code, 4);
    }
}

/// Returns sides of so many runs, in turn, whose speeds scatter by a fifth; the head is so many times slower.
fn scattered(slowness: f64, runs: u64) -> [Side; 2] {
    let speed = |index: u64| (0.2 * ((index * 7) % 11) as f64 / 3.3 - 0.3).exp();
    let side = |side: u64, slowness: f64| {
        let made = |index| Made {
            slowness: slowness * speed(index),
            number: 2 * index + (index + side) % 2,
            ..Made::default()
        };
        Side::of(&(0..runs).map(made).map(named).collect::<Vec<_>>()).unwrap()
    };
    [side(0, 1.0), side(1, slowness)]
}

#[test]
fn a_difference_of_means_is_found_where_single_runs_scatter() {
    let verdict = |runs| {
        let [base, head] = scattered(1.2, runs);
        verdict(&compared(&base, &head), "agent_storm/response_p50_us")
    };
    assert_eq!((verdict(4), verdict(45)), (Judgement::Indistinct, Judgement::Regressed));
}

#[test]
fn only_an_equivalence_test_says_unchanged() {
    let name = "agent_storm/response_p50_us";
    // Within what single runs differ by, and yet not within the threshold for certain.
    for (slowness, runs) in [(1.0, 5), (1.08, 45)] {
        let [base, head] = scattered(slowness, runs);
        let scatters = compared(&base, &head);
        assert_eq!(verdict(&scatters, name), Judgement::Indistinct, "{scatters}");
    }
    let settled = compared(&Side::of(&runs()).unwrap(), &head(1.0, 5));
    assert_eq!(verdict(&settled, name), Judgement::Unchanged, "{settled}");
    let measure = settled.measures.iter().find(|one| one.name == name).unwrap();
    assert!(measure.change_low.unwrap() > -0.05 && measure.change_high.unwrap() < 0.05, "{measure:?}");
    // One run a side shows nothing about how much runs differ.
    let single = |number| Side::of(&[named(Made { number, ..Made::default() })]).unwrap();
    let alone = compared(&single(1), &single(2));
    let measure = alone.measures.iter().find(|one| one.name == name).unwrap();
    assert_eq!((measure.verdict, measure.reason.as_deref()), (Judgement::Indistinct, Some("one run a side")));
    assert_eq!((measure.change_low, alone.exit_code), (None, 0));
    // One run against several is judged by their prediction interval.
    let slow = Side::of(&[named(Made { slowness: 2.0, number: 9, ..Made::default() })]).unwrap();
    assert_eq!(verdict(&compared(&Side::of(&runs()).unwrap(), &slow), name), Judgement::Regressed);
    assert_eq!(verdict(&compared(&slow, &head(1.0, 5)), name), Judgement::Improved);
}

#[test]
fn many_full_page_images_exclude_the_wal_bytes() {
    let bytes = |whole_pages| {
        let mut summary = Made::default().summary();
        let Some(Known::Yes(statements)) = &mut summary.evidence[0].statements else { panic!("statements") };
        statements.total.wal_full_page_images = whole_pages;
        let side = Side::of(&[("it".to_owned(), summary)]).unwrap();
        side.measures["database/wal_bytes_per_answer"].values[0]
    };
    assert!(bytes(0).is_some() && bytes(1).is_some() && bytes(100).is_none());
}

#[test]
fn surplus_evidence_groups_cause_no_panic() {
    let mut summary = serde_json::to_value(Made::default().summary()).unwrap();
    let twice = [0, 0].map(|index| summary["evidence"][index].clone());
    summary["evidence"] = twice.to_vec().into();
    let side = Side::of(&[("it".to_owned(), serde_json::from_value::<Summary>(summary).unwrap())]).unwrap();
    assert!(side.measures.contains_key("database/group_2/sql_calls_per_answer"));
}

#[test]
fn a_measure_that_only_the_base_has_is_missing() {
    let base = Side::of(&runs()).unwrap();
    let mut lost = head(1.0, 5);
    lost.measures.retain(|name, _| !name.starts_with("database/sql_calls"));
    for counts_only in [false, true] {
        let options = CompareOptions { counts_only, ..CompareOptions::default() };
        let comparison = compare::run(&base, &lost, options);
        assert_eq!(comparison.missing, ["database/sql_calls_per_answer: only the base reports it"]);
        assert_eq!((comparison.verdict, comparison.exit_code), (Judgement::Missing, 5), "{comparison}");
        let new = compare::run(&lost, &base, options);
        assert_eq!(new.exit_code, 0, "what is new has nothing to be compared with");
        assert_eq!(new.notes, ["database/sql_calls_per_answer: only the head reports it"]);
    }
    let counts = CompareOptions { counts_only: true, ..CompareOptions::default() };
    lost.measures.retain(|_, series| series.kind != MeasureKind::Exact);
    let mut none = Side::of(&runs()).unwrap();
    none.measures.retain(|_, series| series.kind != MeasureKind::Exact);
    let nothing = compare::run(&none, &lost, counts);
    assert_eq!((nothing.exit_code, &*nothing.incomparable[0]), (5, "no measure is present on both sides"));
}

#[test]
fn a_baseline_without_latency_can_be_read() {
    let mut runs = runs();
    for (_, summary) in &mut runs {
        let observed = |name: &'static str, duration_s| ObservationFacts {
            name: name.into(),
            count: None,
            of: None,
            duration_s,
            per_s: None,
            not_within_s: None,
        };
        summary.workloads[0].results.as_mut().unwrap().observations =
            vec![observed("time to recovered, first to last", Some(0.0)), observed("time to steady state", Some(2.0))];
    }
    let text = bless::bless(&runs).unwrap().to_text().unwrap();
    let side = Baseline::parse("b.json", &text).unwrap().into_side();
    assert_eq!(side.measures["agent_storm/time_to_recovered_s"].values, [None; 5]);
    assert!(!side.measures.contains_key("agent_storm/time_to_steady_state_s"), "whole seconds are too coarse");
}

#[test]
fn errors_are_compared_as_shares() {
    let side = |share: f64, minute: u32| {
        let mut summary = Made::default().summary();
        summary.workloads[0].results.as_mut().unwrap().error_share = Some(share);
        summary.finished_at = format!("2026-01-01T02:{minute:02}:00Z");
        (String::new(), summary)
    };
    let base = Side::of(&(0..5).map(|minute| side(0.0, minute)).collect::<Vec<_>>()).unwrap();
    let of = |share: f64| Side::of(&(5..10).map(|minute| side(share, minute)).collect::<Vec<_>>()).unwrap();
    let name = "agent_storm/error_share";
    assert_eq!(verdict(&compared(&base, &of(0.02)), name), Judgement::Regressed);
    // One error in 2,400 arrivals is below the least change that counts.
    assert_ne!(verdict(&compared(&base, &of(1.0 / 2_400.0)), name), Judgement::Regressed);
    // Errors of each run may be chance, and those of all runs together are none.
    let few = |runs: usize| {
        let mut few = of(0.0);
        few.measures.get_mut(name).unwrap().values[..runs].fill(Some(0.0024));
        few.measures.get_mut(name).unwrap().tolerance = 0.003;
        compared(&base, &few)
    };
    assert_eq!((verdict(&few(5), name), few(5).exit_code), (Judgement::Regressed, 4), "{}", few(5));
    assert!(few(5).to_string().contains("REGRESSED (means of all runs)"), "{}", few(5));
    assert_eq!(verdict(&few(1), name), Judgement::Indistinct, "{}", few(1));
    assert_eq!(verdict(&compared(&base, &of(0.0)), name), Judgement::Unchanged);
    // A measure of which more is better on one side alone is another measure.
    let mut other = head(1.0, 5);
    other.measures.get_mut(name).unwrap().better = Better::Higher;
    assert_eq!(verdict(&compared(&base, &other), name), Judgement::Incomparable);
}

#[test]
fn another_machine_or_workload_is_incomparable() {
    let base = Side::of(&runs()).unwrap();
    let ids = Cell::new(0);
    let changed = |change: &dyn Fn(&mut Summary)| {
        let mut summary = Made { slowness: 2.0, calls: 6, number: 20, ..Made::default() }.summary();
        ids.set(ids.get() + 1);
        summary.run_id = Some(ids.get().to_string());
        change(&mut summary);
        Side::of(&[("it".to_owned(), summary)]).unwrap()
    };
    let machine = changed(&|one| one.about.machine.cpu_model = "Another CPU".to_owned());
    let comparison = compared(&base, &machine);
    assert_eq!((comparison.verdict, comparison.exit_code), (Judgement::Incomparable, 5));
    assert_eq!(comparison.incomparable, ["processor: Some CPU @ 2.00GHz against Another CPU"]);
    assert_eq!(verdict(&comparison, "agent_storm/response_p50_us"), Judgement::Incomparable);
    // A fact that only one side states is noted; a machine that states nothing about itself is not a known one.
    let number = |part: &str| {
        let part = part.to_owned();
        changed(&move |one| one.about.machine.cpu_part = Some(part.clone()))
    };
    let (milan, genoa) = (number("family 25 model 1 stepping 1"), number("family 25 model 17 stepping 1"));
    let parts = compared(&milan, &genoa);
    assert_eq!(
        parts.incomparable,
        ["processor's part: family 25 model 1 stepping 1 against family 25 model 17 stepping 1"]
    );
    let older = compared(&base, &milan);
    assert!(older.incomparable.is_empty(), "{older}");
    assert!(older.notes.iter().any(|note| note.starts_with("processor's part: unknown against family")), "{older}");
    let nameless = || changed(&|one| one.about.machine.cpu_model = "unknown".to_owned());
    assert_eq!(compared(&nameless(), &nameless()).incomparable, ["processor: unknown on both sides"]);
    // Counts do not depend on the machine.
    assert_eq!(verdict(&comparison, "database/sql_calls_per_answer"), Judgement::Regressed);
    let counts = compare::run(&base, &machine, CompareOptions { counts_only: true, ..CompareOptions::default() });
    assert_eq!((counts.verdict, counts.exit_code), (Judgement::Regressed, 4), "{counts}");
    assert!(counts.measures.iter().all(|one| one.kind == MeasureKind::Exact) && !counts.measures.is_empty());

    let workload = changed(&|one| one.workloads[0].plan.rate_per_s = Some(41.0));
    let profile = changed(&|one| one.workloads[0].plan.rate_profile = Some("ramp:30/s-50/s".to_owned()));
    let target = changed(&|one| one.about.system.kind = SystemKind::Certctl);
    for (head, why) in [
        (workload, "workload: agent_storm/rate_per_s: 40 against 41"),
        (profile, "workload: agent_storm/rate_profile: nothing against ramp:30/s-50/s"),
        (target, "system: reference against certctl"),
    ] {
        for counts_only in [false, true] {
            let comparison = compare::run(&base, &head, CompareOptions { counts_only, ..CompareOptions::default() });
            assert_eq!((comparison.exit_code, &comparison.incomparable[..]), (5, &[why.to_owned()][..]));
            assert!(comparison.measures.iter().all(|one| one.verdict == Judgement::Incomparable), "{comparison}");
        }
    }
    for (change, why) in [
        (
            (&|one: &mut Summary| one.generator.scheduling = "SCHED_FIFO 10".into()) as &dyn Fn(&mut Summary),
            "generator's scheduling: ",
        ),
        (&|one: &mut Summary| one.generator.threads = 2, "generator's threads: 1 against 2"),
        (
            &|one: &mut Summary| one.about.system.trust = "certificate NOT VERIFIED (--insecure)".to_owned(),
            "system's certificate: ",
        ),
    ] {
        let comparison = compared(&base, &changed(change));
        assert!(comparison.exit_code == 5 && comparison.incomparable[0].starts_with(why), "{comparison}");
    }
    let setting = changed(&|one| _ = one.about.system.settings.insert("fsync".to_owned(), "off".into()));
    assert_eq!(compared(&base, &setting).exit_code, 5);
    let daemon = |key: &str| {
        let settings = serde_json::json!({"nginx": {"key_type": key, "started": true}});
        changed(&|one| {
            one.about.system.kind = SystemKind::Connectors;
            one.about.system.settings = settings.as_object().unwrap().clone();
        })
    };
    let counts = CompareOptions { counts_only: true, ..CompareOptions::default() };
    assert_eq!(
        compare::run(&daemon("ecdsa-p256"), &daemon("rsa-2048"), counts).exit_code,
        5,
        "other bytes, as requested"
    );

    // A difference that may be the very subject of the comparison is noted, and does not stop it.
    let version = compared(&base, &changed(&|one| one.about.system.version = "0.2.0".to_owned()));
    assert_eq!((version.exit_code, &version.notes[..]), (4, &["system's version: 0.1.0 against 0.2.0".to_owned()][..]));
}

#[test]
fn a_saved_baseline_is_replaced_or_extended() {
    let folder = TempDir::new().unwrap();
    let save = |name: &str, number, keep| {
        local::save(name, folder.path(), &Made { number, ..Made::default() }.summary(), keep)
    };
    let runs = |name: &str| local::load(name, folder.path(), "agent_storm").map(|side| side.runs.len());
    assert_refused(runs("main"), ErrorKind::Usage, &["saved as main", "--save-baseline main"]);
    save("main", 1, Keep::Nothing).unwrap();
    save("main", 2, Keep::Earlier).unwrap();
    save("other", 3, Keep::Nothing).unwrap();
    assert_eq!((runs("main").unwrap(), runs("other").unwrap()), (2, 1));
    save("main", 4, Keep::Nothing).unwrap();
    assert_eq!(runs("main").unwrap(), 1);
    for name in ["", "..", "a/b", ".hidden"] {
        assert_refused(save(name, 5, Keep::Nothing), ErrorKind::Usage, &["not a valid name of a baseline"]);
    }
    let mut invalid = Made::default().summary();
    (invalid.verdict, invalid.exit_code) = (Verdict::Invalid, Verdict::Invalid.exit_code());
    invalid.invalid = vec!["it was too late".to_owned()];
    assert_refused(local::save("main", folder.path(), &invalid, Keep::Nothing), ErrorKind::Invalid, &["invalid"]);
    assert_eq!(runs("main").unwrap(), 1, "a refused run replaces nothing");
    let mut other = Made { number: 6, ..Made::default() }.summary();
    other.about.machine.commit = "another".to_owned();
    let added = local::save("main", folder.path(), &other, Keep::Earlier);
    assert_refused(added, ErrorKind::Invalid, &["this run and ", "another"]);
    assert_eq!(runs("main").unwrap(), 1, "a run of something else spoils nothing");
    let left: Vec<_> =
        std::fs::read_dir(folder.path().join("main")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["agent_storm"]);
}

/// A folder of saved runs, in which the program is run.
struct Shelf {
    folder: TempDir,
}

impl Shelf {
    fn new() -> Self {
        let shelf = Self { folder: TempDir::new().unwrap() };
        for (number, own) in (1..).zip(SLOWNESS) {
            Made { slowness: own, number, ..Made::default() }.save(&shelf.path(&format!("base{number}")));
            let head = Made { slowness: own * 1.3, number: number + 10, ..Made::default() };
            head.save(&shelf.path(&format!("head{number}")));
        }
        shelf
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `certctl-bench` with these arguments, separated by spaces, beside the runs.
    #[track_caller]
    fn run(&self, arguments: &str, code: i32) -> Output {
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_certctl-bench")))
            .args(arguments.split_whitespace().map(OsStr::new))
            .current_dir(&self.folder)
            .env_remove("CERTCTL_BENCH_THRESHOLD")
            .output()
            .unwrap();
        let text = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part).into_owned()).concat();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        output
    }
}

fn text_of(output: &[u8]) -> &str {
    std::str::from_utf8(output).unwrap()
}

/// Covers every reason: no room, a folder that takes no new file, a file that may not be written.
#[test]
fn a_failed_write_keeps_the_old_baseline() {
    let shelf = Shelf::new();
    // Permissions do not bind a superuser, and another user may have no access to the program where it is.
    let user = RunAs::lesser(&["nobody"]).unwrap();
    let (program, folder, file) = (shelf.path("program"), shelf.path("kept"), shelf.path("kept/b.json"));
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_certctl-bench")).arg(&program).status().unwrap();
    assert!(copied.success());
    std::fs::create_dir(&folder).unwrap();
    for path in [shelf.folder.path(), &folder] {
        chown(path, user.map(|user| user.uid), user.map(|user| user.gid)).unwrap();
    }
    let bless = |sides: &str, output: &str, most_bytes: Option<u64>| {
        let mut command = Command::new(&program);
        command.arg("bless").args(sides.split(' ')).args(["--output", output]).current_dir(&shelf.folder);
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        limit(&mut command, Resource::Fsize, most_bytes, most_bytes);
        let output = command.output().unwrap();
        (output.status.code(), text_of(&output.stderr).to_owned())
    };
    let (bases, heads) = ("base1 base2 base3 base4 base5", "head1 head2 head3 head4 head5");
    let permit = |path: &Path, mode: u32| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for output in ["kept/b.json", "new.json"] {
        assert_eq!(bless(if output == "new.json" { heads } else { bases }, output, None).0, Some(0));
    }
    let [old, new] = [&file, &shelf.path("new.json")].map(|path| read_to_string(path).unwrap());
    assert_ne!(old, new);
    const SMALL: Option<u64> = Some(1_000);
    for (of_folder, of_file, most_bytes, message) in [
        (0o755, 0o644, SMALL, "writing kept/b.json: File too large"),
        (0o555, 0o644, SMALL, "writing kept/b.json: File too large"),
        (0o755, 0o444, None, "writing kept/b.json: Permission denied"),
        (0o555, 0o444, None, "writing kept/b.json: Permission denied"),
    ] {
        permit(&file, of_file);
        permit(&folder, of_folder);
        let (code, text) = bless(heads, "kept/b.json", most_bytes);
        permit(&folder, 0o755);
        assert!(code == Some(1) && text.contains(message), "{of_folder:o} {of_file:o}: {text}");
        assert_eq!(read_to_string(&file).unwrap(), old, "{of_folder:o} {of_file:o}: {text}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing half written is left");
    }
    // A file that may be written is, though its folder takes no other.
    permit(&file, 0o644);
    permit(&folder, 0o555);
    let (code, text) = bless(heads, "kept/b.json", None);
    let (absent, why) = bless(heads, "kept/c.json", None);
    permit(&folder, 0o755);
    assert_eq!((code, read_to_string(&file).unwrap()), (Some(0), new), "{text}");
    assert!(absent == Some(1) && why.contains("writing kept/c.json: Permission denied"), "{why}");
    assert!(!shelf.path("kept/c.json").exists());
}

#[test]
fn the_program_blesses_and_compares() {
    let shelf = Shelf::new();
    let bases = "base1 base2 base3 base4/summary.json base5";
    let heads = "head1 head2 head3 head4 head5";

    // A single run against another, and runs against runs.
    shelf.run("compare base1 base2", 0);
    // Without ids, the end of a run tells.
    let twice = shelf.run("compare base1 base1", 5);
    assert!(text_of(&twice.stdout).contains("the same run, 2026-01-01T00:01:00Z, is in the base and in the head"));
    let red = shelf.run(&format!("compare --base {bases} --head {heads} --json red.json --markdown red.md"), 4);
    let comment = read_to_string(shelf.path("red.md")).unwrap();
    assert!(comment.starts_with("### agent_storm: regressed\n\n**6 of 17 measures became worse**"), "{comment}");
    let place = |text: &str| comment.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{comment}"));
    assert!(
        place("/response_p50_us | **regressed** | ") < place("<details>"),
        "what changed is not folded:\n{comment}"
    );
    assert!(place("5 × base and 5 × head") < place("**regressed**"), "{comment}");
    assert!(place("<details>") < place("| unchanged |"), "{comment}");
    assert!(text_of(&red.stdout).contains("verdict      regressed (exit 4)"), "{}", text_of(&red.stdout));
    let json = read_to_string(shelf.path("red.json")).unwrap();
    let comparison: Comparison = serde_json::from_str(&json).unwrap();
    assert_eq!((comparison.exit_code, comparison.base_runs, comparison.head_runs), (4, 5, 5));
    let improved = shelf.run(&format!("compare --base {heads} --head {bases}"), 0);
    assert!(text_of(&improved.stdout).contains("improved"), "{}", text_of(&improved.stdout));
    shelf.run(&format!("compare --base {bases} --head {heads} --threshold 60%"), 0);

    // A baseline, in its place and in one that was chosen.
    let blessed = shelf.run(&format!("bless {bases}"), 0);
    let written_path = text_of(&blessed.stdout).lines().find_map(|line| line.strip_prefix("written      ")).unwrap();
    let mut parts = Path::new(written_path).components().map(|part| part.as_os_str().to_str().unwrap());
    assert_eq!(parts.next(), Some("baselines"));
    let environment = parts.next().unwrap();
    assert!(environment.starts_with("some-cpu-2-00ghz-2x-8gib-vm-reference-"), "{environment}");
    assert_eq!(parts.next(), Some("agent_storm.json"));
    shelf.run(&format!("bless {bases} --output chosen.json"), 0);
    assert_eq!(read_to_string(shelf.path(written_path)).unwrap(), read_to_string(shelf.path("chosen.json")).unwrap());
    shelf.run(&format!("compare --base chosen.json --head {heads}"), 4);
    Made { number: 31, ..Made::default() }.save(&shelf.path("another"));
    shelf.run("compare chosen.json another", 0);

    // Neither red nor green.
    let mut lost = Made { number: 32, ..Made::default() }.summary();
    lost.evidence.clear();
    save(&lost, &shelf.path("lost"));
    let without = shelf.run("compare chosen.json lost --markdown lost.md", 5);
    assert!(text_of(&without.stdout).contains("verdict      missing (exit 5)"), "{}", text_of(&without.stdout));
    let comment = read_to_string(shelf.path("lost.md")).unwrap();
    assert!(comment.starts_with("### agent_storm: missing\n\nevidence is missing"), "{comment}");
    assert!(comment.contains("\n- missing: database/sql_calls_per_answer: only the base reports it"), "{comment}");
    let mut other = Made { number: 33, ..Made::default() }.summary();
    other.about.machine.cores = 64;
    save(&other, &shelf.path("elsewhere"));
    let elsewhere = shelf.run("compare chosen.json elsewhere", 5);
    assert!(text_of(&elsewhere.stdout).contains("cores: 2 against 64"), "{}", text_of(&elsewhere.stdout));
    shelf.run("compare --counts chosen.json elsewhere", 0);
    other.verdict = Verdict::Invalid;
    other.exit_code = Verdict::Invalid.exit_code();
    other.invalid = vec!["it was too late".to_owned()];
    save(&other, &shelf.path("worthless"));
    // The same run on both sides is no comparison.
    let mut one = Made::default().summary();
    one.run_id = Some("7a".to_owned());
    save(&one, &shelf.path("one"));
    save(&one, &shelf.path("copy"));
    let same = shelf.run("compare one copy", 5);
    assert!(
        text_of(&same.stdout).contains("the same run, 7a, is in the base and in the head"),
        "{}",
        text_of(&same.stdout)
    );
    assert!(text_of(&shelf.run("compare base1 worthless", 5).stderr).contains("it is invalid"));
    let old = read_to_string(shelf.path("base1/summary.json")).unwrap();
    write(shelf.path("old.json"), old.replacen("\"schema_version\": 4", "\"schema_version\": 1", 1)).unwrap();
    assert!(text_of(&shelf.run("compare old.json base1", 5).stderr).contains("old.json has summary schema 1"));
    shelf.run("bless base1 base2 base3 base4 worthless", 5);

    // Wrong input.
    for (arguments, message) in [
        ("compare", "the sides to compare are not given"),
        ("compare nowhere base1", "reading nowhere"),
        ("compare base1", "2 values required"),
        ("compare --base base1", "--head"),
        ("compare base1 base2 --threshold much", "5% or 0.05"),
        ("compare --base chosen.json base1 --head base2", "cannot be combined"),
        ("compare base1 base2 --markdown base1/summary.json", "base1/summary.json"),
        ("compare base1 base2 --html base2/summary.json", "base2/summary.json"),
        ("bless base1 base2", "at least 5 runs"),
        ("bless base1 base2 base3 base4 chosen.json", "is a baseline, not a run's summary"),
        ("bless base1 base2 base3 base4 base1", "are the same run"),
    ] {
        let output = shelf.run(arguments, 2);
        assert!(text_of(&output.stderr).contains(message), "{arguments}: {}", text_of(&output.stderr));
    }
}
