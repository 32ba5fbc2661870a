//! Replies: certctl's envelopes, content types and headers.

use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::body::Payload;

/// A response on its way out, still without the headers that all share.
pub type Reply = Response<Payload>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const JSON_UTF8: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The headers on every answer, beside the request's id.
const EVERYWHERE: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; \
         connect-src 'self'; frame-ancestors 'none'",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "accelerometer=(), camera=(), geolocation=(), microphone=(), payment=(), usb=(), interest-cohort=()",
    ),
    (header::REFERRER_POLICY, "no-referrer-when-downgrade"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// The headers on the probes that need no key.
const PROBES: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, PATCH, OPTIONS"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, Authorization, X-Request-ID"),
];

/// Returns a reply with a body of this type.
pub fn with_body(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = Payload::new(body);
    reply.headers_mut().insert(header::CONTENT_TYPE, content_type);
    reply
}

/// Returns a reply of a status alone.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Payload::new(""));
    *reply.status_mut() = status;
    reply
}

/// Returns a handler's JSON: one value and a newline.
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(body) => with_body(status, JSON, body + "\n"),
        Err(_) => denied(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    }
}

/// Returns a handler's error: three fields, or two for an empty id.
pub fn failure(status: StatusCode, message: &str, request_id: &str) -> Reply {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        request_id: &'a str,
    }
    json(status, &Envelope { error: status.canonical_reason().unwrap_or_default(), message, request_id })
}

/// Returns the permission gate's error: JSON with a charset and without a newline.
pub fn denied(status: StatusCode, message: &str) -> Reply {
    with_body(status, JSON_UTF8, json!({ "error": message }).to_string())
}

/// Returns an error from before the handlers: JSON by content, plain text by type.
pub fn refused(status: StatusCode, message: &str) -> Reply {
    with_body(status, TEXT, json!({ "error": message }).to_string() + "\n")
}

/// Returns the router's error: plain text.
pub fn plain(status: StatusCode, text: &str) -> Reply {
    with_body(status, TEXT, format!("{text}\n"))
}

/// Returns the router's error for a path that has other methods.
pub fn wrong_method(allow: &'static str) -> Reply {
    let reply = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    with_header(reply, header::ALLOW, HeaderValue::from_static(allow))
}

/// Returns a handler's error for a method that the router let through and the handler does not support.
pub fn unwanted_method() -> Reply {
    json(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "Method Not Allowed", "message": "Method not allowed"}))
}

/// Adds one header.
pub fn with_header(mut reply: Reply, name: HeaderName, value: HeaderValue) -> Reply {
    reply.headers_mut().insert(name, value);
    reply
}

/// Adds the headers of probes without a key.
pub fn as_probe(mut reply: Reply) -> Reply {
    insert_all(reply.headers_mut(), &PROBES);
    reply
}

/// Adds the headers of every answer.
pub fn finish(mut reply: Reply, request_id: &str) -> Reply {
    insert_all(reply.headers_mut(), &EVERYWHERE);
    // A UUID is visible ASCII, so the conversion cannot fail; otherwise only the header would be missing.
    if let Ok(value) = HeaderValue::from_str(request_id) {
        reply.headers_mut().insert("x-request-id", value);
    }
    reply
}

fn insert_all(headers: &mut HeaderMap, pairs: &[(HeaderName, &'static str)]) {
    for (name, value) in pairs {
        headers.insert(name.clone(), HeaderValue::from_static(value));
    }
}
