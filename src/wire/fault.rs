//! What can go wrong between us and a peer. A fault is a measured outcome, not an error of the suite.

use std::fmt;
use std::io;

use super::http1::ParseError;

/// The kinds of fault, as counted in results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The TCP connection could not be made.
    Connect,
    /// The TLS handshake failed, or a TLS record was bad later on.
    Tls,
    /// The peer closed or reset the connection before the first byte of a response.
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
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
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

    /// An I/O error on an established connection; `begun` says that part of a response had arrived.
    pub(super) fn from_io(error: &io::Error, begun: bool) -> Self {
        let kind = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(_) => FaultKind::Tls,
            None if begun => FaultKind::Truncated,
            None => FaultKind::Closed,
        };
        Self::new(kind, error)
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
