//! Entity tags: certctl hashes the body that it has made already, so a match spares bytes and nothing else.

use certctl_bench::servers::hex;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::reply::{self, Reply};

/// The longest body that certctl tags.
const MAX_TAGGED_BYTES: usize = 64 * 1_024;

/// Tags a successful answer, and leaves out its body where the client has it already.
pub fn tag(mut reply: Reply, request: &HeaderMap) -> Reply {
    let body = reply.body().bytes();
    if !reply.status().is_success() || body.len() > MAX_TAGGED_BYTES {
        return reply;
    }
    let tag = format!("\"{}\"", hex(&Sha256::digest(body)));
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| matches(known, &tag)) {
        reply = reply::empty(StatusCode::NOT_MODIFIED);
    }
    // Hexadecimal digits in quotes are a valid value; otherwise only the tag would be missing.
    if let Ok(tag) = HeaderValue::try_from(tag) {
        reply.headers_mut().insert(header::ETAG, tag);
    }
    reply
}

/// Returns true if a list of tags holds this one; its weak form does not count.
fn matches(known: &HeaderValue, tag: &str) -> bool {
    let Ok(known) = known.to_str() else { return false };
    known.trim() == "*" || known.split(',').any(|one| one.trim() == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_wildcards_match_but_weak_tags_do_not() {
        let matches = |known| matches(&HeaderValue::from_static(known), "\"a\"");
        assert!(matches("\"a\"") && matches("*") && matches("\"b\" , \"a\""));
        assert!(!matches("W/\"a\"") && !matches("\"b\"") && !matches("") && !matches("*, \"b\""));
    }
}
