//! Peers that misbehave, each alone over one connection and all together before a bench program.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::bench::Bench;
use crate::common::certctl::all_of_certctl;
use crate::common::misbehaviour::{CASES, Case, Layer};
use crate::common::peer::{Manners, Peer, RECORDED, Reply, Step, certctl, json};
use crate::common::process::PATIENCE;
use crate::common::summary::{outcome, outcome_of, results};
use certctl_bench::clock::Moment;
use certctl_bench::event_loop::{EventLoop, timeout};
use certctl_bench::load::arrival::PlannedRequest;
use certctl_bench::measure::Outcome;
use certctl_bench::scenario::Scenario as _;
use certctl_bench::scenario::agent_storm::{AgentStorm, Fleet, HEARTBEAT};
use certctl_bench::system::base_url::BaseUrl;
use certctl_bench::wire::connection::{Idle, Stopwatch};
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::{Trust, client_config};
use certctl_bench::wire::{Connection, Dialer, Fault, FaultKind, Phases, Scratch};

/// The time for which a silent peer is waited for; any other peer is waited for however busy the machine is.
const SILENCE: Duration = Duration::from_millis(300);

// Each alone ----------------------------------------------------------------------------------------------------------

/// Returns steps that note, before they end or once they are done, that the client may go on.
fn noting(mut steps: Reply, done: &Sender<()>) -> Reply {
    let ends = |step: &Step| matches!(step, Step::Close | Step::Cut | Step::Reset | Step::Silence | Step::Hold);
    let at = steps.iter().position(ends).unwrap_or(steps.len());
    let done = done.clone();
    // A client that has given up waits for nothing.
    steps.insert(at, Step::Do(Box::new(move || _ = done.send(()))));
    steps
}

/// A client of a peer that misbehaves, with the signals that it needs from it.
struct Client {
    storm: AgentStorm,
    dialer: Dialer,
    body: String,
    opened: Receiver<()>,
    answered: Receiver<()>,
}

impl Client {
    /// Opens a connection, once the peer has taken its steps on it before a request.
    async fn open(&self) -> Result<Connection, Fault> {
        let mut watch = Stopwatch::from(Moment::now());
        let connection = self.dialer.open(&mut watch, &mut Phases::default()).await?;
        self.opened.recv_timeout(PATIENCE).unwrap();
        Ok(connection)
    }

    /// Sends a heartbeat as a run does, over a connection that it keeps.
    async fn heartbeat(&self, kept: &mut Option<Connection>) -> Outcome {
        self.exchange(kept).await.unwrap_or_else(|fault| Outcome::Broken(fault.kind))
    }

    async fn exchange(&self, kept: &mut Option<Connection>) -> Result<Outcome, Fault> {
        let connection = match &mut *kept {
            Some(connection) => connection,
            none => none.insert(self.open().await?),
        };
        match connection.idle() {
            Idle::Quiet => {}
            Idle::Closed => return Err(Fault::new(FaultKind::Closed, "while idle")),
            Idle::Spoke(fault) => return Err(fault),
        }
        let mut scratch = Scratch::default();
        scratch.bound_body(self.storm.longest_answer());
        scratch.request = encode(Method::Post, &AgentStorm::path(1), "localhost", None, &self.body);
        let start = Moment::now();
        let (mut watch, mut phases) = (Stopwatch::from(start), Phases::default());
        let exchanged = connection.exchange(Method::Post, &mut scratch, &mut watch, &mut phases).await;
        assert_eq!(phases.total_ns(), watch.last().ns_since(start), "{phases:?}");
        if !(exchanged? || connection.is_out_of_step()) {
            *kept = None;
        }
        let planned = PlannedRequest { seq: 0, client: 0, step: HEARTBEAT };
        Ok(self.storm.judge(planned, start, &scratch.response().unwrap()))
    }
}

