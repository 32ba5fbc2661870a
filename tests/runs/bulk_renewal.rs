//! `bulk_renewal` from its front door.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certctl_bench::provision::postgres::{Cluster, find};
use postgres::{Client, NoTls};
use rustix::process::Signal;
use serde_json::Value;

use crate::common::bench::Bench;
use crate::common::certctl::{all_of_certctl, renewed};
use crate::common::needs::needs;
use crate::common::peer::{Peer, Step, answer, json};
use crate::common::process::until;
use crate::common::summary::{
    assert_calls, assert_schema, assert_work, measured, observed, outcome, outcome_of, reasons, results, threshold,
};

fn bench(arguments: &str) -> Bench {
    Bench::named("bulk_renewal", arguments)
}

/// Returns the number of certificates put into renewal, by the answers.
fn put_into_renewal(results: &Value) -> u64 {
    observed(results, "certificates put into renewal")["count"].as_u64().unwrap()
}

#[test]
fn the_default_run_passes_its_side_effect_check() {
    needs!(Postgresql);
    // Few enough that a slow machine answers all.
    let arguments = "--rate 20/s --duration 3s --warm-up 500ms --batch-size 2";
    let finished = bench(arguments).measured().run().worked();
    let summary = finished.summary();
    assert_schema(&summary);
    let [(name, results)] = measured(&summary)[..] else { panic!("{summary:#}") };
    assert_eq!((name, outcome(&summary, "ok")), ("enqueue", 60));
    assert_work(results, &[("audit rows of renewals", 70), ("renewal jobs", 140), ("certificates in renewal", 140)]);
    assert_eq!(put_into_renewal(results), 140);
    // For each of the two certificates: itself, its targets, its UPDATE, its job. For the request: permissions, the
    // renewal's own audit row, the request's audit row.
    assert_calls(&summary, (4 * 2 + 3) * 70, 70);
    for line in [
        "renewal of 2 certificates at a time, by id: POST /api/v1/certificates/bulk-renew",
        "renewal jobs: 140 of 140 (SQL)",
        "certificates put into renewal, all answers: 140",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
}

#[test]
fn more_certificates_than_seeded_are_a_usage_error() {
    let refused = bench("--rate 100/s --duration 1500ms --warm-up 500ms --batch-size 60").measured().refused(2);
    assert_eq!(
        refused.messages(),
        "error: 200 requests of 60 certificates exceed the 10000 seeded certificates\n\
         hint: give --batch-size 50 or less at this rate and duration, or lower those\n"
    );
    let refused = bench("--rate 11000/s --duration 1s --warm-up 0s").measured().refused(2);
    assert!(refused.stderr.ends_with("\nhint: lower --rate or --duration\n"), "{}", refused.stderr);
    assert_eq!((refused.json, refused.text), (None, None));
}

#[test]
fn a_missing_renewal_is_a_wrong_answer() {
    // It has one certificate less than the request names.
    let peer = Peer::start(|request| match request.certificates() {
        0 => all_of_certctl(request),
        count => renewed(count - 1),
    });
    let arguments = "--rate 200/s --duration 1s --warm-up 0s --batch-size 6";
    let summary = bench(arguments).measured().towards_peer(&peer).run().exits(3).summary();
    assert_eq!((outcome(&summary, "wrong answer"), outcome(&summary, "ok")), (200, 0));
    assert_eq!(threshold(&summary, "errors")["passed"], false);
    assert!(reasons(&summary).contains("no arrival got the right answer"), "{}", reasons(&summary));
    // The work that was done counts.
    assert_eq!(put_into_renewal(results(&summary)), 1_000);
}

#[test]
fn a_few_wrong_answers_are_a_breach() {
    // Every twentieth request finds a certificate that is in renewal already.
    let requests = AtomicU64::new(0);
    let peer = Peer::start(move |request| match request.certificates() {
        0 => all_of_certctl(request),
        count if requests.fetch_add(1, Ordering::SeqCst).is_multiple_of(20) => json(
            200,
            &format!(
                r#"{{"total_matched":{count},"total_enqueued":{},"total_skipped":1,"total_failed":0}}"#,
                count - 1
            ),
        ),
        count => renewed(count),
    });
    let arguments = "--rate 400/s --duration 3s --warm-up 0s --batch-size 2";
    let summary = bench(arguments).measured().towards_peer(&peer).run().exits(3).summary();
    assert_eq!((outcome(&summary, "wrong answer"), outcome(&summary, "ok")), (60, 1_140));
    assert_eq!(
        (summary["verdict"].as_str(), threshold(&summary, "errors")["measured"].as_f64()),
        (Some("breached"), Some(0.05))
    );
}

#[test]
fn a_rescan_reports_requests_without_renewals() {
    let finished = bench("--workload rescan --in-memory").smoke().run().exits(0);
    let summary = finished.summary();
    let [(name, results)] = measured(&summary)[..] else { panic!("{summary:#}") };
    assert_eq!((name, outcome(&summary, "ok")), ("rescan", 20));
    // As built, the oldest 50 are looked at: the first request renews them, and 23 find nothing, warm-up included.
    let idle = observed(results, "requests that put nothing into renewal");
    assert_eq!((&idle["count"], &idle["of"]), (&23.into(), &24.into()));
    assert_eq!(put_into_renewal(results), 50);
    assert_eq!(observed(results, "most certificates matched by one request")["count"], 50);
    assert!(finished.stdout.contains("requests that put nothing into renewal: 23 of 24\n"), "{}", finished.stdout);
}

#[test]
fn a_sweep_runs_each_batch_size() {
    needs!(Postgresql);
    // The sizes name the same certificates, so that only a database, where they are reset, has enough of them.
    let summary = bench("--workload sweep").smoke().run().exits(0).summary();
    assert_schema(&summary);
    assert_eq!((summary["verdict"].as_str(), summary["thresholds"].as_array().unwrap().len()), (Some("smoke"), 0));
    let measured = measured(&summary);
    let sizes: Vec<_> = measured.iter().map(|(size, results)| (*size, put_into_renewal(results))).collect();
    assert_eq!(sizes, [("sweep_50", 50), ("sweep_100", 100)]);
    for ((_, size), certificates) in measured.into_iter().zip([50, 100]) {
        assert_work(
            size,
            &[("audit rows of renewals", 1), ("renewal jobs", certificates), ("certificates in renewal", certificates)],
        );
        let fit = observed(size, "certificates that fit into certctl's write timeout of 120 s")["count"].as_u64();
        assert!(fit > Some(0), "{size}");
    }
}

/// Returns a database as a run leaves it, with these statements executed in it.
fn database_with(statements: &str) -> (Cluster, String) {
    // A whole sweep waits for the disk 56,000 times.
    let cluster = Cluster::start(&find().unwrap(), &[("fsync", "off"), ("synchronous_commit", "off")]).unwrap();
    cluster.create_database("sweep").unwrap();
    let url = cluster.url("sweep");
    bench("").smoke().database(&url).run().exits(0);
    let mut client = Client::connect(&url, NoTls).unwrap();
    client.batch_execute("UPDATE managed_certificates SET status = 'Active'").unwrap();
    client.batch_execute(statements).unwrap();
    (cluster, url)
}

/// Returns statements after which an UPDATE of a certificate fails where this holds.
fn refusing(condition: &str) -> String {
    format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON managed_certificates
         FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
    )
}

