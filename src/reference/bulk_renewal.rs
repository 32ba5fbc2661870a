//! The bulk renewal: an UPDATE and a new job for each certificate that matches, one after the other.

use hyper::StatusCode;
use serde::Serialize;

use crate::app::App;
use crate::audit::Change;
use crate::auth::Key;
use crate::body;
use crate::certificate_criteria::Criteria;
use crate::chain::ReceivedRequest;
use crate::renewal;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::certificate_rows::{Certificate, RENEWAL_IN_PROGRESS};

/// The states of certificates that are skipped; certctl compares them exactly.
const SKIPPED: [&str; 4] = ["Archived", "Revoked", "Expired", RENEWAL_IN_PROGRESS];

/// The result for these certificates.
#[derive(Default, Serialize)]
struct Outcome {
    total_matched: usize,
    total_enqueued: usize,
    total_skipped: usize,
    total_failed: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enqueued_jobs: Vec<Enqueued>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Failed>,
}

#[derive(Serialize)]
struct Enqueued {
    certificate_id: String,
    job_id: String,
}

#[derive(Serialize)]
struct Failed {
    certificate_id: String,
    error: String,
}

/// Renews the certificates of a request. All rows are read before the first is written, and nothing locks them
/// meanwhile.
pub async fn answer<S: Store>(app: &App<S>, key: &Key, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(criteria) = body::object::<Criteria>(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let Some(selection) = criteria.selection() else {
        let message = "Give at least one of profile_id, owner_id, agent_id, issuer_id, team_id, certificate_ids";
        return refuse(StatusCode::BAD_REQUEST, message);
    };
    let mut details = selection.audited();
    let matched = match selection.resolve(app).await {
        Ok(matched) => matched,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("Bulk renewal failed: {error}")),
    };
    let outcome = renew(app, matched).await;
    details["total_matched"] = outcome.total_matched.into();
    details["total_enqueued"] = outcome.total_enqueued.into();
    details["total_skipped"] = outcome.total_skipped.into();
    details["total_failed"] = outcome.total_failed.into();
    app.audit.append(&Change::by_key(key.actor, "bulk_renewal_initiated", "bulk", details)).await;
    reply::json(StatusCode::OK, &outcome)
}

async fn renew<S: Store>(app: &App<S>, matched: Vec<Certificate>) -> Outcome {
    let mut outcome = Outcome { total_matched: matched.len(), ..Outcome::default() };
    for certificate in matched {
        if SKIPPED.contains(&certificate.status.as_str()) {
            app.work.renewals_skipped.one();
            outcome.total_skipped += 1;
            continue;
        }
        let certificate_id = certificate.id.clone();
        match renewal::enqueue(app, certificate).await {
            Ok(job_id) => {
                app.work.renewals_enqueued.one();
                outcome.total_enqueued += 1;
                outcome.enqueued_jobs.push(Enqueued { certificate_id, job_id });
            }
            Err(error) => {
                outcome.total_failed += 1;
                outcome.errors.push(Failed { certificate_id, error });
            }
        }
    }
    outcome
}
