//! `agent_storm` from its front door: exit codes, results, secrets, and a check that nothing that it started is left.
//!
//! These tests need PostgreSQL 15 or newer and are skipped without.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certctl_bench::provision::child::RunAs;
use certctl_bench::provision::postgres::{BIN_VARIABLE, Cluster, find};
use certctl_bench::seed;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::common::bench::{Bench, Finished, Running};
use crate::common::needs::needs;
use crate::common::peer::{Peer, TOKEN, answer, certctl, json};
use crate::common::process::{Process, limit, send, until};
use crate::common::summary::{assert_schema, outcome, reasons, results};
use certctl_bench::system::Store;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Resource, Signal, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A workload at which p99 has its thousand samples after a few seconds. Its schedule lag is not the subject of these
/// tests.
const SHORT: &str = "--rate 600/s --duration 2s --warm-up 250ms --agents 200";
/// The same for a PostgreSQL, which has a disk to wait for. The live line appears once a second, so that it shows this
/// warm-up.
const ON_POSTGRESQL: &str = "--rate 200/s --duration 6s --warm-up 1500ms --agents 200";
/// The processes that a run on a private PostgreSQL starts: the keeper is a shell, and PostgreSQL is several processes.
const STARTED: [&str; 3] = ["certctl-referen", "postgres", "sh"];

// The default ---------------------------------------------------------------------------------------------------------

/// One run of the embedded default, with the processes that it started, for several tests.
struct Default {
    finished: Finished,
    started: Vec<Process>,
    folder: PathBuf,
}

static DEFAULT: LazyLock<Default> = LazyLock::new(|| {
    let mut running = Bench::new(&format!("--bench --mode sustained {ON_POSTGRESQL}")).start();
    running.wait_until_measuring();
    let (started, folder) = (running.started(&STARTED), data_folder(&running));
    assert!(folder.exists(), "{}", folder.display());
    Default { finished: running.finish().worked(), started, folder }
});

/// Returns the folder of the data of a run's private PostgreSQL.
fn data_folder(running: &Running) -> PathBuf {
    std::env::temp_dir().join(format!("certctl-bench-pg-{}-0", running.pid()))
}

#[test]
fn the_default_run_works_on_postgresql() {
    needs!(Postgresql);
    let finished = &DEFAULT.finished;
    let summary = finished.summary();
    assert_eq!((&summary["schema_version"], &summary["scenario"]), (&4.into(), &"agent_storm".into()));
    assert_eq!(summary["exit_code"], finished.code.unwrap());
    assert_eq!(summary["system"]["kind"], "reference");
    assert_eq!(summary["system"]["settings"]["fsync"], "on");
    assert_store(finished, "(private)");
    assert!(finished.stderr.contains("starting a private PostgreSQL 1"), "{}", finished.stderr);
    // Later lines come each second, of which a busy machine may miss some.
    assert!(finished.stderr.contains("\nopening    0 of 200 connections\n"), "{}", finished.stderr);
    // The terminal shows the lines of summary.txt, and its path.
    for line in finished.text.as_ref().unwrap().lines() {
        assert!(finished.stdout.contains(line), "not on the terminal: {line}");
    }
    let arrivals = "arrivals     scheduled 1200, started 1200, ";
    let verdict = format!(" (exit {})\n", summary["exit_code"]);
    assert!(finished.stdout.contains(arrivals) && finished.stdout.contains(&verdict), "{}", finished.stdout);
    assert!(finished.stdout.contains("results/summary.{json,txt}"));

    assert_eq!((outcome(&summary, "ok"), &results(&summary)["arrivals"]["warm_up"]), (1_200, &300.into()));
    // 200 agents, each with an accepted heartbeat in its row; 1,500 audit rows, warm-up included.
    let work: Vec<_> =
        results(&summary)["work"].as_array().unwrap().iter().map(|work| (&work["claimed"], &work["found"])).collect();
    assert_eq!(work, [(&200.into(), &200.into()), (&1_500.into(), &1_500.into())]);
    // A connection of its own for each agent, opened before the window, and none after.
    assert_eq!(
        (&results(&summary)["opening"]["tls"]["count"], &results(&summary)["reopening"]["tls"]["count"]),
        (&200.into(), &0.into())
    );
    let kinds = results(&summary)["opening"]["kinds"].as_array().unwrap();
    assert_eq!((kinds.len(), &kinds[0]["kind"], &kinds[0]["version"]), (1, &"full".into(), &"TLS1.3".into()));
    assert_eq!(kinds[0]["count"], 200);
}

