//! TLS as a client: whom to trust, and what a finished handshake was.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Context, Error, Result};

/// Which server certificates are accepted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that chain to one of these authorities.
    Authorities(Vec<CertificateDer<'static>>),
    /// Those that chain to an authority of the operating system.
    System,
    /// Any: the peer is not authenticated, and its chain costs nothing to verify.
    Insecure,
}

impl Trust {
    /// Reads authorities from PEM text; `origin` names it in errors.
    ///
    /// # Errors
    /// If the text is not PEM or holds no certificate.
    pub fn from_pem(pem: &[u8], origin: &str) -> Result<Self> {
        let mend = "give a PEM file with the certificate of the authority that signed the server's certificate";
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::usage(format!("CA file {origin} is not PEM: {error}")).mend(mend))?;
        if certificates.is_empty() {
            return Err(Error::usage(format!("CA file {origin} holds no certificate")).mend(mend));
        }
        Ok(Self::Authorities(certificates))
    }

    /// Reads authorities from a PEM file.
    ///
    /// # Errors
    /// If the file cannot be read, is not PEM or holds no certificate.
    pub fn from_file(path: &Path) -> Result<Self> {
        let pem = std::fs::read(path).map_err(|error| {
            Error::usage(format!("CA file {}: {error}", path.display())).mend("give the path of a readable PEM file")
        })?;
        Self::from_pem(&pem, &path.display().to_string())
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities(_) => f.write_str("certificate verified against the given CA"),
            Self::System => f.write_str("certificate verified against the system's CAs"),
            Self::Insecure => f.write_str("certificate NOT VERIFIED (--insecure)"),
        }
    }
}

/// A client configuration: TLS 1.2 and 1.3, ALPN `http/1.1`, no session resumption, so that every handshake is full.
///
/// # Errors
/// If an authority's certificate is unusable, or the system has none.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context(|| "choosing TLS versions".to_owned())?;
    let mut config = match trust {
        Trust::Insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider.signature_verification_algorithms)))
            .with_no_client_auth(),
        Trust::Authorities(certificates) => builder.with_root_certificates(roots(certificates)?).with_no_client_auth(),
        Trust::System => builder.with_root_certificates(roots(&system_authorities()?)?).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let (usable, ignored) = store.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(Error::usage(format!("none of the {ignored} CA certificates can be used as a trust anchor"))
            .mend("give the certificate of the authority itself"));
    }
    Ok(store)
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(Error::new("the operating system has no CA certificates").mend("name the server's CA: --ca-file"));
    }
    Ok(found.certs)
}

/// Accepts any chain but still checks the handshake's signature, as the protocol needs.
#[derive(Debug)]
struct AcceptAny(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What a finished handshake was, as the TLS library tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handshake {
    /// `full`, `hello-retry` (full with HelloRetryRequest) or `resumed`.
    pub kind: &'static str,
    /// The protocol version, as in `TLS1.3`.
    pub version: &'static str,
    /// The cipher suite, as IANA names it.
    pub suite: &'static str,
    /// The key exchange group, as IANA names it, or `-` where the handshake had none.
    pub group: &'static str,
}

impl Handshake {
    /// Reads it from a connection whose handshake is complete.
    pub fn of(tls: &ClientConnection) -> Self {
        use rustls::HandshakeKind;
        Self {
            kind: match tls.handshake_kind() {
                Some(HandshakeKind::Full) => "full",
                Some(HandshakeKind::FullWithHelloRetryRequest) => "hello-retry",
                Some(HandshakeKind::Resumed) => "resumed",
                None => "-",
            },
            version: match tls.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS1.2",
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLS1.3",
                _ => "-",
            },
            suite: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("-"),
            group: tls.negotiated_key_exchange_group().and_then(|group| group.name().as_str()).unwrap_or("-"),
        }
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.kind, self.version, self.suite, self.group)
    }
}

/// The TLS library and cryptography behind [`client_config`], for results.
pub const PROVIDER: &str = "rustls with aws-lc-rs";
