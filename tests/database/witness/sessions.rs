//! Sessions under hostile settings, with few rights, and behind a pooler.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use certctl_bench::database::DatabaseClient;
use certctl_bench::evidence::DatabaseWitness;
use certctl_bench::provision::child::RunAs;
use certctl_bench::provision::postgres::{Cluster, PostgresInstallation};
use certctl_bench::seed::{self, SeedOptions, VACUUMED};
use postgres::{Client, NoTls};

use crate::common::bench::{Bench, clean};
use crate::common::certctl::all_of_certctl;
use crate::common::needs::needs;
use crate::common::peer::{Peer, TOKEN};
use crate::common::postgresql::{VERSIONS, installation, migrated, newest};
use crate::common::process::{until, write_script};

/// Returns the suite's own program.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Returns its exit code and its output.
pub fn output_of(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Does everything that the suite does with a database: seeds, resets and watches.
fn everything(url: &str) {
    seed::apply(url, &SeedOptions::default(), &mut Vec::new()).unwrap_or_else(|error| panic!("{error}"));
    let mut session = seed::open(url, false).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(seed::refresh_fleet(&mut session, 5_000).unwrap(), 5_000);
    assert_eq!(seed::reset(&mut session).unwrap().restored(), 15_000);
    let evidence = DatabaseWitness::start(url, Arc::default()).unwrap().finish(1);
    assert_eq!(evidence.problems, Vec::<String>::new());
    assert!(evidence.wal_bytes.is_some());
}

#[test]
fn settings_of_a_role_have_no_effect() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[("log_statement", "all"), ("log_min_duration_statement", "0")]);
    let mut owner = Client::connect(&url, NoTls).unwrap();
    for setting in [
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_session_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "standard_conforming_strings = off",
        "backslash_quote = on",
        "quote_all_identifiers = on",
        "search_path = nowhere, public",
        "\"DateStyle\" = 'German, DMY'",
        "\"IntervalStyle\" = 'sql_standard'",
        "\"TimeZone\" = 'Pacific/Chatham'",
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "client_min_messages = 'error'",
        "row_security = on",
        "transform_null_equals = on",
    ] {
        owner.batch_execute(&format!("ALTER ROLE postgres SET {setting}")).unwrap();
    }
    everything(&url);
}

#[test]
fn a_session_ended_by_the_server_is_reopened() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[("idle_session_timeout", "1s")]);
    let mut session = DatabaseClient::open(&url, "books").unwrap();
    let mut other = Client::connect(&url, NoTls).unwrap();
    let row = session.query_one("SELECT current_setting('idle_session_timeout'), pg_backend_pid()", &[]).unwrap();
    assert_eq!(row.get::<_, String>(0), "0");
    other.execute("SELECT pg_terminate_backend($1, 60000)", &[&row.get::<_, i32>(1)]).unwrap();
    let again = session.query_one("SELECT pg_backend_pid()", &[]).unwrap();
    assert_ne!(again.get::<_, i32>(0), row.get::<_, i32>(1));
    // In a transaction it may not be: earlier statements of it are lost.
    let mut transaction = session.transaction().unwrap();
    let pid: i32 = transaction.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    other.execute("SELECT pg_terminate_backend($1, 60000)", &[&pid]).unwrap();
    assert!(transaction.query_one("SELECT pg_backend_pid()", &[]).is_err());
}

#[test]
fn every_session_has_the_name_of_the_suite() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[]);
    let _witness = DatabaseWitness::start(&url, Arc::default()).unwrap();
    let _seed = seed::connect(&format!("{url}&application_name=theirs")).unwrap();
    let mut other = Client::connect(&url, NoTls).unwrap();
    let sql = "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'client backend' \
               AND pid <> pg_backend_pid() ORDER BY 1";
    let names: Vec<String> = other.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["certctl-bench seed", "certctl-bench window", "certctl-bench witness"]);
}

#[test]
fn a_denied_vacuum_is_reported() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (_cluster, url) = migrated(&installation, &[]);
    seed::apply(&url, &SeedOptions::default(), &mut Vec::new()).unwrap();
    let mut owner = Client::connect(&url, NoTls).unwrap();
    owner.batch_execute("CREATE ROLE guest LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest").unwrap();
    owner.batch_execute("REVOKE MAINTAIN ON ALL TABLES IN SCHEMA public FROM guest").ok();
    let (code, text) = output_of(&mut program(&["seed", "--reset", "--database", &url.replace("postgres@", "guest@")]));
    assert_eq!(code, Some(0), "{text}");
    let warning = text.lines().find(|line| line.contains("warning: dead rows stay in agents: ")).expect(&text);
    assert!(warning.contains("permission denied to vacuum") && warning.contains("GRANT MAINTAIN ON agents"), "{text}");
    let (code, text) = output_of(&mut program(&["seed", "--reset", "--database", &url]));
    assert!(code == Some(0) && !text.contains("warning"), "{text}");
}

