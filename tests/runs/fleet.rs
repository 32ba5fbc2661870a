//! `agent_storm --fleet real` and `--fleet restart` from their front door: a fleet in operation, and after an outage.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::bench::Bench;
use crate::common::certctl::all_of_certctl;
use crate::common::needs::needs;
use crate::common::peer::{Peer, Request, Step, json};
use crate::common::summary::{
    assert_calls, assert_only_too_short, assert_schema, assert_work, observed, outcome, outcome_of, reasons, results,
    threshold,
};

/// The requests of one agent, as the peer saw them.
#[derive(Default)]
struct Seen {
    connections: BTreeSet<u64>,
    heartbeats: u64,
    polls: u64,
}

/// Returns the agent in the path of a request, if the workload sent it.
fn agent(request: &Request) -> Option<String> {
    let requests = request.is_heartbeat() || request.is_poll();
    requests.then(|| request.path.split('/').nth(4).unwrap().to_owned())
}

/// Returns the results of a step, by name.
fn step<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let steps = results(summary)["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {steps:?}"))
}

#[test]
fn a_restart_longer_than_the_window_is_refused() {
    for (arguments, durations) in [
        ("--restart-within 5m --duration 1s", ("5m", "1s")),
        ("--duration 5s", ("5s", "5s")),
        ("--restart-within 2m", ("2m", "2m")),
    ] {
        let refused = Bench::new(&format!("--fleet restart --in-memory {arguments}")).measured().refused(2);
        let (within, window) = durations;
        let wanted = format!(
            "error: --restart-within {within} must be below --duration {window}: otherwise the fleet is not back when \
             the run ends\n\
             hint: lower --restart-within, or lengthen --duration\n"
        );
        assert_eq!(refused.messages(), wanted);
    }
}

#[test]
fn a_real_fleet_passes_its_side_effect_check() {
    needs!(Postgresql);
    let arguments = "--fleet real --agents 3000 --duration 3s --warm-up 500ms --connect-rate 2000/s";
    let summary = Bench::new(arguments).measured().run().invalid_or_breached().summary();
    assert_schema(&summary);
    // Real agents are too quiet for the p99 of a few seconds.
    assert_only_too_short(&summary);
    let results = results(&summary);
    let count = |arrivals: &str| results["arrivals"][arrivals].as_u64().unwrap();
    assert_eq!(outcome(&summary, "ok"), count("scheduled"));
    let work = results["work"].as_array().unwrap();
    let found = |index: usize| work[index]["found"].as_u64().unwrap();
    let [heard, heartbeats, polls] = [found(0), found(1), found(2)];
    assert_work(
        results,
        &[
            // A minute has no second heartbeat of the same agent.
            ("agents whose row shows their last accepted heartbeat", heard),
            ("audit rows of accepted heartbeats", heard),
            ("audit rows of answered polls", polls),
        ],
    );
    assert_eq!(heartbeats + polls, count("warm_up") + count("scheduled"));
    // Statements of a heartbeat: permissions, the agent, its UPDATE, the audit row. Of a poll: permissions, the agent,
    // BEGIN, three queries for jobs, COMMIT, the audit row.
    assert_calls(&summary, 4 * heartbeats + 8 * polls, heartbeats + polls);
}

#[test]
fn each_real_agent_has_its_own_connection() {
    let agents: Arc<Mutex<BTreeMap<String, Seen>>> = Arc::default();
    let seen = agents.clone();
    let peer = Peer::start(move |request| {
        if let Some(agent) = agent(request) {
            let mut agents = seen.lock().unwrap();
            let one = agents.entry(agent).or_default();
            one.connections.insert(request.connection);
            one.heartbeats += u64::from(request.is_heartbeat());
            one.polls += u64::from(request.is_poll());
        }
        all_of_certctl(request)
    });
    let arguments = "--fleet real --agents 1500 --duration 6s --warm-up 0s --connect-rate 2000/s";
    let summary = Bench::new(arguments).measured().towards_peer(&peer).run().invalid_or_breached().summary();
    assert_only_too_short(&summary);
    assert_eq!(
        (&results(&summary)["opening"]["tls"]["count"], outcome(&summary, "broken (closed)")),
        (&1_500.into(), 0)
    );
    // The preflight's connections are the rest.
    assert!((1_500..1_505).contains(&peer.connections()), "{}", peer.connections());

    let agents = agents.lock().unwrap();
    let mut connections = BTreeSet::new();
    for (agent, seen) in agents.iter() {
        assert_eq!(seen.connections.len(), 1, "{agent} on {:?}", seen.connections);
        assert!(connections.insert(seen.connections.first().unwrap()), "{agent} shares a connection");
        // Every 60 s and every 30 s, give or take a tenth: no second one within 6 s.
        assert!(seen.heartbeats <= 1 && seen.polls <= 1, "{agent}: {} and {}", seen.heartbeats, seen.polls);
    }
    let sum = |count: fn(&Seen) -> u64| agents.values().map(count).sum::<u64>();
    let [heartbeats, polls] = [sum(|seen| seen.heartbeats), sum(|seen| seen.polls)];
    assert_eq!([&step(&summary, "heartbeat")["scheduled"], &step(&summary, "poll")["scheduled"]], [heartbeats, polls]);
    // 1500 × 6/60 and 1500 × 6/30; the seed of the schedule is fixed.
    assert!((120..180).contains(&heartbeats) && (255..345).contains(&polls), "{heartbeats} and {polls}");
    let both = agents.values().filter(|seen| seen.heartbeats + seen.polls == 2).count();
    assert!(both >= 15, "only {both} agents sent both");
}

