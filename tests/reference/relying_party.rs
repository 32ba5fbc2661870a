//! A relying party: OCSP requests and CRLs, read with another library than the server writes keys with.

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use serde_json::Value;
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{Null, ObjectIdentifier, OctetString};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspRequest, OcspResponse, OcspResponseStatus, Request, TbsRequest,
};

use crate::client::Answer;
use crate::issuing::verified_chain;
use crate::server::Server;

pub const OCSP: &str = "/.well-known/pki/ocsp/iss-local";
pub const CRL: &str = "/.well-known/pki/crl/iss-local";
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];

/// Requests a status by GET.
pub fn get(server: &Server, serial: &str) -> Answer {
    server.exchange("GET", &format!("{OCSP}/{serial}"), None, "")
}

/// Requests the status of the certificate in a version by POST.
pub fn post(server: &Server, version: &Value, nonce: Option<&[u8]>) -> Answer {
    let headers = [("Content-Type", "application/ocsp-request")];
    server.connect().send("POST", OCSP, &headers, &request(version, nonce))
}

/// Returns a request for the status of the certificate in a version.
pub fn request(version: &Value, nonce: Option<&[u8]>) -> Vec<u8> {
    let [leaf, _] = verified_chain(version["pem_chain"].as_str().expect("PEM"));
    let serial_number = Certificate::from_der(&leaf).expect("parses").tbs_certificate.serial_number;
    // certctl compares neither of the hashes.
    let hash = OctetString::new([0; 20]).expect("short");
    let req_cert = CertId {
        hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
        issuer_name_hash: hash.clone(),
        issuer_key_hash: hash,
        serial_number,
    };
    let extension = |nonce: &[u8]| {
        let value = OctetString::new(nonce).and_then(|nonce| nonce.to_der()).expect("short");
        Extension { extn_id: NONCE, critical: false, extn_value: OctetString::new(value).expect("short") }
    };
    let tbs_request = TbsRequest {
        request_list: vec![Request { req_cert, single_request_extensions: None }],
        request_extensions: nonce.map(|nonce| vec![extension(nonce)]),
        ..TbsRequest::default()
    };
    OcspRequest { tbs_request, optional_signature: None }.to_der().expect("encodes")
}

/// Returns the response's data, after checking that the authority's responder has signed them.
pub fn verified(answer: &Answer, authority: &CertificateDer<'_>) -> BasicOcspResponse {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/ocsp-response")));
    let response = OcspResponse::from_der(&answer.bytes).expect("a response");
    assert_eq!(response.response_status, OcspResponseStatus::Successful);
    let bytes = response.response_bytes.expect("bytes");
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).expect("a basic response");
    let responder = basic.certs.as_ref().expect("certificates")[0].to_der().expect("encodes");
    let responder = CertificateDer::from(responder);
    let responder = EndEntityCert::try_from(&responder).expect("parses");
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let anchor = anchor_from_trusted_cert(authority).expect("an anchor");
    let usage = KeyUsage::required(OCSP_SIGNING);
    responder.verify_for_usage(algorithms, &[anchor], &[], UnixTime::now(), usage, None, None).expect("delegated");
    let signed = basic.tbs_response_data.to_der().expect("encodes");
    let good = |one: &&dyn SignatureVerificationAlgorithm| {
        responder.verify_signature(*one, &signed, basic.signature.raw_bytes()).is_ok()
    };
    assert!(algorithms.iter().any(good), "the signature is wrong");
    basic
}

/// Returns the status in a verified response.
pub fn status(answer: &Answer, authority: &CertificateDer<'_>) -> CertStatus {
    verified(answer, authority).tbs_response_data.responses[0].cert_status
}

/// Returns the response's own status.
pub fn response_status(answer: &Answer) -> OcspResponseStatus {
    OcspResponse::from_der(&answer.bytes).expect("a response").response_status
}

/// Returns the nonces beside the certificate's status and in the response's extensions.
pub fn nonces(basic: &BasicOcspResponse) -> [Option<Vec<u8>>; 2] {
    let data = &basic.tbs_response_data;
    [&data.responses[0].single_extensions, &data.response_extensions].map(|extensions| {
        let nonce = extensions.iter().flatten().find(|extension| extension.extn_id == NONCE)?;
        Some(OctetString::from_der(nonce.extn_value.as_bytes()).expect("a nonce").into_bytes())
    })
}

/// Returns the serial numbers of a CRL in 40 digits, after checking that the authority has signed it.
pub fn revoked_serials(answer: &Answer, authority: &CertificateDer<'_>) -> Vec<String> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/pkix-crl")));
    let list = CertificateList::from_der(&answer.bytes).expect("a CRL");
    let key = Certificate::from_der(authority).expect("parses").tbs_certificate.subject_public_key_info;
    let key = SubjectPublicKeyInfoDer::from(key.to_der().expect("encodes"));
    let key = RawPublicKeyEntity::try_from(&key).expect("a key");
    let signed = list.tbs_cert_list.to_der().expect("encodes");
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let good = |one: &&dyn SignatureVerificationAlgorithm| {
        key.verify_signature(*one, &signed, list.signature.raw_bytes()).is_ok()
    };
    assert!(algorithms.iter().any(good), "the signature is wrong");
    let list = list.tbs_cert_list;
    let digits = |serial: &[u8]| format!("{:0>40}", certctl_bench::servers::hex(serial));
    list.revoked_certificates.iter().flatten().map(|one| digits(one.serial_number.as_bytes())).collect()
}
