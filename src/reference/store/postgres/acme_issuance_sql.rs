//! The certificates of ACME orders in PostgreSQL.

use super::acme_order_sql::update_order;
use super::certificate_sql::add_certificate;
use super::version_sql::add_version;
use super::{PostgresStore, insert_audit};
use crate::store::acme_issuance_rows::AcmeIssuanceStore;
use crate::store::acme_order_rows::AcmeOrder;
use crate::store::certificate_rows::Certificate;
use crate::store::version_rows::CertificateVersion;
use crate::store::{AuditEvent, StoreError};

impl AcmeIssuanceStore for PostgresStore {
    async fn insert_acme_certificate(&self, new: &Certificate, event: &AuditEvent) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        add_certificate(&transaction, new).await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn finish_acme_order(
        &self,
        version: &CertificateVersion,
        order: &AcmeOrder,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        add_version(&transaction, version).await?;
        update_order(&transaction, order).await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }
}
