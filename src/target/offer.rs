//! What is offered in the handshakes of a workload.

use std::fmt;

use crate::wire::tls::{Group, Version};

/// Which handshakes a run declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// All are full.
    Full,
    /// All are resumed.
    Resumed,
    /// By turns.
    Mixed,
    /// Full ones by turns with such as offer a session, which the peer may resume or not.
    Offered,
}

/// What is offered in handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Full or resumed ones.
    pub resumption: Resumption,
    /// The one protocol version; both without.
    pub version: Option<Version>,
    /// The one key exchange group; the library's choice without.
    pub group: Option<Group>,
}

/// Everything that tells one offer from another: a run's workload is known by it.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.resumption {
            Resumption::Full => "full TLS handshakes",
            Resumption::Resumed => "resumed TLS handshakes",
            Resumption::Mixed => "full and resumed TLS handshakes by turns",
            Resumption::Offered => "full TLS handshakes by turns with such as offer a session",
        })?;
        let version = self.version.map(|version| match version {
            Version::Tls12 => "TLS 1.2",
            Version::Tls13 => "TLS 1.3",
        });
        let group = self.group.map(|group| match group {
            Group::X25519 => "X25519",
            Group::P256 => "P-256",
            Group::X25519MlKem768 => "X25519MLKEM768",
        });
        for only in [version, group].into_iter().flatten() {
            write!(f, ", {only} alone")?;
        }
        Ok(())
    }
}
