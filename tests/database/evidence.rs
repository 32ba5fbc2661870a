//! The evidence about a run, compared with the requests that were really sent.
//!
//! These tests need PostgreSQL 15 or newer with `pg_stat_statements`, and are skipped without.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::common::needs::needs;
use crate::common::peer::{Peer, Request, Step, TOKEN, answer, certctl};
use crate::common::process::until;
use certctl_bench::evidence::{DatabaseWitness, Evidence, Known, Statements, metrics};
use certctl_bench::inspect::preflight::{self, Findings};
use certctl_bench::load::progress::{Progress, Stage};
use certctl_bench::provision::postgres::{Cluster, find};
use certctl_bench::report::evidence::lines;
use certctl_bench::scenario::agent_storm::AgentStorm;
use certctl_bench::system::probe::Probe;
use certctl_bench::system::reference::{self, ReferenceStart, StoreChoice};
use certctl_bench::system::{Certctl, Token};
use certctl_bench::wire::request::Method;
use certctl_bench::wire::tls::Trust;
use postgres::{Client, NoTls};
use serde_json::json;

/// Keeps the test's own queries out of the statement counts.
const MARK: &str = "/* certctl_bench */";

/// A reference server on a private PostgreSQL that has no other client.
struct Quiet {
    certctl: Certctl,
    findings: Findings,
    client: Client,
}

impl Quiet {
    fn start() -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_certctl-reference"));
        let certctl = reference::start(&ReferenceStart::new(binary, StoreChoice::Auto), &mut |_| {}).unwrap();
        let findings = preflight::inspect(&certctl, &[]).unwrap();
        let client = Client::connect(certctl.database.as_ref().unwrap(), NoTls).unwrap();
        let mut quiet = Self { certctl, findings, client };
        quiet.until_audited(1);
        quiet
    }

    fn url(&self) -> &str {
        self.certctl.database.as_ref().unwrap()
    }

    fn heartbeats(&self, count: u64) {
        let mut probe = Probe::new(&self.certctl, self.findings.dialer.clone());
        certctl_bench::load::runtime::runtime().unwrap().block_on(async {
            for number in 1..=count {
                let answer = probe.send_with_token(Method::Post, &AgentStorm::path(number)).await.unwrap();
                assert_eq!(answer.status, 200);
            }
        });
    }

    /// Waits for audit rows, which come after the answers.
    fn until_audited(&mut self, rows: i64) {
        let sql = format!("SELECT {MARK} count(*) FROM audit_events");
        until("all is audited", || self.client.query_one(&sql, &[]).unwrap().get::<_, i64>(0) == rows);
    }
}

/// Waits until a witness has sampled the backends once more.
fn until_sampled(client: &mut Client) {
    let sample = format!(
        "SELECT {MARK} count(*) FROM pg_stat_activity WHERE query_start > $1 AND state = 'idle' \
         AND query LIKE 'WITH certctl_bench AS (SELECT) SELECT state, wait_event_type%'"
    );
    let since: SystemTime = client.query_one("SELECT clock_timestamp()", &[]).unwrap().get(0);
    until("a sample was taken", || client.query_one(&sample, &[&since]).unwrap().get::<_, i64>(0) == 1);
}

fn statements(evidence: &Evidence) -> &Statements {
    evidence.statements.as_ref().and_then(Known::yes).expect("statements")
}

