//! Rows of others: no scenario and no verb changes them, whatever is allowed.

use std::collections::BTreeSet;
use std::process::Command;

use certctl_bench::cli::registry::ALL;
use certctl_bench::provision::postgres::{Cluster, find};
use postgres::{Client, NoTls};

use crate::common::bench::{Bench, clean};
use crate::common::reference::Reference;

/// The rows of another user in the database of a certctl.
const THEIRS: &str = "
    CREATE TEMP TABLE theirs AS SELECT * FROM managed_certificates WHERE id = 'cert-loadtest-bulk-00001';
    UPDATE theirs SET id = 'mc-theirs', name = 'theirs', status = 'Active', created_at = created_at - interval '1 year';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    UPDATE theirs SET id = 'mc-load', name = 'loadtest-of-theirs', tags = '{\"source\":\"certctl-bench\"}';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    UPDATE theirs SET id = 'cert-loadtest-bulk-theirs', name = 'bulk-theirs';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    CREATE TEMP TABLE their_job AS SELECT * FROM jobs LIMIT 1;
    UPDATE their_job SET id = 'job-theirs', certificate_id = 'mc-theirs';
    INSERT INTO jobs SELECT * FROM their_job;
    CREATE TEMP TABLE their_agent AS SELECT * FROM agents WHERE id = 'ag-loadtest-00001';
    UPDATE their_agent SET id = 'ag-theirs', name = 'theirs';
    INSERT INTO agents SELECT * FROM their_agent;
    UPDATE their_agent SET id = 'ag-loadtest-of-theirs', name = 'loadtest-of-theirs';
    INSERT INTO agents SELECT * FROM their_agent;";

/// Their rows in the tables that a certificate's life writes to, in the session of [`THEIRS`]. Some are shown to agents
/// of the suite, and the ids of some begin as those of the seeds do.
const THEIR_LIVES: &str = "
    UPDATE jobs SET type = 'Renewal', status = 'AwaitingCSR' WHERE id = 'job-theirs';
    UPDATE theirs SET id = 'cert-loadtest-deploy-theirs', name = 'deploy-theirs';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    UPDATE theirs SET id = 'cert-loadtest-drain-theirs', name = 'drain-theirs', expires_at = now() + interval '9 years';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    UPDATE theirs SET id = 'mc-revoke-theirs', name = 'loadtest-revoke-of-theirs', tags = '{}';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    UPDATE theirs SET id = 'mc-acme-theirs', name = 'acme-theirs', common_name = 'www.example.test';
    INSERT INTO managed_certificates SELECT * FROM theirs;
    UPDATE managed_certificates SET status = 'RenewalInProgress' WHERE id = 'cert-loadtest-bulk-theirs';
    INSERT INTO deployment_targets (id, name, type, agent_id, config) VALUES
        ('tgt-theirs', 'theirs', 'NGINX', 'ag-loadtest-00001', '{}'),
        ('tgt-loadtest-drain-theirs', 'loadtest-drain-theirs', 'NGINX', 'ag-theirs', '{}');
    INSERT INTO certificate_target_mappings (certificate_id, target_id) VALUES
        ('mc-theirs', 'tgt-theirs'), ('cert-loadtest-drain-theirs', 'tgt-loadtest-drain-theirs');
    UPDATE their_job SET status = 'Completed';
    INSERT INTO jobs SELECT (jsonb_populate_record(
            their_job, jsonb_build_object('id', concat('job-', kind, c.id), 'certificate_id', c.id, 'type', kind)
        )).* FROM their_job, managed_certificates AS c, unnest(ARRAY['Renewal', 'Deployment']) AS kind
        WHERE c.id ~ '^cert-loadtest-.*-theirs$';
    INSERT INTO certificate_versions
        (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain)
        SELECT 'cv-' || id, id, md5(id), now(), now() + interval '1 year', md5(id), '' FROM managed_certificates
        WHERE id LIKE '%theirs';
    INSERT INTO certificate_revocations (id, certificate_id, serial_number, revoked_by, issuer_id)
        SELECT 'cr-' || id, id, md5(id), 'them', 'iss-local' FROM managed_certificates WHERE id = 'mc-revoke-theirs';
    INSERT INTO notification_events (id, type, certificate_id, channel, recipient, message)
        SELECT 'ne-' || id, 'renewed', id, 'email', 'them@example.test', '' FROM managed_certificates
        WHERE id LIKE '%theirs';
    INSERT INTO acme_accounts (account_id, jwk_thumbprint, jwk_pem, contact, status, profile_id) VALUES
        ('acct-theirs', 'theirs', '', ARRAY['mailto:enrol@loadtest.example.test'], 'valid', 'prof-standard-tls');
    INSERT INTO acme_orders (order_id, account_id, identifiers, status, expires_at, certificate_id) VALUES
        ('order-theirs', 'acct-theirs', '[]', 'valid', now() + interval '1 hour', 'mc-acme-theirs');
    INSERT INTO acme_authorizations (authz_id, order_id, identifier, status, expires_at) VALUES
        ('authz-theirs', 'order-theirs', '{}', 'pending', now() + interval '1 hour');
    INSERT INTO acme_challenges (challenge_id, authz_id, type, status, token) VALUES
        ('challenge-theirs', 'authz-theirs', 'http-01', 'pending', 'theirs');";

