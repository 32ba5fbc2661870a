//! ACME's orders, authorizations and challenges in memory.

use std::collections::HashMap;

use super::MemoryStore;
use super::acme_memory::MAX_ROWS;
use crate::store::acme_issuance_rows::AcmeIssuanceStore;
use crate::store::acme_order_rows::{AcmeOrder, AcmeOrderStore, Authorization, Challenge};
use crate::store::acme_rows::AcmeStatus;
use crate::store::certificate_rows::{Certificate, CertificateStore as _};
use crate::store::version_rows::{CertificateVersion, VersionStore as _};
use crate::store::{AuditEvent, Store as _, StoreError};

/// Orders, with indexes as in the database.
#[derive(Default)]
pub struct OrderTables {
    orders: HashMap<String, AcmeOrder>,
    /// The number of active orders of each account.
    active: HashMap<String, u64>,
    /// The authorizations of each order, in their order.
    authorizations: HashMap<String, Vec<Authorization>>,
    /// The order of each authorization.
    order_of: HashMap<String, String>,
    /// The authorization of each challenge.
    authorization_of: HashMap<String, String>,
}

impl OrderTables {
    fn write(&mut self, order: &AcmeOrder) {
        let before = self.orders.insert(order.id.clone(), order.clone()).is_some_and(|old| old.status.is_active());
        let active = self.active.entry(order.account_id.clone()).or_default();
        *active = (*active + u64::from(order.status.is_active())).saturating_sub(u64::from(before));
        if *active == 0 {
            self.active.remove(&order.account_id);
        }
    }

    fn authorization(&self, id: &str) -> Option<&Authorization> {
        self.authorizations.get(self.order_of.get(id)?)?.iter().find(|authorization| authorization.id == id)
    }

    fn authorization_mut(&mut self, id: &str) -> Option<&mut Authorization> {
        self.authorizations.get_mut(self.order_of.get(id)?)?.iter_mut().find(|authorization| authorization.id == id)
    }

    fn write_challenge(&mut self, changed: &Challenge) {
        let authorization = self.authorization_mut(&changed.authorization_id);
        let challenges = authorization.into_iter().flat_map(|authorization| &mut authorization.challenges);
        for challenge in challenges.filter(|challenge| challenge.id == changed.id) {
            challenge.clone_from(changed);
        }
    }

    fn settle(&mut self, settled: &Challenge, order_id: &str) {
        self.write_challenge(settled);
        if let Some(authorization) = self.authorization_mut(&settled.authorization_id) {
            authorization.status = settled.status;
        }
        let statuses: Vec<AcmeStatus> =
            self.authorizations.get(order_id).into_iter().flatten().map(|authorization| authorization.status).collect();
        if let Some(mut order) = self.orders.get(order_id).cloned()
            && order.settle(&statuses)
        {
            self.write(&order);
        }
    }
}

impl AcmeOrderStore for MemoryStore {
    async fn active_acme_orders(&self, account_id: &str) -> Result<u64, StoreError> {
        Ok(self.acme().orders.active.get(account_id).copied().unwrap_or_default())
    }

    async fn insert_acme_order(
        &self,
        new: &AcmeOrder,
        authorizations: &[Authorization],
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        {
            let tables = &mut self.acme().orders;
            if tables.orders.len() >= MAX_ROWS {
                return Err(StoreError::because("no room in memory for more orders"));
            }
            for authorization in authorizations {
                tables.order_of.insert(authorization.id.clone(), new.id.clone());
                for challenge in &authorization.challenges {
                    tables.authorization_of.insert(challenge.id.clone(), authorization.id.clone());
                }
            }
            tables.authorizations.insert(new.id.clone(), authorizations.to_vec());
            tables.write(new);
        }
        self.append_audit(event).await
    }

    async fn acme_order(&self, id: &str) -> Result<Option<AcmeOrder>, StoreError> {
        Ok(self.acme().orders.orders.get(id).cloned())
    }

    async fn update_acme_order(&self, changed: &AcmeOrder, event: Option<&AuditEvent>) -> Result<(), StoreError> {
        self.acme().orders.write(changed);
        match event {
            Some(event) => self.append_audit(event).await,
            None => Ok(()),
        }
    }

    async fn acme_authorization_ids(&self, order_id: &str) -> Result<Vec<String>, StoreError> {
        let tables = &self.acme().orders;
        let authorizations = tables.authorizations.get(order_id).into_iter().flatten();
        Ok(authorizations.map(|authorization| authorization.id.clone()).collect())
    }

    async fn acme_authorization(&self, id: &str) -> Result<Option<Authorization>, StoreError> {
        Ok(self.acme().orders.authorization(id).cloned())
    }

    async fn acme_challenge(&self, id: &str) -> Result<Option<Challenge>, StoreError> {
        let tables = &self.acme().orders;
        let authorization = tables.authorization_of.get(id).and_then(|id| tables.authorization(id));
        let mut challenges = authorization.into_iter().flat_map(|authorization| &authorization.challenges);
        Ok(challenges.find(|challenge| challenge.id == id).cloned())
    }

    async fn update_acme_challenge(&self, changed: &Challenge, event: &AuditEvent) -> Result<(), StoreError> {
        self.acme().orders.write_challenge(changed);
        self.append_audit(event).await
    }

    async fn settle_acme_challenge(
        &self,
        settled: &Challenge,
        order_id: &str,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        self.acme().orders.settle(settled, order_id);
        self.append_audit(event).await
    }

    async fn owns_certificate(&self, account_id: &str, certificate_id: &str) -> Result<bool, StoreError> {
        let tables = &self.acme().orders;
        // No index covers certificates in the database either.
        let mut own = tables.orders.values().filter(|order| order.account_id == account_id);
        Ok(own.any(|order| order.certificate_id.as_deref() == Some(certificate_id)))
    }
}

impl AcmeIssuanceStore for MemoryStore {
    async fn insert_acme_certificate(&self, new: &Certificate, event: &AuditEvent) -> Result<(), StoreError> {
        self.insert_certificate(new).await?;
        self.append_audit(event).await
    }

    async fn finish_acme_order(
        &self,
        version: &CertificateVersion,
        order: &AcmeOrder,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        self.insert_version(version).await?;
        self.acme().orders.write(order);
        self.append_audit(event).await
    }
}