/// Asserts that header, summary.txt and summary.json name the store.
fn assert_store(finished: &Finished, store: &str) {
    let summary = finished.summary();
    let named = serde_json::from_value::<Store>(summary["system"]["store"].clone()).unwrap().to_string();
    assert!(named.contains(store), "{named}");
    let row = format!("             store {named}");
    assert!(finished.stdout.contains(&row), "{}", finished.stdout);
    assert!(finished.text.as_ref().unwrap().contains(&row));
}

#[test]
fn the_summary_follows_its_schema() {
    needs!(Postgresql);
    assert_schema(&DEFAULT.finished.summary());
}

#[test]
fn decoded_histograms_agree_with_the_summary() {
    needs!(Postgresql);
    let summary = DEFAULT.finished.summary();
    let mut decoded = 0;
    for facts in distributions(&summary).filter(|facts| facts["count"] != 0) {
        let histogram = decode(&facts["hdr_ns"]);
        assert_eq!(facts["count"], histogram.len());
        let us = |name: &str| facts[name].as_f64();
        for (name, quantile, needed) in [("p50_us", 0.5, 20), ("p95_us", 0.95, 200), ("p99_us", 0.99, 1_000)] {
            let value = histogram.value_at_quantile(quantile) as f64 / 1e3;
            assert_eq!(us(name), (histogram.len() >= needed).then_some(value), "{name} of {facts}");
        }
        assert_eq!((us("p99_9_us"), us("max_us")), (None, Some(histogram.max() as f64 / 1e3)));
        decoded += 1;
    }
    // Response, service, own part, certain, lag, send, first byte, receive, dial, handshake.
    assert_eq!(decoded, 10);
    let count = |what: &str| results(&summary)["latency"][what]["count"].as_u64().unwrap();
    assert_eq!((count("response"), count("service"), count("schedule_lag")), (1_200, 1_200, 1_200));
}

/// Returns every distribution of a summary.
fn distributions(summary: &Value) -> impl Iterator<Item = &Value> {
    let latency = results(summary)["latency"].as_object().unwrap().values();
    let handshakes =
        ["opening", "reopening"].map(|when| [&results(summary)[when]["dial"], &results(summary)[when]["tls"]]);
    latency.chain(handshakes.into_iter().flatten())
}

fn decode(base64: &Value) -> Histogram<u64> {
    let bytes = STANDARD.decode(base64.as_str().unwrap()).unwrap();
    Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
}

#[test]
fn the_timeline_has_every_second_and_every_arrival() {
    needs!(Postgresql);
    let summary = DEFAULT.finished.summary();
    let timeline = results(&summary)["timeline"].as_array().unwrap();
    let column = |name: &str| -> Vec<u64> { timeline.iter().map(|second| second[name].as_u64().unwrap()).collect() };
    assert_eq!(column("second"), [0, 1, 2, 3, 4, 5]);
    assert_eq!((column("started"), column("ok")), (vec![200; 6], vec![200; 6]));
    // Merged, its histograms are the whole run's, to within their 1%.
    let mut merged = Histogram::<u64>::new(3).unwrap();
    timeline.iter().for_each(|second| merged.add(decode(&second["hdr_us"])).unwrap());
    let stated = results(&summary)["latency"]["response"]["p95_us"].as_f64().unwrap();
    let ratio = merged.value_at_quantile(0.95) as f64 / stated;
    assert!(merged.len() == 1_200 && (ratio - 1.0).abs() < 0.02, "{ratio}");
    // The warm-up is kept apart, complete, and counted nowhere else.
    let warm_up = results(&summary)["warm_up_timeline"].as_array().unwrap();
    let started: u64 = warm_up.iter().map(|second| second["started"].as_u64().unwrap()).sum();
    assert!(started > 0);
    assert_eq!(started, results(&summary)["arrivals"]["warm_up"]);
    assert_eq!(warm_up.len() as f64, summary["workloads"][0]["plan"]["warm_up_s"].as_f64().unwrap().ceil());
}

