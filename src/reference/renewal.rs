//! The renewal of one certificate: a job, and the request for one.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::audit::Change;
use crate::auth::Key;
use crate::body;
use crate::chain::ReceivedRequest;
use crate::cli::{Behaviour, KeyGeneration};
use crate::clock::parse_rfc3339;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::store::certificate_rows::{Certificate, RENEWAL_IN_PROGRESS};
use crate::store::job_rows::{AWAITING_CSR, ISSUANCE, Job, PENDING, RENEWAL};
use crate::store::{Store, StoreError};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    force: Option<bool>,
}

/// Marks the certificate and inserts a job, whose id it returns; no transaction ties the two together.
pub async fn enqueue<S: Store>(app: &App<S>, mut certificate: Certificate) -> Result<String, String> {
    mark(app, &mut certificate).await?;
    insert_job(app, &certificate).await
}

/// Marks the certificate as being renewed.
async fn mark<S: Store>(app: &App<S>, certificate: &mut Certificate) -> Result<(), String> {
    RENEWAL_IN_PROGRESS.clone_into(&mut certificate.status);
    let updated = app
        .store
        .update_certificate(certificate)
        .await
        .and_then(|found| if found { Ok(()) } else { Err(StoreError::because("certificate not found")) });
    updated.map_err(|error| format!("failed to update certificate status: {error}"))
}

/// Inserts the job that renews a certificate.
async fn insert_job<S: Store>(app: &App<S>, certificate: &Certificate) -> Result<String, String> {
    // A certificate that was never issued has no real expiry.
    let never_issued = parse_rfc3339("2000-01-01T00:00:00Z").is_some_and(|start| certificate.expires_at < start);
    let kind = if never_issued { ISSUANCE } else { RENEWAL };
    let status = match app.keygen {
        KeyGeneration::Agent => AWAITING_CSR,
        KeyGeneration::Server => PENDING,
    };
    let job = Job::new(app.ids.row("job"), kind, &certificate.id, status);
    app.store.insert_job(&job).await.map_err(|error| format!("failed to create renewal job: {error}"))?;
    Ok(job.id)
}

/// Answers a request to renew one certificate.
pub async fn answer<S: Store>(app: &App<S>, key: &Key, id: &str, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let certificate = match app.store.certificate(id).await {
        Ok(Some(certificate)) => certificate,
        Ok(None) if app.behaviour == Behaviour::AsDocumented => {
            return refuse(StatusCode::NOT_FOUND, "Certificate not found");
        }
        Ok(None) | Err(_) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to trigger renewal"),
    };
    match certificate.status.as_str() {
        "Archived" => return refuse(StatusCode::BAD_REQUEST, "cannot renew archived certificate"),
        "Expired" => return refuse(StatusCode::BAD_REQUEST, "cannot renew expired certificate; reissue instead"),
        RENEWAL_IN_PROGRESS if !forced(request) => {
            return refuse(StatusCode::CONFLICT, "certificate renewal already in progress");
        }
        _ => {}
    }
    if renew(app, key, certificate).await.is_err() {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to trigger renewal");
    }
    app.work.renewals_enqueued.one();
    reply::json(StatusCode::ACCEPTED, &json!({"status": "renewal_triggered"}))
}

async fn renew<S: Store>(app: &App<S>, key: &Key, mut certificate: Certificate) -> Result<(), String> {
    mark(app, &mut certificate).await?;
    if let Some(profile_id) = &certificate.profile_id {
        // certctl looks whether the profile needs an approval; here none does.
        let _ = app.store.profile(profile_id).await;
    }
    insert_job(app, &certificate).await?;
    let details = json!({"common_name": certificate.common_name});
    app.audit.append(&Change::by_key(key.actor, "renewal_triggered", &certificate.id, details)).await;
    Ok(())
}

/// Returns true if the request is to renew a certificate that is being renewed.
fn forced(request: &ReceivedRequest) -> bool {
    let query = Query::parse(request.head.uri.query());
    if matches!(query.get("force"), Some("true" | "1")) {
        return true;
    }
    request.has_json() && body::object::<Body>(&request.body).and_then(|body| body.force).unwrap_or_default()
}
