//! TLS to a PostgreSQL, with the meanings of libpq's `sslmode`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

/// The checks of the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verify {
    /// None: safe from an eavesdropper, but not from an impostor.
    #[default]
    Nothing,
    /// The certificate chains to a given authority.
    Chain,
    /// The same, and it is for the host's name.
    Name,
}

/// The files that a URL names.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    /// Authorities, in PEM; `system` stands for those of the operating system.
    pub roots: Option<PathBuf>,
    /// The client's certificate, in PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, in PEM.
    pub key: Option<PathBuf>,
}

/// Creates the connector for TLS.
///
/// # Errors
/// If a file cannot be read, or has other content.
pub(super) fn connector(verify: Verify, files: &TlsFiles, is_direct: bool) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(verify, files, provider.clone())?;
    let unusable = |error: rustls::Error| Error::usage(format!("TLS to the database: {error}"));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&files.certificate, &files.key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(path)) => {
            let chain = certificates(certificate, "sslcert")?;
            let key = PrivateKeyDer::from_pem_file(path).map_err(|error| {
                Error::usage(format!("sslkey {}: {error}", path.display()))
                    .with_hint("give the path of a readable PEM file with a private key that has no passphrase")
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let (key, certificate) = (path.display(), certificate.display());
                match error {
                    rustls::Error::InconsistentKeys(_) => {
                        Error::usage(format!("sslkey {key} is not the key of sslcert {certificate}: {error}"))
                            .with_hint("give the key that the certificate was made for")
                    }
                    error => Error::usage(format!("sslcert {certificate} and sslkey {key} cannot be used: {error}"))
                        .with_hint("make a certificate of X.509 version 3 with an RSA or ECDSA key"),
                }
            })?
        }
        _ => return Err(Error::usage("the database URL has one of sslcert and sslkey without the other")),
    };
    if is_direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(path: &std::path::Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |why: String| {
        Error::usage(format!("{parameter} {}: {why}", path.display()))
            .with_hint("give the path of a readable PEM file with certificates")
    };
    let read: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(error.to_string()))?;
    if read.is_empty() { Err(unusable("it holds no certificate".to_owned())) } else { Ok(read) }
}

#[derive(Debug)]
struct Verifier {
    verify: Verify,
    roots: Vec<CertificateDer<'static>>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(verify: Verify, files: &TlsFiles, provider: Arc<CryptoProvider>) -> Result<Self> {
        if verify == Verify::Nothing {
            return Ok(Self { verify, roots: Vec::new(), chain: None, provider });
        }
        let roots = match &files.roots {
            Some(path) if path.as_os_str() != "system" => certificates(path, "sslrootcert")?,
            _ => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        let (used, _) = store.add_parsable_certificates(roots.iter().cloned());
        if used == 0 {
            return Err(Error::usage("no usable authority certificate to verify the database's certificate")
                .with_hint("name the authority's PEM file in the URL: sslrootcert=FILE"));
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
            .build()
            .map_err(|error| Error::usage(format!("authorities for the database's certificate: {error}")))?;
        Ok(Self { verify, roots, chain: Some(chain), provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let verified = if self.roots.iter().any(|root| root.as_ref() == end_entity.as_ref()) {
            // A self-signed certificate that is its own authority, as `openssl req -x509` makes it: the server's
            // certificate is the given one, so that it needs no chain.
            rustls::server::ParsedCertificate::try_from(end_entity)
                .and_then(|parsed| rustls::client::verify_server_name(&parsed, server_name))
                .map(|()| ServerCertVerified::assertion())
        } else {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match verified {
            // The verifier checks the name after the chain, so that an error about the name means a valid chain.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verify == Verify::Chain => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.verify == Verify::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.verify == Verify::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
