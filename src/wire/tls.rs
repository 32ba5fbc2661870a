//! TLS as a client: the certificates that are trusted, and the parameters that are offered.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};

use super::records::SecretTaker;
use super::sessions::Sessions;
use super::verify::{AcceptAny, Given, OncePerSecond};
use super::x509;
use crate::error::{Error, Result};
use crate::foreign;

/// The largest CA file, in bytes; a bundle of all authorities that browsers trust has a quarter of a megabyte.
const LARGEST_CA_BYTES: u64 = 16 << 20;

/// The server certificates that are accepted.
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
    /// Parses authorities from PEM text, or one from DER; `origin` names the source in errors.
    ///
    /// # Errors
    /// If the bytes are neither, or hold no certificate.
    pub fn from_pem(bytes: &[u8], origin: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::usage(format!("CA file {origin} {what}"))
                .with_hint("give a PEM file with the certificate of the authority that signed the server's certificate")
        };
        let certificates = CertificateDer::pem_slice_iter(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(&format!("is not PEM: {}", foreign::line(&error.to_string()))))?;
        match (&certificates[..], bytes) {
            ([], []) => Err(wrong("is empty")),
            ([], bytes) if x509::subject_public_key_info(bytes).is_some() => {
                Ok(Self::Authorities(vec![CertificateDer::from(bytes.to_vec())]))
            }
            ([], bytes) => Err(match sections(bytes) {
                names if names.is_empty() => wrong("holds no certificate: it is neither PEM nor DER"),
                names => wrong(&format!("holds no certificate, but {}", foreign::line(&names))),
            }),
            _ => Ok(Self::Authorities(certificates)),
        }
    }

    /// Adds trust in one more authority, if authorities are named.
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

    /// Reads authorities from a file, PEM or DER.
    ///
    /// # Errors
    /// If the file cannot be read, has more than 16 MiB, or is neither of them.
    pub fn from_file(path: &Path) -> Result<Self> {
        let pem = crate::files::read(path, LARGEST_CA_BYTES).map_err(|error| {
            Error::usage(format!("CA file {}: {error}", path.display()))
                .with_hint("give the path of a readable PEM file")
        })?;
        Self::from_pem(&pem, &path.display().to_string())
    }
}

/// Returns the names of a PEM text's sections, such as `PRIVATE KEY`.
fn sections(pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    lines.collect::<Vec<_>>().join(", ")
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

/// The settings of secure connections.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The server certificates that are accepted.
    pub trust: Trust,
    /// The store of sessions, which are resumed if the peer permits; without, every handshake is full.
    pub sessions: Option<Arc<Sessions>>,
    /// The one protocol version that is offered; without, both are.
    pub version: Option<TlsVersion>,
    /// The one key exchange group that is offered; without, X25519, P-256 and P-384, with a key share of the first.
    pub group: Option<KeyExchange>,
}

/// TLS versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[value(name = "1.3")]
    Tls13,
}

impl TlsVersion {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// Returns its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tls12 => "tls12",
            Self::Tls13 => "tls13",
        }
    }

    /// Returns its name in [`super::Handshake::version`].
    pub const fn negotiated(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS1.2",
            Self::Tls13 => "TLS1.3",
        }
    }

    /// Returns it as rustls takes it.
    pub fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &rustls::version::TLS12,
            Self::Tls13 => &rustls::version::TLS13,
        }
    }
}

/// Key exchange groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum KeyExchange {
    /// X25519 (RFC 7748).
    X25519,
    /// P-256, which TLS calls secp256r1 (RFC 8422).
    #[value(name = "p-256")]
    P256,
    /// X25519 with ML-KEM-768 (draft-ietf-tls-ecdhe-mlkem), TLS 1.3 only: secure if either holds, and against quantum
    /// computers if ML-KEM-768 does.
    #[value(name = "x25519mlkem768")]
    X25519MlKem768,
}

impl KeyExchange {
    /// Every group.
    pub const ALL: [Self; 3] = [Self::X25519, Self::P256, Self::X25519MlKem768];

    /// Returns its name in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::P256 => "p256",
            Self::X25519MlKem768 => "x25519mlkem768",
        }
    }

    /// Returns its name in [`super::Handshake::group`].
    pub const fn negotiated(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::P256 => "secp256r1",
            Self::X25519MlKem768 => "X25519MLKEM768",
        }
    }

    /// Returns it as rustls takes it.
    pub fn supported(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::X25519 => kx_group::X25519,
            Self::P256 => kx_group::SECP256R1,
            Self::X25519MlKem768 => kx_group::X25519MLKEM768,
        }
    }
}

impl TlsOptions {
    /// Makes options of full handshakes, with the library's choice of everything else.
    pub fn full(trust: Trust) -> Self {
        Self { trust, sessions: None, version: None, group: None }
    }
}

