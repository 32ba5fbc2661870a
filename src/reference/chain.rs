//! The layers that every request passes, in certctl's order: limiter, authentication, audit, route.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::acme_answers;
use crate::app::App;
use crate::audit::Call;
use crate::auth::{Refusal, authenticate};
use crate::body;
use crate::cli::Behaviour;
use crate::handlers;
use crate::pki_answers;
use crate::reply::{self, Reply};
use crate::routes::{self, Route};
use crate::store::Store;

const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A request, read whole.
pub struct ReceivedRequest {
    pub head: Parts,
    pub body: Bytes,
    /// The id that the answer carries.
    pub id: String,
}

impl ReceivedRequest {
    /// Returns true if the body is announced as JSON; the few handlers that care take no other form of the type.
    pub fn has_json(&self) -> bool {
        self.head.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json")
    }
}

/// Answers any request.
pub async fn answer<S: Store>(app: Arc<App<S>>, peer: IpAddr, request: Request<Incoming>) -> Reply {
    let (head, incoming) = request.into_parts();
    // Read in any case: the connection can carry on only once the body is out of the way.
    let body = body::read(incoming).await.unwrap_or_default();
    let received = ReceivedRequest { head, body, id: app.ids.request() };
    let path = received.head.uri.path();
    let probe = matches!(path, "/health" | "/ready" | "/api/v1/auth/info" | "/api/v1/version");
    if !probe {
        app.delay.pass().await;
    }
    let open_acme = app.behaviour == Behaviour::AsDocumented && path.starts_with("/acme/");
    let pki = path.starts_with(pki_answers::PREFIX);
    let keyless = probe || pki || open_acme;
    let limiter = app.limiters.as_ref().map(|limiters| if keyless { &limiters.keyless } else { &limiters.keyed });
    let reply = match limiter {
        Some(limiter) if !limiter.allow(peer, Instant::now()) => {
            let reply = reply::refused(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded");
            reply::with_header(reply, header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        _ if probe => answer_probe(&app, &received.head).await,
        _ if pki => pki_answers::answer(&app, peer, &received).await,
        _ if open_acme => answer_open_acme(&app, &received).await,
        _ => answer_with_key(&app, &received).await,
    };
    reply::finish(reply, &received.id)
}

/// Answers the probes, which need no key and leave no audit row.
async fn answer_probe<S: Store>(app: &App<S>, head: &Parts) -> Reply {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return reply::wrong_method("GET, HEAD");
    }
    let ok = |value: Value| reply::json(StatusCode::OK, &value);
    reply::as_probe(match head.uri.path() {
        "/health" => ok(json!({"status": "healthy"})),
        "/ready" => ready(app).await,
        "/api/v1/auth/info" => ok(json!({"auth_type": "api-key", "oidc_providers": [], "required": true})),
        _ => ok(json!({
            "version": concat!("certctl-reference ", env!("CARGO_PKG_VERSION")),
            "commit": "", "modified": false, "build_time": "", "go_version": "",
            // This server's own: certctl has no such field.
            "behaviour": app.behaviour.label(),
        })),
    })
}

async fn ready<S: Store>(app: &App<S>) -> Reply {
    let problem = match tokio::time::timeout(PING_TIMEOUT, app.store.ping()).await {
        Ok(Ok(())) => return reply::json(StatusCode::OK, &json!({"db": "reachable", "status": "ready"})),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {PING_TIMEOUT:?}"),
    };
    reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": problem, "status": "db_unavailable"}))
}

/// Answers ACME as documented: open to everyone, like the probes.
async fn answer_open_acme<S: Store>(app: &App<S>, request: &ReceivedRequest) -> Reply {
    match routes::route(&request.head.method, request.head.uri.path()) {
        Route::Acme(call) => acme_answers::answer(app, &call, request).await,
        other => routes::misrouted(other),
    }
}

/// Answers a request that needs a key: authentication, then an audit row for everything behind it.
async fn answer_with_key<S: Store>(app: &App<S>, request: &ReceivedRequest) -> Reply {
    let (method, path) = (&request.head.method, request.head.uri.path());
    if method == Method::OPTIONS {
        return reply::empty(StatusCode::NO_CONTENT);
    }
    let key = match authenticate(&app.keys, &request.head.headers) {
        Ok(key) => key,
        Err(refusal) => return unauthorized(refusal),
    };
    let start = Instant::now();
    let route = routes::route(method, path);
    if route == Route::Work {
        // Not certctl's, so it must not add to the work that it reports.
        return handlers::work(app);
    }
    let reply = routes::dispatch(app, key, route, request).await;
    let (body, status, latency) = (&request.body, reply.status(), start.elapsed());
    app.audit.record(&Call { actor: key.actor, method, path, body, status, latency });
    reply
}

fn unauthorized(refusal: Refusal) -> Reply {
    let reply = reply::refused(StatusCode::UNAUTHORIZED, refusal.message());
    if refusal == Refusal::MissingHeader {
        let challenge = HeaderValue::from_static("Bearer realm=\"certctl\"");
        return reply::with_header(reply, header::WWW_AUTHENTICATE, challenge);
    }
    reply
}