/// The sizes of a sweep name the same certificates: if those stayed in renewal, most requests would find nothing to do.
#[test]
fn a_sweep_needs_a_database_for_its_reset() {
    let what = "each size renews the same certificates, which cannot be put back without a database";
    let refused = bench("--workload sweep --in-memory").measured().refused(2);
    assert!(
        refused.stderr.ends_with(&format!(
            ": {what}\nhint: leave out --in-memory, and install PostgreSQL 15 or newer if there is none\n"
        )),
        "{}",
        refused.stderr
    );
    let peer = Peer::start(all_of_certctl);
    let refused = bench("--workload sweep").measured().towards_peer(&peer).refused(2);
    assert_eq!(
        refused.messages(),
        format!("error: {}: {what}\nhint: give --database URL, with the URL of certctl's own database\n", peer.base())
    );
}

/// A sweep is not judged, but one in which something does not work does not pass.
#[test]
fn a_sweep_with_wrong_answers_is_invalid() {
    needs!(Postgresql);
    // One certificate cannot be renewed: it is in one request of 50, in one of 100, and so on.
    let (_cluster, url) = database_with(&refusing("NEW.id = 'cert-loadtest-bulk-00075' AND NEW.status <> 'Active'"));
    let summary = bench("--workload sweep").database(&url).smoke().run().exits(5).summary();
    assert_eq!((outcome(&summary, "ok"), outcome_of(&summary["workloads"][1]["results"], "wrong answer")), (1, 1));
    let reasons = reasons(&summary);
    assert!(reasons.ends_with("1 of 2 arrivals did not get the right answer: something does not work"), "{reasons}");
}