#[test]
fn every_statement_is_counted() {
    needs!(Postgresql);
    let mut quiet = Quiet::start();
    let mut counts = Vec::new();
    for round in 1..=2 {
        let witness = DatabaseWitness::start(quiet.url(), Arc::default()).unwrap();
        quiet.heartbeats(30);
        quiet.until_audited(1 + round * 30);
        let evidence = witness.finish(30);
        assert_eq!(evidence.problems, Vec::<String>::new());
        assert!(evidence.window.is_none(), "no window was measured");
        assert_eq!((&*evidence.settings["fsync"], &*evidence.settings["max_connections"]), ("on", "100"));
        let statements = statements(&evidence);
        // Statements: permissions, the agent, its UPDATE, and the audit row.
        assert_eq!((statements.different, statements.total.calls), (4, 120), "{statements:#?}");
        assert!(statements.most_called.iter().all(|statement| statement.cost.calls == 30));
        let each = statements.per_arrival.unwrap();
        // The administrator's 82 permissions, and a row for each other statement.
        assert_eq!((each.calls, each.rows), (4.0, 85.0));
        assert!(each.wal_bytes > 0.0 && evidence.wal_bytes.unwrap() >= statements.total.wal_bytes);
        let shown = lines(&evidence);
        assert!(shown.starts_with("SQL          per arrival 4.00 calls, 85.00 rows, "), "{shown}");
        for outline in ["actor_roles", "SELECT agents", "UPDATE agents", "INSERT audit_events"] {
            let row = shown.lines().find(|line| line.contains(outline)).expect(outline);
            assert!(row.starts_with("                   30 × "), "{shown}");
        }
        counts.push((statements.total.calls, statements.total.rows));
    }
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn the_window_has_rates_and_waits() {
    needs!(Postgresql);
    let mut quiet = Quiet::start();
    let progress = Arc::new(Progress::default());
    let witness = DatabaseWitness::start(quiet.url(), progress.clone()).unwrap();
    progress.enter(Stage::Measuring);
    // Every audit row waits for this lock.
    let mut holder = Client::connect(quiet.url(), NoTls).unwrap();
    let mut held = holder.transaction().unwrap();
    held.execute("SELECT FROM audit_chain_head WHERE id = 1 FOR UPDATE", &[]).unwrap();
    quiet.heartbeats(3);
    let waiting = format!("SELECT {MARK} count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
    until("three wait", || quiet.client.query_one(&waiting, &[]).unwrap().get::<_, i64>(0) == 3);
    until_sampled(&mut quiet.client);
    held.commit().unwrap();
    // PostgreSQL's statistics lag: the window goes on until they show the three inserts.
    quiet.until_audited(4);
    let inserted = format!("SELECT {MARK} tup_inserted FROM pg_stat_database WHERE datname = current_database()");
    let before: i64 = quiet.client.query_one(&inserted, &[]).unwrap().get(0);
    until("more is inserted", || {
        quiet.heartbeats(1);
        quiet.client.query_one(&inserted, &[]).unwrap().get::<_, i64>(0) > before
    });
    progress.enter(Stage::Draining);
    let evidence = witness.finish(1_000);
    assert_eq!(evidence.problems, Vec::<String>::new());
    let shown = lines(&evidence);
    let window = evidence.window.unwrap();
    let waits = window.activity.backends["waiting_lock"];
    assert_eq!(waits.max, 3, "{window:#?}");
    // The suite's own sessions are not among them, but this test's is.
    assert!((3..=4).contains(&window.activity.backends["active"].max), "{window:#?}");
    assert!(waits.mean > 0.0 && waits.mean <= 3.0 && window.activity.backends["idle_in_transaction"].max == 1);
    let rows = window.counts["rows_inserted"];
    assert!(rows.count > 0 && (rows.per_s - rows.count as f64 / window.seconds).abs() < 1e-9, "{rows:?}");
    for name in ["commits", "rows_updated", "deadlocks", "wal_bytes", "checkpoints_timed", "checkpoints_requested"] {
        assert!(window.counts.contains_key(name), "{name}: {window:#?}");
    }
    assert!(shown.contains(" (max 3) (mean of ") && shown.contains("\ndatabase     commits "), "{shown}");
}

#[test]
fn a_missing_extension_is_reported_with_its_fix() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[("shared_preload_libraries", "")]).unwrap();
    cluster.create_database("bare").unwrap();
    for (prepare, why) in [
        ("", "the database does not have the extension pg_stat_statements"),
        ("CREATE EXTENSION pg_stat_statements", "must be loaded via"),
    ] {
        Client::connect(&cluster.url("bare"), NoTls).unwrap().batch_execute(prepare).unwrap();
        let evidence = DatabaseWitness::start(&cluster.url("bare"), Arc::default()).unwrap().finish(1);
        let serialized = serde_json::to_value(&evidence).unwrap();
        let text = serialized["statements"]["unavailable"].as_str().unwrap();
        assert!(text.contains(why), "{text}");
        assert!(serialized["statements"]["hint"].as_str().unwrap().contains("shared_preload_libraries"));
        assert!(lines(&evidence).starts_with("SQL          not known: "));
        assert!(evidence.wal_bytes.is_some(), "the rest is there");
    }
}

