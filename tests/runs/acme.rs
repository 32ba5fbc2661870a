//! `acme_flow` and `acme_burst` from their front door: users that wait for their answers, and the judgement of these.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::acme::{STEPS, acme, acme_with_nonce, head_of, problem};
use crate::common::bench::{Bench, Finished};
use crate::common::needs::needs;
use crate::common::peer::{Peer, Reply, Request, Step, answer, json};
use crate::common::reference::Reference;
use crate::common::summary::{
    assert_calls, assert_only_too_short, assert_schema, assert_work, observed, outcome, outcome_of, reasons, results,
    threshold,
};

/// A workload with 400 samples of each step, however long they take. Its schedule lag is not the subject of these
/// tests.
const BRIEF: &str = "--users 4 --duration 10m --warm-up 0s --max-requests 1600";
/// Four users make 80 requests, however long these take: at least 17 of each step, since each of them may end within a
/// round of four.
const FEW: &str = "--users 4 --duration 10m --warm-up 0s --max-requests 80";

fn burst(arguments: &str) -> Bench {
    Bench::named("acme_burst", arguments).measured()
}

fn flow(arguments: &str) -> Bench {
    Bench::named("acme_flow", arguments).measured()
}

/// Starts an ACME server that answers every `nth` request of the workload otherwise. An answer takes a millisecond, so
/// that a busy machine keeps up.
fn every(nth: u64, other: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Peer {
    let requests = AtomicU64::new(0);
    Peer::start(move |request| {
        // The first is the preflight's.
        let odd = request.acme_step().is_some() && requests.fetch_add(1, Ordering::SeqCst) % nth == nth - 1;
        let reply = if odd { other(request) } else { acme(request) };
        let reply = if request.method == "HEAD" { head_of(reply) } else { reply };
        [Step::Wait(Duration::from_millis(1))].into_iter().chain(reply).collect()
    })
}

/// Returns the number of requests of a run at such a peer that were answered otherwise.
fn odd(summary: &Value, nth: u64) -> u64 {
    let arrivals = &results(summary)["arrivals"];
    assert_eq!(arrivals["warm_up"], 0);
    // The preflight's comes first.
    (arrivals["scheduled"].as_u64().unwrap() + 1) / nth
}

/// Asserts that the errors of a run at such a peer breached the floor, that they had this outcome, and that nothing
/// else is wrong with the run.
#[track_caller]
fn assert_breached(finished: &Finished, floor: &str, nth: u64, name: &str) {
    let summary = finished.summary();
    let (failed, scheduled) = (odd(&summary, nth), results(&summary)["arrivals"]["scheduled"].as_u64().unwrap());
    assert_eq!((outcome(&summary, name), outcome(&summary, "ok")), (failed, scheduled - failed));
    assert_eq!(threshold(&summary, floor)["measured"].as_f64(), Some(failed as f64 / scheduled as f64));
    let breached: Vec<&Value> =
        summary["thresholds"].as_array().unwrap().iter().filter(|one| one["passed"] == false).collect();
    assert!(matches!(breached[..], [one] if one["name"] == floor), "{breached:?}");
    assert_eq!((&summary["verdict"], reasons(&summary).as_str()), (&"breached".into(), ""));
}

// The default ---------------------------------------------------------------------------------------------------------

/// Asserts that a run on PostgreSQL got the right answers alone, the wanted 400 and 404 among them, and that the rows
/// show them.
#[track_caller]
fn assert_right_on_postgresql(finished: &Finished) {
    let summary = finished.summary();
    assert_schema(&summary);
    let results = results(&summary);
    let arrivals = |name: &str| results["arrivals"][name].as_u64().unwrap();
    assert_eq!(outcome(&summary, "ok"), arrivals("scheduled"));
    let steps: Vec<&str> =
        results["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(steps, STEPS);
    let work = results["work"].as_array().unwrap();
    let found: Vec<u64> = work.iter().map(|one| one["found"].as_u64().unwrap()).collect();
    let [nonces, directories, new_nonces, malformed, unknown] = found[..] else { panic!("{work:?}") };
    assert_work(
        results,
        &[
            ("nonces given out in the last 4 min", directories + new_nonces),
            ("audit rows of directories", directories),
            ("audit rows of nonces", new_nonces),
            ("audit rows of malformed ids", malformed),
            ("audit rows of unknown ids", unknown),
        ],
    );
    assert_eq!(nonces + malformed + unknown, arrivals("warm_up") + arrivals("scheduled"));
    let unique = observed(results, "unique Replay-Nonces");
    assert_eq!((&unique["count"], &unique["of"]), (&nonces.into(), &nonces.into()));
    // Statements: the profile and the audit row of each; a row for a nonce, a lookup of the unknown certificate.
    assert_calls(&summary, 3 * (nonces + unknown) + 2 * malformed, nonces + malformed + unknown);
    assert!(finished.stdout.contains("timer lag") && !finished.stdout.contains("service time"), "{}", finished.stdout);
    assert_own_part(&finished.stdout, results);
}

/// Asserts that each right answer has a part of the generator's own, which is no more than its time, and that the rest
/// is what counts as the system's.
#[track_caller]
fn assert_own_part(stdout: &str, results: &Value) {
    let latency = &results["latency"];
    let [response, own, certain] = ["response", "own_part", "certain"].map(|name| &latency[name]);
    assert_eq!((&own["count"], &own["min_us"] != 0.0), (&response["count"], true), "{latency}");
    let max_us = |facts: &Value| facts["max_us"].as_f64().unwrap();
    assert!(max_us(own) <= max_us(response) && max_us(certain) <= max_us(response), "{latency}");
    assert!(stdout.contains("\nown part "), "{stdout}");
}

#[test]
fn a_burst_on_postgresql_passes_its_side_effect_check() {
    needs!(Postgresql);
    let finished = burst("--users 8 --duration 3s --warm-up 500ms").run().worked();
    assert_right_on_postgresql(&finished);
    let shown = ["closed, 8 users, think time 0 s", "errors but 429"];
    assert!(shown.iter().all(|line| finished.stdout.contains(line)), "{}", finished.stdout);
}

#[test]
fn a_flow_on_postgresql_passes_its_side_effect_check() {
    needs!(Postgresql);
    let finished = flow("--users 40 --think-time 300ms --duration 3s --warm-up 500ms").run().worked();
    assert_right_on_postgresql(&finished);
    assert!(finished.stdout.contains("closed, 40 users, think time 0.3 s"), "{}", finished.stdout);
}

// The directory -------------------------------------------------------------------------------------------------------

#[test]
fn the_query_of_a_directory_is_sent_and_a_fragment_refused() {
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = requests.clone();
    let peer = Peer::start(move |request: &Request| {
        let mut request = request.clone();
        if let Some((path, _)) = request.path.split_once('?') {
            let without = path.to_owned();
            seen.lock().unwrap().push(std::mem::replace(&mut request.path, without));
        }
        let reply = acme(&request);
        if request.method == "HEAD" { head_of(reply) } else { reply }
    });
    let path = "/acme/profile/prof-standard-tls/directory?of=a%20b&c";
    for directory in [path.to_owned(), format!("{}{path}", peer.base())] {
        let run = burst(BRIEF).arguments(&format!("--directory {directory}")).towards_peer(&peer).run();
        let directories = results(&run.summary())["steps"][0]["scheduled"].as_u64().unwrap();
        let requests = std::mem::take(&mut *requests.lock().unwrap());
        // The preflight's request included.
        assert_eq!(requests.len() as u64, directories + 1);
        assert!(requests.iter().all(|requests| requests == path), "{requests:?}");
    }
    for directory in [format!("{path}#part"), format!("{}{path}#", peer.base())] {
        let bench = burst(BRIEF).env("CERTCTL_ACME_DIRECTORY", &directory).towards_peer(&peer);
        let refused = bench.refused(2).stderr;
        assert!(refused.contains(" has a fragment, which is never sent\nhint: write it as /acme/"), "{refused}");
    }
    assert!(requests.lock().unwrap().is_empty());
}

#[test]
fn an_invalid_directory_is_refused_before_a_server_starts() {
    for (directory, why) in [
        ("", "`` is neither a path nor a URL"),
        ("a/d", "`a/d` is neither a path nor a URL"),
        ("/acme#", "`/acme#` has a fragment, which is never sent"),
        ("https://localhost:1/acme", "`https://localhost:1/acme` is not on the system under test"),
    ] {
        let bench = burst("--in-memory").env("CERTCTL_BENCH_DIRECTORY", directory);
        let wanted = format!("error: the ACME directory {why}\nhint: write it as /acme/profile/PROFILE/directory\n");
        assert_eq!(bench.refused(2).messages(), wanted);
    }
}

// Users ---------------------------------------------------------------------------------------------------------------

/// The requests of the workload that a peer is answering: the number now, and the most.
#[derive(Default)]
struct InFlight {
    now: AtomicI64,
    most: AtomicI64,
}

#[test]
fn requests_in_flight_never_exceed_the_users() {
    let in_flight: Arc<InFlight> = Arc::default();
    let seen = in_flight.clone();
    let peer = Peer::start(move |request| {
        if request.acme_step().is_none() {
            return acme(request);
        }
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        let gone = seen.clone();
        let leave = Step::Do(Box::new(move || {
            gone.now.fetch_sub(1, Ordering::SeqCst);
        }));
        [Step::Wait(Duration::from_millis(10)), leave].into_iter().chain(acme(request)).collect()
    });
    let arguments = "--users 12 --duration 2s --warm-up 0s";
    let summary = burst(arguments).towards_peer(&peer).run().worked().summary();
    assert_eq!(in_flight.most.load(Ordering::SeqCst), 12);
    assert_eq!(results(&summary)["opening"]["tls"]["count"], 12);
    // Every request was answered.
    assert_eq!(in_flight.now.load(Ordering::SeqCst), 0);
    assert_eq!(outcome(&summary, "ok"), results(&summary)["arrivals"]["scheduled"].as_u64().unwrap());
}

/// The moment of the last answer of a user's round, and the times from there to the next directory.
type Thoughts = (Instant, Vec<Duration>);

#[test]
fn users_pause_between_rounds() {
    const THINK: Duration = Duration::from_millis(200);
    let rounds: Arc<Mutex<BTreeMap<u64, Thoughts>>> = Arc::default();
    let seen = rounds.clone();
    let peer = Peer::start(move |request| {
        let mut rounds = seen.lock().unwrap();
        match (request.acme_step(), rounds.get_mut(&request.connection)) {
            (Some(3), None) => {
                rounds.insert(request.connection, (Instant::now(), Vec::new()));
            }
            (Some(3), Some((answered, _))) => *answered = Instant::now(),
            (Some(0), Some((answered, thoughts))) => thoughts.push(answered.elapsed()),
            _ => {}
        }
        acme(request)
    });
    let arguments = "--users 10 --think-time 200ms --duration 10m --warm-up 0s --max-requests 160";
    // The verdict is not asserted: on a busy machine these few answers may be too slow.
    let summary = flow(arguments).towards_peer(&peer).run().summary();
    assert_only_too_short(&summary);
    let rounds = rounds.lock().unwrap();
    assert_eq!(rounds.len(), 10);
    let thoughts: Vec<&Duration> = rounds.values().flat_map(|(_, thoughts)| thoughts).collect();
    assert!(thoughts.iter().all(|thought| **thought >= THINK), "{thoughts:?}");
    // No pause comes before a user's first round.
    let directories = results(&summary)["steps"][0]["scheduled"].as_u64().unwrap();
    assert_eq!(thoughts.len() as u64, directories - 10);
    assert_eq!(
        (&summary["workloads"][0]["plan"]["model"], summary["workloads"][0]["plan"]["think_s"].as_f64()),
        (&"closed".into(), Some(0.2))
    );
}

#[test]
fn the_drain_waits_for_the_last_answers() {
    // From the 100th request on, an answer takes so long; the preflight's own is among the hundred.
    let slow_peer = |wait| {
        let requests = AtomicU64::new(0);
        Peer::start(move |request| {
            let slow = request.acme_step().is_some() && requests.fetch_add(1, Ordering::SeqCst) >= 100;
            slow.then_some(Step::Wait(wait)).into_iter().chain(acme(request)).collect()
        })
    };
    // Each user's last request is the first that is slow.
    let arguments = "--users 4 --duration 10m --warm-up 0s --max-requests 103";
    let run = |wait, timeout: &str| {
        let peer = slow_peer(wait);
        burst(&format!("{arguments} --timeout {timeout}")).towards_peer(&peer).run().invalid_or_breached().summary()
    };
    let summary = run(Duration::from_secs(1), "100s --max-lag 99s");
    assert_eq!((&results(&summary)["arrivals"]["scheduled"], outcome(&summary, "ok")), (&103.into(), 103));
    assert!(results(&summary)["latency"]["response"]["max_us"].as_f64().unwrap() >= 1e6);
    // They are waited for up to the timeout, and no longer.
    let summary = run(Duration::from_secs(100), "4s --max-lag 3s");
    let outcomes = ["ok", "timed out"].map(|name| outcome(&summary, name));
    assert_eq!((&results(&summary)["arrivals"]["started"], outcomes), (&103.into(), [99, 4]));
}

/// The peer freezes for a second. Five users wait for it once each: fewer than one request in a hundred, so that p99
/// does not show it. 200 arrivals a second that wait for no answer show the wait of 200 clients: one second of six is
/// lost, so that p99 is 0.94 s.
#[test]
fn closed_users_hide_a_stall_that_open_arrivals_show() {
    const FREEZE: Duration = Duration::from_secs(1);
    let freezing_peer = |frozen: &Arc<AtomicU64>| {
        let (requests, thaw, frozen) = (AtomicU64::new(0), OnceLock::new(), Arc::clone(frozen));
        Peer::start(move |request| {
            if request.acme_step().is_none() {
                return acme(request);
            }
            if requests.fetch_add(1, Ordering::SeqCst) == 500 {
                thaw.get_or_init(|| Instant::now() + FREEZE);
            }
            let waits = thaw.get().copied().filter(|thaw| Instant::now() < *thaw);
            frozen.fetch_add(u64::from(waits.is_some()), Ordering::SeqCst);
            waits.map(Step::Until).into_iter().chain(acme(request)).collect()
        })
    };
    let frozen = Arc::default();
    let closed = burst("--users 5 --duration 10m --warm-up 0s --max-requests 1200");
    let closed = closed.towards_peer(&freezing_peer(&frozen)).run().worked().summary();
    let open = burst("--users 300 --rate 200/s --duration 6s --warm-up 0s");
    let open = open.towards_peer(&freezing_peer(&Arc::default())).run().invalid_or_breached().summary();
    assert_eq!(
        (&closed["workloads"][0]["plan"]["model"], &open["workloads"][0]["plan"]["model"]),
        (&"closed".into(), &"open".into())
    );
    assert_eq!([&closed, &open].map(|summary| outcome(summary, "ok")), [1_200, 1_200]);

    let seconds = |summary: &Value, what: &str| results(summary)["latency"]["response"][what].as_f64().unwrap() / 1e6;
    // No user met the freeze twice.
    assert!((1..=5).contains(&frozen.load(Ordering::SeqCst)), "{frozen:?}");
    assert!(seconds(&closed, "max_us") >= 0.9);
    // Arrivals in the freeze wait for its end, and on a busy machine for more.
    let analytic = 1.0 - 0.01 * 6.0;
    let p99 = seconds(&open, "p99_us");
    assert!(p99 >= 0.95 * analytic, "{p99} s, not {analytic} s");
}

// Wrong answers -------------------------------------------------------------------------------------------------------

#[test]
fn a_repeated_nonce_is_a_breach() {
    // At most a dozen: the errors stay below their floor.
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match (request.acme_step(), requests.fetch_add(1, Ordering::SeqCst)) {
        (Some(0 | 1), 400..412) => acme_with_nonce(request, "the-same-again"),
        _ => acme(request),
    });
    let finished = flow(&format!("{BRIEF} --think-time 0s")).towards_peer(&peer).run().exits(3);
    let summary = finished.summary();
    let wrong = outcome(&summary, "wrong answer");
    let of = observed(results(&summary), "unique Replay-Nonces")["of"].as_u64().unwrap();
    assert!(wrong > 0, "{}", finished.stdout);
    let reason = format!("{wrong} of {of} Replay-Nonces were given out before: none is allowed");
    assert_eq!((&summary["breaches"][0], &threshold(&summary, "errors")["passed"]), (&reason.into(), &true.into()));
}

#[test]
fn a_429_that_is_not_in_acme_form_is_a_breach() {
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match (request.acme_step(), requests.fetch_add(1, Ordering::SeqCst)) {
        (Some(0 | 2 | 3), 400..404) => answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n"),
        _ => acme(request),
    });
    let summary = flow(&format!("{BRIEF} --think-time 0s")).towards_peer(&peer).run().exits(3).summary();
    let misshapen = outcome(&summary, "wrong answer");
    let reason = format!("{misshapen} of {misshapen} 429s are not as ACME shapes them: none is allowed");
    assert_eq!((&summary["breaches"][0], &threshold(&summary, "errors")["passed"]), (&reason.into(), &true.into()));
}

