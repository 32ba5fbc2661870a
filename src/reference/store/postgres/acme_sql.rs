//! ACME's nonces and versions in PostgreSQL.

use std::time::SystemTime;

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::acme_rows::{AcmeStore, Version};

impl AcmeStore for PostgresStore {
    async fn insert_nonce(&self, nonce: &str, expires_at: SystemTime) -> Result<(), StoreError> {
        let sql = "INSERT INTO acme_nonces (nonce, issued_at, expires_at, used) VALUES ($1, now(), $2, false)";
        self.pool.get().await?.execute(sql, &[&nonce, &expires_at]).await?;
        Ok(())
    }

    async fn consume_nonce(&self, nonce: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE acme_nonces SET used = true WHERE nonce = $1 AND NOT used AND expires_at > now()";
        Ok(self.pool.get().await?.execute(sql, &[&nonce]).await? > 0)
    }

    async fn version_by_serial(&self, issuer_id: &str, serial: &str) -> Result<Option<Version>, StoreError> {
        let sql = "SELECT version.certificate_id, version.not_before, version.id, version.serial_number,
                version.not_after, version.fingerprint_sha256, version.pem_chain, version.csr_pem,
                version.key_algorithm, version.key_size, version.created_at
            FROM managed_certificates certificate
            JOIN certificate_versions version ON version.certificate_id = certificate.id
            WHERE version.serial_number = $2 AND certificate.issuer_id = $1
            ORDER BY version.created_at DESC LIMIT 1";
        let Some(row) = self.pool.get().await?.query_opt(sql, &[&issuer_id, &serial]).await? else { return Ok(None) };
        Ok(Some(Version { certificate_id: row.try_get(0)?, not_before: row.try_get(1)? }))
    }

    async fn renewal_window_days(&self, policy_id: &str) -> Result<Option<i32>, StoreError> {
        let sql = "SELECT renewal_window_days, id, name, auto_renew, max_retries, retry_interval_seconds,
                alert_thresholds_days::text, alert_channels::text, alert_severity_map::text, created_at, updated_at
            FROM renewal_policies WHERE id = $1";
        let row = self.pool.get().await?.query_opt(sql, &[&policy_id]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
