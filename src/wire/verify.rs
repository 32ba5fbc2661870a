//! Verification of server certificates, where the suite's rules differ from those of the TLS library.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::x509;

/// A verifier that accepts any chain but still checks the handshake's signature, as the protocol needs.
#[derive(Debug)]
pub struct AcceptAny(pub WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
            .or_else(|error| self.verify_by_key(message, certificate, signature, error))
            .map_err(|error| by_key_size(error, certificate, &[]))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
            .or_else(|error| self.verify_by_key(message, certificate, signature, error))
            .map_err(|error| by_key_size(error, certificate, &[]))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl AcceptAny {
    /// Checks a signature by the key alone, if the library does not read the certificate: it is of version 1, or has a
    /// critical extension that the library does not know. `error` is the library's finding.
    fn verify_by_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        error: Error,
    ) -> Result<HandshakeSignatureValid, Error> {
        if webpki::EndEntityCert::try_from(certificate).is_ok() {
            return Err(error);
        }
        let Some(key) = x509::subject_public_key_info(certificate) else { return Err(error) };
        let key = SubjectPublicKeyInfoDer::from(key);
        let Ok(key) = webpki::RawPublicKeyEntity::try_from(&key) else { return Err(error) };
        let algorithms = self.0.mapping.iter().find(|(scheme, _)| *scheme == signature.scheme);
        let mut algorithms = algorithms.into_iter().flat_map(|(_, algorithms)| *algorithms);
        match algorithms.any(|algorithm| key.verify_signature(*algorithm, message, signature.signature()).is_ok()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }
}

/// A verifier that accepts certificates that chain to a given authority, and a given certificate itself: a self-signed
/// one that is both the authority (CA:TRUE) and the server's. The library refuses an authority as a server.
#[derive(Debug)]
pub struct Given {
    /// The verifier of chains, by the library's rules.
    pub chains: Arc<WebPkiServerVerifier>,
    /// The certificates that were given.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Given {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The certificate was given byte for byte, so that no other need vouch for it. Before this error the
            // library has checked that it is valid now (a test asserts that); it would check names and purposes
            // afterwards.
            Err(error) if is_authority(&error) && self.certificates.iter().any(|given| given == end_entity) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                match x509::may_be_a_server(end_entity) {
                    true => Ok(ServerCertVerified::assertion()),
                    false => Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)),
                }
            }
            verified => verified.map_err(|error| {
                let above: Vec<_> = intermediates.iter().chain(&self.certificates).cloned().collect();
                by_key_size(error, end_entity, &above)
            }),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.chains.verify_tls12_signature(message, certificate, signature);
        verified.map_err(|error| by_key_size(error, certificate, &[]))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.chains.verify_tls13_signature(message, certificate, signature);
        verified.map_err(|error| by_key_size(error, certificate, &[]))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// The fewest bits of an RSA key that the library accepts; it reports a signature by a smaller key as bad.
const LEAST_RSA_BITS: usize = 2_048;

/// An RSA key that is too small.
#[derive(Debug)]
pub struct SmallKey {
    bits: usize,
    /// True if the key is that of an authority, not of the certificate itself.
    is_above: bool,
}

impl fmt::Display for SmallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_above { "its authority's RSA key" } else { "its RSA key" };
        write!(f, "{whose} has {} bits, and at least {LEAST_RSA_BITS} are required", self.bits)
    }
}

impl std::error::Error for SmallKey {}

/// Returns `error`, or its cause: the signature is bad because it was made with a key that is too small, that of
/// `certificate` or of one of those `above` it.
fn by_key_size(error: Error, certificate: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Error {
    if !matches!(error, Error::InvalidCertificate(CertificateError::BadSignature)) {
        return error;
    }
    let small = |certificate: &CertificateDer<'_>| x509::rsa_bits(certificate).filter(|bits| *bits < LEAST_RSA_BITS);
    let own = small(certificate).map(|bits| SmallKey { bits, is_above: false });
    let key = own.or_else(|| above.iter().find_map(small).map(|bits| SmallKey { bits, is_above: true }));
    match key {
        Some(key) => Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(key)))),
        None => error,
    }
}

/// Returns the key for which a certificate is refused, if it is too small.
pub fn small_key(error: &Error) -> Option<&SmallKey> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Returns the library's complaint about a certificate, if the library has no error kind for it.
pub fn complaint(error: &Error) -> Option<&webpki::Error> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Returns true if a certificate is refused because it is an authority's.
pub fn is_authority(error: &Error) -> bool {
    matches!(complaint(error), Some(webpki::Error::CaUsedAsEndEntity))
}
