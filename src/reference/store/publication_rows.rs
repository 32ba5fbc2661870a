//! Signed statements about revocation that are kept until they expire: OCSP responses and CRLs.

use std::future::Future;
use std::time::SystemTime;

use super::StoreError;

/// The operations that OCSP and CRLs need of a store.
pub trait PublicationStore {
    /// Forgets all that was signed: the authority of an earlier process can sign no more, and nobody knows it.
    fn forget_publications(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the kept response about a serial number.
    fn ocsp_response(
        &self,
        issuer_id: &str,
        serial: &str,
    ) -> impl Future<Output = Result<Option<Publication>, StoreError>> + Send;
    /// Keeps a response about a serial number; certctl calls every one of them good in the table.
    fn put_ocsp_response(
        &self,
        issuer_id: &str,
        serial: &str,
        response: &Publication,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Drops the response about a serial number.
    fn drop_ocsp_response(&self, issuer_id: &str, serial: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the serial number of the certificate with which OCSP responses are signed.
    fn ocsp_responder(&self, issuer_id: &str) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
    /// Records the certificate with which OCSP responses are signed.
    fn put_ocsp_responder(
        &self,
        issuer_id: &str,
        responder: &ResponderRow,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the kept CRL.
    fn crl(&self, issuer_id: &str) -> impl Future<Output = Result<Option<Publication>, StoreError>> + Send;
    /// Keeps a CRL, and then records its making.
    fn put_crl(&self, issuer_id: &str, crl: &CrlRow) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A signed statement in DER, and the time for which it holds.
#[derive(Clone, Debug)]
pub struct Publication {
    pub der: Vec<u8>,
    pub this_update: SystemTime,
    pub next_update: SystemTime,
}

impl Publication {
    /// Returns true if the statement does not hold any more.
    pub fn is_stale(&self, now: SystemTime) -> bool {
        now >= self.next_update
    }
}

/// A row of the table of OCSP responders, of which there is one for each issuer.
#[derive(Clone, Debug)]
pub struct ResponderRow {
    pub certificate_pem: String,
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// A CRL with the circumstances of its making.
#[derive(Clone, Debug)]
pub struct CrlRow {
    pub publication: Publication,
    pub number: i64,
    pub revoked_count: i32,
    pub duration_ms: i32,
}
