//! ACME accounts.

use std::future::Future;
use std::time::SystemTime;

use super::acme_rows::AcmeStatus;
use super::{AuditEvent, StoreError};

/// The operations that requests need of the table of accounts. Each change is one transaction with its audit row.
pub trait AcmeAccountStore {
    /// Returns the account of this id.
    fn acme_account(&self, id: &str) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send;
    /// Returns the profile's account with the key of this thumbprint.
    fn acme_account_by_key(
        &self,
        profile_id: &str,
        thumbprint: &str,
    ) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send;
    /// Inserts an account; the error distinguishes a duplicate, and a profile that does not exist.
    fn insert_acme_account(
        &self,
        new: &Account,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Changes an account's contacts or status; false when there is no account.
    fn change_acme_account(
        &self,
        id: &str,
        change: &AccountChange,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Gives an account another key, if it still has the old one: a SELECT that locks the row, then an UPDATE.
    fn change_acme_key(
        &self,
        id: &str,
        old_thumbprint: &str,
        new: &AccountKey,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<KeyChange, StoreError>> + Send;
}

/// A row of the table of accounts.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: String,
    pub key: AccountKey,
    pub contact: Option<Vec<String>>,
    pub status: AcmeStatus,
    pub profile_id: String,
    pub created_at: SystemTime,
}

/// An account's key.
#[derive(Clone, Debug)]
pub struct AccountKey {
    pub thumbprint: String,
    pub pem: String,
}

/// A change of an account.
#[derive(Clone, Debug)]
pub enum AccountChange {
    Contact(Vec<String>),
    Status(AcmeStatus),
}

/// The outcome of a change of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    Done,
    /// Another request was quicker.
    OldKeyGone,
    /// Another account has the new key.
    NewKeyTaken,
}
