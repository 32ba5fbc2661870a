//! The bulk revocation: certificates are revoked one after the other.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::audit::Change;
use crate::auth::Key;
use crate::body;
use crate::certificate_criteria::Criteria;
use crate::chain::ReceivedRequest;
use crate::reply::{self, Reply};
use crate::revocation;
use crate::store::Store;
use crate::store::certificate_rows::{Certificate, REVOKED};

const SKIPPED: [&str; 2] = [REVOKED, "Archived"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    reason: Option<String>,
    #[serde(flatten)]
    criteria: Criteria,
}

/// The result for the certificates that matched.
#[derive(Default, Serialize)]
struct Outcome {
    total_matched: usize,
    total_revoked: usize,
    total_skipped: usize,
    total_failed: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    certificate_id: String,
    error: String,
}

/// Revokes the certificates of a request, for a reason that it must give.
pub async fn answer<S: Store>(app: &App<S>, key: &Key, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(Body { reason, criteria }) = body::object(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let Some(reason) = reason.filter(|reason| !reason.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "Revocation reason is required");
    };
    if revocation::reason_code(&reason).is_none() {
        return refuse(StatusCode::BAD_REQUEST, &format!("Invalid revocation reason: {reason}"));
    }
    let Some(selection) = criteria.selection() else {
        let message = "Give at least one of profile_id, owner_id, agent_id, issuer_id, team_id, certificate_ids";
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    let mut details = selection.audited();
    let matched = match selection.resolve(app).await {
        Ok(matched) => matched,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("Bulk revocation failed: {error}")),
    };
    let outcome = revoke(app, key, &matched, &reason).await;
    details["reason"] = reason.into();
    details["total_matched"] = outcome.total_matched.into();
    details["total_revoked"] = outcome.total_revoked.into();
    details["total_skipped"] = outcome.total_skipped.into();
    details["total_failed"] = outcome.total_failed.into();
    app.audit.append(&Change::by_key(key.actor, "bulk_revocation_initiated", "bulk", details)).await;
    reply::json(StatusCode::OK, &outcome)
}

async fn revoke<S: Store>(app: &App<S>, key: &Key, matched: &[Certificate], reason: &str) -> Outcome {
    let mut outcome = Outcome { total_matched: matched.len(), ..Outcome::default() };
    for Certificate { id, status, .. } in matched {
        if SKIPPED.contains(&status.as_str()) {
            outcome.total_skipped += 1;
            continue;
        }
        match revocation::revoke(app, key, id, reason).await {
            Ok(()) => outcome.total_revoked += 1,
            Err(refusal) => {
                outcome.total_failed += 1;
                outcome.errors.push(Failed { certificate_id: id.clone(), error: refusal.message() });
            }
        }
    }
    outcome
}
