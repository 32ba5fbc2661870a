//! ACME accounts in PostgreSQL.

use std::time::SystemTime;

use tokio_postgres::Row;

use super::{PostgresStore, insert_audit};
use crate::store::acme_account_rows::{Account, AccountChange, AccountKey, AcmeAccountStore, KeyChange};
use crate::store::{AuditEvent, StoreError, Violation};

const COLUMNS: &str = "account_id, jwk_thumbprint, jwk_pem, contact, status, profile_id, coalesce(owner_id, ''),
    created_at, updated_at";

impl AcmeAccountStore for PostgresStore {
    async fn acme_account(&self, id: &str) -> Result<Option<Account>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM acme_accounts WHERE account_id = $1");
        let row = self.pool.get().await?.query_opt(&sql, &[&id]).await?;
        row.as_ref().map(account_of).transpose()
    }

    async fn acme_account_by_key(&self, profile_id: &str, thumbprint: &str) -> Result<Option<Account>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM acme_accounts WHERE profile_id = $1 AND jwk_thumbprint = $2");
        let row = self.pool.get().await?.query_opt(&sql, &[&profile_id, &thumbprint]).await?;
        row.as_ref().map(account_of).transpose()
    }

    async fn insert_acme_account(&self, new: &Account, event: &AuditEvent) -> Result<(), StoreError> {
        let sql = "INSERT INTO acme_accounts
                (account_id, jwk_thumbprint, jwk_pem, contact, status, profile_id, owner_id, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let Account { id, key: AccountKey { thumbprint, pem }, contact, status, profile_id, created_at } = new;
        let owner: Option<&str> = None;
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        transaction
            .execute(sql, &[id, thumbprint, pem, contact, &status.label(), profile_id, &owner, created_at, created_at])
            .await?;
        insert_audit(&transaction, event).await?;
        Ok(transaction.commit().await?)
    }

    async fn change_acme_account(
        &self,
        id: &str,
        change: &AccountChange,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        let changed = match change {
            AccountChange::Contact(contact) => {
                let sql = "UPDATE acme_accounts SET contact = $2, updated_at = now() WHERE account_id = $1";
                transaction.execute(sql, &[&id, contact]).await?
            }
            AccountChange::Status(status) => {
                let sql = "UPDATE acme_accounts SET status = $2, updated_at = now() WHERE account_id = $1";
                transaction.execute(sql, &[&id, &status.label()]).await?
            }
        };
        if changed == 0 {
            return Ok(false);
        }
        insert_audit(&transaction, event).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn change_acme_key(
        &self,
        id: &str,
        old_thumbprint: &str,
        new: &AccountKey,
        event: &AuditEvent,
    ) -> Result<KeyChange, StoreError> {
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        let lock = "SELECT jwk_thumbprint FROM acme_accounts WHERE account_id = $1 FOR UPDATE";
        let row = transaction.query_opt(lock, &[&id]).await?;
        let row = row.ok_or_else(|| StoreError::because("no such ACME account"))?;
        if row.try_get::<_, &str>(0)? != old_thumbprint {
            return Ok(KeyChange::OldKeyGone);
        }
        let sql = "UPDATE acme_accounts SET jwk_thumbprint = $2, jwk_pem = $3, updated_at = now()
            WHERE account_id = $1 AND jwk_thumbprint = $4";
        let changed = transaction.execute(sql, &[&id, &new.thumbprint, &new.pem, &old_thumbprint]).await;
        if let Err(error) = changed.map_err(StoreError::from) {
            return match error.violation() {
                Some(Violation::Duplicate) => Ok(KeyChange::NewKeyTaken),
                _ => Err(error),
            };
        }
        insert_audit(&transaction, event).await?;
        transaction.commit().await?;
        Ok(KeyChange::Done)
    }
}

fn account_of(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        id: row.try_get(0)?,
        key: AccountKey { thumbprint: row.try_get(1)?, pem: row.try_get(2)? },
        contact: row.try_get(3)?,
        status: row.try_get::<_, &str>(4)?.parse()?,
        profile_id: row.try_get(5)?,
        created_at: row.try_get::<_, SystemTime>(7)?,
    })
}
