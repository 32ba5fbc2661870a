//! Profiles in PostgreSQL.

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::profile_rows::{Profile, ProfileStore};

impl ProfileStore for PostgresStore {
    async fn profile(&self, id: &str) -> Result<Option<Profile>, StoreError> {
        let sql = "SELECT id, name, description, allowed_key_algorithms::text, max_ttl_seconds, allowed_ekus::text,
                required_san_patterns::text, spiffe_uri_pattern, allow_short_lived, must_staple,
                required_csr_attributes::text, coalesce(acme_auth_mode, 'trust_authenticated'), enabled, created_at,
                updated_at
            FROM certificate_profiles WHERE id = $1";
        let Some(row) = self.pool.get().await?.query_opt(sql, &[&id]).await? else { return Ok(None) };
        Ok(Some(Profile {
            name: row.try_get(1)?,
            allowed_keys: serde_json::from_str(row.try_get(3)?)?,
            max_ttl_seconds: row.try_get(4)?,
            purposes: serde_json::from_str(row.try_get(5)?)?,
            allow_short_lived: row.try_get(8)?,
        }))
    }
}
