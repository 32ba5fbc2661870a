//! The seeds, on a private PostgreSQL with the reference server's schema.
//!
//! These tests need PostgreSQL 15 or newer and are skipped without.

mod clean;
mod drain;
mod restore;

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::common::needs::needs;
use certctl_bench::database::DatabaseClient;
use certctl_bench::error::ErrorKind;
use certctl_bench::provision::postgres::{Cluster, find};
use certctl_bench::seed::{
    EMBEDDED, SeedOptions, SeedReport, SeedSource, Sizes, TableRows, apply, clean_issued, connect, redact_url,
    refresh_certificates, refresh_deployments, refresh_fleet,
};

/// One cluster for all tests of this process, a database for each. It is not dropped: it ends with the process.
static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
    let installation = find().unwrap_or_else(|error| panic!("these tests need PostgreSQL: {error}"));
    Mutex::new(Cluster::start(&installation, &[]).unwrap_or_else(|error| panic!("{error}")))
});

#[test]
fn seeding_reports_its_rows_and_is_idempotent() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    let (report, output) = seed(&url, &SeedOptions::default());
    assert_eq!(
        report.files,
        ["01_bulk_renewal_certs.sql", "02_agent_fleet.sql", "03_deploy_loop.sql", "04_job_drain.sql"]
    );
    assert_eq!(filled(&report), [rows("managed_certificates", 0, 10_000), rows("agents", 0, 5000)]);
    assert!(output.contains("agents: 0 rows before, 5000 after"), "{output}");
    let first = (fleet(&mut client), certificates(&mut client));

    let (report, output) = seed(&url, &SeedOptions::default());
    assert_eq!(filled(&report), [rows("managed_certificates", 10_000, 10_000), rows("agents", 5000, 5000)]);
    assert!(output.contains("agents: 5000 rows before, 5000 after"), "{output}");
    assert_eq!((fleet(&mut client), certificates(&mut client)), first);
    for (table, rows) in [("agents", 5000.0), ("managed_certificates", 10_000.0)] {
        let analyzed = format!("SELECT reltuples FROM pg_class WHERE oid = '{table}'::regclass");
        assert_eq!(one::<f32>(&mut client, &analyzed), rows, "{table}");
    }
}

#[test]
fn seeds_grow_to_a_size_and_never_shrink() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    let first = (fleet(&mut client), certificates(&mut client));
    let sizes = Sizes { agents: 12_000, certificates: 11_000, ..Sizes::default() };
    let (report, _) = seed(&url, &SeedOptions { sizes, ..SeedOptions::default() });
    assert_eq!(filled(&report), [rows("managed_certificates", 10_000, 11_000), rows("agents", 5000, 12_000)]);
    for (table, holds) in [
        ("agents", "max(id) = 'ag-loadtest-12000' AND count(DISTINCT ip_address::inet) = 12000"),
        ("agents", "max(now() - last_heartbeat_at) < interval '10 minutes' AND min(now() - last_heartbeat_at) > '0'"),
        ("managed_certificates", "max(id) = 'cert-loadtest-bulk-11000' AND count(DISTINCT created_at) > 10000"),
        ("managed_certificates", "max(created_at) <= now() AND max(expires_at) < now() + interval '31 days'"),
    ] {
        assert!(one::<bool>(&mut client, &format!("SELECT {holds} FROM {table}")), "{table}: {holds}");
    }
    // A run puts all of them back, and so does a reset.
    client.batch_execute("UPDATE agents SET status = 'Offline'").unwrap();
    assert_eq!(refresh_fleet(&mut client, 12_000).unwrap(), 12_000);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM agents WHERE status = 'Online'"), 12_000);
    assert_eq!(refresh_certificates(&mut client, 10_500).unwrap(), 11_000);
    let error = refresh_fleet(&mut client, 12_001).unwrap_err().to_string();
    assert!(error.contains("12000 of the 12001") && error.contains("seed --agents 12001"), "{error}");
    let (report, _) = seed(&url, &SeedOptions::default());
    assert_eq!(filled(&report), [rows("managed_certificates", 11_000, 11_000), rows("agents", 12_000, 12_000)]);
    // Rows of the default size are the same without the others.
    client.batch_execute("DELETE FROM agents WHERE id > 'ag-loadtest-05000'").unwrap();
    client.batch_execute("DELETE FROM managed_certificates WHERE id > 'cert-loadtest-bulk-10000'").unwrap();
    assert_eq!((fleet(&mut client), certificates(&mut client).len()), (first.0, first.1.len()));
}