/// Makes a client configuration for connections whose handshakes are not what is measured: TLS 1.2 and 1.3, ALPN
/// `http/1.1`, no session resumption, so that every handshake is full. A chain that was accepted is not verified again
/// in the same second: a fleet of agents comes to its connections with less of the processors that it shares with the
/// system, and what is found is the same. With TLS 1.3 the suite's own record layer takes over after the handshake.
///
/// # Errors
/// If an authority's certificate is unusable, or the system has none.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let options = TlsOptions::full(trust.clone());
    let mut config = configure_with(&options, |verifier| Arc::new(OncePerSecond::new(verifier)))?;
    config.key_log = Arc::new(SecretTaker);
    Ok(Arc::new(config))
}

/// Makes a client configuration with ALPN `http/1.1`; every handshake verifies the whole chain.
///
/// # Errors
/// If an authority's certificate is unusable, the system has none, or version and group do not go together.
pub fn configure(options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    configure_with(options, |verifier| verifier).map(Arc::new)
}

type Verifier = Arc<dyn ServerCertVerifier>;

fn configure_with(options: &TlsOptions, change: impl FnOnce(Verifier) -> Verifier) -> Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = match options.group {
        Some(group) => vec![group.supported()],
        None => offered_groups(),
    };
    provider.cipher_suites = OFFERED_SUITES.to_vec();
    let provider = Arc::new(provider);
    let versions = match options.version {
        Some(version) => vec![version.supported()],
        None => vec![&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let verifier = change(verifier(&options.trust, &provider)?);
    let mut config = begin(verifier, provider, &versions)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match &options.sessions {
        Some(sessions) => Resumption::store(sessions.clone()),
        None => Resumption::disabled(),
    };
    Ok(config)
}

/// The cipher suites in the order in which certctl's agents offer them, that of Go's crypto/tls on a processor with AES
/// instructions: the smaller key first. SHA-256, which goes with it, is also the cheaper hash for the client.
const OFFERED_SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Returns the groups that are offered if none is chosen. Only the first has a key share. Servers that accept it answer
/// at once; OpenSSL from 3.5 on would rather send a HelloRetryRequest for the post-quantum group, if that were offered
/// without a key share. The others are for servers without X25519: they send a HelloRetryRequest, which counts as
/// another kind of handshake.
fn offered_groups() -> Vec<&'static dyn SupportedKxGroup> {
    vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1]
}

/// Returns the beginning of a client configuration: its trust is set, and its own certificate, if any, is still open.
/// Every handshake verifies the whole chain.
///
/// # Errors
/// If an authority's certificate is unusable, the system has none, or the provider has no cipher suite for a version.
pub fn verifying(
    trust: &Trust,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    begin(verifier(trust, &provider)?, provider, versions)
}

/// Returns the beginning of a client configuration with this verifier.
fn begin(
    verifier: Verifier,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| Error::usage(format!("TLS version and group cannot be combined: {error}")))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

/// Returns the verifier of the certificates that are trusted.
fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Verifier> {
    let (authorities, certificates) = match trust {
        Trust::Insecure => return Ok(Arc::new(AcceptAny(provider.signature_verification_algorithms))),
        Trust::Authorities(certificates) => (roots(certificates)?, certificates.clone()),
        Trust::System => (roots(&system_authorities()?)?, Vec::new()),
    };
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider.clone())
        .build()
        .map_err(|error| Error::usage(format!("the CA certificates cannot be used: {error}")))?;
    Ok(Arc::new(Given { chains, certificates }))
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let (usable, ignored) = store.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(Error::usage(format!("none of the {ignored} CA certificates can be used as a trust anchor"))
            .with_hint("give the certificate of the authority itself"));
    }
    Ok(store)
}

fn system_authorities() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(
            Error::new("the operating system has no CA certificates").with_hint("name the server's CA: --ca-file")
        );
    }
    Ok(found.certs)
}

/// The TLS library and cryptography behind [`client_config`], for results.
pub const PROVIDER: &str = "rustls with aws-lc-rs";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::pki::{Authority, KeyType};

    #[test]
    fn a_ca_file_that_is_neither_pem_nor_der_is_refused() {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        let Trust::Authorities(read) = Trust::from_pem(root.certificate(), "x").unwrap() else { panic!() };
        assert_eq!(&read[0], root.certificate());
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        for (bytes, why) in [
            ("", "CA file x is empty"),
            ("hello", "CA file x holds no certificate: it is neither PEM nor DER"),
            (key, "CA file x holds no certificate, but PRIVATE KEY"),
            ("-----BEGIN CERTIFICATE-----\nMAA=\n", "CA file x is not PEM: "),
        ] {
            let error = Trust::from_pem(bytes.as_bytes(), "x").unwrap_err();
            assert!(error.what().starts_with(why), "{error}");
        }
    }
}
