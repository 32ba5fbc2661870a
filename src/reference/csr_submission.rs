//! The signing request of an agent.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::audit::Change;
use crate::body;
use crate::chain::ReceivedRequest;
use crate::cli::Behaviour;
use crate::reply::{self, Reply};
use crate::signing_request::SigningRequest;
use crate::store::Store;
use crate::store::certificate_rows::Certificate;
use crate::store::job_rows::{AWAITING_CSR, COMPLETED, Job, RUNNING};
use crate::{issuance, notifications};

const PEM_HEADER: &str = "-----BEGIN CERTIFICATE REQUEST-----";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Submission {
    csr_pem: Option<String>,
    certificate_id: Option<String>,
}

/// The reason for which a submission was not accepted.
enum Refusal {
    /// An agent or a certificate that does not exist.
    Unknown(&'static str),
    Failed,
}

/// Answers with 202 once the certificate is signed and its deployments are enqueued.
pub async fn answer<S: Store>(app: &App<S>, agent_id: &str, request: &ReceivedRequest) -> Reply {
    let refuse = |status, message: &str| reply::failure(status, message, &request.id);
    let Some(submission) = body::object::<Submission>(&request.body) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid request body");
    };
    let csr_pem = submission.csr_pem.unwrap_or_default();
    if csr_pem.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "csr_pem: csr_pem is required");
    }
    if !csr_pem.trim_start().starts_with(PEM_HEADER) {
        return refuse(StatusCode::BAD_REQUEST, "csr_pem: csr_pem must be a valid PEM-encoded certificate request");
    }
    let certificate_id = submission.certificate_id.unwrap_or_default();
    match submit(app, agent_id, &certificate_id, &csr_pem).await {
        Ok(()) => {
            let status = if certificate_id.is_empty() { "csr_accepted" } else { "csr_signed" };
            reply::json(StatusCode::ACCEPTED, &json!({ "status": status }))
        }
        Err(Refusal::Unknown(what)) if app.behaviour == Behaviour::AsDocumented => refuse(StatusCode::NOT_FOUND, what),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "Failed to submit CSR"),
    }
}

async fn submit<S: Store>(app: &App<S>, agent_id: &str, certificate_id: &str, csr_pem: &str) -> Result<(), Refusal> {
    let found = app.store.agent(agent_id).await.map_err(|_| Refusal::Failed)?;
    let agent = found.ok_or(Refusal::Unknown("Agent not found"))?;
    let mut details = json!({"agent_hostname": agent.hostname});
    if !certificate_id.is_empty() {
        let found = app.store.certificate(certificate_id).await.map_err(|_| Refusal::Failed)?;
        let certificate = found.ok_or(Refusal::Unknown("Certificate not found"))?;
        // certctl takes a failure to read them for there being none.
        let jobs = app.store.jobs_of_certificate(certificate_id).await.unwrap_or_default();
        match jobs.into_iter().find(|job| job.status == AWAITING_CSR) {
            Some(job) => {
                complete(app, &job, certificate, csr_pem).await.map_err(|_| Refusal::Failed)?;
                details["keygen_mode"] = "agent".into();
                details["job_id"] = job.id.into();
            }
            None => sign_without_job(app, certificate, csr_pem).await.map_err(|_| Refusal::Failed)?,
        }
    }
    let change = Change::by_agent(&agent.id, "csr_submitted", "certificate", certificate_id, details);
    app.audit.append(&change).await;
    Ok(())
}

/// Signs the request that a renewal waits for. No transaction ties its statements together.
async fn complete<S: Store>(
    app: &App<S>,
    job: &Job,
    mut certificate: Certificate,
    csr_pem: &str,
) -> Result<(), String> {
    if !issuance::can_sign(&certificate) {
        let reason = format!("issuer connector not found for {}", certificate.issuer_id);
        return Err(issuance::fail(app, job, reason).await);
    }
    let profile = issuance::profile_of(app, &certificate).await;
    let request = SigningRequest::from_pem(csr_pem).and_then(|request| {
        profile.as_ref().map_or(Ok(()), |profile| profile.check(request.key.family, request.key.bits))?;
        Ok(request)
    });
    let request = match request {
        Ok(request) => request,
        Err(error) => return Err(issuance::fail(app, job, format!("CSR validation failed: {error}")).await),
    };
    set_status(app, job, RUNNING).await?;
    let issued = match issuance::sign(app, &certificate, profile.as_ref(), &request) {
        Ok(issued) => issued,
        Err(error) => {
            let reason = issuance::fail(app, job, format!("issuer signing failed: {error}")).await;
            notifications::renewed(app, &certificate, Some(&error)).await;
            let details = json!({"job_id": job.id, "error": error});
            app.audit.append(&Change::by_system("renewal_job_failed", &certificate.id, details)).await;
            return Err(reason);
        }
    };
    let version = issuance::version_of(app, &certificate, &request, csr_pem, &issued);
    if let Err(error) = app.store.insert_version(&version).await {
        return Err(issuance::fail(app, job, format!("version creation failed: {error}")).await);
    }
    app.work.csrs_signed.one();
    issuance::renew(&mut certificate, &version);
    if let Err(error) = app.store.update_certificate(&certificate).await {
        return Err(issuance::fail(app, job, format!("cert update failed: {error}")).await);
    }
    set_status(app, job, COMPLETED).await?;
    issuance::deploy(app, &certificate).await;
    notifications::renewed(app, &certificate, None).await;
    let details = issuance::audited(job, &version, "agent");
    app.audit.append(&Change::by_system("renewal_job_completed", &certificate.id, details)).await;
    Ok(())
}

async fn set_status<S: Store>(app: &App<S>, job: &Job, status: &str) -> Result<(), String> {
    match app.store.set_job_status(&job.id, status, None).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("failed to update job status: job not found".to_owned()),
        Err(error) => Err(format!("failed to update job status: {error}")),
    }
}

/// Signs a request that no job waits for: the certificate is renewed, but deployed nowhere. certctl accepts it even
/// where it has no issuer to sign with.
async fn sign_without_job<S: Store>(app: &App<S>, mut certificate: Certificate, csr_pem: &str) -> Result<(), String> {
    if !issuance::can_sign(&certificate) {
        return Ok(());
    }
    let profile = issuance::profile_of(app, &certificate).await;
    let request = SigningRequest::from_pem(csr_pem)?;
    profile.as_ref().map_or(Ok(()), |profile| profile.check(request.key.family, request.key.bits))?;
    let issued = issuance::sign(app, &certificate, profile.as_ref(), &request)?;
    let version = issuance::version_of(app, &certificate, &request, csr_pem, &issued);
    app.store.insert_version(&version).await.map_err(|error| error.to_string())?;
    app.work.csrs_signed.one();
    issuance::renew(&mut certificate, &version);
    // certctl only logs a failure here.
    let _ = app.store.update_certificate(&certificate).await;
    Ok(())
}