/// Reported before a run, on each version: the right that lets other roles than the owner vacuum came with 17.
#[test]
fn doctor_reports_a_missing_vacuum_permission() {
    for installation in VERSIONS.map(installation) {
        let Ok(installation) = installation else { needs!(else &installation.unwrap_err()) };
        let (_cluster, url) = migrated(&installation, &[]);
        let mut owner = Client::connect(&url, NoTls).unwrap();
        owner
            .batch_execute(
                "CREATE ROLE guest LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO guest; CREATE ROLE theirs; \
                 ALTER TABLE jobs OWNER TO theirs; GRANT theirs TO guest",
            )
            .unwrap();
        let major = owner.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]).unwrap();
        let has_maintain = major.get::<_, i32>(0) >= 17;
        let doctor = |user: &str| {
            let url = url.replace("postgres@", &format!("{user}@"));
            output_of(&mut program(&["doctor", "--target", "https://127.0.0.1:1", "--insecure", "--database", &url])).1
        };
        let can = "ok    tables whose rows are put back can be vacuumed\n";
        let warning_for = |tables: &str| {
            format!(
                "warn  this role may not vacuum {tables}: dead rows of tables that are put back remain, and WAL is not \
                 compared\n      \
                 hint: give the database URL of the table's owner, or from PostgreSQL 17 on GRANT MAINTAIN ON \
                 {tables}\n"
            )
        };
        // All rights on a table do not include vacuum before 17. A member of the owner's role has them all.
        let owned =
            "agents, managed_certificates, certificate_target_mappings, certificate_versions, notification_events";
        let expected = if has_maintain { can.to_owned() } else { warning_for(owned) };
        assert!(doctor("guest").contains(&expected), "{}: {}", installation.version, doctor("guest"));
        if has_maintain {
            owner.batch_execute("REVOKE MAINTAIN ON agents FROM guest").unwrap();
            assert!(doctor("guest").contains(&warning_for("agents")), "{}: {}", installation.version, doctor("guest"));
        }
        assert!(doctor("postgres").contains(can), "{}: {}", installation.version, doctor("postgres"));
        // VACUUM does as reported.
        for (user, warnings) in [("guest", if has_maintain { 1 } else { 5 }), ("postgres", 0)] {
            let mut session = DatabaseClient::open(&url.replace("postgres@", &format!("{user}@")), "seed").unwrap();
            for table in VACUUMED {
                session.batch_execute(&format!("VACUUM {table}")).unwrap();
            }
            assert_eq!(session.take_warnings().len(), warnings, "{}: {user}", installation.version);
        }
        // The owner of the database may vacuum too.
        owner.batch_execute("ALTER DATABASE certctl OWNER TO guest").unwrap();
        assert!(doctor("guest").contains(can), "{}: {}", installation.version, doctor("guest"));
    }
}

#[test]
fn connection_failures_are_named_with_their_fix() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let hba = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    std::fs::write(hba.path(), "local all postgres trust\nlocal all guest scram-sha-256\nlocal certctl reader trust\n")
        .unwrap();
    std::os::unix::fs::chown(hba.path(), RunAs::lesser(&["postgres", "nobody"]).unwrap().map(|user| user.uid), None)
        .unwrap();
    let (_cluster, url) = migrated(&installation, &[("hba_file", hba.path().to_str().unwrap())]);
    let mut owner = Client::connect(&url, NoTls).unwrap();
    owner
        .batch_execute(
            "CREATE ROLE guest LOGIN PASSWORD 'recognisable'; CREATE ROLE reader LOGIN CONNECTION LIMIT 0; \
             CREATE ROLE \"odd @:/?%\" LOGIN; CREATE SCHEMA other",
        )
        .unwrap();
    let as_user = |user: &str| url.replace("postgres@", &format!("{user}@"));
    let seed = |url: &str, password: Option<&str>| {
        let mut command = program(&["seed", "--database", url]);
        password.map(|password| command.env("PGPASSWORD", password));
        let (code, text) = output_of(&mut command);
        assert!(!text.contains("recognisable"), "{text}");
        (code, text)
    };
    for (url, password, message) in [
        (as_user("guest"), None, "into PGPASSWORD; ~/.pgpass is not read"),
        (as_user("guest"), Some("wrong"), "PGPASSWORD was used: check it"),
        (as_user("guest:wrong"), Some("recognisable"), "check user and password in the database URL"),
        (as_user("reader"), None, "or the limit of the role"),
        (as_user("odd%20%40%3A%2F%3F%25"), None, "pg_hba.conf has no line that admits this user"),
        (url.replace("/certctl?", "/other?"), None, "check the database's name"),
        (url.replace("host=", "host=/nowhere"), None, "check host and port"),
        (format!("{url}&sslmode=sometimes"), None, "sslmode is disable, prefer, require, verify-ca or verify-full"),
    ] {
        let (code, text) = seed(&url, password);
        assert!(matches!(code, Some(1 | 2)) && text.contains(message), "{message}: {text}");
    }
    // With the right one it gets as far as its rights allow.
    let (code, text) = seed(&as_user("guest"), Some("recognisable"));
    assert!(code == Some(1) && text.contains("permission denied for table"), "{text}");
    owner.batch_execute("ALTER TABLE agents SET SCHEMA other").unwrap();
    assert!(seed(&url, None).1.contains("the schema other has one"));
    owner.batch_execute("ALTER DATABASE certctl SET default_transaction_read_only = on").unwrap();
    let (_, text) = seed(&url, None);
    assert!(text.contains("default_transaction_read_only is on") && text.contains("RESET"), "{text}");
}

