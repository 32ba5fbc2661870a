//! The revocation of a certificate by an ACME client (RFC 8555, section 7.6).

use hyper::StatusCode;
use serde::Deserialize;
use x509_cert::Certificate as X509;
use x509_cert::der::Decode as _;

use super::problem::{Kind, Problem};
use super::signed::{By, Signed};
use super::{ISSUER, Place, actor, issue_nonce, signed, with_nonce};
use crate::app::App;
use crate::base64url;
use crate::body;
use crate::ocsp;
use crate::renewal_window::SerialNumber;
use crate::reply::{self, Reply};
use crate::revocation;
use crate::store::Store;
use crate::store::certificate_rows::REVOKED;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Revocation {
    certificate: String,
    reason: i64,
}

/// Answers with nothing once the certificate is revoked, by an account that ordered it or by its own key.
pub async fn revoke<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let Signed { payload, by } = signed::by_either(app, place, body).await?;
    let wanted: Revocation =
        body::object(&payload).ok_or_else(|| Problem::malformed("could not parse revoke-cert payload"))?;
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, Kind::BadCsr, detail);
    let der = base64url::decode(&wanted.certificate).filter(|der| !der.is_empty());
    let der = der.ok_or_else(|| bad("`certificate` is not valid base64url-DER"))?;
    let x509 = X509::from_der(&der).map_err(|_| bad("the supplied `certificate` field is not a valid X.509 cert"))?;
    let serial = SerialNumber::of_bytes(x509.tbs_certificate.serial_number.as_bytes());
    // Failures count as there being none.
    let unknown = || Problem::not_found("the supplied certificate is not known to this server");
    let stored = ocsp::lookup_form(app.behaviour, serial.hex());
    let version = app.store.version_by_serial(ISSUER, &stored).await.ok().flatten().ok_or_else(unknown)?;
    let found = app.store.certificate(&version.certificate_id).await.ok().flatten();
    let certificate = found.ok_or_else(unknown)?;
    if certificate.status == REVOKED {
        let detail = "the certificate has already been revoked";
        return Err(Problem::new(StatusCode::BAD_REQUEST, Kind::AlreadyRevoked, detail));
    }
    let (allowed, actor) = match by {
        By::Account(account) => (app.store.owns_certificate(&account.id, &certificate.id).await?, actor(&account.id)),
        By::Key(key) => {
            let same = key.is_that_of(&x509.tbs_certificate.subject_public_key_info);
            (same, format!("acme-cert-key:{}", serial.hex()))
        }
    };
    if !allowed {
        return Err(Problem::unauthorized("the requester is not authorized to revoke this certificate"));
    }
    let reason = revocation::reason_name(wanted.reason);
    revocation::revoke(app, &actor, &certificate.id, reason).await.map_err(|_| Problem::internal())?;
    Ok(with_nonce(reply::empty(StatusCode::OK), issue_nonce(app).await))
}
