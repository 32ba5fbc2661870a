//! A scripted certctl that signs certificates, revokes them and gives their status, right or wrong in one way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use certctl_bench::status::{Serial, serial_of};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _, RevokedCertParams,
    SerialNumber, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::asn1::{BitString, GeneralizedTime, Null, ObjectIdentifier, OctetString};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::serial_number::SerialNumber as SerialInDer;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, ResponderId, ResponseData,
    RevokedInfo, SingleResponse, Version,
};

use super::peer::{self, Reply, Request, Step};

const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const HOUR: Duration = Duration::from_secs(3_600);

/// The one thing that is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misconduct {
    #[default]
    Nothing,
    /// Signatures of another key.
    Signature,
    /// OCSP answers by a responder of its, whose certificate has expired.
    ResponderExpired,
    /// OCSP answers about the next serial number.
    OtherSerial,
    /// Answers whose time has passed.
    Stale,
    /// Answers that say revoked from the beginning.
    RevokedBefore,
    /// Nonces that are not repeated.
    NoNonce,
    /// OCSP answers by GET from a cache that no revocation clears.
    GoodForever,
    /// Revocation lists from such a cache: that of certctl as built.
    OldList,
    /// OCSP requests are refused as by a limiter.
    Limited,
    /// Every list is a 304.
    Unchanged,
    /// Bulk revocations that leave the last certificate out.
    LeftOut,
}

/// A scripted certctl.
pub struct ScriptedAuthority {
    misconduct: Misconduct,
    issuer: CertifiedIssuer<'static, KeyPair>,
    other_key: KeyPair,
    /// A responder that the issuer authorised for the year 2024.
    responder: CertifiedIssuer<'static, KeyPair>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    /// The certificates by id, DER and PEM.
    certificates: BTreeMap<String, (Serial, String)>,
    revoked: BTreeSet<Serial>,
}

