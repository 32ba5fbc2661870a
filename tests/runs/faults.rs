//! A peer that misbehaves: each fault is counted under its kind, and the phases of an exchange add up in every case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::bench::Bench;
use crate::common::certctl::all_of_certctl;
use crate::common::peer::{Peer, RECORDED, Reply, Step, TOKEN, answer, certctl, json};
use crate::common::summary::{assert_schema, measured, outcome, reasons, results, threshold};
use certctl_bench::clock::Moment;
use certctl_bench::event_loop::EventLoop;
use certctl_bench::system::base_url::BaseUrl;
use certctl_bench::wire::connection::Stopwatch;
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::{Trust, client_config};
use certctl_bench::wire::{Connection, Dialer, Fault, FaultKind, Phases, Scratch};

/// Returns a right answer that ends the connection, with a header that announces it or without.
fn last_answer(header: &str, end: Step) -> Reply {
    let length = RECORDED.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{header}\r\n");
    vec![Step::Send((head + RECORDED).into()), end]
}

/// Returns half of an answer.
fn half() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n{\"status\"".to_vec())
}

fn quarter() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\nContent-Ty".to_vec())
}

type Script = fn() -> Reply;

/// Every way in which this peer answers, and its outcome.
const WAYS: [(&str, Script); 14] = [
    ("ok", || json(200, RECORDED)),
    ("ok", || last_answer("Connection: close\r\n", Step::Close)),
    ("refused (429)", || answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n")),
    ("failed (503)", || json(503, "{}")),
    ("wrong answer", || answer(200, "text/html", "<html>")),
    ("wrong answer", || json(200, "{\"status\":\"queued\"}")),
    ("broken (closed)", || vec![Step::Close]),
    ("broken (closed)", || vec![Step::Cut]),
    ("broken (truncated)", || vec![half(), Step::Close]),
    ("broken (truncated)", || vec![half(), Step::Cut]),
    ("broken (truncated)", || vec![quarter(), Step::Cut]),
    ("broken (protocol)", || vec![Step::Send(b"+OK POP3 ready\r\n\r\n".to_vec())]),
    ("broken (tls)", || vec![half(), Step::SendRaw(b"this is no TLS record".to_vec())]),
    ("timed out", || vec![half(), Step::Silence]),
];

#[test]
fn every_fault_is_counted_under_its_kind() {
    let dealt = Arc::new(AtomicU64::new(0));
    let counter = dealt.clone();
    let peer = Peer::start(move |request| match request.is_heartbeat() {
        true => WAYS[counter.fetch_add(1, Ordering::SeqCst) as usize % WAYS.len()].1(),
        false => certctl(request),
    });
    let arguments =
        "--rate 100/s --duration 2800ms --warm-up 0s --connections 100 --agents 100 --timeout 5s --max-lag 4s";
    let finished = Bench::at(&peer, arguments).run().exits(3);
    let summary = finished.summary();
    assert_eq!((dealt.load(Ordering::SeqCst), &results(&summary)["arrivals"]["started"]), (280, &280.into()));
    for (name, _) in WAYS {
        let expected = 20 * WAYS.iter().filter(|(other, _)| *other == name).count() as u64;
        assert_eq!(outcome(&summary, name), expected, "{name}: {}", results(&summary)["outcomes"]);
    }
    // Every outcome but the right one is shown with an example; a timeout has nothing to show.
    for entry in results(&summary)["outcomes"].as_array().unwrap() {
        let silent = entry["outcome"] == "ok" || entry["outcome"] == "timed out";
        assert_eq!(entry["example"].is_null(), silent, "{entry}");
    }
    assert_eq!(
        (&summary["error_share"], &results(&summary)["latency"]["failed_response"]["count"]),
        (&(240.0 / 280.0).into(), &240.into())
    );
    let timed_out = results(&summary)["latency"]["failed_response"]["max_us"].as_f64().unwrap();
    assert!(timed_out >= 2e6, "{timed_out}");
    assert!(reasons(&summary).contains("response time p99 needs 1000 right answers, this run has 40"));
}

#[test]
fn a_wrong_answer_is_reported_with_its_content_type() {
    let json_type = "Content-Type: application/json\r\n";
    let long = format!("text/{}", "x".repeat(300));
    for (types, body, flaw) in [
        ("", RECORDED, "it has no Content-Type, expected JSON"),
        (
            &*format!("Content-Type: text/html\r\n{json_type}"),
            RECORDED,
            "the first of its 2 Content-Types is text/html, expected JSON",
        ),
        (
            &format!("Content-Type: {long}\r\n"),
            RECORDED,
            &format!("its Content-Type is {}…, expected JSON", &long[..200]),
        ),
        (&format!("Content-Type: {TOKEN}\r\n"), RECORDED, "its Content-Type is [token], expected JSON"),
        (json_type, "{}", "its JSON is not the right answer"),
    ] {
        let other = format!("HTTP/1.1 200 OK\r\n{types}Content-Length: {}\r\n\r\n{body}", body.len());
        let requests = AtomicU64::new(0);
        // The preflight's requests are the first, and answered rightly.
        let peer = Peer::start(move |request| match request.is_heartbeat() {
            true if requests.fetch_add(1, Ordering::SeqCst) >= 5 => vec![Step::Send(other.clone().into())],
            _ => certctl(request),
        });
        let summary = Bench::new("").smoke().towards_peer(&peer).run().invalid_or_breached().summary();
        let outcomes = results(&summary)["outcomes"].as_array().unwrap();
        let wrong = outcomes.iter().find(|one| one["outcome"] == "wrong answer").expect("a wrong answer");
        assert_eq!(wrong["example"], format!("200, but {flaw}: {}", body.trim()));
    }
}

#[test]
fn a_reconnect_is_counted_in_the_service_time() {
    let peer = Peer::start(|request| match request.is_heartbeat() {
        true => last_answer("Connection: close\r\n", Step::Close),
        false => certctl(request),
    });
    let arguments = "--rate 100/s --duration 2s --warm-up 0s --connections 10 --agents 10";
    let finished = Bench::at(&peer, arguments).run();
    let summary = finished.summary();
    assert_eq!(outcome(&summary, "ok"), 200);
    // The first ten went over the open connections; each of the others opened one.
    assert_eq!(
        (&results(&summary)["opening"]["tls"]["count"], &results(&summary)["reopening"]["tls"]["count"]),
        (&10.into(), &190.into())
    );
    assert_eq!(
        (&results(&summary)["reopening"]["dial"]["count"], &results(&summary)["reopening"]["kinds"][0]["count"]),
        (&190.into(), &190.into())
    );
    assert!(finished.stdout.contains("reconnects   190 full TLS1.3 "), "{}", finished.stdout);
    let p50 = |facts: &serde_json::Value| facts["p50_us"].as_f64().unwrap();
    assert!(p50(&results(&summary)["latency"]["service"]) > p50(&results(&summary)["reopening"]["tls"]));
}

#[test]
fn a_connection_closed_while_idle_is_no_fault() {
    // It closes without announcing it after each answer; half a second passes until the next use.
    let peer = Peer::start(|request| match request.is_heartbeat() {
        true => last_answer("", Step::Close),
        false => certctl(request),
    });
    let arguments = "--rate 40/s --duration 2s --warm-up 0s --connections 20 --agents 20";
    let summary = Bench::at(&peer, arguments).run().summary();
    assert_eq!((outcome(&summary, "ok"), &results(&summary)["reopening"]["tls"]["count"]), (80, &60.into()));
}

#[test]
fn connections_that_cannot_be_opened_are_a_breach() {
    // The preflight's connection is served; those of the fleet are cut, or left without an answer, at their greeting.
    // The preflight sends 1 + 128 greetings.
    for (served, step, timeout, message) in [
        (5, (|| Step::Cut) as fn() -> Step, "120s", "opened 5 of 50 connections, then closed: "),
        (0, || Step::Silence, "500ms", "opened 0 of 50 connections, then connect: not open within 500ms"),
    ] {
        let greetings = AtomicU64::new(0);
        let peer = Peer::start(move |request| match request.path.as_str() {
            "/health" if greetings.fetch_add(1, Ordering::SeqCst) >= 129 + served => vec![step()],
            _ => certctl(request),
        });
        let finished = Bench::at(&peer, &format!("--agents 50 --max-lag 400ms --timeout {timeout}")).run().exits(3);
        let summary = finished.summary();
        assert_schema(&summary);
        let breach = summary["breaches"][0].as_str().unwrap();
        assert!(breach.starts_with(message) && breach.contains("lower --connect-rate or --connections"), "{breach}");
        assert!(finished.stdout.contains(message), "{}", finished.stdout);
        assert_eq!(summary["invalid"], serde_json::json!([]), "{}", finished.stdout);
        let opening = threshold(&summary, "failed attempts to connect");
        assert_eq!(opening["passed"], false, "{opening}");
        assert_eq!(results(&summary)["arrivals"]["scheduled"], 0, "{}", finished.stdout);
        assert!(summary["ended_early"].as_str().unwrap().starts_with("before the load"), "{summary}");
        assert_eq!(summary["generator"]["busy_share"], 0.0);
    }
    // Of two workloads the second does not begin either.
    let greetings = AtomicU64::new(0);
    let peer = Peer::start(move |request| match request.path.as_str() {
        "/health" if greetings.fetch_add(1, Ordering::SeqCst) >= 129 => vec![Step::Cut],
        "/health" => certctl(request),
        _ => all_of_certctl(request),
    });
    let summary = Bench::named("api_tier", "").measured().towards_peer(&peer).run().exits(3).summary();
    assert_eq!((&summary["invalid"], measured(&summary).len()), (&serde_json::json!([]), 2));
}

// Ending early --------------------------------------------------------------------------------------------------------

#[test]
fn an_overloaded_system_ends_the_run_at_the_error_limit() {
    // From the 200th heartbeat on every answer is an error.
    let beats = Arc::new(AtomicU64::new(0));
    let counter = beats.clone();
    let peer = Peer::start(move |request| match request.is_heartbeat() {
        true if counter.fetch_add(1, Ordering::SeqCst) >= 200 => json(503, "{}"),
        _ => certctl(request),
    });
    // The whole run would take an hour.
    let arguments = "--rate 100/s --duration 1h --warm-up 0s --agents 100 --abort-on-errors 50%/1s";
    let finished = Bench::at(&peer, arguments).run().exits(3);
    let summary = finished.summary();
    assert_schema(&summary);
    let breach = summary["breaches"][0].as_str().unwrap();
    assert!(breach.contains("of the requests that ended within 1s failed") && breach.contains("--abort-on-errors"));
    assert!(summary["ended_early"].as_str().unwrap().starts_with("by --abort-on-errors: "));
    // The measurement is complete, to the last answer.
    let arrivals = &results(&summary)["arrivals"];
    assert_eq!((arrivals["started"].as_u64(), outcome(&summary, "ok")), (Some(beats.load(Ordering::SeqCst)), 200));
    assert_eq!((&arrivals["partial"], &arrivals["unsent"]), (&false.into(), &0.into()));
    assert!(finished.stdout.contains("\nended early  ") && finished.stdout.contains("\nbreached     "));

    // It is off by default, and lets fewer errors pass.
    let arguments = "--rate 100/s --duration 1s --warm-up 0s --agents 100";
    let finished = Bench::at(&peer, arguments).run().exits(3);
    assert_eq!(
        (&finished.summary()["ended_early"], outcome(&finished.summary(), "failed (503)")),
        (&serde_json::Value::Null, 100)
    );
}

#[test]
fn the_request_limit_is_exact() {
    let beats = Arc::new(AtomicU64::new(0));
    let counter = beats.clone();
    let peer = Peer::start(move |request| {
        counter.fetch_add(u64::from(request.is_heartbeat()), Ordering::SeqCst);
        certctl(request)
    });
    let arguments = "--rate 100/s --duration 1h --warm-up 500ms --agents 100 --max-requests 350";
    let finished = Bench::at(&peer, arguments).run();
    let summary = finished.summary();
    assert_schema(&summary);
    assert_eq!(beats.load(Ordering::SeqCst), 350);
    let arrivals = &results(&summary)["arrivals"];
    assert_eq!((&arrivals["warm_up"], &arrivals["scheduled"], outcome(&summary, "ok")), (&50.into(), &300.into(), 300));
    assert_eq!((&arrivals["partial"], &arrivals["unsent"]), (&false.into(), &0.into()));
    assert!(arrivals["measured_s"].as_f64().unwrap() >= 2.9, "{arrivals}");
    assert_eq!(summary["ended_early"], "after 350 requests, the limit of --max-requests");

    // A longer run would have no more.
    let few = Bench::at(&peer, "--rate 100/s --duration 1h --warm-up 0s --agents 10 --max-requests 3").run().summary();
    let hint = "response time p95 needs 200 right answers, this run has 3 (raise --max-requests)";
    assert!(reasons(&few).contains(hint), "{}", reasons(&few));

    for wrong in ["--max-requests 0", "--abort-on-errors 50", "--abort-on-errors 0%/10s"] {
        Bench::at(&peer, wrong).refused(2);
    }
}

/// An old result is not taken for that of a run that could not start.
#[test]
fn a_run_that_cannot_start_removes_old_results() {
    let greetings = Arc::new(AtomicU64::new(0));
    let counter = greetings.clone();
    let broken = Arc::new(AtomicU64::new(0));
    let breaks = broken.clone();
    let peer = Peer::start(move |request| match request.path.as_str() {
        _ if breaks.load(Ordering::SeqCst) == 0 => certctl(request),
        "/health" if counter.fetch_add(1, Ordering::SeqCst) > 0 => vec![Step::Cut],
        _ => certctl(request),
    });
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let bench = Bench::at(&peer, "--rate 50/s --duration 1s --warm-up 0s --agents 20");
        bench.env("CERTCTL_BENCH_OUTPUT", folder.path().to_str().unwrap()).run()
    };
    run();
    let summary = folder.path().join("summary.json");
    let first = std::fs::read_to_string(&summary).unwrap();
    broken.store(1, Ordering::SeqCst);
    assert_ne!(run().code, Some(0));
    assert!(!summary.exists() || std::fs::read_to_string(&summary).unwrap() != first);
    assert_eq!(std::fs::read_to_string(folder.path().join("previous-summary.json")).unwrap(), first);
}