#[test]
fn repeated_nonces_are_wrong_answers() {
    let peer = every(41, |request| acme_with_nonce(request, "the-same-again"));
    let finished = burst(BRIEF).towards_peer(&peer).run().exits(3);
    let summary = finished.summary();
    // Half of the answers have a nonce, and each but the first of these is the same again.
    let wrong = outcome(&summary, "wrong answer");
    let repeated = observed(results(&summary), "unique Replay-Nonces");
    assert!(wrong > 0, "{}", finished.stdout);
    assert_eq!(repeated["of"].as_u64().unwrap() - repeated["count"].as_u64().unwrap(), wrong);
    assert_eq!(threshold(&summary, "errors but 429")["passed"], false);
    let total = results(&summary)["arrivals"]["scheduled"].as_u64().unwrap();
    assert_eq!(outcome(&summary, "ok") + wrong, total);
}

#[test]
fn two_nonces_in_one_answer_are_a_wrong_answer() {
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match request.acme_step() {
        Some(0 | 1) => {
            let number = requests.fetch_add(1, Ordering::SeqCst);
            let nonces = format!("Replay-Nonce: n{number}\r\nReplay-Nonce: m{number}\r\n");
            acme(request).into_iter().map(|step| with_nonces(step, &nonces)).collect()
        }
        _ => acme(request),
    });
    let summary = burst(FEW).towards_peer(&peer).run().invalid_or_breached().summary();
    let steps = results(&summary)["steps"].as_array().unwrap();
    let all = |step: usize, name: &str| outcome_of(&steps[step], name) == steps[step]["scheduled"].as_u64().unwrap();
    assert!(all(0, "wrong answer") && all(1, "wrong answer") && all(2, "ok") && all(3, "ok"), "{steps:?}");
}

