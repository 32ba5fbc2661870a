//! `bulk_renewal` from its front door.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and fail without.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use certctl_bench::target::postgres::{Cluster, find};
use postgres::{Client, NoTls};
use serde_json::Value;

use common::bench::Bench;
use common::certctl::{all_of_certctl, renewed};
use common::peer::{Peer, json};
use common::summary::{assert_calls, assert_schema, assert_work, observed, outcome, outcome_of, reasons, threshold};

fn bench(arguments: &str) -> Bench {
    Bench::named("bulk_renewal", arguments)
}

/// Certificates put into renewal, as the answers say.
fn put_into_renewal(results: &Value) -> u64 {
    observed(results, "certificates put into renewal")["count"].as_u64().unwrap()
}

#[test]
fn the_default_passes_on_postgresql_and_every_renewal_is_in_its_rows() {
    // p99 wants 1,000 requests.
    let arguments = "--rate 200/s --duration 5s --warm-up 500ms --batch-size 2 --max-lag 500ms";
    let finished = bench(arguments).measured().run().exits(0);
    let summary = finished.summary();
    assert_schema(&summary);
    let results = &summary["results"][0];
    assert_eq!((&results["workload"], outcome(&summary, "ok")), (&"enqueue".into(), 1_000));
    assert_work(
        results,
        &[("audit rows of renewals", 1_100), ("renewal jobs", 2_200), ("certificates in renewal", 2_200)],
    );
    assert_eq!(put_into_renewal(results), 2_200);
    // For each of the two certificates: itself, its targets, its UPDATE, its job. For the request: permissions, the
    // renewal's own audit row, the request's audit row.
    assert_calls(&summary, (4 * 2 + 3) * 1_100, 1_100);
    for line in [
        "renewal of 2 certificates at a time, by id: POST /api/v1/certificates/bulk-renew",
        "renewal jobs: 2200 of 2200 (SQL)",
        "certificates put into renewal, all answers: 2200",
        "verdict      pass (exit 0)",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
}

#[test]
fn more_than_is_seeded_is_wrong_usage_and_what_fits_is_named() {
    let refused = bench("--rate 100/s --duration 1500ms --warm-up 500ms --batch-size 60").measured().run().exits(2);
    assert_eq!(
        refused.stderr,
        "certctl-bench: 200 requests of 60 certificates are more than the 10000 that are seeded\n  \
         mend: --batch-size 50 at most at this rate and duration, or lower those\n"
    );
    let refused = bench("--rate 11000/s --duration 1s --warm-up 0s").measured().run().exits(2);
    assert!(refused.stderr.ends_with("  mend: lower --rate or --duration\n"), "{}", refused.stderr);
    assert_eq!((refused.json, refused.text), (None, None));
}

#[test]
fn a_certificate_that_was_not_renewed_makes_the_answer_wrong() {
    // It knows one certificate less than it is asked for.
    let peer = Peer::start(|request| match request.certificates() {
        0 => all_of_certctl(request),
        asked => renewed(asked - 1),
    });
    let arguments = "--rate 200/s --duration 1s --warm-up 0s --batch-size 6 --max-lag 500ms";
    let summary = bench(arguments).measured().towards_peer(&peer).run().exits(5).summary();
    assert_eq!((outcome(&summary, "wrong answer"), outcome(&summary, "ok")), (200, 0));
    assert_eq!(threshold(&summary, "errors")["passed"], false);
    assert!(reasons(&summary).contains("not one arrival got the right answer"), "{}", reasons(&summary));
    // What was done was done.
    assert_eq!(put_into_renewal(&summary["results"][0]), 1_000);
}

#[test]
fn few_wrong_answers_breach() {
    // Every twentieth request finds a certificate that is in renewal already.
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match request.certificates() {
        0 => all_of_certctl(request),
        asked if requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(20) => json(
            200,
            &format!(
                r#"{{"total_matched":{asked},"total_enqueued":{},"total_skipped":1,"total_failed":0}}"#,
                asked - 1
            ),
        ),
        asked => renewed(asked),
    });
    let arguments = "--rate 400/s --duration 3s --warm-up 0s --batch-size 2 --max-lag 500ms";
    let summary = bench(arguments).measured().towards_peer(&peer).run().exits(3).summary();
    assert_eq!((outcome(&summary, "wrong answer"), outcome(&summary, "ok")), (60, 1_140));
    assert_eq!(
        (summary["verdict"].as_str(), threshold(&summary, "errors")["measured"].as_f64()),
        (Some("breached"), Some(0.05))
    );
}

