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

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;

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
    pub system: System,
    /// Its database, where side effects can be checked by SQL.
    pub database: Option<String>,
    /// True if its database may hold rows from neither this suite nor certctl's demo seed.
    pub allow_foreign_rows: bool,
    // Dropped, and so stopped, in this order.
    server: Option<Child>,
    _cluster: Option<Cluster>,
}

/// The description of a system under test, which stands beside every figure of it.
#[derive(Clone, Debug)]
pub struct System {
    /// `certctl` for a system that ran already, `reference` for the reference server.
    pub kind: &'static str,
    /// Its version, as it reports it.
    pub version: String,
    /// `as-built` or `as-documented`: the state of certctl's known defects in it.
    pub behaviour: String,
    /// The store of its rows.
    pub store: String,
    /// Settings that its speed depends on, where they are known.
    pub settings: Map<String, Value>,
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

/// A system under test, as results describe it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SystemDescription {
    /// `certctl`, `reference` or `connectors`: figures of one are never another's.
    pub kind: Cow<'static, str>,
    /// Its base URL.
    pub base_url: String,
    /// The one address of its host that is loaded; absent where the URL has an address. Connectors have theirs among
    /// the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its version, as it reports it.
    pub version: String,
    /// `as-built` or `as-documented`.
    pub behaviour: String,
    /// The store that keeps its rows.
    pub store: String,
    /// The verification of its certificate, or its absence.
    pub trust: String,
    /// Settings on which its speed depends, where they are known.
    pub settings: Map<String, Value>,
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

impl System {
    /// Records the version that a server reported. A reference server that runs already is recognised by it, and
    /// reports its behaviour.
    pub fn answered(&mut self, told: &ServerVersion) {
        match told.version.strip_prefix(REFERENCE_VERSION) {
            Some(version) => {
                self.kind = "reference";
                self.version = version.to_owned();
                self.behaviour = told.behaviour.clone().unwrap_or_else(|| "unknown".to_owned());
            }
            None => self.version.clone_from(&told.version),
        }
    }

    /// Returns the word for it in the id of a benchmark: `certctl`, `reference-postgresql`, `reference-in-memory`.
    pub fn label(&self) -> String {
        match (self.kind, self.store.split(' ').next()) {
            ("reference", Some(store)) => format!("reference-{store}"),
            (kind, _) => kind.to_owned(),
        }
    }
}

impl Target {
    /// Creates the description of a system that runs already.
    pub fn external(base: BaseUrl, trust: Trust, token: Token, database: Option<String>) -> Self {
        let system = System {
            kind: "certctl",
            version: "unknown".to_owned(),
            behaviour: "as-built".to_owned(),
            store: "its own".to_owned(),
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

impl SystemDescription {
    /// Describes a certctl or the reference server.
    pub fn of(target: &Target) -> Self {
        let system = &target.system;
        Self {
            kind: system.kind.into(),
            base_url: target.base.to_string(),
            address: None,
            version: system.version.clone(),
            behaviour: system.behaviour.clone(),
            store: system.store.clone(),
            trust: target.trust.to_string(),
            settings: system.settings.clone(),
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
