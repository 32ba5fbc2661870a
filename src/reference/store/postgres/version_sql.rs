//! Issued versions in PostgreSQL.

use tokio_postgres::types::ToSql;
use tokio_postgres::{GenericClient, Row};

use super::certificate_sql::write_certificate;
use super::{PostgresStore, insert_audit};
use crate::store::certificate_rows::Certificate;
use crate::store::version_rows::{CertificateVersion, VersionStore};
use crate::store::{AuditEvent, StoreError};

const COLUMNS: &str =
    "id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, pem_chain, csr_pem,
    key_algorithm, key_size, created_at";

impl VersionStore for PostgresStore {
    async fn insert_version(&self, new: &CertificateVersion) -> Result<(), StoreError> {
        insert(&**self.pool.get().await?, new).await
    }

    async fn insert_renewal(
        &self,
        new: &CertificateVersion,
        certificate: &Certificate,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        insert(&transaction, new).await?;
        if !write_certificate(&transaction, certificate).await? {
            return Err(StoreError::because("failed to update certificate: certificate not found"));
        }
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn versions(&self, certificate_id: &str) -> Result<Vec<CertificateVersion>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM certificate_versions WHERE certificate_id = $1 ORDER BY created_at DESC");
        self.pool.get().await?.query(&sql, &[&certificate_id]).await?.iter().map(version_of).collect()
    }

    async fn latest_version(&self, certificate_id: &str) -> Result<Option<CertificateVersion>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM certificate_versions WHERE certificate_id = $1 ORDER BY created_at DESC LIMIT 1"
        );
        let row = self.pool.get().await?.query_opt(&sql, &[&certificate_id]).await?;
        row.as_ref().map(version_of).transpose()
    }

    async fn certificate_by_serial(&self, issuer_id: &str, serial: &str) -> Result<Option<Certificate>, StoreError> {
        let sql = "SELECT certificate.id, certificate.name, certificate.common_name, certificate.sans,
                certificate.environment, certificate.owner_id, certificate.team_id, certificate.issuer_id,
                certificate.renewal_policy_id, certificate.certificate_profile_id, certificate.status,
                certificate.expires_at, certificate.tags::text, certificate.last_renewal_at,
                certificate.last_deployment_at, certificate.revoked_at, certificate.revocation_reason,
                certificate.source, certificate.created_at, certificate.updated_at
            FROM managed_certificates certificate
            JOIN certificate_versions version ON version.certificate_id = certificate.id
            WHERE certificate.issuer_id = $1 AND version.serial_number = $2
            LIMIT 1";
        let row = self.pool.get().await?.query_opt(sql, &[&issuer_id, &serial]).await?;
        self.with_targets(row.as_ref()).await
    }
}

async fn insert(client: &impl GenericClient, new: &CertificateVersion) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO certificate_versions ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        RETURNING id"
    );
    let CertificateVersion { id, certificate_id, serial_number, not_before, not_after, fingerprint_sha256, .. } = new;
    let CertificateVersion { pem_chain, csr_pem, key_algorithm, key_size, created_at, .. } = new;
    let parameters: [&(dyn ToSql + Sync); 11] = [
        id,
        certificate_id,
        serial_number,
        not_before,
        not_after,
        fingerprint_sha256,
        pem_chain,
        csr_pem,
        key_algorithm,
        key_size,
        created_at,
    ];
    client.query_one(&sql, &parameters).await?;
    Ok(())
}

fn version_of(row: &Row) -> Result<CertificateVersion, StoreError> {
    Ok(CertificateVersion {
        id: row.try_get(0)?,
        certificate_id: row.try_get(1)?,
        serial_number: row.try_get(2)?,
        not_before: row.try_get(3)?,
        not_after: row.try_get(4)?,
        fingerprint_sha256: row.try_get(5)?,
        pem_chain: row.try_get(6)?,
        csr_pem: row.try_get::<_, Option<String>>(7)?.unwrap_or_default(),
        key_algorithm: row.try_get::<_, Option<String>>(8)?.unwrap_or_default(),
        key_size: row.try_get::<_, Option<i32>>(9)?.unwrap_or_default(),
        created_at: row.try_get(10)?,
    })
}
