//! ACME orders, their authorizations and challenges.

use std::future::Future;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::acme_rows::AcmeStatus;
use super::{AuditEvent, StoreError};

/// The operations that requests need of orders and what belongs to them.
pub trait AcmeOrderStore {
    /// Counts the account's orders that are pending, ready or processing.
    fn active_acme_orders(&self, account_id: &str) -> impl Future<Output = Result<u64, StoreError>> + Send;
    /// Inserts an order, its authorizations and their challenges one by one, and an audit row, in one transaction.
    fn insert_acme_order(
        &self,
        new: &AcmeOrder,
        authorizations: &[Authorization],
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the order of this id.
    fn acme_order(&self, id: &str) -> impl Future<Output = Result<Option<AcmeOrder>, StoreError>> + Send;
    /// Writes an order's status, error, request and certificate, and an audit row if there is one, in one transaction.
    fn update_acme_order(
        &self,
        changed: &AcmeOrder,
        event: Option<&AuditEvent>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the ids of an order's authorizations, oldest first. certctl fetches them whole.
    fn acme_authorization_ids(&self, order_id: &str) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;
    /// Returns the authorization of this id: one statement for its row, and a second for its challenges.
    fn acme_authorization(&self, id: &str) -> impl Future<Output = Result<Option<Authorization>, StoreError>> + Send;
    /// Returns the challenge of this id.
    fn acme_challenge(&self, id: &str) -> impl Future<Output = Result<Option<Challenge>, StoreError>> + Send;
    /// Writes a challenge's status, time and error, and an audit row, in one transaction.
    fn update_acme_challenge(
        &self,
        changed: &Challenge,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Writes the outcome of a challenge, which is that of its authorization too, and an audit row, in one transaction.
    /// A pending order becomes ready once all its authorizations are valid, and invalid with the first that is.
    fn settle_acme_challenge(
        &self,
        settled: &Challenge,
        order_id: &str,
        event: &AuditEvent,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns true if one of the account's orders led to this certificate.
    fn owns_certificate(
        &self,
        account_id: &str,
        certificate_id: &str,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A row of the table of orders.
#[derive(Clone, Debug)]
pub struct AcmeOrder {
    pub id: String,
    pub account_id: String,
    pub identifiers: Vec<Identifier>,
    pub status: AcmeStatus,
    pub expires_at: SystemTime,
    pub not_before: Option<SystemTime>,
    pub not_after: Option<SystemTime>,
    pub error: Option<Fault>,
    /// Empty until there is one.
    pub csr_pem: String,
    pub certificate_id: Option<String>,
    pub created_at: SystemTime,
}

/// A name for which a certificate is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Identifier {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub value: String,
}

/// The error of an order or a challenge, as its row keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fault {
    #[serde(rename = "type")]
    pub kind: String,
    pub detail: String,
    pub status: u16,
}

/// A row of the table of authorizations, with its challenges.
#[derive(Clone, Debug)]
pub struct Authorization {
    pub id: String,
    pub order_id: String,
    pub identifier: Identifier,
    pub status: AcmeStatus,
    pub expires_at: SystemTime,
    pub wildcard: bool,
    pub created_at: SystemTime,
    pub challenges: Vec<Challenge>,
}

/// A row of the table of challenges.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub id: String,
    pub authorization_id: String,
    pub kind: String,
    pub status: AcmeStatus,
    pub token: String,
    pub validated_at: Option<SystemTime>,
    pub error: Option<Fault>,
    pub created_at: SystemTime,
}

impl Fault {
    /// Returns the error of an order that an authorization has failed.
    pub fn of_authorizations() -> Self {
        let kind = "urn:ietf:params:acme:error:incorrectResponse".to_owned();
        Self { kind, detail: "one or more authorizations failed".to_owned(), status: 403 }
    }
}

impl AcmeOrder {
    /// Takes the statuses of its authorizations into account; true if the order has changed.
    pub fn settle(&mut self, authorizations: &[AcmeStatus]) -> bool {
        if self.status != AcmeStatus::Pending {
            return false;
        }
        if authorizations.iter().all(|status| *status == AcmeStatus::Valid) {
            self.status = AcmeStatus::Ready;
        } else if authorizations.contains(&AcmeStatus::Invalid) {
            self.status = AcmeStatus::Invalid;
            self.error = Some(Fault::of_authorizations());
        } else {
            return false;
        }
        true
    }
}
