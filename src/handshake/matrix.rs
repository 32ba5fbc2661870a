//! The matrix of handshakes: every case that there is, and the slice of it that runs by default.

use std::fmt;

use crate::target::pki::KeyType;
use crate::wire::Handshake;
pub use crate::wire::tls::{Group, Version};

/// Whether the handshake continues an earlier session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resumption {
    /// No: certificates are sent and verified. The server gives out no tickets.
    Full,
    /// Yes, by a ticket of the handshake before it; the server gives out one ticket for the next.
    Resumed,
}

impl Resumption {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Full, Self::Resumed];

    /// Its name in benchmark ids, which is [`Handshake::kind`] as well.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

/// Whether the server asks the client for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAuth {
    /// No.
    Off,
    /// Yes: the client has one with a key of the same kind as the server's, and the server verifies it.
    On,
}

impl ClientAuth {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Off, Self::On];

    /// Its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "no-client-auth",
            Self::On => "client-auth",
        }
    }
}

/// What a client offers, whatever the server's certificate is. It is always a possible combination:
/// - TLS 1.2 knows no hybrid group, so that X25519MLKEM768 comes with TLS 1.3 only;
/// - a resumed handshake of TLS 1.2 exchanges no keys, so that it exists once, under X25519, which the handshake before
///   it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    version: Version,
    group: Group,
    resumption: Resumption,
}

impl Offer {
    /// What a server of today and a client of today agree on: TLS 1.3, X25519, full.
    pub const BASE: Self = Self { version: Version::Tls13, group: Group::X25519, resumption: Resumption::Full };

    /// The combination, if it is possible.
    pub fn new(version: Version, group: Group, resumption: Resumption) -> Option<Self> {
        let possible = match (version, group, resumption) {
            (Version::Tls13, _, _) | (Version::Tls12, Group::X25519, _) => true,
            (Version::Tls12, Group::P256, resumption) => resumption == Resumption::Full,
            (Version::Tls12, Group::X25519MlKem768, _) => false,
        };
        possible.then_some(Self { version, group, resumption })
    }

    /// Every possible combination.
    pub fn all() -> impl Iterator<Item = Self> {
        let versions = Version::ALL.into_iter();
        versions.flat_map(|version| {
            let groups = Group::ALL.into_iter();
            groups.flat_map(move |group| {
                Resumption::ALL.into_iter().filter_map(move |resumption| Self::new(version, group, resumption))
            })
        })
    }

    /// The protocol version.
    pub const fn version(self) -> Version {
        self.version
    }

    /// The key exchange group.
    pub const fn group(self) -> Group {
        self.group
    }

    /// Whether it is resumed.
    pub const fn resumption(self) -> Resumption {
        self.resumption
    }

    /// The full handshake that must come before it, so that it can be resumed.
    #[must_use]
    pub const fn priming(self) -> Self {
        Self { resumption: Resumption::Full, ..self }
    }

    /// What keeps a finished handshake from being the one that was offered.
    pub fn mismatch(self, handshake: &Handshake) -> Option<String> {
        let group = match (self.version, self.resumption) {
            (Version::Tls12, Resumption::Resumed) => "-",
            _ => self.group.negotiated(),
        };
        let expected = [self.resumption.label(), self.version.negotiated(), group];
        let found = [handshake.kind.label(), handshake.version, handshake.group];
        (found != expected).then(|| format!("expected {}, had {}", expected.join(" "), found.join(" ")))
    }

    /// In how many properties it differs from [`Offer::BASE`].
    fn distance(self) -> usize {
        let base = Self::BASE;
        let differs = [self.version != base.version, self.group != base.group, self.resumption != base.resumption];
        differs.into_iter().filter(|differs| *differs).count()
    }

    /// Whether it is measured at servers by default: full and resumed, as of today.
    pub fn is_default(self) -> bool {
        self.priming() == Self::BASE
    }
}

impl fmt::Display for Offer {
    /// `VERSION/GROUP/KIND`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.version.label(), self.group.label(), self.resumption.label())
    }
}

/// A handshake of which both sides are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What the client offers.
    pub offer: Offer,
    /// The kind of key that certificates have.
    pub key_type: KeyType,
    /// Whether the client shows one.
    pub client_auth: ClientAuth,
}

impl Case {
    /// The case that the others are compared with.
    pub const BASE: Self = Self { offer: Offer::BASE, key_type: KeyType::EcdsaP256, client_auth: ClientAuth::Off };

    /// The full matrix, in the order of ids.
    pub fn all() -> impl Iterator<Item = Self> {
        let keys = KeyType::ALL.into_iter();
        let cases = keys.flat_map(|key_type| {
            let offers = Offer::all();
            offers.flat_map(move |offer| ClientAuth::ALL.map(|client_auth| Self { offer, key_type, client_auth }))
        });
        let mut cases: Vec<Self> = cases.collect();
        // TLS 1.3 first, then whatever is nearest to the base.
        cases.sort_by_key(|case| (case.distance(), *case));
        cases.into_iter()
    }

    /// In how many properties it differs from [`Case::BASE`].
    fn distance(self) -> usize {
        let base = Self::BASE;
        self.offer.distance()
            + usize::from(self.key_type != base.key_type)
            + usize::from(self.client_auth != base.client_auth)
    }

    /// Whether it belongs to the default slice: the base, and every case that differs from it in one property.
    pub fn is_default(self) -> bool {
        self.distance() <= 1
    }
}

impl fmt::Display for Case {
    /// `VERSION/KEY/GROUP/KIND/CLIENT-AUTH`, the rest of a benchmark id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offer, key_type, client_auth } = self;
        let (version, group, kind) = (offer.version.label(), offer.group.label(), offer.resumption.label());
        write!(f, "{version}/{key_type}/{group}/{kind}/{}", client_auth.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::handshake::Kind;
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
    fn the_default_slice_is_the_base_and_what_differs_from_it_in_one_property() {
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
    fn a_handshake_that_was_not_offered_is_told() {
        let full = Handshake {
            kind: Kind::Full,
            version: "TLS1.3",
            suite: "TLS13_AES_256_GCM_SHA384",
            group: "X25519",
            key: "ecdsa-p256",
            chain_length: 1,
            alpn: "-",
        };
        assert_eq!(Offer::BASE.mismatch(&full), None);
        let resumed = Handshake { kind: Kind::Resumed, ..full };
        let told = Offer::BASE.mismatch(&resumed).unwrap();
        assert_eq!(told, "expected full TLS1.3 X25519, had resumed TLS1.3 X25519");
        let offer = Offer::new(Version::Tls13, Group::X25519, Resumption::Resumed).unwrap();
        assert_eq!((offer.mismatch(&resumed), offer.mismatch(&full).is_some()), (None, true));
        for other in [
            Handshake { kind: Kind::HelloRetry, ..full },
            Handshake { version: "TLS1.2", ..full },
            Handshake { group: "secp256r1", ..full },
        ] {
            assert!(Offer::BASE.mismatch(&other).is_some(), "{other}");
        }
        let resumed_12 = Handshake { kind: Kind::Resumed, version: "TLS1.2", group: "-", ..full };
        assert_eq!(Offer::new(Version::Tls12, Group::X25519, Resumption::Resumed).unwrap().mismatch(&resumed_12), None);
    }
}
