//! Revocations in PostgreSQL.

use tokio_postgres::Row;

use super::certificate_sql::write_certificate;
use super::{PostgresStore, insert_audit};
use crate::store::certificate_rows::Certificate;
use crate::store::revocation_rows::{Revocation, RevocationStore};
use crate::store::{AuditEvent, StoreError};

const COLUMNS: &str =
    "id, certificate_id, serial_number, reason, revoked_by, revoked_at, issuer_id, issuer_notified, created_at";

impl RevocationStore for PostgresStore {
    async fn insert_revocation(
        &self,
        certificate: &Certificate,
        new: &Revocation,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let insert = format!(
            "INSERT INTO certificate_revocations ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (issuer_id, serial_number) DO NOTHING"
        );
        let Revocation { id, certificate_id, serial_number, reason, revoked_by, revoked_at, issuer_id } = new;
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        if !write_certificate(&transaction, certificate).await? {
            return Err(StoreError::because("failed to update certificate status: certificate not found"));
        }
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
            [id, certificate_id, serial_number, reason, revoked_by, revoked_at, issuer_id, &false, revoked_at];
        transaction.execute(&insert, &parameters).await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn revocations_of_certificate(&self, certificate_id: &str) -> Result<Vec<Revocation>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM certificate_revocations WHERE certificate_id = $1 ORDER BY revoked_at");
        self.pool.get().await?.query(&sql, &[&certificate_id]).await?.iter().map(revocation_of).collect()
    }

    async fn revocations_of_issuer(&self, issuer_id: &str) -> Result<Vec<Revocation>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM certificate_revocations WHERE issuer_id = $1 ORDER BY revoked_at");
        self.pool.get().await?.query(&sql, &[&issuer_id]).await?.iter().map(revocation_of).collect()
    }

    async fn revocation(&self, issuer_id: &str, serial: &str) -> Result<Option<Revocation>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM certificate_revocations WHERE issuer_id = $1 AND serial_number = $2");
        let row = self.pool.get().await?.query_opt(&sql, &[&issuer_id, &serial]).await?;
        row.as_ref().map(revocation_of).transpose()
    }

    async fn mark_issuer_notified(&self, id: &str) -> Result<(), StoreError> {
        let sql = "UPDATE certificate_revocations SET issuer_notified = true WHERE id = $1";
        self.pool.get().await?.execute(sql, &[&id]).await?;
        Ok(())
    }
}

fn revocation_of(row: &Row) -> Result<Revocation, StoreError> {
    Ok(Revocation {
        id: row.try_get(0)?,
        certificate_id: row.try_get(1)?,
        serial_number: row.try_get(2)?,
        reason: row.try_get(3)?,
        revoked_by: row.try_get(4)?,
        revoked_at: row.try_get(5)?,
        issuer_id: row.try_get::<_, Option<String>>(6)?.unwrap_or_default(),
    })
}
