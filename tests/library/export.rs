//! Exports: golden tests, properties, and what other people's readers make of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use certctl_bench::measure::{Distribution, Measurement, Outcome, Quantile};
use certctl_bench::report::export::hgrm::Choice;
use certctl_bench::report::export::{csv, hgrm, hlog, junit, k6, openmetrics, otlp};
use certctl_bench::summary::facts::{DistributionFacts, StepFacts, ThresholdFacts, Unit};
use certctl_bench::summary::{Summary, WorkloadResults};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::bench::clean;
use crate::common::made_up::{measurement, stalled, summary};
use crate::common::needs::{needs, tools};

const RESPONSE: Choice<'_> = Choice { measure: "response", workload: None, step: None };
/// Text that has a meaning in every format, and characters that XML forbids.
const HOSTILE: &str = "=a,b \"c\" 'd' <e>&amp;]]>\\n%20\u{1}\u{1b}[2J\u{ffff}\r\n# EOF\u{e9}";

fn right() -> Measurement {
    measurement(|_| Outcome::Ok)
}

fn results(summary: &mut Summary) -> &mut WorkloadResults {
    summary.workloads[0].results.as_mut().unwrap()
}

/// Returns a run of two workloads, of which one starts later and has steps.
fn several() -> Summary {
    let mut run = summary(stalled(1), 2_000);
    let mut other = summary(right(), 2_000);
    let added = &mut other.workloads[0];
    (added.plan.name, added.plan.starts_after_s) = ("list_certificates".into(), 2.5);
    let results = added.results.as_mut().unwrap();
    results.steps = ["page", "search"].map(|name| step(name, 1_000)).into();
    run.workloads.append(&mut other.workloads);
    run
}

/// Returns a step with right answers only, of 1 ms, 2 ms and so on.
fn step(name: &'static str, count: u64) -> StepFacts {
    let mut response = Distribution::default();
    (1..=count).for_each(|ms| response.record(ms * 1_000_000));
    StepFacts {
        name: name.into(),
        scheduled: count,
        outcomes: serde_json::from_value(json!([{ "outcome": "ok", "count": count, "example": null }])).unwrap(),
        response: DistributionFacts::of(&response),
        service: DistributionFacts::default(),
        certain: DistributionFacts::default(),
    }
}

/// Returns a run whose answers took these times.
fn timed(samples_ns: impl IntoIterator<Item = u64>) -> Summary {
    let mut response = Distribution::default();
    samples_ns.into_iter().for_each(|ns| response.record(ns));
    let mut run = summary(right(), 2_000);
    results(&mut run).latency.response = DistributionFacts::of(&response);
    run
}

fn threshold(name: &str, unit: Unit, limit: f64, measured: Option<f64>) -> ThresholdFacts {
    ThresholdFacts {
        workload: None,
        step: None,
        quantile: None,
        name: name.to_owned(),
        unit,
        limit,
        measured,
        by_maximum: false,
        passed: measured.map(|measured| measured < limit),
        certain: false,
        beyond: 0,
        of: 2_000,
    }
}

/// Writes an export into a folder of its own.
fn saved(text: impl AsRef<[u8]>) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}

#[track_caller]
fn stdout_of(output: Output) -> String {
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout
}

/// Returns what a reader in Python makes of an export.
#[track_caller]
pub fn read_by_python(kind: &str, text: impl AsRef<[u8]>) -> Value {
    let (_folder, file) = saved(text);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/read.py");
    let output = Command::new(tools().join("readers/python/bin/python"))
        .arg(script)
        .args([kind, &file])
        // As Python would be elsewhere, where texts have the encoding of the environment.
        .env("PYTHONUTF8", "1")
        .output()
        .unwrap();
    serde_json::from_str(&stdout_of(output)).unwrap()
}

/// Runs a class of HdrHistogram's, or the tests' own with its path.
#[track_caller]
fn java(class: &str, arguments: &[&str]) -> String {
    let jar = tools().join("readers/HdrHistogram.jar");
    // What the virtual machine says of its options would be part of the output.
    let output = Command::new("java").arg("-cp").arg(jar).arg(class).args(arguments).output().unwrap();
    stdout_of(output)
}

fn own_class() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/Read.java")
}

// hgrm ----------------------------------------------------------------------------------------------------------------

