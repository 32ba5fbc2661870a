//! Routes: which path does what, behind certctl's layers in certctl's order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::app::App;
use crate::audit::Call;
use crate::auth::{Key, Refusal, authenticate};
use crate::body;
use crate::handlers;
use crate::reply::{self, Reply};
use crate::store::Store;

const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// What an authenticated request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route<'p> {
    AuthCheck,
    Agent(&'p str),
    Heartbeat(&'p str),
    /// Our own: how much work was done.
    Work,
    /// Another method would have found something.
    WrongMethod(&'static str),
    /// A path with doubled slashes, and what it is without.
    Untidy(String),
    Nothing,
}

/// Answers any request.
pub async fn answer<S: Store>(app: Arc<App<S>>, peer: IpAddr, request: Request<Incoming>) -> Reply {
    let request_id = app.request_id();
    let (head, incoming) = request.into_parts();
    let probe = matches!(head.uri.path(), "/health" | "/ready" | "/api/v1/auth/info" | "/api/v1/version");
    let limiter = app.limiters.as_ref().map(|limiters| if probe { &limiters.keyless } else { &limiters.keyed });
    // Read even where nobody looks: the connection can carry on only once the body is out of the way.
    let body = body::read(incoming).await.unwrap_or_default();
    let reply = match limiter {
        Some(limiter) if !limiter.allow(peer, Instant::now()) => {
            let reply = reply::refused(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded");
            reply::with_header(reply, header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        _ if probe => answer_probe(&app, &head).await,
        _ => answer_with_key(&app, &head, &body, &request_id).await,
    };
    reply::finish(reply, &request_id)
}

/// The probes, which need no key and leave no audit row.
async fn answer_probe<S: Store>(app: &App<S>, head: &Parts) -> Reply {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return wrong_method("GET, HEAD");
    }
    let ok = |value: Value| reply::json(StatusCode::OK, &value);
    reply::as_probe(match head.uri.path() {
        "/health" => ok(json!({"status": "healthy"})),
        "/ready" => ready(app).await,
        "/api/v1/auth/info" => ok(json!({"auth_type": "api-key", "oidc_providers": [], "required": true})),
        _ => ok(json!({
            "version": concat!("certctl-reference ", env!("CARGO_PKG_VERSION")),
            "commit": "", "modified": false, "build_time": "", "go_version": "",
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

/// Authentication, then audit around everything behind it.
async fn answer_with_key<S: Store>(app: &App<S>, head: &Parts, body: &Bytes, request_id: &str) -> Reply {
    if head.method == Method::OPTIONS {
        return reply::empty(StatusCode::NO_CONTENT);
    }
    let key = match authenticate(&app.keys, &head.headers) {
        Ok(key) => key,
        Err(refusal) => return unauthorized(refusal),
    };
    let start = Instant::now();
    let path = head.uri.path();
    let route = route(&head.method, path);
    if route == Route::Work {
        // Not certctl's, so it must not add to the work that it reports.
        return handlers::work(app);
    }
    let reply = dispatch(app, key, route, body, request_id).await;
    let (method, status, latency) = (&head.method, reply.status(), start.elapsed());
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

fn route<'p>(method: &Method, path: &'p str) -> Route<'p> {
    if path.contains("//") {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        return Route::Untidy(format!("/{}", parts.join("/")));
    }
    let read = matches!(*method, Method::GET | Method::HEAD);
    let reading = |route| if read { route } else { Route::WrongMethod("GET, HEAD") };
    let agent = path.strip_prefix("/api/v1/agents/").filter(|rest| !rest.is_empty());
    match (path, agent.map(|rest| rest.split_once('/').unwrap_or((rest, "")))) {
        ("/api/v1/auth/check", _) => reading(Route::AuthCheck),
        ("/reference/work", _) => reading(Route::Work),
        (_, Some((id, "heartbeat"))) if *method == Method::POST => Route::Heartbeat(id),
        (_, Some((_, "heartbeat"))) => Route::WrongMethod("POST"),
        (_, Some((id, ""))) if !path.ends_with('/') => reading(Route::Agent(id)),
        _ => Route::Nothing,
    }
}

async fn dispatch<S: Store>(app: &App<S>, key: &Key, route: Route<'_>, body: &Bytes, request_id: &str) -> Reply {
    match route {
        Route::AuthCheck => handlers::auth_check(app, key).await,
        Route::Agent(id) => match handlers::gate(app, key, "agent.read").await {
            Ok(()) => handlers::show_agent(app, id, request_id).await,
            Err(reply) => reply,
        },
        Route::Heartbeat(id) => match handlers::gate(app, key, "agent.heartbeat").await {
            Ok(()) => handlers::beat(app, id, body, request_id).await,
            Err(reply) => reply,
        },
        Route::WrongMethod(allow) => wrong_method(allow),
        Route::Untidy(tidy) => match HeaderValue::try_from(tidy) {
            Ok(tidy) => reply::with_header(reply::empty(StatusCode::TEMPORARY_REDIRECT), header::LOCATION, tidy),
            Err(_) => reply::plain(StatusCode::NOT_FOUND, "404 page not found"),
        },
        Route::Work => handlers::work(app),
        Route::Nothing => reply::plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

fn wrong_method(allow: &'static str) -> Reply {
    let reply = reply::plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    reply::with_header(reply, header::ALLOW, HeaderValue::from_static(allow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_certctl_leads() {
        let get = |path| route(&Method::GET, path);
        assert_eq!(route(&Method::POST, "/api/v1/agents/a-1/heartbeat"), Route::Heartbeat("a-1"));
        assert_eq!(get("/api/v1/agents/a-1/heartbeat"), Route::WrongMethod("POST"));
        assert_eq!(get("/api/v1/agents/a-1"), Route::Agent("a-1"));
        assert_eq!(get("/api/v1/agents/a-1/"), Route::Nothing);
        assert_eq!(get("/api/v1/agents/a-1/heartbeat/x"), Route::Nothing);
        assert_eq!(get("/api/v1/agents"), Route::Nothing);
        assert_eq!(get("/api/v1/agents//heartbeat"), Route::Untidy("/api/v1/agents/heartbeat".to_owned()));
        assert_eq!(route(&Method::POST, "/api/v1/auth/check"), Route::WrongMethod("GET, HEAD"));
    }
}
