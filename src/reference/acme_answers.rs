//! ACME's unsigned requests: directory, nonces, renewal information.

use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::chain::ReceivedRequest;
use crate::cli::Behaviour;
use crate::clock;
use crate::renewal_window::{SerialNumber, Window};
use crate::reply::{self, Reply};
use crate::store::Store;

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NONCE_LIFE: Duration = Duration::from_secs(5 * 60);
/// The time after which a client may request renewal information again.
const RENEWAL_INFO_RETRY_S: HeaderValue = HeaderValue::from_static("21600");
/// certctl takes any issuer that it has loaded; where benchmarks run, this is the only one.
const ISSUER: &str = "iss-local";

/// The subject of an ACME request.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'p> {
    /// `None` in the short form, which needs a default profile that is not set.
    pub profile: Option<&'p str>,
    pub resource: Resource<'p>,
}

/// The resources that take unsigned requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Resource<'p> {
    Directory,
    NewNonce,
    RenewalInfo(&'p str),
}

/// Answers a GET or a HEAD; the profile is looked up first, whatever the resource.
pub async fn answer<S: Store>(app: &App<S>, call: &Call<'_>, request: &ReceivedRequest) -> Reply {
    let Some(profile) = call.profile else {
        let detail = "no default profile is set; ask below /acme/profile/ID/ instead";
        return problem(StatusCode::FORBIDDEN, "userActionRequired", detail);
    };
    match app.store.has_profile(profile).await {
        Ok(true) => {}
        Ok(false) if app.behaviour == Behaviour::AsDocumented => {
            return problem(StatusCode::NOT_FOUND, "userActionRequired", "profile not found");
        }
        Ok(false) | Err(_) => {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", "ACME server error");
        }
    }
    match call.resource {
        Resource::Directory => directory(app, profile, request).await,
        Resource::NewNonce => new_nonce(app, request).await,
        Resource::RenewalInfo(id) => renewal_info(app, id).await,
    }
}

/// Answers with the directory, which comes with a nonce and so writes a row.
async fn directory<S: Store>(app: &App<S>, profile: &str, request: &ReceivedRequest) -> Reply {
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
    let host = request.head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let url = |resource| format!("https://{host}/acme/profile/{profile}/{resource}");
    let directory = Directory {
        new_nonce: url("new-nonce"),
        new_account: url("new-account"),
        new_order: url("new-order"),
        revoke_cert: url("revoke-cert"),
        key_change: url("key-change"),
        renewal_info: url("renewal-info"),
    };
    let mut reply = reply::json(StatusCode::OK, &directory);
    // Without a nonce certctl answers all the same.
    if let Some(nonce) = issue_nonce(app).await {
        reply = reply::with_header(reply, REPLAY_NONCE, nonce);
    }
    reply::with_header(reply, header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, no-cache"))
}

async fn new_nonce<S: Store>(app: &App<S>, request: &ReceivedRequest) -> Reply {
    let Some(nonce) = issue_nonce(app).await else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", "nonce issuance failed");
    };
    let status = if request.head.method == Method::HEAD { StatusCode::OK } else { StatusCode::NO_CONTENT };
    let reply = reply::with_header(reply::empty(status), REPLAY_NONCE, nonce);
    reply::with_header(reply, header::CACHE_CONTROL, NO_STORE)
}

/// Makes a nonce and stores it.
async fn issue_nonce<S: Store>(app: &App<S>) -> Option<HeaderValue> {
    let nonce = app.ids.nonce()?;
    app.store.insert_nonce(&nonce, SystemTime::now() + NONCE_LIFE).await.ok()?;
    app.work.nonces_issued.one();
    HeaderValue::try_from(nonce).ok()
}

/// Answers with the renewal window of the certificate of this id: an authority's key and a serial number, each in
/// base64url.
async fn renewal_info<S: Store>(app: &App<S>, id: &str) -> Reply {
    let Some(serial) = SerialNumber::of_certificate_id(id) else {
        return problem(StatusCode::BAD_REQUEST, "malformed", "ARI cert-id is malformed");
    };
    let Some(Window { start, end }) = find_window(&*app.store, &serial).await else {
        return problem(StatusCode::NOT_FOUND, "malformed", "resource not found");
    };
    let window = json!({"suggestedWindow": {"start": clock::rfc3339(start), "end": clock::rfc3339(end)}});
    let reply = reply::with_header(reply::json(StatusCode::OK, &window), header::RETRY_AFTER, RENEWAL_INFO_RETRY_S);
    reply::with_header(reply, header::CACHE_CONTROL, NO_STORE)
}

/// Returns the window of the certificate with this serial number; failures count as there being none.
async fn find_window<S: Store>(store: &S, serial: &SerialNumber) -> Option<Window> {
    let version = store.version_by_serial(ISSUER, serial.hex()).await.ok()??;
    let certificate = store.certificate(&version.certificate_id).await.ok()??;
    let days = store.renewal_window_days(&certificate.renewal_policy_id).await.ok().flatten();
    Some(Window::of(version.not_before, certificate.expires_at, days, SystemTime::now()))
}

/// Returns an ACME error.
fn problem(status: StatusCode, kind: &str, detail: &str) -> Reply {
    #[derive(Serialize)]
    struct Problem<'a> {
        r#type: String,
        detail: &'a str,
        status: u16,
    }
    let r#type = format!("urn:ietf:params:acme:error:{kind}");
    let reply = reply::json(status, &Problem { r#type, detail, status: status.as_u16() });
    reply::with_header(reply, header::CONTENT_TYPE, PROBLEM)
}
