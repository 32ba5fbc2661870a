//! The properties of a finished TLS handshake, as the TLS library reports them, and its bytes on the wire.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};

use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, alg_id};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};
use serde::{Deserialize, Serialize};

use super::x509;
use crate::foreign::{self, Label};

/// The properties of a finished handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Handshake {
    /// Full or resumed.
    pub kind: HandshakeFlow,
    /// The protocol version, as in `TLS1.3`.
    #[serde(deserialize_with = "foreign::label")]
    pub version: Label,
    /// The cipher suite, as IANA names it.
    #[serde(deserialize_with = "foreign::label")]
    pub suite: Label,
    /// The key exchange group, as IANA names it, or `-` where the handshake had none.
    #[serde(deserialize_with = "foreign::label")]
    pub group: Label,
    /// The type of the key in the peer's certificate, as in `ecdsa-p256`. For a resumed session it is that of its first
    /// handshake: no certificate was sent.
    #[serde(deserialize_with = "foreign::label")]
    pub key: Label,
    /// The number of certificates in the peer's chain.
    pub chain_length: u8,
    /// The protocol agreed on by ALPN (RFC 7301), or `-`.
    #[serde(deserialize_with = "foreign::label")]
    pub alpn: Label,
}

/// The kind of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HandshakeFlow {
    /// Full.
    Full,
    /// Full, after a HelloRetryRequest: the peer wanted another key exchange group (RFC 8446, section 4.1.4).
    HelloRetry,
    /// Resumed, from a ticket or a session id.
    Resumed,
}

impl HandshakeFlow {
    /// Returns its name in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::HelloRetry => "hello-retry",
            Self::Resumed => "resumed",
        }
    }
}

/// A finished handshake, and its bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The properties of the handshake.
    pub handshake: Handshake,
    /// True if it was resumed or full as it was meant to be.
    pub as_declared: bool,
    /// Bytes read for it. TLS 1.3 tickets mostly come later, and are not among them.
    pub read_bytes: u32,
    /// Bytes written for it.
    pub written_bytes: u32,
    /// The number of the peer's certificate: its [`certificate_id`].
    pub certificate: u64,
}

/// Returns a number that identifies a certificate, within this process.
pub fn certificate_id(certificate: &CertificateDer<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(certificate);
    hasher.finish()
}

impl Handshake {
    /// Reads the properties from a connection whose handshake is complete.
    pub fn of(tls: &CommonState) -> Self {
        let chain = tls.peer_certificates().unwrap_or_default();
        Self {
            kind: match tls.handshake_kind() {
                Some(HandshakeKind::Resumed) => HandshakeFlow::Resumed,
                Some(HandshakeKind::FullWithHelloRetryRequest) => HandshakeFlow::HelloRetry,
                // A complete handshake has a kind.
                Some(HandshakeKind::Full) | None => HandshakeFlow::Full,
            },
            version: match tls.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLS1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLS1.3",
                _ => "-",
            },
            suite: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("-"),
            group: tls.negotiated_key_exchange_group().and_then(|group| group.name().as_str()).unwrap_or("-"),
            key: chain.first().map_or("-", key_type),
            chain_length: chain.len().try_into().unwrap_or(u8::MAX),
            alpn: match tls.alpn_protocol() {
                Some(b"http/1.1") => "http/1.1",
                Some(_) => "other",
                None => "-",
            },
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.kind.label(), self.version, self.suite, self.group)
    }
}

/// Returns the type of a certificate's key, as `target::pki` names those that it makes.
fn key_type(certificate: &CertificateDer<'_>) -> &'static str {
    let Some(spki) = x509::subject_public_key_info(certificate) else { return "-" };
    // SubjectPublicKeyInfo is a sequence of an algorithm and a key (RFC 5280, section 4.1): the algorithm comes first,
    // after a few bytes of lengths.
    let is = |algorithm: AlgorithmIdentifier| {
        spki[..spki.len().min(64)].windows(algorithm.len()).any(|at| *at == *algorithm)
    };
    match spki.len() {
        _ if is(alg_id::ECDSA_P256) => "ecdsa-p256",
        _ if is(alg_id::ECDSA_P384) => "ecdsa-p384",
        _ if is(alg_id::ED25519) => "ed25519",
        // The modulus and a few bytes around it.
        ..350 if is(alg_id::RSA_ENCRYPTION) => "rsa-2048",
        ..500 if is(alg_id::RSA_ENCRYPTION) => "rsa-3072",
        _ if is(alg_id::RSA_ENCRYPTION) => "rsa-4096",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::pki::{Authority, KeyType, Purpose};

    #[test]
    fn the_key_type_of_a_certificate_is_reported() {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        for wanted in KeyType::ALL {
            let identity = root.issue(wanted, Purpose::Server, &["localhost"]).unwrap();
            assert_eq!(key_type(&identity.chain[0]), wanted.label());
        }
    }
}