#[test]
fn the_certificates_to_deploy_have_the_stated_shape() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    let sizes = Sizes { deployments: 30, ..Sizes::default() };
    let options = SeedOptions { sizes, ..SeedOptions::default() };
    for before in [0, 30] {
        let (report, _) = seed(&url, &options);
        let added = ["deployment_targets", "certificate_target_mappings"].map(|table| rows(table, before, 30));
        assert_eq!(report.tables[2..], added);
    }
    let own = "managed_certificates WHERE id LIKE 'cert-loadtest-deploy-_____'";
    for (what, holds, of) in [
        ("ids", "min(id) = 'cert-loadtest-deploy-00001' AND max(id) = 'cert-loadtest-deploy-00030'", own),
        ("names", "bool_and(name = replace(id, 'cert-', '') || '.example.test')", own),
        ("hosts", "bool_and(common_name = name AND sans = ARRAY[name::text])", own),
        ("status", "bool_and(status = 'Active' AND last_renewal_at IS NULL)", own),
        ("no renewal is due", "min(expires_at) > now() + interval '31 days'", own),
        ("ages, each its own", "count(DISTINCT created_at) = 30 AND max(created_at) < now()", own),
        (
            "the youngest of all",
            "min(created_at) > (SELECT max(created_at) FROM managed_certificates WHERE id LIKE 'cert-loadtest-bulk-%')",
            own,
        ),
        ("a target for each agent", "count(DISTINCT agent_id) = 30", "deployment_targets"),
        (
            "each certificate to the agent with its number",
            "count(*) = 30 AND bool_and(right(certificate_id, 5) = right(agent_id, 5))",
            "certificate_target_mappings JOIN deployment_targets AS target ON target.id = target_id",
        ),
    ] {
        assert!(one::<bool>(&mut client, &format!("SELECT {holds} FROM {of}")), "{what}: {holds}");
    }
}

#[test]
fn certificates_to_deploy_are_put_back_without_traces() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    let sizes = Sizes { deployments: 3, ..Sizes::default() };
    seed(&url, &SeedOptions { sizes, ..SeedOptions::default() });
    client
        .batch_execute(
            "UPDATE managed_certificates SET status = 'RenewalInProgress', last_renewal_at = now();
             INSERT INTO jobs (id, type, certificate_id, target_id, status)
             SELECT 'job-' || n, 'Deployment', 'cert-loadtest-deploy-0000' || n, 'tgt-loadtest-deploy-0000' || n, 'Running'
             FROM generate_series(1, 3) AS n;
             INSERT INTO jobs (id, type, certificate_id, status)
             VALUES ('job-4', 'Renewal', 'cert-loadtest-bulk-00001', 'AwaitingCSR');
             INSERT INTO certificate_versions
                 (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain)
             VALUES ('v', 'cert-loadtest-deploy-00001', '1', now(), now(), 'f', '');
             INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message)
             VALUES ('n', 't', 'cert-loadtest-deploy-00002', 'c', 'r', 'm');
             DELETE FROM certificate_target_mappings WHERE certificate_id = 'cert-loadtest-deploy-00003'",
        )
        .unwrap();
    assert_eq!(refresh_deployments(&mut client, 3).unwrap(), 3);
    for (table, left) in [
        // That of another seed stays.
        ("jobs", 1),
        ("certificate_versions", 0),
        ("notification_events", 0),
        ("certificate_target_mappings", 3),
        ("managed_certificates WHERE id LIKE '%deploy%' AND status = 'Active' AND last_renewal_at IS NULL", 3),
        ("managed_certificates WHERE status = 'RenewalInProgress'", 10_000),
    ] {
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM {table}")), left, "{table}");
    }
    let error = refresh_deployments(&mut client, 4).unwrap_err().to_string();
    assert!(error.contains("3 of the 4") && error.contains("seed --deployments 4"), "{error}");
}

