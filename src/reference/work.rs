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

    /// Counts so many more.
    pub fn add(&self, more: usize) {
        // Lossless: no machine has more than 64 bits.
        self.0.fetch_add(more as u64, Ordering::Relaxed);
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
    /// Jobs inserted by requests to renew one certificate or many.
    pub renewals_enqueued: Count,
    /// Certificates that bulk renewals matched and skipped.
    pub renewals_skipped: Count,
    /// ACME nonces inserted.
    pub nonces_issued: Count,
    /// Certificates signed for agents.
    pub csrs_signed: Count,
    /// Certificates signed by the job processor.
    pub jobs_signed: Count,
    /// Deployments that polls handed out.
    pub deployments_claimed: Count,
    /// Deployments reported as completed.
    pub deployments_completed: Count,
    /// Reports on jobs answered with 200.
    pub statuses_reported: Count,
    /// Certificates fetched by agents.
    pub certificates_fetched: Count,
    /// Certificates revoked, alone or among many.
    pub revocations: Count,
    /// OCSP requests answered with a status.
    pub ocsp_answers: Count,
    /// OCSP responses signed; the other answers were kept ones.
    pub ocsp_signed: Count,
    /// OCSP requests beyond the limit.
    pub ocsp_limited: Count,
    /// CRLs answered with 200 or 304.
    pub crl_answers: Count,
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
            ("csrs_signed", &self.csrs_signed),
            ("jobs_signed", &self.jobs_signed),
            ("deployments_claimed", &self.deployments_claimed),
            ("deployments_completed", &self.deployments_completed),
            ("statuses_reported", &self.statuses_reported),
            ("certificates_fetched", &self.certificates_fetched),
            ("revocations", &self.revocations),
            ("ocsp_answers", &self.ocsp_answers),
            ("ocsp_signed", &self.ocsp_signed),
            ("ocsp_limited", &self.ocsp_limited),
            ("crl_answers", &self.crl_answers),
        ];
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.get().into())).collect()
    }
}
