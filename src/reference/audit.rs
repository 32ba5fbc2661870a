//! The audit log: one row per authenticated request, inserted without delaying the response, and one per bulk renewal.

use std::borrow::Cow;
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

    /// Inserts a row about a change to certificates, and waits for it. A failure is only counted.
    pub async fn append(&self, actor: &'static str, action: &str, resource_id: &str, details: String) {
        let event = self.row(actor.into(), action, "certificate", resource_id, details);
        let _guard = self.pending.enter();
        self.counts.note(self.store.append_audit(&event).await);
    }

    /// Returns a row about a change, for the transaction that makes the change.
    pub fn event(
        &self,
        actor: String,
        action: &str,
        resource_type: &'static str,
        resource_id: &str,
        details: &Value,
    ) -> AuditEvent {
        self.row(actor.into(), action, resource_type, resource_id, details.to_string())
    }

    fn row(
        &self,
        actor: Cow<'static, str>,
        action: &str,
        resource_type: &'static str,
        resource_id: &str,
        details: String,
    ) -> AuditEvent {
        AuditEvent {
            id: self.ids.row("audit"),
            actor,
            actor_type: "User",
            action: action.to_owned(),
            resource_type,
            resource_id: resource_id.to_owned(),
            details,
            at: SystemTime::now(),
            category: "cert_lifecycle",
        }
    }

    /// Counts a row that a transaction has written.
    pub fn written_within(&self) {
        self.counts.written.fetch_add(1, Ordering::Relaxed);
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
            actor: self.actor.into(),
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