/// The tables that runs write to, and the column by which their rows are told there.
const TABLES: [(&str, &str); 12] = [
    ("managed_certificates", "id"),
    ("jobs", "certificate_id"),
    ("agents", "id"),
    ("deployment_targets", "id"),
    ("certificate_target_mappings", "certificate_id"),
    ("certificate_versions", "certificate_id"),
    ("certificate_revocations", "certificate_id"),
    ("notification_events", "certificate_id"),
    ("acme_accounts", "account_id"),
    ("acme_orders", "order_id"),
    ("acme_authorizations", "authz_id"),
    ("acme_challenges", "challenge_id"),
];

/// Returns all rows of the other user, down to the last column.
fn theirs(client: &mut Client) -> Vec<String> {
    let of_table = |(table, column): &(&str, &str)| {
        format!("SELECT concat('{table} ', to_jsonb(row)) FROM {table} AS row WHERE {column} ~ 'theirs$|^mc-load$'")
    };
    let sql = TABLES.iter().map(of_table).collect::<Vec<_>>().join(" UNION ALL ") + " ORDER BY 1";
    client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// A certctl whose database holds the seeds, and rows of another user.
struct Shared {
    url: String,
    client: Client,
    server: Reference,
    /// Dropped last.
    _cluster: Cluster,
}

impl Shared {
    fn start() -> Self {
        let cluster = Cluster::start(&find().unwrap(), &[("fsync", "off")]).unwrap();
        cluster.create_database("shared").unwrap();
        let url = cluster.url("shared");
        Bench::named("bulk_renewal", "").smoke().database(&url).run().exits(0);
        let mut client = Client::connect(&url, NoTls).unwrap();
        client.batch_execute(THEIRS).unwrap();
        let server = Reference::on_database(&url, &["--acme-finalize", "works"]);
        Self { _cluster: cluster, url, client, server }
    }

    fn run(&self, bench: &str, arguments: &str) -> Bench {
        Bench::named(bench, arguments).smoke().towards_reference(&self.server)
    }
}

/// Runs a verb of `certctl-bench seed` at a database with foreign rows.
fn seed(url: &str, arguments: &[&str]) {
    let mut seed = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    let output = seed.args(["seed", "--allow-foreign-rows", "--database", url]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn runs_leave_foreign_rows_unchanged() {
    let mut shared = Shared::start();
    shared.client.batch_execute(THEIR_LIVES).unwrap();
    let before = theirs(&mut shared.client);
    for (table, _) in TABLES {
        assert!(before.iter().any(|row| row.starts_with(&format!("{table} "))), "no row of theirs in {table}");
    }
    seed(&shared.url, &["--deployments", "40", "--drain", "50"]);
    assert_eq!(theirs(&mut shared.client), before, "seed");
    let runs = [
        ("bulk_renewal", "--workload enqueue"),
        ("bulk_renewal", "--workload sweep"),
        ("api_tier", ""),
        ("agent_storm", ""),
        ("agent_storm", "--fleet real"),
        ("agent_storm", "--fleet restart"),
        ("acme_flow", ""),
        ("acme_burst", ""),
        ("acme_enroll", "--keys-ahead 40"),
        ("acme_enroll", "--keys-ahead 40 --finalize"),
        ("deploy_loop", "--agents 40 --deploy-to none"),
        ("job_drain", ""),
        ("revocation", ""),
        ("job_drain", "--keys server"),
    ];
    // Each bench target that writes to a certctl is there.
    let covered: BTreeSet<&str> = runs.iter().map(|(bench, _)| *bench).collect();
    let all = ALL.iter().map(|entry| entry.name).filter(|name| *name != "connector_tier");
    assert_eq!(covered, all.collect());
    for (bench, arguments) in runs {
        if arguments == "--keys server" {
            shared.server = Reference::on_database(&shared.url, &["--keygen", "server", "--job-interval", "1s"]);
        }
        let run = shared.run(bench, &format!("{arguments} --allow-foreign-rows")).database(&shared.url).run();
        assert_eq!(theirs(&mut shared.client), before, "{bench} {arguments}");
        // Nor are their rows taken for the run's own.
        run.exits(0);
    }
    for verb in [&[][..], &["--reset"], &["--clean"]] {
        seed(&shared.url, verb);
        assert_eq!(theirs(&mut shared.client), before, "seed {verb:?}");
    }
}

#[test]
fn a_rescan_of_foreign_certificates_is_refused() {
    let mut shared = Shared::start();
    let before = theirs(&mut shared.client);
    let rescan = || shared.run("bulk_renewal", "--workload rescan");
    let refused = |bench: Bench| {
        let refused = bench.refused(1);
        let why = ": refusing to renew by criteria: 3 of the certificates that fit them are neither of the seeds nor \
                   of a run (such as cert-loadtest-bulk-theirs, mc-load, mc-theirs)\n\
                   hint: renew by id, with --workload enqueue, or load a certctl that holds only the seeds\n";
        assert!(refused.stderr.ends_with(why), "{}", refused.stderr);
    };
    refused(rescan());
    let url = shared.url.clone();
    refused(rescan().database(&url).arguments("--allow-foreign-rows"));
    assert_eq!(theirs(&mut shared.client), before);
    // Without these rows it runs.
    let sql = "DELETE FROM jobs WHERE id = 'job-theirs';
               DELETE FROM managed_certificates WHERE id IN ('mc-theirs', 'mc-load', 'cert-loadtest-bulk-theirs')";
    shared.client.batch_execute(sql).unwrap();
    shared.run("bulk_renewal", "--workload rescan --allow-foreign-rows").database(&url).run().exits(0);
}

#[test]
fn a_foreign_database_gets_no_tables() {
    let cluster = Cluster::start(&find().unwrap(), &[("fsync", "off")]).unwrap();
    cluster.create_database("shop").unwrap();
    let url = cluster.url("shop");
    let mut client = Client::connect(&url, NoTls).unwrap();
    client.batch_execute("CREATE SCHEMA shop; CREATE TABLE shop.orders (id text)").unwrap();
    let refused = Bench::new("").smoke().database(&url).refused(1);
    let why = "it holds 1 tables (such as shop.orders), none of them certctl's\nhint: give the URL of an empty one\n";
    assert!(refused.stderr.ends_with(why), "{}", refused.stderr);
    // Nor does a database in which none can be made.
    client.batch_execute("DROP SCHEMA shop CASCADE; ALTER DATABASE shop SET search_path = nowhere").unwrap();
    let refused = || Bench::new("").smoke().database(&url).refused(1).stderr;
    let why = ": this role's search_path is nowhere, which names no existing schema\n\
               hint: ALTER ROLE … (or DATABASE …) RESET search_path, or add options=-csearch_path%3Dpublic to the \
               URL\n";
    assert!(refused().ends_with(why), "{}", refused());
    client.batch_execute("CREATE TABLE public.managed_certificates ()").unwrap();
    assert!(refused().contains("hint: the schema public has one, but this role's search_path is nowhere: "));
    client.batch_execute("ALTER DATABASE shop SET default_transaction_read_only = on").unwrap();
    let why = ": default_transaction_read_only is on\nhint: ALTER ROLE … (or DATABASE …) RESET \
               default_transaction_read_only, or use another role\n";
    assert!(refused().ends_with(why), "{}", refused());
    client.batch_execute("DROP TABLE public.managed_certificates").unwrap();
    let sql =
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    assert_eq!(client.query_one(sql, &[]).unwrap().get::<_, i64>(0), 0);
}
