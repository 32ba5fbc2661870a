//! The local issuer: a certificate authority that lives as long as the process, as certctl's does unless it is given
//! one. It signs with RSA-2048, and its certificates name neither a CRL nor an OCSP responder, which certctl leaves out
//! unless it is configured.

use std::time::{Duration, SystemTime};

use certctl_bench::servers::hex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevocationReason, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::clock::since_epoch;
use crate::signing_request::SigningRequest;
use crate::store::publication_rows::{Publication, ResponderRow};

/// The id of the only issuer that can sign here.
pub const LOCAL_ISSUER: &str = "iss-local";
/// certctl's name for it.
const COMMON_NAME: &str = "CertCtl Local CA";
const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_VALIDITY: Duration = DAY.saturating_mul(3_652);
/// The validity of a certificate whose profile sets no shorter one.
const VALIDITY: Duration = DAY.saturating_mul(90);
/// The validity of the OCSP responder's certificate, which begins a little before now for clocks that are behind.
const RESPONDER_VALIDITY: Duration = DAY.saturating_mul(30);
const RESPONDER_HEAD_START: Duration = Duration::from_secs(5 * 60);
/// The time for which a CRL holds.
const CRL_VALIDITY: Duration = DAY;
/// id-pkix-ocsp-nocheck (RFC 6960, section 4.2.2.2.1), and its value, NULL.
const NO_CHECK: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
const NULL: [u8; 2] = [5, 0];
/// The length of a serial number: 159 random bits.
const SERIAL_BYTES: usize = 20;

/// An authority and its key.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    random: &'static dyn SecureRandom,
}

/// The terms that a certificate's own record and its profile add to a signing request.
#[derive(Debug, Default)]
pub struct Terms {
    /// Names beside those of the request: hosts, IP addresses, mailboxes.
    pub names: Vec<String>,
    /// The profile's purposes, such as `serverAuth`; server and client authentication if none is known.
    pub purposes: Vec<String>,
    /// The profile's longest validity.
    pub max_validity: Option<Duration>,
}

/// A revoked serial number.
#[derive(Debug)]
pub struct RevokedSerial {
    pub serial: Vec<u8>,
    pub at: SystemTime,
    /// The reason's number in RFC 5280, section 5.3.1.
    pub reason: u8,
}

/// A certificate just signed.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// The certificate alone, PEM.
    pub certificate_pem: String,
    /// The authority's certificate, PEM.
    pub chain_pem: String,
    /// The serial number in 40 hexadecimal digits.
    pub serial: String,
    /// The SHA-256 of the certificate's DER, in hexadecimal digits.
    pub fingerprint: String,
    /// To the second, as in the certificate.
    pub not_before: SystemTime,
    /// To the second, as in the certificate.
    pub not_after: SystemTime,
}

