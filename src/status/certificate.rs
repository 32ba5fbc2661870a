//! Certificates of issuers and of the responders that they authorise.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::{Certificate, TbsCertificate};

use super::signed::Signed;
use super::{Flaw, Serial};

/// id-kp-OCSPSigning (RFC 6960, section 4.2.2.2).
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
/// id-ce-extKeyUsage (RFC 5280, section 4.2.1.12).
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// The hash of a name or key in OCSP. SHA-1 is what every responder understands (RFC 5019, section 2.1.1); no security
/// rests on it.
pub(super) fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// Returns the serial number of a DER certificate; `None` if it is not one.
pub fn serial_of(certificate: &[u8]) -> Option<Serial> {
    Serial::new(Certificate::from_der(certificate).ok()?.tbs_certificate.serial_number.as_bytes())
}

/// A certificate, as far as verification by its key needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerCertificate {
    /// The subject, DER.
    pub(super) subject: Vec<u8>,
    /// The public key, a DER SubjectPublicKeyInfo.
    pub(super) key: Vec<u8>,
    /// The hash of [`Self::subject`].
    pub(super) name_hash: Vec<u8>,
    /// The hash of the key's bits, without algorithm, tag and length.
    pub(super) key_hash: Vec<u8>,
    issuer: Vec<u8>,
    validity: (i64, i64),
    signs_ocsp: bool,
}

impl IssuerCertificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// If it is not one.
    pub fn from_der(der: &[u8]) -> Result<Self, Flaw> {
        let signed = Signed::from_der(der).map_err(|_| Flaw::Encoding)?;
        Self::of_signed(&signed).ok_or(Flaw::Encoding)
    }

    fn of_signed(signed: &Signed<'_>) -> Option<Self> {
        let certificate = TbsCertificate::from_der(signed.content).ok()?;
        // The algorithm is stated within the signed content too (RFC 5280, section 4.1.1.2).
        if certificate.signature.to_der().ok()? != signed.algorithm.to_der().ok()? {
            return None;
        }
        let key_bits = certificate.subject_public_key_info.subject_public_key.as_bytes()?;
        let usages = certificate.extensions.iter().flatten().find(|one| one.extn_id == EXTENDED_KEY_USAGE);
        let usages = usages.and_then(|usages| ExtendedKeyUsage::from_der(usages.extn_value.as_bytes()).ok());
        let subject = certificate.subject.to_der().ok()?;
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs() as i64;
        Some(Self {
            name_hash: sha1(&subject),
            key_hash: sha1(key_bits),
            key: certificate.subject_public_key_info.to_der().ok()?,
            issuer: certificate.issuer.to_der().ok()?,
            validity: (seconds(certificate.validity.not_before), seconds(certificate.validity.not_after)),
            signs_ocsp: usages.is_some_and(|usages| usages.0.contains(&OCSP_SIGNING)),
            subject,
        })
    }

    /// Verifies that this issuer signed a DER certificate. Nothing else about it is checked.
    ///
    /// # Errors
    /// If it did not, or its bytes are no certificate.
    pub fn verify(&self, certificate: &[u8]) -> Result<(), Flaw> {
        let signed = Signed::from_der(certificate).map_err(|_| Flaw::Encoding)?;
        let subject = Self::of_signed(&signed).ok_or(Flaw::Encoding)?;
        if subject.issuer != self.subject { Err(Flaw::Issuer) } else { signed.verify(&self.key) }
    }

    /// Reads the certificate of a responder that this issuer authorises (RFC 6960, section 4.2.2.2): it is signed by
    /// the issuer itself, for the purpose of signing OCSP answers. Returns it with its validity, in seconds since 1970.
    ///
    /// # Errors
    /// If the issuer does not authorise it, or it is no certificate.
    pub(super) fn authorised(&self, der: &[u8]) -> Result<(Self, (i64, i64)), Flaw> {
        let signed = Signed::from_der(der).map_err(|_| Flaw::Encoding)?;
        let responder = Self::of_signed(&signed).ok_or(Flaw::Encoding)?;
        if responder.issuer != self.subject || !responder.signs_ocsp || signed.verify(&self.key).is_err() {
            return Err(Flaw::Responder);
        }
        let validity = responder.validity;
        Ok((responder, validity))
    }
}
