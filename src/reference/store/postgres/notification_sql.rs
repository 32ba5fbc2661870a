//! Notifications in PostgreSQL.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::notification_rows::{Notification, NotificationStore};

impl NotificationStore for PostgresStore {
    async fn owner_email(&self, owner_id: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT email, id, name, team_id, created_at, updated_at FROM owners WHERE id = $1";
        let row = self.pool.get().await?.query_opt(sql, &[&owner_id]).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    async fn insert_notification(&self, new: &Notification) -> Result<(), StoreError> {
        let sql = "INSERT INTO notification_events
                (id, type, certificate_id, channel, recipient, message, sent_at, status, error, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            RETURNING id";
        let Notification { id, kind, certificate_id, channel, recipient, message, created_at } = new;
        let (never, nothing): (Option<SystemTime>, Option<&str>) = (None, None);
        let parameters: [&(dyn ToSql + Sync); 10] =
            [id, kind, certificate_id, channel, recipient, message, &never, &"pending", &nothing, created_at];
        self.pool.get().await?.query_one(sql, &parameters).await?;
        Ok(())
    }

    async fn mark_notification_sent(&self, id: &str) -> Result<(), StoreError> {
        let sql = "UPDATE notification_events SET status = $1, sent_at = $2 WHERE id = $3";
        self.pool.get().await?.execute(sql, &[&"sent", &SystemTime::now(), &id]).await?;
        Ok(())
    }
}
