//! The system under test: one that runs already, or one that a run starts and stops. It sends no load: workloads are
//! bound to it.

pub mod advice;
pub mod base_url;
pub mod certctl_binary;
pub mod connectors;
pub mod counters;
pub mod f5;
pub mod probe;
pub mod reference;
pub mod revocable;
pub mod rotator;
pub mod side_effects;
pub mod with_daemons;

use std::fmt;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};
use crate::files;
use crate::foreign;
use crate::load::progress::Progress;
use crate::provision::child::Child;
use crate::provision::postgres::Cluster;
use crate::scenario::Scenario;
use crate::scenario::acme::Paths;
use crate::seed;
use crate::wire::Dialer;
use crate::wire::peer::Peer;
use crate::wire::tls::{self, Trust};
use base_url::BaseUrl;
use certctl_binary::PreparedCertctl;
use connectors::Connectors;
use rotator::Rotator;
use side_effects::{AtConnectors, InDatabase, InMemory, SideEffects, Uncounted};

/// Checks that a program of this suite, which is to be started as `name`, is there.
///
/// # Errors
/// If it is not. The error names it, and the fix.
fn check_program(name: &str, program: &Path) -> Result<()> {
    // One without a folder is looked for in PATH.
    if program.parent().is_none_or(|folder| folder.as_os_str().is_empty()) || program.exists() {
        return Ok(());
    }
    Err(Error::new(format!("starting {name}: there is no {}", files::shown(program))).with_hint(
        "keep the programs of this suite in one folder, as `cargo install` and `cargo build --bins` do; or name a \
         system that runs already",
    ))
}

/// A system under test that was started or found, and checked.
pub trait System {
    /// Describes it, for results.
    fn describe(&self) -> SystemDescription;

    /// Returns the addresses of the system and of its database.
    fn addresses(&self) -> Addresses;

    /// Puts back the rows that these scenarios change, and begins to count their side effects. `stop` ends every wait.
    ///
    /// # Errors
    /// If the database or the system does not answer.
    fn begin_check(&self, scenarios: &[&dyn Scenario], stop: &Arc<AtomicBool>) -> Result<Box<dyn SideEffects + '_>>;

    /// Returns it if it is a certctl, or a server shaped like it.
    fn certctl(&self) -> Option<&CheckedCertctl> {
        None
    }

    /// Begins to replace its certificates, at this interval until the result is dropped; `None` if it has none that can
    /// be replaced.
    ///
    /// # Errors
    /// If the first replacement fails.
    fn rotate(&self, _every: Duration, _progress: &Arc<Progress>) -> Result<Option<Rotator>> {
        Ok(None)
    }
}

/// A certctl, or a server shaped like it, that the preflight has let through.
pub struct CheckedCertctl {
    /// The server.
    pub certctl: Certctl,
    /// Opens connections to the first of its addresses that answers.
    pub dialer: Dialer,
    /// Its ACME server's paths, where one was needed and found.
    pub acme: Option<Paths>,
}

impl CheckedCertctl {
    /// Returns one that is not there any more, to which nothing can be sent: for scenarios that add up answers.
    ///
    /// # Errors
    /// If its description has no URL of a server.
    pub fn offline(system: SystemDescription, acme: Option<Paths>) -> Result<Self> {
        let what =
            |error| Error::invalid(format!("the URL of the system, {}: {error}", foreign::line(&system.base_url)));
        let base: BaseUrl = system.base_url.parse().map_err(what)?;
        let dialer = Dialer::new(NOWHERE, base.server_name()?, tls::client_config(&Trust::Insecure)?);
        let certctl = Certctl { system, ..Certctl::external(base, Trust::Insecure, Token(String::new()), None) };
        Ok(Self { certctl, dialer, acme })
    }

    /// Returns its Host header.
    pub fn host(&self) -> String {
        self.certctl.base.host_header()
    }

