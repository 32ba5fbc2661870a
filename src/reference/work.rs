//! Counts of work done since the start, made before the answer goes out, so that a run can be checked against them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

/// A count that only grows.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one more.
    pub fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The work done, by kind.
#[derive(Default)]
pub struct Work {
    /// Heartbeats answered with 200.
    pub heartbeats: Count,
    /// Certificates inserted by request.
    pub certificates_created: Count,
    /// Lists of certificates answered with 200 or 304.
    pub certificates_listed: Count,
    /// Polls for work answered with 200.
    pub polls: Count,
    /// Jobs inserted by bulk renewals.
    pub renewals_enqueued: Count,
    /// Certificates that bulk renewals matched and skipped.
    pub renewals_skipped: Count,
    /// ACME nonces inserted.
    pub nonces_issued: Count,
}

impl Work {
    /// Returns all counts by name.
    pub fn by_name(&self) -> Map<String, Value> {
        let counts = [
            ("heartbeats", &self.heartbeats),
            ("certificates_created", &self.certificates_created),
            ("certificates_listed", &self.certificates_listed),
            ("polls", &self.polls),
            ("renewals_enqueued", &self.renewals_enqueued),
            ("renewals_skipped", &self.renewals_skipped),
            ("nonces_issued", &self.nonces_issued),
        ];
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.get().into())).collect()
    }
}
