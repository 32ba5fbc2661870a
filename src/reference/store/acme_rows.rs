//! The part of a store that ACME's unsigned requests need.

use std::future::Future;
use std::time::SystemTime;

use super::StoreError;

/// The operations that ACME requests need of a store.
pub trait AcmeStore {
    /// Returns true if there is a profile of this id. certctl fetches it whole.
    fn has_profile(&self, id: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Stores a nonce.
    fn insert_nonce(&self, nonce: &str, expires_at: SystemTime) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the newest version with this serial number among the issuer's certificates. No index covers serial
    /// numbers.
    fn version_by_serial(
        &self,
        issuer_id: &str,
        serial: &str,
    ) -> impl Future<Output = Result<Option<Version>, StoreError>> + Send;
    /// Returns the number of days before expiry at which the policy of this id renews.
    fn renewal_window_days(&self, policy_id: &str) -> impl Future<Output = Result<Option<i32>, StoreError>> + Send;
}

/// An issued version of a certificate.
#[derive(Debug)]
pub struct Version {
    pub certificate_id: String,
    pub not_before: SystemTime,
}
