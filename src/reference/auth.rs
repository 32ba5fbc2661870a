//! Authentication: bearer keys, compared by digest.

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};

/// A named API key.
pub struct Key {
    /// The actor that requests with this key act as.
    pub actor: &'static str,
    /// True if the key was configured as an administrator's.
    pub admin: bool,
    digest: [u8; 32],
}

impl Key {
    /// Returns a key that keeps only the token's SHA-256.
    pub fn new(actor: &'static str, token: &str, admin: bool) -> Self {
        Self { actor, admin, digest: Sha256::digest(token).into() }
    }
}

/// The reason for which a request has no actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    MissingHeader,
    WrongScheme,
    UnknownKey,
}

impl Refusal {
    /// Returns certctl's words for it.
    pub fn message(self) -> &'static str {
        match self {
            Self::MissingHeader => "Authorization header required",
            Self::WrongScheme => "Invalid Authorization header format, expected: Bearer <token>",
            Self::UnknownKey => "Invalid API key",
        }
    }
}

/// Returns the key that a request presents.
pub fn authenticate<'k>(keys: &'k [Key], headers: &HeaderMap) -> Result<&'k Key, Refusal> {
    let header = headers.get(AUTHORIZATION).ok_or(Refusal::MissingHeader)?;
    let token = header.as_bytes().strip_prefix(b"Bearer ").ok_or(Refusal::WrongScheme)?;
    let digest: [u8; 32] = Sha256::digest(token).into();
    keys.iter().find(|key| same(&key.digest, &digest)).ok_or(Refusal::UnknownKey)
}

/// Compares without leaving early, so that the time reveals nothing about the digest.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter().zip(right).fold(0, |difference, (l, r)| difference | (l ^ r)) == 0
}
