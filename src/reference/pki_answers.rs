//! The requests of relying parties, which need no key and leave no audit row: OCSP and CRLs.

use std::net::IpAddr;
use std::time::Instant;

use certctl_bench::servers::hex;
use hyper::header::{self, HeaderValue};
use hyper::{Method, StatusCode};
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::OctetStringRef;
use x509_ocsp::OcspRequest;

use crate::app::App;
use crate::authority::LOCAL_ISSUER;
use crate::chain::ReceivedRequest;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::{crl, ocsp, responder};

/// The start of the paths of these requests.
pub const PREFIX: &str = "/.well-known/pki";

const OCSP_RESPONSE: HeaderValue = HeaderValue::from_static("application/ocsp-response");
const OCSP_CACHE: HeaderValue = HeaderValue::from_static("max-age=3600");
const CRL: HeaderValue = HeaderValue::from_static("application/pkix-crl");
const CRL_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600, must-revalidate");
/// The time after which a client beyond the limit may come again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("60");
/// The longest nonce that is echoed (RFC 8954).
const MAX_NONCE_BYTES: usize = 32;
/// The bytes of the digest in a CRL's tag, as in certctl.
const TAG_BYTES: usize = 16;

/// The subject of a request.
#[derive(Debug, PartialEq, Eq)]
enum Target<'p> {
    Crl(&'p str),
    /// An issuer, and a serial number in hexadecimal digits.
    Serial(&'p str, &'p str),
    /// The issuer of a request in the body.
    Body(&'p str),
}

/// A nonce that is too long, empty, or not one.
struct BadNonce;

/// Answers a request below [`PREFIX`].
pub async fn answer<S: Store>(app: &App<S>, peer: IpAddr, request: &ReceivedRequest) -> Reply {
    let Some(target) = target_of(request.head.uri.path()) else {
        return reply::plain(StatusCode::NOT_FOUND, "404 page not found");
    };
    let posts = matches!(target, Target::Body(_));
    match request.head.method {
        Method::POST if posts => {}
        _ if posts => return reply::wrong_method("POST"),
        Method::GET => {}
        Method::HEAD => return reply::unwanted_method(),
        _ => return reply::wrong_method("GET, HEAD"),
    }
    match target {
        Target::Crl(issuer_id) => answer_crl(app, issuer_id, request).await,
        _ if app.ocsp_limiter.as_ref().is_some_and(|limiter| !limiter.allow(peer, Instant::now())) => {
            app.work.ocsp_limited.one();
            reply::with_header(unauthorized(), header::RETRY_AFTER, RETRY_AFTER_S)
        }
        Target::Serial(issuer_id, digits) => answer_ocsp(app, issuer_id, digits, None).await,
        Target::Body(issuer_id) => answer_post(app, issuer_id, request).await,
    }
}

fn target_of(path: &str) -> Option<Target<'_>> {
    let parts: Vec<&str> = path.strip_prefix(PREFIX)?.strip_prefix('/')?.split('/').collect();
    match *parts {
        ["crl", issuer_id] if !issuer_id.is_empty() => Some(Target::Crl(issuer_id)),
        ["ocsp", issuer_id] if !issuer_id.is_empty() => Some(Target::Body(issuer_id)),
        ["ocsp", issuer_id, serial] if !issuer_id.is_empty() && !serial.is_empty() => {
            Some(Target::Serial(issuer_id, serial))
        }
        _ => None,
    }
}

/// Returns an error; unlike others it does not repeat the request's id.
fn refuse(status: StatusCode, message: &str) -> Reply {
    reply::failure(status, message, "")
}

/// Returns the error of an issuer that does not exist, or else of whatever else failed.
fn failed(issuer_id: &str, why: &str, what: &str) -> Reply {
    if issuer_id == LOCAL_ISSUER {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, what);
    }
    refuse(StatusCode::NOT_FOUND, why)
}

fn unauthorized() -> Reply {
    reply::with_body(StatusCode::OK, OCSP_RESPONSE, responder::unauthorized())
}

