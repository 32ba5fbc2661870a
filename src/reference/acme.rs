//! ACME (RFC 8555), with renewal information (RFC 9773): the route of each resource, and the URLs that answers name.

mod accounts;
mod authorizations;
mod finalization;
mod jwk;
mod jws;
mod key_change;
mod limits;
mod orders;
mod problem;
mod revocation;
mod signed;
mod unsigned;
mod validator;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;

pub use self::limits::Limits;
use self::problem::{Kind, Problem};
pub use self::validator::Validator;
use crate::app::App;
use crate::audit::Change;
use crate::authority::LOCAL_ISSUER;
use crate::chain::ReceivedRequest;
use crate::reply::{self, Reply};
use crate::store::AuditEvent;
use crate::store::Store;
use crate::store::profile_rows::Profile;

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");
const NONCE_LIFE: Duration = Duration::from_secs(5 * 60);
/// certctl takes any issuer that it has loaded; where benchmarks run, this is the only one.
const ISSUER: &str = LOCAL_ISSUER;

/// The subject of an ACME request.
#[derive(Debug, PartialEq, Eq)]
pub struct Call<'p> {
    /// `None` in the short form, which needs a default profile that is not set.
    pub profile: Option<&'p str>,
    pub resource: Resource<'p>,
}

/// The resources below a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'p> {
    Directory,
    NewNonce,
    RenewalInfo(&'p str),
    NewAccount,
    Account(&'p str),
    NewOrder,
    Order(&'p str),
    Finalize(&'p str),
    Authorization(&'p str),
    Challenge(&'p str),
    Certificate(&'p str),
    KeyChange,
    RevokeCertificate,
}

impl<'p> Call<'p> {
    /// Parses the part of a path below `/acme/`.
    pub fn parse(rest: &'p str) -> Option<Self> {
        let (profile, resource) = match rest.strip_prefix("profile/").and_then(|rest| rest.split_once('/')) {
            Some((profile, resource)) => (Some(profile), resource),
            None => (None, rest),
        };
        let resource = match *resource.split('/').collect::<Vec<_>>() {
            ["directory"] => Resource::Directory,
            ["new-nonce"] => Resource::NewNonce,
            ["new-account"] => Resource::NewAccount,
            ["new-order"] => Resource::NewOrder,
            ["key-change"] => Resource::KeyChange,
            ["revoke-cert"] => Resource::RevokeCertificate,
            [_, ""] => return None,
            ["renewal-info", id] => Resource::RenewalInfo(id),
            ["account", id] => Resource::Account(id),
            ["order", id] => Resource::Order(id),
            ["authz", id] => Resource::Authorization(id),
            ["challenge", id] => Resource::Challenge(id),
            ["cert", id] => Resource::Certificate(id),
            ["order", id, "finalize"] if !id.is_empty() => Resource::Finalize(id),
            _ => return None,
        };
        Some(Self { profile, resource })
    }

    /// Returns true for a resource that is read without a signature.
    pub fn is_unsigned(&self) -> bool {
        matches!(self.resource, Resource::Directory | Resource::NewNonce | Resource::RenewalInfo(_))
    }
}

/// The place of a request: the host and the profile that all URLs of its answer share.
pub struct Place<'r> {
    host: &'r str,
    path: &'r str,
    profile: Option<&'r str>,
}

impl<'r> Place<'r> {
    fn of(profile: Option<&'r str>, request: &'r ReceivedRequest) -> Self {
        let host = request.head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        Self { host, path: request.head.uri.path(), profile }
    }

    /// Returns the URL of the request itself, without a query.
    fn request_url(&self) -> String {
        format!("https://{}{}", self.host, self.path)
    }

    fn url(&self, resource: &str) -> String {
        match self.profile {
            Some(profile) => format!("https://{}/acme/profile/{profile}/{resource}", self.host),
            None => format!("https://{}/acme/{resource}", self.host),
        }
    }

    fn account(&self, id: &str) -> String {
        self.url(&format!("account/{id}"))
    }

    fn authorization(&self, id: &str) -> String {
        self.url(&format!("authz/{id}"))
    }

    fn order(&self, id: &str) -> String {
        self.url(&format!("order/{id}"))
    }
}

/// Answers a request.
pub async fn answer<S: Store>(app: &Arc<App<S>>, call: &Call<'_>, request: &ReceivedRequest) -> Reply {
    let place = Place::of(call.profile, request);
    let body = &request.body;
    let outcome = match call.resource {
        Resource::Directory => unsigned::directory(app, &place).await,
        Resource::NewNonce => unsigned::new_nonce(app, &place, &request.head.method).await,
        Resource::RenewalInfo(id) => unsigned::renewal_info(app, &place, id).await,
        Resource::NewAccount => accounts::create(app, &place, body).await,
        Resource::Account(id) => accounts::show_or_change(app, &place, id, body).await,
        Resource::NewOrder => orders::create(app, &place, body).await,
        Resource::Order(id) => orders::show(app, &place, id, body).await,
        Resource::Finalize(id) => finalization::finalize(app, &place, id, body).await,
        Resource::Authorization(id) => authorizations::show(app, &place, id, body).await,
        Resource::Challenge(id) => authorizations::respond(app, &place, id, body).await,
        Resource::Certificate(id) => finalization::certificate_chain(app, &place, id, body).await,
        Resource::KeyChange => key_change::change(app, &place, body).await,
        Resource::RevokeCertificate => revocation::revoke(app, &place, body).await,
    };
    match outcome {
        Ok(reply) => reply,
        Err(problem) if app.is_as_built() || request.head.method != Method::POST => problem.reply(),
        // RFC 8555, section 6.5: an error to a POST comes with a nonce too.
        Err(problem) => with_nonce(problem.reply(), issue_nonce(app).await),
    }
}

/// Returns the profile of a request.
async fn profile<'r, S: Store>(app: &App<S>, place: &Place<'r>) -> Result<(&'r str, Profile), Problem> {
    let Some(id) = place.profile else {
        let detail = "no default profile is set; ask below /acme/profile/ID/ instead";
        return Err(Problem::new(StatusCode::FORBIDDEN, Kind::UserActionRequired, detail));
    };
    match app.store.profile(id).await {
        Ok(Some(profile)) => Ok((id, profile)),
        Ok(None) if !app.is_as_built() => {
            Err(Problem::new(StatusCode::NOT_FOUND, Kind::UserActionRequired, "profile not found"))
        }
        Ok(None) | Err(_) => Err(Problem::internal()),
    }
}

/// Makes a nonce and stores it; without one certctl answers all the same.
async fn issue_nonce<S: Store>(app: &App<S>) -> Option<HeaderValue> {
    let nonce = app.ids.nonce()?;
    app.store.insert_nonce(&nonce, SystemTime::now() + NONCE_LIFE).await.ok()?;
    app.work.nonces_issued.one();
    HeaderValue::try_from(nonce).ok()
}

fn with_nonce(reply: Reply, nonce: Option<HeaderValue>) -> Reply {
    match nonce {
        Some(nonce) => reply::with_header(reply, REPLAY_NONCE, nonce),
        None => reply,
    }
}

fn with_location(reply: Reply, url: String) -> Reply {
    match HeaderValue::try_from(url) {
        Ok(url) => reply::with_header(reply, header::LOCATION, url),
        Err(_) => reply,
    }
}

/// Returns the actor of audit rows about an account's requests.
fn actor(account_id: &str) -> String {
    format!("acme:{account_id}")
}

/// Returns an audit row about a change that an account has requested.
fn client_event<S: Store>(
    app: &App<S>,
    account_id: &str,
    action: &'static str,
    resource_type: &'static str,
    resource_id: &str,
    details: Value,
) -> AuditEvent {
    app.audit.event(&Change::by_client(&actor(account_id), action, resource_type, resource_id, details))
}
