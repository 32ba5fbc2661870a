//! The end of an ACME order: its signing request becomes a certificate, which is then downloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::json;
use x509_cert::der::Decode as _;
use x509_cert::request::CertReq;

use super::problem::{Kind, Problem};
use super::{ISSUER, Place, client_event, issue_nonce, orders, profile, signed, with_location, with_nonce};
use crate::app::App;
use crate::authority::{IssuedCertificate, Terms};
use crate::cli::AcmeFinalize;
use crate::reply::{self, Reply};
use crate::signing_request::SigningRequest;
use crate::store::Store;
use crate::store::acme_order_rows::{AcmeOrder, Identifier};
use crate::store::acme_rows::AcmeStatus;
use crate::store::certificate_rows::{ACTIVE, Certificate};
use crate::store::profile_rows::Profile;
use crate::store::version_rows::CertificateVersion;
use crate::{base64url, body, pem};

const PEM_CHAIN: HeaderValue = HeaderValue::from_static("application/pem-certificate-chain");
/// The source of certificates that ACME clients have ordered.
const SOURCE: &str = "ACME";
/// The owner, the team and the policy of an order's certificate where finalization works. As built, certctl leaves them
/// empty, which the schema refuses.
const OWNERSHIP: [&str; 3] = ["o-alice", "t-platform", "rp-standard"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Finalize {
    csr: String,
}

/// Answers with the order, whose certificate is then issued.
pub async fn finalize<S: Store>(app: &App<S>, place: &Place<'_>, id: &str, body: &[u8]) -> Result<Reply, Problem> {
    let (account, payload) = signed::by_account(app, place, body).await?;
    let wanted: Finalize =
        body::object(&payload).ok_or_else(|| Problem::malformed("could not parse finalize payload"))?;
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, Kind::BadCsr, detail);
    let der = base64url::decode(&wanted.csr).ok_or_else(|| bad("csr field is not valid base64url"))?;
    CertReq::from_der(&der).map_err(|_| bad("csr did not parse as a valid PKCS#10"))?;
    let csr_pem = pem::encode("CERTIFICATE REQUEST", &der);
    let mut order = orders::own(app, id, &account.id).await?;
    if !matches!(order.status, AcmeStatus::Ready | AcmeStatus::Processing) {
        let detail = "order is not in the `ready` state; complete authorizations first";
        return Err(Problem::new(StatusCode::FORBIDDEN, Kind::OrderNotReady, detail));
    }
    let request = SigningRequest::from_der(&der);
    if let Ok(request) = &request
        && let Err(problem) = match_names(request, &order.identifiers)
    {
        let detail = give_up(app, order, problem).await;
        // As built, the client does not learn of it.
        return Err(if app.is_as_built() { Problem::internal() } else { detail });
    }
    // certctl resolves the profile, and then fetches it.
    profile(app, place).await?;
    let (profile_id, profile) = profile(app, place).await?;
    order.status = AcmeStatus::Processing;
    let details = json!({"profile_id": profile_id});
    let event = client_event(app, &account.id, "acme_order_processing", "acme_order", &order.id, details);
    app.store.update_acme_order(&order, Some(&event)).await?;
    app.audit.inserted();
    let issued = request.and_then(|request| {
        let issued = app.authority.sign(&request, &terms(&order, &profile))?;
        Ok((request.common_name, issued))
    });
    let (common_name, issued) = match issued {
        Ok(issued) => issued,
        Err(_) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            give_up(app, order, Problem::new(status, Kind::ServerInternal, "issuer rejected the CSR")).await;
            return Err(Problem::internal());
        }
    };
    let order = keep(app, order, profile_id, common_name, issued, csr_pem).await?;
    app.work.orders_finalized.one();
    let nonce = issue_nonce(app).await;
    let reply = with_nonce(orders::shown(app, place, StatusCode::OK, &order).await, nonce);
    Ok(with_location(reply, place.order(&order.id)))
}

/// Compares the names of a request with those of its order, whatever their case.
fn match_names(request: &SigningRequest, identifiers: &[Identifier]) -> Result<(), Problem> {
    let bad = |detail: String| Err(Problem::new(StatusCode::BAD_REQUEST, Kind::BadCsr, detail));
    let common_name = Some(&request.common_name).filter(|name| !name.is_empty());
    let requested: BTreeSet<String> =
        common_name.into_iter().chain(&request.names).map(|name| name.to_lowercase()).collect();
    let ordered: BTreeSet<String> = identifiers.iter().map(|identifier| identifier.value.to_lowercase()).collect();
    if requested.len() != ordered.len() {
        let (csr, order) = (requested.len(), ordered.len());
        return bad(format!("CSR identifier count ({csr}) differs from order identifier count ({order})"));
    }
    match ordered.difference(&requested).next() {
        Some(missing) => bad(format!("CSR is missing the order identifier {missing:?}")),
        None => Ok(()),
    }
}