#[test]
fn an_in_memory_run_works_and_is_marked() {
    let finished = Bench::new(&format!("--bench --mode sustained --in-memory {SHORT}")).run().worked();
    assert_store(&finished, "in-memory");
    let summary = finished.summary();
    let work = &results(&summary)["work"][0];
    assert_eq!((&work["claimed"], &work["found"]), (&1_350.into(), &1_350.into()));
    assert!(!finished.stderr.contains("PostgreSQL"), "{}", finished.stderr);
}

#[test]
fn the_default_without_postgresql_is_in_memory() {
    needs!(Postgresql);
    let installed = find().expect("PostgreSQL").bin;
    let hidden = c"/usr/lib/postgresql";
    // Only root can hide it, and only where nothing else is installed beside it.
    if !geteuid().is_root() || !installed.starts_with(hidden.to_str().unwrap()) {
        return;
    }
    let mut bench = Bench::new("--mode sustained");
    bench.command.env_remove(BIN_VARIABLE);
    let hide = move || {
        // SAFETY: the new mounts are those of a process that has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        Ok(mount(c"none", hidden, c"tmpfs", MountFlags::empty(), None)?)
    };
    // SAFETY: the closure makes async-signal-safe system calls and does not allocate.
    unsafe { bench.command.pre_exec(hide) };
    let finished = bench.run().exits(0);
    assert_store(&finished, "in-memory");
    for message in ["looking for PostgreSQL 15 or newer", "hint: install it", "keeps its rows in memory"] {
        assert!(finished.stderr.contains(message), "{}", finished.stderr);
    }
}

#[test]
fn the_workload_runs_after_the_criterion_loop() {
    let arguments = "--bench --in-memory --quick --noplot --rate 100/s --duration 1s --warm-up 0s --agents 50";
    // A second at 100/s is too short for p99.
    let finished = Bench::new(arguments).run().invalid_or_breached();
    assert!(finished.stdout.contains("agent_storm/heartbeat") && finished.stdout.contains("time:   ["));
    assert!(reasons(&finished.summary()).contains("response time p99 needs 1000 right answers, this run has 100"));
}

// Usage ---------------------------------------------------------------------------------------------------------------

#[test]
fn usage_errors_exit_2_and_name_the_fault() {
    for (arguments, message) in [
        ("--no-such-flag", "unexpected argument '--no-such-flag'"),
        ("--rate 0", "a rate must be above 0"),
        ("--rate 10/fortnight", "the unit after / is s, m or h"),
        ("--duration 0s", "must be longer than 0"),
        ("--duration 5", "write it as 30s, 5m or 500ms"),
        ("--connections 0", "0 is not in 1..=100000"),
        ("--mode forever", "[possible values: loop, sustained, both]"),
        ("--arrivals rarely", "give constant, jittered or poisson"),
        ("--max-lag 2s --timeout 1s", "--max-lag must be below --timeout"),
        ("--target http://localhost:1", "only HTTPS is supported"),
        ("--target https://localhost/api", "the base URL must not have a path"),
        ("--target localhost:8443", "write it as https://host:port"),
        ("--target https://localhost:1 --ca-file /nonexistent/ca.pem", "CA file /nonexistent/ca.pem: No such file"),
        ("--target https://localhost:1 --ca-file /etc/hostname", "CA file /etc/hostname holds no certificate"),
        ("--target https://localhost:1 --insecure --ca-file x", "cannot be used with"),
        ("--target https://localhost:1 --in-memory", "cannot be used with"),
        ("[", "the filter is not a regular expression"),
        ("CERTCTL_LOG_LEVEL=info", "CERTCTL_LOG_LEVEL=… is taken for a filter"),
    ] {
        let finished = Bench::new(&format!("--bench {arguments}")).refused(2);
        assert!(finished.stderr.contains(message), "{arguments}: {}", finished.stderr);
        assert_eq!((finished.stdout.as_str(), &finished.json), ("", &None), "{arguments}");
    }
    let mut bench = Bench::new("--bench");
    bench.command.env("CERTCTL_BENCH_RATE", "many");
    assert!(bench.refused(2).stderr.contains("`many`: write a rate as"));
    let mut bench = Bench::new("--bench --target https://localhost:1 --insecure");
    bench.command.env("CERTCTL_TOKEN", "secret token");
    let finished = bench.refused(2);
    assert!(finished.stderr.contains("the token (--token, CERTCTL_TOKEN)") && !finished.stderr.contains("secret"));
}

