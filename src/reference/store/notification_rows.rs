//! Notifications to owners of certificates.

use std::future::Future;
use std::time::SystemTime;

use super::StoreError;

/// The operations that notifications need of a store.
pub trait NotificationStore {
    /// Returns an owner's mailbox.
    fn owner_email(&self, owner_id: &str) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
    /// Inserts a notification that is still to be sent.
    fn insert_notification(&self, new: &Notification) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Marks a notification as sent.
    fn mark_notification_sent(&self, id: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A row of the table of notifications.
#[derive(Debug)]
pub struct Notification {
    pub id: String,
    pub kind: &'static str,
    pub certificate_id: String,
    pub channel: &'static str,
    pub recipient: String,
    pub message: String,
    pub created_at: SystemTime,
}
