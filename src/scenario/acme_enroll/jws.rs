//! Account keys, and the requests that they sign: JWS in flattened JSON, with ES256 (RFC 8555, section 6.2; RFC 7515,
//! section 7.2.2; RFC 7518, section 3.4).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::error::{Error, Result};

/// The media type of signed requests.
pub const CONTENT_TYPE: &str = "application/jose+json";

/// Returns bytes as base64url without padding (RFC 7515, section 2).
pub fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The key of an account: P-256.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    /// The public key as a JWK (RFC 7518, section 6.2.1).
    jwk: String,
}

impl AccountKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| Error::new("making an account's key: the TLS library refuses"))?;
        // 4, then the two coordinates (SEC 1, section 2.3.3).
        let point = pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(base64url);
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self { pair, jwk })
    }

    /// Returns the body of a request to `url` with this payload, which is JSON or empty. It names the account by its
    /// URL, `account`, and without one carries the public key.
    pub fn sign(&self, account: Option<&str>, nonce: &str, url: &str, payload: &str) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let signer = match account {
            Some(account) => format!(r#""kid":{}"#, text(account)),
            None => format!(r#""jwk":{}"#, self.jwk),
        };
        let header = format!(r#"{{"alg":"ES256",{signer},"nonce":{},"url":{}}}"#, text(nonce), text(url));
        let [protected, payload] = [header.as_str(), payload].map(|text| base64url(text.as_bytes()));
        let signed = format!("{protected}.{payload}");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a P-256 key of this process signs any message");
        let signature = base64url(signature.as_ref());
        format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn decoded(text: &Value) -> Vec<u8> {
        BASE64_URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_signed_with_the_key_that_it_carries() {
        let key = AccountKey::generate().unwrap();
        let body: Value = serde_json::from_str(&key.sign(None, "n_-1", "https://h/a?\"", r#"{"a":1}"#)).unwrap();
        let header: Value = serde_json::from_slice(&decoded(&body["protected"])).unwrap();
        assert_eq!((&header["alg"], &header["nonce"]), (&"ES256".into(), &"n_-1".into()));
        assert_eq!((&header["url"], &header["kid"]), (&"https://h/a?\"".into(), &Value::Null));
        assert_eq!(decoded(&body["payload"]), br#"{"a":1}"#);
        let jwk = &header["jwk"];
        assert_eq!((&jwk["kty"], &jwk["crv"]), (&"EC".into(), &"P-256".into()));
        let point = [&[4][..], &decoded(&jwk["x"]), &decoded(&jwk["y"])].concat();
        let signed = format!("{}.{}", body["protected"].as_str().unwrap(), body["payload"].as_str().unwrap());
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        public.verify(signed.as_bytes(), &decoded(&body["signature"])).unwrap();
    }

    #[test]
    fn the_requests_of_an_account_name_it_instead_of_its_key() {
        let key = AccountKey::generate().unwrap();
        let body: Value = serde_json::from_str(&key.sign(Some("https://h/1"), "n", "https://h/o", "")).unwrap();
        let header: Value = serde_json::from_slice(&decoded(&body["protected"])).unwrap();
        assert_eq!((&header["kid"], &header["jwk"]), (&"https://h/1".into(), &Value::Null));
        assert_eq!(body["payload"], "");
    }
}