#[test]
fn list_and_filter_follow_criterion() {
    let (both, loop_, sustained) = (
        "agent_storm/heartbeat: benchmark\nagent_storm/sustained: benchmark\n",
        "agent_storm/heartbeat: benchmark\n",
        "agent_storm/sustained: benchmark\n",
    );
    for (arguments, listed) in [
        ("", both),
        ("storm", both),
        ("heart", loop_),
        ("^agent_storm/s", sustained),
        ("--exact agent_storm/sustained", sustained),
        ("--exact agent_storm", ""),
        ("--mode loop", loop_),
        ("--mode sustained", sustained),
        ("--mode sustained heart", ""),
        ("--ignored", ""),
    ] {
        let finished = Bench::new(&format!("--bench --list {arguments}")).run().exits(0);
        assert_eq!(finished.stdout, listed, "{arguments}");
    }
    // A filter that matches nothing starts nothing.
    let finished = Bench::new("--bench nothing_of_the_kind").run().exits(0);
    let why = "agent_storm: the filter matches no benchmark here; --list shows their ids\n";
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", why));
    // One that matches the workload leaves the loop out.
    let finished = Bench::new("--in-memory sustained").run().exits(0);
    assert!(finished.stdout.contains("(exit 0)") && !finished.stdout.contains("Criterion loop"));
    assert!(Bench::new("--help").run().exits(0).stdout.contains("Exit codes: 0 pass"));
}

#[test]
fn a_smoke_run_checks_answers_without_a_verdict() {
    let finished = Bench::new("").run().exits(0);
    let summary = finished.summary();
    assert_eq!((summary["verdict"].as_str(), summary["invalid"].as_array().map(Vec::len)), (Some("smoke"), Some(0)));
    assert_eq!(outcome(&summary, "ok"), 100);
    assert!(finished.stdout.contains("Testing agent_storm/heartbeat"), "{}", finished.stdout);
    assert!(finished.stdout.contains("smoke run, not judged (exit 0)"), "{}", finished.stdout);
    assert!(finished.stdout.contains("results/smoke/summary.{json,txt}"), "{}", finished.stdout);
}

#[test]
fn a_smoke_run_with_failed_requests_fails() {
    let peer = Peer::start(|request| if request.is_heartbeat() { json(503, "{}") } else { certctl(request) });
    let bench = Bench::new("--bench --test").smoke().towards_peer(&peer);
    assert_eq!(outcome(&bench.run().exits(5).summary(), "failed (503)"), 100);
}

// Verdicts ------------------------------------------------------------------------------------------------------------

#[test]
fn errors_beyond_the_threshold_exit_3() {
    let peer = Peer::start(move |request| {
        // Each fiftieth agent.
        let fails =
            request.is_heartbeat() && ["00/heartbeat", "50/heartbeat"].iter().any(|end| request.path.ends_with(end));
        if fails { json(500, "{\"message\":\"Failed to record heartbeat\"}") } else { certctl(request) }
    });
    let finished = Bench::at(&peer, SHORT).run().exits(3);
    let summary = finished.summary();
    // 4 of 200 agents, six times each.
    assert_eq!((outcome(&summary, "failed (500)"), outcome(&summary, "ok")), (24, 1_176));
    assert_eq!(
        (&summary["error_share"], &results(&summary)["latency"]["failed_response"]["count"]),
        (&0.02.into(), &24.into())
    );
    assert_eq!(results(&summary)["latency"]["response"]["count"], 1_176);
    let thresholds: Vec<_> = summary["thresholds"].as_array().unwrap().iter().map(|one| &one["passed"]).collect();
    assert_eq!(thresholds, [true, true, false]);
    let example = "first failed (500): 500: {\"message\":\"Failed to record heartbeat\"}";
    assert!(finished.stdout.contains(example), "{}", finished.stdout);
    // The run itself reports that side effects were not checked.
    assert!(finished.stdout.contains("work         not checked: no database given"), "{}", finished.stdout);
    // The system is named as it names itself, and is not the reference server.
    assert!(
        finished.stdout.contains("system       certctl 9.8.7 (abc1234) at https://127.0.0.1:"),
        "{}",
        finished.stdout
    );
}

