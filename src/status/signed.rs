//! Signed structures of X.509: the bytes that are signed, the algorithm, and the signature.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, VerificationAlgorithm,
};
use x509_cert::der::asn1::{BitStringRef, ObjectIdentifier};
use x509_cert::der::{Decode as _, Reader, Result, SliceReader};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::Flaw;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

/// A structure with its signature, as it was received: decoded and encoded again, it might differ.
pub struct Signed<'a> {
    /// The bytes that are signed.
    pub content: &'a [u8],
    /// The signature's algorithm.
    pub algorithm: AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

impl<'a> Signed<'a> {
    /// Reads a sequence of content, algorithm and signature, and nothing after it.
    pub fn from_der(der: &'a [u8]) -> Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let signed = reader.sequence(Self::read)?;
        reader.finish(signed)
    }

    /// Reads the three within a sequence that may have more.
    pub fn read<R: Reader<'a>>(reader: &mut R) -> Result<Self> {
        let content = reader.tlv_bytes()?;
        Ok(Self { content, algorithm: reader.decode()?, signature: reader.decode()? })
    }

    /// Verifies the signature by a key, a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// If it is not the key's signature of the content, or of an algorithm that no relying party accepts today.
    pub fn verify(&self, key: &[u8]) -> std::result::Result<(), Flaw> {
        let key = SubjectPublicKeyInfoRef::from_der(key).map_err(|_| Flaw::Encoding)?;
        let curve = || key.algorithm.parameters_oid().ok();
        let algorithm: &dyn VerificationAlgorithm = match (key.algorithm.oid, self.algorithm.oid) {
            (RSA, RSA_SHA256) => &RSA_PKCS1_2048_8192_SHA256,
            (RSA, RSA_SHA384) => &RSA_PKCS1_2048_8192_SHA384,
            (RSA, RSA_SHA512) => &RSA_PKCS1_2048_8192_SHA512,
            (EC, ECDSA_SHA256) if curve() == Some(P256) => &ECDSA_P256_SHA256_ASN1,
            (EC, ECDSA_SHA384) if curve() == Some(P256) => &ECDSA_P256_SHA384_ASN1,
            (EC, ECDSA_SHA256) if curve() == Some(P384) => &ECDSA_P384_SHA256_ASN1,
            (EC, ECDSA_SHA384) if curve() == Some(P384) => &ECDSA_P384_SHA384_ASN1,
            _ => return Err(Flaw::Unsupported),
        };
        let bits = key.subject_public_key.as_bytes().ok_or(Flaw::Encoding)?;
        let signature = self.signature.as_bytes().ok_or(Flaw::Encoding)?;
        algorithm.verify_sig(bits, self.content, signature).map_err(|_| Flaw::Signature)
    }
}
