//! A server that stalls: an open workload tells what its clients felt, where a closed one would hide it.

mod common;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::bench::Bench;
use common::peer::{Peer, Step, certctl};
use common::summary::{assert_schema, outcome, reasons, threshold};

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
/// any generator that waits for its server. They waited because the server kept every connection: at a server that
/// answers as usual, 20 would have been enough. So it is a breach, and not our fault.
#[test]
fn a_small_pool_does_not_hide_a_stall() {
    let peer = freezing_peer(2_000);
    // The bound on lag is wide enough for what the machine does of its own, and narrow beside the freeze.
    let arguments = "--rate 200/s --duration 20s --warm-up 1s --connections 20 --agents 500 --max-lag 250ms";
    let summary = Bench::at(&peer, arguments).run().exits(3).summary();
    assert_schema(&summary);
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
    let arrivals = &summary["results"][0]["arrivals"];
    let count = |name: &str| arrivals[name].as_u64().unwrap();
    // 350 arrivals are due more than 250 ms before the thaw.
    assert!(count("late_for_connection") >= 300, "{arrivals}");
    assert!(count("by_generator") + count("by_too_few_connections") < 40, "{arrivals}");
    assert_eq!((summary["verdict"].as_str(), reasons(&summary).as_str()), (Some("breached"), ""));
}

/// What the frozen server kept us from sending at all is its error.
#[test]
fn what_a_frozen_server_leaves_unsent_is_its_error() {
    let peer = freezing_peer(400);
    let arguments =
        "--rate 200/s --duration 6s --warm-up 500ms --connections 20 --agents 200 --timeout 1s --max-lag 250ms";
    let finished = Bench::at(&peer, arguments).run().exits(3);
    let summary = finished.summary();
    let count = |name: &str| summary["results"][0]["arrivals"][name].as_u64().unwrap();
    assert_eq!((count("scheduled"), count("started") + count("unsent")), (1_200, 1_200));
    // 400 arrivals fell into the freeze. The 20 connections took some of them, and those of the last second could
    // wait for its end.
    assert!((50..350).contains(&count("unsent")), "{} unsent", count("unsent"));
    assert!(count("late") >= 100, "{} late", count("late"));
    assert!(outcome(&summary, "timed out") >= 20, "{}", summary["results"][0]["outcomes"]);
    let answered = outcome(&summary, "ok") as f64;
    assert!((summary["error_share"].as_f64().unwrap() - (1.0 - answered / 1_200.0)).abs() < 1e-9);
    let errors = threshold(&summary, "errors");
    assert_eq!((&errors["passed"], &errors["certain"], &errors["of"]), (&false.into(), &true.into(), &1_200.into()));
    assert!(errors["beyond"].as_u64().unwrap() >= 70, "{errors}");
    // The server's stall stands in the response time; service time alone would have hidden it.
    let p90 = |what: &str| summary["results"][0]["latency"][what]["p90_us"].as_f64().unwrap();
    assert!(p90("response") > 4.0 * p90("service"), "response {}, service {}", p90("response"), p90("service"));
}

/// A server that takes 300 ms for everything keeps its promises, but not with so few connections: that is our fault.
#[test]
fn a_pool_too_small_for_a_steady_server_is_invalid() {
    let peer = Peer::start(|request| match request.is_heartbeat() {
        true => [Step::Wait(Duration::from_millis(300))].into_iter().chain(certctl(request)).collect(),
        false => certctl(request),
    });
    let arguments = "--rate 100/s --duration 5s --warm-up 500ms --connections 10 --agents 200 --max-lag 250ms";
    let finished = Bench::at(&peer, arguments).run().exits(5);
    let reasons = reasons(&finished.summary());
    assert!(reasons.contains("most waited for a connection, and would have if every answer"), "{reasons}");
    assert!(reasons.contains("raise --connections"), "{reasons}");
}

/// While we are stopped, the server is not frozen: a peer that always answers is never blamed, and the reason says for how
/// long nobody was there.
#[test]
fn our_own_absence_is_named_and_blamed_on_nobody_else() {
    let peer = Peer::start(certctl);
    for connections in [20, 500] {
        let arguments = format!(
            "--rate 100/s --duration 5s --warm-up 500ms --connections {connections} --agents 500 --max-lag 250ms"
        );
        let mut running = Bench::at(&peer, &arguments).start();
        running.wait_until_measuring();
        running.signal(libc::SIGSTOP);
        // Long beside anything that the machine does of its own.
        std::thread::sleep(Duration::from_secs(2));
        running.signal(libc::SIGCONT);
        let finished = running.finish().exits(5);
        let summary = finished.summary();
        assert_schema(&summary);
        let reasons = reasons(&summary);
        assert!(reasons.contains("stopped or starved of a CPU"), "{reasons}");
        let timer = &summary["results"][0]["timer"];
        let longest_s = timer["longest_away_s"].as_f64().unwrap();
        // The stop may begin up to a second before the window does.
        assert!(longest_s >= 1.0 && reasons.contains(&format!("{longest_s:.3} s at once")), "{timer} {reasons}");
        assert!(!reasons.contains("--connections"), "{reasons}");
        for threshold in summary["thresholds"].as_array().unwrap() {
            assert_eq!(threshold["certain"], false, "{threshold}");
        }
    }
}

/// The peer stands still for as long, and nothing says that we did.
#[test]
fn a_freeze_is_not_taken_for_our_absence() {
    let peer = freezing_peer(600);
    let arguments = "--rate 200/s --duration 8s --warm-up 500ms --connections 500 --agents 500 --max-lag 250ms";
    let summary = Bench::at(&peer, arguments).run().exits(3).summary();
    let longest_s = summary["results"][0]["timer"]["longest_away_s"].as_f64().unwrap();
    assert!(longest_s < FREEZE.as_secs_f64() / 2.0, "away for {longest_s} s");
    assert_eq!(threshold(&summary, "response time p95")["certain"], true);
}
