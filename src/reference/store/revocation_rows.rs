//! Revocations.

use std::future::Future;
use std::time::SystemTime;

use super::certificate_rows::Certificate;
use super::{AuditEvent, StoreError};

/// The operations that revocation needs of a store.
pub trait RevocationStore {
    /// Writes a revoked certificate, inserts its revocation unless the serial number has one, and appends an audit row,
    /// in one transaction.
    fn insert_revocation(
        &self,
        certificate: &Certificate,
        new: &Revocation,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the revocations of a certificate.
    fn revocations_of_certificate(
        &self,
        certificate_id: &str,
    ) -> impl Future<Output = Result<Vec<Revocation>, StoreError>> + Send;
    /// Returns the revocations of an issuer, the oldest first.
    fn revocations_of_issuer(
        &self,
        issuer_id: &str,
    ) -> impl Future<Output = Result<Vec<Revocation>, StoreError>> + Send;
    /// Returns the revocation of this serial number.
    fn revocation(
        &self,
        issuer_id: &str,
        serial: &str,
    ) -> impl Future<Output = Result<Option<Revocation>, StoreError>> + Send;
    /// Records that the issuer knows of a revocation.
    fn mark_issuer_notified(&self, id: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A row of the table of revocations.
#[derive(Clone, Debug)]
pub struct Revocation {
    pub id: String,
    pub certificate_id: String,
    pub serial_number: String,
    /// A reason by its name, such as `keyCompromise`.
    pub reason: String,
    pub revoked_by: String,
    pub revoked_at: SystemTime,
    pub issuer_id: String,
}
