//! TLS: a certificate authority and a leaf made at every start, the settings, and the certificate that is served now.

use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A client that asks for this name is shown the certificate of the start for ever, as the management interface of an
/// F5 keeps its own whatever is deployed to its virtual servers.
const MANAGEMENT_NAME: &str = "management.localhost";

/// What the server proves itself with at its start, and what its clients need to trust it.
pub struct Identity {
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    pub leaf: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Makes a fresh ECDSA P-256 authority and leaf; neither private key is ever written down.
    pub fn generate() -> Result<Self, String> {
        let failed = |e: rcgen::Error| format!("cannot make the server's certificate: {e}");
        let authority = authority().map_err(failed)?;
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let leaf = leaf_params().and_then(|params| params.signed_by(&leaf_key, &authority)).map_err(failed)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        Ok(Self { ca_pem: authority.pem(), leaf: leaf.der().clone(), key })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "f5-mock test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn leaf_params() -> Result<CertificateParams, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1", "f5-mock-target", MANAGEMENT_NAME].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "f5-mock-target");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A chain with its key; an error when the two do not belong together or the key is of no use.
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
    /// Serves the identity of the start everywhere.
    pub fn new(identity: &Identity) -> Result<Self, String> {
        let management = certify(vec![identity.leaf.clone()], identity.key.clone_key());
        let management = Arc::new(management.map_err(|e| format!("cannot set up TLS: {e}"))?);
        Ok(Self { now: RwLock::new(Arc::clone(&management)), management })
    }

    /// Serves this from the next handshake on.
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

/// TLS 1.2 and 1.3 with session tickets.
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
