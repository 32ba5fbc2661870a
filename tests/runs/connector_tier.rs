//! `connector_tier` from its front door: real daemons, each arrival a connection of its own.
//!
//! These tests need nginx, Apache httpd and HAProxy, and are skipped without.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use certctl_bench::cli::registry;
use certctl_bench::wire::tls::{Trust, client_config};
use rustix::process::Resource;
use serde_json::Value;

use crate::common::bench::{Bench, Finished, Running};
use crate::common::needs::needs;
use crate::common::peer::{Peer, Step, answer};
use crate::common::process::limit;
use crate::common::summary::{
    assert_only_too_short, assert_schema, measured, observed, outcome_of, reasons, results, threshold,
};

const DAEMONS: [&str; 4] = ["nginx", "apache", "haproxy", "f5"];
/// Two seconds of 20 connections/s to each daemon, on a machine that may have other things to do.
const BRIEF: &str = "--rate 20/s --duration 2s --warm-up 0s";

fn tier(arguments: &str) -> Finished {
    Bench::named("connector_tier", arguments).measured().run()
}

fn handshakes(results: &Value) -> Vec<(String, u64)> {
    let kinds = results["reopening"]["kinds"].as_array().unwrap();
    kinds.iter().map(|kind| (kind["kind"].as_str().unwrap().to_owned(), kind["count"].as_u64().unwrap())).collect()
}

#[test]
fn every_arrival_is_a_connection_with_a_full_handshake() {
    needs!(Nginx, Apache, Haproxy);
    let finished = tier(BRIEF);
    let summary = finished.summary();
    assert_schema(&summary);
    assert_only_too_short(&summary);
    let measured = measured(&summary);
    assert_eq!(measured.len(), DAEMONS.len());
    for ((name, results), daemon) in measured.into_iter().zip(DAEMONS) {
        assert_eq!(name, format!("{daemon}_handshake"));
        assert_eq!(outcome_of(results, "ok"), 40, "{daemon}");
        assert_work(results, daemon);
        assert_eq!(handshakes(results), [("full".to_owned(), 40)], "{daemon}");
        let tier = &summary["connector_tier"][daemon];
        assert_eq!((&tier["iterations"], &tier["error_rate"]), (&40.into(), &0.0.into()));
        // In this block quantiles are as the old harness gave them, of however few samples.
        let figures = ["p50", "p95", "p99", "max"].map(|name| tier[name].as_f64().unwrap_or(f64::NAN));
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{tier}");
        assert_eq!(results["latency"]["response"]["p99_us"], Value::Null);
        // Every phase of every connection is there.
        for phase in ["dial", "tls_hello", "tls_finish", "send", "first_byte", "receive"] {
            assert_eq!(results["latency"][phase]["count"], 40, "{daemon}: {phase}");
        }
    }
    let stdout = &finished.stdout;
    assert!(stdout.contains("started") && stdout.contains("TLS, to its answer"), "{stdout}");
}

/// Asserts that 40 arrivals had as many connections, by every count of them.
#[track_caller]
fn assert_work(results: &Value, daemon: &str) {
    let reported = results["work"].as_array().unwrap().iter().map(|work| {
        let text = |key: &str| work[key].as_str().unwrap().to_owned();
        (text("name"), text("source"), work["claimed"].as_u64().unwrap(), work["found"].as_u64().unwrap())
    });
    let own = ("right answers on a connection of their own".to_owned(), "the TLS library".to_owned(), 40, 40);
    let mocks = ("handshakes, warm-up included".to_owned(), "the F5 mock's own count".to_owned(), 40, 40);
    let expected = if daemon == "f5" { vec![own, mocks] } else { vec![own] };
    assert_eq!(reported.collect::<Vec<_>>(), expected, "{daemon}");
}

#[test]
fn arrivals_of_the_daemons_are_staggered() {
    let entry = registry::ALL.iter().find(|entry| entry.name == "connector_tier").unwrap();
    let starts = |flags: &[&str]| -> Vec<u128> {
        entry.load(flags).unwrap().workloads.iter().map(|one| one.plan.starts_after.as_micros()).collect()
    };
    assert_eq!(starts(&[]), [0, 150_000, 300_000, 450_000]);
    // The moments of a daemon do not depend on which others are loaded.
    assert_eq!(starts(&["--rate", "20/s", "--only", "apache,f5"]), [12_500, 37_500]);
}

