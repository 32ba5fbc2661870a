//! The rows of an ACME order's certificate.

use std::future::Future;
use std::time::SystemTime;

use super::acme_order_rows::Order;
use super::certificate_rows::Certificate;
use super::{AuditEvent, StoreError};

/// The operations by which an ACME order gets its certificate. Each is one transaction with its audit row.
pub trait AcmeIssuanceStore {
    /// Inserts a certificate; the error distinguishes a duplicate and an unknown reference from other failures.
    fn insert_acme_certificate(
        &self,
        new: &Certificate,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Inserts the version of a certificate, and writes its order.
    fn finish_acme_order(
        &self,
        version: &NewVersion,
        order: &Order,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the chain of the certificate's newest version, PEM.
    fn newest_chain(&self, certificate_id: &str) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
}

/// A version to insert.
#[derive(Clone, Debug)]
pub struct NewVersion {
    pub id: String,
    pub certificate_id: String,
    /// Lower-case hexadecimal digits.
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub fingerprint: String,
    pub chain_pem: String,
    pub csr_pem: String,
    pub at: SystemTime,
}