/// Returns the outcome of one heartbeat to this peer, and of the next one on its connection where the case is about
/// that.
fn meet(case: &'static Case) -> (String, Option<String>) {
    let ((opened, is_opened), (answered, is_answered)) = (channel(), channel());
    let requests = AtomicU64::new(0);
    let (opened, answered) = (Mutex::new(opened), Mutex::new(answered));
    let manners = move |_| {
        let acts = (case.acts)();
        Manners {
            on_accept: acts.on_accept,
            on_open: noting(acts.on_open, &opened.lock().unwrap()),
            is_impatient: acts.is_impatient,
        }
    };
    let peer =
        Peer::with_manners(manners, move |_| match ((case.acts)().answer, requests.fetch_add(1, Ordering::SeqCst)) {
            (answer, 0) if !answer.is_empty() => noting(answer, &answered.lock().unwrap()),
            _ => json(200, RECORDED),
        });
    let trust = Trust::from_file(&peer.ca_file()).unwrap();
    let name = "https://localhost".parse::<BaseUrl>().unwrap().server_name().unwrap();
    let client = Client {
        storm: AgentStorm::new(Fleet::Contract, 1, "localhost", "token"),
        dialer: Dialer::new(peer.address(), name, client_config(&trust).unwrap()),
        body: "x".repeat((case.acts)().body.max(1)),
        opened: is_opened,
        answered: is_answered,
    };
    let patience = if case.outcome == "timed out" { SILENCE } else { PATIENCE };
    EventLoop::new().unwrap().block_on(async {
        let mut connection = None;
        let first = timeout(patience, client.heartbeat(&mut connection)).await;
        let first = first.unwrap_or(Outcome::TimedOut);
        let next = match case.next {
            Some(_) => {
                client.answered.recv_timeout(PATIENCE).unwrap();
                Some(client.heartbeat(&mut connection).await.to_string())
            }
            None => None,
        };
        (first.to_string(), next)
    })
}

#[test]
fn every_peer_has_its_outcome() {
    assert!(CASES.len() >= 60);
    let mut wrong = Vec::new();
    for case in CASES {
        let (first, next) = meet(case);
        if (first.as_str(), next.as_deref()) != (case.outcome, case.next) {
            wrong.push(format!("{}: {first}, {next:?}, not {}, {:?}", case.peer, case.outcome, case.next));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_answer_cut_anywhere_is_truncated() {
    let whole = json(200, RECORDED);
    let Step::Send(bytes) = &whole[0] else { unreachable!("a reply that is sent") };
    let bytes = bytes.clone();
    let length = bytes.len();
    let dealt = AtomicU64::new(0);
    let peer = Peer::start(move |_| {
        let cut = dealt.fetch_add(1, Ordering::SeqCst) as usize % length;
        vec![Step::Send(bytes[..cut].to_vec()), Step::Close]
    });
    let trust = Trust::from_file(&peer.ca_file()).unwrap();
    let name = "https://localhost".parse::<BaseUrl>().unwrap().server_name().unwrap();
    let dialer = Dialer::new(peer.address(), name, client_config(&trust).unwrap());
    EventLoop::new().unwrap().block_on(async {
        for cut in 0..length {
            let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
            let mut connection = dialer.open(&mut watch, &mut phases).await.unwrap();
            let mut scratch = Scratch::default();
            scratch.request = encode(Method::Post, "/", "localhost", None, "{}");
            let fault = connection.exchange(Method::Post, &mut scratch, &mut watch, &mut phases).await.unwrap_err();
            let expected = if cut == 0 { FaultKind::Closed } else { FaultKind::Truncated };
            assert_eq!(fault.kind, expected, "cut at {cut}: {fault}");
        }
    });
}

// All together before a bench program -------------------------------------------------------------------------------

/// Returns the cases of a heartbeat over a connection that its agent has kept.
fn kept_cases() -> Vec<&'static Case> {
    let is_kept = |case: &&Case| {
        let acts = (case.acts)();
        // One that is closed while idle is opened again.
        let speaks = matches!(acts.on_open.first(), Some(Step::Send(_))) && case.outcome == "broken (protocol)";
        acts.on_accept.is_empty() && acts.body == 0 && (acts.on_open.is_empty() || speaks)
    };
    CASES.iter().filter(is_kept).collect()
}

/// Returns the cases of a heartbeat that opens its connection.
fn accepting_cases() -> Vec<&'static Case> {
    CASES.iter().filter(|case| !(case.acts)().on_accept.is_empty()).collect()
}

/// The last connection of the preflight, which ends with a heartbeat without a body.
#[derive(Clone, Default)]
struct Preflight(Arc<AtomicU64>);

impl Preflight {
    fn note(&self, request: &crate::common::peer::Request) {
        if request.path.ends_with("/heartbeat") && request.body.is_empty() {
            self.0.store(request.connection, Ordering::SeqCst);
        }
    }

    /// Returns the number of connections before this one since; `None` before the end of the preflight.
    fn since(&self, connection: u64) -> Option<usize> {
        let last = self.0.load(Ordering::SeqCst);
        (last > 0 && connection > last).then(|| (connection - last - 1) as usize)
    }
}

/// Asserts the count of each outcome.
#[track_caller]
fn assert_outcomes(summary: &serde_json::Value, expected: &HashMap<&'static str, u64>) {
    for (name, count) in expected {
        assert_eq!(outcome(summary, name), *count, "{name}: {}", results(summary)["outcomes"]);
    }
    assert_eq!(&results(summary)["arrivals"]["started"], expected.values().sum::<u64>());
}

#[test]
fn a_run_counts_every_peer_under_its_outcome() {
    let cases = kept_cases();
    let (count, preflight) = (cases.len(), Preflight::default());
    let mut expected = HashMap::new();
    cases.iter().for_each(|case| *expected.entry(case.outcome).or_insert(0) += 1);
    let peer = Peer::start(move |request| {
        preflight.note(request);
        let Some(case) = preflight.since(request.connection).and_then(|number| cases.get(number)) else {
            return certctl(request);
        };
        let acts = (case.acts)();
        match request.is_heartbeat() {
            true if acts.answer.is_empty() => certctl(request),
            true => acts.answer,
            // Steps before the heartbeat come together with the answer to the greeting.
            false => certctl(request).into_iter().chain(acts.on_open).fold(Vec::new(), |mut steps: Reply, step| {
                match (steps.last_mut(), step) {
                    (Some(Step::Send(sent)), Step::Send(more)) => sent.extend(more),
                    (_, step) => steps.push(step),
                }
                steps
            }),
        }
    });
    let span = 20 * count;
    let arguments = format!(
        "--rate 50/s --duration {span}ms --warm-up 0s --connections {count} --agents {count} --timeout 5s --max-lag 4s"
    );
    let finished = Bench::at(&peer, &arguments).run();
    let summary = finished.summary();
    assert_outcomes(&summary, &expected);
    // The coding is stated in place of the right answer's bytes; one example of each outcome is shown.
    assert!(finished.stdout.contains("broken (protocol)"), "{}", finished.stdout);
}

#[test]
fn a_run_counts_failed_reconnects() {
    let cases = accepting_cases();
    let (count, preflight) = (cases.len(), Preflight::default());
    let mut expected = HashMap::from([("ok", count as u64)]);
    cases.iter().for_each(|case| *expected.entry(case.outcome).or_insert(0) += 1);
    let seen = preflight.clone();
    // The fleet's first connections work; each is closed after its first heartbeat.
    let manners = move |connection| {
        let case = seen.since(connection).and_then(|number| cases.get(number.checked_sub(cases.len())?));
        case.map_or_else(Manners::default, |case| Manners { on_accept: (case.acts)().on_accept, ..Manners::default() })
    };
    let peer = Peer::with_manners(manners, move |request| {
        preflight.note(request);
        let length = RECORDED.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}");
        match request.is_heartbeat() {
            true => vec![Step::Send(format!("{head}\r\nConnection: close\r\n\r\n{RECORDED}").into()), Step::Close],
            false => certctl(request),
        }
    });
    let span = 200 * count;
    let arguments = format!(
        "--rate 10/s --duration {span}ms --warm-up 0s --connections {count} --agents {count} --timeout 5s --max-lag 4s"
    );
    assert_outcomes(&Bench::at(&peer, &arguments).run().summary(), &expected);
}

