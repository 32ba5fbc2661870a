//! Faults between the generator and a peer. A fault is a measured outcome, not an error of the suite.

use std::fmt;
use std::io;

use rustix::io::Errno;
use rustls::AlertDescription;

use super::http1::ParseError;
use super::verify;
use crate::foreign;

/// The kinds of fault, as counted in results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The TCP connection could not be made.
    Connect,
    /// The generator had no port or file descriptor left for a connection, or no room for an answer: its own fault, not
    /// the peer's.
    Exhausted,
    /// The TLS handshake failed for a reason that is none of those below, or a later TLS record was bad.
    Tls,
    /// The peer speaks no TLS.
    NotTls,
    /// The peer speaks no TLS version as new as 1.2.
    OldTls,
    /// The peer refused the handshake with an alert that names no cause (RFC 8446, section 6.2).
    Refused,
    /// The peer has no certificate for the server name that it received, or it received none (RFC 6066, section 3).
    UnknownName,
    /// The peer's certificate has expired.
    Expired,
    /// The peer's certificate is not valid yet.
    NotValidYet,
    /// The peer's certificate is for another name.
    WrongName,
    /// No trusted authority vouches for the peer's certificate.
    UnknownAuthority,
    /// The peer's certificate is an authority's own (CA:TRUE), and not one that was given as trusted.
    AuthorityAsServer,
    /// An RSA key of the peer's certificate, or of an authority above it, is too small.
    SmallKey,
    /// The peer's certificate is for uses other than a server's.
    NotForServers,
    /// The peer's certificate has a critical extension that is not known here (RFC 5280, section 4.2).
    UnknownExtension,
    /// The peer's certificate cannot be read or used.
    BadCertificate,
    /// The peer demands a client certificate.
    ClientCertificate,
    /// The peer does not speak HTTP/1.1 (ALPN, RFC 7301).
    NoHttp11,
    /// The peer selected a protocol that was not offered (RFC 7301, section 3.2).
    UnofferedAlpn,
    /// The peer closed or reset the connection before the first byte of a response, or amid the handshake.
    Closed,
    /// The peer closed or reset the connection in the middle of a response.
    Truncated,
    /// The bytes were no HTTP/1.1 response, or one beyond the suite's bounds.
    Protocol,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 22] = [
        Self::Connect,
        Self::Exhausted,
        Self::Tls,
        Self::NotTls,
        Self::OldTls,
        Self::Refused,
        Self::UnknownName,
        Self::Expired,
        Self::NotValidYet,
        Self::WrongName,
        Self::UnknownAuthority,
        Self::AuthorityAsServer,
        Self::SmallKey,
        Self::NotForServers,
        Self::UnknownExtension,
        Self::BadCertificate,
        Self::ClientCertificate,
        Self::NoHttp11,
        Self::UnofferedAlpn,
        Self::Closed,
        Self::Truncated,
        Self::Protocol,
    ];

    /// Returns the kind with this name in results.
    pub fn of_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    /// Returns the name used in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Exhausted => "out of ports, descriptors or room",
            Self::Tls => "tls",
            Self::NotTls => "not TLS",
            Self::OldTls => "TLS too old",
            Self::Refused => "handshake refused",
            Self::UnknownName => "unknown server name",
            Self::Expired => "certificate expired",
            Self::NotValidYet => "certificate not valid yet",
            Self::WrongName => "certificate of another name",
            Self::UnknownAuthority => "certificate of an unknown authority",
            Self::AuthorityAsServer => "certificate of an authority itself",
            Self::SmallKey => "certificate with a small key",
            Self::NotForServers => "certificate of no server",
            Self::UnknownExtension => "certificate with an unknown extension",
            Self::BadCertificate => "bad certificate",
            Self::ClientCertificate => "client certificate demanded",
            Self::NoHttp11 => "no http/1.1",
            Self::UnofferedAlpn => "protocol not offered",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
        }
    }
}