#[test]
fn a_failed_size_of_a_sweep_keeps_earlier_sizes() {
    needs!(Postgresql);
    let (_cluster, url) = database_with(&refusing("OLD.status = 'RenewalInProgress' AND NEW.status = 'Active'"));
    let finished = bench("--workload sweep").smoke().database(&url).run().exits(5);
    let summary = finished.summary();
    assert_schema(&summary);
    assert_eq!(summary["workloads"][1]["plan"]["name"], "sweep_100");
    let [(_, results)] = measured(&summary)[..] else { panic!("{summary:#}") };
    assert_eq!(put_into_renewal(results), 50);
    let why = "sweep_100 was not run: putting the seeded certificates back to their first state: ERROR: not today";
    assert_eq!(reasons(&summary), why);
    assert!(finished.stdout.contains(why), "{}", finished.stdout);
}

#[test]
fn a_sweep_stopped_between_two_sizes_is_partial() {
    needs!(Postgresql);
    let (_cluster, url) = database_with("");
    // The second reading of the metrics comes when a size is over.
    let readings = Arc::new(AtomicU64::new(0));
    let seen = readings.clone();
    let peer = Peer::start(move |request| match (request.certificates(), request.path.as_str()) {
        (0, "/api/v1/metrics/prometheus") => {
            let wait = Duration::from_millis(if seen.fetch_add(1, Ordering::SeqCst) == 1 { 1_500 } else { 0 });
            let metrics = answer(200, "text/plain", "certctl_uptime_seconds 1800\n");
            [Step::Wait(wait)].into_iter().chain(metrics).collect()
        }
        (0, _) => all_of_certctl(request),
        // No side effect that the database would have to show.
        _ => renewed(0),
    });
    let mut running = bench("--workload sweep").smoke().towards_peer(&peer).database(&url).start();
    until("the first size is over", || readings.load(Ordering::SeqCst) == 2);
    running.signal(Signal::INT);
    let summary = running.finish().exits(5).summary();
    assert_eq!(measured(&summary).len(), 1);
    assert!(reasons(&summary).contains("the run was stopped before its end"), "{}", reasons(&summary));
}

#[test]
fn each_run_starts_from_reset_rows() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("runs").unwrap();
    let url = cluster.url("runs");
    for _ in 0..2 {
        let summary = bench("").smoke().database(&url).run().exits(0).summary();
        // 24 requests of 6, warm-up included.
        assert_eq!((outcome(&summary, "ok"), put_into_renewal(results(&summary))), (20, 144));
        // certctl's own metrics begin at the reset rows too, and the statements of reading them are not counted.
        let pending = &summary["evidence"][0]["metrics"]["certctl_job_pending"];
        assert_eq!((pending["before"].as_f64(), pending["after"].as_f64()), (Some(0.0), Some(144.0)));
        assert_calls(&summary, (4 * 6 + 3) * 24, 24);
        let mut client = Client::connect(&url, NoTls).unwrap();
        for (what, sql) in [
            ("jobs", "SELECT count(*) FROM jobs"),
            ("renewed", "SELECT count(*) FROM managed_certificates WHERE status = 'RenewalInProgress'"),
        ] {
            assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, i64>(0), 144, "{what}");
        }
    }
}

/// A run and `seed` recognise the database of load tests alike.
#[test]
fn a_database_with_foreign_rows_is_refused() {
    needs!(Postgresql);
    let theirs =
        "UPDATE managed_certificates SET id = 'mc-theirs', name = 'theirs' WHERE id = 'cert-loadtest-bulk-05000'";
    let (_cluster, url) = database_with(&format!("DELETE FROM jobs; {theirs}"));
    let peer = Peer::start(all_of_certctl);
    let run = |arguments| bench(arguments).smoke().towards_peer(&peer).database(&url).run();
    let refused = run("").exits(1);
    assert!(
        refused.stderr.contains("it does not look like a database for load tests")
            && refused.stderr.contains("1 in managed_certificates (such as mc-theirs)")
            && refused.stderr.contains("or --allow-foreign-rows if this is one"),
        "{}",
        refused.stderr
    );
    // It goes on to the next error: one of the seeded certificates is missing.
    let allowed = run("--allow-foreign-rows").exits(1);
    assert!(allowed.stderr.contains("only 9999 of the 10000 that this run needs exist"), "{}", allowed.stderr);
}
