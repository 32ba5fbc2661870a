//! Several generator threads: the load is divided among them, and the result is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::common::bench::{Bench, Finished};
use crate::common::peer::{Peer, Step, certctl};
use crate::common::summary::{assert_schema, measured, observed, outcome, results};

/// The heartbeats of each agent, and the connections on which they came.
type Heartbeats = Arc<Mutex<BTreeMap<String, (u64, BTreeSet<u64>)>>>;

/// Starts a certctl that notes heartbeats.
fn noting_peer() -> (Peer, Heartbeats) {
    let heartbeats = Heartbeats::default();
    let noted = heartbeats.clone();
    let peer = Peer::start(move |request| {
        if request.is_heartbeat() {
            let mut noted = noted.lock().unwrap();
            let (count, connections) = noted.entry(request.path.clone()).or_default();
            *count += 1;
            connections.insert(request.connection);
        }
        certctl(request)
    });
    (peer, heartbeats)
}

/// Runs 300 agents for a second after a warm-up of half a second, 600 heartbeats a second.
fn run(threads: &str) -> (Finished, Heartbeats) {
    let (peer, heartbeats) = noting_peer();
    let arguments = format!("--rate 600/s --duration 1s --warm-up 500ms --agents 300 --generator-threads {threads}");
    (Bench::at(&peer, &arguments).run().worked(), heartbeats)
}

#[test]
fn threads_together_send_the_schedule_of_one() {
    let (one, of_one) = run("1");
    let (three, of_three) = run("3");
    let counts = |heartbeats: &Heartbeats| -> Vec<(String, u64)> {
        heartbeats.lock().unwrap().iter().map(|(agent, (count, _))| (agent.clone(), *count)).collect()
    };
    assert_eq!(counts(&of_one), counts(&of_three));
    // An agent belongs to one thread, with its connection.
    assert!(of_three.lock().unwrap().values().all(|(_, connections)| connections.len() == 1));
    for (finished, threads) in [(&one, 1), (&three, 3)] {
        let summary = finished.summary();
        assert_schema(&summary);
        let arrivals = &results(&summary)["arrivals"];
        assert_eq!((&arrivals["scheduled"], &arrivals["warm_up"]), (&600.into(), &300.into()));
        assert_eq!((outcome(&summary, "ok"), &results(&summary)["opening"]["tls"]["count"]), (600, &300.into()));
        assert_eq!(summary["generator"]["threads"], threads);
    }
    assert!(three.stdout.contains("the busiest of 3 threads"), "{}", three.stdout);
    // What a duet or a baseline compares: requests that ended within the window, whatever the thread.
    let requests = three.summary()["generator"]["requests"].as_u64().unwrap();
    assert!((590..=900).contains(&requests), "{requests}");
}

#[test]
fn threads_share_the_limit_of_requests_exactly() {
    let (peer, heartbeats) = noting_peer();
    let arguments = "--rate 600/s --duration 10m --warm-up 0s --agents 30 --max-requests 101 --generator-threads 4";
    let summary = Bench::at(&peer, arguments).run().summary();
    // One that waits for its connection at the end is given up.
    let sent = heartbeats.lock().unwrap().values().map(|(count, _)| count).sum::<u64>();
    assert!(sent <= 101, "{sent}");
    assert_eq!(results(&summary)["arrivals"]["scheduled"], 101);
}

#[test]
fn threads_of_a_fleet_see_its_return_together() {
    let arguments =
        "--in-memory --fleet restart --agents 90 --restart-within 500ms --duration 2s --generator-threads 4";
    let summary = Bench::new(arguments).measured().run().worked().summary();
    let back = observed(results(&summary), "agents back");
    assert_eq!((&back["count"], &back["of"]), (&90.into(), &90.into()));
    let recovered = observed(results(&summary), "time to recovered")["duration_s"].as_f64().unwrap();
    assert!(recovered > 0.3, "{recovered}");
}

#[test]
fn threads_of_which_one_cannot_connect_do_not_start() {
    // Those of the preflight, and a few of the fleet.
    let greetings = AtomicU64::new(0);
    let peer = Peer::start(move |request| match request.path.as_str() {
        "/health" if greetings.fetch_add(1, Ordering::SeqCst) >= 129 + 5 => vec![Step::Cut],
        _ => certctl(request),
    });
    let arguments = "--agents 50 --max-lag 400ms --timeout 120s --generator-threads 2";
    let summary = Bench::at(&peer, arguments).run().exits(3).summary();
    let breach = summary["breaches"][0].as_str().unwrap();
    assert!(breach.contains(" of 25 connections, then closed: ") && breach.contains(", in shard "), "{breach}");
    assert_eq!(results(&summary)["arrivals"]["scheduled"], 0);
}

#[test]
fn side_effects_of_all_threads_are_found() {
    let claimed = |summary: &Value| {
        let work = |results: &Value| {
            let work = results["work"].as_array().unwrap().iter();
            work.map(|one| (one["claimed"].as_u64().unwrap(), one["found"].as_u64().unwrap())).collect::<Vec<_>>()
        };
        measured(summary).into_iter().flat_map(|(_, results)| work(results)).collect::<Vec<_>>()
    };
    let tier =
        "--in-memory --issuance-rate 100/s --list-rate 100/s --duration 1s --connections 6 --generator-threads 2";
    let bulk = "--in-memory --rate 50/s --duration 1s --batch-size 3 --connections 6 --generator-threads 2";
    for (target, arguments) in [("api_tier", tier), ("bulk_renewal", bulk)] {
        let summary = Bench::named(target, arguments).measured().run().worked().summary();
        assert_eq!(summary["generator"]["threads"], 2, "{target}");
        let claimed = claimed(&summary);
        assert!(!claimed.is_empty() && claimed.iter().all(|(claimed, found)| claimed == found), "{target} {claimed:?}");
        assert!(claimed.iter().any(|(claimed, _)| *claimed > 100), "{target} {claimed:?}");
    }
}

#[test]
fn what_cannot_be_divided_is_refused() {
    let refused = |target: &str, arguments: &str| {
        let arguments = format!("--in-memory {arguments}");
        Bench::named(target, &arguments).measured().refused(2).messages()
    };
    let burst = refused("acme_burst", "--generator-threads 2");
    let why = "error: acme_burst: its requests depend on one another across connections, so that one thread must send \
               them all\nhint: leave out --generator-threads\n";
    assert!(burst.ends_with(why), "{burst}");
    let few = refused("agent_storm", "--agents 50 --connections 3 --generator-threads 4");
    assert!(few.contains("agent_storm: 3 connections cannot be divided among 4 generator threads"), "{few}");
    assert!(few.contains("hint: give --generator-threads 3, or more connections"), "{few}");
    // Where the number is left to the suite, it is one.
    let arguments = "--in-memory --users 4 --duration 1s --generator-threads auto";
    let summary = Bench::named("acme_burst", arguments).measured().run().worked().summary();
    assert_eq!(summary["generator"]["threads"], 1);
    let wrong = Bench::new("--generator-threads 0").refused(2).stderr;
    assert!(wrong.contains("give a number from 1 to 4096, or auto"), "{wrong}");
}
