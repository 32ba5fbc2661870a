//! The job processor: takes pending jobs at intervals, and signs with keys of its own where the server makes them.

use std::sync::Arc;
use std::time::Duration;

use certctl_bench::terminal;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::aws_lc_rs;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::audit::Change;
use crate::authority::alternatives;
use crate::cli::{Behaviour, KeyGeneration};
use crate::signing_request::SigningRequest;
use crate::store::Store;
use crate::store::certificate_rows::{Certificate, RENEWAL_IN_PROGRESS};
use crate::store::job_rows::{AWAITING_CSR, COMPLETED, DEPLOYMENT, ISSUANCE, Job, PendingClaim, RENEWAL, RUNNING};
use crate::{deployment_job, issuance, notifications};

/// The most jobs of one round, as in certctl.
const CLAIM_LIMIT: usize = 1_000;
/// The most jobs at once, as in certctl.
const CONCURRENCY: usize = 25;
/// The longest round, as in certctl: jobs that are not begun by then stay as running.
const ROUND_LIMIT: Duration = Duration::from_secs(120);
/// The share by which an interval varies, as in certctl.
const JITTER: f64 = 0.1;
/// The threads that make keys; more of them would only share the processors.
pub const KEY_THREADS: usize = 2;

/// A key made here, and the request that it signed.
struct Keyed {
    key_pem: String,
    request: SigningRequest,
}

/// Runs a round at once, and another after each interval, until the server is to stop. A round that is still running
/// then is not joined by a second.
pub async fn run<S: Store>(app: Arc<App<S>>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random_share()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let rounds = async {
        loop {
            ticks.tick().await;
            round(&app).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = app.stopping() => {}
    }
}

/// Returns a random number from zero to one; a half where there is none.
fn random_share() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::default_provider().secure_random.fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

async fn round<S: Store>(app: &Arc<App<S>>) {
    // As built, deployments are taken from their agents: they are claimed and then skipped.
    let claim = PendingClaim { limit: CLAIM_LIMIT, of_agents: app.behaviour == Behaviour::AsBuilt };
    let jobs = match app.store.claim_pending(claim).await {
        Ok(jobs) => jobs,
        Err(error) => {
            terminal::message(format_args!("certctl-reference: jobs could not be claimed: {error}\n"));
            return;
        }
    };
    let (places, mut running) = (Arc::new(Semaphore::new(CONCURRENCY)), JoinSet::new());
    let work = async {
        for job in jobs.into_iter().filter(|job| !job.is_of_agent()) {
            // It is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let app = Arc::clone(app);
            running.spawn(async move {
                // A failure is in the job's row.
                let _ = process(&app, &job).await;
                drop(place);
            });
        }
        while running.join_next().await.is_some() {}
    };
    // What runs beyond the limit is aborted with the set.
    let _ = tokio::time::timeout(ROUND_LIMIT, work).await;
}

async fn process<S: Store>(app: &App<S>, job: &Job) -> Result<(), String> {
    match job.kind.as_str() {
        RENEWAL | ISSUANCE => renew(app, job).await,
        DEPLOYMENT => deployment_job::process(app, job).await,
        kind => Err(format!("unknown job type: {kind}")),
    }
}

async fn renew<S: Store>(app: &App<S>, job: &Job) -> Result<(), String> {
    app.store.set_job_status(&job.id, RUNNING, None).await.map_err(|error| error.to_string())?;
    let certificate = match app.store.certificate(&job.certificate_id).await {
        Ok(Some(certificate)) => certificate,
        Ok(None) => {
            return Err(issuance::fail(app, job, "certificate fetch failed: certificate not found".to_owned()).await);
        }
        Err(error) => return Err(issuance::fail(app, job, format!("certificate fetch failed: {error}")).await),
    };
    if !issuance::can_sign(&certificate) {
        let reason = format!("issuer connector not found for {}", certificate.issuer_id);
        return Err(issuance::fail(app, job, reason).await);
    }
    match app.keygen {
        KeyGeneration::Agent => hand_to_agent(app, job, certificate).await,
        KeyGeneration::Server => sign(app, job, certificate).await,
    }
}

/// Leaves the job to an agent.
async fn hand_to_agent<S: Store>(app: &App<S>, job: &Job, mut certificate: Certificate) -> Result<(), String> {
    app.store.set_job_status(&job.id, AWAITING_CSR, None).await.map_err(|error| error.to_string())?;
    RENEWAL_IN_PROGRESS.clone_into(&mut certificate.status);
    certificate.updated_at = std::time::SystemTime::now();
    // certctl only logs a failure here.
    let _ = app.store.update_certificate(&certificate).await;
    let details = json!({"job_id": job.id, "keygen_mode": "agent"});
    app.audit.append(&Change::by_system("renewal_awaiting_csr", &certificate.id, details)).await;
    Ok(())
}

/// Signs with a key made here.
async fn sign<S: Store>(app: &App<S>, job: &Job, mut certificate: Certificate) -> Result<(), String> {
    let keyed = match make_key(&app.key_threads, &certificate).await {
        Ok(keyed) => keyed,
        Err(error) => return Err(issuance::fail(app, job, format!("key generation failed: {error}")).await),
    };
    let profile = issuance::profile_of(app, &certificate).await;
    let issued = match issuance::sign(app, &certificate, profile.as_ref(), &keyed.request) {
        Ok(issued) => issued,
        Err(error) => {
            let reason = issuance::fail(app, job, format!("issuer renewal failed: {error}")).await;
            notifications::renewed(app, &certificate, Some(&error)).await;
            let details = json!({"job_id": job.id, "error": error});
            app.audit.append(&Change::by_system("renewal_job_failed", &certificate.id, details)).await;
            return Err(reason);
        }
    };
    let version = issuance::version_of(app, &certificate, &keyed.request, &keyed.key_pem, &issued);
    issuance::renew(&mut certificate, &version);
    let details = issuance::audited(job, &version, "server");
    let event = app.audit.event(&Change::by_system("renewal_job_completed", &certificate.id, details));
    if let Err(error) = app.store.insert_renewal(&version, &certificate, &event).await {
        return Err(issuance::fail(app, job, format!("failed to create certificate version: {error}")).await);
    }
    app.audit.inserted();
    app.work.jobs_signed.one();
    app.store.set_job_status(&job.id, COMPLETED, None).await.map_err(|error| error.to_string())?;
    issuance::deploy(app, &certificate).await;
    notifications::renewed(app, &certificate, None).await;
    Ok(())
}

/// Makes an RSA-2048 key and a request in a thread of its own: that takes a tenth of a second.
async fn make_key(threads: &Semaphore, certificate: &Certificate) -> Result<Keyed, String> {
    let (name, names) = (certificate.common_name.clone(), certificate.sans.clone().unwrap_or_default());
    let _thread = threads.acquire().await.map_err(|error| error.to_string())?;
    let made = tokio::task::spawn_blocking(move || keyed(&name, &names)).await;
    made.map_err(|error| error.to_string())?
}

fn keyed(common_name: &str, names: &[String]) -> Result<Keyed, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = alternatives(names.iter())?;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok(Keyed { key_pem: key.serialize_pem(), request: SigningRequest::from_der(request.der())? })
}
