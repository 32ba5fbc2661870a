//! Certificates for started servers: a certificate authority, the certificates that it signs, and keys of every type
//! that scenarios use.

use std::fmt;

use clap::ValueEnum;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::{Context, Result};
use crate::wire::tls::Trust;

/// The type of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum KeyType {
    /// ECDSA on P-256, with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384, with SHA-384.
    EcdsaP384,
    /// RSA, 2048 bits.
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// RSA, 4096 bits.
    #[value(name = "rsa-4096")]
    Rsa4096,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl KeyType {
    /// Every type.
    pub const ALL: [Self; 5] = [Self::EcdsaP256, Self::EcdsaP384, Self::Rsa2048, Self::Rsa4096, Self::Ed25519];

    /// Returns its name in results and in benchmark ids.
    pub const fn label(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
            Self::Ed25519 => "ed25519",
        }
    }

    fn generate(self) -> Result<KeyPair> {
        let pair = match self {
            Self::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            Self::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
            Self::Ed25519 => KeyPair::generate_for(&PKCS_ED25519).and_then(|pair| without_public_key(&pair)),
        };
        pair.context(|| format!("making an {self} key"))
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The number of times that a certificate is signed with ECDSA: the chance that none has full length is one in a
/// hundred million.
const SIGNATURES: usize = 64;

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificates that follow a leaf in a handshake: every authority from this one up, except the root.
    intermediates: Vec<CertificateDer<'static>>,
}

/// The purpose of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// For a server.
    Server,
    /// For a client.
    Client,
}

/// A certificate with its chain and private key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, then the authorities above it, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key, PKCS #8.
    pub key: PrivateKeyDer<'static>,
    /// The chain as PEM, in the order in which TLS sends it.
    pub chain_pem: String,
    /// The private key as PEM. Never log it.
    pub key_pem: String,
}

impl Authority {
    /// Creates a root authority with a key of this type.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn root(key_type: KeyType) -> Result<Self> {
        let issuer = CertifiedIssuer::self_signed(authority_params("certctl-bench root"), key_type.generate()?);
        Ok(Self { issuer: issuer.context(|| "making a root certificate".to_owned())?, intermediates: Vec::new() })
    }

    /// Creates an authority below this one.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn intermediate(&self, key_type: KeyType) -> Result<Self> {
        let params = authority_params("certctl-bench intermediate");
        let issuer = CertifiedIssuer::signed_by(params, key_type.generate()?, &self.issuer);
        let issuer = issuer.context(|| "making an intermediate certificate".to_owned())?;
        let own = issuer.der().clone();
        Ok(Self { issuer, intermediates: std::iter::once(own).chain(self.intermediates.iter().cloned()).collect() })
    }

    /// Returns the authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// Returns the authority's own certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the authority's private key as PEM, for a server that is to sign with it. Never log it.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Returns trust in this authority alone.
    pub fn trust(&self) -> Trust {
        Trust::Authorities(vec![self.certificate().clone()])
    }

    /// Issues a certificate with a new key, valid for `names` (DNS names and IP addresses).
    ///
    /// # Errors
    /// If a name is invalid, or no key can be generated.
    pub fn issue(&self, key_type: KeyType, purpose: Purpose, names: &[&str]) -> Result<Identity> {
        self.issue_with(key_type, purpose, names, |_| {})
    }

    /// Issues a certificate as [`Authority::issue`] does, after `change` has edited its parameters.
    ///
    /// # Errors
    /// If a name is invalid, or no key can be generated.
    pub fn issue_with(
        &self,
        key_type: KeyType,
        purpose: Purpose,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let what = || format!("making a certificate for {names:?}");
        let mut params = CertificateParams::new(names.clone()).context(what)?;
        if let Some(first) = names.first() {
            params.distinguished_name.push(DnType::CommonName, first.as_str());
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let pair = key_type.generate()?;
        let leaf = self.sign(&params, &pair).context(what)?;
        let chain_pem = leaf.pem() + &self.intermediates.iter().map(|one| pem("CERTIFICATE", one)).collect::<String>();
        let chain = std::iter::once(leaf.der().clone()).chain(self.intermediates.iter().cloned()).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        Ok(Identity { chain, key, chain_pem, key_pem: pair.serialize_pem() })
    }

    /// Signs a certificate so that its length is the same in every run: an ECDSA signature consists of two numbers, and
    /// each is at least one byte shorter half of the time. Of many signed certificates the longest has both at full
    /// length.
    fn sign(&self, params: &CertificateParams, pair: &KeyPair) -> Result<Certificate, rcgen::Error> {
        let mut longest = params.signed_by(pair, &self.issuer)?;
        let algorithm = self.issuer.key().algorithm();
        if algorithm == &PKCS_ECDSA_P256_SHA256 || algorithm == &PKCS_ECDSA_P384_SHA384 {
            for _ in 0..SIGNATURES {
                let next = params.signed_by(pair, &self.issuer)?;
                if next.der().len() > longest.der().len() {
                    longest = next;
                }
            }
        }
        Ok(longest)
    }
}

/// Returns the same Ed25519 key without its public key, which OpenSSL before 3.1 does not read (RFC 8410, section 7).
fn without_public_key(pair: &KeyPair) -> Result<KeyPair, rcgen::Error> {
    // Version 1, the algorithm, and an octet string of 34 bytes that holds one of 32: the private key.
    const HEAD: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    let both = pair.serialize_der();
    // The private key is at the same offset, after a head of the same length.
    let private = both.get(HEAD.len()..HEAD.len() + 32).ok_or(rcgen::Error::CouldNotParseKeyPair)?;
    let alone = PrivatePkcs8KeyDer::from([HEAD.as_slice(), private].concat());
    let alone = KeyPair::from_pkcs8_der_and_sign_algo(&alone, &PKCS_ED25519)?;
    if alone.public_key_raw() == pair.public_key_raw() { Ok(alone) } else { Err(rcgen::Error::CouldNotParseKeyPair) }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Encodes DER as PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn every_key_type_gets_a_chain_to_its_root() {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        let intermediate = root.intermediate(KeyType::EcdsaP256).unwrap();
        for key_type in KeyType::ALL {
            let identity = intermediate.issue(key_type, Purpose::Server, &["localhost", "127.0.0.1"]).unwrap();
            let leaf = webpki::EndEntityCert::try_from(&identity.chain[0]).unwrap();
            let anchor = webpki::anchor_from_trusted_cert(root.certificate()).unwrap();
            let now = rustls::pki_types::UnixTime::now();
            let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
            let usage = webpki::KeyUsage::server_auth();
            leaf.verify_for_usage(algorithms, &[anchor], &identity.chain[1..], now, usage, None, None).unwrap();
            let read: Vec<_> =
                CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect();
            assert_eq!(read, identity.chain, "{key_type}");
        }
    }
}