#[test]
fn sessions_are_resumed_as_declared() {
    for (declared, full, resumed) in [("resumed", 0, 40), ("mixed", 20, 20)] {
        let summary = tier(&format!("{BRIEF} --resumption {declared}")).summary();
        assert_only_too_short(&summary);
        for (_, results) in measured(&summary) {
            let kinds = handshakes(results);
            let count = |name: &str| kinds.iter().filter(|(kind, _)| kind == name).map(|(_, count)| count).sum::<u64>();
            assert_eq!((count("full"), count("resumed")), (full, resumed), "{declared}: {results:#}");
        }
    }
}

#[test]
fn concurrent_connections_have_a_session_each() {
    // Ten and more shake hands at once: a relay passes bytes on to the peer, the first of them late.
    let peer = Peer::start(|_| answer(200, "text/plain", "ok"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (late, behind) = (format!("https://{}", listener.local_addr().unwrap()), peer.address());
    runtime.spawn(async move {
        let mut accepted = 0;
        while let Ok((mut tcp, _)) = listener.accept().await {
            accepted += 1;
            // Connections that gather sessions come one after the other.
            let delay = Duration::from_millis(if accepted > 150 { 100 } else { 0 });
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let mut peer = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tcp, &mut peer).await;
            });
        }
    });
    let arguments = "--rate 100/s --duration 2s --warm-up 0s --resumption resumed";
    let summary = at(&peer, arguments).env("NGINX_TARGET_URL", &late).run().summary();
    assert_only_too_short(&summary);
    assert_eq!(handshakes(results(&summary)), [("resumed".to_owned(), 200)]);
}

#[test]
fn only_the_selected_daemon_starts_with_the_selected_key() {
    for key in ["rsa-2048", "ecdsa-p384"] {
        let finished = tier(&format!("{BRIEF} --only f5 --key-type {key}"));
        let summary = finished.summary();
        assert_only_too_short(&summary);
        assert_eq!(results(&summary)["reopening"]["kinds"][0]["key"], key);
        let settings = summary["system"]["settings"].as_object().unwrap();
        assert_eq!(settings.keys().collect::<Vec<_>>(), ["f5"]);
        assert_eq!(settings["f5"]["key_type"], key);
        assert!(!finished.stderr.contains("started nginx"), "{}", finished.stderr);
    }
}

#[test]
fn a_low_descriptor_limit_is_reported_before_the_load() {
    let mut bench =
        Bench::named("connector_tier", "--only f5 --rate 500/s --connections 100 --duration 2s --warm-up 0s")
            .measured();
    limit(&mut bench.command, Resource::Nofile, Some(300), Some(300));
    let stderr = bench.refused(1).stderr;
    // 500/s wait for a second at most, and some more; 64 are spare.
    let expected =
        "100 connections, and 635 that wait for their peer to close, need 799 file descriptors; the hard limit";
    assert!(stderr.contains(expected) && stderr.contains("ulimit -Hn 799"), "{stderr}");
    let stderr = tier(&format!("{BRIEF} --only f5")).stderr;
    assert!(
        stderr.contains("200 connections, and 64 that wait for their peer to close, need 328 file descriptors"),
        "{stderr}"
    );
}

#[test]
fn connections_closed_first_by_the_generator_are_counted() {
    // It gives no answer for two seconds and then all at once, and closes no connection.
    let end = OnceLock::new();
    let peer = Peer::start(move |request| {
        let wait = match request.connection {
            1 => Instant::now(),
            _ => *end.get_or_init(|| Instant::now() + Duration::from_secs(2)),
        };
        [Step::Until(wait)].into_iter().chain(answer(200, "text/plain", "ok")).collect()
    });
    let summary = at(&peer, "--rate 100/s --duration 2s --warm-up 0s --connections 300").run().summary();
    assert_only_too_short(&summary);
    // 100/s and some more may wait, 160 in all; 200 come at once.
    let observation = observed(results(&summary), "connections that we closed first");
    assert!((20..=40).contains(&observation["count"].as_u64().unwrap()), "{observation}");
}

#[test]
fn flags_that_do_not_apply_are_refused() {
    for (flags, message) in [
        ("--workload rotation --resumption mixed", "--workload rotation always offers sessions"),
        ("--haproxy-commit", "--haproxy-commit applies only to --workload rotation"),
        ("--workload f5-deploy --rate 5/s", "--rate does not apply to --workload f5-deploy"),
        ("--workload f5-deploy --arrivals poisson", "--arrivals does not apply to --workload f5-deploy"),
        ("--workload f5-deploy --resumption resumed", "--resumption does not apply to --workload f5-deploy"),
        ("--workload f5-deploy --tls-version 1.2", "--tls-version does not apply to --workload f5-deploy"),
        ("--workload f5-deploy --group p-256", "--group does not apply to --workload f5-deploy"),
        ("--workload f5-deploy --only f5", "--only does not apply to --workload f5-deploy"),
    ] {
        let finished = tier(&format!("{flags} --duration 1s --warm-up 0s")).exits(2);
        assert!(finished.stderr.contains(message) && finished.stderr.contains("hint: leave --"), "{}", finished.stderr);
    }
}

