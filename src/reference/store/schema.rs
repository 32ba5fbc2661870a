//! The schema: created in an empty database, checked in one that has it.

use tokio_postgres::Transaction;

use super::{ACTOR_TYPE, Grant, StoreError, TENANT};
use crate::permissions::{PERMISSIONS, ROLES};

/// The number of the lock that keeps two servers from creating the schema at once.
const SCHEMA_LOCK: i64 = 0x6365_7274_6265_6e63;
const NEEDED_TABLES: [&str; 21] = [
    "agents",
    "actor_roles",
    "role_permissions",
    "permissions",
    "audit_events",
    "audit_chain_head",
    "managed_certificates",
    "certificate_versions",
    "certificate_profiles",
    "certificate_revocations",
    "crl_cache",
    "crl_generation_events",
    "ocsp_responders",
    "ocsp_response_cache",
    "owners",
    "certificate_target_mappings",
    "deployment_targets",
    "renewal_policies",
    "jobs",
    "acme_nonces",
    "notification_events",
];

/// Ensures that the tables exist, and that the keys hold their roles.
pub async fn prepare(transaction: &Transaction<'_>, grants: &[Grant]) -> Result<(), String> {
    let failed = |e: tokio_postgres::Error| format!("cannot prepare the database: {}", StoreError::from(e));
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await.map_err(failed)?;
    let missing = missing_tables(transaction).await.map_err(failed)?;
    if missing.iter().any(|table| table == "agents") {
        lay_down(transaction).await.map_err(failed)?;
    } else if !missing.is_empty() {
        return Err(format!(
            "the database has a table agents but lacks {}; give an empty database, or one that certctl has migrated",
            missing.join(", ")
        ));
    }
    for grant in grants {
        give(transaction, grant).await.map_err(failed)?;
    }
    Ok(())
}

async fn missing_tables(transaction: &Transaction<'_>) -> Result<Vec<String>, tokio_postgres::Error> {
    let names = NEEDED_TABLES.as_slice();
    let sql = "SELECT needed FROM unnest($1::text[]) needed WHERE to_regclass(needed) IS NULL";
    Ok(transaction.query(sql, &[&names]).await?.iter().map(|row| row.get(0)).collect())
}

async fn lay_down(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(include_str!("../schema.sql")).await?;
    let names: Vec<&str> = PERMISSIONS.iter().map(|(name, _)| *name).collect();
    let add_permissions = "INSERT INTO permissions (id, name, namespace)
        SELECT 'p-' || translate(name, '._', '--'), name, regexp_replace(name, '[.][^.]*$', '')
        FROM unnest($1::text[]) name";
    transaction.execute(add_permissions, &[&names]).await?;
    let add_role = "INSERT INTO roles (id, name) VALUES ($1, substr($1, 3))";
    let add_role_permissions = "INSERT INTO role_permissions (role_id, permission_id)
        SELECT $1, id FROM permissions WHERE name = ANY ($2::text[])";
    for role in ROLES {
        let held: Vec<&str> = role.permissions().collect();
        transaction.execute(add_role, &[&role.id]).await?;
        transaction.execute(add_role_permissions, &[&role.id, &held]).await?;
    }
    Ok(())
}

/// Gives a key its role once; certctl itself adds one more row at each boot.
async fn give(transaction: &Transaction<'_>, grant: &Grant) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO actor_roles (id, actor_id, actor_type, role_id, granted_by, tenant_id)
        SELECT 'ar-' || gen_random_uuid(), $1, $2, $3, 'bootstrap', $4
        WHERE NOT EXISTS (
            SELECT FROM actor_roles
            WHERE actor_id = $1 AND actor_type = $2 AND role_id = $3 AND tenant_id = $4 AND scope_type = 'global'
        )";
    transaction.execute(sql, &[&grant.actor, &ACTOR_TYPE, &grant.role, &TENANT]).await?;
    Ok(())
}
