//! Cleaning after runs: the rows that they created are removed, and no others.

use std::process::{Command, Output};

use certctl_bench::database::DatabaseClient;
use certctl_bench::seed::{Cleaned, SeedOptions, TableCleaned, clean, clean_issued, clean_revoked};

use super::{agent, certificate, database, fleet, job, migrated, one, seed};
use crate::common::needs::needs;

#[test]
fn cleaning_removes_only_rows_of_runs() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    // Each has one mark of a run's certificate, but not both.
    certificate(&mut client, "mc-1", "loadtest-api-of-somebody");
    certificate(&mut client, "mc-2", "loadtest-other");
    client
        .batch_execute(r#"UPDATE managed_certificates SET tags = '{"source": "certctl-bench"}' WHERE id = 'mc-2'"#)
        .unwrap();
    certificate(&mut client, "mc-api-prod", "api-production");
    agent(&mut client, "ag-web-prod", "web-prod");
    let strangers = ["mc-1", "mc-2", "mc-api-prod"];
    for id in strangers {
        job(&mut client, id);
        version(&mut client, id);
    }
    seed(&url, &SeedOptions::default());
    let (before, fresh) = (others(&mut client), fleet(&mut client));

    runs(&mut client);
    let cleaned = clean(&mut client).unwrap();
    let did = |table: &str, removed, restored| TableCleaned { table: table.to_owned(), removed, restored };
    let everything = [
        did("managed_certificates", 3, 10_000),
        did("certificate_versions", 1, 0),
        // One of a posted certificate, two of a seeded one.
        did("jobs", 3, 0),
        did("agents", 0, 5000),
    ];
    assert_eq!(cleaned, Cleaned { tables: everything.to_vec() });
    assert_eq!(cleaned.tables[0].to_string(), "managed_certificates: 3 removed, 10000 put back");
    assert_eq!(others(&mut client), before);
    assert_eq!(fleet(&mut client), fresh);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM managed_certificates WHERE status = 'Active'"), 10_000);

    let again = clean(&mut client).unwrap();
    assert!(again.tables.iter().all(|table| table.removed == 0), "{again:?}");
    assert_eq!(others(&mut client), before);
}

#[test]
fn the_start_of_a_run_removes_only_posted_certificates() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    runs(&mut client);
    assert_eq!(clean_issued(&mut client).unwrap(), 3);
    assert_eq!(clean_issued(&mut client).unwrap(), 0);
    let kept = "SELECT count(*) FILTER (WHERE status = 'RenewalInProgress') FROM managed_certificates";
    assert_eq!(one::<i64>(&mut client, kept), 10_000);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM jobs"), 2);
    let vacuumed = "SELECT last_vacuum IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'managed_certificates'";
    assert!(one::<bool>(&mut client, vacuumed));
}

#[test]
fn the_start_of_a_revocation_keeps_its_own_certificates() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    for (id, name) in [("cert-old", "loadtest-revoke-a-00001"), ("cert-new", "loadtest-revoke-b-00001")] {
        certificate(&mut client, id, name);
        version(&mut client, id);
        let sql = "INSERT INTO certificate_revocations (id, certificate_id, serial_number, revoked_by, issuer_id) \
                   VALUES ($1, $1, $1, 'u', 'iss-local')";
        client.execute(sql, &[&id]).unwrap();
    }
    let tagged = r#"tags = '{"source": "certctl-bench"}' WHERE name LIKE 'loadtest-revoke-%'"#;
    client.batch_execute(&format!("UPDATE managed_certificates SET {tagged}")).unwrap();
    let cached = "INSERT INTO crl_cache (issuer_id, crl_der, crl_number, this_update, next_update, generated_at, \
                  generation_duration_ms, revoked_count) VALUES ('iss-local', '', 1, now(), now(), now(), 0, 0)";
    client.batch_execute(cached).unwrap();
    assert_eq!(clean_revoked(&mut client, "loadtest-revoke-b-").unwrap(), 1);
    let left = "SELECT string_agg(certificate_id, ',') FROM certificate_revocations";
    assert_eq!(one::<String>(&mut client, left), "cert-new");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM crl_cache"), 0);
    client.batch_execute(cached).unwrap();
    let cleaned = clean(&mut client).unwrap();
    let removed = [("managed_certificates", 1), ("certificate_revocations", 1), ("certificate_versions", 1)];
    for (table, removed) in removed.into_iter().chain([("crl_cache", 1)]) {
        let found = cleaned.tables.iter().find(|one| one.table == table).map(|one| one.removed);
        assert_eq!(found, Some(removed), "{table}: {cleaned:?}");
    }
}