#[test]
fn percentiles_are_those_that_java_prints() {
    needs!(HdrHistogram);
    let scattered = |count: u64| (0..count).map(|index| 300 + index * index % 7_919 * (index % 13 + 1) * 1_009);
    let runs = [
        // Levels that the samples meet exactly.
        timed((1..=10).map(|ms| ms * 1_000_000)),
        timed([1]),
        timed([5_000_000; 3]),
        timed([0, 600_000_000_000]),
        timed(scattered(997)),
        timed(scattered(100_000)),
        summary(stalled(1), 2_000),
    ];
    for mut run in runs {
        let ours = hgrm::render(&run, RESPONSE).unwrap();
        let hdr = results(&mut run).latency.response.hdr_ns.clone().unwrap();
        let theirs = java(own_class(), &["percentiles", &hdr, "1000000"]);
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{ours}\n{theirs}");
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_same_row(ours, theirs);
        }
    }
}

/// Asserts that two lines have the same form and, but for the rounding of the last digit, the same figures.
#[track_caller]
fn assert_same_row(ours: &str, theirs: &str) {
    let places = |word: &str| word.split_once('.').map_or(0, |(_, digits)| digits.trim_end_matches([',', ']']).len());
    assert_eq!(ours.len(), theirs.len(), "{ours}\n{theirs}");
    for (our, their) in ours.split_whitespace().zip(theirs.split_whitespace()) {
        let figures = [our, their].map(|word| word.trim_end_matches([',', ']']).parse::<f64>());
        let [Ok(our_figure), Ok(their_figure)] = figures else {
            assert_eq!(our, their, "{ours}\n{theirs}");
            continue;
        };
        assert_eq!(places(our), places(their), "{ours}\n{theirs}");
        let last_digit = 1.01 * 10_f64.powi(-(places(our) as i32));
        let is_near = if places(our) == 0 { our == their } else { (our_figure - their_figure).abs() <= last_digit };
        assert!(is_near, "{ours}\n{theirs}");
    }
}