#[test]
fn runs_that_offer_the_same_handshakes_are_comparable() {
    // A run that a slow machine left with too few answers for a verdict is not compared: then a longer one is.
    for duration in ["2s", "8s", "60s"] {
        let baselines = tempfile::tempdir().unwrap();
        // Only an elevenfold change counts, so that the offered handshakes alone decide.
        let spans = format!("--only f5 --rate 150/s --duration {duration} --warm-up 0s --noise-threshold 10");
        let run = |arguments: &str| {
            let bench = Bench::named("connector_tier", &format!("{spans} {arguments}")).measured();
            bench.env("CERTCTL_BENCH_BASELINES", baselines.path().to_str().unwrap()).run()
        };
        let runs = [
            "--save-baseline here",
            "--baseline here",
            "--baseline here --resumption resumed",
            "--baseline here --key-type rsa-2048",
        ]
        .map(run);
        if runs.iter().any(|run| !reasons(&run.summary()).is_empty()) {
            continue;
        }
        let [base, same, resumed, other_key] = runs;
        assert!(base.stdout.contains("saved        as here: "), "{}", base.stdout);
        // The daemons listen on other ports each time.
        assert!(same.stdout.contains("against the baseline here"), "{}", same.stdout);
        assert!(!same.stdout.contains("incomparable"), "{}", same.stdout);
        let resumed = resumed.exits(5);
        assert!(resumed.stdout.contains("full TLS handshakes against"), "{}", resumed.stdout);
        let other_key = other_key.exits(5);
        assert!(other_key.stdout.contains("daemons: "), "{}", other_key.stdout);
        return;
    }
    panic!("no machine is so slow");
}

#[test]
fn a_handshake_mismatch_is_invalid() {
    let peer = Peer::without_sessions(|_| answer(200, "text/plain", "ok"));
    let summary = at(&peer, &format!("{BRIEF} --resumption resumed")).run().summary();
    assert!(reasons(&summary).contains("40 of 40 handshakes were full instead of resumed"), "{summary:#}");
    assert_eq!(summary["exit_code"], 5);
    // Declared as full, they are no problem.
    assert_only_too_short(&at(&peer, BRIEF).run().summary());
}

/// Returns a run with a peer in the place of nginx.
fn at(peer: &Peer, arguments: &str) -> Bench {
    Bench::named("connector_tier", arguments)
        .measured()
        .env("NGINX_TARGET_URL", &peer.base())
        .env("CERTCTL_BENCH_CONNECTOR_CA_FILE", peer.ca_file().to_str().unwrap())
}

#[test]
fn an_answer_that_is_not_200_is_an_error() {
    let peer = Peer::start(|request| answer(if request.connection > 1 { 503 } else { 200 }, "text/plain", "ok"));
    let finished = at(&peer, BRIEF).run();
    let summary = finished.summary();
    assert_eq!(outcome_of(results(&summary), "failed (503)"), 40);
    // Installed daemons are not started beside one that is named, and that is reported.
    for (daemon, variable) in [("apache", "APACHE"), ("haproxy", "HAPROXY"), ("f5", "F5")] {
        let message = format!("skipped: {daemon} not named ({variable}_TARGET_URL)");
        assert!(finished.stderr.contains(&message), "{}", finished.stderr);
    }
    assert_eq!(summary["connector_tier"]["nginx"]["error_rate"], 1.0);
    assert_eq!(summary["connector_tier"]["apache"], Value::Null);
}

#[test]
fn the_address_of_a_loaded_daemon_is_named() {
    // Nothing listens on ::1, which localhost may resolve to first.
    let peer = Peer::start(|_| answer(200, "text/plain", "ok"));
    let base = format!("https://localhost:{}", peer.address().port());
    let finished = at(&peer, BRIEF).env("NGINX_TARGET_URL", &base).env("APACHE_TARGET_URL", &peer.base()).run();
    let settings = &finished.summary()["system"]["settings"];
    assert_eq!(settings["nginx"]["address"], peer.address().to_string());
    assert!(
        finished.stdout.contains(&format!("nginx unknown at {base} ({})\n", peer.address())),
        "{}",
        finished.stdout
    );
    // A URL with an address needs no other.
    assert_eq!(settings["apache"].get("address"), None);
    assert!(finished.stdout.contains(&format!("apache unknown at {}\n", peer.base())), "{}", finished.stdout);
}

