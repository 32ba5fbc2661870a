//! `certctl-bench capacity` from its front door.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::bench::{Bench, Finished};
use crate::common::peer::{Peer, Request, Step, TOKEN, certctl, json as json_answer};
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

/// The heartbeats that the peer admits in a second, and at once.
const LIMIT: f64 = 220.0;
const BURST: f64 = 200.0;

/// Starts a peer that admits so many heartbeats, whatever the machine is, and refuses the rest.
fn limited() -> Peer {
    let bucket = Mutex::new((BURST, Instant::now()));
    Peer::start(move |request| {
        if !request.is_heartbeat() {
            return certctl(request);
        }
        let mut bucket = bucket.lock().unwrap();
        let (tokens, refilled) = *bucket;
        let tokens = (tokens + refilled.elapsed().as_secs_f64() * LIMIT).min(BURST);
        let is_admitted = tokens >= 1.0;
        *bucket = (if is_admitted { tokens - 1.0 } else { tokens }, Instant::now());
        if is_admitted { certctl(request) } else { json_answer(429, "{\"error\":\"rate limit exceeded\"}\n") }
    })
}

#[test]
fn a_rate_limit_is_found_as_the_capacity() {
    let search = "--from 800/s --floor 50/s --factor 4 --precision 50% --point 2s";
    let folder = tempfile::tempdir().unwrap();
    let output = format!("--output {0} --markdown {0}/comment.md", folder.path().display());
    let search = format!("{search} {output} -- --agents 200 --abort-on-errors 20%/1s");
    let done = at(&limited(), &search).run();
    let json = fs::read_to_string(folder.path().join("capacity.json")).expect("a capacity.json");
    let json: Value = serde_json::from_str(&json).unwrap();
    let conclusion = &json["conclusion"];
    let is_slow = |point: &Value| point["rate_per_s"].as_f64().unwrap() <= LIMIT && point["verdict"] == "breached";
    for point in points(&json).iter().filter(|point| point["rate_per_s"].as_f64().unwrap() > LIMIT) {
        assert_eq!(point["verdict"], "breached", "{point:#}");
    }
    if points(&json).iter().any(is_slow) {
        // The machine is so busy that the scenario's bounds on response times do not hold either.
        assert!(conclusion["held_per_s"].as_f64().is_none_or(|held| held <= LIMIT), "{json:#}");
        return;
    }
    let done = done.exits(0);
    assert_eq!(
        (&conclusion["kind"], &conclusion["held_per_s"], &conclusion["breached_per_s"]),
        (&"between".into(), &200.0.into(), &282.8.into()),
        "{json:#}"
    );
    let rates: Vec<_> = points(&json).iter().map(|point| point["rate_per_s"].as_f64().unwrap()).collect();
    assert_eq!(rates, [800.0, 200.0, 400.0, 282.8, 200.0, 282.8]);
    assert_eq!(json["first_limit"]["rate_per_s"], 282.8);
    let counts: Vec<_> = json["translations"].as_array().unwrap().iter().map(|one| &one["count"]).collect();
    assert_eq!(counts, [12_000, 4_000]);
    assert!(done.stdout.contains("\ncapacity     200 heartbeats per second: "), "{}", done.stdout);
    assert!(done.stdout.contains("first limit  at 282.8/s (point "), "{}", done.stdout);
    let page = fs::read_to_string(folder.path().join("capacity.html")).unwrap();
    assert!(page.contains("Response time by rate") && page.contains("200 heartbeats per second"));
    let markdown = fs::read_to_string(folder.path().join("comment.md")).unwrap();
    assert!(markdown.starts_with("### Capacity, agent_storm\n\n200 heartbeats per second"), "{markdown}");
}

#[test]
fn a_silent_system_is_not_drowned_by_its_points() {
    // It answers nothing but the preflight and whether it is ready.
    let peer = Peer::start(|request: &Request| match request.is_heartbeat() {
        true => vec![Step::Silence],
        false => certctl(request),
    });
    let done =
        at(&peer, "--from 400/s --floor 400/s --point 60s -- --agents 1000 --timeout 6s --max-lag 5s").run().exits(3);
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
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.md");
    let in_job = at_reference(&server, search).env("GITHUB_ACTIONS", "true");
    let done = in_job.env("GITHUB_STEP_SUMMARY", summary.to_str().unwrap()).run().exits(5);
    let errors = done.stderr.lines().filter(|line| line.starts_with("::error ")).collect::<Vec<_>>();
    assert!(
        matches!(errors[..], [error] if error.starts_with("::error title=capacity of bulk_renewal::not found: no rate ")),
        "{}",
        done.stderr
    );
    assert!(fs::read_to_string(summary).unwrap().starts_with("### Capacity, bulk_renewal\n\nnot found: "));
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
        running.stdout().contains("\n1      ")
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
        ("--bench acme_enroll", "give the first rate, which makes the workload an open one: --from 50/s"),
        (
            "--bench connector_tier",
            "no bench target of that name has a capacity to search\nhint: give one of acme_burst, acme_enroll, acme_flow, \
             agent_storm, api_tier, bulk_renewal, deploy_loop\n",
        ),
        ("--bench revocation", "each certificate is revoked once"),
        ("--bench job_drain", "a number of certificates that are due at once"),
        ("--bench deploy_loop --from 1300/s", "so that 5200 are needed"),
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