#[test]
fn a_rescan_tells_of_requests_that_did_nothing() {
    let finished = bench("--workload rescan --in-memory").smoke().run().exits(0);
    let summary = finished.summary();
    let results = &summary["results"][0];
    assert_eq!((&results["workload"], outcome(&summary, "ok")), (&"rescan".into(), 20));
    // As built, the oldest 50 are looked at: the first request renews them, and 23 find nothing, warm-up included.
    let idle = observed(results, "requests that put nothing into renewal");
    assert_eq!((&idle["count"], &idle["of"]), (&23.into(), &24.into()));
    assert_eq!(put_into_renewal(results), 50);
    assert_eq!(observed(results, "most certificates matched by one request")["count"], 50);
    assert!(finished.stdout.contains("requests that put nothing into renewal: 23 of 24\n"), "{}", finished.stdout);
}

#[test]
fn a_sweep_goes_from_size_to_size() {
    // The sizes name the same certificates, so that only a database, where they are reset, has enough of them.
    let summary = bench("--workload sweep").smoke().run().exits(0).summary();
    assert_schema(&summary);
    assert_eq!((summary["verdict"].as_str(), summary["thresholds"].as_array().unwrap().len()), (Some("smoke"), 0));
    let results = summary["results"].as_array().unwrap();
    let sizes: Vec<_> =
        results.iter().map(|size| (size["workload"].as_str().unwrap(), put_into_renewal(size))).collect();
    assert_eq!(sizes, [("sweep_50", 50), ("sweep_100", 100)]);
    for (size, certificates) in results.iter().zip([50, 100]) {
        assert_work(
            size,
            &[("audit rows of renewals", 1), ("renewal jobs", certificates), ("certificates in renewal", certificates)],
        );
        let fit = observed(size, "certificates that fit into certctl's write timeout of 120 s")["count"].as_u64();
        assert!(fit > Some(0), "{size}");
    }
}

/// A sweep is not judged, but what does not work does not pass.
#[test]
fn a_smoke_run_of_a_sweep_shows_that_something_does_not_work() {
    // The first size is renewed whole, the second is not.
    let peer = Peer::start(|request| match request.certificates() {
        0 => all_of_certctl(request),
        asked => renewed(asked.min(50)),
    });
    let finished = bench("--workload sweep").smoke().towards_peer(&peer).run();
    let summary = finished.summary();
    assert_eq!((outcome(&summary, "ok"), outcome_of(&summary["results"][1], "wrong answer")), (1, 1));
    assert_ne!(finished.code, Some(0), "{}", finished.stdout);
}

#[test]
fn each_run_starts_from_reset_rows() {
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("runs").unwrap();
    let url = cluster.url("runs");
    for _ in 0..2 {
        let mut bench = bench("").smoke();
        bench.command.env("CERTCTL_BENCH_DATABASE", &url);
        let summary = bench.run().exits(0).summary();
        // 24 requests of 6, warm-up included.
        assert_eq!((outcome(&summary, "ok"), put_into_renewal(&summary["results"][0])), (20, 144));
        let mut client = Client::connect(&url, NoTls).unwrap();
        for (what, sql) in [
            ("jobs", "SELECT count(*) FROM jobs"),
            ("renewed", "SELECT count(*) FROM managed_certificates WHERE status = 'RenewalInProgress'"),
        ] {
            assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, i64>(0), 144, "{what}");
        }
    }
}
