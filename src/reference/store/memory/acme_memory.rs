//! ACME in memory: nonces are counted elsewhere and not kept, since no request redeems one.

use std::sync::PoisonError;
use std::time::SystemTime;

use super::{ISSUER, MemoryStore, POLICIES, PROFILE};
use crate::store::StoreError;
use crate::store::acme_rows::{AcmeStore, Version};

impl AcmeStore for MemoryStore {
    async fn has_profile(&self, id: &str) -> Result<bool, StoreError> {
        Ok(id == PROFILE)
    }

    async fn insert_nonce(&self, _: &str, _: SystemTime) -> Result<(), StoreError> {
        Ok(())
    }

    async fn version_by_serial(&self, issuer_id: &str, serial: &str) -> Result<Option<Version>, StoreError> {
        let version = self.versions.read().unwrap_or_else(PoisonError::into_inner).by_serial(serial);
        let version = version.filter(|_| issuer_id == ISSUER);
        Ok(version.map(|found| Version { certificate_id: found.certificate_id, not_before: found.not_before }))
    }

    async fn renewal_window_days(&self, policy_id: &str) -> Result<Option<i32>, StoreError> {
        Ok(POLICIES.contains(&policy_id).then_some(30))
    }
}
