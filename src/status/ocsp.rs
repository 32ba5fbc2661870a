//! OCSP (RFC 6960): requests about one certificate each, and the answers to them.

use x509_cert::der::asn1::{ObjectIdentifier, OctetString};
use x509_cert::der::{AnyRef, Decode, Encode as _, Reader, SliceReader, TagMode, TagNumber};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, OcspResponseStatus, Request, ResponderId,
    ResponseData, TbsRequest, Version,
};

use super::certificate::IssuerCertificate;
use super::signed::Signed;
use super::{Flaw, Freshness, Serial};

/// The content type of a request (RFC 6960, appendix C.1).
pub const REQUEST_TYPE: &str = "application/ocsp-request";
/// The content type of an answer (RFC 6960, appendix C.2).
pub const RESPONSE_TYPE: &str = "application/ocsp-response";

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");

/// Encodes a request about one certificate of an issuer, with a nonce if there is one.
///
/// # Errors
/// If the serial number has 160 bits or more, or the nonce is too long to be encoded.
pub fn encode(issuer: &IssuerCertificate, serial: &Serial, nonce: Option<&[u8]>) -> Result<Vec<u8>, Flaw> {
    // A number has at least one byte.
    let number = if serial.as_bytes().is_empty() { &[0] } else { serial.as_bytes() };
    let encode = || {
        let extension = |nonce: &[u8]| {
            let value = OctetString::new(OctetString::new(nonce)?.to_der()?)?;
            x509_cert::der::Result::Ok(Extension { extn_id: NONCE, critical: false, extn_value: value })
        };
        let req_cert = CertId {
            hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(AnyRef::NULL.into()) },
            issuer_name_hash: OctetString::new(&*issuer.name_hash)?,
            issuer_key_hash: OctetString::new(&*issuer.key_hash)?,
            serial_number: SerialNumber::new(number)?,
        };
        let request_list = vec![Request { req_cert, single_request_extensions: None }];
        let request_extensions = nonce.map(|nonce| extension(nonce).map(|one| vec![one])).transpose()?;
        let tbs_request = TbsRequest { version: Version::V1, requestor_name: None, request_list, request_extensions };
        OcspRequest { tbs_request, optional_signature: None }.to_der()
    };
    encode().map_err(|_| Flaw::Encoding)
}

/// An answer whose form, issuer and signature are right. It still has to fit the request, and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OcspAnswer {
    /// The responder refuses to answer, or cannot (RFC 6960, section 2.3). Such an answer has no signature.
    Refused(Refusal),
    /// The status of a certificate.
    Status(SignedStatus),
}

/// The reason of a responder that gives no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot read the request.
    MalformedRequest,
    /// It failed.
    InternalError,
    /// It is busy.
    TryLater,
    /// It wants a signed request.
    SignatureRequired,
    /// It does not serve this client, or not this certificate. certctl's limiter of requests answers so.
    Unauthorized,
}

impl Refusal {
    /// Returns its name in RFC 6960.
    pub const fn label(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformedRequest",
            Self::InternalError => "internalError",
            Self::TryLater => "tryLater",
            Self::SignatureRequired => "sigRequired",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// The status of a certificate, signed by its issuer or by a responder that the issuer authorises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatus {
    /// The certificate.
    pub serial: Serial,
    /// Its status.
    pub status: Status,
    /// The span of time for which this is so.
    pub freshness: Freshness,
    /// The nonce that the answer repeats, where there is one.
    pub nonce: Option<RepeatedNonce>,
    /// The validity of the responder's own certificate, in seconds since 1970, if it has one.
    responder: Option<(i64, i64)>,
}

/// The status of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is not revoked.
    Good,
    /// It is revoked since this time, in seconds since 1970.
    Revoked(i64),
    /// The responder does not know it.
    Unknown,
}

/// A nonce that an answer repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedNonce {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// True if it is among the extensions of the whole response, as RFC 6960, section 4.4.1, demands; false if it is
    /// among those of the status, where other clients do not find it.
    pub is_in_place: bool,
}

impl SignedStatus {
    /// Checks that this answers a request about `serial` with this `nonce`, at a time in seconds since 1970. An answer
    /// to a request without a nonce may have one.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self, serial: &Serial, nonce: Option<&[u8]>, now: i64) -> Result<(), Flaw> {
        if self.serial != *serial {
            return Err(Flaw::OtherSerial);
        }
        self.freshness.check(now)?;
        if self.responder.is_some_and(|(from, to)| now + Freshness::SKEW_S < from || to + Freshness::SKEW_S < now) {
            return Err(Flaw::ResponderExpired);
        }
        match (nonce, &self.nonce) {
            (Some(sent), Some(repeated)) if repeated.bytes == sent => Ok(()),
            (Some(_), _) => Err(Flaw::Nonce),
            (None, _) => Ok(()),
        }
    }
}

