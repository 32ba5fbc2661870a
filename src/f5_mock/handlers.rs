//! Handlers: the answers to requests.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::device::Device;
use crate::files::{self, Range};
use crate::objects;
use crate::query::Query;
use crate::reply::{self, Refusal, Reply, self_link};
use crate::routes::{self, Resource};
use crate::tls::Served;
use crate::tokens::{self, Tokens};
use certctl_bench::servers::leaf::Leaf;

/// The longest body: a BIG-IP takes chunks of up to a mebibyte.
const MAX_BODY_BYTES: usize = 1 << 20;
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The state that all requests share.
pub struct App {
    device: Mutex<Device>,
    tokens: Tokens,
    handshakes: AtomicU64,
    logins: AtomicU64,
    logouts: AtomicU64,
    uploads: AtomicU64,
}

impl App {
    /// Returns a state whose default profile names this leaf.
    pub fn new(leaf: &Leaf, served: Arc<Served>) -> Result<Self, String> {
        Ok(Self {
            device: Mutex::new(Device::new(leaf, served)),
            tokens: Tokens::new()?,
            handshakes: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            logouts: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
        })
    }

    /// Counts a connection whose handshake has ended.
    pub fn shaken_hands(&self) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
    }

    /// Locks the device.
    pub fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request, read to its end.
pub struct Call<'c> {
    pub head: &'c Parts,
    pub body: &'c [u8],
    /// The user of the request; empty where that does not matter.
    pub user: &'c str,
}

impl Call<'_> {
    /// Returns its path.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Parses the options in its URL.
    pub fn query(&self) -> Result<Query, Refusal> {
        Query::parse(self.head.uri.query().unwrap_or_default())
    }

    /// Parses its body as a JSON object.
    pub fn parse<'b, T: Deserialize<'b>>(&'b self) -> Result<T, Refusal> {
        // Otherwise a struct could be read from an array too.
        if !self.body.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::bad("the body is no JSON object"));
        }
        serde_json::from_slice(self.body)
            .map_err(|error| Refusal::bad(format!("the body is not what is wanted here: {error}")))
    }
}

/// Answers one request.
pub async fn answer(app: Arc<App>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    let resource = routes::resource(head.uri.path());
    // Read in any case: a connection whose request is left unread is of no further use.
    let body = read(body).await;
    let user = if resource.is_open() { Ok(String::new()) } else { app.tokens.admit(&head.headers) };
    let answered = match (user, body) {
        (Err(refusal), _) | (Ok(_), Err(refusal)) => Err(refusal),
        (Ok(user), Ok(body)) => respond(&app, resource, &Call { head: &head, body: &body, user: &user }),
    };
    Ok(answered.unwrap_or_else(Refusal::into_reply))
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_BODY_BYTES} bytes");
            Err(Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(_)) => Err(Refusal::bad("the body is broken off")),
        Err(_) => Err(Refusal::with_status(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

fn respond(app: &App, resource: Resource, call: &Call<'_>) -> Result<Reply, Refusal> {
    match (call.head.method.as_str(), resource) {
        ("GET", Resource::Health) => Ok(reply::text("ok")),
        ("GET", Resource::Counts) => Ok(reply::ok(&counts(app))),
        ("GET", Resource::Echo) => Ok(reply::ok(&json!({"stage": "STARTED", "selfLink": self_link(call.path())}))),
        ("POST", Resource::Login) => login(app, call),
        ("GET", Resource::Tokens) => {
            let kind = "shared:authz:tokens:authtokencollectionstate";
            Ok(reply::ok(&call.query()?.page(kind, tokens::PATH, app.tokens.list(call.user))))
        }
        ("DELETE", Resource::Tokens) => {
            app.tokens.revoke_all(call.user);
            Ok(reply::ok(&json!({})))
        }
        ("GET", Resource::Token(name)) => app.tokens.show(&name).map(|token| reply::ok(&token)),
        ("PATCH", Resource::Token(name)) => change_token(app, &name, call),
        ("DELETE", Resource::Token(name)) => {
            let token = app.tokens.revoke(&name)?;
            app.logouts.fetch_add(1, Ordering::Relaxed);
            Ok(reply::ok(&token))
        }
        ("POST", Resource::Upload(file)) => upload(app, &file, call),
        ("POST", Resource::RemoveFile) => remove_file(app, call),
        ("GET", Resource::Organizing) => Ok(reply::ok(&organizing(call.path()))),
        (_, Resource::Nothing) => {
            let message = format!("Public URI path not registered: {}", call.path());
            Err(Refusal::with_status(StatusCode::NOT_FOUND, message))
        }
        (method, resource) => objects::respond(app, method, resource, call),
    }
}

fn counts(app: &App) -> Value {
    let mut counts = app.device().work();
    for (name, count) in
        [("handshakes", &app.handshakes), ("logins", &app.logins), ("logouts", &app.logouts), ("uploads", &app.uploads)]
    {
        counts[name] = count.load(Ordering::Relaxed).into();
    }
    counts["tokens_active"] = app.tokens.count().into();
    counts
}

fn login(app: &App, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Login {
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
    }
    let Login { username, password } = call.parse()?;
    if username.is_empty() || password.is_empty() {
        return Err(Refusal::with_status(StatusCode::UNAUTHORIZED, "Authentication failed."));
    }
    let token = app.tokens.issue(&username)?;
    app.logins.fetch_add(1, Ordering::Relaxed);
    Ok(reply::ok(&json!({
        "username": username,
        "loginProviderName": "tmos",
        "token": token,
        "generation": 0,
        "lastUpdateMicros": 0,
    })))
}

fn change_token(app: &App, name: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    /// A timeout, which clients write as a number, or as text.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Wanted {
        timeout: Seconds,
    }
    let timeout_s = match call.parse::<Wanted>()?.timeout {
        Seconds::Number(seconds) => seconds,
        Seconds::Text(text) => {
            text.parse().map_err(|_| Refusal::bad(format!("the timeout {text:?} is no number of seconds")))?
        }
    };
    app.tokens.change(name, timeout_s).map(|token| reply::ok(&token))
}

fn upload(app: &App, file: &str, call: &Call<'_>) -> Result<Reply, Refusal> {
    let range = call.head.headers.get(hyper::header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let range = range.ok_or_else(|| Refusal::bad("a Content-Range is needed, such as 0-99/100"))?;
    let range = Range::parse(range)?;
    let remaining = app.device().files.take(file, range, call.body)?;
    if remaining == 0 {
        app.uploads.fetch_add(1, Ordering::Relaxed);
    }
    Ok(reply::ok(&json!({
        "remainingByteCount": remaining,
        "totalByteCount": range.total(),
        "localFilePath": format!("{}{file}", files::FOLDER),
        "temporaryFilePath": format!("{}tmp/{file}", files::FOLDER),
        "generation": 0,
        "lastUpdateMicros": 0,
    })))
}

/// Removes an uploaded file, and nothing else, whatever the command names.
fn remove_file(app: &App, call: &Call<'_>) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Run<'r> {
        #[serde(rename = "utilCmdArgs")]
        arguments: &'r str,
    }
    let Run { arguments } = call.parse()?;
    app.device().files.remove(arguments.trim_start_matches("-f").trim());
    Ok(reply::ok(&json!({"kind": "tm:util:unix-rm:runstate", "command": "run", "utilCmdArgs": arguments})))
}

/// Returns a collection of collections, which has no items of its own.
fn organizing(path: &str) -> Value {
    let path = path.trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or_default();
    json!({"kind": format!("tm:{name}:{name}collectionstate"), "selfLink": self_link(path), "items": []})
}