impl Authority {
    /// Makes an authority with a fresh key.
    ///
    /// # Errors
    /// If the key or the certificate cannot be made.
    pub fn generate() -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("cannot make the local issuer: {error}");
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(COMMON_NAME);
        params.serial_number = Some(SerialNumber::from(1));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = whole_seconds(SystemTime::now());
        (params.not_before, params.not_after) = (now.into(), (now + AUTHORITY_VALIDITY).into());
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        Ok(Self { issuer, random: aws_lc_rs::default_provider().secure_random })
    }

    /// Returns the authority's certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the authority's certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        self.issuer.der()
    }

    fn serial(&self) -> Result<[u8; SERIAL_BYTES], String> {
        let mut serial = [0; SERIAL_BYTES];
        self.random.fill(&mut serial).map_err(|_| "failed to generate serial number".to_owned())?;
        serial[0] &= 0x7f;
        Ok(serial)
    }

    /// Signs a certificate over the key, the subject and the names of the request.
    ///
    /// # Errors
    /// If a name cannot be in a certificate, or there are no random numbers.
    pub fn sign(&self, request: &SigningRequest, terms: &Terms) -> Result<IssuedCertificate, String> {
        let serial = self.serial()?;
        let not_before = whole_seconds(SystemTime::now());
        let not_after = not_before + terms.max_validity.map_or(VALIDITY, |longest| longest.min(VALIDITY));
        let mut params = CertificateParams::default();
        params.distinguished_name = request.subject.clone();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = alternatives(request.names.iter().chain(&terms.names))?;
        (params.extended_key_usages, params.key_usages) = usages(&terms.purposes);
        // The form of rcgen that has a subject key identifier.
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (not_before.into(), not_after.into());
        let certificate = params
            .signed_by(&request.key, &self.issuer)
            .map_err(|error| format!("failed to sign certificate: {error}"))?;
        Ok(IssuedCertificate {
            certificate_pem: certificate.pem(),
            chain_pem: self.certificate_pem(),
            serial: hex(&serial),
            fingerprint: hex(&Sha256::digest(certificate.der())),
            not_before,
            not_after,
        })
    }

    /// Signs the certificate of a key that is to sign OCSP responses; returns its DER too.
    ///
    /// # Errors
    /// If that fails, or there are no random numbers.
    pub fn sign_responder(&self, key: &KeyPair) -> Result<(Vec<u8>, ResponderRow), String> {
        let (serial, now) = (self.serial()?, whole_seconds(SystemTime::now()));
        let (not_before, not_after) = (now - RESPONDER_HEAD_START, now + RESPONDER_VALIDITY);
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("OCSP Responder for {COMMON_NAME}"));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        params.custom_extensions = vec![CustomExtension::from_oid_content(NO_CHECK, NULL.to_vec())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (not_before.into(), not_after.into());
        let certificate = params.signed_by(key, &self.issuer).map_err(|error| error.to_string())?;
        let row = ResponderRow { certificate_pem: certificate.pem(), serial: hex(&serial), not_before, not_after };
        Ok((certificate.der().to_vec(), row))
    }

    /// Signs a CRL, whose number is the time in seconds since 1970; returns the number too.
    ///
    /// # Errors
    /// If the signature fails.
    pub fn sign_crl(&self, revoked: &[RevokedSerial]) -> Result<(Publication, i64), String> {
        let now = whole_seconds(SystemTime::now());
        let (next_update, seconds) = (now + CRL_VALIDITY, since_epoch(now).as_secs());
        let entry = |one: &RevokedSerial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&one.serial),
            revocation_time: one.at.into(),
            reason_code: reason_of(one.reason),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(seconds),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).map_err(|error| format!("failed to create CRL: {error}"))?;
        let publication = Publication { der: crl.der().to_vec(), this_update: now, next_update };
        // Lossless for some hundred thousand million years.
        Ok((publication, i64::try_from(seconds).unwrap_or(i64::MAX)))
    }
}

/// Returns the reason of this number; an unspecified one is left out, as RFC 5280 demands.
fn reason_of(code: u8) -> Option<RevocationReason> {
    match code {
        1 => Some(RevocationReason::KeyCompromise),
        2 => Some(RevocationReason::CaCompromise),
        3 => Some(RevocationReason::AffiliationChanged),
        4 => Some(RevocationReason::Superseded),
        5 => Some(RevocationReason::CessationOfOperation),
        6 => Some(RevocationReason::CertificateHold),
        9 => Some(RevocationReason::PrivilegeWithdrawn),
        _ => None,
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Cuts off the fraction, which a certificate cannot hold.
fn whole_seconds(time: SystemTime) -> SystemTime {
    OffsetDateTime::from(time).replace_nanosecond(0).map_or(time, SystemTime::from)
}

/// Returns each name once, by its kind; certctl takes `localhost` for 127.0.0.1.
pub fn alternatives<'n>(names: impl Iterator<Item = &'n String>) -> Result<Vec<SanType>, String> {
    let mut found = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        let host = if name == "localhost" { "127.0.0.1" } else { name.as_str() };
        let invalid = |error| format!("failed to sign certificate: {name:?} cannot be a name: {error}");
        let one = match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if host.contains('@') => SanType::Rfc822Name(host.try_into().map_err(invalid)?),
            Err(_) => SanType::DnsName(host.try_into().map_err(invalid)?),
        };
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(found)
}

