//! Signed requests: JSON Web Signatures (RFC 7515), in JSON or compact, of exactly one signature.

use serde::Deserialize;
use serde_json::Value;

use super::jwk::{Algorithm, Jwk};
use crate::base64url;

/// A signed message, not yet checked.
pub struct Jws {
    pub header: Header,
    pub payload: Vec<u8>,
    /// The text that the signature covers.
    signed: Vec<u8>,
    signature: Vec<u8>,
}

/// The protected header, as far as ACME has a use for it (RFC 8555, section 6.2).
pub struct Header {
    algorithm: Algorithm,
    /// Extensions that a reader must understand, of which this one understands none.
    critical: bool,
    pub typ: Option<Value>,
    /// Empty if it is missing or no string.
    pub url: String,
    pub nonce: String,
    pub kid: String,
    pub jwk: Option<Jwk>,
}

/// The JSON form: flattened, or general.
#[derive(Deserialize)]
struct Json {
    payload: Option<String>,
    protected: Option<String>,
    signature: Option<String>,
    #[serde(default)]
    signatures: Vec<JsonSignature>,
}

#[derive(Deserialize)]
struct JsonSignature {
    protected: String,
    signature: String,
}

impl Jws {
    /// Reads a message; `None` when it is none, has another number of signatures, or names an algorithm or a key that
    /// is not taken: certctl's library refuses all of these alike.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?.trim_ascii();
        if !text.starts_with('{') {
            let [protected, payload, signature] = *text.split('.').collect::<Vec<_>>() else { return None };
            return Self::of(protected, payload, signature);
        }
        let json: Json = serde_json::from_str(text).ok()?;
        let payload = json.payload?;
        match json.signatures.as_slice() {
            [] => Self::of(&json.protected?, &payload, &json.signature?),
            [JsonSignature { protected, signature }] => Self::of(protected, &payload, signature),
            _ => None,
        }
    }

    fn of(protected: &str, payload: &str, signature: &str) -> Option<Self> {
        Some(Self {
            header: Header::parse(&base64url::decode(protected)?)?,
            payload: base64url::decode(payload)?,
            signed: format!("{protected}.{payload}").into_bytes(),
            signature: base64url::decode(signature)?,
        })
    }

    /// Returns true if this key signed the message.
    pub fn is_signed_by(&self, key: &Jwk) -> bool {
        !self.header.critical && key.verify(self.header.algorithm, &self.signed, &self.signature)
    }
}

impl Header {
    fn parse(json: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Members {
            alg: Algorithm,
            crit: Option<Value>,
            typ: Option<Value>,
            url: Option<Value>,
            #[serde(default)]
            nonce: String,
            #[serde(default)]
            kid: String,
            jwk: Option<Value>,
        }
        let members: Members = serde_json::from_slice(json).ok()?;
        let jwk = match members.jwk {
            Some(key) => Some(Jwk::of(&key)?),
            None => None,
        };
        Some(Self {
            algorithm: members.alg,
            critical: members.crit.is_some(),
            typ: members.typ,
            url: members.url.and_then(|url| url.as_str().map(str::to_owned)).unwrap_or_default(),
            nonce: members.nonce,
            kid: members.kid,
            jwk,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515, appendix A.3, with a nonce in place of its lack of one.
    const PROTECTED: &str = "eyJhbGciOiJFUzI1NiJ9";
    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    #[test]
    fn each_form_of_the_example_of_rfc_7515_is_verified() {
        let key = Jwk::of(&serde_json::from_str(KEY).expect("JSON")).expect("a key");
        let flattened =
            format!(r#"{{"protected":"{PROTECTED}","payload":"{PAYLOAD}","signature":"{SIGNATURE}","header":{{}}}}"#);
        let general = format!(
            r#"{{"payload":"{PAYLOAD}","signatures":[{{"protected":"{PROTECTED}","signature":"{SIGNATURE}"}}]}}"#
        );
        for form in [flattened, general, format!(" {PROTECTED}.{PAYLOAD}.{SIGNATURE}\n")] {
            let jws = Jws::parse(form.as_bytes()).expect("a message");
            assert!(jws.payload.starts_with(br#"{"iss":"joe","#), "{form}");
            assert!(jws.is_signed_by(&key), "{form}");
        }
        let other = format!("{PROTECTED}.{PAYLOAD}x.{SIGNATURE}");
        assert!(!Jws::parse(other.as_bytes()).is_some_and(|jws| jws.is_signed_by(&key)));
    }

    #[test]
    fn messages_of_another_form_are_refused() {
        let with = |header: &str| format!("{}.{PAYLOAD}.{SIGNATURE}", base64url::encode(header));
        let one = format!(r#"{{"protected":"{PROTECTED}","signature":"{SIGNATURE}"}}"#);
        for refused in [
            String::new(),
            "{}".to_owned(),
            "null".to_owned(),
            one.clone(),
            format!(r#"{{"payload":"{PAYLOAD}","signatures":[{one},{one}]}}"#),
            format!("{PROTECTED}.{PAYLOAD}"),
            format!("{PROTECTED}.{PAYLOAD}.{SIGNATURE}."),
            format!("{PROTECTED}.{PAYLOAD}.="),
            with("{}"),
            with(r#"{"alg":"none"}"#),
            with(r#"{"alg":"HS256"}"#),
            with(r#"{"alg":"ES256","nonce":1}"#),
            with(r#"{"alg":"ES256","jwk":{"kty":"oct","k":"AAAA"}}"#),
        ] {
            assert!(Jws::parse(refused.as_bytes()).is_none(), "{refused}");
        }
        let critical = Jws::parse(with(r#"{"alg":"ES256","crit":["b64"]}"#).as_bytes()).expect("a message");
        assert!(critical.header.critical);
    }
}
