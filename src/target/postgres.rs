//! A private, throw-away PostgreSQL: made, started, stopped and removed by us.
//!
//! It listens on a unix socket alone, in a folder that only its own user may enter, with durability as PostgreSQL ships
//! it (fsync on). Two processes beside ours make it vanish however we end, `kill -9` included:
//! - the **postmaster** carries a death signal, SIGQUIT: PostgreSQL's immediate shutdown;
//! - the **keeper**, a shell that waits for the end of a pipe from us, then for the postmaster, and then removes the
//!   folder. It is the one place that makes and deletes it, on the normal path too.
//!
//! [`Cluster::start`] and [`Cluster::create_database`] use the blocking `postgres` client, which panics inside a tokio
//! runtime: call them before the runtime starts, or in `spawn_blocking`. Stopping and dropping are safe anywhere.

mod installation;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::error::{Context, Error, Result};
use crate::target::child::{Child, RunAs, Spec};

pub use installation::{BIN_VARIABLE, Installation, OLDEST_MAJOR, find};

const SUPERUSER: &str = "postgres";
/// The library, and the extension that shows what it counts.
const STATEMENT_STATISTICS: &str = "pg_stat_statements";
const INITDB_WAIT: Duration = Duration::from_secs(120);
const READY_WAIT: Duration = Duration::from_secs(60);
const STOP_WAIT: Duration = Duration::from_secs(15);
const KEEPER_WAIT: Duration = Duration::from_secs(45);
/// The longest path of a unix socket on Linux, in bytes, without its closing zero.
const SOCKET_PATH_BYTES: usize = 107;
const SOCKET_FILE: &str = ".s.PGSQL.5432";
/// The settings that a result has to name, since figures depend on them.
const TOLD_SETTINGS: [&str; 9] = [
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

/// Makes the folder `$1`, waits for the end of stdin, then (20 s at most) for the postmaster, and removes the folder;
/// more than once, since a server that we could not wait for may still write into it.
const KEEPER: &str = r#"
trap '' HUP INT TERM
mkdir -m 700 -- "$1" || exit 1
echo made
cat >/dev/null
pid=$(head -n 1 -- "$1/data/postmaster.pid" 2>/dev/null)
turns=0
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ "$turns" -lt 400 ]; do sleep 0.05; turns=$((turns + 1)); done
turns=0
rm -rf -- "$1"
while [ -e "$1" ] && [ "$turns" -lt 200 ]; do sleep 0.05; rm -rf -- "$1"; turns=$((turns + 1)); done
[ ! -e "$1" ]
"#;

/// A running private PostgreSQL. Dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    settings: BTreeMap<String, String>,
    version: String,
    // `None` once stopped. The keeper ends after the server: it waits for it.
    server: Option<Child>,
    keeper: Option<Child>,
}

impl Cluster {
    /// Makes and starts a cluster, and returns when it answers queries (about half a second).
    ///
    /// `extra` are settings beside ours, such as `("fsync", "off")`; they win. As root the server runs as the user
    /// `postgres`, or `nobody` where there is none. Fails when a program cannot be run or the server does not come up
    /// within a minute; the error then holds the end of the server's log, and nothing is left behind.
    pub fn start(installation: &Installation, extra: &[(&str, &str)]) -> Result<Cluster> {
        let run_as = server_user()?;
        let (keeper, folder) = make_folder(&room(run_as)?)?;
        let mut cluster = Cluster {
            folder,
            settings: BTreeMap::new(),
            version: installation.version.clone(),
            server: None,
            keeper: Some(keeper),
        };
        if let Some(user) = run_as {
            let folder = &cluster.folder;
            chown(folder, Some(user.uid), Some(user.gid)).context(|| format!("giving away {}", folder.display()))?;
        }
        initdb(installation, &cluster.folder, run_as)?;
        cluster.server = Some(start_server(installation, &cluster.folder, run_as, extra)?);
        let mut client = cluster.wait_until_ready()?;
        for name in TOLD_SETTINGS {
            let row = client
                .query_one("SELECT current_setting($1)", &[&name])
                .context(|| format!("asking the private PostgreSQL for {name}"))?;
            cluster.settings.insert(name.to_owned(), row.get(0));
        }
        Ok(cluster)
    }