/// Returns the purposes known by these names, and the uses of the key that go with them.
fn usages(purposes: &[String]) -> (Vec<ExtendedKeyUsagePurpose>, Vec<KeyUsagePurpose>) {
    let known = |name: &String| match name.as_str() {
        "serverAuth" => Some(ExtendedKeyUsagePurpose::ServerAuth),
        "clientAuth" => Some(ExtendedKeyUsagePurpose::ClientAuth),
        "codeSigning" => Some(ExtendedKeyUsagePurpose::CodeSigning),
        "emailProtection" => Some(ExtendedKeyUsagePurpose::EmailProtection),
        "timeStamping" => Some(ExtendedKeyUsagePurpose::TimeStamping),
        _ => None,
    };
    let mut extended: Vec<ExtendedKeyUsagePurpose> = purposes.iter().filter_map(known).collect();
    if extended.is_empty() {
        extended = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    }
    let mut usages = vec![KeyUsagePurpose::DigitalSignature];
    let tls = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if tls.iter().any(|purpose| extended.contains(purpose)) {
        usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    if extended.contains(&ExtendedKeyUsagePurpose::EmailProtection) {
        usages.push(KeyUsagePurpose::ContentCommitment);
    }
    (extended, usages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

    fn request(key: &KeyPair) -> SigningRequest {
        let mut params = CertificateParams::new(vec!["a.example.test".to_owned()]).expect("a name");
        params.distinguished_name = named("a.example.test");
        let pem = params.serialize_request(key).and_then(|request| request.pem()).expect("a request");
        SigningRequest::from_pem(&pem).expect("parses")
    }

    #[test]
    fn certificates_of_every_key_verify_to_the_authority() {
        let authority = Authority::generate().expect("generates");
        let anchor_der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).expect("PEM");
        let anchor = anchor_from_trusted_cert(&anchor_der).expect("an anchor");
        let keys = [
            (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256), "ECDSA", 256),
            (KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384), "ECDSA", 384),
            (KeyPair::generate_for(&rcgen::PKCS_ED25519), "Ed25519", 256),
            (KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048), "RSA", 2_048),
        ];
        for (key, family, bits) in keys {
            let request = request(&key.expect("a key"));
            assert_eq!((request.key.family, request.key.bits), (family, bits));
            assert_eq!((request.common_name.as_str(), request.names.len()), ("a.example.test", 1));
            let names = ["b.example.test", "a.example.test", "::1"].map(str::to_owned).to_vec();
            let issued = authority.sign(&request, &Terms { names, ..Terms::default() }).expect("signs");
            assert_eq!(issued.not_after.duration_since(issued.not_before).ok(), Some(VALIDITY));
            let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).expect("PEM");
            let leaf = EndEntityCert::try_from(&der).expect("parses");
            leaf.verify_for_usage(
                aws_lc_rs::default_provider().signature_verification_algorithms.all,
                std::slice::from_ref(&anchor),
                &[],
                UnixTime::now(),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .expect("verifies");
            for name in ["a.example.test", "b.example.test", "::1"] {
                leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).expect("a name")).expect(name);
            }
            assert_eq!(issued.fingerprint, hex(&Sha256::digest(&der)));
            let digits = hex(leaf.serial());
            assert_eq!((format!("{digits:0>40}"), issued.serial.len()), (issued.serial.clone(), 40));
        }
    }

    #[test]
    fn a_profile_shortens_the_validity_and_never_extends_it() {
        let authority = Authority::generate().expect("generates");
        let request = request(&KeyPair::generate().expect("a key"));
        for (longest, days) in [(30, 30), (365, 90)] {
            let terms = Terms { max_validity: Some(DAY * longest), ..Terms::default() };
            let issued = authority.sign(&request, &terms).expect("signs");
            assert_eq!(issued.not_after.duration_since(issued.not_before).ok(), Some(DAY * days));
        }
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let params = CertificateParams::new(vec!["a.example.test".to_owned()]).expect("a name");
        let request = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a request");
        let mut der = request.der().to_vec();
        let at = der.windows(9).position(|part| part == b"a.example").expect("the name");
        der[at] = b'b';
        let error = SigningRequest::from_der(&der).expect_err("refused");
        assert_eq!(error, "CSR signature verification failed");
        assert!(SigningRequest::from_der(&der[1..]).is_err() && SigningRequest::from_pem("no PEM").is_err());
    }
}