#[test]
fn the_fleet_has_the_stated_shape() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    let mix: Vec<(String, String, i64)> = client
        .query("SELECT os, architecture, count(*) FROM agents GROUP BY 1, 2 ORDER BY 1, 2", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let share = |os: &str, architecture: &str, rows| (os.to_owned(), architecture.to_owned(), rows);
    assert_eq!(
        mix,
        [
            share("darwin", "amd64", 400),
            share("darwin", "arm64", 100),
            share("linux", "amd64", 3200),
            share("linux", "arm64", 800),
            share("windows", "amd64", 400),
            share("windows", "arm64", 100),
        ]
    );
    for (what, holds) in [
        ("ids", "min(id) = 'ag-loadtest-00001' AND max(id) = 'ag-loadtest-05000'"),
        ("names", "bool_and(name = replace(id, 'ag-loadtest-', 'loadtest-agent-'))"),
        ("hosts", "bool_and(hostname = replace(id, 'ag-', '') || '.fleet.example.test')"),
        ("addresses", "count(DISTINCT ip_address::inet) = 5000 AND bool_and(ip_address::inet << '10.42.0.0/16')"),
        ("status and version", "bool_and(status = 'Online' AND version = '2.1.0' AND retired_at IS NULL)"),
        ("a key hash that no key has", "bool_and(api_key_hash !~ '^[0-9a-f]{64}$')"),
        ("heartbeats, each its own", "count(DISTINCT last_heartbeat_at) = 5000"),
        ("heartbeats over 60 s", "max(last_heartbeat_at) - min(last_heartbeat_at) BETWEEN '59 s' AND '60 s'"),
        ("no heartbeat to come", "max(last_heartbeat_at) < now() AND max(registered_at) < now()"),
    ] {
        assert!(one::<bool>(&mut client, &format!("SELECT {holds} FROM agents")), "{what}: {holds}");
    }
}

#[test]
fn the_certificates_have_the_stated_shape() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    seed(&url, &SeedOptions::default());
    for (what, holds) in [
        ("ids", "min(id) = 'cert-loadtest-bulk-00001' AND max(id) = 'cert-loadtest-bulk-10000'"),
        ("names", "bool_and(name = replace(id, 'cert-', '') || '.example.test')"),
        ("hosts", "bool_and(common_name = name AND sans = ARRAY[name::text])"),
        ("environment", "bool_and(environment = 'loadtest')"),
        ("owner and team", "bool_and(owner_id = 'o-alice' AND team_id = 't-platform')"),
        ("issuer and policy", "bool_and(issuer_id = 'iss-local' AND renewal_policy_id = 'rp-standard')"),
        ("certctl's spelling of the status", "bool_and(status = 'Active')"),
        ("tags", r#"bool_and(tags = '{"source": "certctl-bench", "batch": "bulk-renewal"}')"#),
        ("never renewed", "count(last_renewal_at) + count(last_deployment_at) + count(revoked_at) = 0"),
        ("no other origin", "bool_and(source = '' AND revocation_reason IS NULL AND certificate_profile_id IS NULL)"),
        ("expiries, each its own", "count(DISTINCT expires_at) = 10000"),
        ("none expires in the next hour", "min(expires_at) > now() + interval '1 hour'"),
        ("all expire within 30 days", "max(expires_at) <= now() + interval '30 days'"),
        ("ages, each its own", "count(DISTINCT created_at) = 10000 AND bool_and(updated_at = created_at)"),
        ("ages a second apart", "max(created_at) - min(created_at) = interval '9999 seconds'"),
        ("none from the future", "max(created_at) < now()"),
        ("older by number", "array_agg(id ORDER BY created_at) = array_agg(id ORDER BY id)"),
        (
            "expiry has nothing to do with age",
            "abs(corr(extract(epoch FROM expires_at), extract(epoch FROM created_at))) < 0.1",
        ),
    ] {
        assert!(one::<bool>(&mut client, &format!("SELECT {holds} FROM managed_certificates")), "{what}: {holds}");
    }
    let by_day = "SELECT min(rows), max(rows), count(*) FROM (SELECT count(*) AS rows FROM managed_certificates
                  GROUP BY floor(extract(epoch FROM expires_at - now()) / 86400)) AS day";
    let row = client.query_one(by_day, &[]).unwrap();
    let (fewest, most, days): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(days == 30 && fewest > 300 && most < 340, "{fewest} to {most} on each of {days} days");
}