/// The return of the first and of the last agent, and the kinds of the first request on each connection.
#[derive(Default)]
struct Return {
    first: Option<Instant>,
    last: Option<Instant>,
    agents: BTreeSet<String>,
    greeted: BTreeSet<u64>,
    connections: BTreeSet<u64>,
}

#[test]
fn a_restarted_fleet_returns_on_new_connections() {
    let back: Arc<Mutex<Return>> = Arc::default();
    let seen = back.clone();
    let peer = Peer::start(move |request| {
        let mut back = seen.lock().unwrap();
        match agent(request) {
            None => {
                back.greeted.insert(request.connection);
            }
            Some(agent) => {
                back.connections.insert(request.connection);
                if back.agents.insert(agent) {
                    back.first.get_or_insert_with(Instant::now);
                    back.last = Some(Instant::now());
                }
            }
        }
        all_of_certctl(request)
    });
    let arguments = "--fleet restart --agents 300 --restart-within 1s --duration 3s";
    let finished = Bench::new(arguments).measured().towards_peer(&peer).run().worked();
    let summary = finished.summary();
    assert_schema(&summary);
    let results = results(&summary);
    // Nothing was opened before the load, and each agent's first request opened its connection.
    assert_eq!((&results["opening"]["tls"]["count"], &results["reopening"]["tls"]["count"]), (&0.into(), &300.into()));
    assert_eq!((outcome_of(step(&summary, "reconnect"), "ok"), &results["arrivals"]["warm_up"]), (300, &0.into()));

    let back = back.lock().unwrap();
    assert_eq!((back.agents.len(), back.connections.len()), (300, 300));
    let shared = back.greeted.intersection(&back.connections).count();
    assert_eq!(shared, 0, "connections on which something else came before the first heartbeat");

    let agents_back = observed(results, "agents back");
    assert_eq!((&agents_back["count"], &agents_back["of"]), (&300.into(), &300.into()));
    // From the first request to the last answer; the peer saw the last request a little before.
    let recovered = observed(results, "time to recovered")["duration_s"].as_f64().unwrap();
    let seen = back.last.unwrap() - back.first.unwrap();
    assert!(seen > Duration::from_millis(500), "300 agents within a second came back within {seen:?}");
    assert!(recovered > seen.as_secs_f64() - 0.1, "{recovered} s, where the peer saw {seen:?}");
    let line = "time to recovered, first reconnect to last agent accepted: ";
    assert!(
        finished.stdout.contains(line) && finished.stdout.contains("agents back: 300 of 300\n"),
        "{}",
        finished.stdout
    );
}

/// Forwards connections to a peer, each after this delay: until then it neither reads nor writes.
fn delaying(peer: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                let server = TcpStream::connect(peer)?;
                let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
                std::thread::spawn(move || {
                    // Either side may go away.
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                    to_server.shutdown(Shutdown::Write)
                });
                std::io::copy(&mut { server }, &mut { client })
            });
        }
    });
    address
}

/// An agent's reconnect begins at the moment at which it opens its connection.
#[test]
fn recovery_time_starts_at_the_first_connection() {
    const DELAY: Duration = Duration::from_secs(1);
    let peer = Peer::start(all_of_certctl);
    let base = format!("https://{}", delaying(peer.address(), DELAY));
    let arguments = "--fleet restart --agents 20 --restart-within 100ms --duration 3s";
    let summary = Bench::at_base(&base, &peer.ca_file(), arguments).run().worked().summary();
    let recovered = observed(results(&summary), "time to recovered")["duration_s"].as_f64().unwrap();
    assert!(recovered >= DELAY.as_secs_f64(), "{recovered} s");
}