/// Returns the finding of the TLS library, in words of the suite where the library has none.
fn words(error: &rustls::Error) -> String {
    let words = match FaultKind::of_tls(error) {
        FaultKind::AuthorityAsServer => "invalid peer certificate: it is an authority's own (CA:TRUE), not a server's",
        FaultKind::UnofferedAlpn => "the peer selected a protocol (ALPN) other than http/1.1, the only one offered",
        FaultKind::OldTls => "the peer speaks TLS 1.1 at best",
        FaultKind::UnknownExtension => {
            "invalid peer certificate: it has a critical extension that this suite does not know, so that it may not \
             be used"
        }
        FaultKind::SmallKey => return verify::small_key(error).map_or_else(|| error.to_string(), ToString::to_string),
        FaultKind::BadCertificate => match verify::complaint(error) {
            Some(webpki::Error::UnsupportedCertVersion) => {
                "invalid peer certificate: it is of X.509 version 1, which has no names to verify"
            }
            _ => return error.to_string(),
        },
        _ => return error.to_string(),
    };
    words.to_owned()
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl FaultKind {
    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error, PeerIncompatible, PeerMisbehaved};
        match error {
            Error::InvalidCertificate(cause) => match cause {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                // An authority with the name of a trusted one, but another key, is unknown all the same.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    Self::NotForServers
                }
                _ if verify::is_authority(error) => Self::AuthorityAsServer,
                _ if verify::small_key(error).is_some() => Self::SmallKey,
                _ if verify::complaint(error) == Some(&webpki::Error::UnsupportedCriticalExtension) => {
                    Self::UnknownExtension
                }
                _ => Self::BadCertificate,
            },
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => Self::OldTls,
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => Self::UnofferedAlpn,
            Error::AlertReceived(AlertDescription::UnrecognisedName) => Self::UnknownName,
            Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::AccessDenied) => Self::Refused,
            Error::AlertReceived(AlertDescription::CertificateRequired) => Self::ClientCertificate,
            Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Self::NoHttp11
            }
            _ => Self::Tls,
        }
    }
}

/// A fault with its detail for people.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kind that it counts as.
    pub kind: FaultKind,
    /// The message of the operating system, the TLS library or the parser, in one line.
    pub detail: String,
}

impl Fault {
    /// Makes a fault of `kind` with its `detail`.
    pub fn new(kind: FaultKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: foreign::line(&detail.to_string()) }
    }

    /// Returns true if the error is the TLS library's, such as an alert of the peer.
    pub(super) fn is_tls(error: &io::Error) -> bool {
        tls_error(error).is_some()
    }

    /// Makes a fault from an I/O error on an established connection; `begun` is true if part of a response had arrived.
    pub(super) fn from_io(error: &io::Error, begun: bool) -> Self {
        let kind = match tls_error(error) {
            Some(error) => FaultKind::of_tls(error),
            None if begun => FaultKind::Truncated,
            None => FaultKind::Closed,
        };
        Self::new(kind, error)
    }

    /// Makes a fault from an error while connecting.
    pub(super) fn from_connect(error: &io::Error) -> Self {
        let kind = match Errno::from_io_error(error) {
            Some(Errno::ADDRNOTAVAIL | Errno::MFILE | Errno::NFILE | Errno::NOBUFS) => FaultKind::Exhausted,
            // A refused connection gives no reset: this one was open.
            Some(Errno::CONNRESET) => FaultKind::Closed,
            _ => FaultKind::Connect,
        };
        Self::new(kind, error)
    }

    /// Makes a fault from an error during the handshake. `replied` is true if the client had replied to the peer's
    /// first flight. Up to there a handshake_failure is about the client's offer; with TLS 1.2 it is afterwards the way
    /// in which a peer reports that it requested a certificate and got none (RFC 5246, section 7.4.6). `beginning` is
    /// the beginning of an answer that is no TLS.
    pub(super) fn from_handshake(error: &io::Error, replied: bool, beginning: &[u8]) -> Self {
        match tls_error(error) {
            Some(rustls::Error::InvalidMessage(_)) if !beginning.is_empty() => {
                let first = String::from_utf8_lossy(beginning);
                let first = first.lines().next().unwrap_or_default();
                Self::new(FaultKind::NotTls, format!("the peer does not speak TLS: its answer begins with `{first}`"))
            }
            Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)) if replied => {
                Self::new(FaultKind::ClientCertificate, error)
            }
            Some(tls) => Self::new(FaultKind::of_tls(tls), words(tls)),
            None => Self::new(FaultKind::Closed, format!("amid the TLS handshake: {error}")),
        }
    }

    pub(super) fn from_parse(error: ParseError) -> Self {
        let kind = match error {
            ParseError::NoResponse => FaultKind::Closed,
            ParseError::EofInHead | ParseError::EofInBody => FaultKind::Truncated,
            _ => FaultKind::Protocol,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.label(), self.detail)
    }
}
