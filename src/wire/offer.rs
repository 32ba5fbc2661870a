//! The offer of a workload's handshakes: resumption, protocol version and key exchange group.

use std::fmt;

use clap::ValueEnum;

use super::tls::{KeyExchange, TlsVersion};

/// The kinds of handshake that a run declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resumption {
    /// Every handshake is full.
    Full,
    /// Every handshake resumes an earlier session.
    Resumed,
    /// By turns.
    Mixed,
    /// Full ones in turn with ones that offer a session, which the peer may resume or not.
    #[value(skip)]
    Offered,
}

/// The offer of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeOffer {
    /// The kinds of handshake.
    pub resumption: Resumption,
    /// The only protocol version; `None` for both.
    pub version: Option<TlsVersion>,
    /// The only key exchange group; `None` for the library's choice.
    pub group: Option<KeyExchange>,
}

/// Names everything that distinguishes two offers, since the text is part of a workload's identity.
impl fmt::Display for HandshakeOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.resumption {
            Resumption::Full => "full TLS handshakes",
            Resumption::Resumed => "resumed TLS handshakes",
            Resumption::Mixed => "full and resumed TLS handshakes by turns",
            Resumption::Offered => "full TLS handshakes by turns with such as offer a session",
        })?;
        let version = self.version.map(|version| match version {
            TlsVersion::Tls12 => "TLS 1.2",
            TlsVersion::Tls13 => "TLS 1.3",
        });
        let group = self.group.map(|group| match group {
            KeyExchange::X25519 => "X25519",
            KeyExchange::P256 => "P-256",
            KeyExchange::X25519MlKem768 => "X25519MLKEM768",
        });
        for only in [version, group].into_iter().flatten() {
            write!(f, ", {only} alone")?;
        }
        Ok(())
    }
}
