//! Requests, encoded once: the bytes that all requests of a kind share, with slots for those that differ.

use std::fmt::Write as _;

/// Request methods that the suite sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD, whose response has no body, whatever its head states.
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Method {
    /// Returns the method token (RFC 9110, section 9).
    pub const fn token(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Returns true if a request always states the length of its body (RFC 9110, section 8.6).
    const fn expects_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// Encodes one request (RFC 9112, section 3). `body` is JSON, or empty for none.
pub fn encode(method: Method, target: &str, host: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = token.map(|token| ("Authorization", format!("Bearer {token}")));
    let fields: Vec<_> = authorization.iter().map(|(name, value)| (*name, value.as_str())).collect();
    encode_as(method, target, host, &fields, "application/json", body.as_bytes())
}

/// Encodes one request with these header fields, and a `body` of this type, or empty for none.
pub fn encode_as(
    method: Method,
    target: &str,
    host: &str,
    fields: &[(&str, &str)],
    content_type: &str,
    body: &[u8],
) -> Vec<u8> {
    let mut text = String::with_capacity(256 + body.len());
    // Writing to a String cannot fail.
    let _ = write!(text, "{} {target} HTTP/1.1\r\nHost: {host}\r\n", method.token());
    text.push_str(concat!("User-Agent: certctl-bench/", env!("CARGO_PKG_VERSION"), "\r\nAccept: application/json\r\n"));
    // Nothing is decoded: bytes on the wire are bytes of the answer.
    text.push_str("Accept-Encoding: identity\r\n");
    for (name, value) in fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() || method.expects_body() {
        let _ = write!(text, "Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    let mut request = text.into_bytes();
    request.extend_from_slice(body);
    request
}

/// Adds a header field to an encoded request.
pub fn with_header(request: &mut Vec<u8>, name: &str, value: &str) {
    const HEAD_END: &[u8] = b"\r\n\r\n";
    if let Some(end) = request.windows(HEAD_END.len()).position(|window| window == HEAD_END) {
        let field = format!("\r\n{name}: {value}");
        request.splice(end..end, field.into_bytes());
    }
}

/// An encoded request with slots for a number of fixed width.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    slots: Vec<usize>,
    width: usize,
}

impl Template {
    /// Makes a template from an encoded request in which each occurrence of `marker` is a slot, as wide as the marker.
    ///
    /// # Panics
    /// If `marker` is empty.
    pub fn new(bytes: Vec<u8>, marker: &str) -> Self {
        let width = marker.len();
        assert!(width > 0, "a slot has a width");
        let slots = (0..bytes.len().saturating_sub(width - 1))
            .filter(|&at| &bytes[at..at + width] == marker.as_bytes())
            .collect();
        Self { bytes, slots, width }
    }

    /// Replaces `out` by the request with `number`, zero-padded, in every slot. Allocates nothing once `out` has
    /// room; digits that do not fit are cut on the left.
    pub fn fill(&self, number: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for &slot in &self.slots {
            let mut rest = number;
            for digit in out[slot..slot + self.width].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_request_follows_rfc_9112() {
        let bytes = encode(Method::Post, "/api/v1/x", "localhost:8443", Some("t0k"), "{}");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("POST /api/v1/x HTTP/1.1\r\nHost: localhost:8443\r\n"), "{text}");
        assert!(text.contains("\r\nAuthorization: Bearer t0k\r\n"), "{text}");
        assert!(text.contains("\r\nAccept-Encoding: identity\r\n"), "{text}");
        assert!(text.ends_with("\r\nContent-Length: 2\r\n\r\n{}"), "{text}");
        let get = String::from_utf8(encode(Method::Get, "/", "h", None, "")).unwrap();
        assert!(!get.contains("Content-Length") && !get.contains("Authorization"), "{get}");
        let chunk = [("Content-Range", "0-1/2")];
        let upload = encode_as(Method::Put, "/u", "h", &chunk, "application/octet-stream", b"ab");
        let upload = String::from_utf8(upload).unwrap();
        let end = "Content-Range: 0-1/2\r\nContent-Type: application/octet-stream\r\nContent-Length: 2\r\n\r\nab";
        assert!(upload.starts_with("PUT /u HTTP/1.1\r\n") && upload.ends_with(end), "{upload}");
        let delete = String::from_utf8(encode(Method::Delete, "/", "h", None, "")).unwrap();
        assert!(!delete.contains("Content-Length"), "{delete}");
    }

    #[test]
    fn every_slot_of_a_template_is_filled() {
        let template = Template::new(b"/a/##### host-#####.".to_vec(), "#####");
        let mut out = Vec::new();
        template.fill(42, &mut out);
        assert_eq!(out, b"/a/00042 host-00042.");
        template.fill(99_999, &mut out);
        assert_eq!(out, b"/a/99999 host-99999.");
    }
}
