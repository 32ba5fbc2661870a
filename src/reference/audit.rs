//! The audit log: one row per authenticated request, inserted without delaying the response, and one per change to a
//! certificate or a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use certctl_bench::servers::hex;
use certctl_bench::terminal;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::app::Gauge;
use crate::ids::Ids;
use crate::store::{AuditEvent, Store, StoreError};

/// The most rows under way. certctl has no bound here; beyond this one rows are dropped and counted, so that an
/// overload cannot use up the memory.
const MAX_PENDING: usize = 100_000;

/// A log that inserts audit rows and counts them.
pub struct AuditLog<S> {
    store: Arc<S>,
    ids: Arc<Ids>,
    pending: Gauge,
    counts: Arc<Counts>,
}

/// The numbers of rows by their result.
#[derive(Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// A change as its audit row describes it.
pub struct Change<'a> {
    pub actor: &'a str,
    pub actor_type: &'static str,
    pub action: &'static str,
    pub resource_type: &'static str,
    pub resource_id: &'a str,
    pub details: Value,
}

impl<'a> Change<'a> {
    /// Returns a change to certificates that a key requested.
    pub fn by_key(actor: &'a str, action: &'static str, certificate_id: &'a str, details: Value) -> Self {
        let (actor_type, resource_type) = ("User", "certificate");
        Self { actor, actor_type, action, resource_type, resource_id: certificate_id, details }
    }

    /// Returns a change to a certificate by the server itself.
    pub fn by_system(action: &'static str, certificate_id: &'a str, details: Value) -> Self {
        Self { actor_type: "System", ..Self::by_key("system", action, certificate_id, details) }
    }

    /// Returns a change by an agent.
    pub fn by_agent(
        agent_id: &'a str,
        action: &'static str,
        resource_type: &'static str,
        resource_id: &'a str,
        details: Value,
    ) -> Self {
        Self { actor: agent_id, actor_type: "Agent", action, resource_type, resource_id, details }
    }
}

/// A request as its audit row describes it.
pub struct Call<'a> {
    pub actor: &'static str,
    pub method: &'a Method,
    pub path: &'a str,
    pub body: &'a [u8],
    pub status: StatusCode,
    pub latency: Duration,
}

impl<S: Store> AuditLog<S> {
    /// Returns a log into this store.
    pub fn new(store: Arc<S>, ids: Arc<Ids>) -> Self {
        Self { store, ids, pending: Gauge::default(), counts: Arc::default() }
    }

    /// Starts the insert and does not wait for it, as certctl does: on whichever connection is free, without a retry.
    pub fn record(&self, call: &Call<'_>) {
        if self.pending.count() >= MAX_PENDING {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let event = call.event(self.ids.row("audit"));
        let (store, counts, guard) = (Arc::clone(&self.store), Arc::clone(&self.counts), self.pending.enter());
        tokio::spawn(async move {
            counts.note(store.append_audit(&event).await);
            drop(guard);
        });
    }

    /// Inserts a row about a change, and waits for it. A failure is only counted.
    pub async fn append(&self, change: &Change<'_>) {
        let event = self.event(change);
        let _guard = self.pending.enter();
        self.counts.note(self.store.append_audit(&event).await);
    }

    /// Returns the row about a change that a transaction is to insert; [`Self::inserted`] counts it afterwards.
    pub fn event(&self, change: &Change<'_>) -> AuditEvent {
        AuditEvent {
            id: self.ids.row("audit"),
            actor: change.actor.to_owned(),
            actor_type: change.actor_type,
            action: change.action.to_owned(),
            resource_type: change.resource_type,
            resource_id: change.resource_id.to_owned(),
            details: change.details.to_string(),
            at: SystemTime::now(),
            category: "cert_lifecycle",
        }
    }

    /// Counts a row that a transaction has inserted.
    pub fn inserted(&self) {
        self.counts.note(Ok(()));
    }

    /// Returns the number of rows under way.
    pub fn pending(&self) -> usize {
        self.pending.count()
    }

    /// Returns the numbers of rows written, failed, and dropped.
    pub fn totals(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.counts.written), read(&self.counts.failed), read(&self.counts.dropped))
    }
}

impl Counts {
    fn note(&self, outcome: Result<(), StoreError>) {
        match outcome {
            Ok(()) => {
                self.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                // Only the first: a database that is gone would fill the parent's log.
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    terminal::message(format_args!(
                        "certctl-reference: an audit row was lost: {error}; later ones are only counted\n"
                    ));
                }
            }
        }
    }
}

impl Call<'_> {
    fn event(&self, id: String) -> AuditEvent {
        #[derive(Serialize)]
        struct Details<'a> {
            body_hash: &'a str,
            latency_ms: u128,
            method: &'a str,
            path: &'a str,
            status: u16,
        }
        let method = self.method.as_str();
        let details = Details {
            body_hash: &body_hash(self.body),
            latency_ms: self.latency.as_millis(),
            method,
            path: self.path,
            status: self.status.as_u16(),
        };
        AuditEvent {
            id,
            actor: self.actor.to_owned(),
            actor_type: "User",
            action: format!("api_{}", method.to_ascii_lowercase()),
            resource_type: "api",
            resource_id: self.path.to_owned(),
            // Strings and numbers under string keys always serialise.
            details: serde_json::to_string(&details).unwrap_or_default(),
            at: SystemTime::now(),
            category: "cert_lifecycle",
        }
    }
}

/// Returns the body's SHA-256 in hex; empty for an empty body.
fn body_hash(body: &[u8]) -> String {
    if body.is_empty() { String::new() } else { hex(&Sha256::digest(body)) }
}