#[test]
fn an_invalid_certificate_is_refused_before_the_load() {
    let expired = Peer::with_certificate(
        |leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1),
        |_| answer(200, "text/plain", "ok"),
    );
    let finished = at(&expired, BRIEF).run();
    assert_eq!(finished.code, Some(1));
    let stderr = &finished.stderr;
    assert!(stderr.contains("nginx at https://127.0.0.1") && stderr.contains("certificate expired"), "{stderr}");
    assert!(stderr.contains("hint: have it serve a certificate that is valid now"), "{stderr}");
    let early = Peer::with_certificate(
        |leaf| leaf.not_before = rcgen::date_time_ymd(4_000, 1, 1),
        |_| answer(200, "text/plain", "ok"),
    );
    let stderr = at(&early, BRIEF).run().exits(1).stderr;
    assert!(
        stderr.contains("certificate not valid yet") && stderr.contains("a certificate that is valid now"),
        "{stderr}"
    );
    let stranger = Peer::start(|_| answer(200, "text/plain", "ok"));
    let finished = at(&expired, BRIEF).env("NGINX_TARGET_URL", &stranger.base()).run();
    let stderr = &finished.stderr;
    assert!(stderr.contains("another authority") && stderr.contains("--connector-ca-file"), "{stderr}");
}

/// Returns the summary of a rotation in which daemons had the time to take a new certificate up: seconds are enough for
/// most machines, and the slowest get minutes.
fn rotation(arguments: &str, has_happened: impl Fn(&Value) -> bool, beside: impl Fn(&Running)) -> Value {
    let mut summary = Value::Null;
    for (duration_s, every_s) in [(6, 2), (30, 10), (120, 40)] {
        let spans = format!("--rate 40/s --warm-up 0s --duration {duration_s}s --rotate-every {every_s}s");
        let arguments = format!("--workload rotation {spans} {arguments}");
        let mut running = Bench::named("connector_tier", &arguments).measured().start();
        running.wait_until_measuring();
        beside(&running);
        summary = running.finish().summary();
        let measured = measured(&summary);
        for (_, results) in &measured {
            assert_eq!(outcome_of(results, "ok"), 40 * duration_s, "{results:#}");
        }
        if measured.iter().all(|(_, results)| has_happened(results)) {
            return summary;
        }
    }
    panic!("no daemon is so slow: {summary:#}");
}

/// Returns true once full handshakes got a new certificate, as far as the run shows.
fn is_taken_up(results: &Value) -> bool {
    observed(results, "longest time until every full handshake")["duration_s"].is_f64()
}

#[test]
fn certificate_rotation_fails_no_connection() {
    let summary = rotation("", is_taken_up, |_| {});
    assert_schema(&summary);
    assert_only_too_short(&summary);
    for (_, results) in measured(&summary) {
        assert!(observed(results, "certificates replaced")["count"].as_u64().unwrap() > 0, "{results:#}");
    }
}

#[test]
fn certificate_rotation_reports_full_and_resumed_handshakes() {
    needs!(Haproxy);
    let resumed = |results: &Value| observed(results, "longest time that a resumed handshake")["duration_s"].is_f64();
    let summary =
        rotation("--only haproxy --haproxy-commit", |results| is_taken_up(results) && resumed(results), |_| {});
    let results = results(&summary);
    assert_eq!(summary["system"]["settings"]["haproxy"]["replaced_by"], "commit ssl cert");
    // The running process takes tickets from before the commit, and its full handshakes show the new certificate.
    let old = observed(results, "resumed handshakes with a certificate that was replaced");
    // Every second handshake offers a session.
    let offered = outcome_of(results, "ok") / 2;
    assert!(old["count"].as_u64().unwrap() > 0 && old["of"].as_u64().unwrap() <= offered, "{results:#}");
}

