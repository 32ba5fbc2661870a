//! Issuance: a signed request becomes a version of its certificate, and its certificate is deployed.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::app::App;
use crate::authority::{IssuedCertificate, LOCAL_ISSUER, Terms};
use crate::clock::rfc3339;
use crate::signing_request::SigningRequest;
use crate::store::Store;
use crate::store::certificate_rows::{ACTIVE, Certificate};
use crate::store::job_rows::{DEPLOYMENT, FAILED, Job, PENDING};
use crate::store::profile_rows::Profile;
use crate::store::version_rows::CertificateVersion;

/// Returns the certificate's profile; one that cannot be read counts as none, as in certctl.
pub async fn profile_of<S: Store>(app: &App<S>, certificate: &Certificate) -> Option<Profile> {
    app.store.profile(certificate.profile_id.as_deref()?).await.ok().flatten()
}

/// Returns true if certificates of this issuer can be signed here.
pub fn can_sign(certificate: &Certificate) -> bool {
    certificate.issuer_id == LOCAL_ISSUER
}

/// Signs a request on the terms of a certificate and its profile.
pub fn sign<S>(
    app: &App<S>,
    certificate: &Certificate,
    profile: Option<&Profile>,
    request: &SigningRequest,
) -> Result<IssuedCertificate, String> {
    let terms = Terms {
        names: certificate.sans.clone().unwrap_or_default(),
        purposes: profile.map(|profile| profile.purposes.clone()).unwrap_or_default(),
        max_validity: profile.and_then(Profile::max_validity),
    };
    app.authority.sign(request, &terms)
}

/// Returns the version that an issued certificate becomes, which keeps the signing request, or the private key.
pub fn version_of<S>(
    app: &App<S>,
    certificate: &Certificate,
    request: &SigningRequest,
    kept_pem: &str,
    issued: &IssuedCertificate,
) -> CertificateVersion {
    CertificateVersion {
        id: app.ids.row("certver"),
        certificate_id: certificate.id.clone(),
        serial_number: issued.serial.clone(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        fingerprint_sha256: issued.fingerprint.clone(),
        pem_chain: format!("{}\n{}", issued.certificate_pem, issued.chain_pem),
        csr_pem: kept_pem.to_owned(),
        key_algorithm: request.key.family.to_owned(),
        key_size: request.key.bits,
        created_at: SystemTime::now(),
    }
}

/// Makes the certificate valid until this version expires.
pub fn renew(certificate: &mut Certificate, version: &CertificateVersion) {
    let now = SystemTime::now();
    ACTIVE.clone_into(&mut certificate.status);
    certificate.expires_at = version.not_after;
    certificate.last_renewal_at = Some(now);
    certificate.updated_at = now;
}

/// Returns the audit details of a renewal that is complete.
pub fn audited(job: &Job, version: &CertificateVersion, keygen_mode: &str) -> Value {
    json!({
        "job_id": job.id, "serial": version.serial_number, "not_after": rfc3339(version.not_after),
        "keygen_mode": keygen_mode,
    })
}

/// Inserts a deployment for each target of the certificate. A failure leaves it out, as in certctl.
pub async fn deploy<S: Store>(app: &App<S>, certificate: &Certificate) {
    let mut targets = Vec::new();
    let target_ids = certificate.target_ids.as_deref().unwrap_or_default();
    for id in target_ids {
        let target = app.store.target(id).await.ok().flatten();
        targets.push((id.clone(), target.map(|target| target.agent_id)));
    }
    if target_ids.is_empty() {
        let found = app.store.targets_of_certificate(&certificate.id).await.unwrap_or_default();
        targets.extend(found.into_iter().map(|target| (target.id, Some(target.agent_id))));
    }
    for (target_id, agent_id) in targets {
        let agent_id = agent_id.filter(|id| !id.is_empty());
        let job = Job::new(app.ids.row("job"), DEPLOYMENT, &certificate.id, PENDING);
        let _ = app.store.insert_job(&Job { target_id: Some(target_id), agent_id, ..job }).await;
    }
}

/// Marks a job as failed, and returns the reason. That this fails changes nothing about the reason.
pub async fn fail<S: Store>(app: &App<S>, job: &Job, reason: String) -> String {
    let _ = app.store.set_job_status(&job.id, FAILED, Some(&reason)).await;
    reason
}
