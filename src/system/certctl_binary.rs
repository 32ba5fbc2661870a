//! A certctl that a run starts from a certctl-server binary, and stops: on loopback, with a private PostgreSQL.
//!
//! [`PreparedCertctl::new`] does once what takes seconds: PostgreSQL, certctl's migrations, its demo seed, and the rows
//! off that would have it call others. [`PreparedCertctl::start`] starts a server on a fresh copy of that database.
//! Everything blocks the calling thread, which is a panic inside an event loop or a tokio runtime.

mod binary_files;
mod binary_settings;
mod ocsp_responder;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Map, Value};

use super::base_url::BaseUrl;
use super::probe::Probe;
use super::{Behaviour, Certctl, STILL_AT_WORK, Store, SystemDescription, SystemKind, Token};
use crate::database::{self, DatabaseClient};
use crate::error::{Context, Error, Result};
use crate::event_loop::sleep;
use crate::load::runtime::runtime;
use crate::provision::child::{Child, RunAs, Spec};
use crate::provision::keeper::{Keeper, Lease};
use crate::provision::pki::{Authority, KeyType, Purpose};
use crate::provision::port::{free_address, is_port_conflict};
use crate::provision::postgres::{self, Cluster};
use crate::seed;
use crate::wire::Dialer;
use crate::wire::request::Method;
use crate::wire::tls::{self, Trust};
use binary_files::BinaryFiles;
use ocsp_responder::{OcspResponder, ResponderFiles};

pub use binary_settings::{ChosenSettings, DAY, shown};

/// The database that is copied for each server.
const TEMPLATE: &str = "certctl_template";
/// The longest time of certctl's migrations.
const MIGRATION_WAIT: Duration = Duration::from_secs(120);
/// The longest wait for a started server to answer.
const READY_WAIT: Duration = Duration::from_secs(60);
/// The interval at which a wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The time without any work of the server after which its start is over.
const QUIET: Duration = Duration::from_millis(400);
/// The longest wait for that; a server whose settings keep it at work is then loaded as it is.
const QUIET_WAIT: Duration = Duration::from_secs(20);
/// The attempts to start it, if its port turns out to be taken.
const PORT_ATTEMPTS: u32 = 5;
/// The rows of the demo seed with which certctl would call others as soon as it starts.
const ROWS_OFF: [(&str, &str); 2] = [
    ("network_scan_targets", "UPDATE network_scan_targets SET enabled = false"),
    ("issuers", "UPDATE issuers SET enabled = false WHERE id <> 'iss-local'"),
];
/// The changes of a stock database with which ACME orders can be finalized. certctl stores their certificates with
/// empty references, to rows that do not exist, and with an empty fingerprint each, of which it lets only one exist.
const PATCHES: [(&str, &str); 4] = [
    ("teams", "INSERT INTO teams (id, name) VALUES ('', 'certctl-bench: no team')"),
    ("owners", "INSERT INTO owners (id, name, email, team_id) VALUES ('', 'certctl-bench: no owner', '', '')"),
    (
        "renewal_policies",
        "INSERT INTO renewal_policies (id, name, renewal_window_days, auto_renew) \
         VALUES ('', 'certctl-bench: no policy', 30, false)",
    ),
    (
        "certificate_versions",
        "ALTER TABLE certificate_versions DROP CONSTRAINT certificate_versions_fingerprint_sha256_key",
    ),
];
/// The connections to PostgreSQL beyond those of certctl's pool: the suite's own, and those kept for superusers.
const SPARE_CONNECTIONS: u32 = 50;

/// The server works in a folder that holds nothing, least of all `web`: certctl's dashboard would answer for its ACME
/// server.
const LEASE: Lease =
    Lease { what: "certctl", name: "certctl", socket: "", work: "run", patience: Duration::from_secs(2) };

/// The flags that choose a certctl-server binary, as errors name them.
#[derive(Clone, Copy, Debug)]
pub struct FlagNames {
    /// The flag of the binary.
    pub program: &'static str,
    /// The flag of its migrations.
    pub migrations: &'static str,
    /// The flag of a setting.
    pub settings: &'static str,
}

