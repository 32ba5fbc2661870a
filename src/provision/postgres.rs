//! A private, throw-away PostgreSQL: created, started, stopped and removed by this process.
//!
//! It listens on a unix socket alone, in a folder that only its own user may enter, with PostgreSQL's default
//! durability (fsync on). Two mechanisms remove it however this process ends, `kill -9` included:
//! - the **postmaster** has a death signal, SIGQUIT: PostgreSQL's immediate shutdown;
//! - the [keeper](Keeper) then waits for the postmaster and removes the folder.
//!
//! [`Cluster::start`] and [`Cluster::create_database`] block the calling thread, which is a panic inside a tokio
//! runtime: call them before the runtime starts, or in `spawn_blocking`. Stopping and dropping are safe anywhere.

mod postgres_installation;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::process::{Pid, Signal, kill_process};

use super::child::{Child, RunAs, Spec};
use super::keeper::{Keeper, Lease};
use crate::database::{self, DatabaseClient};
use crate::error::{Context, Error, Result};

pub use postgres_installation::{BIN_VARIABLE, OLDEST_MAJOR, PostgresInstallation, find};

const SUPERUSER: &str = "postgres";
/// PostgreSQL's default port: part of the socket's name, even without TCP.
const PORT: u16 = 5432;
/// The name of the library, and of the extension that shows its counters.
const STATEMENT_STATISTICS: &str = "pg_stat_statements";
/// The server's log; after a restart, with the number of the start.
const LOG: &str = "postgres.log";
const INITDB_WAIT: Duration = Duration::from_secs(120);
const READY_WAIT: Duration = Duration::from_secs(60);
const STOP_WAIT: Duration = Duration::from_secs(3);
/// The settings that a result has to name, since its figures depend on them.
const REPORTED_SETTINGS: [&str; 9] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "max_connections",
    "shared_buffers",
    "max_wal_size",
    "shared_preload_libraries",
];

/// The postmaster works in its data folder.
const LEASE: Lease = Lease {
    what: "a private PostgreSQL",
    name: "pg",
    socket: ".s.PGSQL.5432",
    work: "data",
    patience: Duration::from_secs(20),
};

/// A running private PostgreSQL. Dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    settings: BTreeMap<String, String>,
    installation: PostgresInstallation,
    run_as: Option<RunAs>,
    /// Additional settings.
    extra: Vec<(String, String)>,
    port: u16,
    /// The number of times that the server was started.
    starts: u32,
    // `None` once stopped.
    server: Option<Child>,
    // Dropped after the server, since it waits for the server's end.
    keeper: Keeper,
}

impl Cluster {
    /// Creates and starts a cluster, and returns when it answers queries (after about half a second).
    ///
    /// `extra` are additional settings, such as `("fsync", "off")`, which override the defaults here. As root the
    /// server runs as the user `postgres`, or `nobody` if there is none. Fails if a program cannot be run or the server
    /// does not answer within a minute; the error then has the end of the server's log, and nothing is left behind.
    pub fn start(installation: &PostgresInstallation, extra: &[(&str, &str)]) -> Result<Cluster> {
        // PostgreSQL refuses to run as root.
        let run_as = RunAs::lesser(&["postgres", "nobody"])?;
        let mut cluster = Cluster {
            settings: BTreeMap::new(),
            installation: installation.clone(),
            run_as,
            extra: extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            starts: 0,
            port: extra
                .iter()
                .rev()
                .find(|(name, _)| *name == "port")
                .and_then(|(_, port)| port.parse().ok())
                .unwrap_or(PORT),
            server: None,
            keeper: Keeper::start(&LEASE, run_as)?,
        };
        initdb(installation, cluster.folder(), run_as)?;
        let mut client = cluster.start_server()?;
        for name in REPORTED_SETTINGS {
            let row = client
                .query_one("SELECT current_setting($1)", &[&name])
                .context(|| format!("reading {name} from the private PostgreSQL"))?;
            cluster.settings.insert(name.to_owned(), row.get(0));
        }
        Ok(cluster)
    }

