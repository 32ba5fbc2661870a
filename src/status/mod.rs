//! The revocation status of certificates, as a relying party sees it: OCSP (RFC 6960) and certificate revocation lists
//! (RFC 5280, section 5). Pure: bytes in, findings out. Whoever calls it knows the time.

mod certificate;
pub mod crl;
pub mod ocsp;
mod signed;

use std::fmt;

pub use certificate::{IssuerCertificate, serial_of};

/// The serial number of a certificate: an unsigned number without leading zeros, big-endian.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// The longest serial number, in bytes (RFC 5280, section 4.1.2.2).
    const LONGEST: usize = 20;

    /// Takes a big-endian number; `None` if it is longer than a serial number may be.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let number = &bytes[zeros..];
        (number.len() <= Self::LONGEST).then(|| Self(number.to_vec()))
    }

    /// Parses hexadecimal digits, with or without leading zeros.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let digit = |byte: u8| Some(char::from(byte).to_digit(16)? as u8);
        let digits: Vec<u8> = digits.bytes().map(digit).collect::<Option<_>>()?;
        if digits.is_empty() {
            return None;
        }
        let bytes: Vec<u8> =
            digits.rchunks(2).rev().map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        Self::new(&bytes)
    }

    /// Returns the number, big-endian, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the number as 40 hexadecimal digits, with leading zeros.
    pub fn padded_hex(&self) -> String {
        format!("{self:0>40}")
    }

    /// Reports whether the number has 40 hexadecimal digits without leading zeros: then all ways of writing it agree.
    pub fn fills_its_field(&self) -> bool {
        self.0.len() == Self::LONGEST && self.0[0] >= 0x10
    }
}

impl fmt::Display for Serial {
    /// Writes hexadecimal digits without leading zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let shortest = digits.trim_start_matches('0');
        f.pad(if shortest.is_empty() { "0" } else { shortest })
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The validity of an answer, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The time at which the status was known to be right.
    pub this_update: i64,
    /// The time by which newer information is available; `None` if there always is.
    pub next_update: Option<i64>,
}

impl Freshness {
    /// The most by which the clocks of two machines may differ, in seconds.
    pub const SKEW_S: i64 = 60;

    /// Checks the two times against one another, and against the time `now`, in seconds since 1970 (RFC 6960, section
    /// 4.2.2.1).
    ///
    /// # Errors
    /// If they are out of order, or the answer is not valid yet or no longer.
    pub fn check(self, now: i64) -> Result<(), Flaw> {
        if self.next_update.is_some_and(|next| next < self.this_update) {
            return Err(Flaw::UpdatesOutOfOrder);
        }
        if self.this_update > now + Self::SKEW_S {
            return Err(Flaw::NotYetValid { by_s: self.this_update - now });
        }
        match self.next_update {
            Some(next) if next + Self::SKEW_S < now => Err(Flaw::Stale { by_s: now - next }),
            _ => Ok(()),
        }
    }
}

/// The flaw of an answer for which a relying party rejects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its bytes are not the DER of such an answer.
    Encoding,
    /// It is of a kind or version that the suite does not read.
    Unsupported,
    /// Its signature does not verify.
    Signature,
    /// It is signed by a key that the issuer did not authorise (RFC 6960, section 4.2.2.2).
    Responder,
    /// The certificate of its responder is not valid at this time.
    ResponderExpired,
    /// It is about a certificate of another issuer.
    Issuer,
    /// It is about another serial number.
    OtherSerial,
    /// It is about no certificate, or about several.
    NotOneCertificate,
    /// Its nextUpdate is before its thisUpdate.
    UpdatesOutOfOrder,
    /// Its thisUpdate is in the future.
    NotYetValid {
        /// The time until then.
        by_s: i64,
    },
    /// Its nextUpdate has passed.
    Stale {
        /// The time since then.
        by_s: i64,
    },
    /// It repeats no nonce, or another one.
    Nonce,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "its bytes are not the DER of such an answer",
            Self::Unsupported => "it is of a kind or version that is not supported",
            Self::Signature => "its signature does not verify",
            Self::Responder => "its signer is neither the issuer nor authorised by it",
            Self::ResponderExpired => "the certificate of its responder is not valid now",
            Self::Issuer => "it is about a certificate of another issuer",
            Self::OtherSerial => "it is about another serial number",
            Self::NotOneCertificate => "it is not about one certificate",
            Self::UpdatesOutOfOrder => "its nextUpdate is before its thisUpdate",
            Self::NotYetValid { by_s } => return write!(f, "its thisUpdate is {by_s} s in the future"),
            Self::Stale { by_s } => return write!(f, "its nextUpdate passed {by_s} s ago"),
            Self::Nonce => "it does not repeat the nonce of the request",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_serial_number_survives_both_ways_of_writing_it(bytes in prop::collection::vec(any::<u8>(), 0..=20)) {
            let serial = Serial::new(&bytes).unwrap();
            prop_assert_eq!(serial.padded_hex().len(), 40);
            for written in [serial.to_string(), serial.padded_hex(), serial.padded_hex().to_uppercase()] {
                prop_assert_eq!(Serial::from_hex(&written), Some(serial.clone()));
            }
            prop_assert_eq!(serial.fills_its_field(), serial.to_string() == serial.padded_hex());
        }
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        assert_eq!(["", "0x1", "-1", "g"].map(Serial::from_hex), [None, None, None, None]);
        assert_eq!(Serial::from_hex(&"f".repeat(41)), None);
        assert_eq!(Serial::from_hex(&format!("0{}", "f".repeat(40))).unwrap().as_bytes(), [0xff; 20]);
        assert_eq!(Serial::new(&[0, 0]).unwrap().to_string(), "0");
    }

    #[test]
    fn an_answer_is_fresh_from_this_update_to_next_update() {
        let check = |this_update, next_update| Freshness { this_update, next_update }.check(1_000);
        for right in [(1_000, None), (0, None), (1_060, None), (1_000, Some(1_000)), (0, Some(940))] {
            assert_eq!(check(right.0, right.1), Ok(()), "{right:?}");
        }
        assert_eq!(check(1_061, None), Err(Flaw::NotYetValid { by_s: 61 }));
        assert_eq!(check(0, Some(939)), Err(Flaw::Stale { by_s: 61 }));
        assert_eq!(check(1_000, Some(999)), Err(Flaw::UpdatesOutOfOrder));
    }
}