#[test]
fn an_idle_connection_keeps_an_old_worker_alive() {
    needs!(Nginx);
    let held = RefCell::default();
    let hold = |running: &Running| {
        let stderr = running.stderr();
        let rest = stderr.split("started nginx ").nth(1).unwrap().split(" at ").nth(1).unwrap();
        // It shakes hands and sends nothing more.
        let config = client_config(&Trust::Insecure).unwrap();
        let mut tls = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let mut tcp = std::net::TcpStream::connect(rest.lines().next().unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).unwrap();
        }
        *held.borrow_mut() = Some(tcp);
    };
    // A life of one second counts; of the run's six, four come after the first replacement.
    let longest = |results: &Value| observed(results, "longest life of a worker process")["duration_s"].as_f64();
    let summary = rotation("--only nginx", |results| longest(results) >= Some(1.0), hold);
    let results = results(&summary);
    // The one of the last replacement may be among them.
    assert!(observed(results, "replaced worker processes alive")["count"].as_u64() >= Some(1), "{results:#}");
}

#[test]
fn certificates_are_deployed_to_the_f5_step_by_step() {
    // Several deployments, however long they take.
    let summary = tier("--workload f5-deploy --duration 10m --warm-up 0s --max-requests 60").summary();
    assert_schema(&summary);
    assert_only_too_short(&summary);
    let results = results(&summary);
    let steps = results["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["name"] == "commit") && steps.len() >= 9, "{steps:?}");
    for step in steps {
        assert!(step["response"]["count"].as_u64().unwrap() > 0, "{step}");
    }
    for work in results["work"].as_array().unwrap() {
        assert!(work["claimed"] == work["found"] && work["found"].as_u64().unwrap() > 0, "{work}");
    }
}

#[test]
fn no_available_daemon_is_an_error() {
    let at_f5 = |flags: &str| {
        Bench::named("connector_tier", flags).measured().env("F5_TARGET_URL", "https://127.0.0.1:1").refused(1).stderr
    };
    let stderr = at_f5("");
    assert!(stderr.contains("f5 at https://127.0.0.1:1"), "{stderr}");
    let stderr = at_f5("--only nginx");
    assert!(!stderr.contains("f5 at") && stderr.contains("skipped: nginx not named (NGINX_TARGET_URL)"), "{stderr}");
    assert!(stderr.contains("none of the selected daemons is installed or named"), "{stderr}");
    let finished = Bench::named("connector_tier", "").measured().env("NGINX_TARGET_URL", "http://localhost").run();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("URL of nginx"), "{}", finished.stderr);
}

/// 60 answers are far too few for p99, but that all of them exceed its limit is no chance.
#[test]
fn a_threshold_that_every_connection_exceeds_is_breached() {
    let peer = Peer::start(|request| {
        // The first connection is the check before anything is measured.
        let wait = Duration::from_millis(if request.connection > 1 { 4_000 } else { 0 });
        [Step::Wait(wait)].into_iter().chain(answer(200, "text/plain", "ok")).collect()
    });
    let finished = at(&peer, "--rate 30/s --duration 2s --warm-up 0s").run().exits(3);
    let summary = finished.summary();
    assert_schema(&summary);
    assert_eq!(outcome_of(results(&summary), "ok"), 60);
    for quantile in ["response time p95", "response time p99"] {
        let one = threshold(&summary, quantile);
        assert_eq!((&one["measured"], &one["passed"], &one["certain"]), (&Value::Null, &false.into(), &true.into()));
        assert_eq!((&one["beyond"], &one["of"]), (&60.into(), &60.into()));
    }
    assert!(finished.stdout.contains("60 of 60 beyond") && finished.stdout.contains("BREACHED"), "{}", finished.stdout);
}

/// A listener that accepts no more connections: they are counted, stand in a distribution, and are a breach.
#[test]
fn unopened_connections_are_counted_and_a_breach() {
    let peer = Peer::start(|_| answer(200, "text/plain", "ok"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), peer.address());
    // The check before the load goes through, and every fourth connection of the load; the rest are closed at once.
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            if number > 0 && !number.is_multiple_of(4) {
                continue;
            }
            let server = std::net::TcpStream::connect(behind).unwrap();
            for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    let finished = at(&peer, BRIEF).env("NGINX_TARGET_URL", &format!("https://{address}")).run().exits(3);
    let summary = finished.summary();
    assert_schema(&summary);
    let results = results(&summary);
    let failed = &results["reopening"]["failed"];
    assert_eq!((failed[0]["count"].as_u64(), outcome_of(results, "ok")), (Some(30), 10), "{failed}");
    assert_eq!(
        (&results["reopening"]["tried"]["count"], &results["reopening"]["tls"]["count"]),
        (&40.into(), &10.into())
    );
    assert_eq!(threshold(&summary, "errors")["certain"], true);
    assert!(finished.stdout.contains("not opened, of 40 tried: "), "{}", finished.stdout);
    assert!(finished.stdout.contains("connections tried later"), "{}", finished.stdout);
}