#[test]
fn a_foreign_certificate_with_a_seed_name_is_kept() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    certificate(&mut client, "mc-12345", "loadtest-bulk-00007.example.test");
    certificate(&mut client, "cert-loadtest-bulk-00008", "loadtest-by-the-api");
    let (report, _) = seed(&url, &SeedOptions::default());
    assert_eq!(report.tables[0], rows("managed_certificates", 2, 10_000));
    let kept = "SELECT count(*) FROM managed_certificates WHERE common_name = 'cn'";
    assert_eq!(one::<i64>(&mut client, kept), 2);
}

#[test]
fn a_database_without_the_demo_rows_is_refused() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    client.batch_execute("DELETE FROM owners").unwrap();
    let error = apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("01_bulk_renewal_certs.sql") && error.contains("CERTCTL_DEMO_SEED=true"), "{error}");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM managed_certificates"), 0);
}

#[test]
fn rows_of_the_demo_seed_are_not_foreign() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    agent(&mut client, "ag-web-prod", "web-prod");
    certificate(&mut client, "mc-api-prod", "api-production");
    certificate(&mut client, "mc-12345", "loadtest-by-the-api");
    let (report, _) = seed(&url, &SeedOptions::default());
    assert_eq!(filled(&report), [rows("managed_certificates", 2, 10_002), rows("agents", 1, 5001)]);
}

#[test]
fn a_database_with_foreign_rows_is_refused_by_default() {
    needs!(Postgresql);
    let (url, mut client) = migrated();
    for number in 1..=5 {
        agent(&mut client, &format!("ag-real-{number}"), &format!("real-{number}"));
    }
    let error = apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("5 in agents (such as ag-real-1, ag-real-2, ag-real-3)"), "{error}");
    assert!(!error.contains("managed_certificates") && error.contains("--allow-foreign-rows"), "{error}");

    certificate(&mut client, "mc-real", "shop.example.com");
    let error = apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("5 in agents") && error.contains("1 in managed_certificates (such as mc-real)"), "{error}");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM agents"), 5, "a refusal must write nothing");

    client.batch_execute("DELETE FROM agents").unwrap();
    let error = apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap_err().to_string();
    assert!(!error.contains("in agents") && error.contains("1 in managed_certificates"), "{error}");

    let (report, _) = seed(&url, &SeedOptions { allow_foreign: true, ..SeedOptions::default() });
    assert_eq!(filled(&report), [rows("managed_certificates", 1, 10_001), rows("agents", 0, 5000)]);
}

#[test]
fn a_database_without_migrations_is_refused() {
    needs!(Postgresql);
    let url = database();
    let error = apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("no table agents") && error.contains("migrate"), "{error}");
    let mut client = connect(&url).unwrap();
    let error = refresh_fleet(&mut client, 1).unwrap_err().to_string();
    assert!(error.contains("no table agents"), "{error}");
    let error = refresh_certificates(&mut client, 1).unwrap_err().to_string();
    assert!(error.contains("no table") && error.contains("migrate"), "{error}");
    let error = clean_issued(&mut client).unwrap_err().to_string();
    assert!(error.contains("no table managed_certificates") && error.contains("migrate"), "{error}");
}

