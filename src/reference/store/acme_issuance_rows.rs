//! The rows of an ACME order's certificate.

use std::future::Future;

use super::acme_order_rows::AcmeOrder;
use super::certificate_rows::Certificate;
use super::version_rows::CertificateVersion;
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
        version: &CertificateVersion,
        order: &AcmeOrder,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