#[test]
fn percentiles_of_a_run_have_their_form() {
    let text = hgrm::render(&timed((1..=20).map(|ms| ms * 1_000_000)), RESPONSE).unwrap();
    insta::assert_snapshot!(text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn percentiles_rise_to_all_samples(samples_ns in prop::collection::vec(0..700_000_000_000_u64, 1..300)) {
        let count = samples_ns.len() as u64;
        let text = hgrm::render(&timed(samples_ns), RESPONSE).unwrap();
        let rows = text.lines().skip(2).take_while(|line| !line.starts_with('#'));
        let mut last = (0.0, -1.0, 0);
        for row in rows {
            let words: Vec<&str> = row.split_whitespace().collect();
            let row = (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse::<u64>().unwrap());
            prop_assert!(row.0 >= last.0 && row.1 > last.1 && row.2 >= last.2, "{text}");
            // At least this share of the samples is no longer than the value.
            prop_assert!(row.2 as f64 / count as f64 >= row.1 - 1e-9, "{text}");
            last = row;
        }
        prop_assert_eq!((last.1, last.2), (1.0, count));
    }
}

#[test]
fn another_distribution_is_chosen_or_named() {
    let run = several();
    let choice = |measure, workload, step| hgrm::render(&run, Choice { measure, workload, step });
    let refused = |measure, workload, step| choice(measure, workload, step).unwrap_err().to_string();
    assert_eq!(
        refused("response", None, None),
        "the run has 2 workloads\nhint: choose one with --workload: agent_storm, list_certificates"
    );
    assert_eq!(
        refused("response", Some("a\u{1b}"), None),
        "the run has no workload a\\u{1b}\nhint: give one of agent_storm, list_certificates"
    );
    let lists = Some("list_certificates");
    assert_eq!(refused("response", lists, Some("x")), "the workload has no step x\nhint: give one of page, search");
    assert_eq!(
        refused("service", lists, Some("page")),
        "the run has no samples of service\nhint: give one of response"
    );
    let unknown = refused("latency", Some("agent_storm"), None);
    assert!(unknown.contains("give one of response, service, own_part, certain, schedule_lag,"), "{unknown}");
    assert!(refused("response", Some("agent_storm"), Some("x")).contains("leave --step out"));
    // A thousand samples of the step, from 1 ms to 1 s.
    let step = choice("response", lists, Some("search")).unwrap();
    assert!(step.contains("#[Max     =     1000.") && step.contains("Total count    =         1000]"), "{step}");
    assert_ne!(choice("schedule_lag", lists, None).unwrap(), choice("service", lists, None).unwrap());
}

// hlog ----------------------------------------------------------------------------------------------------------------

/// An interval, as a reader returns it: tag, start and end in milliseconds, count, p50, p95 and longest.
type Interval = (String, u64, u64, u64, u64, u64, u64);

/// Returns the intervals that a reader should find: the seconds of every workload, in the order of their starts.
fn expected_intervals(run: &Summary, start_s: u64) -> Vec<Interval> {
    let mut intervals = Vec::new();
    for (plan, results) in run.measured() {
        for second in &results.timeline {
            let samples = Distribution::from_base64(&second.hdr_us).unwrap();
            let begin_s = plan.starts_after_s + plan.warm_up_s + second.second as f64;
            let start_ms = start_s * 1_000 + (begin_s * 1e3) as u64;
            assert_eq!(samples.count(), second.ok);
            let value = |quantile: Quantile| samples.value_ns(quantile.fraction());
            let (p50, p95, max) = (value(Quantile::P50), value(Quantile::P95), second.max_us.unwrap_or(0));
            intervals.push((plan.name.to_string(), start_ms, start_ms + 1_000, second.ok, p50, p95, max));
        }
    }
    intervals.sort_by_key(|interval| interval.1);
    assert_eq!(intervals.len(), 20);
    intervals
}

/// Returns a run with a second in which nothing was answered.
fn with_a_silent_second() -> (Summary, u64) {
    let mut run = several();
    let empty = certctl_bench::measure::timeline::Timeline::new(std::time::Duration::from_secs(1));
    let second = &mut results(&mut run).timeline[4];
    (second.ok, second.max_us, second.hdr_us) = (0, None, empty.seconds()[0].to_base64());
    // The run finished at the beginning of 2026; the later of its windows ends 17.5 s after the start.
    (run, 1_767_225_600 - 18)
}

#[test]
fn java_reads_the_interval_log() {
    needs!(HdrHistogram);
    let (run, start_s) = with_a_silent_second();
    let (folder, file) = saved(hlog::render(&run).unwrap());
    let read = java(own_class(), &["log", &file]);
    let expected: String = expected_intervals(&run, start_s)
        .into_iter()
        .map(|(tag, from, to, count, p50, p95, max)| format!("{tag} {from} {to} {count} {p50} {p95} {max}\n"))
        .collect();
    assert_eq!(read, format!("{expected}start {start_s}\n"));
    // Its processor adds the seconds of a tag up, and divides microseconds by a thousand.
    let output = folder.path().join("processed");
    let arguments = ["-i", &file, "-tag", "list_certificates", "-outputValueUnitRatio", "1000"];
    let all = java("org.HdrHistogram.HistogramLogProcessor", &arguments);
    let response = &run.measured_named("list_certificates").unwrap().1.latency.response;
    assert!(all.contains(&format!("Total count    = {:12}]", response.count)), "{all}");
    let max = all.split_once("#[Max     =").unwrap().1.split(',').next().unwrap().trim().parse::<f64>().unwrap();
    assert!((max * 1e3 / response.max_us.unwrap() - 1.0).abs() < 0.01, "{all}");
    let arguments = [&arguments[..], &["-o", output.to_str().unwrap()]].concat();
    java("org.HdrHistogram.HistogramLogProcessor", &arguments);
    let lines = fs::read_to_string(output).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains("I:200 ")).count(), 10, "{lines}");
}

#[test]
fn python_reads_the_interval_log() {
    needs!(Readers);
    let (run, start_s) = with_a_silent_second();
    let read = read_by_python("hlog", hlog::render(&run).unwrap());
    let expected: Vec<Value> = expected_intervals(&run, start_s)
        .into_iter()
        .map(|(tag, start_ms, end_ms, count, p50, p95, max)| {
            json!({ "tag": tag, "start_ms": start_ms as f64, "end_ms": end_ms as f64, "count": count, "p50": p50,
                "p95": p95, "max": max })
        })
        .collect();
    assert_eq!(read, Value::Array(expected));
}