#[test]
fn a_row_that_references_a_certificate_stops_the_cleaning() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    client.batch_execute("CREATE TABLE revocations (certificate_id text REFERENCES managed_certificates)").unwrap();
    runs(&mut client);
    client.batch_execute("INSERT INTO revocations VALUES ('cert-1')").unwrap();
    let error = clean(&mut client).unwrap_err().to_string();
    assert!(error.contains(r#"on table "revocations""#) && error.contains("hint: no run makes such rows"), "{error}");
    assert_eq!(
        one::<i64>(&mut client, "SELECT count(*) FROM certificate_versions"),
        1,
        "a failure must remove nothing"
    );
}

#[test]
fn the_seed_verb_resets_cleans_and_reports() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    let output = verb(&url, &["--reset"]);
    assert!(output.status.code() == Some(1) && error(&output).contains("holds no seeded rows"), "{output:?}");

    seed(&url, &SeedOptions::default());
    runs(&mut client);
    let output = verb(&url, &["--reset"]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && stdout.starts_with("reset postgres://"), "{output:?}");
    assert!(
        stdout.ends_with("  managed_certificates: 10000 put back\n  jobs: 2 removed\n  agents: 5000 put back\n"),
        "{stdout}"
    );

    let output = verb(&url, &["--clean"]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && stdout.starts_with("cleaned postgres://"), "{output:?}");
    assert!(stdout.contains("  managed_certificates: 3 removed, 10000 put back\n"), "{stdout}");
    assert!(stdout.contains("  certificate_versions: 1 removed\n"), "{stdout}");

    for flags in [&["--clean", "--reset"][..], &["--clean", "--dir", "seed"], &["--reset", "--dir", "seed"]] {
        assert_eq!(verb(&url, flags).status.code(), Some(2), "{flags:?}");
    }
}

#[test]
fn the_seed_verb_refuses_foreign_and_unmigrated_databases() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    runs(&mut client);
    agent(&mut client, "ag-real", "real");
    for flag in ["--reset", "--clean"] {
        let output = verb(&url, &[flag]);
        assert!(output.status.code() == Some(1) && error(&output).contains("such as ag-real"), "{flag}: {output:?}");
    }
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM jobs"), 3, "a refusal must change nothing");
    assert!(verb(&url, &["--clean", "--allow-foreign-rows"]).status.success());
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM jobs"), 0);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM agents"), 5001);

    let output = verb(&database(), &["--clean"]);
    assert!(output.status.code() == Some(1) && error(&output).contains("not migrated"), "{output:?}");
}

/// Inserts the rows that runs leave behind: three posted certificates, one with a job and a version; two jobs of a
/// seeded certificate; every seeded certificate in renewal and every seeded agent Offline.
fn runs(client: &mut DatabaseClient) {
    client
        .batch_execute(
            r#"INSERT INTO managed_certificates
                   (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id, status, tags)
               SELECT 'cert-' || n, 'loadtest-api-' || n || '.example.test', 'cn', 'o-alice', 't-platform', 'iss-local',
                   'rp-standard', 'Pending', '{"source": "certctl-bench"}' FROM generate_series(1, 3) AS n;
               UPDATE managed_certificates SET status = 'RenewalInProgress' WHERE id LIKE 'cert-loadtest-%';
               UPDATE agents SET status = 'Offline' WHERE id LIKE 'ag-loadtest-%'"#,
        )
        .unwrap();
    for id in ["cert-1", "cert-loadtest-bulk-00001", "cert-loadtest-bulk-00001"] {
        job(client, id);
    }
    version(client, "cert-1");
}

fn version(client: &mut DatabaseClient, certificate: &str) {
    let sql = "INSERT INTO certificate_versions (id, certificate_id, serial_number, not_before, not_after, \
               fingerprint_sha256, pem_chain) VALUES ('v-' || $1::text, $1, $1, now(), now(), $1, '')";
    client.execute(sql, &[&certificate]).unwrap();
}

/// Returns every row of others, whole.
fn others(client: &mut DatabaseClient) -> Vec<String> {
    let sql = "SELECT to_jsonb(row)::text FROM managed_certificates AS row WHERE id NOT LIKE 'cert-%'
               UNION ALL SELECT to_jsonb(row)::text FROM agents AS row WHERE id NOT LIKE 'ag-loadtest-%'
               UNION ALL SELECT to_jsonb(row)::text FROM jobs AS row WHERE certificate_id NOT LIKE 'cert-%'
               UNION ALL SELECT to_jsonb(row)::text FROM certificate_versions AS row WHERE certificate_id NOT LIKE 'cert-%'
               UNION ALL SELECT to_jsonb(row)::text FROM owners AS row
               ORDER BY 1";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn verb(url: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
    command.args(["seed", "--database", url]).args(flags).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