/// Marks an order as failed for this reason, which it returns. If that cannot be written, it is left as it is.
async fn give_up<S: Store>(app: &App<S>, mut order: AcmeOrder, problem: Problem) -> Problem {
    (order.status, order.error) = (AcmeStatus::Invalid, Some(problem.to_fault()));
    let _ = app.store.update_acme_order(&order, None).await;
    problem
}

fn terms(order: &AcmeOrder, profile: &Profile) -> Terms {
    Terms {
        names: order.identifiers.iter().map(|identifier| identifier.value.clone()).collect(),
        purposes: profile.purposes.clone(),
        max_validity: profile.max_validity(),
    }
}

/// Stores a certificate and its version, and returns the order, which is valid then.
async fn keep<S: Store>(
    app: &App<S>,
    mut order: AcmeOrder,
    profile_id: &str,
    common_name: String,
    issued: IssuedCertificate,
    csr_pem: String,
) -> Result<AcmeOrder, Problem> {
    let certificate_id = format!("mc-acme-{}", app.ids.short().ok_or_else(Problem::internal)?);
    let certificate = certificate(app, &certificate_id, &order, profile_id, common_name, &issued);
    let details = json!({"common_name": certificate.common_name});
    let event = client_event(app, &order.account_id, "certificate_created", "certificate", &certificate_id, details);
    app.store.insert_acme_certificate(&certificate, &event).await?;
    app.audit.inserted();
    let version = CertificateVersion {
        id: app.ids.row("certver"),
        certificate_id: certificate_id.clone(),
        serial_number: issued.serial.clone(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        fingerprint_sha256: issued.fingerprint,
        pem_chain: issued.certificate_pem + &issued.chain_pem,
        csr_pem: csr_pem.clone(),
        // certctl leaves these two out.
        key_algorithm: String::new(),
        key_size: 0,
        created_at: SystemTime::now(),
    };
    let details = json!({"profile_id": profile_id, "certificate_id": certificate_id, "serial": issued.serial});
    let event = client_event(app, &order.account_id, "acme_order_finalized", "acme_order", &order.id, details);
    (order.status, order.csr_pem, order.certificate_id, order.error) =
        (AcmeStatus::Valid, csr_pem, Some(certificate_id), None);
    app.store.finish_acme_order(&version, &order, &event).await?;
    app.audit.inserted();
    Ok(order)
}

fn certificate<S: Store>(
    app: &App<S>,
    id: &str,
    order: &AcmeOrder,
    profile_id: &str,
    common_name: String,
    issued: &IssuedCertificate,
) -> Certificate {
    let names = order.identifiers.iter().map(|identifier| identifier.value.clone());
    let [owner_id, team_id, renewal_policy_id] =
        if app.acme_finalize == AcmeFinalize::Works { OWNERSHIP.map(str::to_owned) } else { Default::default() };
    let now = SystemTime::now();
    Certificate {
        id: id.to_owned(),
        name: format!("acme-{}", order.id),
        common_name: if common_name.is_empty() { names.clone().next().unwrap_or_default() } else { common_name },
        sans: Some(names.collect()),
        environment: String::new(),
        owner_id,
        team_id,
        issuer_id: ISSUER.to_owned(),
        target_ids: None,
        renewal_policy_id,
        profile_id: Some(profile_id.to_owned()),
        status: ACTIVE.to_owned(),
        expires_at: issued.not_after,
        tags: BTreeMap::new(),
        last_renewal_at: None,
        last_deployment_at: None,
        revoked_at: None,
        revocation_reason: None,
        created_at: now,
        updated_at: now,
        source: SOURCE.to_owned(),
    }
}

/// Answers with the chain of a certificate. As built, every account may have it.
pub async fn certificate_chain<S: Store>(
    app: &App<S>,
    place: &Place<'_>,
    id: &str,
    body: &[u8],
) -> Result<Reply, Problem> {
    let (account, _) = signed::by_account(app, place, body).await?;
    let missing = || Problem::not_found("resource not found");
    let certificate = match app.store.certificate(id).await? {
        Some(certificate) if certificate.source == SOURCE => certificate,
        // certctl's lookup of an unknown certificate fails.
        None if app.is_as_built() => return Err(Problem::internal()),
        _ => return Err(missing()),
    };
    if !app.is_as_built() && !app.store.owns_certificate(&account.id, &certificate.id).await? {
        return Err(Problem::unauthorized("account does not own this resource"));
    }
    let version = app.store.latest_version(&certificate.id).await?.ok_or_else(Problem::internal)?;
    app.work.certificates_downloaded.one();
    Ok(with_nonce(reply::with_body(StatusCode::OK, PEM_CHAIN, version.pem_chain), issue_nonce(app).await))
}