#[test]
fn the_interval_log_states_start_and_units() {
    let mut run = several();
    run.workloads[1].plan.name = "a, b%\n\u{e9}".into();
    // The window ended amid its last second.
    run.workloads[1].results.as_mut().unwrap().arrivals.measured_s = 9.25;
    let text = hlog::render(&run).unwrap();
    let head: String = text.lines().take(7).map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!(head);
    assert!(text.contains("\nTag=a%2C%20b%25%0A%C3%A9,7.500,1.000,"), "{text}");
    assert!(text.contains("\nTag=a%2C%20b%25%0A%C3%A9,16.500,0.250,"), "{text}");
    assert!(text.lines().skip(7).all(|line| line.starts_with("Tag=") && line.matches(',').count() == 4));
}

// csv -----------------------------------------------------------------------------------------------------------------

#[test]
fn seconds_are_lines_with_what_is_known() {
    let (run, _) = with_a_silent_second();
    let text = csv::render(&run);
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 21);
    assert_eq!(lines[0], "workload,second,started,ok,p50_us,p95_us,max_us");
    let first = &run.measured().next().unwrap().1.timeline[0];
    let (p50, p95, max) = (first.p50_us.unwrap(), first.p95_us.unwrap(), first.max_us.unwrap());
    assert_eq!(lines[1], format!("agent_storm,0,200,200,{p50},{p95},{max}"));
    assert!(lines[5].starts_with("agent_storm,4,200,0,") && lines[5].ends_with(','), "{}", lines[5]);
}

#[test]
fn python_reads_the_seconds_and_foreign_names() {
    needs!(Readers);
    let mut run = several();
    run.workloads[0].plan.name = HOSTILE.into();
    let read = read_by_python("csv", csv::render(&run));
    let rows = read.as_array().unwrap();
    assert_eq!(rows.len(), 20);
    // Otherwise a spreadsheet would calculate it.
    assert_eq!(rows[0]["workload"], format!("'{HOSTILE}"));
    assert_eq!((&rows[19]["workload"], &rows[19]["second"]), (&json!("list_certificates"), &json!("9")));
    assert!(rows.iter().all(|row| row["started"] == "200" && row.as_object().unwrap().len() == 7), "{rows:?}");
}

// openmetrics ---------------------------------------------------------------------------------------------------------

#[test]
fn the_page_of_a_run_has_its_form() {
    insta::assert_snapshot!(openmetrics::render(&summary(right(), 2_000)).unwrap());
}

/// Returns a run whose texts are all hostile.
fn hostile() -> Summary {
    let mut run = several();
    run.about.scenario = HOSTILE.into();
    run.about.system.version = HOSTILE.to_owned();
    run.workloads[1].plan.name = HOSTILE.into();
    run.workloads[1].results.as_mut().unwrap().steps[0].name = HOSTILE.into();
    run.thresholds.push(threshold(HOSTILE, Unit::Share, 0.5, Some(0.75)));
    run.breaches.push(HOSTILE.to_owned());
    run
}

#[test]
fn the_strict_parser_reads_the_openmetrics() {
    needs!(Readers);
    for run in [summary(right(), 2_000), several(), hostile()] {
        let families = read_by_python("openmetrics", openmetrics::render(&run).unwrap());
        let samples = |name: &str| -> Vec<Value> {
            let found = families.as_array().unwrap().iter().find(|family| family["name"] == name);
            found.unwrap_or_else(|| panic!("no {name}"))["samples"].as_array().unwrap().clone()
        };
        for (plan, results) in run.measured() {
            let of = |sample: &Value| sample["labels"]["workload"] == *plan.name;
            let started = samples("certctl_bench_arrivals_started").into_iter().find(of).unwrap();
            assert_eq!(started["value"].as_f64(), Some(results.arrivals.started as f64));
            assert_eq!(started["labels"]["scenario"], *run.about.scenario);
            let response = samples("certctl_bench_latency_seconds").into_iter().filter(of);
            let response: Vec<Value> = response.filter(|one| one["labels"]["measure"] == "response").collect();
            let facts = &results.latency.response;
            for (quantile, us) in [("0.5", facts.p50_us), ("0.99", facts.p99_us), ("0.999", facts.p99_9_us)] {
                let found = response.iter().find(|one| one["labels"]["quantile"] == quantile);
                assert_eq!(
                    found.and_then(|one| one["value"].as_f64()),
                    us.map(|us| (us * 1e3).round() / 1e9),
                    "{quantile}"
                );
            }
            let buckets: Vec<Value> = samples("certctl_bench_response_seconds").into_iter().filter(of).collect();
            let last = buckets.iter().find(|one| one["labels"]["le"] == "+Inf").unwrap();
            assert_eq!(last["value"].as_f64(), Some(facts.count as f64));
        }
    }
}

