//! `api_tier` from its front door: two workloads side by side, and one floor for the errors of both.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use certctl_bench::provision::postgres::{Cluster, find};
use postgres::{Client, NoTls};
use serde_json::Value;

use crate::common::bench::Bench;
use crate::common::certctl::all_of_certctl;
use crate::common::needs::needs;
use crate::common::peer::{Peer, Reply, Request, answer, json};
use crate::common::reference::Reference;
use crate::common::summary::{
    assert_calls, assert_schema, assert_work, measured, observed, outcome_of, reasons, threshold, threshold_of,
};

/// The delay of the lists after the posts.
const LIST_STARTS_AFTER: Duration = Duration::from_secs(5);

fn bench(arguments: &str) -> Bench {
    Bench::named("api_tier", arguments)
}

/// Returns the results of the posts and of the lists.
fn results(summary: &Value) -> [&Value; 2] {
    let [("issuance_acceptance", posts), ("list_certificates", lists)] = measured(summary)[..] else {
        panic!("{summary:#}")
    };
    [posts, lists]
}

#[test]
fn the_default_run_sums_two_workloads_on_postgresql() {
    needs!(Postgresql);
    // A list of 10,000 certificates takes a core for some 10 ms: too long to wait for the 1,000 that p99 needs.
    let arguments = "--issuance-rate 120/s --list-rate 40/s --duration 3s --warm-up 500ms";
    let finished = bench(arguments).measured().run().invalid_or_breached();
    let summary = finished.summary();
    let too_few = |measure, needed, had| {
        format!("{measure} needs {needed} right answers, this run has {had} (lengthen --duration)")
    };
    let few = [
        too_few("issuance_acceptance: response time p99", 1_000, 360),
        too_few("list_certificates: response time p99", 1_000, 120),
        // On a busy machine the longest, by which it is judged, may be beyond the limit.
        too_few("list_certificates: response time p95", 200, 120),
    ];
    let reasons = reasons(&summary);
    assert!(reasons.lines().all(|reason| few.iter().any(|few| reason == few)), "{reasons}");
    let [posts, lists] = ["issuance_acceptance", "list_certificates"]
        .map(|workload| threshold_of(&summary, workload, "response time p99"));
    // The posts are enough to be judged by the longest, if that is not beyond the limit.
    assert_eq!((&posts["by_maximum"], &lists["by_maximum"]), (&(posts["beyond"] == 0).into(), &false.into()));
    assert_schema(&summary);
    let [posts, lists] = results(&summary);
    assert_eq!((outcome_of(posts, "ok"), outcome_of(lists, "ok")), (360, 120));
    // Posts go on, unmeasured, until the last list is due, 5 s after the last post of their own window.
    assert_eq!((&posts["arrivals"]["later"], &lists["arrivals"]["later"]), (&600.into(), &0.into()));
    assert_work(posts, &[("certificates created", 1_020)]);
    assert_work(lists, &[("audit rows of pages", 140)]);
    // Statements: permissions and the audit row; the INSERT of a post; count, page and targets of a list.
    assert_calls(&summary, 3 * 1_020 + 5 * 140, 1_160);
    let thresholds: Vec<[Option<&str>; 3]> = summary["thresholds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| ["workload", "quantile", "name"].map(|field| one[field].as_str()))
        .collect();
    let [posts, lists] = ["issuance_acceptance", "list_certificates"].map(Some);
    assert_eq!(
        thresholds,
        [
            [posts, Some("p95"), Some("response time p95")],
            [posts, Some("p99"), Some("response time p99")],
            [lists, Some("p95"), Some("response time p95")],
            [lists, Some("p99"), Some("response time p99")],
            [None, None, Some("errors")],
        ]
    );
    let workload = "list_certificates: open, jittered 40/s, 200 pooled connections, starts after 5 s";
    assert!(finished.stdout.contains(workload), "{}", finished.stdout);
}

/// Answers as a certctl whose every `nth` post fails.
fn failing_posts(nth: u64) -> impl Fn(&Request) -> Reply + Send + Sync {
    let posts = AtomicU64::new(0);
    move |request| match request.is_issuance() && posts.fetch_add(1, Ordering::SeqCst) % nth == nth - 1 {
        true => json(500, "{\"error\":\"internal\"}"),
        false => all_of_certctl(request),
    }
}

/// Asserts the share of failed posts. Posts that follow the window may overtake its last ones, so that the share is
/// only about the intended one.
fn assert_failed_posts(summary: &Value, of_all: u64) {
    let [posts, lists] = results(summary);
    let failed = outcome_of(posts, "failed (500)");
    assert!(failed > 0 && lists["error_share"] == 0.0, "{failed}");
    let share = failed as f64 / of_all as f64;
    assert_eq!(threshold(summary, "errors")["measured"].as_f64(), Some(share));
    assert_eq!(summary["error_share"].as_f64(), Some(share));
}

#[test]
fn errors_of_one_workload_alone_are_a_breach() {
    // 4% of the posts are more than 1% of all.
    let peer = Peer::start(failing_posts(25));
    let arguments = "--issuance-rate 400/s --list-rate 320/s --duration 1s --warm-up 0s";
    let summary = bench(arguments).measured().towards_peer(&peer).run().exits(3).summary();
    assert_failed_posts(&summary, 400 + 320);
    assert_eq!((&summary["verdict"], reasons(&summary).as_str()), (&"breached".into(), ""));
    assert_eq!(threshold(&summary, "errors")["passed"], false);
}

#[test]
fn the_threshold_spans_both_workloads_and_lists_start_later() {
    let first: Arc<[Mutex<Option<Instant>>; 2]> = Arc::default();
    let (seen, failing) = (first.clone(), failing_posts(80));
    let peer = Peer::start(move |request| {
        for (slot, is_first) in seen.iter().zip([request.is_issuance(), request.is_list()]) {
            if is_first {
                slot.lock().unwrap().get_or_insert_with(Instant::now);
            }
        }
        failing(request)
    });
    // Some 1.3% of the posts are less than 1% of all.
    let arguments = "--issuance-rate 320/s --list-rate 400/s --duration 1s --warm-up 0s";
    let summary = bench(arguments).measured().towards_peer(&peer).run().worked().summary();
    assert_failed_posts(&summary, 320 + 400);
    assert_eq!(threshold(&summary, "errors")["passed"], true);

    let [post, list] = [0, 1].map(|which| first[which].lock().unwrap().expect("a request"));
    // Both are seen a little after they were sent.
    assert!(list - post > LIST_STARTS_AFTER - Duration::from_millis(500), "{:?}", list - post);
    let starts = [0, 1].map(|which| summary["workloads"][which]["plan"]["starts_after_s"].as_f64().unwrap());
    assert_eq!(starts, [0.0, 5.0]);
}

#[test]
fn an_unrequested_304_fails_and_html_is_a_wrong_answer() {
    let lists = AtomicU64::new(0);
    let peer = Peer::start(move |request| match request.is_list() {
        true => match lists.fetch_add(1, Ordering::SeqCst) % 5 {
            1 => answer(304, "text/plain", ""),
            2 => answer(200, "text/html", "<!DOCTYPE html><title>certctl</title>"),
            _ => all_of_certctl(request),
        },
        false if request.is_issuance() => answer(201, "text/html", &request.body),
        false => all_of_certctl(request),
    });
    // 10 lists in the warm-up, 50 in the window; every post is answered wrongly.
    let summary = bench("").smoke().towards_peer(&peer).run().exits(5).summary();
    let [posts, lists] = results(&summary);
    let count = |name| outcome_of(lists, name);
    assert_eq!([count("ok"), count("failed (304)"), count("wrong answer")], [30, 10, 10]);
    assert_eq!((outcome_of(posts, "wrong answer"), outcome_of(posts, "ok")), (50, 0));
    assert_eq!(threshold(&summary, "errors")["passed"], false);
}

#[test]
fn certificate_names_are_unique_across_runs() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = names.clone();
    let peer = Peer::start(move |request| {
        if request.is_issuance() {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            seen.lock().unwrap().push(body["name"].as_str().unwrap().to_owned());
        }
        all_of_certctl(request)
    });
    for _ in 0..2 {
        bench("").smoke().towards_peer(&peer).run().exits(0);
    }
    let names = names.lock().unwrap();
    let different: HashSet<&String> = names.iter().collect();
    assert_eq!((names.len(), different.len()), (140, 140));
    assert!(names.iter().all(|name| name.starts_with("loadtest-api-")), "{names:?}");
}

