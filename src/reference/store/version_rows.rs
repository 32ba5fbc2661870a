//! Issued versions of certificates.

use std::future::Future;
use std::time::SystemTime;

use serde::Serialize;

use super::certificate_rows::Certificate;
use super::{AuditEvent, StoreError};
use crate::clock;

/// The operations that signing needs of a store.
pub trait VersionStore {
    /// Inserts a version.
    fn insert_version(&self, new: &CertificateVersion) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Inserts a version, writes its certificate and appends an audit row, in one transaction.
    fn insert_renewal(
        &self,
        new: &CertificateVersion,
        certificate: &Certificate,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns all versions of a certificate, the newest first.
    fn versions(
        &self,
        certificate_id: &str,
    ) -> impl Future<Output = Result<Vec<CertificateVersion>, StoreError>> + Send;
    /// Returns the newest version of a certificate.
    fn latest_version(
        &self,
        certificate_id: &str,
    ) -> impl Future<Output = Result<Option<CertificateVersion>, StoreError>> + Send;
    /// Returns the certificate of which a version has this serial number: one statement for its row, which no index
    /// helps, and a second for its targets.
    fn certificate_by_serial(
        &self,
        issuer_id: &str,
        serial: &str,
    ) -> impl Future<Output = Result<Option<Certificate>, StoreError>> + Send;
}

/// A row of the table of versions. The order of the fields is that of certctl's JSON.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateVersion {
    pub id: String,
    pub certificate_id: String,
    pub serial_number: String,
    #[serde(serialize_with = "clock::serialize")]
    pub not_before: SystemTime,
    #[serde(serialize_with = "clock::serialize")]
    pub not_after: SystemTime,
    pub fingerprint_sha256: String,
    /// The certificate, an empty line, and the authority's.
    pub pem_chain: String,
    /// The signing request; of a key made by the server the private key, as in certctl.
    pub csr_pem: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_algorithm: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub key_size: i32,
    #[serde(serialize_with = "clock::serialize")]
    pub created_at: SystemTime,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}