#[test]
fn buckets_hold_the_samples_up_to_their_bounds() {
    let page = openmetrics::render(&timed((1..=100).map(|ms| ms * 1_000_000 - 500_000))).unwrap();
    let bucket = |bound: &str| {
        let start = "certctl_bench_response_seconds_bucket{scenario=\"agent_storm\",workload=\"agent_storm\"";
        let start = format!("{start},le=\"{bound}\"}} ");
        let found = page.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or_else(|| panic!("no {bound}: {page}")).to_owned()
    };
    for (bound, count) in [("0.0001", 0), ("0.001", 1), ("0.0025", 3), ("0.05", 50), ("0.1", 100), ("+Inf", 100)] {
        assert_eq!(bucket(bound), count.to_string(), "{bound}");
    }
}

#[test]
fn prometheus_reads_the_openmetrics() {
    needs!(Promtool);
    let promtool = tools().join("readers/promtool");
    for run in [several(), hostile()] {
        let page = openmetrics::render(&run).unwrap();
        // The format before OpenMetrics. It has another name for a counter, and so takes its head for another family's:
        // nothing else is criticized.
        let (folder, file) = saved(&page);
        let output =
            Command::new(&promtool).args(["check", "metrics"]).stdin(fs::File::open(&file).unwrap()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(
            said.lines().all(|line| line.ends_with("_total no help text")) && said.contains("arrivals_late_total"),
            "{said}"
        );
        // Prometheus's own parser, which wants a time for what it stores.
        let timed = page.lines().map(|line| match line.starts_with('#') {
            true => format!("{line}\n"),
            false => format!("{line} 1767225600\n"),
        });
        fs::write(&file, timed.collect::<String>()).unwrap();
        let blocks = folder.path().join("blocks");
        let output = Command::new(&promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([Path::new(&file), &blocks])
            .output()
            .unwrap();
        stdout_of(output);
        // It wants one to be there.
        fs::create_dir(blocks.join("wal")).unwrap();
        let dump = stdout_of(Command::new(&promtool).args(["tsdb", "dump"]).arg(&blocks).output().unwrap());
        assert_eq!(dump.lines().count(), page.lines().filter(|line| !line.starts_with('#')).count(), "{dump}");
    }
}

// k6-summary ----------------------------------------------------------------------------------------------------------

fn of_k6(run: &Summary) -> Value {
    serde_json::from_str(&k6::render(run).unwrap()).unwrap()
}

#[test]
fn the_summary_has_the_form_of_k6() {
    insta::assert_snapshot!(k6::render(&summary(right(), 2_000)).unwrap());
}

#[test]
fn workloads_and_steps_have_the_names_of_k6_scripts() {
    let mut run = several();
    let mut breached = threshold("page p95", Unit::Ms, 800.0, Some(950.0));
    breached.workload = Some("list_certificates".into());
    (breached.step, breached.quantile) = (Some("page".into()), Some("p95".to_owned()));
    run.thresholds.push(breached);
    run.thresholds.push(threshold("errors but 429", Unit::Share, 0.001, Some(0.0)));
    run.thresholds.push(threshold("failed attempts to connect", Unit::Share, 0.001, Some(0.0)));
    let mut undecided = threshold("response time p99", Unit::Ms, 800.0, None);
    (undecided.workload, undecided.quantile) = (Some("list_certificates".into()), Some("p99".to_owned()));
    run.thresholds.push(undecided);
    let metrics = &of_k6(&run)["metrics"];
    // True is a breach, to k6.
    let page = &metrics["http_req_duration{scenario:list_certificates,name:page}"];
    assert_eq!((&page["thresholds"], page["max"].as_f64() > Some(999.0)), (&json!({ "p(95)<800": true }), true));
    assert_eq!(
        metrics["http_req_failed{server_error:true}"],
        json!({ "value": 0.0, "thresholds": { "rate<0.001": false } })
    );
    assert_eq!(metrics["http_req_duration{scenario:list_certificates}"].get("thresholds"), None);
    assert_eq!(metrics["http_reqs"], json!({ "count": 4_000 }), "their windows need not lie side by side");
    assert_eq!(metrics["http_reqs{scenario:agent_storm}"], json!({ "count": 2_000, "rate": 200.0 }));
    // All together: the distribution of both.
    let [all, storm, lists] = ["", "{scenario:agent_storm}", "{scenario:list_certificates}"]
        .map(|tag| metrics[&format!("http_req_duration{tag}")]["avg"].as_f64().unwrap());
    assert!((all - (storm + lists) / 2.0).abs() < 0.01, "{all}: {storm}, {lists}");

    run.workloads[0].plan.name = "nginx_handshake".into();
    run.workloads[1].plan.name = "acme_burst".into();
    let names: Vec<String> = of_k6(&run)["metrics"].as_object().unwrap().keys().cloned().collect();
    for name in ["http_req_duration{target_type:nginx}", "http_req_duration{scenario:acme_burst}", "acme_page_duration"]
    {
        assert!(names.iter().any(|known| known == name), "no {name}: {names:?}");
    }
}

#[test]
fn a_journey_is_an_iteration_to_k6() {
    let mut run = summary(right(), 2_000);
    run.workloads[0].plan.name = "enqueue".into();
    results(&mut run).steps = ["renew", "fetch"].map(|name| step(name, 2_000)).into();
    let metrics = &of_k6(&run)["metrics"];
    assert_eq!(metrics["iterations"]["count"], 2_000);
    // The tag is that of the scripts: the name of the run, where it has one workload.
    assert!(metrics["iteration_duration{scenario:agent_storm}"]["avg"].is_f64(), "{metrics:#}");
    assert!(metrics["group_duration{scenario:agent_storm,group:::fetch}"]["avg"].is_f64(), "{metrics:#}");
    // How many requests it took, and how long one was, is not known.
    assert!(metrics.get("http_reqs").is_none() && metrics.get("http_req_duration").is_none(), "{metrics:#}");
}

#[test]
fn quantiles_of_too_few_samples_are_left_out() {
    let metrics = &of_k6(&timed((1..=30).map(|ms| ms * 1_000_000)))["metrics"];
    let known: Vec<&String> = metrics["http_req_duration"].as_object().unwrap().keys().collect();
    assert_eq!(known, ["avg", "max", "med", "min"]);
    let page = openmetrics::render(&timed([1_000_000])).unwrap();
    assert!(!page.contains("measure=\"response\",quantile="), "{page}");
}

// junit ---------------------------------------------------------------------------------------------------------------

/// Returns runs that passed, breached, proved nothing, and could not be judged.
fn verdicts() -> [Summary; 4] {
    let broken = |index: u64| if index < 10 { Outcome::Failed(500) } else { Outcome::Ok };
    let mut undecided = summary(right(), 2_000);
    (undecided.thresholds[0].measured, undecided.thresholds[0].passed) = (None, None);
    [summary(right(), 2_000), summary(measurement(broken), 2_000), summary(right(), 1_999), undecided]
}

#[test]
fn the_verdict_has_the_form_of_junit() {
    let [_, breached, invalid, _] = verdicts();
    insta::assert_snapshot!(junit::render(&breached) + "\n" + &junit::render(&invalid));
}

#[test]
fn a_junit_reader_counts_cases_by_their_result() {
    needs!(Readers);
    let read = verdicts().map(|run| read_by_python("junit", junit::render(&run))[0].clone());
    for (suite, counts) in read.iter().zip([[3, 0, 0, 0], [3, 1, 0, 0], [3, 0, 1, 2], [3, 0, 0, 1]]) {
        let [tests, failures, errors, skipped] = counts;
        let stated = ["tests", "failures", "errors", "skipped"].map(|name| suite[name].as_u64().unwrap());
        assert_eq!(stated, [tests, failures, errors, skipped], "{suite:#}");
        assert_eq!((&suite["name"], suite["time"].as_f64()), (&json!("agent_storm"), Some(10.0)));
        let cases = suite["cases"].as_array().unwrap();
        assert_eq!(cases.len() as u64, tests);
        assert!(cases.iter().all(|case| case["class"] == "agent_storm" && case["time"] == 0.0), "{suite:#}");
    }
    let results = |suite: usize, case: usize| &read[suite]["cases"][case]["results"];
    assert_eq!(*results(1, 1), json!([["Failure", "0.5%, limit 0.1%"]]));
    assert_eq!(results(2, 0)[0], json!(["Skipped", "the run is invalid"]));
    assert_eq!(results(2, 2)[0][0], "Error");
    assert_eq!(results(3, 0)[0], json!(["Skipped", "too few samples: 2000, limit 500 ms"]));
    assert_eq!(read[1]["properties"]["verdict"], "threshold breached");
    let hostile = read_by_python("junit", junit::render(&hostile()));
    let shown = HOSTILE.replace('\u{1}', "\\u{1}").replace('\u{1b}', "\\u{1b}").replace('\u{ffff}', "\\u{ffff}");
    // In an attribute, an end of a line is a space to every reader.
    assert_eq!(hostile[0]["cases"][0]["class"], shown.replace('\r', "\\u{d}").replace('\n', " "));
}

/// Returns any character, often one that XML forbids or gives a meaning.
fn letter() -> impl Strategy<Value = char> {
    prop_oneof![any::<char>(), prop::sample::select(HOSTILE.chars().collect::<Vec<_>>())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn junit_holds_no_character_that_xml_forbids(letters in prop::collection::vec(letter(), 0..40)) {
        let text: String = letters.into_iter().collect();
        let mut run = summary(right(), 2_000);
        run.about.scenario = text.clone().into();
        run.thresholds[0].name.clone_from(&text);
        run.breaches.push(text);
        let report = junit::render(&run);
        let allowed = |letter: char| matches!(letter, '\n' | '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        prop_assert!(report.chars().all(allowed), "{report}");
        // What is foreign opens and closes nothing.
        prop_assert_eq!(report.matches('<').count(), report.matches('>').count());
        prop_assert_eq!(report.matches("<testcase ").count(), 4);
    }
}

// The verb ------------------------------------------------------------------------------------------------------------

fn export(folder: &Path, arguments: &str) -> Output {
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    command.arg("export").args(arguments.split_whitespace()).current_dir(folder).output().unwrap()
}

fn saved_run(run: &Summary) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    certctl_bench::report::result_files::save(run, folder.path()).unwrap();
    folder
}

#[test]
fn the_verb_writes_every_format_to_a_file_or_out() {
    let run = summary(stalled(1), 2_000);
    let folder = saved_run(&run);
    for (format, expected) in [
        ("hgrm", hgrm::render(&run, RESPONSE).unwrap()),
        ("hlog", hlog::render(&run).unwrap()),
        ("csv", csv::render(&run)),
        ("openmetrics", openmetrics::render(&run).unwrap()),
        ("k6-summary", k6::render(&run).unwrap()),
        ("junit", junit::render(&run)),
    ] {
        assert!(stdout_of(export(folder.path(), &format!(". --format {format}"))) == expected, "{format}");
        let to_file = format!("summary.json --format {format} --output out");
        assert_eq!(stdout_of(export(folder.path(), &to_file)), "", "{format}");
        assert!(fs::read_to_string(folder.path().join("out")).unwrap() == expected, "{format}");
    }
    let other =
        hgrm::render(&run, Choice { measure: "opening_tls", workload: Some("agent_storm"), step: None }).unwrap();
    let arguments = ". --format hgrm --measure opening_tls --workload agent_storm";
    assert_eq!(stdout_of(export(folder.path(), arguments)), other);
}

#[test]
fn a_wrong_use_of_the_verb_is_named_with_a_hint() {
    let folder = saved_run(&several());
    for (arguments, message) in [
        (".", "--format"),
        (". --format har", "[possible values: hgrm, hlog, csv, openmetrics, k6-summary, junit, otlp]"),
        ("absent --format csv", "error: reading absent: "),
        (". --format csv --step page", "error: --step applies only to --format hgrm\nhint: leave --step out"),
        (". --format hgrm", "error: the run has 2 workloads\nhint: choose one with --workload: agent_storm,"),
        (". --format csv --output summary.json", "error: summary.json is both an input and an output"),
        (". --format csv --output absent/x", "error: writing absent/x: "),
    ] {
        let output = export(folder.path(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments}: {stderr}");
        assert!(stderr.contains(message), "{arguments}: {stderr}");
    }
}

/// Returns the metric of this name.
fn metric<'r>(request: &'r Value, name: &str) -> &'r Value {
    let metrics = request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("no {name}: {request:#}"))
}

#[test]
fn a_collectors_protocol_has_all_samples() {
    needs!(Readers);
    let run = several();
    let read = read_by_python("otlp", otlp::render(&run).unwrap());
    let points = metric(&read, "certctl_bench.response_time")["exponentialHistogram"]["dataPoints"].as_array().unwrap();
    assert_eq!(points.len(), 2, "one for each workload: {points:#?}");
    let steps = metric(&read, "certctl_bench.step.response_time")["exponentialHistogram"]["dataPoints"].as_array();
    assert_eq!(steps.map(Vec::len), Some(2), "apart from those of their workload");
    for (point, facts) in points.iter().zip([&run.workloads[0], &run.workloads[1]].map(|one| {
        let results = one.results.as_ref().unwrap();
        &results.latency.response
    })) {
        let samples = facts.distribution().unwrap();
        let counts: Vec<u64> = point["positive"]["bucketCounts"].as_array().unwrap().iter().map(number).collect();
        assert_eq!((number(&point["count"]), counts.iter().sum::<u64>()), (samples.count(), samples.count()));
        // The median lies in the bucket of its rank: base 2^(1/32), from the offset on.
        let (offset, mut below) = (point["positive"]["offset"].as_i64().unwrap(), 0);
        let at = counts.iter().position(|count| {
            below += count;
            below * 2 >= samples.count()
        });
        let bound = |index: i64| 2_f64.powf(index as f64 / 32.0);
        let median_s = samples.value_ns(0.5) as f64 / 1e9;
        let index = offset + at.unwrap() as i64;
        assert!(bound(index) < median_s * 1.001 && median_s <= bound(index + 1) * 1.001, "{median_s}: {index}");
    }
    let arrivals = &metric(&read, "certctl_bench.arrivals")["sum"];
    assert_eq!(arrivals["aggregationTemporality"], "AGGREGATION_TEMPORALITY_DELTA");
    let resource = read["resourceMetrics"][0]["resource"]["attributes"].as_array().unwrap();
    let named = |key: &str| resource.iter().find(|one| one["key"] == key).unwrap()["value"]["stringValue"].clone();
    assert_eq!(
        (named("service.name"), named("certctl_bench.scenario")),
        ("certctl-bench".into(), "agent_storm".into())
    );
}

/// Returns a count, which JSON of protobuf has as text.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64()).unwrap()
}

