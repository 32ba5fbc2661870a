//! OCSP responses and CRLs in PostgreSQL.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::publication_rows::{CrlRow, Publication, PublicationStore, ResponderRow};

/// The responder's key is never written anywhere.
const KEY_PATH: &str = "memory";

impl PublicationStore for PostgresStore {
    async fn forget_publications(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM ocsp_response_cache; DELETE FROM ocsp_responders; DELETE FROM crl_cache";
        Ok(self.pool.get().await?.batch_execute(sql).await?)
    }

    async fn ocsp_response(&self, issuer_id: &str, serial: &str) -> Result<Option<Publication>, StoreError> {
        let sql = "SELECT response_der, this_update, next_update, issuer_id, serial_hex, cert_status,
                coalesce(revocation_reason, 0), coalesce(revoked_at, '0001-01-01Z'), generated_at
            FROM ocsp_response_cache WHERE issuer_id = $1 AND serial_hex = $2";
        let Some(row) = self.pool.get().await?.query_opt(sql, &[&issuer_id, &serial]).await? else { return Ok(None) };
        let (der, this_update, next_update) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Publication { der, this_update, next_update }))
    }

    async fn put_ocsp_response(&self, issuer_id: &str, serial: &str, response: &Publication) -> Result<(), StoreError> {
        let sql = "INSERT INTO ocsp_response_cache (issuer_id, serial_hex, response_der, cert_status,
                revocation_reason, revoked_at, this_update, next_update, generated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (issuer_id, serial_hex) DO UPDATE SET (response_der, cert_status, revocation_reason,
                revoked_at, this_update, next_update, generated_at)
            = (excluded.response_der, excluded.cert_status, excluded.revocation_reason, excluded.revoked_at,
                excluded.this_update, excluded.next_update, excluded.generated_at)";
        let Publication { der, this_update, next_update } = response;
        let (reason, revoked_at): (Option<i32>, Option<SystemTime>) = (None, None);
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&issuer_id, &serial, der, &"good", &reason, &revoked_at, this_update, next_update, this_update];
        self.pool.get().await?.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn drop_ocsp_response(&self, issuer_id: &str, serial: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM ocsp_response_cache WHERE issuer_id = $1 AND serial_hex = $2";
        self.pool.get().await?.execute(sql, &[&issuer_id, &serial]).await?;
        Ok(())
    }

    async fn ocsp_responder(&self, issuer_id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT cert_serial, issuer_id, cert_pem, key_path, key_alg, not_before, not_after,
                coalesce(rotated_from, ''), created_at, updated_at
            FROM ocsp_responders WHERE issuer_id = $1";
        let row = self.pool.get().await?.query_opt(sql, &[&issuer_id]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    async fn put_ocsp_responder(&self, issuer_id: &str, responder: &ResponderRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO ocsp_responders
                (issuer_id, cert_pem, cert_serial, key_path, key_alg, not_before, not_after, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, now())
            ON CONFLICT (issuer_id) DO UPDATE SET (cert_pem, cert_serial, key_path, key_alg, not_before, not_after,
                updated_at)
            = (excluded.cert_pem, excluded.cert_serial, excluded.key_path, excluded.key_alg, excluded.not_before,
                excluded.not_after, now())";
        let ResponderRow { certificate_pem, serial, not_before, not_after } = responder;
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&issuer_id, certificate_pem, serial, &KEY_PATH, &"ECDSA-P256", not_before, not_after];
        self.pool.get().await?.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn crl(&self, issuer_id: &str) -> Result<Option<Publication>, StoreError> {
        let sql = "SELECT crl_der, this_update, next_update, issuer_id, crl_number, generated_at,
                generation_duration_ms, revoked_count
            FROM crl_cache WHERE issuer_id = $1";
        let Some(row) = self.pool.get().await?.query_opt(sql, &[&issuer_id]).await? else { return Ok(None) };
        let (der, this_update, next_update) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Publication { der, this_update, next_update }))
    }

    async fn put_crl(&self, issuer_id: &str, crl: &CrlRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO crl_cache (issuer_id, crl_der, crl_number, this_update, next_update, generated_at,
                generation_duration_ms, revoked_count, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())
            ON CONFLICT (issuer_id) DO UPDATE SET (crl_der, crl_number, this_update, next_update, generated_at,
                generation_duration_ms, revoked_count, updated_at)
            = (excluded.crl_der, excluded.crl_number, excluded.this_update, excluded.next_update,
                excluded.generated_at, excluded.generation_duration_ms, excluded.revoked_count, now())";
        let CrlRow { publication, number, revoked_count, duration_ms } = crl;
        let Publication { der, this_update, next_update } = publication;
        let parameters: [&(dyn ToSql + Sync); 8] =
            [&issuer_id, der, number, this_update, next_update, this_update, duration_ms, revoked_count];
        self.pool.get().await?.execute(sql, &parameters).await?;
        let event = "INSERT INTO crl_generation_events
                (issuer_id, crl_number, duration_ms, revoked_count, started_at, succeeded, error)
            VALUES ($1, $2, $3, $4, $5, true, NULL)
            RETURNING id";
        let parameters: [&(dyn ToSql + Sync); 5] = [&issuer_id, number, duration_ms, revoked_count, this_update];
        self.pool.get().await?.query_one(event, &parameters).await?;
        Ok(())
    }
}
