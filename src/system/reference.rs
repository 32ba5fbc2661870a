//! The default system: the reference server, on a private PostgreSQL or in memory, started and stopped by a run.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};

use super::base_url::BaseUrl;
use super::counters::Counters;
use super::probe::Probe;
use super::{Behaviour, Certctl, Store, SystemDescription, SystemKind, Token, check_program};
use crate::error::{Error, ErrorKind, Result};
use crate::load::runtime::runtime;
use crate::provision::child::{Child, Spec};
use crate::provision::postgres::{self, Cluster};
use crate::seed;
use crate::wire::Dialer;
use crate::wire::request::Method;
use crate::wire::tls::Trust;

/// The name of its program.
pub const PROGRAM: &str = "certctl-reference";
/// The longest wait for the server to accept connections.
const START_PATIENCE: Duration = Duration::from_secs(30);
const DATABASE: &str = "certctl_bench";
/// The environment variable with the URL of the server's database.
const DATABASE_VARIABLE: &str = "CERTCTL_REFERENCE_DATABASE";

/// The choice of a store for the reference server's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// A private PostgreSQL, or memory if none is installed.
    Auto,
    /// Memory.
    InMemory,
    /// The PostgreSQL at this URL.
    Database(String),
}

/// The start of a reference server.
#[derive(Clone, Debug)]
pub struct ReferenceStart<'a> {
    /// The program.
    pub binary: &'a Path,
    /// The place of its rows.
    pub store: StoreChoice,
    /// The behaviour where certctl's code and documents differ.
    pub behaviour: Behaviour,
    /// The sizes of its seeds.
    pub sizes: seed::Sizes,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// Further variables of its environment: its settings.
    pub environment: &'a [(String, String)],
}

impl<'a> ReferenceStart<'a> {
    /// Makes the start of `binary` over `store`: as built, with seeds of the usual sizes, at a free port.
    pub fn new(binary: &'a Path, store: StoreChoice) -> Self {
        let (behaviour, sizes) = (Behaviour::AsBuilt, seed::Sizes::default());
        Self { binary, store, behaviour, sizes, port: 0, environment: &[] }
    }
}

/// Starts a reference server, with its PostgreSQL where it has one.
///
/// # Errors
/// If one of them does not start.
pub fn start(start: &ReferenceStart<'_>, notify: &mut dyn FnMut(String)) -> Result<Certctl> {
    check_program("the reference server", start.binary)?;
    let sizes = start.sizes;
    let (cluster, database) = match &start.store {
        StoreChoice::InMemory => (None, None),
        StoreChoice::Database(url) => {
            // The server creates tables and grants in this database.
            seed::refuse_foreign(url)?;
            (None, Some(url.clone()))
        }
        StoreChoice::Auto => match private_cluster(notify)? {
            Some((cluster, url)) => (Some(cluster), Some(url)),
            None => (None, None),
        },
    };
    let token = Token::generate()?;
    let mut command = Command::new(start.binary);
    command.envs(start.environment.iter().map(|(name, value)| (name, value)));
    command.env("CERTCTL_REFERENCE_TOKEN", token.reveal()).args(["--listen", &format!("127.0.0.1:{}", start.port)]);
    command.args(["--behaviour", start.behaviour.label()]);
    match &database {
        // In the environment, since the URL may hold a password and command lines are visible to every user.
        Some(url) => command.env(DATABASE_VARIABLE, url),
        None => command.env_remove(DATABASE_VARIABLE).arg("--in-memory").args([
            "--agents",
            &sizes.agents.to_string(),
            "--certificates",
            &sizes.certificates.to_string(),
            "--drain",
            &sizes.drain.to_string(),
            "--drain-agents",
            &sizes.drain_agents.to_string(),
        ]),
    };
    // A duet may start an older program, which does not know this flag.
    if database.is_none() && sizes.deployments > 0 {
        command.args(["--deployments", &sizes.deployments.to_string()]);
    }
    let mut server = Child::spawn("the reference server", command, Spec::default())?;
    let ready = server.wait_for_line(START_PATIENCE)?;
    let ready: Value = serde_json::from_str(&ready)
        .map_err(|error| Error::new(format!("the reference server's ready line is not JSON: {error}")))?;
    if let Some(url) = &database {
        let options = seed::SeedOptions { sizes, ..seed::SeedOptions::default() };
        seed::apply(url, &options, &mut std::io::sink())?;
    }
    describe(&ready, token, database, cluster, server)
}

/// Starts a private cluster with an empty database; returns `None` if no usable PostgreSQL is installed.
fn private_cluster(notify: &mut dyn FnMut(String)) -> Result<Option<(Cluster, String)>> {
    let installation = match postgres::find() {
        Ok(installation) => installation,
        Err(error) if error.kind() == ErrorKind::CouldNotRun => {
            notify(format!("{error}\nwithout it the reference server keeps its rows in memory"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    notify(format!("starting a private PostgreSQL {}", installation.version));
    let cluster = Cluster::start(&installation, &[])?;
    cluster.create_database(DATABASE)?;
    let url = cluster.url(DATABASE);
    Ok(Some((cluster, url)))
}

fn describe(
    ready: &Value,
    token: Token,
    database: Option<String>,
    cluster: Option<Cluster>,
    server: Child,
) -> Result<Certctl> {
    let text = |key: &str| {
        ready[key].as_str().ok_or_else(|| Error::new(format!("the reference server's ready line lacks {key:?}")))
    };
    let port = text("address")?.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.ok_or_else(|| Error::new("the reference server's ready line has no port"))?;
    let mut settings = Map::new();
    if let Some(reported) = ready["settings"].as_object() {
        settings.extend(reported.clone());
    }
    let base = BaseUrl::local(port);
    let trust = Trust::from_pem(text("ca_pem")?.as_bytes(), "of the reference server")?;
    let store = match text("store")?.strip_prefix("postgresql ") {
        Some(version) => Store::Postgresql { version: version.to_owned(), private: cluster.is_some() },
        None => Store::InMemory,
    };
    let system = SystemDescription {
        kind: SystemKind::Reference,
        base_url: base.to_string(),
        address: None,
        version: text("version")?.to_owned(),
        binary_sha256: None,
        migrations_sha256: None,
        behaviour: Behaviour::reported(Some(text("behaviour")?)),
        store,
        trust: trust.to_string(),
        settings,
    };
    Ok(Certctl {
        base,
        trust,
        token,
        system,
        database,
        allow_foreign_rows: false,
        server: Some(Mutex::new(server)),
        _cluster: cluster,
        _prepared: None,
    })
}

/// Requests the reference server's counters, and gives up soon after `stop` is set. The server counts before it
/// answers.
///
/// # Errors
/// If it does not answer.
pub fn counts(certctl: &Certctl, dialer: &Dialer, stop: &Arc<AtomicBool>) -> Result<Counters> {
    let mut probe = Probe::new(certctl, dialer.clone()).until(stop);
    let answer = runtime()?.block_on(probe.send_with_token(Method::Get, "/reference/work"));
    let counts = answer?.json().and_then(|values| Counters::new(values, "the reference server's own count"));
    counts.ok_or_else(|| Error::new("the reference server's /reference/work is not a JSON object"))
}