#[test]
fn posted_certificates_can_be_cleaned_up() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("posted").unwrap();
    let url = cluster.url("posted");
    bench("").smoke().database(&url).run().exits(0);

    let mut client = Client::connect(&url, NoTls).unwrap();
    let mut certificates = || {
        let sql = "SELECT count(*) FILTER (WHERE name LIKE 'loadtest-api-%'), count(*) FROM managed_certificates";
        let row = client.query_one(sql, &[]).unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    // A second, 200 ms of warm-up and 200 ms until the lists have ended, at 50/s, beside the seeds.
    assert_eq!(certificates(), (70, 10_070));
    let mut clean = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
    let cleaned = clean.args(["seed", "--clean", "--database", &url]).output().unwrap();
    assert!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    assert_eq!(certificates(), (0, 10_000));
}

/// Returns an observation of the lists in a smoke run at a reference server: its count, and its total if it is a share.
#[track_caller]
fn observed_by_lists(behaviour: &str, arguments: &str, what: &str) -> (u64, Option<u64>) {
    let reference = Reference::start(&["--behaviour", behaviour]);
    let summary = bench(arguments).smoke().towards_reference(&reference).run().exits(0).summary();
    let [_, lists] = results(&summary);
    assert_eq!(outcome_of(lists, "ok"), 50);
    let observed = observed(lists, what);
    (observed["count"].as_u64().unwrap(), observed["of"].as_u64())
}