#[test]
fn wrong_answers_are_reported_with_their_flaw() {
    let other_nonce = |nonce: &'static str| {
        move |request: &Request| acme(request).into_iter().map(|step| with_nonces(step, nonce)).collect::<Reply>()
    };
    type Other = Box<dyn Fn(&Request) -> Reply + Send + Sync>;
    let flaws: [(usize, Other, &str); 9] = [
        (1, Box::new(other_nonce("")), "200, but it has no Replay-Nonce: "),
        (
            1,
            Box::new(other_nonce("Replay-Nonce: a\r\nReplay-Nonce: b\r\n")),
            "200, but it has more than one Replay-Nonce: ",
        ),
        (1, Box::new(other_nonce("Replay-Nonce: a+b=\r\n")), "200, but its Replay-Nonce is not base64url: "),
        (1, Box::new(other_nonce("Replay-Nonce: again\r\n")), "200, but its Replay-Nonce was issued before: "),
        (
            0,
            Box::new(|_| answer(200, "text/html", "<p>")),
            "200, but its Content-Type is text/html, expected JSON: <p>",
        ),
        (0, Box::new(|_| json(200, "{}")), "200, but it is a directory without newNonce, newAccount or newOrder: {}"),
        (
            2,
            Box::new(|_| json(400, "{}")),
            "400, but its Content-Type is application/json, expected application/problem+json: {}",
        ),
        (3, Box::new(|_| problem(404, "other")), "404, but its type is not urn:ietf:params:acme:error:malformed: {"),
        (
            2,
            Box::new(|_| answer(429, "text/plain", "slow down\n")),
            "429, but its Content-Type is text/plain, expected application/problem+json: slow down",
        ),
    ];
    for (step, other, example) in flaws {
        let requests = AtomicU64::new(0);
        // The preflight's directory is the first, and right.
        let peer = Peer::start(move |request| match request.acme_step() {
            Some(requested) if requests.fetch_add(1, Ordering::SeqCst) > 0 && requested == step => other(request),
            _ => acme(request),
        });
        let summary = burst(FEW).towards_peer(&peer).run().invalid_or_breached().summary();
        let outcomes = results(&summary)["outcomes"].as_array().unwrap();
        let wrong = outcomes.iter().find(|one| one["outcome"] == "wrong answer").expect("a wrong answer");
        assert!(wrong["example"].as_str().unwrap().starts_with(example), "{wrong}");
    }
}

