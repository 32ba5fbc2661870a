//! A running reference server, in memory or on a PostgreSQL of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use certctl_bench::provision::postgres::{Cluster, find};
use postgres::NoTls;
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::common::needs::{Program, skip};
use crate::common::process::PATIENCE;

pub const ADMIN: &str = "test-admin-token";
pub const VIEWER: &str = "test-viewer-token";

/// A running server; stopped when dropped.
pub struct Server {
    pub child: Child,
    pub announced: Value,
    database: Option<Database>,
}

/// A server's database.
struct Database {
    name: String,
    cluster: Arc<Mutex<Cluster>>,
}

impl Database {
    fn url(&self) -> String {
        locked(&self.cluster).url(&self.name)
    }
}

impl Server {
    pub fn in_memory(arguments: &[&str]) -> Self {
        Self::start(&mut command(&[&["--in-memory"], arguments].concat()), None)
    }

    /// Starts one on a database with so many certificates and the fleet.
    pub fn on_postgres(certificates: u32, arguments: &[&str]) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("reference_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let cluster = cluster();
        locked(&cluster).create_database(&name).expect("creates");
        let database = Database { name, cluster };
        let url = database.url();
        let server = Self::start(command(arguments).env("CERTCTL_REFERENCE_DATABASE", url), Some(database));
        let mut sql = server.sql();
        sql.batch_execute(include_str!("../../seed/02_agent_fleet.sql")).expect("seeds agents");
        let certificates = format!(
            "INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id,
                renewal_policy_id, status, expires_at, created_at)
            SELECT 'cert-loadtest-bulk-' || digits, host, host, ARRAY[host], 'loadtest', 'o-alice', 't-platform',
                'iss-local', 'rp-standard', 'Active', now() + interval '20 days', now() - (100000 - n) * interval '1 s'
            FROM generate_series(1, {certificates}) n, lpad(n::text, 5, '0') digits,
                concat('loadtest-bulk-', digits, '.example.test') host"
        );
        sql.batch_execute(&certificates).expect("seeds certificates");
        server
    }

    /// Starts one server on each store, with so many certificates. Without PostgreSQL, the part of the test that needs
    /// it is skipped.
    pub fn on_both(certificates: u32, arguments: &[&str]) -> Vec<Self> {
        let number = certificates.to_string();
        let mut servers = vec![Self::in_memory(&[&["--certificates", &number], arguments].concat())];
        match Program::Postgresql.lack() {
            Some(why) => {
                let thread = std::thread::current();
                skip(&format!("reference {} on PostgreSQL", thread.name().unwrap_or("of both stores")), &why);
            }
            None => servers.push(Self::on_postgres(certificates, arguments)),
        }
        servers
    }

    fn start(command: &mut Command, database: Option<Database>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("announces");
        let announced = serde_json::from_str(&line).expect("announces JSON");
        Self { child, announced, database }
    }

    pub fn connect(&self) -> Client {
        let text = |key: &str| self.announced[key].as_str().expect("announced");
        Client::connect(text("address"), text("ca_pem"))
    }

    /// Returns true if the server's rows are in a database.
    pub fn has_database(&self) -> bool {
        self.database.is_some()
    }

    /// Makes one exchange on a connection of its own.
    pub fn exchange(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        self.connect().exchange(method, path, token, body)
    }

    /// Returns the server's counts of work done.
    pub fn work(&self) -> Value {
        self.exchange("GET", "/reference/work", Some(ADMIN), "").json()
    }

    /// Waits until the server's counts have these values; audit rows follow their answers at some distance.
    pub fn until_work(&self, expected: &Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let work = self.work();
            if expected.as_object().expect("an object").iter().all(|(name, count)| work[name] == *count) {
                return;
            }
            assert!(Instant::now() < deadline, "work done: {work}, expected: {expected}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns a connection to the server's database.
    pub fn sql(&self) -> postgres::Client {
        let url = self.database.as_ref().expect("a database").url();
        postgres::Client::connect(&url, NoTls).expect("connects")
    }

    /// Returns the first column of the first row.
    pub fn sql_number(&self, sql: &str) -> i64 {
        self.sql().query_one(sql, &[]).expect("answers").get(0)
    }

    /// Returns the statements of an exchange, as PostgreSQL logs them: of each its verb, and the first table that it
    /// names.
    pub fn statements(&self, exchange: impl FnOnce(&mut Client)) -> Vec<String> {
        let Database { name, cluster } = self.database.as_ref().expect("a database");
        let file = locked(cluster).folder().join("postgres.log");
        let log = || fs::read_to_string(&file).expect("a log");
        self.until_work(&serde_json::json!({"audit_pending": 0}));
        let before = log().len();
        exchange(&mut self.connect());
        self.until_work(&serde_json::json!({"audit_pending": 0}));
        let log = log().split_off(before);
        let ours = format!("{name}|LOG:  ");
        // Continuation lines of a statement begin with a tab.
        let logged = log.replace("\n\t", " ");
        let statements = logged.lines().filter_map(|line| line.strip_prefix(&ours)?.split_once(": "));
        statements.map(|(_, sql)| sketch(sql)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone in the tests that stop it themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the program, without a store.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-reference"));
    command.args(arguments).env_remove("CERTCTL_REFERENCE_DATABASE");
    command.env("CERTCTL_REFERENCE_TOKEN", ADMIN).env("CERTCTL_REFERENCE_VIEWER_TOKEN", VIEWER);
    command
}

/// Returns the cluster of all tests that run at the same time; it ends with the last of them.
fn cluster() -> Arc<Mutex<Cluster>> {
    static SHARED: Mutex<Weak<Mutex<Cluster>>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let settings = [("log_statement", "all"), ("log_line_prefix", "%d|"), ("max_connections", "300")];
        let cluster = Cluster::start(&find().expect("PostgreSQL"), &settings).expect("starts");
        let cluster = Arc::new(Mutex::new(cluster));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// Locks the cluster, also after a test has failed while it held the lock.
fn locked(cluster: &Mutex<Cluster>) -> MutexGuard<'_, Cluster> {
    cluster.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a statement's verb and its first table.
fn sketch(sql: &str) -> String {
    let sql = sql.replace('(', " ( ");
    let words: Vec<&str> = sql.split_whitespace().collect();
    let table = match words[0] {
        "SELECT" => words.windows(2).find(|pair| pair[0] == "FROM" && pair[1] != "(").map(|pair| pair[1]),
        "INSERT" => Some(words[2]),
        "UPDATE" => Some(words[1]),
        _ => None,
    };
    format!("{} {}", words[0], table.unwrap_or_default()).trim_end().to_owned()
}
