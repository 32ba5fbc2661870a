//! Where: the system under test. It runs already, or we start and stop it. Only its preflight
//! knows what will be asked of it.

pub mod advice;
pub mod base;
pub mod child;
pub mod connectors;
pub mod counts;
pub mod doctor;
pub mod evidence;
pub mod f5;
pub mod keeper;
pub mod meter;
pub mod occupants;
pub mod offer;
pub mod pki;
pub mod postgres;
pub mod preflight;
pub mod probe;
pub mod reference;
pub mod rotor;
pub mod seed;
pub mod sidecar;

use std::fmt;
use std::io::Read as _;

use serde_json::{Map, Value};

use crate::error::{Context, Result};
use crate::foreign;
use crate::wire::tls::Trust;
use base::Base;
use child::Child;
use occupants::Rows;
use postgres::Cluster;

/// A system under test. Dropping it stops what was started for it.
pub struct Target {
    /// Its address.
    pub base: Base,
    /// How its certificate is verified.
    pub trust: Trust,
    /// What authenticates us.
    pub token: Token,
    /// What it is, for results.
    pub system: System,
    /// Its database, where work can be checked by SQL.
    pub database: Option<String>,
    /// Whether its database may hold rows that are neither ours nor certctl's demo ones.
    pub allow_foreign_rows: bool,
    // In the order in which they stop.
    server: Option<Child>,
    _cluster: Option<Cluster>,
}

/// What a system under test is: a number names its system.
#[derive(Clone, Debug)]
pub struct System {
    /// `certctl` for one that ran already, `reference` for the reference server.
    pub kind: &'static str,
    /// Its version, as it says itself.
    pub version: String,
    /// Whether known defects of certctl are `as-built` or `as-documented`.
    pub behaviour: String,
    /// What keeps its rows.
    pub store: String,
    /// Settings that its speed depends on, where they are known.
    pub settings: Map<String, Value>,
}

/// What a server tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its version, and its commit where it has one.
    pub version: String,
    /// Of a reference server: which of certctl's defects it has. certctl tells nothing of the kind.
    pub behaviour: Option<String>,
}

/// How a reference server's version begins.
const REFERENCE_VERSION: &str = "certctl-reference ";

impl System {
    /// Takes note of what a server tells. A reference server that runs already is no certctl, and says how it behaves.
    pub fn answered(&mut self, told: &Version) {
        match told.version.strip_prefix(REFERENCE_VERSION) {
            Some(version) => {
                self.kind = "reference";
                self.version = version.to_owned();
                self.behaviour = told.behaviour.clone().unwrap_or_else(|| "unknown".to_owned());
            }
            None => self.version.clone_from(&told.version),
        }
    }

    /// What it is, in a word for the id of a benchmark: `certctl`, `reference-postgresql`, `reference-in-memory`.
    pub fn label(&self) -> String {
        match (self.kind, self.store.split(' ').next()) {
            ("reference", Some(store)) => format!("reference-{store}"),
            (kind, _) => kind.to_owned(),
        }
    }
}

impl Target {
    /// A system that runs already.
    pub fn external(base: Base, trust: Trust, token: Token, database: Option<String>) -> Self {
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
            // A server of ours that was given none has them in memory.
            None if self.server.is_some() => Rows::Nowhere,
            None => Rows::Unnamed,
        }
    }
}

/// An API key. It is never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a key that the user gave. No text of others shows it from now on.
    pub fn new(text: String) -> Self {
        foreign::keep_secret(&text, "[token]");
        Self(text)
    }

    /// Makes a random key for a server that we start.
    ///
    /// # Errors
    /// If the kernel gives no random bytes.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 16];
        let mut source = std::fs::File::open("/dev/urandom").context(|| "opening /dev/urandom".to_owned())?;
        source.read_exact(&mut bytes).context(|| "reading /dev/urandom".to_owned())?;
        Ok(Self::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The key itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
