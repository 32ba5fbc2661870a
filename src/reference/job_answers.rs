//! Jobs one by one: shown, reported on by agents, verified.

use std::time::SystemTime;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::audit::Change;
use crate::body;
use crate::chain::ReceivedRequest;
use crate::cli::Behaviour;
use crate::clock::rfc3339;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::job_rows::{COMPLETED, DEPLOYMENT};

/// A report by an agent; certctl takes any status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    status: Option<String>,
    error: Option<String>,
}

/// The result of an agent's look at the target's TLS.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Verification {
    target_id: Option<String>,
    expected_fingerprint: Option<String>,
    actual_fingerprint: Option<String>,
    verified: Option<bool>,
    error: Option<String>,
}

/// Answers with one job.
pub async fn show<S: Store>(app: &App<S>, id: &str, request_id: &str) -> Reply {
    match app.store.job(id).await {
        Ok(Some(job)) => reply::json(StatusCode::OK, &job),
        // certctl answers every failure of this lookup like that.
        Ok(None) | Err(_) => reply::failure(StatusCode::NOT_FOUND, "Job not found", request_id),
    }
}

/// Sets the status that an agent reports; that the job is the agent's is not checked.
pub async fn report<S: Store>(app: &App<S>, agent_id: &str, job_id: &str, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(report) = body::object::<Report>(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let Some(status) = report.status.filter(|status| !status.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "Status is required");
    };
    let failed = || refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to update job status");
    let job = match app.store.job(job_id).await {
        Ok(Some(job)) => job,
        Ok(None) if app.behaviour == Behaviour::AsDocumented => return refuse(StatusCode::NOT_FOUND, "Job not found"),
        Ok(None) | Err(_) => return failed(),
    };
    let error = report.error.unwrap_or_default();
    let last_error = Some(error.as_str()).filter(|error| !error.is_empty());
    if !matches!(app.store.set_job_status(job_id, &status, last_error).await, Ok(true)) {
        return failed();
    }
    app.work.statuses_reported.one();
    if job.kind == DEPLOYMENT && status == COMPLETED {
        app.work.deployments_completed.one();
    }
    let details = json!({"status": status, "error": error});
    app.audit.append(&Change::by_agent(agent_id, "job_status_reported", "job", job_id, details)).await;
    reply::json(StatusCode::OK, &json!({"status": "updated"}))
}

/// Takes note of a verification in the audit log only: certctl writes the job back without it.
pub async fn verify<S: Store>(app: &App<S>, id: &str, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(verification) = body::object::<Verification>(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body: not a JSON object");
    };
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let Some(target_id) = given(&verification.target_id) else {
        return refuse(StatusCode::BAD_REQUEST, "target_id is required");
    };
    let Some(expected) = given(&verification.expected_fingerprint) else {
        return refuse(StatusCode::BAD_REQUEST, "expected_fingerprint is required");
    };
    let Some(actual) = given(&verification.actual_fingerprint) else {
        return refuse(StatusCode::BAD_REQUEST, "actual_fingerprint is required");
    };
    let failed = |reason: &str| {
        let message = format!("Failed to record verification result: {reason}");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, &message)
    };
    let job = match app.store.job(id).await {
        Ok(Some(job)) => job,
        Ok(None) if app.behaviour == Behaviour::AsDocumented => return refuse(StatusCode::NOT_FOUND, "Job not found"),
        Ok(None) => return failed("failed to fetch job for verification: job not found"),
        Err(error) => return failed(&error.to_string()),
    };
    if let Err(error) = app.store.rewrite_job(&job).await {
        return failed(&error.to_string());
    }
    let (verified, now) = (verification.verified.unwrap_or_default(), SystemTime::now());
    let mut details = json!({
        "job_id": id, "target_id": target_id, "expected_fingerprint": expected, "actual_fingerprint": actual,
        "verified": verified,
    });
    let mut action = "job_verification_success";
    if let Some(error) = given(&verification.error) {
        action = "job_verification_failed";
        details["error"] = error.into();
    }
    app.audit.append(&Change::by_agent("agent", action, "job", id, details)).await;
    reply::json(StatusCode::OK, &json!({"job_id": id, "verified": verified, "verified_at": rfc3339(now)}))
}