    /// The URL of a database in this cluster, for `postgres`, `tokio-postgres`, libpq and lib/pq alike.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(self.folder.as_os_str().as_bytes());
        format!("postgres://{SUPERUSER}@/{}?host={host}", percent_encode(database.as_bytes()))
    }

    /// Creates a database that is empty but for `pg_stat_statements`, where the installation has that; fails when it
    /// exists.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let what = || format!("creating the database {name:?} in the private PostgreSQL");
        let mut client = Client::connect(&self.url("postgres"), NoTls).context(what)?;
        client.batch_execute(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).context(what)?;
        if self.settings["shared_preload_libraries"] == STATEMENT_STATISTICS {
            let mut client = Client::connect(&self.url(name), NoTls).context(what)?;
            client.batch_execute(&format!("CREATE EXTENSION {STATEMENT_STATISTICS}")).context(what)?;
        }
        Ok(())
    }

    /// The version as `postgres --version` tells it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The settings that a result has to name, by name, as the running server gives them.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The postmaster's process id; `None` once stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::pid)
    }

    /// The folder of data, socket and log (`postgres.log`); gone once stopped.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops the server and removes the folder: fast shutdown, after 15 s immediate shutdown, then SIGKILL. Fails when
    /// the folder could not be removed. Calling it again does nothing.
    pub fn stop(&mut self) -> Result<()> {
        let stopped = self.server.take().map_or(Ok(()), |mut server| {
            server.signal(libc::SIGINT)?;
            if server.wait(STOP_WAIT)?.is_none() {
                server.signal(libc::SIGQUIT)?;
            }
            server.stop(STOP_WAIT).map(drop)
        });
        // Even if the server could not be stopped: the keeper waits a bounded time and then removes the folder.
        let Some(mut keeper) = self.keeper.take() else { return stopped };
        let status = keeper.stop(KEEPER_WAIT)?;
        if !status.success() {
            return Err(keeper
                .failure(&format!("could not remove {}", self.folder.display()))
                .mend("remove the folder by hand"));
        }
        stopped
    }

    /// Tries to connect until the server answers, ends, or has had its time.
    fn wait_until_ready(&mut self) -> Result<Client> {
        let deadline = Instant::now() + READY_WAIT;
        let url = self.url("postgres") + "&connect_timeout=5";
        loop {
            let refused = match Client::connect(&url, NoTls) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            let Some(server) = &mut self.server else {
                return Err(Error::new("waiting for a PostgreSQL that was stopped"));
            };
            if server.exited()?.is_some() {
                return Err(server.failure("it ended before it answered"));
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
        // Nobody is left to tell; death signal and keeper do the rest.
        let _ = self.stop();
    }
}

/// Whom the server runs as: PostgreSQL refuses root.
fn server_user() -> Result<Option<RunAs>> {
    // SAFETY: plain system call.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = RunAs::named(name)? {
            return Ok(Some(user));
        }
    }
    Err(Error::new("starting a private PostgreSQL: it refuses to run as root, and there is no user postgres or nobody")
        .mend("run as an ordinary user"))
}

/// A folder for temporary folders in which the server's user can get to its own, by a path short enough for a socket.
fn room(run_as: Option<RunAs>) -> Result<PathBuf> {
    let fits = |room: &Path| {
        let socket = folder_name(room, u32::MAX).join(SOCKET_FILE);
        let passable = |dir: &Path| match (run_as, fs::metadata(dir)) {
            (None, Ok(_)) => true,
            (Some(user), Ok(meta)) => meta.mode() & 0o001 != 0 || (meta.uid() == user.uid && meta.mode() & 0o100 != 0),
            (_, Err(_)) => false,
        };
        socket.as_os_str().len() <= SOCKET_PATH_BYTES && room.ancestors().all(passable)
    };
    let wanted = env::temp_dir();
    let choices = [wanted.clone(), PathBuf::from("/tmp")];
    choices.iter().filter_map(|room| room.canonicalize().ok()).find(|room| fits(room)).ok_or_else(|| {
        Error::new(format!("making a folder for a private PostgreSQL: neither {} nor /tmp will do", wanted.display()))
            .mend("set TMPDIR to a folder with a short path that every user can pass through")
    })
}

fn folder_name(room: &Path, number: u32) -> PathBuf {
    room.join(format!("certctl-bench-pg-{}-{number}", std::process::id()))
}

/// Starts the keeper, which makes the folder. The name is new: `mkdir` fails on one that exists.
fn make_folder(room: &Path) -> Result<(Child, PathBuf)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut left_over = 0;
    loop {
        let folder = folder_name(room, NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "certctl-bench-keeper"]).arg(&folder).current_dir("/");
        let mut keeper = Child::spawn(
            "the keeper of a private PostgreSQL",
            command,
            Spec { death_signal: None, ..Spec::default() },
        )?;
        match keeper.wait_for_line(Duration::from_secs(30)) {
            Ok(_) => return Ok((keeper, folder)),
            // Left by a machine that lost power, when process ids began anew.
            Err(_) if folder.symlink_metadata().is_ok() && left_over < 100 => left_over += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A command of the installation, without the PG… variables of our environment, which would change its defaults.
fn program(installation: &Installation, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(installation.bin.join(name));
    for (variable, _) in env::vars_os().filter(|(variable, _)| variable.as_bytes().starts_with(b"PG")) {
        command.env_remove(variable);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(folder).arg("-D").arg(folder.join("data"));
    command
}

fn initdb(installation: &Installation, folder: &Path, run_as: Option<RunAs>) -> Result<()> {
    let mut command = program(installation, "initdb", folder);
    command.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N", "--no-instructions"]);
    // On SIGTERM initdb stops its own children.
    let spec = Spec { death_signal: Some(libc::SIGTERM), run_as, ..Spec::default() };
    let mut child = Child::spawn("initdb", command, spec).map_err(|error| {
        error.mend("as root this needs the right to become another user; else run as an ordinary one")
    })?;
    match child.wait(INITDB_WAIT)? {
        Some(status) if status.success() => Ok(()),
        Some(_) => Err(child.failure("it could not make a private PostgreSQL")),
        None => Err(child.failure(&format!("it did not end within {INITDB_WAIT:?}"))),
    }
}

fn start_server(
    installation: &Installation,
    folder: &Path,
    run_as: Option<RunAs>,
    extra: &[(&str, &str)],
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
    if installation.has_statement_statistics() {
        set("shared_preload_libraries", STATEMENT_STATISTICS.as_ref());
        set("pg_stat_statements.track", "top".as_ref());
    }
    for (name, value) in extra {
        set(name, value.as_ref());
    }
    let spec =
        Spec { death_signal: Some(libc::SIGQUIT), stop_signal: None, run_as, log: Some(folder.join("postgres.log")) };
    Child::spawn("the private PostgreSQL", command, spec)
}

fn percent_encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
