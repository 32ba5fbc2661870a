//! The statistics, and the evidence that is made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use certctl_bench::baseline::compare::{self, CompareOptions};
use certctl_bench::baseline::{Judgement, Side};
use certctl_bench::database::DatabaseClient;
use certctl_bench::evidence::{DatabaseWitness, Evidence, Known, statement_statistics};
use postgres::{Client, NoTls};

use crate::common::bench::Bench;
use crate::common::needs::{needs, skip};
use crate::common::postgresql::{VERSIONS, installation, migrated, newest};
use crate::common::runs::Made;

/// Statements of a system under test, some of them within a function; the suite's own queries come between them.
const WORK: &str = "SELECT twice(1)";
const FUNCTION: &str = "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE plpgsql AS \
                        $$ DECLARE m int; BEGIN SELECT n * 2 INTO m; PERFORM count(*) FROM agents; RETURN m; END $$";

/// Returns the evidence of ten calls of the function, with queries of the suite between them.
fn watched(url: &str) -> Evidence {
    let mut system = Client::connect(url, NoTls).unwrap();
    let mut ours = DatabaseClient::open(url, "books").unwrap();
    let witness = DatabaseWitness::start(url, Arc::default()).unwrap();
    for _ in 0..10 {
        system.query_one(WORK, &[]).unwrap();
        ours.query_one("SELECT count(*) FROM agents WHERE id LIKE $1", &[&"%"]).unwrap();
    }
    witness.finish(10)
}

/// Returns calls and rows per arrival, or the reason for their absence.
fn calls_and_rows(evidence: &Evidence) -> Result<(f64, f64), String> {
    match evidence.statements.as_ref().unwrap() {
        Known::Yes(statements) => {
            let each = statements.per_arrival.unwrap();
            Ok((each.calls, each.rows))
        }
        Known::No { unavailable, hint } => Err(format!("{unavailable}; {}", hint.as_deref().unwrap_or("no hint"))),
    }
}

#[test]
fn counts_are_equal_on_every_postgresql_version() {
    let mut counts = Vec::new();
    for version in VERSIONS {
        let installation = match installation(version) {
            Ok(installation) => installation,
            Err(why) => {
                skip("witness counts_are_equal_on_every_postgresql_version", &why);
                continue;
            }
        };
        let load = "--agents 20 --connections 5 --rate 50/s --duration 2s --warm-up 0s";
        let mut bench = Bench::new(&format!("--bench --mode sustained {load}"));
        bench.command.env("CERTCTL_BENCH_PG_BIN", &installation.bin);
        let summary = bench.run().summary();
        let evidence = &summary["evidence"][0];
        assert!(evidence["settings"]["server_version"].as_str().unwrap().starts_with(&format!("{version}.")));
        assert_eq!(evidence["problems"], serde_json::json!([]), "{version}");
        counts.push((
            evidence["statements"]["per_arrival"]["calls"].clone(),
            evidence["statements"]["per_arrival"]["rows"].clone(),
        ));
        assert_eq!(counts.last(), Some(&(4.0.into(), 85.0.into())), "{version}: {evidence:#}");
    }
}

#[test]
fn queries_of_the_suite_are_not_counted() {
    for version in VERSIONS {
        let Ok(installation) = installation(version) else { continue };
        let (_cluster, url) = migrated(&installation, &[]);
        Client::connect(&url, NoTls).unwrap().batch_execute(FUNCTION).unwrap();
        let evidence = watched(&url);
        assert_eq!((evidence.problems.as_slice(), calls_and_rows(&evidence)), (&[][..], Ok((1.0, 1.0))), "{version}");
    }
}

#[test]
fn statements_within_functions_count_once() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[("pg_stat_statements.track", "all")]);
    Client::connect(&url, NoTls).unwrap().batch_execute(FUNCTION).unwrap();
    assert_eq!(calls_and_rows(&watched(&url)), Ok((1.0, 1.0)));
}

#[test]
fn a_setting_that_disables_counting_is_named() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    for (extra, prepare, message) in [
        (&[("compute_query_id", "off")][..], "", "compute_query_id is off; set compute_query_id to auto"),
        (&[("pg_stat_statements.track", "none")], "", "pg_stat_statements.track is none; set pg_stat_statements.track"),
        (
            &[],
            "ALTER ROLE guest SET pg_stat_statements.track = none",
            "the role guest is set to pg_stat_statements.track=none; ALTER ROLE guest RESET pg_stat_statements.track",
        ),
        (
            &[],
            "ALTER DATABASE certctl SET compute_query_id = off",
            "the database is set to compute_query_id=off; ALTER DATABASE … RESET compute_query_id",
        ),
        (
            &[],
            "DROP EXTENSION pg_stat_statements; CREATE SCHEMA hidden; CREATE EXTENSION pg_stat_statements SCHEMA hidden",
            "permission denied for schema hidden; GRANT USAGE ON SCHEMA hidden",
        ),
    ] {
        let (_cluster, url) = migrated(&installation, extra);
        let mut owner = Client::connect(&url, NoTls).unwrap();
        owner.batch_execute(&format!("CREATE ROLE guest LOGIN; GRANT SELECT ON agents TO guest; {FUNCTION}")).unwrap();
        owner.batch_execute(prepare).unwrap();
        let url = url.replace("postgres@", "guest@");
        let evidence = watched(&url);
        let why = calls_and_rows(&evidence).unwrap_err();
        assert!(why.contains(message), "{why}");
        // The doctor reports the same, before a run.
        let error = statement_statistics(&mut DatabaseClient::open(&url, "doctor").unwrap()).unwrap_err();
        assert!(why.starts_with(error.what()), "{error}");
    }
}

