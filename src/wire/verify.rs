//! Verification of server certificates, where the suite's rules differ from those of the TLS library.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

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

/// A verifier that asks another one once a second: what it found of the same chain, byte for byte, for the same name and
/// the same second is what it would find again. The signature of each handshake is verified anew.
#[derive(Debug)]
pub struct OncePerSecond {
    verifier: Arc<dyn ServerCertVerifier>,
    /// The last chain that was accepted.
    accepted: Mutex<Option<AcceptedChain>>,
}

/// A chain that was accepted.
#[derive(Debug)]
struct AcceptedChain {
    end_entity: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
    at: UnixTime,
}

impl OncePerSecond {
    /// Makes a verifier that asks `verifier`, which does not look at stapled OCSP responses.
    pub fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self { verifier, accepted: Mutex::default() }
    }
}

impl ServerCertVerifier for OncePerSecond {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let accepted = || self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = accepted().as_ref().is_some_and(|chain| {
            chain.at == now
                && chain.end_entity == *end_entity
                && chain.intermediates == intermediates
                && chain.name == *server_name
        });
        if is_known {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        *accepted() = Some(AcceptedChain {
            end_entity: end_entity.clone().into_owned(),
            intermediates: intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            name: server_name.to_owned(),
            at: now,
        });
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// A verifier that counts how often it is asked, and refuses the certificate `[0]`.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    impl ServerCertVerifier for Counting {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            match end_entity.as_ref() {
                [0] => Err(Error::InvalidCertificate(CertificateError::Revoked)),
                _ => Ok(ServerCertVerified::assertion()),
            }
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls12_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    #[test]
    fn only_the_same_question_is_answered_from_memory() {
        let counting = Arc::new(Counting::default());
        let verifier = OncePerSecond::new(counting.clone());
        // Verifies a chain of two, given by a byte each, and returns how often the other verifier was asked so far.
        let asked = |leaf: u8, above: &[u8], name: &str, second: u64| {
            let above: Vec<_> = above.iter().map(|byte| CertificateDer::from(vec![*byte])).collect();
            let (name, now) =
                (ServerName::try_from(name).unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(second)));
            let verified = verifier.verify_server_cert(&CertificateDer::from(vec![leaf]), &above, &name, &[], now);
            assert_eq!(verified.is_ok(), leaf != 0);
            counting.0.load(Ordering::Relaxed)
        };
        assert_eq!([asked(1, &[7], "a", 5), asked(1, &[7], "a", 5)], [1, 1]);
        assert_eq!([asked(1, &[7], "a", 6), asked(1, &[7], "a", 6)], [2, 2], "another second");
        assert_eq!([asked(2, &[7], "a", 6), asked(2, &[7], "a", 6)], [3, 3], "another certificate");
        assert_eq!([asked(2, &[8], "a", 6), asked(2, &[8], "a", 6)], [4, 4], "another authority between");
        assert_eq!([asked(2, &[], "a", 6), asked(2, &[], "a", 6)], [5, 5], "none between");
        assert_eq!([asked(2, &[], "b", 6), asked(2, &[], "b", 6)], [6, 6], "another name");
        assert_eq!([asked(2, &[], "b", 5), asked(2, &[], "b", 5)], [7, 7], "a clock that was set back");
        assert_eq!([asked(0, &[], "b", 5), asked(0, &[], "b", 5)], [8, 9], "a refusal is none");
    }
}
