//! Notifications to a certificate's owner. As in a certctl without a mail server, each counts as sent at once.

use std::time::SystemTime;

use crate::app::App;
use crate::store::certificate_rows::Certificate;
use crate::store::notification_rows::Notification;
use crate::store::{Store, StoreError};

const EMAIL: &str = "Email";

/// Notifies the owner of a renewal, or of its failure. That this fails is no failure of the renewal.
pub async fn renewed<S: Store>(app: &App<S>, certificate: &Certificate, failure: Option<&str>) {
    let name = &certificate.common_name;
    let (kind, message) = match failure {
        None => ("RenewalSuccess", format!("The certificate of {name} was renewed.")),
        Some(reason) => ("RenewalFailure", format!("The certificate of {name} could not be renewed: {reason}")),
    };
    send(app, certificate, &[(kind, EMAIL)], &message).await;
}

/// Notifies the owner of a deployment that failed.
pub async fn not_deployed<S: Store>(app: &App<S>, certificate: &Certificate, target: &str, reason: &str) {
    let message = format!("The certificate of {} could not be deployed to {target}: {reason}", certificate.common_name);
    send(app, certificate, &[("DeploymentFailure", EMAIL)], &message).await;
}

/// Notifies the owner of a revocation, on two channels.
pub async fn revoked<S: Store>(app: &App<S>, certificate: &Certificate, reason: &str) {
    let message = format!("The certificate of {} was revoked: {reason}", certificate.common_name);
    send(app, certificate, &[("Revocation", "Webhook"), ("Revocation", EMAIL)], &message).await;
}

/// Inserts one notification for each channel, and marks them as sent once all are there.
async fn send<S: Store>(
    app: &App<S>,
    certificate: &Certificate,
    kinds: &[(&'static str, &'static str)],
    message: &str,
) {
    let mut inserted = Vec::new();
    for (kind, channel) in kinds {
        match insert(app, certificate, kind, channel, message).await {
            Ok(id) => inserted.push(id),
            // certctl only logs it.
            Err(_) => return,
        }
    }
    for id in inserted {
        let _ = app.store.mark_notification_sent(&id).await;
    }
}

async fn insert<S: Store>(
    app: &App<S>,
    certificate: &Certificate,
    kind: &'static str,
    channel: &'static str,
    message: &str,
) -> Result<String, StoreError> {
    let owner = app.store.owner_email(&certificate.owner_id).await.ok().flatten();
    let notification = Notification {
        id: app.ids.row("notif"),
        kind,
        certificate_id: certificate.id.clone(),
        channel,
        recipient: owner.filter(|email| !email.is_empty()).unwrap_or_else(|| certificate.owner_id.clone()),
        message: message.to_owned(),
        created_at: SystemTime::now(),
    };
    app.store.insert_notification(&notification).await?;
    Ok(notification.id)
}