#[test]
fn an_answer_before_the_request_is_never_right() {
    // An answer on every connection before its first request, and another after each.
    let preflight = Preflight::default();
    let seen = preflight.clone();
    let manners = move |connection| match seen.since(connection) {
        Some(_) => Manners { on_open: json(200, RECORDED), ..Manners::default() },
        None => Manners::default(),
    };
    let peer = Peer::with_manners(manners, move |request| {
        preflight.note(request);
        // One ahead: the answer to the next request, before it has come.
        if preflight.since(request.connection).is_some() { json(200, RECORDED) } else { certctl(request) }
    });
    let arguments = "--rate 50/s --duration 4s --warm-up 0s --connections 20 --agents 20 --timeout 5s --max-lag 4s";
    let summary = Bench::at(&peer, arguments).run().exits(3).summary();
    assert_eq!((outcome(&summary, "ok"), outcome(&summary, "broken (protocol)")), (0, 200));
}

#[test]
fn a_batch_refused_while_sending_fails_with_413() {
    let manners = |_| Manners { is_impatient: true, ..Manners::default() };
    let peer = Peer::with_manners(manners, |request| match request.path.ends_with("/bulk-renew") {
        true => {
            let head = "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
            // Its socket has unread bytes: the kernel ends it by a reset.
            vec![Step::Send(format!("{head}Connection: close\r\n\r\n{{}}").into()), Step::Cut]
        }
        false => all_of_certctl(request),
    });
    let arguments = "--rate 1/s --duration 1s --warm-up 0s --batch-size 10000 --connections 1";
    let finished = Bench::named("bulk_renewal", arguments).measured().towards_peer(&peer).run();
    assert_eq!(outcome(&finished.summary(), "failed (413)"), 1, "{}", finished.stdout);
}

// Memory --------------------------------------------------------------------------------------------------------------

const CONNECTIONS: usize = 200;
const MEBIBYTE: usize = 1 << 20;

/// Returns the most memory that a process has ever had, in bytes.
fn peak_memory(pid: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}

