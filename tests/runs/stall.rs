//! A server that stalls: an open workload reports the wait of its clients, where a closed one would hide it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::bench::{Bench, Finished};
use crate::common::peer::{Peer, Step, certctl};
use crate::common::summary::{assert_schema, outcome, reasons, results, threshold};

/// The time for which the peer withholds every answer.
const FREEZE: Duration = Duration::from_secs(2);

/// Starts a peer whose clock stops at the `first`-th heartbeat of the workload and goes on after [`FREEZE`].
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
const STALL: &str = "--rate 200/s --duration 20s --warm-up 1s --agents 500 --max-lag 250ms";

/// A run of it over enough connections for every arrival of the freeze, and one over so few that most of these
/// arrivals wait for one. Each at a peer of its own, side by side.
static STALLS: LazyLock<[Finished; 2]> = LazyLock::new(|| {
    let runs = [500, 20].map(|connections| {
        // A second of warm-up and nine of the window are before it.
        let peer = freezing_peer(200 * (1 + 9));
        let running = Bench::at(&peer, &format!("{STALL} --connections {connections}")).start();
        (peer, running)
    });
    runs.map(|(_peer, running)| running.finish().exits(3))
});

fn seconds(summary: &Value, what: &str, quantile: &str) -> f64 {
    results(summary)["latency"][what][quantile].as_f64().expect(what) / 1e6
}

/// Asserts a time that no machine shortens, and bounds the time that one may take to catch up with the arrivals that
/// have waited.
#[track_caller]
fn assert_analytic(measured: f64, analytic: f64, what: &str) {
    assert!((0.9..2.0).contains(&(measured / analytic)), "{what}: {measured} s, not {analytic} s");
}

#[test]
fn a_stall_has_its_analytic_quantiles() {
    let finished = &STALLS[0];
    let summary = finished.summary();
    let arrivals = &results(&summary)["arrivals"];
    assert_eq!((&arrivals["scheduled"], &arrivals["started"]), (&4_000.into(), &4_000.into()));
    assert_eq!((&arrivals["unsent"], &arrivals["warm_up"]), (&0.into(), &200.into()));
    assert_eq!(outcome(&summary, "ok"), 4_000);

    let seconds = |what: &str, quantile: &str| seconds(&summary, what, quantile);
    for (quantile, analytic) in [("p95_us", 1.0), ("p99_us", 1.8), ("max_us", 2.0)] {
        for what in ["response", "service"] {
            assert_analytic(seconds(what, quantile), analytic, &format!("{what} time {quantile}"));
        }
    }
    // Beside it: each request was sent in time and waited for the server alone.
    assert!(seconds("schedule_lag", "p99_us") < seconds("response", "p99_us") / 4.0);
    // Nine in ten clients noticed nothing.
    assert!(seconds("response", "p50_us") < seconds("response", "p95_us") / 4.0);

    let breached = |name: &str| threshold(&summary, name)["passed"] == false;
    assert!(breached("response time p95") && breached("response time p99") && !breached("errors"));
    assert_eq!((&summary["verdict"], &summary["exit_code"]), (&"breached".into(), &3.into()));
    // The timeline shows the stall in its place: some two seconds, next to one another.
    let slow = |second: &Value| second["max_us"].as_f64().unwrap() > 0.5e6;
    let timeline = results(&summary)["timeline"].as_array().unwrap();
    let slow: Vec<usize> = (0..20).filter(|second| slow(&timeline[*second])).collect();
    assert!((2..=4).contains(&slow.len()) && [8, 9].contains(&slow[0]), "{slow:?}");
    assert!(slow.windows(2).all(|pair| pair[1] == pair[0] + 1), "{slow:?}");
    assert!(finished.stdout.contains("BREACHED") && finished.stdout.contains("(exit 3)"), "{}", finished.stdout);
}

/// Over so few connections each of the few requests that were under way is slow, and the rest are quick once they are
/// sent: in their service time the stall is an exception, as in any generator that waits for its server. They waited
/// because the server kept every connection: at a server that answers as usual, 20 would have been enough. So it is a
/// breach, and not the generator's fault.
#[test]
fn a_small_pool_does_not_hide_a_stall() {
    let summary = STALLS[1].summary();
    assert_schema(&summary);
    assert_eq!((outcome(&summary, "ok"), &results(&summary)["arrivals"]["unsent"]), (4_000, &0.into()));
    for (quantile, analytic) in [("p95_us", 1.0), ("p99_us", 1.8)] {
        let seconds = |what: &str| seconds(&summary, what, quantile);
        assert_analytic(seconds("response"), analytic, &format!("response time {quantile}"));
        assert!(seconds("service") < analytic / 2.0, "service time {quantile}: {} s", seconds("service"));
        // The schedule lag beside them states the rest.
        assert_analytic(seconds("schedule_lag"), analytic, &format!("schedule lag {quantile}"));
    }
    let arrivals = &results(&summary)["arrivals"];
    let count = |name: &str| arrivals[name].as_u64().unwrap();
    // 350 arrivals are due more than 250 ms before the thaw.
    assert!(count("late_for_connection") >= 300, "{arrivals}");
    assert_eq!(summary["verdict"], "breached");
    assert!(!reasons(&summary).contains("--connections"), "{}", reasons(&summary));
}