impl ScriptedAuthority {
    pub fn new(misconduct: Misconduct) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "responder");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2024, 12, 31));
        let responder = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &issuer).unwrap();
        Self { misconduct, issuer, other_key: KeyPair::generate().unwrap(), responder, rows: Mutex::default() }
    }

    pub fn answer(&self, request: &Request) -> Reply {
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let body = || serde_json::from_slice::<Value>(&request.bytes).unwrap();
        match (request.method.as_str(), &path[..]) {
            ("GET", ["api", "v1", "auth", "check"]) => {
                let granted = ["agent.heartbeat", "agent.job.poll", "cert.issue", "cert.read", "cert.bulk_revoke"];
                let granted = granted.map(|permission| json!({"permission": permission}));
                peer::json(200, &json!({"user": "u", "effective_permissions": granted}).to_string())
            }
            ("POST", ["api", "v1", "certificates"]) => peer::json(201, &request.body),
            ("POST", ["api", "v1", "agents", _, "csr"]) => {
                self.sign(body()["certificate_id"].as_str().unwrap());
                peer::json(202, r#"{"status":"csr_signed"}"#)
            }
            ("GET", ["api", "v1", "certificates", id, "versions"]) => {
                let rows = self.rows.lock().unwrap();
                let (serial, pem) = &rows.certificates[*id];
                let version = json!({"serial_number": serial.padded_hex(), "pem_chain": pem});
                peer::json(200, &json!({"data": [version], "total": 1}).to_string())
            }
            ("POST", ["api", "v1", "certificates", "bulk-revoke"]) => self.revoke(&body()),
            ("GET", [".well-known", "pki", "ocsp", "iss-local", serial]) => {
                self.ocsp(&Serial::from_hex(serial).unwrap(), None, self.misconduct == Misconduct::GoodForever)
            }
            ("POST", [".well-known", "pki", "ocsp", "iss-local"]) => {
                let request = OcspRequest::from_der(&request.bytes).unwrap().tbs_request;
                let serial = Serial::new(request.request_list[0].req_cert.serial_number.as_bytes()).unwrap();
                let nonce = request.request_extensions.and_then(|extensions| extensions.into_iter().next());
                self.ocsp(&serial, nonce, false)
            }
            ("GET", [".well-known", "pki", "crl", "iss-local"]) => self.list(request),
            _ => peer::certctl(request),
        }
    }

    /// Signs a certificate. Every third has a serial number with leading zeros.
    fn sign(&self, id: &str) {
        let mut rows = self.rows.lock().unwrap();
        let number = rows.certificates.len() as u8;
        let mut serial = vec![0x11; 20];
        serial[0] = if number % 3 == 2 { 0x07 } else { 0x70 };
        serial[19] = number;
        let mut params = CertificateParams::new(vec![format!("{id}.example.test")]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap();
        let serial = serial_of(leaf.der()).unwrap();
        rows.certificates.insert(id.to_owned(), (serial, leaf.pem() + &self.issuer.pem()));
    }

    fn revoke(&self, body: &Value) -> Reply {
        let mut rows = self.rows.lock().unwrap();
        let ids = body["certificate_ids"].as_array().unwrap();
        let left_out = usize::from(self.misconduct == Misconduct::LeftOut);
        let named: Vec<Serial> =
            ids.iter().map(|id| rows.certificates[id.as_str().unwrap()].0.clone()).take(ids.len() - left_out).collect();
        let revoked = named.len();
        rows.revoked.extend(named);
        let counts = json!({"total_matched": ids.len(), "total_revoked": revoked, "total_skipped": 0,
                            "total_failed": left_out});
        peer::json(200, &counts.to_string())
    }

    /// Returns the time of an answer.
    fn this_update(&self) -> SystemTime {
        let age = if self.misconduct == Misconduct::Stale { HOUR * 2 } else { Duration::ZERO };
        SystemTime::now() - age
    }

    /// Returns the key of OCSP answers, and the certificate to which it belongs.
    fn signer(&self) -> (&KeyPair, Certificate) {
        let (key, certificate) = match self.misconduct {
            Misconduct::Signature => (&self.other_key, self.issuer.der()),
            Misconduct::ResponderExpired => (self.responder.key(), self.responder.der()),
            _ => (self.issuer.key(), self.issuer.der()),
        };
        (key, Certificate::from_der(certificate).unwrap())
    }

    fn ocsp(&self, serial: &Serial, nonce: Option<Extension>, is_cached: bool) -> Reply {
        if self.misconduct == Misconduct::Limited {
            return ocsp_answer(&OcspResponse::unauthorized().to_der().unwrap());
        }
        let rows = self.rows.lock().unwrap();
        let at = |time: SystemTime| OcspGeneralizedTime(GeneralizedTime::from_unix_duration(unix(time)).unwrap());
        let issuer = Certificate::from_der(self.issuer.der()).unwrap().tbs_certificate;
        let sha1 = |bytes: &[u8]| {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
            OctetString::new(hash.as_ref()).unwrap()
        };
        let is_revoked = rows.revoked.contains(serial) || self.misconduct == Misconduct::RevokedBefore;
        let mut number = serial.as_bytes().to_vec();
        if let Some(last) = number.last_mut().filter(|_| self.misconduct == Misconduct::OtherSerial) {
            *last ^= 0x80;
        }
        let this_update = self.this_update();
        let single = SingleResponse {
            cert_id: CertId {
                hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: None },
                issuer_name_hash: sha1(&issuer.subject.to_der().unwrap()),
                issuer_key_hash: sha1(self.issuer.key().der_bytes()),
                serial_number: SerialInDer::new(&number).unwrap(),
            },
            cert_status: match is_revoked && !is_cached {
                true => CertStatus::Revoked(RevokedInfo { revocation_time: at(this_update), revocation_reason: None }),
                false => CertStatus::Good(Null),
            },
            this_update: at(this_update),
            next_update: Some(at(this_update + HOUR)),
            single_extensions: None,
        };
        let (key, signer) = self.signer();
        let nonce = nonce.filter(|one| one.extn_id == NONCE && self.misconduct != Misconduct::NoNonce);
        let data = ResponseData {
            version: Version::V1,
            responder_id: ResponderId::ByName(signer.tbs_certificate.subject.clone()),
            produced_at: at(SystemTime::now()),
            responses: vec![single],
            response_extensions: nonce.map(|nonce| vec![nonce]),
        };
        let signature = key.sign(&data.to_der().unwrap()).unwrap();
        let basic = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: AlgorithmIdentifierOwned { oid: ECDSA_SHA256, parameters: None },
            signature: BitString::from_bytes(&signature).unwrap(),
            certs: Some(vec![signer]),
        };
        ocsp_answer(&OcspResponse::successful(basic).unwrap().to_der().unwrap())
    }

    fn list(&self, request: &Request) -> Reply {
        let rows = self.rows.lock().unwrap();
        if self.misconduct == Misconduct::Unchanged {
            return vec![Step::Send(b"HTTP/1.1 304 x\r\n\r\n".to_vec())];
        }
        let all = rows.certificates.values().map(|(serial, _)| serial);
        let revoked: Vec<&Serial> = match self.misconduct {
            Misconduct::OldList => Vec::new(),
            Misconduct::RevokedBefore => all.collect(),
            _ => rows.revoked.iter().collect(),
        };
        let this_update = self.this_update();
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial.as_bytes()),
            revocation_time: this_update.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: (this_update + HOUR).into(),
            crl_number: SerialNumber::from(1_000 + revoked.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        // The tag stands for the content, as if each list were made once.
        let content = revoked.iter().map(|serial| serial.padded_hex()).collect::<String>();
        let tag = format!("W/\"{:x}\"", Sha256::digest(content.as_bytes())[0]);
        if request.condition.as_deref() == Some(&tag) {
            return vec![Step::Send(format!("HTTP/1.1 304 x\r\nETag: {tag}\r\n\r\n").into_bytes())];
        }
        let mut der = params.signed_by(&self.issuer).unwrap().der().to_vec();
        if self.misconduct == Misconduct::Signature {
            // Within the first number of the signature.
            let at = der.len() - 40;
            der[at] ^= 1;
        }
        binary("application/pkix-crl", &format!("ETag: {tag}\r\n"), &der)
    }
}

fn unix(time: SystemTime) -> Duration {
    Duration::from_secs(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
}

fn ocsp_answer(der: &[u8]) -> Reply {
    binary("application/ocsp-response", "", der)
}

fn binary(content_type: &str, fields: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 200 x\r\nContent-Type: {content_type}\r\n{fields}Content-Length: {length}\r\n\r\n");
    vec![Step::Send([head.as_bytes(), body].concat())]
}