#[test]
fn large_answers_on_200_connections_stay_below_300_mib() {
    let dealt = AtomicU64::new(0);
    let peer = Peer::start(move |request| {
        if !request.is_heartbeat() {
            return certctl(request);
        }
        let head = |fields: &str| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n");
            Step::Send(head.into())
        };
        let most = |bytes: usize| Step::Repeat(vec![b' '; 1 << 14], bytes >> 14);
        match dealt.fetch_add(1, Ordering::SeqCst) % 4 {
            0 => vec![head("Content-Length: 16777216\r\n"), most(15 * MEBIBYTE), Step::Hold],
            1 => vec![head(""), most(16 * MEBIBYTE), Step::Hold],
            2 => {
                let chunk = [b"4000\r\n".to_vec(), vec![b' '; 1 << 14], b"\r\n".to_vec()].concat();
                vec![head("Transfer-Encoding: chunked\r\n"), Step::Repeat(chunk, MEBIBYTE >> 10), Step::Hold]
            }
            // Within the bound of one answer, and never complete.
            _ => vec![head("Content-Length: 262144\r\n"), most(MEBIBYTE / 4 - 1), Step::Hold],
        }
    });
    let arguments = format!(
        "--rate 100/s --duration 2s --warm-up 0s --connections {CONNECTIONS} --agents {CONNECTIONS} --timeout 5s --max-lag 4s"
    );
    let (summary, peak) = run_and_watch(Bench::at(&peer, &arguments));
    assert_eq!((outcome(&summary, "broken (protocol)"), outcome(&summary, "timed out")), (150, 50));
    assert!(peak > 10 * MEBIBYTE && peak < 300 * MEBIBYTE, "{} MiB", peak / MEBIBYTE);
}

#[test]
fn pages_held_on_200_connections_share_a_byte_budget() {
    // Each page is within the bound of one, and never complete.
    let peer = Peer::start(|request| match request.is_list() {
        true => {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {MEBIBYTE}\r\n\r\n");
            vec![Step::Send(head.into()), Step::Repeat(vec![b' '; 1 << 14], (MEBIBYTE >> 14) - 1), Step::Hold]
        }
        false => all_of_certctl(request),
    });
    let arguments = format!(
        "--issuance-rate 10/s --list-rate 100/s --connections {CONNECTIONS} --duration 2s --warm-up 0s \
         --timeout 5s --max-lag 4s"
    );
    let (summary, peak) = run_and_watch(Bench::named("api_tier", &arguments).measured().towards_peer(&peer));
    let lists = &summary["workloads"][1]["results"];
    let given_up = outcome_of(lists, "broken (out of ports, descriptors or room)");
    let timed_out = outcome_of(lists, "timed out");
    // Room for 64 whole pages, each of which takes up to twice its length while it grows.
    assert!(given_up > 0 && (30..=64).contains(&timed_out), "{given_up}, {timed_out}: {}", lists["outcomes"]);
    assert_eq!(given_up + timed_out, 200);
    assert!(peak < 300 * MEBIBYTE, "{} MiB", peak / MEBIBYTE);
}

/// Runs a bench at a peer that breaches its bound on errors, and returns its summary and its peak memory.
fn run_and_watch(bench: Bench) -> (serde_json::Value, usize) {
    let mut running = bench.start();
    let mut peak = 0;
    while running.ended().is_none() {
        peak = peak_memory(running.pid()).unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("peak {} MiB", peak / MEBIBYTE);
    (running.finish().exits(3).summary(), peak)
}

// The document ------------------------------------------------------------------------------------------------------

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RELIABILITY.md");
const BEGIN: &str = "<!-- peers: made from tests/common/misbehaviour.rs -->\n";
const END: &str = "<!-- peers: end -->\n";

fn list() -> String {
    let mut text = String::new();
    for layer in Layer::ALL {
        let cases: Vec<_> = CASES.iter().filter(|case| case.layer == layer).collect();
        let _ = write!(text, "\n{} ({}):\n\n", layer.title(), cases.len());
        for case in cases {
            let next =
                case.next.map_or_else(String::new, |next| format!("; the next request on its connection: {next}"));
            let _ = writeln!(text, "- {}: **{}**{next}", case.peer, case.outcome);
        }
    }
    text + "\n"
}

#[test]
fn the_document_lists_every_peer() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the marker of the list");
    let (found, after) = rest.split_once(END).expect("the end of the list");
    let wanted = list();
    if found != wanted && std::env::var_os("CERTCTL_BENCH_UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, [before, BEGIN, &wanted, END, after].concat()).unwrap();
        return;
    }
    assert!(found == wanted, "stale: run CERTCTL_BENCH_UPDATE_DOCS=1 cargo test --test peers the_document");
    let mut names: Vec<_> = CASES.iter().map(|case| case.peer).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CASES.len(), "each peer has a name of its own");
}
