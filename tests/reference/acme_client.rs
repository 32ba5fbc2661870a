//! An ACME client that shares no code with the server.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{AnyRef, Decode as _, SliceReader};

use crate::client::{Answer, Client};
use crate::server::{ADMIN, Server};

pub const PROFILE: &str = "/acme/profile/prof-standard-tls";

/// An account's key.
pub enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

impl Key {
    pub fn es256() -> Self {
        Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    pub fn ed_dsa() -> Self {
        Self::EdDsa(Ed25519KeyPair::generate().expect("a key"))
    }

    pub fn rs256() -> Self {
        Self::Rs256(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
            Self::Rs256(_) => "RS256",
        }
    }

    pub fn jwk(&self) -> Value {
        match self {
            Self::Es256(key) => {
                let point = &key.public_key().as_ref()[1..];
                json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(&point[..32]), "y": BASE64.encode(&point[32..])})
            }
            Self::EdDsa(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key())}),
            Self::Rs256(key) => {
                let public = AnyRef::from_der(key.public_key().as_ref()).expect("a sequence");
                let mut numbers = SliceReader::new(public.value()).expect("numbers");
                let [n, e] = [(); 2].map(|()| UintRef::decode(&mut numbers).expect("a number").as_bytes());
                json!({"kty": "RSA", "n": BASE64.encode(n), "e": BASE64.encode(e)})
            }
        }
    }

    /// Returns the thumbprint of RFC 7638: `serde_json` orders members by their names.
    pub fn thumbprint(&self) -> String {
        BASE64.encode(Sha256::digest(self.jwk().to_string()))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(key) => key.sign(&random, message).expect("signs").as_ref().to_vec(),
            Self::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signs");
                signature
            }
        }
    }

    /// Returns a flattened JWS.
    pub fn jws(&self, header: &Value, payload: &str) -> Value {
        let (protected, payload) = (BASE64.encode(header.to_string()), BASE64.encode(payload));
        let signature = BASE64.encode(self.sign(format!("{protected}.{payload}").as_bytes()));
        json!({"protected": protected, "payload": payload, "signature": signature})
    }
}

/// A client with a key, and an account once it has registered.
pub struct Acme {
    client: Client,
    /// The bearer token, which ACME as documented does without.
    token: Option<&'static str>,
    pub base: String,
    pub key: Key,
    pub account: String,
    /// The last answer's nonce.
    pub nonce: Option<String>,
}

impl Acme {
    /// Returns a client without an account, at a profile.
    pub fn at(server: &Server, profile: &str) -> Self {
        let as_built = server.announced["behaviour"] == "as-built";
        let token = as_built.then_some(ADMIN);
        let base = format!("https://localhost{profile}");
        Self { client: server.connect(), token, base, key: Key::es256(), account: String::new(), nonce: None }
    }

    /// Returns a client with a new account.
    pub fn registered(server: &Server) -> Self {
        Self::registered_at(server, PROFILE)
    }

    pub fn registered_at(server: &Server, profile: &str) -> Self {
        let mut client = Self::at(server, profile);
        let answer = client.register(&json!({"termsOfServiceAgreed": true}));
        assert_eq!(answer.status, 201, "{}", answer.body);
        client
    }

    pub fn url(&self, resource: &str) -> String {
        format!("{}/{resource}", self.base)
    }

    /// Returns an unused nonce.
    pub fn nonce(&mut self) -> String {
        if let Some(nonce) = self.nonce.take() {
            return nonce;
        }
        // Nonces are everyone's, whatever the profile.
        let answer = self.client.exchange("HEAD", &format!("{PROFILE}/new-nonce"), self.token, "");
        answer.header("replay-nonce").expect("a nonce").to_owned()
    }

    /// Sends a body as it is.
    pub fn send(&mut self, url: &str, body: &str) -> Answer {
        let path = url.strip_prefix("https://localhost").expect("a path");
        let answer = self.client.exchange("POST", path, self.token, body);
        self.nonce = answer.header("replay-nonce").map(str::to_owned);
        answer
    }

    /// Returns the header of a request by the account, or by the key alone while there is none.
    pub fn header(&mut self, url: &str) -> Value {
        let nonce = self.nonce();
        let mut header = json!({"alg": self.key.algorithm(), "nonce": nonce, "url": url});
        match self.account.as_str() {
            "" => header["jwk"] = self.key.jwk(),
            account => header["kid"] = account.into(),
        }
        header
    }

    /// Sends a signed request.
    pub fn post(&mut self, url: &str, payload: &str) -> Answer {
        let header = self.header(url);
        let body = self.key.jws(&header, payload).to_string();
        self.send(url, &body)
    }

    /// Sends a signed request with a JSON payload to a resource of the profile.
    pub fn call(&mut self, resource: &str, payload: &Value) -> Answer {
        self.post(&self.url(resource), &payload.to_string())
    }

    /// Sends a POST-as-GET.
    pub fn get(&mut self, url: &str) -> Answer {
        self.post(url, "")
    }

    /// Registers the key, and takes the account from the answer.
    pub fn register(&mut self, payload: &Value) -> Answer {
        self.account.clear();
        let answer = self.call("new-account", payload);
        self.account = answer.header("location").unwrap_or_default().to_owned();
        answer
    }

    /// Places an order for these names, and returns its URL and the order.
    pub fn order(&mut self, names: &[&str]) -> (String, Value) {
        let answer = self.call("new-order", &json!({"identifiers": identifiers(names)}));
        assert_eq!(answer.status, 201, "{}", answer.body);
        (answer.header("location").expect("a location").to_owned(), answer.json())
    }

    /// Finalizes an order with a request for these names.
    pub fn finalize(&mut self, order: &Value, names: &[&str]) -> Answer {
        self.post(order["finalize"].as_str().expect("a URL"), &csr_payload(names).to_string())
    }
}

pub fn identifiers(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"type": "dns", "value": name})).collect()
}

/// Returns the payload of a finalization with a request for these names, the first of which is the common name too.
pub fn csr_payload(names: &[&str]) -> Value {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names.clone()).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, &names[0]);
    let request = params.serialize_request(&rcgen::KeyPair::generate().expect("a key")).expect("a request");
    json!({"csr": BASE64.encode(request.der())})
}
