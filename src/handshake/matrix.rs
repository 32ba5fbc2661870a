//! The matrix of handshakes: every case, and the slice of the matrix that runs by default.

use std::fmt;

use crate::provision::pki::KeyType;
use crate::wire::Handshake;
pub use crate::wire::tls::{KeyExchange, TlsVersion};

/// The kind of a handshake: full, or continuing an earlier session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionUse {
    /// Full: certificates are sent and verified. The server gives out no tickets.
    Full,
    /// Resumed by a ticket of the handshake before it; the server gives out one ticket for the next.
    Resumed,
}

impl SessionUse {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Full, Self::Resumed];

    /// Returns its name in benchmark ids, which is [`Handshake::kind`] as well.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// The server's request for a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAuth {
    /// The server requests none.
    Off,
    /// The server requests one and verifies it; both certificates have keys of the same kind.
    On,
}

impl ClientAuth {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Off, Self::On];

    /// Returns its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "no-client-auth",
            Self::On => "client-auth",
        }
    }
}

/// The offer of a client, whatever the server's certificate is. It is always a possible combination:
/// - TLS 1.2 knows no hybrid group, so that X25519MLKEM768 comes with TLS 1.3 only;
/// - a resumed handshake of TLS 1.2 exchanges no keys, so that it exists once, under X25519, which the handshake before
///   it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HandshakeId {
    version: TlsVersion,
    group: KeyExchange,
    resumption: SessionUse,
}

impl HandshakeId {
    /// The offer on which a server and a client of today agree: TLS 1.3, X25519, full.
    pub const BASE: Self =
        Self { version: TlsVersion::Tls13, group: KeyExchange::X25519, resumption: SessionUse::Full };

    /// Returns the combination, if it is possible.
    pub fn new(version: TlsVersion, group: KeyExchange, resumption: SessionUse) -> Option<Self> {
        let possible = match (version, group, resumption) {
            (TlsVersion::Tls13, _, _) | (TlsVersion::Tls12, KeyExchange::X25519, _) => true,
            (TlsVersion::Tls12, KeyExchange::P256, resumption) => resumption == SessionUse::Full,
            (TlsVersion::Tls12, KeyExchange::X25519MlKem768, _) => false,
        };
        possible.then_some(Self { version, group, resumption })
    }

    /// Returns every possible combination.
    pub fn all() -> impl Iterator<Item = Self> {
        let versions = TlsVersion::ALL.into_iter();
        versions.flat_map(|version| {
            let groups = KeyExchange::ALL.into_iter();
            groups.flat_map(move |group| {
                SessionUse::ALL.into_iter().filter_map(move |resumption| Self::new(version, group, resumption))
            })
        })
    }

    /// Returns the protocol version.
    pub const fn version(self) -> TlsVersion {
        self.version
    }

    /// Returns the key exchange group.
    pub const fn group(self) -> KeyExchange {
        self.group
    }

    /// Returns its kind: full or resumed.
    pub const fn resumption(self) -> SessionUse {
        self.resumption
    }

    /// Returns the full handshake that must come before it, so that it can be resumed.
    #[must_use]
    pub const fn priming(self) -> Self {
        Self { resumption: SessionUse::Full, ..self }
    }

    /// Describes the mismatch between a finished handshake and this offer; `None` if there is none.
    pub fn mismatch(self, handshake: &Handshake) -> Option<String> {
        let group = match (self.version, self.resumption) {
            (TlsVersion::Tls12, SessionUse::Resumed) => "-",
            _ => self.group.negotiated(),
        };
        let expected = [self.resumption.label(), self.version.negotiated(), group];
        let found = [handshake.kind.label(), handshake.version, handshake.group];
        (found != expected).then(|| format!("expected {}, had {}", expected.join(" "), found.join(" ")))
    }

    /// Returns the number of properties in which it differs from [`HandshakeId::BASE`].
    fn distance(self) -> usize {
        let base = Self::BASE;
        let differs = [self.version != base.version, self.group != base.group, self.resumption != base.resumption];
        differs.into_iter().filter(|differs| *differs).count()
    }

    /// Reports whether it is measured at servers by default: the base, full and resumed.
    pub fn is_default(self) -> bool {
        self.priming() == Self::BASE
    }
}

impl fmt::Display for HandshakeId {
    /// Writes `VERSION/GROUP/KIND`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.version.label(), self.group.label(), self.resumption.label())
    }
}

/// A handshake with both sides in this suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The client's offer.
    pub offer: HandshakeId,
    /// The kind of key of the certificates.
    pub key_type: KeyType,
    /// The server's request for a client certificate.
    pub client_auth: ClientAuth,
}

impl Case {
    /// The case that the others are compared with.
    pub const BASE: Self =
        Self { offer: HandshakeId::BASE, key_type: KeyType::EcdsaP256, client_auth: ClientAuth::Off };