#[test]
fn wrong_answers_alone_are_a_clear_breach_and_exit_3() {
    let peer = Peer::start(|request| {
        if request.is_heartbeat() { json(200, "{\"status\":\"heartbeat_ignored\"}") } else { certctl(request) }
    });
    let summary = Bench::at(&peer, SHORT).run().exits(3).summary();
    assert_eq!((outcome(&summary, "wrong answer"), outcome(&summary, "ok")), (1_200, 0));
    // Nothing else was measured, and that is reported.
    assert!(reasons(&summary).contains("nothing was measured"), "{}", reasons(&summary));
    let errors = &summary["thresholds"][2];
    assert_eq!(
        (&errors["passed"], &errors["certain"], &errors["beyond"]),
        (&false.into(), &true.into(), &1_200.into())
    );
    let p99 = &summary["thresholds"][1];
    assert_eq!((&p99["measured"], &p99["passed"]), (&Value::Null, &Value::Null));
}

#[test]
fn heartbeats_without_side_effects_are_found_out() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().expect("PostgreSQL"), &[]).unwrap();
    cluster.create_database("certctl").unwrap();
    // This cluster requires no password, so that any may be given.
    let url = cluster.url("certctl").replace("postgres@", "postgres:recognisable-password@");
    let mut database = seed::connect(&url).unwrap();
    database.batch_execute(include_str!("../../src/reference/schema.sql")).unwrap();
    seed::apply(&url, &seed::SeedOptions::default(), &mut Vec::new()).unwrap();
    // It accepts every heartbeat and writes no row.
    let peer = Peer::start(certctl);
    let mut bench = Bench::at(&peer, SHORT);
    bench.command.env("CERTCTL_BENCH_DATABASE", &url);
    let mut running = bench.start();
    running.wait_until_measured();
    let finished = running.finish();
    // On a machine that is slow enough for a clear breach, that is the exit code.
    assert!(matches!(finished.code, Some(3 | 5)), "{finished:?}");
    let summary = finished.summary();
    assert_eq!(outcome(&summary, "ok"), 1_200);
    let reasons = reasons(&summary);
    assert!(reasons.contains("agents whose row shows their last accepted heartbeat: answers claim 200, SQL shows "));
    assert!(reasons.contains("audit rows of accepted heartbeats: answers claim 1350, SQL shows 0"), "{reasons}");
    assert!(finished.everything().iter().all(|text| !text.contains("recognisable")), "{finished:?}");
}

// Secrets -------------------------------------------------------------------------------------------------------------

#[test]
fn the_token_is_never_shown() {
    // A peer that repeats the token, as debugging proxies do.
    let peer = Peer::start(|request| {
        let token = request.token.clone().unwrap_or_default();
        if request.is_heartbeat() {
            answer(500, "text/plain", &format!("Bearer {token}\r\n"))
        } else {
            certctl(request)
        }
    });
    let finished = Bench::at(&peer, SHORT).run().exits(3);
    assert_eq!(outcome(&finished.summary(), "failed (500)"), 1_200);
    assert!(finished.everything().iter().all(|text| !text.contains(TOKEN)), "{finished:?}");

    let peer = Peer::start(|request| match &request.token {
        Some(token) => json(401, &format!("{{\"error\":\"unknown: {token}\"}}")),
        None => certctl(request),
    });
    let finished = Bench::at(&peer, SHORT).run().exits(1);
    assert!(finished.stderr.contains("the token is not known: unknown: "), "{}", finished.stderr);
    assert!(finished.everything().iter().all(|text| !text.contains(TOKEN)), "{finished:?}");
}

#[test]
fn the_database_password_is_never_shown() {
    let finished = Bench::new("--bench --database postgres://u:recognisable@127.0.0.1:1/db").refused(1);
    assert!(finished.stderr.contains("127.0.0.1"), "{}", finished.stderr);
    assert!(finished.everything().iter().all(|text| !text.contains("recognisable")), "{finished:?}");
}

/// Every user of a machine may read a command line; nobody else may read an environment.
#[test]
fn no_command_line_contains_a_secret() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().expect("PostgreSQL"), &[]).unwrap();
    cluster.create_database("certctl").unwrap();
    let mut bench = Bench::new(&format!("--bench --mode sustained {ON_POSTGRESQL}"));
    let url = cluster.url("certctl").replace("postgres@", "postgres:recognisable-password@");
    bench.command.env("CERTCTL_BENCH_DATABASE", url);
    let mut running = bench.start();
    running.wait_until_measuring();
    for process in running.started(&["certctl-referen"]) {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).unwrap();
        assert!(!line.contains("recognisable"), "{line}");
    }
    running.signal(Signal::INT);
    let finished = running.finish().invalid_or_breached();
    assert!(finished.everything().iter().all(|text| !text.contains("recognisable")), "{finished:?}");
}

