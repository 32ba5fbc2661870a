//! `certctl-bench capacity` from its front door.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::bench::{Bench, Finished};
use crate::common::peer::{Peer, Request, Step, TOKEN, certctl};
use crate::common::process::until;
use crate::common::reference::Reference;

fn capacity(arguments: &str) -> Bench {
    Bench::of(Path::new(env!("CARGO_BIN_EXE_certctl-bench")), &format!("capacity {arguments}"))
}

/// Returns a search at a peer.
fn at(peer: &Peer, arguments: &str) -> Bench {
    capacity(&format!("--target {} --ca-file {} --token {TOKEN} {arguments}", peer.base(), peer.ca_file().display()))
}

/// Returns a search at a reference server that runs already.
fn at_reference(server: &Reference, arguments: &str) -> Bench {
    capacity(&format!(
        "--target {} --ca-file {} --token {TOKEN} {arguments}",
        server.base(),
        server.ca_file().display()
    ))
}

fn json(done: &Finished) -> Value {
    serde_json::from_str(done.json.as_ref().expect("a capacity.json")).unwrap()
}

fn points(json: &Value) -> &[Value] {
    json["points"].as_array().unwrap()
}

/// The server admits 50 requests a second, whatever the machine is; the thresholds of the scenario are wide.
#[test]
fn a_rate_limit_is_found_as_the_capacity() {
    let server = Reference::start(&["--rate-limit"]);
    let search = "--bench bulk_renewal --from 200/s --floor 50/s --factor 4 --precision 50% --point 2s";
    let done = at_reference(&server, &format!("{search} -- --workload rescan --abort-on-errors 20%/1s")).run();
    let json = json(&done);
    let conclusion = &json["conclusion"];
    let errors_at = |per_s: f64| {
        let here = points(&json).iter().filter(|point| point["rate_per_s"] == per_s);
        here.map(|point| point["figures"]["error_share"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert!(errors_at(200.0).iter().all(|share| *share > 0.2), "{json:#}");
    assert!(errors_at(50.0).iter().all(|share| *share < 0.01), "{json:#}");
    if done.code == Some(3) {
        // A machine so busy that even the wide bounds on response times are breached.
        assert_eq!(conclusion["kind"], "below", "{json:#}");
        return;
    }
    let done = done.exits(0);
    assert_eq!(
        (&conclusion["kind"], &conclusion["held_per_s"], &conclusion["breached_per_s"]),
        (&"between".into(), &50.0.into(), &70.71.into()),
        "{json:#}"
    );
    let first = &json["first_limit"];
    assert_eq!((&first["rate_per_s"], &first["thresholds"][0]["name"]), (&70.71.into(), &"errors".into()), "{first:#}");
    // What is renewed again and again is no number of certificates.
    assert_eq!(json["translations"], Value::Array(Vec::new()));
    assert!(done.stdout.contains("\ncapacity     50 renewal requests per second: "), "{}", done.stdout);
    assert!(done.stdout.contains("first limit  at 70.71/s"), "{}", done.stdout);
}

#[test]
fn a_silent_system_is_not_drowned_by_its_points() {
    // It answers nothing but the preflight and whether it is ready.
    let peer = Peer::start(|request: &Request| match request.is_heartbeat() {
        true => vec![Step::Silence],
        false => certctl(request),
    });
    let done = at(&peer, "--from 400/s --floor 400/s --point 60s -- --agents 1000 --timeout 3s").run().exits(3);
    let json = json(&done);
    assert_eq!((&json["conclusion"]["kind"], &json["exit_code"]), (&"below".into(), &3.into()));
    // Confirmed, with the system quiet in between, and each long before its window's end.
    let [first, second] = points(&json) else { panic!("{json:#}") };
    for point in [first, second] {
        assert_eq!((&point["verdict"], &point["window_s"]), (&"breached".into(), &60.0.into()));
        assert!(point["ended_early"].is_string(), "{point:#}");
    }
}

#[test]
fn points_of_a_late_generator_are_no_capacity() {
    let server = Reference::start(&[]);
    // No generator starts every arrival within a microsecond.
    let search = "--bench bulk_renewal --from 200/s --floor 200/s --point 2s -- --workload rescan --max-lag 1us";
    let done = at_reference(&server, search).run().exits(5);
    let json = json(&done);
    assert_eq!(json["conclusion"]["kind"], "unmeasurable", "{json:#}");
    assert_eq!(json["conclusion"]["held_per_s"], Value::Null);
    let verdicts: Vec<_> = points(&json).iter().map(|point| point["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["invalid"; 3]);
    assert!(done.stdout.contains("the generator, not the system, was the limit: "), "{}", done.stdout);
}

#[test]
fn a_stopped_search_keeps_its_points() {
    let peer = Peer::start(certctl);
    let mut running = at(&peer, "--from 400/s --point 3s -- --agents 20").start();
    until("the first point is measured", || {
        assert!(running.ended().is_none(), "ended early: {}", running.stderr());
        running.folder().join("results/capacity.json").exists()
    });
    running.signal(Signal::INT);
    let done = running.finish().exits(5);
    let json = json(&done);
    assert_eq!((&json["conclusion"]["kind"], &json["why"]), (&"unfinished".into(), &"the search was stopped".into()));
    assert!(!points(&json).is_empty());
    assert!(done.stdout.contains("not found: the search was stopped"), "{}", done.stdout);
}

#[test]
fn a_search_stopped_in_its_first_point_has_no_result() {
    let peer = Peer::start(certctl);
    let mut running = at(&peer, "--point 5m -- --agents 20").start();
    running.wait_until_measuring();
    running.signal(Signal::TERM);
    let done = running.finish().exits(1);
    assert!(done.stderr.contains("stopped before anything was measured"), "{}", done.stderr);
    assert_eq!(done.json, None);
}

#[test]
fn what_has_no_rate_is_refused_with_the_fix() {
    for (arguments, message) in [
        ("--bench acme_burst", "give the first rate, which makes the workload an open one: --from 50/s"),
        ("--bench connector_tier", "no bench target of that name"),
        ("-- --fleet real", "the heartbeats of --fleet contract have a rate"),
        ("-- --fleet restart", "their rate follows from the number of agents"),
        ("--bench bulk_renewal -- --workload sweep", "search with --workload enqueue or rescan"),
        ("-- --duration 30s", "its points have --point and --longest-point"),
        ("-- --max-requests 5", "--max-requests has no effect in a search"),
        ("--point 10m", "--point 10m is above --longest-point 5m"),
        ("--from 1/s", "has its samples after 1100 s, above --longest-point 300s"),
        ("--from 10/s --to 5/s", "is not between --floor"),
        ("--from 10/s --floor 20/s", "give --from between the two"),
        ("--factor 1", "from 1.1 to 10"),
        ("--precision 60%", "must be from 1% to 50%"),
        ("--max-points 1", "1 is not in 2..=500"),
        ("--token x", "--token applies only to a running certctl"),
        ("--share-network", "--share-network applies only to --certctl"),
        ("-- --rate never", "the flags after `--`"),
        ("--bench bulk_renewal --from 900/s --point 2s", "exceed the 10000 seeded certificates"),
    ] {
        let refused = capacity(arguments).refused(2);
        assert!(refused.stderr.contains(message), "{arguments}: {}", refused.stderr);
    }
}