/// Answers one request with these bytes, and returns what it was sent.
fn receiver(answer: &'static [u8]) -> (String, std::thread::JoinHandle<Vec<u8>>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut sent = Vec::new();
        loop {
            let mut bytes = [0; 4_096];
            let count = stream.read(&mut bytes).unwrap();
            sent.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&sent);
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
            if sent.len() == head.len() + 4 + length.parse::<usize>().unwrap() {
                break;
            }
        }
        stream.write_all(answer).unwrap();
        sent
    });
    (url, taken)
}

#[test]
fn a_run_is_sent_to_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    crate::common::runs::save(&summary(right(), 2_000), folder.path());
    let send = |url: &str| {
        let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        command
            .args(["export", folder.path().to_str().unwrap(), "--format", "otlp", "--endpoint", url])
            .output()
            .unwrap()
    };
    let (url, taken) = receiver(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(send(&url).status.code(), Some(0));
    let sent = taken.join().unwrap();
    let request = otlp::render(&summary(right(), 2_000)).unwrap();
    assert!(sent.starts_with(b"POST /v1/metrics HTTP/1.1\r\n"));
    assert!(sent.len() > request.len() && String::from_utf8_lossy(&sent).contains("application/x-protobuf"));
    // What a collector refuses, all of it or a part, is an error that says so.
    for (answer, words) in [
        (&b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..], "it answered with status 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x0a\x07\x08\x03\x12\x03bad", "it rejected 3 points: bad"),
        (b"nonsense\r\n\r\n", "sending the run to http://127.0.0.1:"),
    ] {
        let (url, taken) = receiver(answer);
        let output = send(&url);
        taken.join().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
    for url in ["https://127.0.0.1:4318", "http://127.0.0.1", "http://user@127.0.0.1:4318"] {
        assert_eq!(send(url).status.code(), Some(2), "{url}");
    }
}