    /// Returns the full matrix, nearest to the base first.
    pub fn all() -> impl Iterator<Item = Self> {
        let keys = KeyType::ALL.into_iter();
        let cases = keys.flat_map(|key_type| {
            let offers = HandshakeId::all();
            offers.flat_map(move |offer| ClientAuth::ALL.map(|client_auth| Self { offer, key_type, client_auth }))
        });
        let mut cases: Vec<Self> = cases.collect();
        // Cases at the same distance stand in the order of their fields.
        cases.sort_by_key(|case| (case.distance(), *case));
        cases.into_iter()
    }

    /// Returns the number of properties in which it differs from [`Case::BASE`].
    fn distance(self) -> usize {
        let base = Self::BASE;
        self.offer.distance()
            + usize::from(self.key_type != base.key_type)
            + usize::from(self.client_auth != base.client_auth)
    }

    /// Reports whether it belongs to the default slice: the base, and every case that differs from it in one property.
    pub fn is_default(self) -> bool {
        self.distance() <= 1
    }
}

impl fmt::Display for Case {
    /// Writes `VERSION/KEY/GROUP/KIND/CLIENT-AUTH`, the rest of a benchmark id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offer, key_type, client_auth } = self;
        let (version, group, kind) = (offer.version.label(), offer.group.label(), offer.resumption.label());
        write!(f, "{version}/{key_type}/{group}/{kind}/{}", client_auth.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::handshake::HandshakeFlow;
    use std::collections::BTreeSet;

    #[test]
    fn the_matrix_has_every_possible_case_once() {
        let cases: Vec<Case> = Case::all().collect();
        let labels: BTreeSet<String> = cases.iter().map(Case::to_string).collect();
        assert_eq!(labels.len(), cases.len());
        // TLS 1.3: 5 keys × 3 groups × 2 × 2. TLS 1.2: 5 keys × (2 groups full, 1 resumed) × 2.
        assert_eq!(cases.len(), 60 + 30);
        assert!(!labels.iter().any(|label| label.starts_with("tls12") && label.contains("mlkem")), "{labels:?}");
        assert!(!labels.iter().any(|label| label.starts_with("tls12") && label.contains("p256/resumed")), "{labels:?}");
        assert_eq!(Case::BASE.to_string(), "tls13/ecdsa-p256/x25519/full/no-client-auth");
    }

    #[test]
    fn the_default_slice_varies_one_property_at_a_time() {
        let slice: Vec<String> = Case::all().filter(|case| case.is_default()).map(|case| case.to_string()).collect();
        assert_eq!(
            slice,
            [
                "tls13/ecdsa-p256/x25519/full/no-client-auth",
                "tls12/ecdsa-p256/x25519/full/no-client-auth",
                "tls13/ecdsa-p256/x25519/full/client-auth",
                "tls13/ecdsa-p384/x25519/full/no-client-auth",
                "tls13/rsa-2048/x25519/full/no-client-auth",
                "tls13/rsa-4096/x25519/full/no-client-auth",
                "tls13/ed25519/x25519/full/no-client-auth",
                "tls13/ecdsa-p256/x25519/resumed/no-client-auth",
                "tls13/ecdsa-p256/p256/full/no-client-auth",
                "tls13/ecdsa-p256/x25519mlkem768/full/no-client-auth",
            ]
        );
    }

    #[test]
    fn a_handshake_mismatch_is_reported() {
        let full = Handshake {
            kind: HandshakeFlow::Full,
            version: "TLS1.3",
            suite: "TLS13_AES_256_GCM_SHA384",
            group: "X25519",
            key: "ecdsa-p256",
            chain_length: 1,
            alpn: "-",
        };
        assert_eq!(HandshakeId::BASE.mismatch(&full), None);
        let resumed = Handshake { kind: HandshakeFlow::Resumed, ..full };
        let mismatch = HandshakeId::BASE.mismatch(&resumed).unwrap();
        assert_eq!(mismatch, "expected full TLS1.3 X25519, had resumed TLS1.3 X25519");
        let offer = HandshakeId::new(TlsVersion::Tls13, KeyExchange::X25519, SessionUse::Resumed).unwrap();
        assert_eq!((offer.mismatch(&resumed), offer.mismatch(&full).is_some()), (None, true));
        for other in [
            Handshake { kind: HandshakeFlow::HelloRetry, ..full },
            Handshake { version: "TLS1.2", ..full },
            Handshake { group: "secp256r1", ..full },
        ] {
            assert!(HandshakeId::BASE.mismatch(&other).is_some(), "{other}");
        }
        let resumed_12 = Handshake { kind: HandshakeFlow::Resumed, version: "TLS1.2", group: "-", ..full };
        assert_eq!(
            HandshakeId::new(TlsVersion::Tls12, KeyExchange::X25519, SessionUse::Resumed)
                .unwrap()
                .mismatch(&resumed_12),
            None
        );
    }
}
