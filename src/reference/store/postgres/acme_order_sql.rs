//! ACME orders, authorizations and challenges in PostgreSQL.

use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::{PostgresStore, insert_audit};
use crate::store::acme_order_rows::{AcmeOrder, AcmeOrderStore, Authorization, Challenge, Fault};
use crate::store::acme_rows::AcmeStatus;
use crate::store::{AuditEvent, StoreError};

type Parameter<'a> = &'a (dyn ToSql + Sync);

const ORDER: &str = "SELECT order_id, account_id, identifiers::text, status, expires_at, not_before, not_after,
        error::text, coalesce(csr_pem, ''), certificate_id, created_at, updated_at
    FROM acme_orders WHERE order_id = $1";
const AUTHORIZATION: &str = "SELECT authz_id, order_id, identifier::text, status, expires_at, wildcard, created_at,
        updated_at
    FROM acme_authorizations";
const CHALLENGE: &str = "SELECT challenge_id, authz_id, type, status, token, validated_at, error::text, created_at
    FROM acme_challenges";

impl AcmeOrderStore for PostgresStore {
    async fn active_acme_orders(&self, account_id: &str) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM acme_orders
            WHERE account_id = $1 AND status IN ('pending', 'ready', 'processing')";
        let row = self.pool.get().await?.query_one(sql, &[&account_id]).await?;
        // A count is never negative.
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }

    async fn insert_acme_order(
        &self,
        new: &AcmeOrder,
        authorizations: &[Authorization],
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        insert_order(&transaction, new).await?;
        for authorization in authorizations {
            insert_authorization(&transaction, authorization).await?;
            for challenge in &authorization.challenges {
                insert_challenge(&transaction, challenge).await?;
            }
        }
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn acme_order(&self, id: &str) -> Result<Option<AcmeOrder>, StoreError> {
        let row = self.pool.get().await?.query_opt(ORDER, &[&id]).await?;
        row.as_ref().map(order_of).transpose()
    }

    async fn update_acme_order(&self, changed: &AcmeOrder, event: Option<&AuditEvent>) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        update_order(&transaction, changed).await?;
        if let Some(event) = event {
            insert_audit(&transaction, event).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn acme_authorization_ids(&self, order_id: &str) -> Result<Vec<String>, StoreError> {
        let sql = format!("{AUTHORIZATION} WHERE order_id = $1 ORDER BY created_at");
        let rows = self.pool.get().await?.query(&sql, &[&order_id]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn acme_authorization(&self, id: &str) -> Result<Option<Authorization>, StoreError> {
        let sql = format!("{AUTHORIZATION} WHERE authz_id = $1");
        let Some(row) = self.pool.get().await?.query_opt(&sql, &[&id]).await? else { return Ok(None) };
        let sql = format!("{CHALLENGE} WHERE authz_id = $1 ORDER BY created_at");
        let challenges = self.pool.get().await?.query(&sql, &[&id]).await?;
        Ok(Some(Authorization {
            id: row.try_get(0)?,
            order_id: row.try_get(1)?,
            identifier: serde_json::from_str(row.try_get(2)?)?,
            status: status_of(&row, 3)?,
            expires_at: row.try_get(4)?,
            wildcard: row.try_get(5)?,
            created_at: row.try_get(6)?,
            challenges: challenges.iter().map(challenge_of).collect::<Result<_, _>>()?,
        }))
    }

    async fn acme_challenge(&self, id: &str) -> Result<Option<Challenge>, StoreError> {
        let sql = format!("{CHALLENGE} WHERE challenge_id = $1");
        let row = self.pool.get().await?.query_opt(&sql, &[&id]).await?;
        row.as_ref().map(challenge_of).transpose()
    }

    async fn update_acme_challenge(&self, changed: &Challenge, event: &AuditEvent) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        update_challenge(&transaction, changed).await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn settle_acme_challenge(
        &self,
        settled: &Challenge,
        order_id: &str,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        update_challenge(&transaction, settled).await?;
        let sql = "UPDATE acme_authorizations SET status = $2, updated_at = now() WHERE authz_id = $1";
        transaction.execute(sql, &[&settled.authorization_id, &settled.status.label()]).await?;
        let sql = format!("{AUTHORIZATION} WHERE order_id = $1 ORDER BY created_at");
        let rows = transaction.query(&sql, &[&order_id]).await?;
        let statuses: Vec<AcmeStatus> = rows.iter().map(|row| status_of(row, 3)).collect::<Result<_, _>>()?;
        let mut order = order_of(&transaction.query_one(ORDER, &[&order_id]).await?)?;
        if order.settle(&statuses) {
            update_order(&transaction, &order).await?;
        }
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn owns_certificate(&self, account_id: &str, certificate_id: &str) -> Result<bool, StoreError> {
        let sql = "SELECT count(1) FROM acme_orders WHERE account_id = $1 AND certificate_id = $2";
        let row = self.pool.get().await?.query_one(sql, &[&account_id, &certificate_id]).await?;
        Ok(row.try_get::<_, i64>(0)? > 0)
    }
}

async fn insert_order(transaction: &Transaction<'_>, new: &AcmeOrder) -> Result<(), StoreError> {
    let sql = "INSERT INTO acme_orders
            (order_id, account_id, identifiers, status, expires_at, not_before, not_after, error, csr_pem,
            certificate_id, created_at, updated_at)
        VALUES ($1, $2, $3::text::jsonb, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $11)";
    let AcmeOrder { id, account_id, expires_at, not_before, not_after, csr_pem, certificate_id, created_at, .. } = new;
    let (identifiers, status, error) = (json(&new.identifiers)?, new.status.label(), fault(&new.error)?);
    let parameters: [Parameter<'_>; 11] = [
        id,
        account_id,
        &identifiers,
        &status,
        expires_at,
        not_before,
        not_after,
        &error,
        csr_pem,
        certificate_id,
        created_at,
    ];
    transaction.execute(sql, &parameters).await?;
    Ok(())
}

async fn insert_authorization(transaction: &Transaction<'_>, new: &Authorization) -> Result<(), StoreError> {
    let sql = "INSERT INTO acme_authorizations
            (authz_id, order_id, identifier, status, expires_at, wildcard, created_at, updated_at)
        VALUES ($1, $2, $3::text::jsonb, $4, $5, $6, $7, $7)";
    let (identifier, status) = (json(&new.identifier)?, new.status.label());
    let parameters: [Parameter<'_>; 7] =
        [&new.id, &new.order_id, &identifier, &status, &new.expires_at, &new.wildcard, &new.created_at];
    transaction.execute(sql, &parameters).await?;
    Ok(())
}

async fn insert_challenge(transaction: &Transaction<'_>, new: &Challenge) -> Result<(), StoreError> {
    let sql = "INSERT INTO acme_challenges
            (challenge_id, authz_id, type, status, token, validated_at, error, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8)";
    let Challenge { id, authorization_id, kind, status, token, validated_at, error, created_at } = new;
    let (status, error) = (status.label(), fault(error)?);
    let parameters: [Parameter<'_>; 8] = [id, authorization_id, kind, &status, token, validated_at, &error, created_at];
    transaction.execute(sql, &parameters).await?;
    Ok(())
}

/// Writes an order within a transaction.
pub(super) async fn update_order(transaction: &Transaction<'_>, changed: &AcmeOrder) -> Result<(), StoreError> {
    let sql = "UPDATE acme_orders SET (status, error, csr_pem, certificate_id, updated_at)
        = ($2, $3::text::jsonb, $4, $5, $6) WHERE order_id = $1";
    let (status, error, now) = (changed.status.label(), fault(&changed.error)?, SystemTime::now());
    let parameters: [Parameter<'_>; 6] =
        [&changed.id, &status, &error, &changed.csr_pem, &changed.certificate_id, &now];
    transaction.execute(sql, &parameters).await?;
    Ok(())
}

async fn update_challenge(transaction: &Transaction<'_>, changed: &Challenge) -> Result<(), StoreError> {
    let sql = "UPDATE acme_challenges SET (status, validated_at, error) = ($2, $3, $4::text::jsonb)
        WHERE challenge_id = $1";
    let (status, error) = (changed.status.label(), fault(&changed.error)?);
    transaction.execute(sql, &[&changed.id, &status, &changed.validated_at, &error]).await?;
    Ok(())
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    Ok(serde_json::to_string(value)?)
}

fn fault(fault: &Option<Fault>) -> Result<Option<String>, StoreError> {
    fault.as_ref().map(json).transpose()
}

fn status_of(row: &Row, column: usize) -> Result<AcmeStatus, StoreError> {
    row.try_get::<_, &str>(column)?.parse()
}

fn optional<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>, StoreError> {
    Ok(row.try_get::<_, Option<&str>>(column)?.map(serde_json::from_str).transpose()?)
}

fn order_of(row: &Row) -> Result<AcmeOrder, StoreError> {
    Ok(AcmeOrder {
        id: row.try_get(0)?,
        account_id: row.try_get(1)?,
        identifiers: serde_json::from_str(row.try_get(2)?)?,
        status: status_of(row, 3)?,
        expires_at: row.try_get(4)?,
        not_before: row.try_get(5)?,
        not_after: row.try_get(6)?,
        error: optional(row, 7)?,
        csr_pem: row.try_get(8)?,
        certificate_id: row.try_get(9)?,
        created_at: row.try_get(10)?,
    })
}

fn challenge_of(row: &Row) -> Result<Challenge, StoreError> {
    Ok(Challenge {
        id: row.try_get(0)?,
        authorization_id: row.try_get(1)?,
        kind: row.try_get(2)?,
        status: status_of(row, 3)?,
        token: row.try_get(4)?,
        validated_at: row.try_get(5)?,
        error: optional(row, 6)?,
        created_at: row.try_get(7)?,
    })
}