impl FlagNames {
    /// The flags of bench targets and the doctor.
    pub const CERTCTL: Self =
        Self { program: "--certctl", migrations: "--certctl-migrations", settings: "--certctl-env" };
    /// The flags of a duet's base.
    pub const BASE: Self = Self { program: "--base", migrations: "--base-migrations", settings: "--base-env" };
    /// The flags of a duet's head.
    pub const HEAD: Self = Self { program: "--head", migrations: "--head-migrations", settings: "--head-env" };
}

/// The choice of a certctl-server binary to start.
#[derive(Clone, Debug)]
pub struct BinaryChoice {
    /// The flags that made it.
    pub flags: FlagNames,
    /// The binary.
    pub program: PathBuf,
    /// The folder of its migrations and its demo seed; `None`: `migrations` beside the binary or above it.
    pub migrations: Option<PathBuf>,
    /// Settings of the user's.
    pub settings: ChosenSettings,
    /// True if it shares the machine's networks.
    pub shares_network: bool,
    /// The changes of its database.
    pub patches: Vec<DatabasePatch>,
}

/// A change of certctl's database without which a step cannot work. Figures of such a certctl are not those of a stock
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabasePatch {
    /// ACME orders can be finalized.
    AcmeFinalization,
    /// The local issuer has an OCSP responder.
    OcspResponder,
}

impl DatabasePatch {
    /// Returns the change, and the reason for it, for the header of results.
    pub const fn how(self) -> &'static str {
        match self {
            Self::AcmeFinalization => {
                "rows for empty references, no unique fingerprints: stock certctl cannot finalize ACME orders"
            }
            Self::OcspResponder => "an OCSP responder: stock certctl answers every OCSP request with a 500",
        }
    }
}

impl BinaryChoice {
    /// Looks for the files, without reading them.
    ///
    /// # Errors
    /// If the binary or its migrations are not there, or the binary cannot be run (kind `Usage`).
    pub fn check(&self) -> Result<()> {
        binary_files::find(self).map(drop)
    }
}

/// A certctl that can be started again and again, each time on a fresh copy of one prepared database. Dropping it
/// removes everything; drop the server that it started first.
pub struct PreparedCertctl {
    choice: BinaryChoice,
    files: BinaryFiles,
    trust: Trust,
    // The same for every start: certctl may have encrypted rows of the prepared database with one of them.
    secrets: Secrets,
    run_as: Option<RunAs>,
    starts: u32,
    /// True if a certctl that only serves was still at work when its prepared database was taken from it.
    prepared_at_work: bool,
    // Dropped, and so stopped, in this order.
    cluster: Cluster,
    keeper: Keeper,
}

/// Random secrets.
struct Secrets {
    token: Token,
    auth: Token,
    encryption: Token,
}

/// Starts a certctl that keeps everything that belongs to it, with seeds of these sizes.
///
/// # Errors
/// If anything does not start.
pub fn start(choice: BinaryChoice, sizes: seed::Sizes, notify: &mut dyn FnMut(String)) -> Result<Certctl> {
    let mut prepared = PreparedCertctl::new(choice, notify)?;
    let mut certctl = prepared.start(sizes, 0, notify)?;
    certctl._prepared = Some(Box::new(prepared));
    Ok(certctl)
}

