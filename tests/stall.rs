//! A server that stalls: an open workload tells what its clients felt, where a closed one would hide it.

mod common;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::bench::Bench;
use common::peer::{Peer, Step, certctl};
use common::summary::{outcome, reasons};

/// How long the peer withholds every answer.
const FREEZE: Duration = Duration::from_secs(2);

/// A peer whose clock stops at the `first`-th heartbeat of the workload and goes on after [`FREEZE`].
fn freezing_peer(first: u64) -> Peer {
    let (heartbeats, thaw) = (AtomicU64::new(0), OnceLock::new());
    Peer::start(move |request| {
        if request.is_heartbeat() && heartbeats.fetch_add(1, Ordering::SeqCst) + 1 >= first {
            thaw.get_or_init(|| Instant::now() + FREEZE);
        }
        let withheld = thaw.get().copied().filter(|thaw| Instant::now() < *thaw).map(Step::Until);
        withheld.into_iter().chain(certctl(request)).collect()
    })
}

/// 200/s for 20 s, frozen for 2 s. The 10% of arrivals that fall into the freeze wait for between 2 s and nothing,
/// evenly: so p95 is 1.0 s and p99 is 1.8 s.
#[test]
fn a_stall_has_its_analytic_quantiles() {
    // A second of warm-up, nine of the window.
    let (warm_up, before) = (200, 1_800);
    let peer = freezing_peer(warm_up + before);
    // Enough connections for every arrival of the freeze, so that none waits for one. The bound on lag is not what
    // this is about.
    let bench =
        Bench::at(&peer, "--rate 200/s --duration 20s --warm-up 1s --connections 500 --agents 500 --max-lag 250ms");
    let finished = bench.run().exits(3);
    let summary = finished.summary();

    let arrivals = &summary["results"][0]["arrivals"];
    assert_eq!((&arrivals["scheduled"], &arrivals["started"]), (&4_000.into(), &4_000.into()));
    assert_eq!((&arrivals["unsent"], &arrivals["warm_up"]), (&0.into(), &warm_up.into()));
    assert_eq!(outcome(&summary, "ok"), 4_000);

    let seconds =
        |what: &str, quantile: &str| summary["results"][0]["latency"][what][quantile].as_f64().expect(what) / 1e6;
    for (quantile, analytic) in [("p95_us", 1.0), ("p99_us", 1.8), ("max_us", 2.0)] {
        let measured = seconds("response", quantile);
        // It takes a moment to catch up with what has waited.
        assert!(
            (0.9..1.3).contains(&(measured / analytic)),
            "response time {quantile}: {measured} s, not {analytic} s"
        );
        let service = seconds("service", quantile);
        assert!((0.9..1.3).contains(&(service / analytic)), "service time {quantile}: {service} s, not {analytic} s");
    }
    // Beside it: each request was sent in time and waited for the server alone.
    assert!(seconds("schedule_lag", "p99_us") < seconds("response", "p99_us") / 10.0);
    // Nine in ten noticed nothing.
    assert!(seconds("response", "p50_us") < seconds("response", "p95_us") / 10.0);

    let breached = |name: &str| {
        let thresholds = summary["thresholds"].as_array().unwrap();
        thresholds.iter().find(|threshold| threshold["name"] == name).unwrap()["passed"] == false
    };
    assert!(breached("response time p95") && breached("response time p99") && !breached("errors"));
    assert_eq!((summary["verdict"].as_str(), reasons(&summary).as_str()), (Some("breached"), ""));
    assert_eq!(summary["exit_code"], 3);
    // The stall shows where it was: about two seconds of the timeline, next to one another.
    let slow = |second: &serde_json::Value| second["max_us"].as_f64().unwrap() > 0.5e6;
    let timeline = summary["results"][0]["timeline"].as_array().unwrap();
    let slow: Vec<usize> = (0..20).filter(|second| slow(&timeline[*second])).collect();
    assert!(slow == [9, 10] || slow == [8, 9] || slow == [8, 9, 10] || slow == [9, 10, 11], "{slow:?}");
    assert!(finished.stdout.contains("BREACHED") && finished.stdout.contains("(exit 3)"), "{}", finished.stdout);
}

/// The same over so few connections that most arrivals of the freeze wait for one. Each of the few requests that were
/// under way is slow, and the rest are quick once they are sent: to their service time the stall is an exception, as to
/// any generator that waits for its server. (The bound on lag, which would call this run invalid, is out of the way.)
#[test]
fn a_small_pool_does_not_hide_a_stall() {
    let peer = freezing_peer(2_000);
    let arguments = "--rate 200/s --duration 20s --warm-up 1s --connections 20 --agents 500 --max-lag 5s";
    let summary = Bench::at(&peer, arguments).run().exits(3).summary();
    assert_eq!((outcome(&summary, "ok"), &summary["results"][0]["arrivals"]["unsent"]), (4_000, &0.into()));
    let seconds =
        |what: &str, quantile: &str| summary["results"][0]["latency"][what][quantile].as_f64().expect(what) / 1e6;
    for (quantile, analytic) in [("p95_us", 1.0), ("p99_us", 1.8)] {
        let (response, service) = (seconds("response", quantile), seconds("service", quantile));
        // It takes a moment to catch up with what has waited.
        assert!((0.9..1.3).contains(&(response / analytic)), "response time {quantile}: {response} s");
        assert!(service < analytic / 2.0, "service time {quantile}: {service} s");
        // The lag beside them says where the rest of it is.
        let lag = seconds("schedule_lag", quantile);
        assert!((0.9..1.3).contains(&(lag / analytic)), "schedule lag {quantile}: {lag} s");
    }
}

/// With too few connections the generator could not send what was due: that is said, and outranks every threshold.
#[test]
fn what_could_not_be_sent_in_time_makes_a_run_invalid() {
    let peer = freezing_peer(400);
    let arguments = "--rate 200/s --duration 6s --warm-up 500ms --connections 20 --agents 200 --timeout 1s";
    let finished = Bench::at(&peer, arguments).run().exits(5);
    let summary = finished.summary();
    let count = |name: &str| summary["results"][0]["arrivals"][name].as_u64().unwrap();
    assert_eq!((count("scheduled"), count("started") + count("unsent")), (1_200, 1_200));
    // 400 arrivals fell into the freeze. The 20 connections took some of them, and those of the last second could
    // wait for its end.
    assert!((50..350).contains(&count("unsent")), "{} unsent", count("unsent"));
    assert!(count("late") >= 100, "{} late", count("late"));
    assert!(outcome(&summary, "timed out") >= 20, "{}", summary["results"][0]["outcomes"]);
    let reasons = reasons(&summary);
    assert!(reasons.contains(&format!("{} of 1200 arrivals were never sent", count("unsent"))), "{reasons}");
    assert!(reasons.contains(&format!(
        "{} of {} arrivals started more than 10 ms late",
        count("late"),
        count("started")
    )));
    // Unsent arrivals are errors, and a breach does not hide that the run is invalid.
    let answered = outcome(&summary, "ok") as f64;
    assert!((summary["error_share"].as_f64().unwrap() - (1.0 - answered / 1_200.0)).abs() < 1e-9);
    assert_eq!(summary["verdict"], "invalid");
    for line in reasons.lines() {
        assert!(finished.stdout.contains(&format!("invalid      {line}\n")), "{}", finished.stdout);
    }
    // The server's stall stands in the response time; service time alone would have hidden it.
    let p90 = |what: &str| summary["results"][0]["latency"][what]["p90_us"].as_f64().unwrap();
    assert!(p90("response") > 4.0 * p90("service"), "response {}, service {}", p90("response"), p90("service"));
}
