//! What can go wrong between us and a peer. A fault is a measured outcome, not an error of the suite.

use std::fmt;
use std::io;

use rustls::AlertDescription;

use super::http1::ParseError;

/// The kinds of fault, as counted in results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The TCP connection could not be made.
    Connect,
    /// We had no port or file descriptor left for a connection, or no room for an answer: the generator's fault, not the
    /// peer's.
    Exhausted,
    /// The TLS handshake failed for a reason that none of the next is, or a TLS record was bad later on.
    Tls,
    /// The peer's certificate has expired, or is not valid yet.
    Expired,
    /// The peer's certificate is for another name.
    WrongName,
    /// No authority that we trust vouches for the peer's certificate.
    UnknownAuthority,
    /// The peer demands a client certificate.
    ClientCertificate,
    /// The peer does not speak HTTP/1.1 (ALPN, RFC 7301).
    NoHttp11,
    /// The peer closed or reset the connection before the first byte of a response, be it amid the handshake.
    Closed,
    /// The peer closed or reset the connection in the middle of a response.
    Truncated,
    /// The bytes were no HTTP/1.1 response, or one beyond our bounds.
    Protocol,
}

impl FaultKind {
    /// The name used in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Exhausted => "out of ports, descriptors or room",
            Self::Tls => "tls",
            Self::Expired => "certificate expired",
            Self::WrongName => "certificate of another name",
            Self::UnknownAuthority => "certificate of an unknown authority",
            Self::ClientCertificate => "client certificate demanded",
            Self::NoHttp11 => "no http/1.1",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl FaultKind {
    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error};
        match error {
            Error::InvalidCertificate(cause) => match cause {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::Expired,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                // A stranger that calls itself as one that we know is a stranger all the same.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                _ => Self::Tls,
            },
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
    /// What it counts as.
    pub kind: FaultKind,
    /// What the operating system, the TLS library or the parser said.
    pub detail: String,
}

impl Fault {
    /// A fault of `kind` with its `detail`.
    pub fn new(kind: FaultKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string() }
    }

    /// Whether it is the TLS library's, such as an alert of the peer's.
    pub(super) fn is_tls(error: &io::Error) -> bool {
        tls_error(error).is_some()
    }

    /// An I/O error on an established connection; `begun` says that part of a response had arrived.
    pub(super) fn from_io(error: &io::Error, begun: bool) -> Self {
        let kind = match tls_error(error) {
            Some(error) => FaultKind::of_tls(error),
            None if begun => FaultKind::Truncated,
            None => FaultKind::Closed,
        };
        Self::new(kind, error)
    }

    /// An error while connecting.
    pub(super) fn from_connect(error: &io::Error) -> Self {
        let ours = [libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENFILE, libc::ENOBUFS];
        let kind = match error.raw_os_error() {
            Some(code) if ours.contains(&code) => FaultKind::Exhausted,
            // A connection that was refused has no reset: this one was open.
            Some(libc::ECONNRESET) => FaultKind::Closed,
            _ => FaultKind::Connect,
        };
        Self::new(kind, error)
    }

    /// An error while shaking hands. `replied` says that we had replied to the peer's first flight. Up to there a
    /// handshake_failure is about what we offer; with TLS 1.2 it is afterwards how a peer says that it had asked for a
    /// certificate and got none (RFC 5246, section 7.4.6).
    pub(super) fn from_handshake(error: &io::Error, replied: bool) -> Self {
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)) if replied => {
                Self::new(FaultKind::ClientCertificate, error)
            }
            Some(tls) => Self::new(FaultKind::of_tls(tls), error),
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