    /// Returns its API key.
    pub fn token(&self) -> &str {
        self.certctl.token.reveal()
    }

    /// Returns the peer of requests to it.
    pub fn peer(&self) -> Peer {
        Peer::certctl(self.dialer.clone(), &self.host())
    }

    /// Returns the paths of its ACME server.
    ///
    /// # Errors
    /// If no scenario needed it, so that the preflight did not look for it.
    pub fn acme(&self) -> Result<&Paths> {
        self.acme.as_ref().ok_or_else(|| Error::new("the preflight did not look for an ACME server"))
    }

    /// Reports whether ACME requests leave audit rows, as they do in certctl as built.
    pub fn audits_acme(&self) -> bool {
        self.certctl.system.behaviour == Behaviour::AsBuilt
    }
}

impl System for CheckedCertctl {
    fn describe(&self) -> SystemDescription {
        let address = (!self.certctl.base.is_address()).then(|| self.dialer.address().to_string());
        SystemDescription { address, ..self.certctl.system.clone() }
    }

    fn addresses(&self) -> Addresses {
        Addresses { system: vec![self.dialer.address()], rows: self.certctl.rows() }
    }

    fn begin_check(&self, scenarios: &[&dyn Scenario], stop: &Arc<AtomicBool>) -> Result<Box<dyn SideEffects + '_>> {
        Ok(match (&self.certctl.database, self.certctl.system.kind) {
            (Some(url), _) => {
                let mut database = seed::open(url, self.certctl.allow_foreign_rows)?;
                for scenario in scenarios {
                    scenario.begin_check(&mut database)?;
                }
                Box::new(InDatabase(database))
            }
            (None, SystemKind::Reference) => {
                let before = reference::counts(&self.certctl, &self.dialer, stop)?;
                Box::new(InMemory { server: self, before, stop: stop.clone() })
            }
            (None, _) => Box::new(Uncounted),
        })
    }

    fn certctl(&self) -> Option<&CheckedCertctl> {
        Some(self)
    }
}

impl System for Connectors {
    fn describe(&self) -> SystemDescription {
        self.description()
    }

    fn addresses(&self) -> Addresses {
        Addresses { system: self.listening(), rows: Rows::Nowhere }
    }

    fn begin_check(&self, _scenarios: &[&dyn Scenario], _stop: &Arc<AtomicBool>) -> Result<Box<dyn SideEffects + '_>> {
        Ok(Box::new(AtConnectors(self, self.f5_counts()?)))
    }

    fn rotate(&self, every: Duration, progress: &Arc<Progress>) -> Result<Option<Rotator>> {
        Rotator::start(self, every, progress.clone()).map(Some)
    }
}

/// The addresses of a system and its database.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// The addresses that receive the load.
    pub system: Vec<SocketAddr>,
    /// The database behind them.
    pub rows: Rows,
}

/// A certctl, or a server shaped like it. Dropping it stops the processes that were started for it.
pub struct Certctl {
    /// Its address.
    pub base: BaseUrl,
    /// The verification of its certificate.
    pub trust: Trust,
    /// The API key that requests are sent with.
    pub token: Token,
    /// Its description, for results.
    pub system: SystemDescription,
    /// Its database, where side effects can be checked by SQL.
    pub database: Option<String>,
    /// True if its database may hold rows from neither this suite nor certctl's demo seed.
    pub allow_foreign_rows: bool,
    // Dropped, and so stopped, in this order.
    server: Option<Mutex<Child>>,
    _cluster: Option<Cluster>,
    _prepared: Option<Box<PreparedCertctl>>,
}

/// The place of a system's rows.
#[derive(Clone, Debug, Default)]
pub enum Rows {
    /// In the database of this URL.
    Database(String),
    /// In a database whose URL is not known.
    Unnamed,
    /// In no database.
    #[default]
    Nowhere,
}

