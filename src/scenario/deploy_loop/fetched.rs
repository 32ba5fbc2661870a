//! The verification of a certificate that an agent fetched: its chain, its key, its name, and that it is new.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::foreign;
use crate::wire::handshake::certificate_id;
use crate::wire::x509;

/// The largest lead of the server's clock over ours: a new certificate is valid from now on by the server's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// A certificate that an agent fetched and verified.
pub struct Fetched {
    /// The certificate, then the authorities above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The same as PEM, as it was fetched.
    pub chain_pem: String,
    /// Its id, as in [`certificate_id`].
    pub id: u64,
    /// Its SHA-256, in hexadecimal digits, as certctl keeps it.
    pub fingerprint: String,
    /// The beginning of its validity, in seconds since 1970.
    not_before_s: i64,
}

/// The properties that a certificate must have.
pub struct Expected<'a> {
    /// The name that it is for.
    pub name: &'a str,
    /// Its key: SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// The certificate before it, if there was one.
    pub earlier: Option<&'a Fetched>,
    /// The authority at the end of the chain, DER, if it is known.
    pub authority: Option<&'a [u8]>,
}

impl Fetched {
    /// Verifies a chain as PEM: the certificate, then the authorities above it up to the one that is trusted, which
    /// comes last. Returns the flaw in words if there is one.
    ///
    /// # Errors
    /// If the chain cannot be read or verified, or lacks an expected property.
    pub fn verify(pem: &str, expected: &Expected<'_>, now: UnixTime) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain =
            chain.map_err(|error| format!("its certificate is not PEM: {}", foreign::line(&error.to_string())))?;
        let [leaf, above @ .., authority] = &chain[..] else {
            return Err(format!("it has {} certificates, expected one and its authority", chain.len()));
        };
        let (not_before_s, _) = x509::validity(leaf).ok_or("its certificate has no validity that can be read")?;
        if x509::subject_public_key_info(leaf) != Some(expected.public_key) {
            return Err("its certificate is for another key".to_owned());
        }
        if expected.authority.is_some_and(|known| known != &authority[..]) {
            return Err("its chain ends in another authority than the first one did".to_owned());
        }
        verify_chain(leaf, above, authority, expected.name, valid_at(now, not_before_s))?;
        if let Some(earlier) = expected.earlier {
            if earlier.chain.first() == Some(leaf) {
                return Err("it is the same certificate as before".to_owned());
            }
            if not_before_s < earlier.not_before_s {
                return Err("its certificate is older than the one before".to_owned());
            }
        }
        let digest = Sha256::digest(leaf);
        let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id: certificate_id(leaf), fingerprint, not_before_s, chain_pem: pem.to_owned(), chain })
    }
}

/// Returns the time at which a certificate is verified: now, or the beginning of its validity if that is not far ahead.
fn valid_at(now: UnixTime, not_before_s: i64) -> UnixTime {
    let not_before = Duration::from_secs(not_before_s.try_into().unwrap_or(0));
    let at = match not_before.checked_sub(Duration::from_secs(now.as_secs())) {
        Some(ahead) if ahead <= CLOCK_TOLERANCE => not_before,
        _ => Duration::from_secs(now.as_secs()),
    };
    UnixTime::since_unix_epoch(at)
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    authority: &CertificateDer<'_>,
    name: &str,
    at: UnixTime,
) -> Result<(), String> {
    let flaw = |what: &str, error: webpki::Error| format!("{what}: {error}");
    let anchor = webpki::anchor_from_trusted_cert(authority).map_err(|error| flaw("its authority is none", error))?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| flaw("its certificate cannot be read", error))?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let usage = webpki::KeyUsage::server_auth();
    leaf.verify_for_usage(algorithms, &[anchor], above, at, usage, None, None)
        .map_err(|error| flaw("its chain does not verify", error))?;
    let wanted = ServerName::try_from(name).map_err(|_| format!("{name} is no name"))?;
    leaf.verify_is_valid_for_subject_name(&wanted).map_err(|_| format!("its certificate is not for {name}"))
}