// One exchange --------------------------------------------------------------------------------------------------------

/// The result of one exchange.
struct Exchange {
    phases: Phases,
    service_ns: u64,
    answered: Result<bool, Fault>,
}

/// Sends a peer one request, over a new connection or one that is open.
async fn exchange(dialer: &Dialer, connection: &mut Option<Connection>) -> Exchange {
    let start = Moment::now();
    let (mut watch, mut phases, mut scratch) = (Stopwatch::from(start), Phases::default(), Scratch::default());
    if connection.is_none() {
        *connection = Some(dialer.open(&mut watch, &mut phases).await.unwrap());
    }
    scratch.request = encode(Method::Post, "/", "localhost", None, "{}");
    let answered = connection.as_mut().unwrap().exchange(Method::Post, &mut scratch, &mut watch, &mut phases).await;
    Exchange { phases, service_ns: watch.last().ns_since(start), answered }
}

/// Sends one request to a peer that replies so: on a new connection, and on one over which it has answered well before.
fn exchanges(reply: impl Fn() -> Reply + Send + Sync + 'static) -> [Exchange; 2] {
    let first = Mutex::new(true);
    let peer = Peer::start(move |_| match std::mem::replace(&mut *first.lock().unwrap(), false) {
        true => json(200, "{}"),
        false => reply(),
    });
    let trust = Trust::from_file(&peer.ca_file()).unwrap();
    let name = "https://localhost".parse::<BaseUrl>().unwrap().server_name().unwrap();
    let dialer = Dialer::new(peer.address(), name, client_config(&trust).unwrap());
    EventLoop::new().unwrap().block_on(async {
        let mut open = None;
        exchange(&dialer, &mut open).await.answered.unwrap();
        let reused = exchange(&dialer, &mut open).await;
        [exchange(&dialer, &mut None).await, reused]
    })
}

