//! Rows of others: no scenario and no verb changes them, whatever is allowed.

use std::process::Command;

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

/// Returns all rows of the other user, down to the last column.
fn theirs(client: &mut Client) -> Vec<String> {
    let sql = "SELECT to_jsonb(row)::text FROM managed_certificates AS row
               WHERE id IN ('mc-theirs', 'mc-load', 'cert-loadtest-bulk-theirs')
               UNION ALL SELECT to_jsonb(row)::text FROM jobs AS row
               WHERE certificate_id IN ('mc-theirs', 'mc-load', 'cert-loadtest-bulk-theirs')
               UNION ALL SELECT to_jsonb(row)::text FROM agents AS row WHERE id IN ('ag-theirs', 'ag-loadtest-of-theirs')
               ORDER BY 1";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// A certctl whose database holds the seeds, and rows of another user.
struct Shared {
    _cluster: Cluster,
    url: String,
    client: Client,
    server: Reference,
}

impl Shared {
    fn start() -> Self {
        let cluster = Cluster::start(&find().unwrap(), &[("fsync", "off")]).unwrap();
        cluster.create_database("shared").unwrap();
        let url = cluster.url("shared");
        Bench::named("bulk_renewal", "").smoke().database(&url).run().exits(0);
        let mut client = Client::connect(&url, NoTls).unwrap();
        client.batch_execute(THEIRS).unwrap();
        let server = Reference::on_database(&url);
        Self { _cluster: cluster, url, client, server }
    }

    fn run(&self, bench: &str, arguments: &str) -> Bench {
        Bench::named(bench, arguments).smoke().towards_reference(&self.server)
    }
}

#[test]
fn runs_leave_foreign_rows_unchanged() {
    let mut shared = Shared::start();
    let before = theirs(&mut shared.client);
    assert_eq!(before.len(), 6);
    for (bench, arguments) in [
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
    ] {
        let run = shared.run(bench, &format!("{arguments} --allow-foreign-rows")).database(&shared.url).run();
        assert!(matches!(run.code, Some(0 | 5)), "{bench} {arguments}: {}", run.stderr);
        assert_eq!(theirs(&mut shared.client), before, "{bench} {arguments}");
    }
    for verb in [&[][..], &["--reset"], &["--clean"]] {
        let mut seed = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        let output =
            seed.args(["seed", "--allow-foreign-rows", "--database", &shared.url]).args(verb).output().unwrap();
        assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
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
