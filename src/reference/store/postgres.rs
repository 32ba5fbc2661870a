//! The PostgreSQL store: certctl's statements, one by one, on a pool like certctl's.
//!
//! Statements are not kept prepared. certctl's driver, lib/pq, parses and describes, then binds and executes, at each
//! call: two round trips. `query` and `execute` with SQL text do the same in tokio-postgres, and are used for that
//! reason. (tokio-postgres also closes the statement afterwards, without waiting for it.) A statement without
//! parameters takes lib/pq one round trip only, as `query_typed` does.

mod acme_sql;
mod certificate_sql;
mod job_sql;
mod notification_sql;
mod profile_sql;
mod publication_sql;
mod revocation_sql;
mod version_sql;

use std::time::{Duration, SystemTime};

use certctl_bench::database::Address;
use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime};
use serde_json::{Map, Value, json};
use tokio_postgres::{GenericClient, NoTls, Row};

use super::schema;
use super::{ACTOR_TYPE, Agent, AuditEvent, Grant, Metadata, Permission, Settings, Store, StoreError, TENANT};

/// certctl's default.
const MAX_CONNECTIONS: usize = 50;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for a connection. certctl's has no bound; this one keeps an overload from hiding as silence.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
const MIN_VERSION: i32 = 150_000;

/// A database with certctl's tables.
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
    /// Connects, prepares the schema and the grants, and reads the settings.
    pub async fn open(url: &str, grants: &[Grant]) -> Result<(Self, Settings), String> {
        let address = Address::parse(url).map_err(|e| e.to_string())?.with(|config| {
            if config.get_application_name().is_none() {
                config.application_name("certctl-reference");
            }
        });
        let place = format!("the database {}", address.shown());
        let (config, recycling) = (address.config().clone(), ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let manager = match address.tls() {
            Some(tls) => Manager::from_config(config, tls.clone(), recycling),
            None => Manager::from_config(config, NoTls, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(CONNECT_TIMEOUT))
            .wait_timeout(Some(WAIT_TIMEOUT))
            .build()
            .map_err(|e| format!("cannot make a connection pool: {e}"))?;
        let mut client = pool.get().await.map_err(|e| {
            format!("cannot reach {place}: {}; start PostgreSQL, or give --in-memory", StoreError::from(e))
        })?;
        let settings = read_settings(&client).await?;
        let failed = |e: tokio_postgres::Error| format!("cannot prepare {place}: {}", StoreError::from(e));
        // Not the pool's own transaction type: the schema needs no pool.
        let transaction = (**client).transaction().await.map_err(failed)?;
        schema::prepare(&transaction, grants).await?;
        transaction.commit().await.map_err(failed)?;
        drop(client);
        Ok((Self { pool }, settings))
    }
}

impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.pool.get().await?.simple_query("").await?;
        Ok(())
    }

    async fn roles(&self, actor: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT id, actor_id, actor_type, role_id, granted_at, expires_at, granted_by, tenant_id,
                scope_type, scope_id
            FROM actor_roles WHERE actor_id = $1 AND actor_type = $2 AND tenant_id = $3 ORDER BY granted_at";
        let rows = self.pool.get().await?.query(sql, &[&actor, &ACTOR_TYPE, &TENANT]).await?;
        Ok(rows.iter().map(|row| row.try_get("role_id")).collect::<Result<_, _>>()?)
    }

    async fn permissions(&self, actor: &str) -> Result<Vec<Permission>, StoreError> {
        let sql = "SELECT DISTINCT permission.name,
                CASE given.scope_type WHEN 'global' THEN held.scope_type ELSE given.scope_type END,
                CASE given.scope_type WHEN 'global' THEN held.scope_id ELSE given.scope_id END
            FROM actor_roles given
            JOIN role_permissions held USING (role_id)
            JOIN permissions permission ON permission.id = held.permission_id
            WHERE given.actor_id = $1 AND given.actor_type = $2 AND given.tenant_id = $3
              AND coalesce(given.expires_at > now(), true)
              AND ('global' IN (given.scope_type, held.scope_type)
                   OR (given.scope_type, given.scope_id) = (held.scope_type, held.scope_id))";
        let rows = self.pool.get().await?.query(sql, &[&actor, &ACTOR_TYPE, &TENANT]).await?;
        let permission = |row: &Row| {
            Ok(Permission { name: row.try_get(0)?, scope_type: row.try_get(1)?, scope_id: row.try_get(2)? })
        };
        rows.iter().map(permission).collect()
    }

    async fn agent(&self, id: &str) -> Result<Option<Agent>, StoreError> {
        let sql = "SELECT id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os,
                architecture, ip_address, version, retired_at, retired_reason
            FROM agents WHERE id = $1";
        let row = self.pool.get().await?.query_opt(sql, &[&id]).await?;
        row.as_ref().map(agent_of).transpose()
    }

    async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let sql = "SELECT id, name, hostname, status, last_heartbeat_at, registered_at, api_key_hash, os,
                architecture, ip_address, version, retired_at, retired_reason
            FROM agents WHERE retired_at IS NULL ORDER BY registered_at DESC";
        self.pool.get().await?.query_typed(sql, &[]).await?.iter().map(agent_of).collect()
    }

    async fn record_heartbeat(
        &self,
        id: &str,
        at: SystemTime,
        metadata: Option<&Metadata>,
    ) -> Result<bool, StoreError> {
        let client = self.pool.get().await?;
        let Some(metadata) = metadata else {
            let sql = "UPDATE agents SET last_heartbeat_at = $1 WHERE id = $2 AND retired_at IS NULL";
            return Ok(client.execute(sql, &[&at, &id]).await? > 0);
        };
        let sql = "UPDATE agents SET last_heartbeat_at = $1,
                hostname = CASE $3 WHEN '' THEN hostname ELSE $3 END,
                os = CASE $4 WHEN '' THEN os ELSE $4 END,
                architecture = CASE $5 WHEN '' THEN architecture ELSE $5 END,
                ip_address = CASE $6 WHEN '' THEN ip_address ELSE $6 END,
                version = CASE $7 WHEN '' THEN version ELSE $7 END
            WHERE id = $2 AND retired_at IS NULL";
        let Metadata { version, hostname, os, architecture, ip_address } = metadata;
        Ok(client.execute(sql, &[&at, &id, hostname, os, architecture, ip_address, version]).await? > 0)
    }

    async fn rewrite_agent(&self, agent: &Agent) -> Result<(), StoreError> {
        let sql = "UPDATE agents SET (name, hostname, status, last_heartbeat_at, api_key_hash, os, architecture,
                ip_address, version) = ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            WHERE id = $10";
        let Agent { id, name, hostname, status, last_heartbeat_at, api_key_hash, os, .. } = agent;
        let Agent { architecture, ip_address, version, .. } = agent;
        let client = self.pool.get().await?;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 10] =
            [name, hostname, status, last_heartbeat_at, api_key_hash, os, architecture, ip_address, version, id];
        client.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn append_audit(&self, event: &AuditEvent) -> Result<(), StoreError> {
        insert_audit(&**self.pool.get().await?, event).await
    }
}