async fn answer_ocsp<S: Store>(app: &App<S>, issuer_id: &str, digits: &str, nonce: Option<&[u8]>) -> Reply {
    let serial = ocsp::lookup_form(app.behaviour, digits);
    match ocsp::respond(app, issuer_id, &serial, nonce).await {
        Ok(der) => {
            app.work.ocsp_answers.one();
            let reply = reply::with_body(StatusCode::OK, OCSP_RESPONSE, der);
            reply::with_header(reply, header::CACHE_CONTROL, OCSP_CACHE)
        }
        Err(why) => failed(issuer_id, &why, "Failed to generate OCSP response"),
    }
}

async fn answer_post<S: Store>(app: &App<S>, issuer_id: &str, request: &ReceivedRequest) -> Reply {
    let content_type = request.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(other) = content_type.filter(|value| !value.to_ascii_lowercase().contains("ocsp-request")) {
        let message = format!("Content-Type must be application/ocsp-request, got {other:?}");
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message);
    }
    let invalid = |why: &str| refuse(StatusCode::BAD_REQUEST, &format!("Invalid OCSPRequest: {why}"));
    let parsed = match OcspRequest::from_der(&request.body) {
        Ok(parsed) => parsed.tbs_request,
        Err(error) => return invalid(&error.to_string()),
    };
    // Of several, certctl answers the first.
    let Some(first) = parsed.request_list.first() else { return invalid("it names no certificate") };
    let nonce = match nonce_of(parsed.request_extensions.iter().flatten()) {
        Ok(nonce) => nonce,
        Err(BadNonce) => return unauthorized(),
    };
    let digits = hex(first.req_cert.serial_number.as_bytes());
    let digits = digits.trim_start_matches('0');
    answer_ocsp(app, issuer_id, if digits.is_empty() { "0" } else { digits }, nonce.as_deref()).await
}

fn nonce_of<'e>(
    mut extensions: impl Iterator<Item = &'e x509_cert::ext::Extension>,
) -> Result<Option<Vec<u8>>, BadNonce> {
    let Some(extension) = extensions.find(|extension| extension.extn_id == responder::NONCE) else { return Ok(None) };
    let value = OctetStringRef::from_der(extension.extn_value.as_bytes()).map_err(|_| BadNonce)?;
    let nonce = value.as_bytes();
    if nonce.is_empty() || nonce.len() > MAX_NONCE_BYTES { Err(BadNonce) } else { Ok(Some(nonce.to_vec())) }
}

async fn answer_crl<S: Store>(app: &App<S>, issuer_id: &str, request: &ReceivedRequest) -> Reply {
    let der = match crl::current(app, issuer_id).await {
        Ok(der) => der,
        Err(why) => return failed(issuer_id, &why, "Failed to generate CRL"),
    };
    app.work.crl_answers.one();
    let tag = format!("W/\"{}\"", hex(&Sha256::digest(&der)[..TAG_BYTES]));
    let known = request.head.headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let reply = if known {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let reply = reply::with_body(StatusCode::OK, CRL, der);
        reply::with_header(reply, header::CACHE_CONTROL, CRL_CACHE)
    };
    match HeaderValue::try_from(tag) {
        Ok(tag) => reply::with_header(reply, header::ETAG, tag),
        // Hexadecimal digits in quotes are a valid value; otherwise only the tag would be missing.
        Err(_) => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_routed_as_in_certctl() {
        let below = |rest: &str| target_of(&format!("{PREFIX}{rest}")).map(|target| format!("{target:?}"));
        assert_eq!(below("/crl/iss").as_deref(), Some("Crl(\"iss\")"));
        assert_eq!(below("/ocsp/iss").as_deref(), Some("Body(\"iss\")"));
        assert_eq!(below("/ocsp/iss/0a").as_deref(), Some("Serial(\"iss\", \"0a\")"));
        for nothing in ["", "/", "/crl/", "/crl", "/ocsp/", "/ocsp/iss/", "/ocsp/iss/0a/", "x/crl/iss"] {
            assert_eq!(below(nothing), None, "{nothing}");
        }
    }
}
