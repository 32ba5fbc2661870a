//! ACME in memory: nonces are counted elsewhere and not kept, since no request redeems one.

use std::time::SystemTime;

use super::{MemoryStore, POLICIES, PROFILE};
use crate::store::StoreError;
use crate::store::acme_rows::{AcmeStore, Version};

impl AcmeStore for MemoryStore {
    async fn has_profile(&self, id: &str) -> Result<bool, StoreError> {
        Ok(id == PROFILE)
    }

    async fn insert_nonce(&self, _: &str, _: SystemTime) -> Result<(), StoreError> {
        Ok(())
    }

    async fn version_by_serial(&self, _: &str, _: &str) -> Result<Option<Version>, StoreError> {
        // Nothing here is ever issued.
        Ok(None)
    }

    async fn renewal_window_days(&self, policy_id: &str) -> Result<Option<i32>, StoreError> {
        Ok(POLICIES.contains(&policy_id).then_some(30))
    }
}
