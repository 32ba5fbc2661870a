//! Revocations in memory; notifications, which nobody reads, are not kept.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::MemoryStore;
use crate::store::certificate_rows::{Certificate, CertificateStore as _};
use crate::store::notification_rows::{Notification, NotificationStore};
use crate::store::revocation_rows::{Revocation, RevocationStore};
use crate::store::{AuditEvent, Store as _, StoreError};

/// The table of revocations: never more than versions, of which there is a bound.
#[derive(Default)]
pub struct Revocations {
    /// In the order of their time.
    rows: Vec<Revocation>,
    /// Places in the rows by issuer and serial number.
    by_serial: HashMap<(String, String), usize>,
    /// Places in the rows.
    by_certificate: HashMap<String, Vec<usize>>,
}

impl Revocations {
    /// Adds a revocation unless its serial number has one.
    fn add(&mut self, new: &Revocation) {
        let (key, place) = ((new.issuer_id.clone(), new.serial_number.clone()), self.rows.len());
        if self.by_serial.contains_key(&key) {
            return;
        }
        self.by_serial.insert(key, place);
        self.by_certificate.entry(new.certificate_id.clone()).or_default().push(place);
        self.rows.push(new.clone());
    }
}

impl RevocationStore for MemoryStore {
    async fn insert_revocation(
        &self,
        certificate: &Certificate,
        new: &Revocation,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        self.update_certificate(certificate).await?;
        self.revocations.write().unwrap_or_else(PoisonError::into_inner).add(new);
        self.append_audit(event).await
    }

    async fn revocations_of_certificate(&self, certificate_id: &str) -> Result<Vec<Revocation>, StoreError> {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        let places = revocations.by_certificate.get(certificate_id).into_iter().flatten();
        Ok(places.filter_map(|place| revocations.rows.get(*place).cloned()).collect())
    }

    async fn revocations_of_issuer(&self, issuer_id: &str) -> Result<Vec<Revocation>, StoreError> {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        Ok(revocations.rows.iter().filter(|row| row.issuer_id == issuer_id).cloned().collect())
    }

    async fn revocation(&self, issuer_id: &str, serial: &str) -> Result<Option<Revocation>, StoreError> {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        let place = revocations.by_serial.get(&(issuer_id.to_owned(), serial.to_owned()));
        Ok(place.and_then(|place| revocations.rows.get(*place).cloned()))
    }

    async fn mark_issuer_notified(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl NotificationStore for MemoryStore {
    async fn owner_email(&self, _: &str) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn insert_notification(&self, _: &Notification) -> Result<(), StoreError> {
        Ok(())
    }

    async fn mark_notification_sent(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}
