//! The system under test: one that runs already, or one that a run starts and stops. Only its preflight depends on the
//! requests to come.

pub mod advice;
pub mod base_url;
pub mod connectors;
pub mod counters;
pub mod f5;
pub mod probe;
pub mod reference;
pub mod rotator;

use std::fmt;
use std::io::Read as _;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Context, Result};
use crate::foreign;
use crate::provision::child::Child;
use crate::provision::postgres::Cluster;
use crate::wire::tls::Trust;
use base_url::BaseUrl;

/// A system under test. Dropping it stops the processes that were started for it.
pub struct Target {
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
    server: Option<Child>,
    _cluster: Option<Cluster>,
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
    /// The state of certctl's known defects in it.
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
    /// A certctl, which ran already.
    Certctl,
    /// The reference server.
    Reference,
    /// The daemons behind certctl's connectors.
    Connectors,
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

/// The beginning of a reference server's version.
const REFERENCE_VERSION: &str = "certctl-reference ";

impl SystemKind {
    /// Returns its word in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Certctl => "certctl",
            Self::Reference => "reference",
            Self::Connectors => "connectors",
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

impl Target {
    /// Creates the description of a system that runs already.
    pub fn external(base: BaseUrl, trust: Trust, token: Token, database: Option<String>) -> Self {
        let system = SystemDescription {
            kind: SystemKind::Certctl,
            base_url: base.to_string(),
            address: None,
            version: "unknown".to_owned(),
            behaviour: Behaviour::AsBuilt,
            store: Store::ItsOwn,
            trust: trust.to_string(),
            settings: Map::new(),
        };
        Self { base, trust, token, system, database, allow_foreign_rows: false, server: None, _cluster: None }
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
        Ok(Self::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the key itself, for the code that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