// Ends ----------------------------------------------------------------------------------------------------------------

/// Asserts that nothing that a run had started is left, nor the data of its PostgreSQL.
fn assert_gone(started: &[Process], folder: &Path) {
    assert!(started.len() > STARTED.len(), "{started:?}");
    let left = || -> Vec<&Process> { started.iter().filter(|process| process.runs()).collect() };
    until("everything that was started is gone", || left().is_empty());
    until(&format!("{} is gone", folder.display()), || !folder.exists());
}

#[test]
fn a_successful_run_leaves_nothing_behind() {
    needs!(Postgresql);
    // A run that ends by itself has waited for the processes that it started.
    assert_eq!(DEFAULT.started.iter().find(|process| process.runs()), None);
    assert!(!DEFAULT.folder.exists());
    assert_gone(&DEFAULT.started, &DEFAULT.folder);
}

/// Starts a long run on a private PostgreSQL, and waits until it is in its window.
fn long_run() -> (Running, Vec<Process>, PathBuf) {
    let mut running =
        Bench::new("--bench --mode sustained --rate 200/s --duration 10m --warm-up 0s --agents 100").start();
    running.wait_until_measuring();
    let (started, folder) = (running.started(&STARTED), data_folder(&running));
    assert!(folder.exists());
    (running, started, folder)
}