#[test]
fn a_standby_is_refused_before_anything_is_sent() {
    let Ok(real) = newest() else { needs!(else &newest().unwrap_err()) };
    // The cluster that initdb makes here follows no primary, and takes no writes.
    let bin = tempfile::tempdir_in("/tmp").unwrap();
    let real_bin = real.bin.display();
    for (name, script) in [
        ("initdb", format!("{real_bin}/initdb \"$@\" && touch \"data/standby.signal\"")),
        ("postgres", format!("exec {real_bin}/postgres \"$@\"")),
    ] {
        write_script(&bin.path().join(name), &script);
    }
    std::fs::set_permissions(bin.path(), Permissions::from_mode(0o755)).unwrap();
    let cluster = Cluster::start(&PostgresInstallation { bin: bin.path().to_owned(), ..real }, &[]).unwrap();
    let url = cluster.url("postgres");
    let requests = Arc::new(AtomicU64::new(0));
    let heartbeats = Arc::clone(&requests);
    let peer = Peer::start(move |request| {
        heartbeats.fetch_add(u64::from(request.is_heartbeat()), Ordering::SeqCst);
        all_of_certctl(request)
    });
    let run = Bench::at(&peer, "--duration 1s").database(&url).refused(1);
    for text in [output_of(&mut program(&["seed", "--database", &url])).1, run.stderr] {
        assert!(
            text.contains("it is a standby, which takes no writes") && text.contains("URL of the primary"),
            "{text}"
        );
    }
    let mut doctor = program(&["doctor", "--database", &url, "--target", &peer.base(), "--token", TOKEN]);
    let text = output_of(doctor.arg("--ca-file").arg(peer.ca_file())).1;
    assert!(text.contains("it is a standby, which takes no writes"), "{text}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

/// PgBouncer before a cluster, in transaction mode, with one connection to it for all clients.
struct Pooler {
    child: Child,
    _folder: tempfile::TempDir,
    port: u16,
}

impl Pooler {
    /// Starts one and waits until it answers; `None` if it is not installed. It ends if its port was taken meanwhile,
    /// and another port is tried.
    fn start(cluster: &Cluster) -> Option<Self> {
        for _ in 0..20 {
            let mut pooler = Self::spawn(cluster)?;
            let mut ended = None;
            until("the pooler answers or ends", || {
                ended = pooler.child.try_wait().unwrap();
                ended.is_some() || DatabaseClient::open(&pooler.url(), "setup").is_ok()
            });
            match ended {
                None => return Some(pooler),
                Some(status) => eprintln!("pgbouncer on port {}: {status}", pooler.port),
            }
        }
        panic!("pgbouncer ends on every port");
    }

    fn spawn(cluster: &Cluster) -> Option<Self> {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let port = free_port();
        let socket = cluster.folder().display();
        let ini = format!(
            "[databases]\ncertctl = host={socket} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 1\n"
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, ini).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if let Some(user) = RunAs::lesser(&["postgres", "nobody"]).unwrap() {
            use std::os::unix::process::CommandExt as _;
            std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).unwrap();
            command.uid(user.uid).gid(user.gid);
        }
        let child = command.arg(&path).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().ok()?;
        Some(Self { child, _folder: folder, port })
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/certctl", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pooler_in_transaction_mode_is_supported() {
    let Ok(installation) = newest() else { needs!(else &newest().unwrap_err()) };
    let (cluster, direct) = migrated(&installation, &[]);
    let Some(pooler) = Pooler::start(&cluster) else { needs!(else "pgbouncer not found (install pgbouncer)") };
    let url = pooler.url();
    let mut sessions: Vec<DatabaseClient> = (0..3).map(|_| DatabaseClient::open(&url, "books").unwrap()).collect();
    for _ in 0..3 {
        for session in &mut sessions {
            assert_eq!(session.query_one("SELECT $1", &[&"it"]).unwrap().get::<_, String>(0), "it");
        }
    }
    // A statement that is at work for longer than a silent server is waited for, while it has the only connection.
    sessions[0].query_one("SELECT pg_sleep(11)", &[]).unwrap();
    drop(sessions);
    everything(&url);
    // No setting of the suite stays with the connection that others get next.
    let mut others = Client::connect(&format!("{url}?sslmode=disable"), NoTls).unwrap();
    let row = others.simple_query("SHOW row_security").unwrap();
    let shown = row.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    assert_eq!(shown.as_deref(), Some("on"));
    drop(direct);
}