impl PreparedCertctl {
    /// Starts a private PostgreSQL and prepares certctl's database in it.
    ///
    /// # Errors
    /// If the binary or its migrations are not there (kind `Usage`), there is no PostgreSQL, or certctl's migrations or
    /// its demo seed fail; the error then has the end of certctl's log.
    pub fn new(choice: BinaryChoice, notify: &mut dyn FnMut(String)) -> Result<Self> {
        let source = binary_files::find(&choice)?;
        let installation = postgres::find()?;
        // The same user as PostgreSQL's, in whose folder the socket is.
        let run_as = RunAs::lesser(&["postgres", "nobody"])?;
        notify(format!("starting a private PostgreSQL {}", installation.version));
        let connections = choice.settings.pool().saturating_add(SPARE_CONNECTIONS).to_string();
        let cluster = Cluster::start(&installation, &[("max_connections", &connections)])?;
        let keeper = Keeper::reserve(&LEASE, run_as)?;
        let authority = Authority::root(KeyType::EcdsaP256)?;
        let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &["localhost", "127.0.0.1", "::1"])?;
        let responder = choice.patches.contains(&DatabasePatch::OcspResponder).then(OcspResponder::make).transpose()?;
        let files = BinaryFiles::make(keeper.folder(), run_as, &source, &identity, responder.as_ref())?;
        let (trust, secrets) = (authority.trust(), Secrets::generate()?);
        let mut prepared =
            Self { choice, files, trust, secrets, run_as, starts: 0, prepared_at_work: false, cluster, keeper };
        notify(format!("preparing the database of {}", prepared.choice.program.display()));
        prepared.migrate()?;
        prepared.apply_demo_seed()?;
        if let Some(responder) = responder {
            let BinaryFiles { issuer, issuer_key, responder_key, .. } = &prepared.files;
            let files = ResponderFiles { issuer, issuer_key, responder_key };
            responder.enter(&mut prepared.open(TEMPLATE)?, &files)?;
        }
        Ok(prepared)
    }

    /// Starts a server on a fresh copy of the database, waits until its work at the start is over, and seeds these
    /// numbers of rows. It listens at `port`, or at a free one if that is 0. A server that was started before must have
    /// been dropped: its database is removed.
    ///
    /// # Errors
    /// If it does not answer as certctl within a minute; the error then has the end of its log.
    pub fn start(&mut self, sizes: seed::Sizes, port: u16, notify: &mut dyn FnMut(String)) -> Result<Certctl> {
        // Its backends would share the memory layout of the last one's; the first is to start as all others do.
        self.cluster.restart()?;
        let database = self.copy_database()?;
        notify(format!("starting {}", self.choice.program.display()));
        let mut attempt = 1;
        let mut certctl = loop {
            match self.launch(&database, port) {
                Ok(certctl) => break certctl,
                // A port cannot be reserved for another process: some process was quicker.
                Err(error) if port == 0 && attempt < PORT_ATTEMPTS && is_port_conflict(error.what()) => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let is_quiet = self.becomes_quiet(&database)?;
        if self.prepared_at_work || !is_quiet {
            notify(format!("certctl is still at work {QUIET_WAIT:?} after its start; it is loaded all the same"));
            certctl.system.settings.insert(STILL_AT_WORK.to_owned(), true.into());
        }
        // Every row in it is ours, whatever certctl's demo seed has by now.
        let options = seed::SeedOptions { sizes, allow_foreign: true, ..seed::SeedOptions::default() };
        let began = Instant::now();
        seed::apply(&self.cluster.url(&database), &options, &mut std::io::sink())?;
        let seed::Sizes { agents, certificates, deployments, drain, .. } = sizes;
        let more = |number, what| if number > 0 { format!(", {number} more to {what},") } else { String::new() };
        notify(format!(
            "seeded {agents} agents and {certificates} certificates{}{} in {:.1} s",
            more(deployments, "deploy"),
            more(drain, "drain"),
            began.elapsed().as_secs_f64()
        ));
        Ok(certctl)
    }

    /// Has certctl make its tables.
    fn migrate(&mut self) -> Result<()> {
        self.cluster.create_database(TEMPLATE)?;
        let address = free_address()?;
        let mut command = self.command(TEMPLATE, address);
        command.arg("--migrate-only");
        let mut child = self.spawn("certctl's migrations", command, "migrations.log")?;
        let certctl = self.certctl(TEMPLATE, address);
        let deadline = Instant::now() + MIGRATION_WAIT;
        loop {
            match child.exited()? {
                Some(status) if status.success() => break,
                Some(_) => return Err(self.unstarted(&mut child, "they failed")),
                None => {}
            }
            // A certctl of before May 14, 2026, does not know the flag: it migrates, and then serves. The first turns
            // of its background loops are part of the prepared database, whole.
            if !matches!(knock(&certctl, address)?, Knock::NotYet(_)) {
                self.prepared_at_work = !self.becomes_quiet(TEMPLATE)?;
                break;
            }
            if is_port_conflict(&child.stderr_tail()) {
                return Err(port_taken(&mut child));
            }
            if Instant::now() > deadline {
                return Err(self.unstarted(&mut child, &format!("they did not end within {MIGRATION_WAIT:?}")));
            }
            thread::sleep(LOOK_EVERY);
        }
        drop(child);
        let mut client = self.open(TEMPLATE)?;
        // Sessions of a server that was killed may not have noticed, and a database in use cannot be copied.
        let ending = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        client.batch_execute(ending).context(|| "ending the sessions of certctl's migrations".to_owned())?;
        if seed::exists(&mut client, "managed_certificates")? {
            return Ok(());
        }
        let program = self.choice.program.display();
        Err(Error::new(format!(
            "{program} --migrate-only made no table managed_certificates: it is not certctl-server"
        ))
        .with_hint("give the path of a certctl-server binary"))
    }

    /// Applies certctl's demo seed, to whose rows the suite's seeds refer, and switches the rows off that would have
    /// certctl call others.
    fn apply_demo_seed(&self) -> Result<()> {
        let (sql, path) = self.files.demo_seed()?;
        let mut client = self.open(TEMPLATE)?;
        client.batch_execute(&sql).context(|| format!("applying {}", path.display())).map_err(|error| {
            let flag = self.choice.flags.migrations;
            error.with_hint(format!("give the migrations of the binary's own commit with {flag} FOLDER"))
        })?;
        for (table, statement) in ROWS_OFF {
            // Older certctls lack the one or the other.
            if seed::exists(&mut client, table)? {
                client.batch_execute(statement).context(|| format!("switching off the rows of {table}"))?;
            }
        }
        for (table, statement) in
            PATCHES.iter().filter(|_| self.choice.patches.contains(&DatabasePatch::AcmeFinalization))
        {
            client.batch_execute(statement).context(|| format!("patching {table} for ACME orders"))?;
        }
        client.batch_execute("ANALYZE").context(|| "analyzing certctl's tables".to_owned())
    }

    /// Copies the prepared database, and returns the copy's name. The copy before it is removed.
    fn copy_database(&mut self) -> Result<String> {
        let name = |number: u32| format!("certctl_{number}");
        let mut client = self.open("postgres")?;
        if self.starts > 0 {
            let removal = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name(self.starts));
            client.batch_execute(&removal).context(|| "removing the database of the last certctl".to_owned())?;
        }
        self.starts += 1;
        let copy = format!("CREATE DATABASE {} TEMPLATE {TEMPLATE}", name(self.starts));
        client.batch_execute(&copy).context(|| "copying certctl's database".to_owned())?;
        Ok(name(self.starts))
    }

    /// Starts a server on a port, 0 for a free one, and waits until it answers as certctl.
    fn launch(&self, database: &str, port: u16) -> Result<Certctl> {
        let address = if port == 0 { free_address()? } else { (Ipv4Addr::LOCALHOST, port).into() };
        let command = self.command(database, address);
        let log = format!("certctl-{}-{}.log", self.starts, address.port());
        let mut server = self.spawn("certctl", command, &log)?;
        let mut certctl = self.certctl(database, address);
        self.wait_until_ready(&certctl, address, &mut server)?;
        certctl.server = Some(Mutex::new(server));
        Ok(certctl)
    }

    /// Waits until the server reaches its database and knows the key.
    fn wait_until_ready(&self, certctl: &Certctl, address: SocketAddr, server: &mut Child) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            let why = match knock(certctl, address)? {
                Knock::Ready => return Ok(()),
                Knock::Wrong(why) => return Err(self.unstarted(server, &format!("it is ready, but {why}"))),
                Knock::NotYet(why) => why,
            };
            if server.exited()?.is_some() {
                return Err(self.unstarted(server, "it ended before it answered"));
            }
            // certctl logs that, and stays.
            if is_port_conflict(&server.stderr_tail()) {
                return Err(port_taken(server));
            }
            if Instant::now() > deadline {
                let what = format!("it did not answer as certctl within {READY_WAIT:?} ({why})");
                return Err(self.unstarted(server, &what));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Returns the error of a server that does not start, with the end of its log.
    fn unstarted(&self, server: &mut Child, why: &str) -> Error {
        let FlagNames { migrations, settings, .. } = self.choice.flags;
        server.failure(why).with_hint(format!(
            "check its settings ({settings}), and that the migrations are of the binary's own commit ({migrations})"
        ))
    }

    /// Returns a certctl at this address, whose server is not known yet.
    fn certctl(&self, database: &str, address: SocketAddr) -> Certctl {
        let base = BaseUrl::local(address.port());
        Certctl {
            system: self.describe(&base),
            base,
            trust: self.trust.clone(),
            token: self.secrets.token.clone(),
            database: Some(self.cluster.url(database)),
            allow_foreign_rows: true,
            server: None,
            _cluster: None,
            _prepared: None,
        }
    }

    /// Returns the command of a server, with nothing of this process's environment but its path.
    fn command(&self, database: &str, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.files.program);
        command.env_clear().current_dir(&self.files.work).env("HOME", &self.files.work).env("TZ", "UTC");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let url = format!("{}&sslmode=disable", self.cluster.url(database));
        let Secrets { token, auth, encryption } = &self.secrets;
        let token = token.reveal();
        command
            .env("CERTCTL_DATABASE_URL", url)
            .env("CERTCTL_DATABASE_MIGRATIONS_PATH", &self.files.migrations)
            .env("CERTCTL_SERVER_HOST", address.ip().to_string())
            .env("CERTCTL_SERVER_PORT", address.port().to_string())
            .env("CERTCTL_SERVER_TLS_CERT_PATH", &self.files.chain)
            .env("CERTCTL_SERVER_TLS_KEY_PATH", &self.files.key)
            .env("CERTCTL_AUTH_TYPE", "api-key")
            // Demanded, though named keys alone count.
            .env("CERTCTL_AUTH_SECRET", auth.reveal())
            .env("CERTCTL_API_KEYS_NAMED", format!("loadtest:{token}:admin"))
            .env("CERTCTL_AGENT_BOOTSTRAP_TOKEN", token)
            .env("CERTCTL_CONFIG_ENCRYPTION_KEY", encryption.reveal());
        command.envs(self.choice.settings.all());
        command.envs(self.choice.settings.acknowledgement());
        command
    }

    fn spawn(&self, name: &str, command: Command, log: &str) -> Result<Child> {
        let log = Some(self.keeper.folder().join(log));
        // Nothing of it is kept: it need not end by itself.
        let spec =
            Spec { stop_signal: Some(Signal::KILL), run_as: self.run_as, log, log_stdout: true, ..Spec::default() };
        Child::spawn(name, command, spec).map_err(|error| {
            let is = |cause: &str| error.hint().is_none() && error.what().contains(cause);
            if is("Permission denied") {
                error.with_hint(
                    "it is started from a copy below TMPDIR (or /tmp): set TMPDIR to a folder where programs may run",
                )
            } else if is("No such file or directory") {
                error.with_hint("the loader that it was linked for is not here: build it for this machine, or static")
            } else {
                error
            }
        })
    }

    fn describe(&self, base: &BaseUrl) -> SystemDescription {
        let mut settings: Map<String, Value> =
            self.cluster.settings().iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        settings.insert("certctl".to_owned(), Value::Object(self.choice.settings.shown()));
        let network = if self.choice.shares_network { "shared" } else { "loopback alone" };
        settings.insert("network".to_owned(), network.into());
        let version = self.cluster.settings().get("server_version").map_or("", String::as_str);
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        let mut description = SystemDescription {
            kind: SystemKind::Certctl,
            base_url: base.to_string(),
            address: None,
            version: "unknown".to_owned(),
            binary_sha256: Some(self.files.sha256.clone()),
            migrations_sha256: Some(self.files.migrations_sha256.clone()),
            behaviour: Behaviour::AsBuilt,
            store: Store::Postgresql { version, private: true },
            trust: self.trust.to_string(),
            settings,
        };
        let patches: Vec<&str> = self.choice.patches.iter().map(|patch| patch.how()).collect();
        if !patches.is_empty() {
            description.patched(&patches.join("; "));
        }
        description
    }

    fn open(&self, database: &str) -> Result<DatabaseClient> {
        DatabaseClient::open(&self.cluster.url(database), "setup")
    }

    /// Waits until the server has done nothing in its database for a moment: each background loop has a first turn at
    /// the start, and the renewal scan would take the seeded certificates if it came after them. Returns false if it is
    /// still at work after [`QUIET_WAIT`].
    fn becomes_quiet(&self, database: &str) -> Result<bool> {
        const SQL: &str = "SELECT coalesce(bool_and(state = 'idle' AND clock_timestamp() - state_change > $1::text::interval), \
                           true) FROM pg_stat_activity WHERE datname = current_database() \
                           AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let mut client = self.open(database)?;
        let quiet = format!("{} milliseconds", QUIET.as_millis());
        let deadline = Instant::now() + QUIET_WAIT;
        loop {
            let row = client.query_one(SQL, &[&quiet]).context(|| "watching certctl's start".to_owned())?;
            if row.get(0) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Returns the error of a server whose port another process has taken.
fn port_taken(server: &mut Child) -> Error {
    server.failure("its port is taken").with_hint("start again: another process was quicker")
}

impl Secrets {
    fn generate() -> Result<Self> {
        Ok(Self { token: Token::generate()?, auth: Token::generate()?, encryption: Token::generate()? })
    }
}

/// The state of a server as its answers show it.
enum Knock {
    /// It is ready and knows the key.
    Ready,
    /// It is ready, and does not know the key.
    Wrong(String),
    /// It does not answer as certctl yet, for this reason.
    NotYet(String),
}

/// Asks once whether the server is ready and knows the key. It can be no other server: its certificate is our own.
///
/// # Errors
/// If a signal ends the wait for the answers.
fn knock(certctl: &Certctl, address: SocketAddr) -> Result<Knock> {
    runtime()?.block_on(async {
        tokio::select! {
            biased;
            () = stopped() => Err(Error::new("waiting for certctl to start: stopped by a signal")),
            answer = ask(certctl, address) => Ok(answer.unwrap_or_else(|why| Knock::NotYet(why.what().to_owned()))),
        }
    })
}

async fn stopped() {
    while !database::is_stopped() {
        sleep(LOOK_EVERY).await;
    }
}

async fn ask(certctl: &Certctl, address: SocketAddr) -> Result<Knock> {
    let dialer = Dialer::new(address, certctl.base.server_name()?, tls::client_config(&certctl.trust)?);
    let mut probe = Probe::new(certctl, dialer);
    let ready = probe.get("/ready").await?;
    if ready.status != 200 || ready.json().is_none_or(|json| json["status"] != "ready") {
        return Ok(Knock::NotYet(format!("/ready answers {}: {}", ready.status, ready.reason())));
    }
    let check = probe.send_with_token(Method::Get, "/api/v1/auth/check").await?;
    let permissions = check.json().and_then(|json| Some(json["effective_permissions"].as_array()?.len()));
    let what = format!("/api/v1/auth/check answers {}, and no permissions", check.status);
    Ok(match (check.status, permissions) {
        (200, Some(1..)) => Knock::Ready,
        (200 | 401, _) => Knock::Wrong(what),
        _ => Knock::NotYet(what),
    })
}
