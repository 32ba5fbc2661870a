//! Account keys: JSON Web Keys (RFC 7517) of the three kinds that certctl takes, their thumbprints (RFC 7638), and the
//! check of signatures made with them (RFC 7518, section 3; RFC 8037).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{AnyRef, Decode as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::{base64url, pem};

/// certctl's label.
const PEM_LABEL: &str = "ACME ACCOUNT JWK";

/// The signature algorithms that certctl allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A public key.
#[derive(Clone, Debug)]
pub struct Jwk {
    key: Key,
    /// Its required members alone, in the order of their names: the text that a thumbprint covers.
    canonical: String,
}

#[derive(Clone, Debug)]
enum Key {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

/// The members of a key, whatever its kind.
#[derive(Deserialize)]
struct Members {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    /// The private part, which must not be here.
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    /// Reads a key from its JSON; `None` for a private key, one of another kind, and one that no curve has.
    pub fn of(json: &Value) -> Option<Self> {
        let members = Members::deserialize(json).ok()?;
        if members.d.is_some() {
            return None;
        }
        match (members.kty.as_str(), members.crv.as_str()) {
            ("RSA", _) => Self::rsa(&members),
            ("EC", "P-256") => Self::p256(&members),
            ("OKP", "Ed25519") => Self::ed25519(&members),
            _ => None,
        }
    }

    fn rsa(members: &Members) -> Option<Self> {
        let number = |text: &str| {
            let bytes = base64url::decode(text)?;
            let first = bytes.iter().position(|byte| *byte != 0)?;
            Some(bytes[first..].to_vec())
        };
        let (modulus, exponent) = (number(&members.n)?, number(&members.e)?);
        #[derive(Serialize)]
        struct Canonical {
            e: String,
            kty: &'static str,
            n: String,
        }
        let (e, n) = (base64url::encode(&exponent), base64url::encode(&modulus));
        let canonical = serde_json::to_string(&Canonical { e, kty: "RSA", n }).ok()?;
        Some(Self { key: Key::Rsa { modulus, exponent }, canonical })
    }

    fn p256(members: &Members) -> Option<Self> {
        let coordinate = |text: &str| base64url::decode(text).filter(|bytes| bytes.len() == 32);
        let (x, y) = (coordinate(&members.x)?, coordinate(&members.y)?);
        // An uncompressed point (SEC 1, section 2.3.3).
        let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
        #[derive(Serialize)]
        struct Canonical {
            crv: &'static str,
            kty: &'static str,
            x: String,
            y: String,
        }
        let (x, y) = (base64url::encode(x), base64url::encode(y));
        let canonical = serde_json::to_string(&Canonical { crv: "P-256", kty: "EC", x, y }).ok()?;
        Some(Self { key: Key::P256(key), canonical })
    }

    fn ed25519(members: &Members) -> Option<Self> {
        let x = base64url::decode(&members.x)?;
        let key = ParsedPublicKey::new(&ED25519, x.as_slice()).ok()?;
        #[derive(Serialize)]
        struct Canonical {
            crv: &'static str,
            kty: &'static str,
            x: String,
        }
        let canonical = Canonical { crv: "Ed25519", kty: "OKP", x: base64url::encode(x) };
        Some(Self { key: Key::Ed25519(key), canonical: serde_json::to_string(&canonical).ok()? })
    }

    /// Reads a key from the text of its JSON.
    fn parse(json: &[u8]) -> Option<Self> {
        Self::of(&serde_json::from_slice(json).ok()?)
    }

    /// Reads a key as the table of accounts keeps it.
    pub fn from_pem(text: &str) -> Option<Self> {
        Self::parse(&pem::decode(PEM_LABEL, text)?)
    }

    /// Returns the key as the table of accounts keeps it.
    pub fn to_pem(&self) -> String {
        pem::encode(PEM_LABEL, &self.canonical)
    }

    /// Returns the thumbprint: the SHA-256 of the canonical key, in base64url.
    pub fn thumbprint(&self) -> String {
        base64url::encode(Sha256::digest(&self.canonical))
    }

    /// Returns true if a certificate has this key.
    pub fn is_that_of(&self, certified: &SubjectPublicKeyInfoOwned) -> bool {
        let Some(bits) = certified.subject_public_key.as_bytes() else { return false };
        match &self.key {
            Key::P256(key) | Key::Ed25519(key) => key.as_ref() == bits,
            Key::Rsa { modulus, exponent } => {
                rsa_numbers(bits).is_ok_and(|[n, e]| n.as_bytes() == modulus && e.as_bytes() == exponent)
            }
        }
    }

    /// Returns true if this key signed the message.
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let outcome = match (&self.key, algorithm) {
            (Key::Rsa { modulus, exponent }, Algorithm::Rs256) => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            (Key::P256(key), Algorithm::Es256) | (Key::Ed25519(key), Algorithm::EdDsa) => {
                key.verify_sig(message, signature)
            }
            _ => return false,
        };
        outcome.is_ok()
    }
}

/// Returns the modulus and the exponent of an RSA key (RFC 8017, A.1.1).
fn rsa_numbers(key: &[u8]) -> x509_cert::der::Result<[UintRef<'_>; 2]> {
    let mut content = SliceReader::new(AnyRef::from_der(key)?.value())?;
    Ok([UintRef::decode(&mut content)?, UintRef::decode(&mut content)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        // RFC 7638, section 3.1, with members that do not count.
        let key = concat!(
            r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6t"#,
            r#"Soc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY3"#,
            r#"68QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr"#,
            r#"3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#
        );
        let key = Jwk::parse(key.as_bytes()).expect("a key");
        assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let kept = Jwk::from_pem(&key.to_pem()).expect("the key");
        assert_eq!(kept.thumbprint(), key.thumbprint());
    }

    #[test]
    fn the_signature_of_rfc_8037_is_right() {
        // RFC 8037, appendices A.2 to A.5.
        let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = Jwk::parse(key.as_bytes()).expect("a key");
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let signature = base64url::decode(signature).expect("bytes");
        assert!(key.verify(Algorithm::EdDsa, signed, &signature));
        assert!(!key.verify(Algorithm::Es256, signed, &signature));
        assert!(!key.verify(Algorithm::EdDsa, &signed[1..], &signature));
    }

    #[test]
    fn keys_that_no_account_has_are_refused() {
        let (zeros, half) = (base64url::encode([0; 32]), base64url::encode([7; 16]));
        for refused in [
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"kty":"oct","k":"AAAA"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#.to_owned(),
            // Not on the curve.
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{zeros}","y":"{zeros}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-384","x":"{zeros}","y":"{zeros}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{half}"}}"#),
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"AA"}"#.to_owned(),
        ] {
            assert!(Jwk::parse(refused.as_bytes()).is_none(), "{refused}");
        }
    }
}
