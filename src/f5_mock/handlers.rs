//! Handlers: what is answered where.

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

use crate::device::{Change, Device, NO_CHAIN};
use crate::files::{self, Range};
use crate::leaf::Leaf;
use crate::names;
use crate::reply::{self, Refusal, Reply};
use crate::routes::{self, Kind, Route};
use crate::tls::Served;
use crate::tokens::Tokens;

const MAX_BODY_BYTES: usize = 1 << 20;
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Names the transaction that a change of a profile belongs to.
const COORDINATION: &str = "x-f5-rest-coordination-id";

/// What all requests share.
pub struct App {
    device: Mutex<Device>,
    tokens: Tokens,
    handshakes: AtomicU64,
    logins: AtomicU64,
    uploads: AtomicU64,
}

impl App {
    /// With a default profile that names this leaf.
    pub fn new(leaf: &Leaf, served: Arc<Served>) -> Result<Self, String> {
        Ok(Self {
            device: Mutex::new(Device::new(leaf, served)),
            tokens: Tokens::new()?,
            handshakes: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
        })
    }

    /// Counts a connection.
    pub fn shaken_hands(&self) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request.
pub async fn answer(app: Arc<App>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    let route = routes::route(head.method.as_str(), head.uri.path());
    // Read in any case: a connection whose request is left unread is of no further use.
    let body = read(body).await;
    let allowed = route.is_open() || app.tokens.admit(&head.headers);
    let answered = match (allowed, body) {
        (false, _) => Err(Refusal::with_status(StatusCode::UNAUTHORIZED, "Authorization failed: no valid token")),
        (true, Err(refusal)) => Err(refusal),
        (true, Ok(body)) => respond(&app, route, &head, &body),
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

fn respond(app: &App, route: Route<'_>, head: &Parts, body: &[u8]) -> Result<Reply, Refusal> {
    match route {
        Route::Health => Ok(reply::text("ok")),
        Route::Counts => Ok(reply::ok(&counts(app))),
        Route::Login => login(app, body),
        Route::Upload(file) => upload(app, file, head, body),
        Route::Install(kind) => install(app, kind, body),
        Route::Remove(kind, name) => remove(app, kind, &names::full(name)?),
        Route::OpenTransaction => app.device().open_transaction().map(|id| transaction(id, "STARTED")),
        Route::Transaction(id) => {
            app.device().commands(id)?;
            Ok(transaction(number(id)?, "STARTED"))
        }
        Route::Commit(id) => commit(app, id, body),
        Route::Abandon(id) => app.device().abandon(id).map(|()| reply::ok(&json!({}))),
        Route::Profile(name) => app.device().profile(&names::full(name)?).map(|profile| reply::ok(&profile)),
        Route::ChangeProfile { name, replace } => change_profile(app, name, replace, head, body),
        Route::WrongMethod => {
            let message = format!("{} is no method of {}", head.method, head.uri.path());
            Err(Refusal::with_status(StatusCode::METHOD_NOT_ALLOWED, message))
        }
        Route::Nothing => {
            let message = format!("Public URI path not registered: {}", head.uri.path());
            Err(Refusal::with_status(StatusCode::NOT_FOUND, message))
        }
    }
}

fn counts(app: &App) -> Value {
    let mut counts = app.device().work();
    for (name, count) in [("handshakes", &app.handshakes), ("logins", &app.logins), ("uploads", &app.uploads)] {
        counts[name] = count.load(Ordering::Relaxed).into();
    }
    counts
}

fn login(app: &App, body: &[u8]) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Login {
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
    }
    let Login { username, password } = parse(body)?;
    if username.is_empty() || password.is_empty() {
        return Err(Refusal::with_status(StatusCode::UNAUTHORIZED, "Authentication failed."));
    }
    let token = app.tokens.issue(&username);
    let token = token
        .ok_or_else(|| Refusal::with_status(StatusCode::INTERNAL_SERVER_ERROR, "the system has no random numbers"))?;
    app.logins.fetch_add(1, Ordering::Relaxed);
    Ok(reply::ok(&json!({"username": username, "loginProviderName": "tmos", "token": token})))
}

fn upload(app: &App, file: &str, head: &Parts, body: &[u8]) -> Result<Reply, Refusal> {
    let range = head.headers.get(hyper::header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let range = range.ok_or_else(|| Refusal::bad("a Content-Range is needed, such as 0-99/100"))?;
    let remaining = app.device().files.take(file, Range::parse(range)?, body)?;
    if remaining == 0 {
        app.uploads.fetch_add(1, Ordering::Relaxed);
    }
    let path = format!("{}{file}", files::FOLDER);
    Ok(reply::ok(&json!({"remainingByteCount": remaining, "localFilePath": path})))
}

fn install(app: &App, kind: Kind, body: &[u8]) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Install {
        name: String,
        #[serde(rename = "from-local-file")]
        file: String,
    }
    let Install { name, file } = parse(body)?;
    let object = names::full(&name)?;
    match kind {
        Kind::Certificate => app.device().install_certificate(&object, &file)?,
        Kind::Key => app.device().install_key(&object, &file)?,
    }
    let label = kind.label();
    Ok(reply::ok(&json!({
        "kind": format!("tm:sys:crypto:{label}:installstate"),
        "command": "install",
        "name": name,
        "from-local-file": file,
    })))
}

fn remove(app: &App, kind: Kind, object: &str) -> Result<Reply, Refusal> {
    match kind {
        Kind::Certificate => app.device().remove_certificate(object)?,
        Kind::Key => app.device().remove_key(object)?,
    }
    Ok(reply::ok(&json!({})))
}

fn commit(app: &App, id: &str, body: &[u8]) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Commit {
        state: String,
    }
    let Commit { state } = parse(body)?;
    let mut device = app.device();
    device.commands(id)?;
    if state != "VALIDATING" {
        return Err(Refusal::bad(format!("a transaction's state cannot become {state:?}; VALIDATING commits it")));
    }
    device.commit(id)?;
    Ok(transaction(number(id)?, "COMPLETED"))
}

/// An F5 numbers its transactions.
fn transaction(id: u64, state: &str) -> Reply {
    reply::ok(&json!({"kind": "tm:transactionstate", "transId": id, "state": state}))
}

fn number(id: &str) -> Result<u64, Refusal> {
    id.parse().map_err(|_| Refusal::unknown("transaction", id))
}

fn change_profile(app: &App, name: &str, replace: bool, head: &Parts, body: &[u8]) -> Result<Reply, Refusal> {
    #[derive(Deserialize)]
    struct Wanted {
        cert: Option<String>,
        key: Option<String>,
        chain: Option<String>,
    }
    let profile = names::full(name)?;
    let wanted: Wanted = parse(body)?;
    let object = |name: Option<String>| name.map(|name| names::full(&name)).transpose();
    let change = Change {
        profile: profile.clone(),
        cert: object(wanted.cert)?,
        key: object(wanted.key)?,
        chain: match wanted.chain.as_deref() {
            None => None,
            Some(NO_CHAIN) => Some(None),
            Some(_) => Some(object(wanted.chain)?),
        },
        replace,
    };
    let mut device = app.device();
    let Some(id) = head.headers.get(COORDINATION) else {
        device.make(&[change])?;
        return device.profile(&profile).map(|profile| reply::ok(&profile));
    };
    let id = id.to_str().map_err(|_| Refusal::bad(format!("{COORDINATION} is no id")))?;
    let command = device.queue(id, change)?;
    Ok(reply::ok(&json!({
        "kind": "tm:transaction:commandsstate",
        "commandId": command,
        "evalOrder": command,
        "method": head.method.as_str(),
        "uri": head.uri.path(),
    })))
}

/// Reads a JSON object.
fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    // Otherwise a struct could be read from an array too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::bad("the body is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body is not what is wanted here: {error}")))
}
