//! Certificate signing requests (PKCS#10, RFC 2986): parsed, and their signature checked with the key inside.

use std::net::IpAddr;

use rcgen::{DistinguishedName, DnType, PublicKeyData, SignatureAlgorithm};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateSigningRequestDer, SubjectPublicKeyInfoDer};
use webpki::RawPublicKeyEntity;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::der::{AnyRef, Decode as _, Encode as _, Reader as _, SliceReader, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A request whose signature is good.
#[derive(Debug)]
pub struct SigningRequest {
    pub subject: DistinguishedName,
    /// The last common name of the subject, as Go reads it; empty if there is none.
    #[allow(dead_code, reason = "ACME matches it against its order")]
    pub common_name: String,
    /// DNS names, IP addresses and mailboxes, in the order of the request; other kinds are left out.
    pub names: Vec<String>,
    pub key: RequestedKey,
}

/// The public key of a request.
#[derive(Debug)]
pub struct RequestedKey {
    bytes: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
    /// As certctl names it: RSA, ECDSA or Ed25519.
    pub family: &'static str,
    pub bits: i32,
}

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningRequest {
    /// Parses the first request of a PEM text.
    ///
    /// # Errors
    /// If there is none, or as for [`Self::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| format!("invalid CSR PEM format: {error}"))?;
        Self::from_der(&der)
    }

    /// Parses a request and checks its signature; extensions other than the alternative names are passed over.
    ///
    /// # Errors
    /// If it does not parse, has a key of an unknown kind, or was not signed with that key.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let invalid = |error: x509_cert::der::Error| format!("invalid CSR: {error}");
        let request = CertReq::from_der(der).map_err(invalid)?;
        let spki = &request.info.public_key;
        check_signature(&request, signed_part(der).map_err(invalid)?, &spki.to_der().map_err(invalid)?)?;
        let mut names = Vec::new();
        for attribute in request.info.attributes.iter().filter(|attribute| attribute.oid == ExtensionReq::OID) {
            for value in attribute.values.iter() {
                let extensions: ExtensionReq = value.decode_as().map_err(invalid)?;
                for extension in extensions.0.iter().filter(|extension| extension.extn_id == SubjectAltName::OID) {
                    let alternatives = SubjectAltName::from_der(extension.extn_value.as_bytes()).map_err(invalid)?;
                    names.extend(alternatives.0.iter().filter_map(text_of));
                }
            }
        }
        let (subject, common_name) = subject_of(&request.info.subject)?;
        Ok(Self { subject, common_name, names, key: key_of(spki)? })
    }
}

/// Returns the bytes that the signature covers, as they were sent.
fn signed_part(der: &[u8]) -> x509_cert::der::Result<&[u8]> {
    let content = AnyRef::from_der(der)?.value();
    SliceReader::new(content)?.tlv_bytes()
}

fn check_signature(request: &CertReq, signed: &[u8], spki: &[u8]) -> Result<(), String> {
    let bad = || "CSR signature verification failed".to_owned();
    let spki = SubjectPublicKeyInfoDer::from(spki);
    let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| bad())?;
    let identifier = request.algorithm.to_der().map_err(|_| bad())?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let signature = request.signature.as_bytes().ok_or_else(bad)?;
    // Several may share an identifier, such as ECDSA with SHA-256 on each curve.
    let fits = |one: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        identifier.get(2..) == Some(one.signature_alg_id().as_ref())
    };
    let good = algorithms.all.iter().filter(fits).any(|one| key.verify_signature(*one, signed, signature).is_ok());
    if good { Ok(()) } else { Err(bad()) }
}

fn text_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) | GeneralName::Rfc822Name(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => address_of(bytes.as_bytes()).map(|address| address.to_string()),
        _ => None,
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn subject_of(name: &Name) -> Result<(DistinguishedName, String), String> {
    let (mut subject, mut common_name) = (DistinguishedName::new(), String::new());
    for part in name.0.iter().flat_map(|parts| parts.0.iter()) {
        let text = text_in(&AnyRef::from(&part.value)).ok_or("invalid CSR: the subject is not text")?;
        if part.oid == COMMON_NAME {
            text.clone_into(&mut common_name);
        }
        let arcs: Vec<u64> = part.oid.arcs().map(u64::from).collect();
        subject.push(DnType::from_oid(&arcs), text);
    }
    Ok((subject, common_name))
}

fn text_in<'v>(value: &AnyRef<'v>) -> Option<&'v str> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(*value).ok().map(|text| text.as_str()),
        Tag::PrintableString => PrintableStringRef::try_from(*value).ok().map(|text| text.as_str()),
        Tag::Ia5String => Ia5StringRef::try_from(*value).ok().map(|text| text.as_str()),
        _ => None,
    }
}

fn key_of(spki: &SubjectPublicKeyInfoOwned) -> Result<RequestedKey, String> {
    let unknown = || "CSR key of an unknown kind; use RSA, ECDSA on P-256, P-384 or P-521, or Ed25519".to_owned();
    let bytes = spki.subject_public_key.as_bytes().ok_or_else(unknown)?.to_vec();
    let curve = spki.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
    let (algorithm, family, bits) = match (spki.algorithm.oid, curve) {
        (RSA_ENCRYPTION, _) => (&rcgen::PKCS_RSA_SHA256, "RSA", modulus_bits(&bytes).ok_or_else(unknown)?),
        (EC_PUBLIC_KEY, Some(P256)) => (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA", 256),
        (EC_PUBLIC_KEY, Some(P384)) => (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA", 384),
        (EC_PUBLIC_KEY, Some(P521)) => (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA", 521),
        (ED25519, _) => (&rcgen::PKCS_ED25519, "Ed25519", 256),
        _ => return Err(unknown()),
    };
    Ok(RequestedKey { bytes, algorithm, family, bits })
}

/// Returns the length of an RSA key's modulus (RFC 8017, A.1.1).
fn modulus_bits(key: &[u8]) -> Option<i32> {
    let content = AnyRef::from_der(key).ok()?.value();
    let modulus = x509_cert::der::asn1::UintRef::decode(&mut SliceReader::new(content).ok()?).ok()?;
    let (first, rest) = modulus.as_bytes().split_first()?;
    i32::try_from(rest.len() * 8).ok()?.checked_add(8 - i32::try_from(first.leading_zeros()).ok()?)
}
