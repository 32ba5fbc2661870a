//! Answers, and errors in iControl's shape.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// A response on its way out.
pub type Reply = Response<Full<Bytes>>;

/// A refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    /// Returns the refusal of a request that cannot be carried out.
    pub fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// Returns the refusal of a request that names something unknown.
    pub fn unknown(what: &str, name: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: format!("the requested {what} ({name}) was not found") }
    }

    /// Returns a refusal with another status.
    pub fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// Returns the refusal in iControl's envelope.
    pub fn into_reply(self) -> Reply {
        let Self { status, message } = self;
        let mut body = json!({"code": status.as_u16(), "message": message, "errorStack": []});
        if status == StatusCode::UNAUTHORIZED {
            body["kind"] = ":resterrorresponse".into();
        }
        let mut reply = json_reply(status, &body);
        if status == StatusCode::UNAUTHORIZED {
            // Needed in every 401 (RFC 9110, section 15.5.2).
            let challenge = HeaderValue::from_static("Basic realm=\"Enterprise Manager\"");
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}

/// The version of the software whose API this is, in the form of every `selfLink`.
const VERSION: &str = "17.1.1";

/// Returns the URL of the resource at a path, as a BIG-IP writes it: of itself, with the version.
pub fn self_link(path: &str) -> String {
    format!("https://localhost{path}?ver={VERSION}")
}

/// Returns JSON with status 200.
pub fn ok(value: &Value) -> Reply {
    json_reply(StatusCode::OK, value)
}

/// Returns plain text with status 200.
pub fn text(text: &'static str) -> Reply {
    with_body(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn json_reply(status: StatusCode, value: &Value) -> Reply {
    with_body(status, "application/json; charset=UTF-8", value.to_string().into())
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