/// Returns an answer with these fields in place of its `Replay-Nonce`.
fn with_nonces(step: Step, nonces: &str) -> Step {
    let Step::Send(bytes) = step else { return step };
    let answer = String::from_utf8(bytes).unwrap();
    let (begin, rest) = answer.split_once("Replay-Nonce: ").expect("a nonce");
    let (_, end) = rest.split_once("\r\n").unwrap();
    Step::Send(format!("{begin}{nonces}{end}").into())
}

#[test]
fn one_server_error_in_a_hundred_breaches_a_burst() {
    let peer = every(101, |_| problem(503, "serverInternal"));
    let finished = burst(BRIEF).towards_peer(&peer).run().exits(3);
    assert_breached(&finished, "errors but 429", 101, "failed (503)");
}

#[test]
fn one_server_error_in_three_hundred_breaches_a_flow() {
    let peer = every(301, |_| problem(503, "serverInternal"));
    let finished = flow(&format!("{BRIEF} --think-time 0s")).towards_peer(&peer).run().exits(3);
    assert_breached(&finished, "errors but 429", 301, "failed (503)");
}

#[test]
fn a_429_in_acme_form_is_an_error_of_a_flow_not_of_a_burst() {
    let limited = |_: &Request| problem(429, "rateLimited");
    let peer = every(21, limited);
    let summary = burst(BRIEF).towards_peer(&peer).run().worked().summary();
    let refused = odd(&summary, 21);
    assert_eq!((outcome(&summary, "refused (429)"), outcome(&summary, "wrong answer")), (refused, 0));
    let shape = observed(results(&summary), "429s of the right shape");
    assert_eq!((shape["count"].as_u64(), shape["of"].as_u64()), (Some(refused), Some(refused)));
    assert_eq!(threshold(&summary, "errors but 429")["measured"].as_f64(), Some(0.0));
    // They are counted all the same.
    let scheduled = results(&summary)["arrivals"]["scheduled"].as_f64().unwrap();
    assert_eq!(summary["error_share"].as_f64(), Some(refused as f64 / scheduled));

    let finished = flow(&format!("{BRIEF} --think-time 0s")).towards_peer(&every(21, limited)).run().exits(3);
    assert_breached(&finished, "errors", 21, "refused (429)");
}

