//! The resources of an ACME server as its answers show them (RFC 8555, section 7.1).

use serde::Deserialize;

use super::super::acme::answer::{is_problem, is_problem_type};
use crate::foreign;
use crate::wire::http1::Response;

/// The type of the error of a nonce that the server does not accept (RFC 8555, section 6.5).
pub const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
/// The type of the error of a rate limit (section 6.6).
pub const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
/// The media type of a certificate with its chain (section 9.1).
pub const PEM_CHAIN: &str = "application/pem-certificate-chain";
/// The most authorizations of an order for one name: a server may ask for more than one.
const MOST_AUTHORIZATIONS: usize = 16;

/// An account, as the answer that makes it shows it (section 7.1.2).
#[derive(Deserialize)]
pub struct MadeAccount {
    status: ResourceStatus,
}

/// An order (section 7.1.3).
#[derive(Deserialize)]
pub struct Order {
    /// Its status.
    pub status: ResourceStatus,
    /// The names.
    pub identifiers: Vec<Identifier>,
    /// The URLs of the authorizations that it needs.
    pub authorizations: Vec<String>,
    /// The URL that finalizes it.
    pub finalize: String,
    /// The URL of its certificate, once it is issued.
    pub certificate: Option<String>,
}

/// An authorization (section 7.1.4).
#[derive(Deserialize)]
pub struct Authorization {
    /// Its status.
    pub status: ResourceStatus,
    /// The name.
    pub identifier: Identifier,
    /// The ways to validate it.
    pub challenges: Vec<Challenge>,
}

/// A challenge (section 7.1.5).
#[derive(Deserialize)]
pub struct Challenge {
    /// Its URL, to which the client posts once it is ready.
    pub url: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its status.
    pub status: ResourceStatus,
}

/// A name.
#[derive(Deserialize)]
pub struct Identifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

/// The states of resources (section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceStatus {
    /// The client is to act.
    Pending,
    /// Everything that the order needs is authorized.
    Ready,
    /// The server is at work.
    Processing,
    /// It is done, or of use.
    Valid,
    /// It failed.
    Invalid,
    /// Any other.
    #[serde(other)]
    Other,
}

impl MadeAccount {
    /// Reports whether orders may be made with it.
    pub fn is_valid(&self) -> bool {
        self.status == ResourceStatus::Valid
    }
}

impl Identifier {
    /// Reports whether it is this DNS name, in letters of any case.
    pub fn is(&self, name: &str) -> bool {
        self.kind == "dns" && self.value.eq_ignore_ascii_case(name)
    }
}

impl Order {
    /// Reports whether it is an order for this one name, with a number of authorizations that can be.
    pub fn is_for(&self, name: &str) -> bool {
        matches!(&self.identifiers[..], [one] if one.is(name))
            && (1..=MOST_AUTHORIZATIONS).contains(&self.authorizations.len())
    }
}

impl Authorization {
    /// Returns the challenge to answer: http-01 if there is one, else the first.
    pub fn challenge(&self) -> Option<&Challenge> {
        self.challenges.iter().find(|one| one.kind == "http-01").or(self.challenges.first())
    }
}

/// Reads the resource in an answer.
pub fn read<T: for<'de> Deserialize<'de>>(response: &Response<'_>) -> Option<T> {
    if response.is_json() { serde_json::from_slice(response.body).ok() } else { None }
}

/// Returns the URL in an answer's `Location`.
pub fn location(response: &Response<'_>) -> Option<String> {
    let mut locations = response.headers("location");
    let first = locations.next().filter(|_| locations.next().is_none())?;
    std::str::from_utf8(first).ok().map(str::to_owned)
}

/// Returns the path, with its query, of a URL at `host` (a Host field); `None` for one elsewhere, which is never
/// requested: it would be measured as this system.
pub fn path_at<'u>(url: &'u str, host: &str) -> Option<&'u str> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find('/')?);
    let bare = |authority: &str| authority.strip_suffix(":443").unwrap_or(authority).to_ascii_lowercase();
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    (is_path && bare(authority) == bare(host)).then_some(path)
}

/// Reports whether the server refuses the nonce of a request.
pub fn is_bad_nonce(response: &Response<'_>) -> bool {
    response.status == 400 && is_problem(response, BAD_NONCE)
}

/// Reports whether a 429 has the shape that ACME gives it.
pub fn is_rate_limited(response: &Response<'_>, has_body: bool) -> bool {
    // The answer to a HEAD has no body that could name the type.
    if has_body { is_problem(response, RATE_LIMITED) } else { is_problem_type(response) }
}

/// Returns true if the content type is that of a chain.
pub fn is_chain(response: &Response<'_>) -> bool {
    let value = response.header("content-type").unwrap_or_default();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or(value);
    essence.trim_ascii().eq_ignore_ascii_case(PEM_CHAIN.as_bytes())
}

/// Names a URL of a server's for people.
pub fn shown(url: &str) -> String {
    foreign::line(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_at_the_system_have_a_path() {
        for host in ["h.example:8443", "H.EXAMPLE:8443"] {
            assert_eq!(path_at("https://h.example:8443/acme/order/1?a=b", host), Some("/acme/order/1?a=b"));
        }
        for (url, host) in [("https://h.example/x", "h.example:443"), ("https://h.example:443/x", "h.example")] {
            assert_eq!(path_at(url, host), Some("/x"));
        }
        for url in [
            "https://h.example:8444/x",
            "https://elsewhere.example:8443/x",
            "http://h.example:8443/x",
            "https://h.example:8443",
            "/x",
            "https://h.example:8443/x y",
            "https://h.example:8443/x\r\nHost: y",
            "https://h.example:8443/x#y",
            "https://u@h.example:8443/x",
        ] {
            assert_eq!(path_at(url, "h.example:8443"), None, "{url:?}");
        }
    }
}
