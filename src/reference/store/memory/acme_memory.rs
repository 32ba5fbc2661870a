//! ACME in memory: nonces and accounts.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::SystemTime;

use super::acme_orders_memory::OrderTables;
use super::{ISSUER, MemoryStore, POLICIES};
use crate::base64url;
use crate::store::acme_account_rows::{Account, AccountChange, AccountKey, AcmeAccountStore, KeyChange};
use crate::store::acme_rows::{AcmeStore, Version};
use crate::store::{AuditEvent, Store as _, StoreError, Violation};

/// The most nonces: the oldest are forgotten first, as if they had expired.
const MAX_NONCES: usize = 500_000;
/// The most accounts, and the most orders: with more a long run would fill the memory.
pub(super) const MAX_ROWS: usize = 200_000;

/// All of ACME's tables: one transaction at a time.
#[derive(Default)]
pub struct AcmeTables {
    nonces: Nonces,
    accounts: HashMap<String, Account>,
    /// The account of each profile and thumbprint.
    by_key: HashMap<(String, String), String>,
    pub(super) orders: OrderTables,
}

/// Nonces that were not used yet, and the order in which all were given out.
#[derive(Default)]
struct Nonces {
    unused: HashSet<[u8; 32]>,
    by_age: VecDeque<(SystemTime, [u8; 32])>,
}

impl Nonces {
    fn insert(&mut self, nonce: [u8; 32], expires_at: SystemTime) {
        let now = SystemTime::now();
        while self.by_age.len() >= MAX_NONCES || self.by_age.front().is_some_and(|(expiry, _)| *expiry <= now) {
            if let Some((_, oldest)) = self.by_age.pop_front() {
                self.unused.remove(&oldest);
            }
        }
        self.unused.insert(nonce);
        self.by_age.push_back((expires_at, nonce));
    }

    fn consume(&mut self, nonce: &[u8; 32]) -> bool {
        let now = SystemTime::now();
        while self.by_age.front().is_some_and(|(expiry, _)| *expiry <= now) {
            if let Some((_, oldest)) = self.by_age.pop_front() {
                self.unused.remove(&oldest);
            }
        }
        self.unused.remove(nonce)
    }
}

/// Returns the bytes of a nonce as this server makes them.
fn nonce_bytes(nonce: &str) -> Option<[u8; 32]> {
    base64url::decode(nonce)?.try_into().ok().filter(|bytes| base64url::encode(bytes) == nonce)
}

impl MemoryStore {
    pub(super) fn acme(&self) -> MutexGuard<'_, AcmeTables> {
        // Poisoned tables are whole all the same: nothing between their updates can panic.
        self.acme.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AcmeStore for MemoryStore {
    async fn insert_nonce(&self, nonce: &str, expires_at: SystemTime) -> Result<(), StoreError> {
        let nonce = nonce_bytes(nonce).ok_or_else(|| StoreError::because("a nonce that this server did not make"))?;
        self.acme().nonces.insert(nonce, expires_at);
        Ok(())
    }

    async fn consume_nonce(&self, nonce: &str) -> Result<bool, StoreError> {
        Ok(nonce_bytes(nonce).is_some_and(|nonce| self.acme().nonces.consume(&nonce)))
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

impl AcmeAccountStore for MemoryStore {
    async fn acme_account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        Ok(self.acme().accounts.get(id).cloned())
    }

    async fn acme_account_by_key(&self, profile_id: &str, thumbprint: &str) -> Result<Option<Account>, StoreError> {
        let tables = self.acme();
        let id = tables.by_key.get(&(profile_id.to_owned(), thumbprint.to_owned()));
        Ok(id.and_then(|id| tables.accounts.get(id)).cloned())
    }

    async fn insert_acme_account(&self, new: &Account, event: &AuditEvent) -> Result<(), StoreError> {
        {
            let mut tables = self.acme();
            let key = (new.profile_id.clone(), new.key.thumbprint.clone());
            if tables.accounts.contains_key(&new.id) || tables.by_key.contains_key(&key) {
                return Err(StoreError::violation_of(Violation::Duplicate, "an account of this id or key exists"));
            }
            if tables.accounts.len() >= MAX_ROWS {
                return Err(StoreError::because("no room in memory for more accounts"));
            }
            tables.by_key.insert(key, new.id.clone());
            tables.accounts.insert(new.id.clone(), new.clone());
        }
        self.append_audit(event).await
    }

    async fn change_acme_account(
        &self,
        id: &str,
        change: &AccountChange,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        match (self.acme().accounts.get_mut(id), change) {
            (None, _) => return Ok(false),
            (Some(account), AccountChange::Contact(contact)) => account.contact = Some(contact.clone()),
            (Some(account), AccountChange::Status(status)) => account.status = *status,
        }
        self.append_audit(event).await?;
        Ok(true)
    }

    async fn change_acme_key(
        &self,
        id: &str,
        old_thumbprint: &str,
        new: &AccountKey,
        event: &AuditEvent,
    ) -> Result<KeyChange, StoreError> {
        {
            let mut tables = self.acme();
            let account = tables.accounts.get(id).ok_or_else(|| StoreError::because("no such ACME account"))?;
            if account.key.thumbprint != old_thumbprint {
                return Ok(KeyChange::OldKeyGone);
            }
            let (old, taken) = (
                (account.profile_id.clone(), old_thumbprint.to_owned()),
                (account.profile_id.clone(), new.thumbprint.clone()),
            );
            if tables.by_key.contains_key(&taken) {
                return Ok(KeyChange::NewKeyTaken);
            }
            tables.by_key.remove(&old);
            tables.by_key.insert(taken, id.to_owned());
            if let Some(account) = tables.accounts.get_mut(id) {
                account.key.clone_from(new);
            }
        }
        self.append_audit(event).await?;
        Ok(KeyChange::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_nonce_is_taken_once_within_its_life() {
        let (mut nonces, now) = (Nonces::default(), SystemTime::now());
        nonces.insert([1; 32], now + Duration::from_secs(60));
        nonces.insert([2; 32], now + Duration::from_secs(60));
        assert_eq!(
            [nonces.consume(&[1; 32]), nonces.consume(&[1; 32]), nonces.consume(&[3; 32])],
            [true, false, false]
        );
        let mut expired = Nonces::default();
        expired.insert([1; 32], now);
        assert!(!expired.consume(&[1; 32]) && expired.by_age.is_empty());
    }

    #[test]
    fn the_oldest_nonce_makes_room_for_the_newest() {
        let (mut nonces, later) = (Nonces::default(), SystemTime::now() + Duration::from_secs(600));
        let nonce = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        for number in 0..=MAX_NONCES {
            nonces.insert(nonce(number), later);
        }
        assert_eq!((nonces.unused.len(), nonces.by_age.len()), (MAX_NONCES, MAX_NONCES));
        assert!(!nonces.consume(&nonce(0)) && nonces.consume(&nonce(1)) && nonces.consume(&nonce(MAX_NONCES)));
    }
}