#[test]
fn a_folder_of_seeds_is_applied_in_order_of_names() {
    needs!(Postgresql);
    let (url, _) = migrated();
    let folder = tempfile::tempdir().unwrap();
    let options = SeedOptions { source: SeedSource::Folder(folder.path().to_owned()), ..SeedOptions::default() };
    let failure = || apply(&url, &options, &mut Vec::new()).unwrap_err();
    assert!(failure().to_string().contains("no *.sql file"), "{}", failure());

    // It needs the rows of 02, so that the order shows; comments name no tables, and strings may hold semicolons.
    fs::write(folder.path().join("10_more.sql"), "-- INSERT INTO nowhere\nUPDATE agents SET hostname = 'a;b';")
        .unwrap();
    fs::write(folder.path().join("02_fleet.sql"), EMBEDDED[1].1).unwrap();
    fs::write(folder.path().join("README.md"), "not SQL").unwrap();
    let (report, _) = seed(&url, &options);
    assert_eq!(report.files, ["02_fleet.sql", "10_more.sql"]);
    assert_eq!(report.tables, [rows("agents", 0, 5000)]);

    // A file that fails changes nothing, and its line is named.
    fs::write(folder.path().join("10_more.sql"), "DELETE FROM agents;\nSELECT 1;\nSELECT nonsense;").unwrap();
    let error = failure().to_string();
    assert!(error.contains("10_more.sql, line 3") && error.contains("nonsense"), "{error}");
    assert_eq!(fleet(&mut connect(&url).unwrap()).len(), 5000);

    fs::write(folder.path().join("10_more.sql"), "DELETE FROM agents;\nCOMMIT;").unwrap();
    assert!(failure().to_string().contains("`COMMIT`"), "{}", failure());
    fs::write(folder.path().join("10_more.sql"), "INSERT INTO no_such_table VALUES (1)").unwrap();
    assert!(failure().to_string().contains("no table no_such_table"), "{}", failure());
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(failure().kind(), ErrorKind::Usage);
}

#[test]
fn every_seed_of_the_repository_is_embedded() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/seed");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert_eq!(files, EMBEDDED.map(|(name, sql)| (name.to_owned(), sql.to_owned())));
}

#[test]
fn no_connection_failure_shows_the_password() {
    needs!(Postgresql);
    let url = database();
    let mut client = connect(&url).unwrap();
    // Trust is for all other roles: this one has to show its password.
    client
        .batch_execute(
            "CREATE ROLE guarded LOGIN PASSWORD 'right';
             COPY (SELECT 'local all guarded scram-sha-256' UNION ALL SELECT 'local all all trust')
             TO PROGRAM 'cat > pg_hba.conf';
             SELECT pg_reload_conf()",
        )
        .unwrap();
    let as_guarded = |password: &str| url.replace("postgres@", &format!("guarded:{password}@"));
    // The server may take a moment to read its file again; until then it takes any password.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while connect(&as_guarded("hunter2")).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the server did not read pg_hba.conf again");
    }
    connect(&as_guarded("right")).unwrap();
    let message_of = |url: &str| connect(url).err().expect("connected").to_string();
    let wrong = message_of(&as_guarded("hunter2"));
    assert!(wrong.contains("password authentication failed") && wrong.contains("check user and password"), "{wrong}");
    let nowhere = message_of("postgres://certctl:hunter2@127.0.0.1:1/certctl");
    assert!(nowhere.contains("refused") && nowhere.contains("check host and port"), "{nowhere}");
    let nameless =
        message_of(&format!("{}x", url.replace("/seed_", "/none_").replace("postgres@", "postgres:hunter2@")));
    // Secrets are redacted in the messages of all tests of this process: none may be a word of such a message.
    let bad =
        ["postgres://u:hunter2@h/d?nonsense=1", "postgres://u:hunter2@h:hunter3/d", "hunter2", "password=hunter2 x"];
    for error in [wrong, nowhere, nameless].into_iter().chain(bad.map(message_of)) {
        assert!(!error.contains("hunter") && error.contains("hint:"), "{error}");
    }
    assert!(bad.iter().all(|url| connect(url).err().unwrap().kind() == ErrorKind::Usage));
}

