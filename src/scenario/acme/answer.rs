//! The shapes of an ACME server's answers: directories, nonces and problem documents.

use serde_json::Value;

use crate::wire::http1::Response;

/// The media type of problem documents (RFC 7807, section 6.1).
const PROBLEM: &[u8] = b"application/problem+json";

/// The nonce in an answer's `Replay-Nonce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce<'r> {
    /// There is no such field.
    None,
    /// There are two or more, be they the same: a client could not know which to use.
    Several,
    /// It is not base64url, of which there is one character at least (RFC 8555, section 6.5.1).
    Invalid,
    /// A nonce.
    Valid(&'r [u8]),
}

impl<'r> Nonce<'r> {
    /// Reads it from an answer.
    pub fn of(response: &Response<'r>) -> Self {
        let base64url = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let mut nonces = response.headers("replay-nonce");
        match nonces.next() {
            None => Self::None,
            Some(_) if nonces.next().is_some() => Self::Several,
            Some(nonce) if !nonce.is_empty() && nonce.iter().all(base64url) => Self::Valid(nonce),
            Some(_) => Self::Invalid,
        }
    }
}

/// Returns true for a directory with the entries that every client needs (RFC 8555, section 7.1.1). `meta` and all else
/// is optional.
pub fn is_directory(response: &Response<'_>) -> bool {
    let json: Value = serde_json::from_slice(response.body).unwrap_or_default();
    response.is_json() && ["newNonce", "newAccount", "newOrder"].iter().all(|name| json[name].is_string())
}

/// Returns true for a problem document (RFC 8555, section 6.7) of this type. `detail`, `status` and `subproblems` are
/// optional.
pub fn is_problem(response: &Response<'_>, kind: &str) -> bool {
    let json: Value = serde_json::from_slice(response.body).unwrap_or_default();
    is_problem_type(response) && json["type"] == kind
}

/// Returns true if the content type is that of problem documents: in letters of any case, with any parameters (RFC
/// 9110, section 8.3.1).
pub fn is_problem_type(response: &Response<'_>) -> bool {
    let value = response.header("content-type").unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value);
    essence.trim_ascii().eq_ignore_ascii_case(PROBLEM)
}