/// Verifies an answer about a certificate of `issuer`.
///
/// # Errors
/// If a relying party would reject it, whatever its request was.
pub fn verify(der: &[u8], issuer: &IssuerCertificate) -> Result<OcspAnswer, Flaw> {
    let response = OcspResponse::from_der(der).map_err(|_| Flaw::Encoding)?;
    let refusal = match response.response_status {
        OcspResponseStatus::Successful => None,
        OcspResponseStatus::MalformedRequest => Some(Refusal::MalformedRequest),
        OcspResponseStatus::InternalError => Some(Refusal::InternalError),
        OcspResponseStatus::TryLater => Some(Refusal::TryLater),
        OcspResponseStatus::SigRequired => Some(Refusal::SignatureRequired),
        OcspResponseStatus::Unauthorized => Some(Refusal::Unauthorized),
    };
    let bytes = match (refusal, response.response_bytes) {
        (Some(refusal), None) => return Ok(OcspAnswer::Refused(refusal)),
        (None, Some(bytes)) => bytes,
        _ => return Err(Flaw::Encoding),
    };
    if bytes.response_type != BASIC {
        return Err(Flaw::Unsupported);
    }
    let basic = Basic::from_der(bytes.response.as_bytes()).map_err(|_| Flaw::Encoding)?;
    let data = ResponseData::from_der(basic.signed.content).map_err(|_| Flaw::Encoding)?;
    let responder = basic.verify(&data.responder_id, issuer)?;
    status(&data, issuer, responder).map(OcspAnswer::Status)
}

/// Reads the one status in a response whose signature is right.
fn status(
    data: &ResponseData,
    issuer: &IssuerCertificate,
    responder: Option<(i64, i64)>,
) -> Result<SignedStatus, Flaw> {
    let [single] = &data.responses[..] else { return Err(Flaw::NotOneCertificate) };
    let id = &single.cert_id;
    if id.hash_algorithm.oid != SHA1 {
        return Err(Flaw::Unsupported);
    }
    if id.issuer_name_hash.as_bytes() != issuer.name_hash || id.issuer_key_hash.as_bytes() != issuer.key_hash {
        return Err(Flaw::Issuer);
    }
    Ok(SignedStatus {
        serial: Serial::new(id.serial_number.as_bytes()).ok_or(Flaw::Encoding)?,
        status: match single.cert_status {
            CertStatus::Good(_) => Status::Good,
            CertStatus::Revoked(info) => Status::Revoked(seconds(info.revocation_time)),
            CertStatus::Unknown(_) => Status::Unknown,
        },
        freshness: Freshness { this_update: seconds(single.this_update), next_update: single.next_update.map(seconds) },
        nonce: nonce(data.response_extensions.as_ref(), true)
            .or_else(|| nonce(single.single_extensions.as_ref(), false)),
        responder,
    })
}

fn seconds(time: OcspGeneralizedTime) -> i64 {
    time.0.to_unix_duration().as_secs() as i64
}

fn nonce(extensions: Option<&Extensions>, is_in_place: bool) -> Option<RepeatedNonce> {
    let extension = extensions?.iter().find(|one| one.extn_id == NONCE)?;
    let bytes = OctetString::from_der(extension.extn_value.as_bytes()).ok()?;
    Some(RepeatedNonce { bytes: bytes.into_bytes(), is_in_place })
}

/// A BasicOCSPResponse, as it was received.
struct Basic<'a> {
    signed: Signed<'a>,
    /// The certificates that come with it.
    certificates: Vec<AnyRef<'a>>,
}

/// The most certificates with which an answer is read: one is of use.
const MOST_CERTIFICATES: usize = 8;

impl<'a> Basic<'a> {
    fn from_der(der: &'a [u8]) -> x509_cert::der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let basic = reader.sequence(|reader| {
            let signed = Signed::read(reader)?;
            let certificates = reader.context_specific(TagNumber::N0, TagMode::Explicit)?.unwrap_or_default();
            Ok(Self { signed, certificates })
        })?;
        reader.finish(basic)
    }

    /// Verifies the signature of the responder with this id; returns the validity of its certificate if it is not the
    /// issuer itself.
    fn verify(&self, id: &ResponderId, issuer: &IssuerCertificate) -> Result<Option<(i64, i64)>, Flaw> {
        if is_id(id, issuer) {
            return self.signed.verify(&issuer.key).map(|()| None);
        }
        let mut flaw = Flaw::Responder;
        for certificate in self.certificates.iter().take(MOST_CERTIFICATES) {
            let der = certificate.to_der().map_err(|_| Flaw::Encoding)?;
            match issuer.authorised(&der) {
                Ok((responder, validity)) if is_id(id, &responder) => {
                    return self.signed.verify(&responder.key).map(|()| Some(validity));
                }
                Ok(_) => {}
                Err(found) => flaw = found,
            }
        }
        Err(flaw)
    }
}

/// Reports whether a responder's id is that of this certificate.
fn is_id(id: &ResponderId, certificate: &IssuerCertificate) -> bool {
    match id {
        ResponderId::ByName(name) => name.to_der().is_ok_and(|name| name == certificate.subject),
        ResponderId::ByKey(hash) => hash.as_bytes() == certificate.key_hash,
    }
}