/// Inserts an audit row, inside a transaction or not.
async fn insert_audit(client: &impl GenericClient, event: &AuditEvent) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit_events
            (id, actor, actor_type, action, resource_type, resource_id, details, timestamp, event_category)
        VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9)
        RETURNING id";
    let AuditEvent { id, actor, actor_type, action, resource_type, resource_id, details, at, category } = event;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
        [id, actor, actor_type, action, resource_type, resource_id, details, at, category];
    client.query_one(sql, &parameters).await?;
    Ok(())
}

fn agent_of(row: &Row) -> Result<Agent, StoreError> {
    Ok(Agent {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        hostname: row.try_get(2)?,
        status: row.try_get(3)?,
        last_heartbeat_at: row.try_get(4)?,
        registered_at: row.try_get(5)?,
        api_key_hash: row.try_get(6)?,
        os: row.try_get(7)?,
        architecture: row.try_get(8)?,
        ip_address: row.try_get(9)?,
        version: row.try_get(10)?,
        retired_at: row.try_get(11)?,
        retired_reason: row.try_get(12)?,
    })
}

/// Reads the settings that a result on this database must state; refuses a server too old for the schema.
async fn read_settings(client: &Client) -> Result<Settings, String> {
    let sql = "SELECT current_setting('server_version'), current_setting('server_version_num')::int,
            current_setting('max_connections')::int, current_setting('fsync'),
            current_setting('synchronous_commit'), current_setting('shared_buffers')";
    let row = client
        .query_one(sql, &[])
        .await
        .map_err(|e| format!("cannot read the database's settings: {}", StoreError::from(e)))?;
    let version: String = row.get(0);
    if row.get::<_, i32>(1) < MIN_VERSION {
        return Err(format!("the database is PostgreSQL {version}; certctl's schema needs 15 or later"));
    }
    let number = version.split_whitespace().next().unwrap_or_default();
    let values: [(&str, Value); 5] = [
        ("max_connections", json!(row.get::<_, i32>(2))),
        ("fsync", json!(row.get::<_, String>(3))),
        ("synchronous_commit", json!(row.get::<_, String>(4))),
        ("shared_buffers", json!(row.get::<_, String>(5))),
        ("pool_size", json!(MAX_CONNECTIONS)),
    ];
    let values: Map<String, Value> = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(Settings { store: format!("postgresql {number}"), values })
}
