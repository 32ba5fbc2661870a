//! The certificates of ACME orders in PostgreSQL.

use tokio_postgres::types::ToSql;

use super::acme_order_sql::update_order;
use super::certificate_sql::insert_certificate;
use super::{PostgresStore, insert_audit};
use crate::store::acme_issuance_rows::{AcmeIssuanceStore, NewVersion};
use crate::store::acme_order_rows::Order;
use crate::store::certificate_rows::Certificate;
use crate::store::{AuditEvent, StoreError};

impl AcmeIssuanceStore for PostgresStore {
    async fn insert_acme_certificate(&self, new: &Certificate, event: &AuditEvent) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        insert_certificate(&transaction, new).await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn finish_acme_order(
        &self,
        version: &NewVersion,
        order: &Order,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO certificate_versions
                (id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, csr_pem,
                key_algorithm, key_size, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', 0, $9)
            RETURNING id";
        let NewVersion { id, certificate_id, serial, not_before, not_after, fingerprint, chain_pem, csr_pem, at } =
            version;
        let parameters: [&(dyn ToSql + Sync); 9] =
            [id, certificate_id, serial, not_before, not_after, fingerprint, chain_pem, csr_pem, at];
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        transaction.query_one(sql, &parameters).await?;
        update_order(&transaction, order).await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn newest_chain(&self, certificate_id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT pem_chain, id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256,
                csr_pem, key_algorithm, key_size, created_at
            FROM certificate_versions WHERE certificate_id = $1 ORDER BY created_at DESC LIMIT 1";
        let row = self.pool.get().await?.query_opt(sql, &[&certificate_id]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