/// A system under test, as results describe it: beside every figure of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SystemDescription {
    /// Its kind.
    pub kind: SystemKind,
    /// Its base URL.
    pub base_url: String,
    /// The one address of its host that is loaded; absent where the URL has an address. Connectors have theirs among
    /// the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its version, as it reports it.
    pub version: String,
    /// The SHA-256 of the binary that it was started from, in hexadecimal digits; absent where it ran already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_sha256: Option<String>,
    /// The SHA-256 of what `sha256sum *.sql` prints in the folder of the migrations that it was started with; absent
    /// where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations_sha256: Option<String>,
    /// The presence of certctl's known defects in it.
    pub behaviour: Behaviour,
    /// The store that keeps its rows.
    pub store: Store,
    /// The verification of its certificate, or its absence.
    pub trust: String,
    /// Settings on which its speed depends, where they are known.
    pub settings: Map<String, Value>,
}

/// The kinds of system: figures of one are never another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SystemKind {
    /// A certctl.
    Certctl,
    /// The reference server.
    Reference,
    /// The daemons behind certctl's connectors.
    Connectors,
    /// An ACME server other than certctl.
    AcmeServer,
}

/// The state of certctl's known defects in a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// With the defects that scenarios meet.
    #[default]
    AsBuilt,
    /// Without them.
    AsDocumented,
    /// A reference server that does not report it.
    #[value(skip)]
    Unknown,
}

/// The store of a system's rows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Store {
    /// A PostgreSQL.
    Postgresql {
        /// Its version.
        version: String,
        /// True if it was started for the run.
        private: bool,
    },
    /// The server's memory.
    InMemory,
    /// The one that certctl was set up with.
    ItsOwn,
    /// None.
    None,
}

/// The version that a server reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerVersion {
    /// Its version, and its commit if it has one.
    pub version: String,
    /// The state of certctl's known defects in a reference server; certctl reports nothing of the kind.
    pub behaviour: Option<String>,
}

/// An address at which nothing listens.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// The wait for the end of a server that may just have closed its sockets: they close before it has ended.
const ENDING: Duration = Duration::from_millis(50);
/// The name among the settings of a certctl that is loaded before the work of its start has ended: its figures are
/// not those of a quiet one.
const STILL_AT_WORK: &str = "still_at_work";
/// The name among the settings of the way in which a certctl's database was changed: its figures are not those of a
/// stock one.
const PATCHED: &str = "patched_database";
/// The beginning of a reference server's version.
const REFERENCE_VERSION: &str = "certctl-reference ";

impl ServerVersion {
    /// Returns that of a server that does not report its own.
    pub fn unknown() -> Self {
        Self { version: "unknown".to_owned(), behaviour: None }
    }
}

impl SystemKind {
    /// Returns its word in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Certctl => "certctl",
            Self::Reference => "reference",
            Self::Connectors => "connectors",
            Self::AcmeServer => "acme-server",
        }
    }
}

impl Behaviour {
    /// Returns its word in results, and on the reference server's command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AsBuilt => "as-built",
            Self::AsDocumented => "as-documented",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the behaviour that a reference server reports by its word.
    pub fn reported(word: Option<&str>) -> Self {
        let known = [Self::AsBuilt, Self::AsDocumented];
        known.into_iter().find(|one| Some(one.label()) == word).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for SystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgresql { version, private } => {
                write!(f, "postgresql {version}{}", if *private { " (private)" } else { "" })
            }
            Self::InMemory => f.write_str("in-memory"),
            Self::ItsOwn => f.write_str("its own"),
            Self::None => f.write_str("none"),
        }
    }
}

impl SystemDescription {
    /// Records the version that a server reported. A reference server that runs already is recognised by it, and
    /// reports its behaviour.
    pub fn answered(&mut self, reported: &ServerVersion) {
        match reported.version.strip_prefix(REFERENCE_VERSION) {
            Some(version) => {
                self.kind = SystemKind::Reference;
                self.version = version.to_owned();
                self.behaviour = Behaviour::reported(reported.behaviour.as_deref());
            }
            None => self.version.clone_from(&reported.version),
        }
    }

