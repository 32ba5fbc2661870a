//! TLS as a client: whom to trust, and what is offered.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};

use super::sessions::Sessions;
use crate::error::{Error, Result};

/// A bundle of all authorities that browsers trust has a quarter of a megabyte.
const LARGEST_CA_BYTES: u64 = 16 << 20;

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

    /// Trust in one more authority, where some are named.
    #[must_use]
    pub fn and(self, authority: &CertificateDer<'static>) -> Self {
        match self {
            Self::Authorities(mut certificates) => {
                certificates.push(authority.clone());
                Self::Authorities(certificates)
            }
            other => other,
        }
    }

    /// Reads authorities from a PEM file.
    ///
    /// # Errors
    /// If the file cannot be read, is not PEM or holds no certificate.
    pub fn from_file(path: &Path) -> Result<Self> {
        let pem = crate::files::read(path, LARGEST_CA_BYTES).map_err(|error| {
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

/// How connections are made secure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which server certificates are accepted.
    pub trust: Trust,
    /// Where sessions are kept, to be resumed where the peer lets us; without, every handshake is full.
    pub sessions: Option<Arc<Sessions>>,
    /// The one protocol version that is offered; both without.
    pub version: Option<Version>,
    /// The one key exchange group that is offered; the library's choice without.
    pub group: Option<Group>,
}

/// TLS versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl Version {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// Its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tls12 => "tls12",
            Self::Tls13 => "tls13",
        }
    }

    /// As [`super::Handshake::version`] has it.
    pub const fn negotiated(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS1.2",
            Self::Tls13 => "TLS1.3",
        }
    }

    /// As rustls takes it.
    pub fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }
}

/// Key exchange groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// X25519 (RFC 7748).
    X25519,
    /// P-256, which TLS calls secp256r1 (RFC 8422).
    P256,
    /// X25519 beside ML-KEM-768 (draft-ietf-tls-ecdhe-mlkem), TLS 1.3 only: safe from quantum computers if either holds.
    X25519MlKem768,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 3] = [Self::X25519, Self::P256, Self::X25519MlKem768];

    /// Its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::P256 => "p256",
            Self::X25519MlKem768 => "x25519mlkem768",
        }
    }

    /// As [`super::Handshake::group`] has it.
    pub const fn negotiated(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::P256 => "secp256r1",
            Self::X25519MlKem768 => "X25519MLKEM768",
        }
    }

    /// As rustls takes it.
    pub fn supported(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => kx_group::X25519,
            Self::P256 => kx_group::SECP256R1,
            Self::X25519MlKem768 => kx_group::X25519MLKEM768,
        }
    }
}

impl Options {
    /// Full handshakes, and whatever else the library chooses.
    pub fn full(trust: Trust) -> Self {
        Self { trust, sessions: None, version: None, group: None }
    }
}

/// A client configuration: TLS 1.2 and 1.3, ALPN `http/1.1`, no session resumption, so that every handshake is full.
///
/// # Errors
/// If an authority's certificate is unusable, or the system has none.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    configure(&Options::full(trust.clone()))
}

/// A client configuration with ALPN `http/1.1`.
///
/// # Errors
/// If an authority's certificate is unusable, the system has none, or version and group do not go together.
pub fn configure(options: &Options) -> Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(group) = options.group {
        provider.kx_groups = vec![group.supported()];
    }
    let provider = Arc::new(provider);
    let versions = match options.version {
        Some(version) => vec![version.supported()],
        None => vec![&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let mut config = verifying(&options.trust, provider, &versions)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match &options.sessions {
        Some(sessions) => Resumption::store(sessions.clone()),
        None => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}

/// The beginning of a client configuration: it trusts, and needs to be told whether it has a certificate of its own.
///
/// # Errors
/// If an authority's certificate is unusable, the system has none, or the provider has no cipher suite for a version.
pub fn verifying(
    trust: &Trust,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| Error::usage(format!("TLS version and group do not go together: {error}")))?;
    Ok(match trust {
        Trust::Insecure => builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(algorithms))),
        Trust::Authorities(certificates) => builder.with_root_certificates(roots(certificates)?),
        Trust::System => builder.with_root_certificates(roots(&system_authorities()?)?),
    })
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

/// The TLS library and cryptography behind [`client_config`], for results.
pub const PROVIDER: &str = "rustls with aws-lc-rs";
