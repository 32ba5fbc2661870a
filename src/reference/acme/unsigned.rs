//! ACME's unsigned requests: directory, nonces, renewal information.

use std::time::SystemTime;

use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::problem::{Kind, Problem};
use super::{ISSUER, Place, issue_nonce, profile, with_nonce};
use crate::app::App;
use crate::clock;
use crate::ocsp;
use crate::renewal_window::{SerialNumber, Window};
use crate::reply::{self, Reply};
use crate::store::Store;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// The time after which a client may request renewal information again.
const RENEWAL_INFO_RETRY_S: HeaderValue = HeaderValue::from_static("21600");

/// Answers with the directory, which comes with a nonce and so writes a row.
pub async fn directory<S: Store>(app: &App<S>, place: &Place<'_>) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Directory {
        new_nonce: String,
        new_account: String,
        new_order: String,
        revoke_cert: String,
        key_change: String,
        renewal_info: String,
    }
    profile(app, place).await?;
    let directory = Directory {
        new_nonce: place.url("new-nonce"),
        new_account: place.url("new-account"),
        new_order: place.url("new-order"),
        revoke_cert: place.url("revoke-cert"),
        key_change: place.url("key-change"),
        renewal_info: place.url("renewal-info"),
    };
    let reply = with_nonce(reply::json(StatusCode::OK, &directory), issue_nonce(app).await);
    Ok(reply::with_header(reply, header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, no-cache")))
}

/// Answers with a nonce.
pub async fn new_nonce<S: Store>(app: &App<S>, place: &Place<'_>, method: &Method) -> Result<Reply, Problem> {
    profile(app, place).await?;
    let Some(nonce) = issue_nonce(app).await else {
        let detail = "nonce issuance failed";
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::ServerInternal, detail));
    };
    let status = if method == Method::HEAD { StatusCode::OK } else { StatusCode::NO_CONTENT };
    let reply = with_nonce(reply::empty(status), Some(nonce));
    Ok(reply::with_header(reply, header::CACHE_CONTROL, NO_STORE))
}

/// Answers with the renewal window of the certificate of this id: an authority's key and a serial number, each in
/// base64url.
pub async fn renewal_info<S: Store>(app: &App<S>, place: &Place<'_>, id: &str) -> Result<Reply, Problem> {
    profile(app, place).await?;
    let Some(serial) = SerialNumber::of_certificate_id(id) else {
        return Err(Problem::malformed("ARI cert-id is malformed"));
    };
    let Some(Window { start, end }) = find_window(app, &serial).await else {
        return Err(Problem::not_found("resource not found"));
    };
    let window = json!({"suggestedWindow": {"start": clock::rfc3339(start), "end": clock::rfc3339(end)}});
    let reply = reply::with_header(reply::json(StatusCode::OK, &window), header::RETRY_AFTER, RENEWAL_INFO_RETRY_S);
    Ok(reply::with_header(reply, header::CACHE_CONTROL, NO_STORE))
}

/// Returns the window of the certificate with this serial number; failures count as there being none.
async fn find_window<S: Store>(app: &App<S>, serial: &SerialNumber) -> Option<Window> {
    let serial = ocsp::lookup_form(app.behaviour, serial.hex());
    let version = app.store.version_by_serial(ISSUER, &serial).await.ok()??;
    let certificate = app.store.certificate(&version.certificate_id).await.ok()??;
    let days = app.store.renewal_window_days(&certificate.renewal_policy_id).await.ok().flatten();
    Some(Window::of(version.not_before, certificate.expires_at, days, SystemTime::now()))
}