#[test]
fn a_partial_reset_of_counters_is_reported() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[("pg_stat_statements.max", "100")]);
    let mut system = Client::connect(&url, NoTls).unwrap();
    let reset = "SELECT pg_stat_statements_reset(userid, dbid, queryid) FROM pg_stat_statements \
                 WHERE query LIKE '%nobody_asks%'";
    let many: String = (0..150).map(|n| format!("SELECT {};", "1,".repeat(n) + "1")).collect();
    for (work, message) in [(reset, "some were reset"), (&*many, "more statements than pg_stat_statements.max")] {
        system.batch_execute("SELECT now() AS nobody_asks").unwrap();
        let witness = DatabaseWitness::start(&url, Arc::default()).unwrap();
        system.batch_execute(work).unwrap();
        let problems = witness.finish(1).problems;
        assert!(problems.iter().any(|problem| problem.contains(message)), "{problems:?}");
    }
}

/// Returns runs at a PostgreSQL with these settings; none of them for a suite that did not record them yet.
fn side(calls: u64, settings: &[(&str, &str)]) -> Side {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let runs: Vec<_> = (1..=2)
        .map(|number| {
            let mut summary = Made { number, calls, ..Made::default() }.summary();
            summary.run_id = Some(RUNS.fetch_add(1, Ordering::Relaxed).to_string());
            let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            summary.evidence[0].settings.extend(settings);
            (format!("run {number}"), summary)
        })
        .collect();
    Side::of(&runs).unwrap()
}

#[test]
fn wal_is_compared_only_under_equal_settings() {
    let options = CompareOptions { counts_only: true, ..CompareOptions::default() };
    let verdict = |base: &Side, head: &Side, name: &str| {
        let comparison = compare::run(base, head, options);
        comparison.measures.iter().find(|one| one.name == format!("database/{name}_per_answer")).unwrap().verdict
    };
    for setting in ["wal_level", "data_checksums", "full_page_writes", "wal_compression", "wal_log_hints"] {
        let (base, head) = (side(5, &[(setting, "a")]), side(6, &[(setting, "b")]));
        assert_eq!(verdict(&base, &head, "wal_records"), Judgement::Incomparable, "{setting}");
        assert_eq!(verdict(&base, &head, "wal_bytes"), Judgement::Incomparable, "{setting}");
        // All other measures are judged as ever.
        assert_eq!(verdict(&base, &head, "sql_calls"), Judgement::Regressed, "{setting}");
        let comparison = compare::run(&base, &head, options);
        assert_eq!(comparison.exit_code, 4, "{comparison}");
        let note = format!("WAL cannot be compared: {setting}: a against b");
        assert!(comparison.notes.contains(&note), "{:?}", comparison.notes);
        // A baseline from before they were recorded stays comparable.
        let old = side(5, &[]);
        assert_eq!(verdict(&old, &side(5, &[(setting, "b")]), "wal_records"), Judgement::Unchanged, "{setting}");
    }
    let (base, head) = (
        side(5, &[("pg_stat_statements.track_utility", "on")]),
        side(4, &[("pg_stat_statements.track_utility", "off")]),
    );
    assert_eq!(verdict(&base, &head, "sql_calls"), Judgement::Incomparable);
    assert_eq!(verdict(&base, &head, "wal_records"), Judgement::Unchanged);
    // What is left is not called unchanged, but what became worse is red.
    let comparison = compare::run(&base, &head, options);
    assert_eq!((comparison.verdict, comparison.exit_code), (Judgement::Missing, 5), "{comparison}");
    let why = "statements cannot be compared: pg_stat_statements.track_utility: on against off";
    assert_eq!(comparison.missing, [why], "{comparison}");
    let mut worse = head;
    worse.measures.get_mut("database/wal_records_per_answer").unwrap().values.fill(Some(24.0));
    let comparison = compare::run(&base, &worse, options);
    assert_eq!((comparison.verdict, comparison.exit_code), (Judgement::Regressed, 4), "{comparison}");
}

#[test]
fn uncounted_statements_are_no_improvement() {
    let base = side(5, &[]);
    let mut uncounted = Made { number: 9, ..Made::default() }.summary();
    uncounted.evidence[0].statements = Some(Known::No { unavailable: "track is none".to_owned(), hint: None });
    let head = Side::of(&[("head".to_owned(), uncounted)]).unwrap();
    let comparison = compare::run(&base, &head, CompareOptions { counts_only: true, ..CompareOptions::default() });
    assert_eq!((comparison.verdict, comparison.exit_code), (Judgement::Missing, 5), "{comparison}");
    let why = "database/sql_calls_per_answer: only the base reports it";
    assert!(comparison.missing.iter().any(|one| one == why), "{comparison}");
}
