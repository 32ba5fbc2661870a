//! The part of a store that every ACME request needs: nonces, versions of certificates.

use std::future::Future;
use std::str::FromStr;
use std::time::SystemTime;

use super::StoreError;

/// The operations that ACME requests need of a store.
pub trait AcmeStore {
    /// Stores a nonce.
    fn insert_nonce(&self, nonce: &str, expires_at: SystemTime) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Marks a nonce as used; false when it is unknown, used or expired.
    fn consume_nonce(&self, nonce: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;
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

/// The status of an account, an order, an authorization or a challenge (RFC 8555, section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    Deactivated,
    Expired,
    Revoked,
}

impl AcmeStatus {
    const ALL: [Self; 8] = [
        Self::Pending,
        Self::Ready,
        Self::Processing,
        Self::Valid,
        Self::Invalid,
        Self::Deactivated,
        Self::Expired,
        Self::Revoked,
    ];

    /// Returns the name in rows and in answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Returns true for an order that counts towards an account's limit.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Ready | Self::Processing)
    }
}

impl FromStr for AcmeStatus {
    type Err = StoreError;

    fn from_str(label: &str) -> Result<Self, StoreError> {
        let known = Self::ALL.into_iter().find(|status| status.label() == label);
        known.ok_or_else(|| StoreError::because(format!("an unknown ACME status: {label:?}")))
    }
}