#[test]
fn a_restarted_fleet_passes_its_side_effect_check() {
    needs!(Postgresql);
    let summary = Bench::new("--fleet restart").smoke().run().exits(0).summary();
    let results = results(&summary);
    let polls = results["work"][2]["found"].as_u64().unwrap();
    assert_work(
        results,
        &[
            ("agents whose row shows their last accepted heartbeat", 100),
            ("audit rows of accepted heartbeats", 100),
            ("audit rows of answered polls", polls),
        ],
    );
    assert_eq!(outcome(&summary, "ok"), 100 + polls);
    assert_calls(&summary, 4 * 100 + 8 * polls, 100 + polls);
}

#[test]
fn a_heartbeat_of_the_contract_fleet_costs_four_statements() {
    needs!(Postgresql);
    let summary = Bench::new("").smoke().run().exits(0).summary();
    // A second and 200 ms of warm-up at 100/s.
    assert_calls(&summary, 4 * 120, 120);
}

#[test]
fn a_fleet_with_refused_agents_never_recovers() {
    let refused = ["ag-loadtest-00007", "ag-loadtest-00042"];
    let peer = Peer::start(move |request| match agent(request) {
        Some(agent) if refused.contains(&agent.as_str()) => json(503, "{\"error\":\"try again\"}"),
        _ => all_of_certctl(request),
    });
    let arguments = "--fleet restart --agents 100 --restart-within 500ms --duration 2s";
    let finished = Bench::new(arguments).measured().towards_peer(&peer).run().exits(5);
    let summary = finished.summary();
    let results = results(&summary);
    let recovered = observed(results, "time to recovered");
    assert_eq!((&recovered["duration_s"], &recovered["count"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&observed(results, "agents back")["count"], outcome_of(step(&summary, "reconnect"), "failed (503)")),
        (&98.into(), 2)
    );
    let what = "time to recovered, first reconnect to last agent accepted";
    let reason = format!("{what}: not observed (lengthen --duration, or check what failed)");
    assert!(reasons(&summary).contains(&reason), "{}", reasons(&summary));
    assert!(finished.stdout.contains(&format!("{what}: never\n")), "{}", finished.stdout);
}

#[test]
fn rate_flags_are_refused_for_real_agents() {
    for flags in ["--fleet real --rate 100/s", "--fleet restart --arrivals poisson", "--fleet real --connections 10"] {
        let flag = flags.split(' ').nth(2).unwrap();
        let refused = Bench::new(flags).measured().refused(2);
        let why = "applies only to --fleet contract: real agents have their own schedule and connections: leave it \
                   out\n";
        assert!(refused.stderr.starts_with(&format!("error: {flag} {why}")), "{}", refused.stderr);
    }
    let refused = Bench::new("--fleet restart --warm-up 5s").measured().refused(2);
    assert!(refused.stderr.contains("--warm-up does not apply to --fleet restart"), "{}", refused.stderr);
}

/// An environment is set for many runs: variables that a fleet does not use are ignored.
#[test]
fn variables_for_other_fleets_are_ignored() {
    let peer = Peer::start(all_of_certctl);
    let mut bench = Bench::at(&peer, "--fleet real --agents 50 --duration 2s");
    for (name, value) in [("RATE", "9/s"), ("CONNECTIONS", "3"), ("RESTART_WITHIN", "1s")] {
        bench.command.env(format!("CERTCTL_BENCH_{name}"), value);
    }
    let summary = bench.run().invalid_or_breached().summary();
    assert_only_too_short(&summary);
    assert_eq!(results(&summary)["opening"]["tls"]["count"], 50);
}

/// The peer falls silent for longer than agents wait. The requests that could not be sent meanwhile are its fault, not
/// the generator's.
#[test]
fn a_fleet_frozen_past_its_timeout_is_a_breach() {
    let requests = std::sync::atomic::AtomicU64::new(0);
    let peer = Peer::start(move |request| match agent(request) {
        Some(_) if requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 50 => vec![Step::Silence],
        _ => all_of_certctl(request),
    });
    let arguments = "--fleet real --agents 600 --duration 5s --warm-up 0s --timeout 1s --max-lag 900ms";
    let finished = Bench::new(arguments).measured().towards_peer(&peer).run().exits(3);
    let summary = finished.summary();
    assert!(outcome(&summary, "ok") <= 50);
    assert_eq!(threshold(&summary, "errors")["certain"], true);
    let reasons = reasons(&summary);
    assert!(!reasons.contains("never sent") && !reasons.contains("late"), "{reasons}");
}
