//! TLS: the settings, and the certificate that is served now.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use certctl_bench::servers::leaf::Leaf;

/// The name for which a client is always shown the certificate of the start: the management interface of an F5 keeps
/// its own, whatever is deployed to its virtual servers.
const MANAGEMENT_NAME: &str = "management.localhost";

/// Names of the leaf.
pub const NAMES: [&str; 5] = ["f5-mock-target", "localhost", "127.0.0.1", "::1", MANAGEMENT_NAME];

/// Returns a chain with its key; an error when the two do not belong together or the key is of no use.
pub fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &default_provider())
}

/// The certificate of the virtual server, which deployments replace: connections that exist keep what they were shown.
#[derive(Debug)]
pub struct Served {
    management: Arc<CertifiedKey>,
    now: RwLock<Arc<CertifiedKey>>,
}

impl Served {
    /// Serves the leaf of the start everywhere.
    pub fn new(leaf: &Leaf) -> Result<Self, String> {
        let management = certify(vec![leaf.certificate.clone()], leaf.key.clone_key());
        let management = Arc::new(management.map_err(|e| format!("cannot set up TLS: {e}"))?);
        Ok(Self { now: RwLock::new(Arc::clone(&management)), management })
    }

    /// Serves this certificate from the next handshake on.
    pub fn replace(&self, certified: CertifiedKey) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.server_name() == Some(MANAGEMENT_NAME) {
            return Some(Arc::clone(&self.management));
        }
        Some(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Returns the settings of TLS 1.2 and 1.3 with session tickets.
pub fn server_config(served: Arc<Served>) -> Result<Arc<ServerConfig>, String> {
    let failed = |e: rustls::Error| format!("cannot set up TLS: {e}");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new().map_err(failed)?;
    Ok(Arc::new(config))
}
