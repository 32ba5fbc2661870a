//! Whose certificates are accepted, where the TLS library's own rules are not ours.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::x509;

/// Accepts any chain but still checks the handshake's signature, as the protocol needs.
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
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
            .or_else(|error| self.verify_by_key(message, certificate, signature, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl AcceptAny {
    /// Checks a signature by the key alone, where the library does not read the certificate: it is of version 1, or has
    /// a critical extension that it does not know. `error` is what the library found.
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

/// Accepts what chains to a given authority, and a given certificate itself: a self-signed one that is at once the
/// authority (CA:TRUE) and the server's. The library refuses to see an authority as a server.
#[derive(Debug)]
pub struct Given {
    /// The library's rules.
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
            // It was given byte for byte, so that nobody else need vouch for it. The library has seen that it is valid
            // now before it comes to this (a test holds it), and looks at names and purposes afterwards.
            Err(error) if is_authority(&error) && self.certificates.iter().any(|given| given == end_entity) => {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                match x509::may_be_a_server(end_entity) {
                    true => Ok(ServerCertVerified::assertion()),
                    false => Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)),
                }
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// The library's complaint about a certificate, where it has no kind of its own for it.
pub fn complaint(error: &Error) -> Option<&webpki::Error> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Whether a certificate is refused because it is an authority's.
pub fn is_authority(error: &Error) -> bool {
    matches!(complaint(error), Some(webpki::Error::CaUsedAsEndEntity))
}