    /// Returns the settings of a server that was started, by name: those that differ from its defaults.
    pub fn certctl_settings(&self) -> Option<&Map<String, Value>> {
        self.settings.get("certctl")?.as_object()
    }

    /// Reports whether a certctl that was started had not ended the work of its start when it was loaded.
    pub fn still_at_work(&self) -> bool {
        self.settings.contains_key(STILL_AT_WORK)
    }

    /// Records that the database is not a stock certctl's, if it is a certctl and that is not known yet; `how` states
    /// the changes, or who says so.
    pub fn patched(&mut self, how: &str) {
        if self.kind == SystemKind::Certctl {
            self.settings.entry(PATCHED).or_insert_with(|| how.into());
        }
    }

    /// Returns the words of [`Self::patched`].
    pub fn patch(&self) -> Option<&str> {
        self.settings.get(PATCHED)?.as_str()
    }

    /// Records that it is an ACME server other than certctl.
    pub fn is_acme_server_alone(&mut self) {
        self.kind = SystemKind::AcmeServer;
        self.behaviour = Behaviour::Unknown;
    }

    /// Returns the word for it in the id of a benchmark: `certctl`, `reference-postgresql`, `reference-in-memory`.
    pub fn label(&self) -> String {
        let store = match self.store {
            Store::Postgresql { .. } => "-postgresql",
            Store::InMemory => "-in-memory",
            Store::ItsOwn | Store::None => "",
        };
        format!("{}{store}", self.kind)
    }
}

impl Certctl {
    /// Creates a certctl that runs already.
    pub fn external(base: BaseUrl, trust: Trust, token: Token, database: Option<String>) -> Self {
        let system = SystemDescription {
            kind: SystemKind::Certctl,
            base_url: base.to_string(),
            address: None,
            version: "unknown".to_owned(),
            binary_sha256: None,
            migrations_sha256: None,
            behaviour: Behaviour::AsBuilt,
            store: Store::ItsOwn,
            trust: trust.to_string(),
            settings: Map::new(),
        };
        Self {
            base,
            trust,
            token,
            system,
            database,
            allow_foreign_rows: false,
            server: None,
            _cluster: None,
            _prepared: None,
        }
    }

    /// Reports whether its database was made for the run and ends with it, so that all of its rows may be changed.
    pub fn has_private_database(&self) -> bool {
        matches!(self.system.store, Store::Postgresql { private: true, .. })
    }

    /// Returns the error of a server that was started here and has ended, with its last words; `None` if it runs, or if
    /// it was not started here.
    pub fn ended(&self) -> Option<Error> {
        let mut server = self.server.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        match server.wait(ENDING) {
            Ok(None) => None,
            Ok(Some(_)) => Some(server.failure("it ended after its start")),
            Err(error) => Some(error),
        }
    }

    /// Returns the place of its rows.
    pub fn rows(&self) -> Rows {
        match &self.database {
            Some(url) => Rows::Database(url.clone()),
            // A server that was started without a database keeps them in memory.
            None if self.server.is_some() => Rows::Nowhere,
            None => Rows::Unnamed,
        }
    }
}

/// An API key. It is never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a key from the user and registers it as a secret, so that no foreign text shows it from now on.
    pub fn new(text: String) -> Self {
        foreign::keep_secret(&text, "[token]");
        Self(text)
    }

    /// Generates a random key for a server that is started here.
    ///
    /// # Errors
    /// If the kernel provides no random bytes.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 16];
        let mut source = std::fs::File::open("/dev/urandom").context(|| "opening /dev/urandom".to_owned())?;
        source.read_exact(&mut bytes).context(|| "reading /dev/urandom".to_owned())?;
        Ok(Self::new(hex(&bytes)))
    }

    /// Returns the key itself, for the code that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
