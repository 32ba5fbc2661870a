//! The revocation of a certificate, alone or among many.

use std::time::SystemTime;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::audit::Change;
use crate::auth::Key;
use crate::authority::LOCAL_ISSUER;
use crate::body;
use crate::chain::ReceivedRequest;
use crate::notifications;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::certificate_rows::REVOKED;
use crate::store::revocation_rows::Revocation;

/// The reasons, with their numbers in CRLs and OCSP responses (RFC 5280, section 5.3.1).
const REASONS: [(&str, u8); 8] = [
    ("unspecified", 0),
    ("keyCompromise", 1),
    ("caCompromise", 2),
    ("affiliationChanged", 3),
    ("superseded", 4),
    ("cessationOfOperation", 5),
    ("certificateHold", 6),
    ("privilegeWithdrawn", 9),
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    reason: Option<String>,
}

/// The reason for which a certificate was not revoked.
#[derive(Debug)]
pub enum Refusal {
    /// It may not be revoked, or not for that reason.
    Invalid(String),
    /// It could not be read, or was never issued.
    NotFound(String),
    Failed(String),
}

impl Refusal {
    /// Returns certctl's message.
    pub fn message(self) -> String {
        match self {
            Self::Invalid(message) | Self::NotFound(message) | Self::Failed(message) => message,
        }
    }
}

/// Returns the number of a reason; `None` for an unknown one.
pub fn reason_code(reason: &str) -> Option<u8> {
    REASONS.iter().find(|(name, _)| *name == reason).map(|(_, code)| *code)
}

/// Answers a request to revoke one certificate; it may give a reason.
pub async fn answer<S: Store>(app: &App<S>, key: &Key, id: &str, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let mut reason = String::new();
    if request.has_json() {
        let Some(body) = body::object::<Body>(&request.body) else {
            return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
        };
        reason = body.reason.unwrap_or_default();
    }
    match revoke(app, key, id, &reason).await {
        Ok(()) => reply::json(StatusCode::OK, &json!({"status": "revoked"})),
        Err(Refusal::Invalid(message)) => refuse(StatusCode::BAD_REQUEST, &message),
        Err(Refusal::NotFound(_)) => refuse(StatusCode::NOT_FOUND, "Certificate not found"),
        Err(Refusal::Failed(_)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to revoke certificate"),
    }
}

/// Revokes the newest version of a certificate. What OCSP has answered about it is dropped; the CRL is not.
pub async fn revoke<S: Store>(app: &App<S>, key: &Key, id: &str, reason: &str) -> Result<(), Refusal> {
    let unread = |why: String| Refusal::NotFound(format!("failed to fetch certificate: {why}"));
    let found = app.store.certificate(id).await.map_err(|error| unread(error.to_string()))?;
    let mut certificate = found.ok_or_else(|| unread("not found".to_owned()))?;
    match certificate.status.as_str() {
        REVOKED => return Err(Refusal::Invalid("certificate is already revoked".to_owned())),
        "Archived" => return Err(Refusal::Invalid("cannot revoke archived certificate".to_owned())),
        _ => {}
    }
    let reason = if reason.is_empty() { "unspecified" } else { reason };
    if reason_code(reason).is_none() {
        return Err(Refusal::Invalid(format!("invalid revocation reason: {reason}")));
    }
    let unissued = |why: String| Refusal::NotFound(format!("failed to get certificate version: {why}"));
    let found = app.store.latest_version(id).await.map_err(|error| unissued(error.to_string()))?;
    let serial = found.ok_or_else(|| unissued("none was issued".to_owned()))?.serial_number;
    let now = SystemTime::now();
    REVOKED.clone_into(&mut certificate.status);
    certificate.revoked_at = Some(now);
    certificate.revocation_reason = Some(reason.to_owned());
    certificate.updated_at = now;
    let revocation = Revocation {
        id: app.ids.row("rev"),
        certificate_id: id.to_owned(),
        serial_number: serial.clone(),
        reason: reason.to_owned(),
        revoked_by: key.actor.to_owned(),
        revoked_at: now,
        issuer_id: certificate.issuer_id.clone(),
    };
    let details = json!({"common_name": certificate.common_name, "serial": serial, "reason": reason});
    let event = app.audit.event(&Change::by_key(key.actor, "certificate_revoked", id, details));
    let inserted = app.store.insert_revocation(&certificate, &revocation, &event).await;
    inserted.map_err(|error| Refusal::Failed(error.to_string()))?;
    app.audit.inserted();
    app.work.revocations.one();
    // None of what follows can undo the revocation; certctl only logs its failures.
    if certificate.issuer_id == LOCAL_ISSUER {
        for known in app.store.revocations_of_certificate(id).await.unwrap_or_default() {
            if known.serial_number == serial {
                let _ = app.store.mark_issuer_notified(&known.id).await;
            }
        }
    }
    let _ = app.store.drop_ocsp_response(&certificate.issuer_id, &serial).await;
    notifications::revoked(app, &certificate, reason).await;
    Ok(())
}