/// Long beside any delay that a busy machine adds; half of it is looked for.
const PAUSE: Duration = Duration::from_millis(300);
const PAUSE_NS: u64 = PAUSE.as_nanos() as u64;

#[test]
fn phases_add_up_to_the_service_time() {
    let chunked = || {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec();
        vec![Step::Wait(PAUSE), Step::Send(head), Step::Wait(PAUSE), Step::Send(b"0\r\n\r\n".to_vec())]
    };
    let interim = || {
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
        vec![Step::Wait(PAUSE), Step::Send(interim), Step::Wait(PAUSE)].into_iter().chain(json(200, "{}")).collect()
    };
    let slow_head = || {
        let rest = b"pe: text/plain\r\nContent-Length: 0\r\n\r\n".to_vec();
        vec![Step::Wait(PAUSE), quarter(), Step::Wait(PAUSE), Step::Send(rest)]
    };
    let truncated = || vec![Step::Wait(PAUSE), half(), Step::Wait(PAUSE), Step::Close];
    let cut = || vec![Step::Wait(PAUSE), half(), Step::Wait(PAUSE), Step::Cut];
    let garbage = || vec![Step::Wait(PAUSE), half(), Step::Wait(PAUSE), Step::SendRaw(vec![b'x'; 64])];
    for (name, reply, fault) in [
        ("chunked", chunked as Script, None),
        ("interim", interim, None),
        ("slow head", slow_head, None),
        ("truncated", truncated, Some(FaultKind::Truncated)),
        ("cut", cut, Some(FaultKind::Truncated)),
        ("garbage", garbage, Some(FaultKind::Tls)),
    ] {
        for (exchange, is_new) in exchanges(reply).into_iter().zip([true, false]) {
            let Exchange { phases, service_ns, answered } = exchange;
            assert_eq!(answered.as_ref().err().map(|fault| fault.kind), fault, "{name}: {answered:?}");
            assert_eq!(phases.total_ns(), service_ns, "{name}: {phases:?}");
            // Each phase shows the time that the peer took in it.
            let shown = |ns: u64| ns >= PAUSE_NS / 2;
            assert!(shown(phases.first_byte_ns) && shown(phases.receive_ns), "{name}: {phases:?}");
            assert_eq!((phases.dial_ns > 0, phases.tls_ns() > 0), (is_new, is_new), "{name}: {phases:?}");
            assert!(phases.send_ns > 0);
        }
    }
}

#[test]
fn a_slow_handshake_appears_in_its_phase() {
    // A listener that passes bytes on to the peer, the first of them late.
    let peer = Peer::start(|_| json(200, "{}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), peer.address());
    runtime.spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tokio::time::sleep(PAUSE).await;
        let mut peer = tokio::net::TcpStream::connect(behind).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut tcp, &mut peer).await;
    });
    let trust = Trust::from_file(&peer.ca_file()).unwrap();
    let name = "https://localhost".parse::<BaseUrl>().unwrap().server_name().unwrap();
    let dialer = Dialer::new(address, name, client_config(&trust).unwrap());
    let began = Instant::now();
    let Exchange { phases, service_ns, answered } = EventLoop::new().unwrap().block_on(exchange(&dialer, &mut None));
    let elapsed_ns = began.elapsed().as_nanos() as u64;
    assert!(answered.unwrap());
    assert_eq!(phases.total_ns(), service_ns);
    assert!(phases.hello_ns >= PAUSE_NS / 2 && service_ns <= elapsed_ns, "{phases:?}, {elapsed_ns} ns in all");
}