/// Arrivals that a frozen server kept from being sent at all are its errors.
#[test]
fn unsent_arrivals_of_a_frozen_server_are_its_errors() {
    let peer = freezing_peer(400);
    let arguments =
        "--rate 200/s --duration 6s --warm-up 500ms --connections 20 --agents 200 --timeout 1s --max-lag 250ms";
    let finished = Bench::at(&peer, arguments).run().exits(3);
    let summary = finished.summary();
    let count = |name: &str| results(&summary)["arrivals"][name].as_u64().unwrap();
    assert_eq!((count("scheduled"), count("started") + count("unsent")), (1_200, 1_200));
    // 400 arrivals fell into the freeze. The 20 connections took some of them, and those of the last second could
    // wait for its end.
    assert!((50..400).contains(&count("unsent")), "{} unsent", count("unsent"));
    assert!(count("late") >= 100, "{} late", count("late"));
    assert!(outcome(&summary, "timed out") >= 20, "{}", results(&summary)["outcomes"]);
    let answered = outcome(&summary, "ok") as f64;
    assert!((summary["error_share"].as_f64().unwrap() - (1.0 - answered / 1_200.0)).abs() < 1e-9);
    let errors = threshold(&summary, "errors");
    assert_eq!((&errors["passed"], &errors["certain"], &errors["of"]), (&false.into(), &true.into(), &1_200.into()));
    assert!(errors["beyond"].as_u64().unwrap() >= 70, "{errors}");
    // The server's stall shows in the response time; service time alone would have hidden it.
    let p90 = |what: &str| results(&summary)["latency"][what]["p90_us"].as_f64().unwrap();
    assert!(p90("response") > 2.0 * p90("service"), "response {}, service {}", p90("response"), p90("service"));
}

/// A server that takes 300 ms for everything keeps the thresholds, but not with so few connections: that is the
/// generator's fault.
#[test]
fn a_pool_too_small_for_a_steady_server_is_invalid() {
    let peer = Peer::start(|request| match request.is_heartbeat() {
        true => [Step::Wait(Duration::from_millis(300))].into_iter().chain(certctl(request)).collect(),
        false => certctl(request),
    });
    let arguments = "--rate 100/s --duration 5s --warm-up 500ms --connections 10 --agents 200 --max-lag 250ms";
    let finished = Bench::at(&peer, arguments).run().exits(5);
    let reasons = reasons(&finished.summary());
    assert!(reasons.contains("most waited for a connection, and would have waited even if every answer"), "{reasons}");
    assert!(reasons.contains("raise --connections"), "{reasons}");
}

/// A stopped generator is not a frozen server: a peer that always answers is never blamed, and the reason states for
/// how long the generator was away.
#[test]
fn an_absence_of_the_generator_is_named_as_its_own() {
    let peer = Peer::start(certctl);
    for connections in [20, 500] {
        let arguments = format!(
            "--rate 100/s --duration 4s --warm-up 500ms --connections {connections} --agents 500 --max-lag 250ms"
        );
        let mut running = Bench::at(&peer, &arguments).start();
        running.wait_until_measuring();
        running.signal(Signal::STOP);
        // Long beside any pause of the machine's own.
        std::thread::sleep(Duration::from_secs(2));
        running.signal(Signal::CONT);
        let finished = running.finish();
        let summary = finished.summary();
        assert_schema(&summary);
        let reasons = reasons(&summary);
        assert!(reasons.contains("stopped or starved of a CPU"), "{reasons}");
        let timer = &results(&summary)["timer"];
        let longest_s = timer["longest_away_s"].as_f64().unwrap();
        // The stop may begin up to a second before the window does.
        assert!(longest_s >= 1.0 && reasons.contains(&format!("{longest_s:.3} s at once")), "{timer} {reasons}");
        assert!(!reasons.contains("--connections"), "{reasons}");
        // Where the machine is so busy that most answers take a tenth of a second, this peer is slow by itself.
        if seconds(&summary, "service", "p50_us") < 0.1 {
            let finished = finished.exits(5);
            for threshold in summary["thresholds"].as_array().unwrap() {
                assert_eq!(threshold["certain"], false, "{}", finished.stdout);
            }
        }
    }
}

/// The peer stands still for as long, and the generator is not reported as away.
#[test]
fn a_frozen_system_is_not_reported_as_an_absence() {
    let peer = freezing_peer(400);
    let arguments = "--rate 200/s --duration 6s --warm-up 500ms --connections 500 --agents 500 --max-lag 250ms";
    let summary = Bench::at(&peer, arguments).run().exits(3).summary();
    let longest_s = results(&summary)["timer"]["longest_away_s"].as_f64().unwrap();
    assert!(longest_s < FREEZE.as_secs_f64() / 2.0, "away for {longest_s} s");
    assert_eq!(threshold(&summary, "response time p95")["certain"], true);
}
