//! TLS, with settings like certctl's.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::Args;
use certctl_bench::servers::leaf::Leaf;

/// Names of the leaf.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The server's certificate and key.
pub struct Identity {
    /// The authority that clients need to trust, PEM; `None` for a certificate from a file.
    pub ca_pem: Option<String>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the certificate and key of the command line, or makes them.
    pub fn of(args: &Args) -> Result<Self, String> {
        let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
            let leaf = Leaf::generate("certctl-reference", &NAMES)?;
            return Ok(Self { ca_pem: Some(leaf.ca_pem), chain: vec![leaf.certificate], key: leaf.key });
        };
        let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let chain = chain.map_err(|e| format!("cannot read the certificate {}: {e}", certificate.display()))?;
        let read_key = PrivateKeyDer::from_pem_file(key);
        let key = read_key.map_err(|e| format!("cannot read the key {}: {e}", key.display()))?;
        Ok(Self { ca_pem: None, chain, key })
    }

    /// Returns TLS settings with the certificate inside.
    pub fn into_server_config(self) -> Result<Arc<ServerConfig>, String> {
        configure(self).map(Arc::new).map_err(|e| format!("cannot set up TLS: {e}"))
    }
}

fn configure(identity: Identity) -> Result<ServerConfig, rustls::Error> {
    let mut provider = default_provider();
    // certctl's Go server knows these two groups only, and prefers AES-128 whatever the client's order.
    provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // One stateless ticket per connection, as Go sends; a session store would forget most of a large fleet.
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}