#[test]
fn a_429_in_plain_text_is_a_wrong_answer() {
    let peer = every(21, |_| answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n"));
    let finished = burst(BRIEF).towards_peer(&peer).run().exits(3);
    let wrong = odd(&finished.summary(), 21);
    assert_eq!(outcome(&finished.summary(), "wrong answer"), wrong);
    assert_eq!(threshold(&finished.summary(), "errors but 429")["passed"], false);
    let shape = observed(results(&finished.summary()), "429s of the right shape").clone();
    assert_eq!((shape["count"].as_u64(), shape["of"].as_u64()), (Some(0), Some(odd(&finished.summary(), 21))));
}

#[test]
fn an_id_refused_with_the_wrong_status_is_a_failure() {
    let peer = Peer::start(|request| match request.acme_step() {
        Some(2) => problem(404, "malformed"),
        Some(3) => problem(403, "malformed"),
        _ => acme(request),
    });
    let summary = burst(FEW).towards_peer(&peer).run().invalid_or_breached().summary();
    let steps = results(&summary)["steps"].as_array().unwrap();
    let all = |step: usize, name: &str| outcome_of(&steps[step], name) == steps[step]["scheduled"].as_u64().unwrap();
    assert!(all(0, "ok") && all(1, "ok") && all(2, "failed (404)") && all(3, "failed (403)"), "{steps:?}");
}

/// Answers as an ACME server that does what RFC 8555 allows and most others do not.
fn unusual(request: &Request, problems: &str) -> Reply {
    let document = |status, members: &str| {
        let body = format!(r#"{{"type":"urn:ietf:params:acme:error:malformed"{members}}}"#);
        answer(status, problems, &body)
    };
    match request.acme_step() {
        Some(0) => {
            let base = format!("https://{}/acme/profile/prof-standard-tls", request.host);
            let urls =
                [("newNonce", "new-nonce"), ("newAccount", "a"), ("newOrder", "o"), ("renewalInfo", "renewal-info")];
            let urls: String = urls.iter().map(|(name, path)| format!(r#""{name}":"{base}/{path}","#)).collect();
            answer(200, "Application/JSON; Charset=UTF-8", &format!(r#"{{{urls}"x5TqvXrHYyM":"a random member"}}"#))
        }
        Some(1) => match acme(request).pop() {
            Some(Step::Send(bytes)) => {
                let head = String::from_utf8(bytes).unwrap();
                vec![Step::Send(head.replace("200 x", "204 No Content").replace("Content-Length: 0\r\n", "").into())]
            }
            _ => unreachable!("a nonce is sent"),
        },
        Some(2) => document(400, ""),
        Some(3) => document(400, r#","status":400,"subproblems":[{"type":"urn:ietf:params:acme:error:malformed"}]"#),
        _ => acme(request),
    }
}

#[test]
fn answers_that_rfc_8555_allows_are_right() {
    let peer = Peer::start(|request| unusual(request, "Application/Problem+JSON;charset=utf-8"));
    for bench in [flow(&format!("{FEW} --think-time 0s")), burst(FEW)] {
        let summary = bench.towards_peer(&peer).run().worked().summary();
        assert_eq!(outcome(&summary, "ok"), 80);
        let refused = &observed(results(&summary), "unknown certificates answered 400 in place of 404")["count"];
        assert_eq!(refused, &results(&summary)["steps"][3]["scheduled"]);
    }
}

#[test]
fn a_problem_of_another_media_type_is_a_wrong_answer() {
    let peer = Peer::start(|request| unusual(request, "application/problem+jsonx"));
    let summary = burst(FEW).towards_peer(&peer).run().invalid_or_breached().summary();
    let steps = results(&summary)["steps"].as_array().unwrap();
    let all = |step: usize, name: &str| outcome_of(&steps[step], name) == steps[step]["scheduled"].as_u64().unwrap();
    assert!(all(0, "ok") && all(1, "ok") && all(2, "wrong answer") && all(3, "wrong answer"), "{steps:?}");
}

// Before a run --------------------------------------------------------------------------------------------------------

#[track_caller]
fn assert_refused(arguments: &str, directory: fn(&Request) -> Reply, what: &str, hint: &str) {
    let peer = Peer::start(move |request| match request.path.ends_with("/directory") {
        true => directory(request),
        false => acme(request),
    });
    let refused = burst(arguments).towards_peer(&peer).run().exits(1);
    assert_eq!(refused.messages(), format!("error: {}{what}\nhint: {hint}\n", peer.base()));
    assert_eq!((refused.stdout.as_str(), refused.json), ("", None));
}

#[test]
fn html_in_place_of_a_directory_is_refused() {
    assert_refused(
        "",
        |_| answer(200, "text/html", "<!DOCTYPE html><title>certctl</title>"),
        "/acme/profile/prof-standard-tls/directory is a page of certctl's dashboard, which hides its ACME server",
        "run certctl from a folder without web/, so that it serves only its API",
    );
}

#[test]
fn an_unknown_profile_is_refused() {
    let hint = "name a row of certificate_profiles with --profile, such as prof-standard-tls (certctl's seeds have no \
                prof-test)";
    for status in [500, 404] {
        let reply: fn(&Request) -> Reply = match status {
            500 => |_| problem(500, "serverInternal"),
            _ => |_| problem(404, "malformed"),
        };
        let what = format!("/acme/profile/prof-test/directory: the ACME profile is not known ({status}: x)");
        assert_refused("--profile prof-test", reply, &what, hint);
    }
    let refused = burst("--profile no/profile").run().exits(2);
    assert!(refused.stderr.contains("--profile \"no/profile\" is not a valid id of a profile"), "{}", refused.stderr);
}

#[test]
fn flags_select_the_acme_directory_and_omit_the_token() {
    let open = Reference::start(&["--behaviour", "as-documented"]);
    let smoke = |arguments| Bench::named("acme_flow", arguments).smoke();
    smoke("--no-bearer").towards_reference(&open).run().exits(0);

    let shut = Reference::start(&[]);
    let directory = "/acme/profile/prof-standard-tls/directory";
    let named = |arguments, url: String| {
        let brief = format!("--users 2 --think-time 10ms --duration 500ms --warm-up 0s {arguments}");
        Bench::named("acme_flow", &brief).measured().towards_reference(&shut).env("CERTCTL_ACME_DIRECTORY", &url)
    };
    // The preflight lets it through; the results of half a second do not matter.
    let let_through = |bench: Bench| assert!(bench.run().json.is_some());
    let_through(named("", format!("{}{directory}", shut.base())));
    // A flag outranks the old harness's variable.
    let_through(named("--profile prof-standard-tls", "/acme/profile/elsewhere/directory".to_owned()));
    let refused = named("--profile elsewhere", directory.to_owned()).run().exits(1);
    assert!(refused.stderr.contains("/acme/profile/elsewhere/directory: the ACME profile"), "{}", refused.stderr);
    let refused = smoke(&format!("--no-bearer --directory {directory}")).towards_reference(&shut).run().exits(1);
    assert_eq!(
        refused.messages(),
        format!(
            "error: {}{directory}: ACME requires one of certctl's API keys (Authorization header required)\n\
             hint: leave out --no-bearer: certctl requires the token for ACME too\n",
            shut.base()
        )
    );
}