#[test]
fn urls_are_redacted() {
    for (url, shown) in [
        ("postgres://u:secret@h:5432/d?sslmode=disable", "postgres://u:***@h:5432/d?sslmode=disable"),
        ("postgres://u@/d?host=%2Ftmp%2Fx", "postgres://u@/d?host=%2Ftmp%2Fx"),
        ("postgres://h/d", "postgres://h/d"),
        ("postgres://[::1]:5432/d", "postgres://[::1]:5432/d"),
        ("postgres://u:se@cr/et?secret@h/d", "postgres://u:***@h/d"),
        (
            "postgres://h/d?user=u&password=secret&connect_timeout=3",
            "postgres://h/d?user=***&password=***&connect_timeout=3",
        ),
        ("postgres://h/d?pass%77ord=secret", "postgres://h/d?pass%77ord=***"),
        ("postgres://u:secret", "postgres://u:***"),
        ("postgres://u:secret/d", "postgres://u:***/d"),
        ("http://u:secret@h", "http://u:***@h"),
        ("host=h password=secret", "(not shown: it may hold a password)"),
    ] {
        assert_eq!(redact_url(url), shown);
    }
}

// Helpers -------------------------------------------------------------------------------------------------------------

/// Returns a new database without tables.
fn database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("seed_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.create_database(&name).unwrap();
    cluster.url(&name)
}

/// Returns a new database with the reference server's tables, which are certctl's.
fn migrated() -> (String, DatabaseClient) {
    let url = database();
    let mut client = connect(&url).unwrap();
    client.batch_execute(include_str!("../../src/reference/schema.sql")).unwrap();
    (url, client)
}

fn seed(url: &str, options: &SeedOptions) -> (SeedReport, String) {
    let mut out = Vec::new();
    let report = apply(url, options, &mut out).unwrap_or_else(|error| panic!("{error}"));
    (report, String::from_utf8(out).unwrap())
}

fn agent(client: &mut DatabaseClient, id: &str, name: &str) {
    let sql = "INSERT INTO agents (id, name, hostname, api_key_hash) VALUES ($1, $2, 'h', '-')";
    client.execute(sql, &[&id, &name]).unwrap();
}

/// Inserts a certificate without the rows that it refers to: the seeds only read its id and name.
fn certificate(client: &mut DatabaseClient, id: &str, name: &str) {
    let sql =
        "INSERT INTO managed_certificates (id, name, common_name, owner_id, team_id, issuer_id, renewal_policy_id)
               VALUES ($1, $2, 'cn', 'o', 't', 'i', 'r')";
    client.batch_execute("SET session_replication_role = replica").unwrap();
    client.execute(sql, &[&id, &name]).unwrap();
    client.batch_execute("RESET session_replication_role").unwrap();
}

/// Returns the tables of a report that have rows.
fn filled(report: &SeedReport) -> Vec<TableRows> {
    report.tables.iter().filter(|table| table.after > 0).cloned().collect()
}

fn rows(table: &str, before: i64, after: i64) -> TableRows {
    TableRows { table: table.to_owned(), before, after }
}

/// Inserts a job for the certificate.
fn job(client: &mut DatabaseClient, certificate: &str) {
    let sql = "INSERT INTO jobs (id, type, certificate_id, status)
               SELECT 'job-' || count(*), 'Renewal', $1, 'AwaitingCSR' FROM jobs";
    client.execute(sql, &[&certificate]).unwrap();
}

/// Returns every seeded certificate, whole.
fn certificates(client: &mut DatabaseClient) -> Vec<String> {
    let sql =
        "SELECT row_to_json(row)::text FROM managed_certificates AS row WHERE id LIKE 'cert-loadtest-%' ORDER BY id";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// Returns the columns of every seeded agent that do not change.
fn fleet(client: &mut DatabaseClient) -> Vec<String> {
    let sql = "SELECT concat_ws('|', id, name, hostname, status, api_key_hash, os, architecture, ip_address, version,
               retired_at, retired_reason) FROM agents WHERE id LIKE 'ag-loadtest-%' ORDER BY id";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

fn one<T: for<'a> postgres::types::FromSql<'a>>(client: &mut DatabaseClient, sql: &str) -> T {
    client.query_one(sql, &[]).unwrap().get(0)
}