#[test]
fn an_interrupted_run_keeps_its_measurements() {
    needs!(Postgresql);
    let (mut running, started, folder) = long_run();
    running.signal(Signal::INT);
    let finished = running.finish().invalid_or_breached();
    assert_gone(&started, &folder);
    let summary = finished.summary();
    let arrivals = &results(&summary)["arrivals"];
    assert_eq!(arrivals["partial"], true);
    let (measured_s, count) = (arrivals["measured_s"].as_f64().unwrap(), arrivals["scheduled"].as_u64().unwrap());
    assert!(measured_s > 0.0 && measured_s < 120.0 && count > 0, "{arrivals}");
    assert!((count as f64 / 200.0 - measured_s).abs() < 0.3, "{arrivals}");
    let timeline = results(&summary)["timeline"].as_array().unwrap();
    assert_eq!(timeline.len(), measured_s.ceil() as usize);
    assert_eq!(timeline.iter().map(|second| second["started"].as_u64().unwrap()).sum::<u64>(), arrivals["started"]);
    let outcomes = results(&summary)["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.iter().map(|one| one["count"].as_u64().unwrap()).sum::<u64>(), arrivals["started"]);
    assert!(reasons(&summary).contains("stopped"), "{}", reasons(&summary));
    assert!(finished.stdout.contains("PARTIAL"), "{}", finished.stdout);
}

#[test]
fn a_second_interrupt_ends_at_once_and_leaves_nothing() {
    needs!(Postgresql);
    let (mut running, started, folder) = long_run();
    running.interrupt_twice(Signal::INT);
    let finished = running.finish();
    assert_eq!((&finished.json, &finished.text), (&None, &None), "{}", finished.stderr);
    assert_gone(&started, &folder);
}

#[test]
fn a_killed_run_leaves_nothing_behind() {
    needs!(Postgresql);
    let (mut running, started, folder) = long_run();
    // The servers end with the run, not because the shell that keeps the folder removes it some time later.
    let (keepers, servers): (Vec<_>, Vec<_>) = started.iter().partition(|process| process.name == "sh");
    let pauses: Vec<_> = keepers.iter().map(|keeper| keeper.pause()).collect();
    running.signal(Signal::KILL);
    assert_eq!(running.finish().signal, Some(Signal::KILL.as_raw()));
    until("the servers are gone", || servers.iter().all(|server| !server.runs()));
    drop(pauses);
    assert_gone(&started, &folder);
}

#[test]
fn a_run_that_fails_leaves_nothing_behind() {
    needs!(Postgresql);
    // Opening 5,000 connections takes long enough to be interrupted, and then nothing was measured: an error.
    let mut running = Bench::new("--bench --mode sustained --connect-rate 50/s").start();
    until("connections are being opened", || {
        assert!(running.ended().is_none(), "{}", running.stderr());
        running.stderr().contains("opening ")
    });
    let (started, folder) = (running.started(&STARTED), data_folder(&running));
    assert!(folder.exists());
    running.signal(Signal::TERM);
    let finished = running.finish().exits(1);
    assert!(finished.stderr.contains("of 5000 connections: nothing was measured"), "{}", finished.stderr);
    assert_eq!(finished.json, None);
    assert_gone(&started, &folder);
}

#[test]
fn a_killed_system_is_measured_as_errors() {
    needs!(Postgresql);
    let mut running = Bench::new(
        "--bench --mode sustained --rate 200/s --duration 4s --warm-up 0s --agents 100 --max-lag 1900ms --timeout 2s",
    )
    .start();
    running.wait_until_measuring();
    let (started, folder) = (running.started(&STARTED), data_folder(&running));
    let server = started.iter().find(|process| process.name.starts_with("certctl-referen")).unwrap();
    // The server is the run's own child, and the run still holds it.
    send(server.pid, Signal::KILL);
    running.wait_until_measured();
    let finished = running.finish().exits(3);
    let summary = finished.summary();
    assert_eq!(
        (&results(&summary)["arrivals"]["scheduled"], &results(&summary)["arrivals"]["started"]),
        (&800.into(), &800.into())
    );
    assert!(outcome(&summary, "broken (connect)") > 0, "{}", results(&summary)["outcomes"]);
    assert_gone(&started, &folder);
}

// Users and limits ----------------------------------------------------------------------------------------------------

#[test]
fn an_unprivileged_user_can_run_the_default() {
    needs!(Postgresql);
    if !geteuid().is_root() {
        // Every other test has shown it then.
        return;
    }
    let nobody = RunAs::named("nobody").unwrap().expect("a user nobody");
    // The program runs the server from where it was built.
    let server = Path::new(env!("CARGO_BIN_EXE_certctl-reference"));
    let open = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o001 != 0;
    if let Some(shut) = server.ancestors().find(|path| !open(path)) {
        eprintln!("not tested: nobody may not pass through {}", shut.display());
        return;
    }
    let mut bench = Bench::new("--mode sustained");
    fs::set_permissions(bench.folder(), fs::Permissions::from_mode(0o777)).unwrap();
    bench.command.uid(nobody.uid).gid(nobody.gid).env_remove("TMPDIR").current_dir("/");
    let mut running = bench.start();
    let (started, folder) = (running.started(&STARTED), data_folder(&running));
    let summary = running.finish().exits(0).summary();
    assert_eq!(outcome(&summary, "ok"), 100);
    // From Linux 6.12 on with short slices.
    let scheduling = summary["generator"]["scheduling"].as_str().unwrap();
    assert!(["SCHED_OTHER", "SCHED_OTHER, slices of 0.1 ms"].contains(&scheduling), "{scheduling}");
    assert_gone(&started, &folder);
}

#[test]
fn a_low_descriptor_limit_is_named_with_its_fix() {
    let limited = |arguments: &str, soft: u64, hard: u64| {
        let mut bench =
            Bench::new(&format!("--bench --mode sustained --in-memory --generator-processes 1 {arguments}"));
        limit(&mut bench.command, Resource::Nofile, Some(soft), Some(hard));
        bench.run()
    };
    let refused = limited(SHORT, 100, 100).exits(1);
    assert_eq!(
        refused.messages(),
        "error: 200 connections need 264 file descriptors; the hard limit (RLIMIT_NOFILE) is 100\n\
         hint: run ulimit -Hn 264 as root before the run, or give --connections 36\n"
    );
    // Real agents share no connections, and a run without agents cannot be suggested.
    for (hard, lower) in [(100, ", or give --agents 36"), (20, "")] {
        let refused = limited("--fleet real --agents 200", hard, hard).exits(1).stderr;
        let hint = format!("\nhint: run ulimit -Hn 264 as root before the run{lower}\n");
        assert!(refused.ends_with(&hint), "{refused}");
    }
    // A low soft limit is raised.
    limited(SHORT, 100, 1_024).worked();
}