#[test]
fn a_deep_walk_reaches_deep_pages() {
    // The first answer states the number of pages; 60 are requested.
    let (deepest, _) = observed_by_lists("as-built", "--pages deep", "deepest page");
    assert!((2..=60).contains(&deepest), "{deepest}");
}

#[test]
fn a_conditional_list_gets_304_until_a_row_changes() {
    // One certificate is posted before the first list, and one after 1 s.
    let arguments = "--pages conditional --issuance-rate 1/s";
    let (unchanged, lists) = observed_by_lists("as-built", arguments, "answered 304 Not Modified");
    assert_eq!(lists, Some(60));
    // All but the first, the one after the post, and those that were under way with them.
    assert!((1..60).contains(&unchanged), "{unchanged}");
}

#[test]
fn a_cursor_advances_as_documented_and_never_as_built() {
    let walk = |behaviour| observed_by_lists(behaviour, "--pages cursor", "pages on which the cursor had advanced");
    assert_eq!(walk("as-built"), (0, Some(60)));
    let (advanced, _) = walk("as-documented");
    assert!(advanced >= 30, "{advanced}");
}

#[test]
fn posts_and_lists_have_no_fixed_phase() {
    let arrivals = |arguments: &str| {
        let peer = Peer::start(all_of_certctl);
        let summary = bench(arguments).smoke().towards_peer(&peer).run().exits(0).summary();
        [0, 1].map(|workload| summary["workloads"][workload]["plan"]["arrivals"].as_str().unwrap().to_owned())
    };
    assert_eq!(arrivals(""), ["constant", "jittered"]);
    assert_eq!(arrivals("--arrivals constant"), ["constant", "constant"]);
}
