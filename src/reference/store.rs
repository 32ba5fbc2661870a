//! The store of agents, certificates and their versions, jobs, revocations, nonces, grants and audit rows.

pub mod acme_rows;
pub mod certificate_rows;
pub mod job_rows;
pub mod memory;
pub mod notification_rows;
pub mod postgres;
pub mod profile_rows;
pub mod publication_rows;
pub mod revocation_rows;
mod schema;
pub mod version_rows;

use std::fmt;
use std::future::Future;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;

use self::acme_rows::AcmeStore;
use self::certificate_rows::CertificateStore;
use self::job_rows::JobStore;
use self::notification_rows::NotificationStore;
use self::profile_rows::ProfileStore;
use self::publication_rows::PublicationStore;
use self::revocation_rows::RevocationStore;
use self::version_rows::VersionStore;

/// The only tenant.
pub const TENANT: &str = "t-default";
/// The type under which API keys hold roles.
pub const ACTOR_TYPE: &str = "APIKey";
/// The status that spares a heartbeat its second UPDATE; certctl compares it exactly.
pub const ONLINE: &str = "Online";

/// The operations that requests need of a store. Each method is one statement of certctl's, or those that it names, in
/// their order; each statement outside a transaction takes whichever connection is free.
pub trait Store:
    CertificateStore
    + VersionStore
    + ProfileStore
    + JobStore
    + RevocationStore
    + PublicationStore
    + NotificationStore
    + AcmeStore
    + Send
    + Sync
    + 'static
{
    /// Checks that the store answers at all.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the ids of the actor's roles, oldest grant first.
    fn roles(&self, actor: &str) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;
    /// Returns all permissions of the actor: certctl fetches every one to check one.
    fn permissions(&self, actor: &str) -> impl Future<Output = Result<Vec<Permission>, StoreError>> + Send;
    /// Returns the agent of this id, retired or not.
    fn agent(&self, id: &str) -> impl Future<Output = Result<Option<Agent>, StoreError>> + Send;
    /// Returns all agents that are not retired.
    fn agents(&self) -> impl Future<Output = Result<Vec<Agent>, StoreError>> + Send;
    /// Sets the heartbeat's time, and the metadata that is not empty, unless the agent is retired; false when no
    /// agent was touched.
    fn record_heartbeat(
        &self,
        id: &str,
        at: SystemTime,
        metadata: Option<&Metadata>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Writes a whole agent over the one of its id.
    fn rewrite_agent(&self, agent: &Agent) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Appends an audit row to the hash chain; one at a time in the whole system.
    fn append_audit(&self, event: &AuditEvent) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A store's name and the settings worth knowing beside a result.
pub struct Settings {
    /// Such as `postgresql 15.18` or `in-memory`.
    pub store: String,
    /// Settings by name.
    pub values: Map<String, Value>,
}

/// A role given to a key at boot.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub actor: &'static str,
    pub role: &'static str,
}

/// A permission in its scope.
#[derive(Clone, Debug)]
pub struct Permission {
    pub name: String,
    pub scope_type: String,
    pub scope_id: Option<String>,
}

/// A row of the agents table.
#[derive(Clone, Debug)]
pub struct Agent {
    pub id: String,
    pub name: String,
    pub hostname: String,
    pub status: String,
    pub last_heartbeat_at: Option<SystemTime>,
    pub registered_at: SystemTime,
    pub api_key_hash: String,
    pub os: String,
    pub architecture: String,
    pub ip_address: String,
    pub version: String,
    pub retired_at: Option<SystemTime>,
    pub retired_reason: Option<String>,
}

/// An agent's description of itself in a heartbeat; an empty value is one that was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Metadata {
    #[serde(deserialize_with = "null_is_empty")]
    pub version: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub hostname: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub os: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub architecture: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub ip_address: String,
}

/// Reads null as an empty string, as Go does.
fn null_is_empty<'de, D: Deserializer<'de>>(decoder: D) -> Result<String, D::Error> {
    Option::deserialize(decoder).map(Option::unwrap_or_default)
}

impl Metadata {
    /// Returns true if no value was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Writes the values that were given into the agent.
    pub fn apply(&self, agent: &mut Agent) {
        let fields = [
            (&self.version, &mut agent.version),
            (&self.hostname, &mut agent.hostname),
            (&self.os, &mut agent.os),
            (&self.architecture, &mut agent.architecture),
            (&self.ip_address, &mut agent.ip_address),
        ];
        for (new, current) in fields.into_iter().filter(|(new, _)| !new.is_empty()) {
            current.clone_from(new);
        }
    }
}

/// A row for the audit table, without its hashes.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    pub id: String,
    pub actor: String,
    pub actor_type: &'static str,
    pub action: String,
    pub resource_type: &'static str,
    pub resource_id: String,
    /// A JSON object.
    pub details: String,
    pub at: SystemTime,
    pub category: &'static str,
}

/// The error of a store; it carries no credential.
#[derive(Debug)]
pub struct StoreError {
    message: String,
    violation: Option<Violation>,
}

/// A rule of the schema that a new row breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A value that must be unique is there already.
    Duplicate,
    /// A row that is referred to does not exist.
    UnknownReference,
}

impl StoreError {
    /// Returns an error with the messages of all its causes.
    pub fn new(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some libraries print their cause themselves.
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self { message, violation: None }
    }

    /// Returns the error of a broken rule.
    pub fn violation_of(violation: Violation, message: impl Into<String>) -> Self {
        Self { message: message.into(), violation: Some(violation) }
    }

    /// Returns an error with this message alone.
    pub fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), violation: None }
    }

    /// Returns the rule that was broken, if that was the reason.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let violation = match error.code() {
            Some(&SqlState::UNIQUE_VIOLATION) => Some(Violation::Duplicate),
            Some(&SqlState::FOREIGN_KEY_VIOLATION) => Some(Violation::UnknownReference),
            _ => None,
        };
        Self { violation, ..Self::new(&error) }
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            error => Self::new(&error),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(&error)
    }
}