#[test]
fn lost_counters_and_hidden_statements_are_reported() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("shared").unwrap();
    let mut other = Client::connect(&cluster.url("shared"), NoTls).unwrap();
    other.batch_execute("CREATE ROLE guest LOGIN").unwrap();
    let url = cluster.url("shared").replace("postgres@", "guest@");
    let progress = Arc::new(Progress::default());
    let witness = DatabaseWitness::start(&url, progress.clone()).unwrap();
    progress.enter(Stage::Measuring);
    until_sampled(&mut other);
    let evidence = witness.finish(1);
    let problems = &evidence.problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems.iter().any(|problem| problem.contains("hides statements of other roles (calls: ")),
        "{problems:?}"
    );
    assert!(problems.iter().any(|problem| problem.starts_with("pg_stat_activity hides what ")), "{problems:?}");
    // The other session's.
    let backends = &evidence.window.unwrap().activity.backends;
    assert_eq!((backends["backends"].max, backends["active"].max), (1, 0), "{backends:?}");

    let witness = DatabaseWitness::start(&cluster.url("shared"), Arc::default()).unwrap();
    other.batch_execute("SELECT pg_stat_statements_reset()").unwrap();
    let evidence = witness.finish(1);
    assert!(evidence.problems[0].starts_with("pg_stat_statements lost counters"), "{:?}", evidence.problems);
}

#[test]
fn a_lost_database_costs_only_the_evidence() {
    needs!(Postgresql);
    let mut cluster = Cluster::start(&find().unwrap(), &[]).unwrap();
    cluster.create_database("brief").unwrap();
    let progress = Arc::new(Progress::default());
    let witness = DatabaseWitness::start(&cluster.url("brief"), progress.clone()).unwrap();
    cluster.stop().unwrap();
    progress.enter(Stage::Measuring);
    let evidence = witness.finish(5);
    assert!(evidence.window.is_none() && evidence.wal_bytes.is_none());
    assert!(matches!(evidence.statements, Some(Known::No { .. })));
    assert!(!evidence.problems.is_empty() && evidence.settings["fsync"] == "on");
    assert!(lines(&evidence).contains("\ndoubtful     "), "{}", lines(&evidence));
}

/// Reads the metrics of a certctl that gives this reply at their path.
fn read_metrics(reply: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Result<metrics::Metrics, String> {
    let path = "/api/v1/metrics/prometheus";
    let peer = Peer::start(move |request| if request.path == path { reply(request) } else { certctl(request) });
    let trust = Trust::from_file(&peer.ca_file()).unwrap();
    let certctl = Certctl::external(peer.base().parse().unwrap(), trust, Token::new(TOKEN.to_owned()), None);
    let findings = preflight::inspect(&certctl, &[]).unwrap();
    metrics::read(&certctl, &findings.dialer).map_err(|error| error.to_string().replace(&peer.base(), "BASE"))
}

#[test]
fn metrics_are_read_with_the_token() {
    let read = |text: &'static str| {
        read_metrics(move |request| {
            assert_eq!(request.token.as_deref(), Some(TOKEN));
            answer(200, "text/plain; version=0.0.4; charset=utf-8", text)
        })
    };
    let before = read("certctl_job_pending 3\ncertctl_uptime_seconds 90\n").unwrap();
    let after = read("certctl_job_pending 5\ncertctl_uptime_seconds 91\n").unwrap();
    let evidence = Evidence::default().with_metrics(Ok(before.clone()), Ok(after.clone()));
    let serialized = serde_json::to_value(&evidence).unwrap();
    assert_eq!(serialized["metrics"], json!({"certctl_job_pending": {"before": 3.0, "after": 5.0}}));
    assert_eq!(lines(&evidence), "metrics      certctl_job_pending 3 → 5\n");
    let evidence = Evidence::default().with_metrics(Ok(after), Ok(before));
    assert_eq!(evidence.problems, ["certctl was restarted between the two readings of its metrics"]);

    let path = "BASE/api/v1/metrics/prometheus";
    let hint = "\nhint: use a key with the permission metrics.read: an admin key, r-operator or r-viewer";
    for (reply, expected) in [
        (
            (|_| crate::common::peer::json(403, "{\"error\":\"Insufficient permissions\"}"))
                as fn(&Request) -> Vec<Step>,
            format!("{path}: 403: Insufficient permissions{hint}"),
        ),
        (|_| answer(404, "text/plain", "404 page not found\n"), format!("{path}: answers 404 instead of metrics")),
        (
            |_| answer(200, "text/html", "<!DOCTYPE html><title>certctl</title>"),
            format!("{path}: answers 200 instead of metrics"),
        ),
        (
            |_| answer(200, "text/plain", "no metrics today"),
            format!("{path}: not the text format of Prometheus: no metrics today"),
        ),
    ] {
        assert_eq!(read_metrics(reply), Err(expected));
    }
}