    /// Stops the server by fast shutdown, and starts it anew over the same data: every session ends.
    ///
    /// # Errors
    /// If it does not end within a minute, or does not answer within another.
    pub fn restart(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::INT)?;
            if server.wait(READY_WAIT)?.is_none() {
                return Err(server.failure(&format!("it did not end within {READY_WAIT:?}")));
            }
        }
        self.start_server().map(drop)
    }

    /// Starts the server, and returns a session once it answers.
    fn start_server(&mut self) -> Result<DatabaseClient> {
        self.starts += 1;
        let log = self.folder().join(if self.starts == 1 { LOG.to_owned() } else { format!("{LOG}.{}", self.starts) });
        self.server = Some(start_server(&self.installation, self.folder(), self.run_as, &self.extra, log)?);
        let client = self.wait_until_ready()?;
        doom_shared_memory(&self.folder().join(LEASE.work));
        Ok(client)
    }

    /// Returns the URL of a database in this cluster, for `postgres`, `tokio-postgres`, libpq and lib/pq alike.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode_all(self.folder().as_os_str().as_bytes());
        let port = if self.port == PORT { String::new() } else { format!("&port={}", self.port) };
        format!("postgres://{SUPERUSER}@/{}?host={host}{port}", percent_encode_all(database.as_bytes()))
    }

    /// Creates a database that is empty but for `pg_stat_statements`, if the installation has that. Fails if the
    /// database exists.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let what = || format!("creating the database {name:?} in the private PostgreSQL");
        let mut client = DatabaseClient::open(&self.url("postgres"), "setup")?;
        client.batch_execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).context(what)?;
        if self.settings["shared_preload_libraries"] == STATEMENT_STATISTICS {
            let mut client = DatabaseClient::open(&self.url(name), "setup")?;
            client.batch_execute(&format!("CREATE EXTENSION {STATEMENT_STATISTICS}")).context(what)?;
        }
        Ok(())
    }

    /// Returns the version that `postgres --version` prints.
    pub fn version(&self) -> &str {
        &self.installation.version
    }

    /// Returns the settings that a result has to name, by name, as the running server reports them.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Returns the postmaster's process id; `None` once stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::pid)
    }

    /// Returns the folder of data, socket and log (`postgres.log`), which no longer exists once stopped.
    pub fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    /// Stops the server and removes the folder: by immediate shutdown, since the data is not needed, and by SIGKILL
    /// after 3 s, such as when its processes are stopped (SIGSTOP). Fails if the folder could not be removed. Another
    /// call does nothing.
    pub fn stop(&mut self) -> Result<()> {
        let data = self.folder().join(LEASE.work);
        let stopped = self.server.take().map_or(Ok(()), |mut server| {
            server.signal(Signal::QUIT)?;
            if server.wait(STOP_WAIT)?.is_some() {
                return Ok(());
            }
            let stopped = server.stop(Duration::ZERO).map(drop);
            kill_those_at_work(&data);
            stopped
        });
        // Even if the server could not be stopped: the keeper waits a bounded time, kills it and removes the folder.
        self.keeper.stop()?;
        stopped
    }

    /// Tries to connect until the server answers, ends, or [`READY_WAIT`] is over.
    fn wait_until_ready(&mut self) -> Result<DatabaseClient> {
        let deadline = Instant::now() + READY_WAIT;
        let url = self.url("postgres") + "&connect_timeout=5";
        loop {
            let refused = match DatabaseClient::open(&url, "setup") {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let Some(server) = &mut self.server else {
                return Err(Error::new("waiting for a PostgreSQL that was stopped"));
            };
            if server.exited()?.is_some() {
                return Err(server.failure("it ended before it answered"));
            }
            if database::is_stopped() {
                return Err(Error::new("waiting for a private PostgreSQL: stopped by a signal"));
            }
            if Instant::now() > deadline {
                return Err(server.failure(&format!("it did not answer within {READY_WAIT:?} ({refused})")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An error cannot be returned from here; death signal and keeper do the rest.
        let _ = self.stop();
    }
}

/// Returns a command of the installation, without the environment's PG… variables, which would change its defaults.
fn program(installation: &PostgresInstallation, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(installation.bin.join(name));
    for (variable, _) in env::vars_os().filter(|(variable, _)| variable.as_bytes().starts_with(b"PG")) {
        command.env_remove(variable);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(folder).arg("-D").arg(folder.join("data"));
    command
}

fn initdb(installation: &PostgresInstallation, folder: &Path, run_as: Option<RunAs>) -> Result<()> {
    let mut command = program(installation, "initdb", folder);
    command.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N", "--no-instructions"]);
    // On SIGTERM initdb stops its own children.
    let spec = Spec { death_signal: Some(Signal::TERM), run_as, ..Spec::default() };
    let mut child = Child::spawn("initdb", command, spec).map_err(|error| {
        error.with_hint("run as an ordinary user, or as root with the right to become another user")
    })?;
    match child.wait(INITDB_WAIT)? {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(child.failure("it could not make a private PostgreSQL")),
        None => Err(child.failure(&format!("it did not end within {INITDB_WAIT:?}"))),
    }
}

fn start_server(
    installation: &PostgresInstallation,
    folder: &Path,
    run_as: Option<RunAs>,
    extra: &[(String, String)],
    log: PathBuf,
) -> Result<Child> {
    let mut command = program(installation, "postgres", folder);
    let mut set = |name: &str, value: &std::ffi::OsStr| {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        command.arg("-c").arg(setting);
    };
    set("listen_addresses", "".as_ref());
    set("unix_socket_directories", folder.as_os_str());
    set("max_connections", "100".as_ref());
    // In the data folder, and removed with it: files in /dev/shm outlive a postmaster that is killed.
    set("dynamic_shared_memory_type", "mmap".as_ref());
    if installation.has_statement_statistics() {
        set("shared_preload_libraries", STATEMENT_STATISTICS.as_ref());
        set("pg_stat_statements.track", "top".as_ref());
    }
    for (name, value) in extra {
        set(name, value.as_ref());
    }
    let spec = Spec { death_signal: Some(Signal::QUIT), run_as, log: Some(log), ..Spec::default() };
    Child::spawn("the private PostgreSQL", command, spec)
}

/// Marks for destruction the System V segment by which a postmaster guards its data folder against a second postmaster,
/// which does not occur here. Linux then destroys it when the last process that uses it ends, however it ends. Its id
/// is the second number on line 7 of `postmaster.pid`.
fn doom_shared_memory(data: &Path) {
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let number = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    if let Some(number) = number {
        // SAFETY: plain system call; this command takes no structure. If it fails, a kill of this process leaks 56
        // bytes.
        unsafe { libc::shmctl(number, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Kills the server processes that their postmaster can no longer stop. They are the only ones whose working directory
/// is the data folder.
fn kill_those_at_work(data: &Path) {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)) {
        if fs::read_link(format!("/proc/{}/cwd", pid.as_raw_pid())).is_ok_and(|folder| folder == data) {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Escapes all but the characters that a URL may hold anywhere (RFC 3986, section 2.3).
fn percent_encode_all(bytes: &[u8]) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encode(bytes, KEPT).to_string()
}
