//! TLS, with settings like certctl's.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, cipher_suite, default_provider, kx_group};

use certctl_bench::servers::leaf::Leaf;

/// Names of the leaf.
pub const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Returns TLS settings with the leaf inside.
pub fn server_config(leaf: Leaf) -> Result<Arc<ServerConfig>, String> {
    configure(leaf).map(Arc::new).map_err(|e| format!("cannot set up TLS: {e}"))
}

fn configure(leaf: Leaf) -> Result<ServerConfig, rustls::Error> {
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
        .with_single_cert(vec![leaf.certificate], leaf.key)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // One stateless ticket per connection, as Go sends; a session store would forget most of a large fleet.
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}
