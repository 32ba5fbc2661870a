//! The delegated OCSP responder: a key of its own, and responses signed with it (RFC 6960).

use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use sha1::{Digest as _, Sha1};
use x509_cert::Certificate;
use x509_cert::der::asn1::{BitString, Null, ObjectIdentifier, OctetString, Uint};
use x509_cert::der::{self, Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::CrlReason;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, ResponderId, ResponseData, RevokedInfo,
    SingleResponse, Version,
};

use crate::authority::Authority;
use crate::cli::Behaviour;
use crate::store::publication_rows::{Publication, ResponderRow};

/// The time for which a response holds, as in certctl.
const VALIDITY: Duration = Duration::from_secs(3_600);
pub const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// The status of a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Good,
    Revoked {
        at: SystemTime,
        /// The reason's number in RFC 5280, section 5.3.1.
        reason: u8,
    },
    Unknown,
}

/// A response to make.
pub struct Question<'q> {
    pub serial: &'q [u8],
    pub status: Status,
    pub nonce: Option<&'q [u8]>,
    pub behaviour: Behaviour,
}

/// The responder's key and certificate.
pub struct Responder {
    key: KeyPair,
    certificate: Certificate,
    issuer_name_hash: OctetString,
    issuer_key_hash: OctetString,
    /// The row by which certctl would find it again.
    pub row: ResponderRow,
}

impl Responder {
    /// Makes a key, and has its certificate signed.
    ///
    /// # Errors
    /// If either fails.
    pub fn generate(authority: &Authority) -> Result<Self, String> {
        let failed = |error: String| format!("cannot make the OCSP responder: {error}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(error.to_string()))?;
        let (certificate, row) = authority.sign_responder(&key).map_err(failed)?;
        Self::of(authority.certificate(), key, &certificate, row).map_err(|error| failed(error.to_string()))
    }

    fn of(issuer: &[u8], key: KeyPair, certificate: &[u8], row: ResponderRow) -> der::Result<Self> {
        let issuer = Certificate::from_der(issuer)?.tbs_certificate;
        let public_key = issuer.subject_public_key_info.subject_public_key;
        Ok(Self {
            key,
            certificate: Certificate::from_der(certificate)?,
            issuer_name_hash: OctetString::new(Sha1::digest(issuer.subject.to_der()?).to_vec())?,
            issuer_key_hash: OctetString::new(Sha1::digest(public_key.raw_bytes()).to_vec())?,
            row,
        })
    }

    /// Signs a response that holds from now on.
    ///
    /// # Errors
    /// If the serial number is longer than 20 bytes, or the signature fails.
    pub fn sign(&self, question: &Question<'_>, now: SystemTime) -> Result<Publication, String> {
        let next_update = now + VALIDITY;
        let der = self.response(question, now, next_update).map_err(|error| format!("OCSP response: {error}"))?;
        Ok(Publication { der, this_update: now, next_update })
    }

    fn response(&self, question: &Question<'_>, now: SystemTime, next_update: SystemTime) -> der::Result<Vec<u8>> {
        let nonce = question.nonce.map(nonce_extension).transpose()?.map(|extension| vec![extension]);
        // As built, the nonce is beside the certificate's status, where clients do not look for it.
        let (single_extensions, response_extensions) = match question.behaviour {
            Behaviour::AsBuilt => (nonce, None),
            Behaviour::AsDocumented => (None, nonce),
        };
        let single = SingleResponse {
            cert_id: CertId {
                hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
                issuer_name_hash: self.issuer_name_hash.clone(),
                issuer_key_hash: self.issuer_key_hash.clone(),
                // Not `new`, which refuses numbers of 20 bytes whose first bit is set.
                serial_number: SerialNumber::from_der(&Uint::new(question.serial)?.to_der()?)?,
            },
            cert_status: certificate_status(question.status)?,
            this_update: OcspGeneralizedTime::try_from(now)?,
            next_update: Some(OcspGeneralizedTime::try_from(next_update)?),
            single_extensions,
        };
        let data = ResponseData {
            version: Version::default(),
            responder_id: ResponderId::ByName(self.certificate.tbs_certificate.subject.clone()),
            produced_at: OcspGeneralizedTime::try_from(now)?,
            responses: vec![single],
            response_extensions,
        };
        // Neither memory nor random numbers run out here; the error has no form in DER.
        let signature = self.key.sign(&data.to_der()?).map_err(|_| der::Error::from(der::ErrorKind::Failed))?;
        OcspResponse::successful(BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None },
            signature: BitString::from_bytes(&signature)?,
            certs: Some(vec![self.certificate.clone()]),
        })?
        .to_der()
    }
}

/// Returns the response to a client that gets none.
pub fn unauthorized() -> Vec<u8> {
    // Two tags and one value always encode.
    OcspResponse::unauthorized().to_der().unwrap_or_default()
}

fn nonce_extension(nonce: &[u8]) -> der::Result<Extension> {
    let value = OctetString::new(nonce)?.to_der()?;
    Ok(Extension { extn_id: NONCE, critical: false, extn_value: OctetString::new(value)? })
}

fn certificate_status(status: Status) -> der::Result<CertStatus> {
    Ok(match status {
        Status::Good => CertStatus::good(),
        Status::Unknown => CertStatus::unknown(),
        Status::Revoked { at, reason } => CertStatus::Revoked(RevokedInfo {
            revocation_time: OcspGeneralizedTime::try_from(at)?,
            // As in certctl, an unspecified reason is left out.
            revocation_reason: match reason {
                1 => Some(CrlReason::KeyCompromise),
                2 => Some(CrlReason::CaCompromise),
                3 => Some(CrlReason::AffiliationChanged),
                4 => Some(CrlReason::Superseded),
                5 => Some(CrlReason::CessationOfOperation),
                6 => Some(CrlReason::CertificateHold),
                9 => Some(CrlReason::PrivilegeWithdrawn),
                _ => None,
            },
        }),
    })
}
