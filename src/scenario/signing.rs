//! Private keys and certificate signing requests (PKCS #10, RFC 2986), made ahead of a measured window on all
//! processors.

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};

use crate::error::{Context, Result};

/// A new private key, ECDSA on P-256, and the request that a certificate authority sign its public key.
pub struct SigningRequest {
    /// The request, DER.
    pub csr_der: Vec<u8>,
    /// The request as PEM.
    pub csr_pem: String,
    /// The private key as PEM, PKCS #8. Never log it.
    pub key_pem: String,
    /// The SubjectPublicKeyInfo of the key, DER.
    pub public_key: Vec<u8>,
}

impl SigningRequest {
    /// Makes the key and the request for one DNS name, which is the common name too.
    ///
    /// # Errors
    /// If the name is no DNS name, or no key can be generated.
    pub fn new(name: &str) -> Result<Self> {
        let make = || -> Result<Self, rcgen::Error> {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::new(vec![name.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            let request = params.serialize_request(&key)?;
            Ok(Self {
                csr_der: request.der().to_vec(),
                csr_pem: request.pem()?,
                key_pem: key.serialize_pem(),
                public_key: key.subject_public_key_info(),
            })
        };
        make().context(|| format!("making a signing request for {name:?}"))
    }

    /// Makes one for each name, in their order, on all processors.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn all(names: &[String]) -> Result<Vec<Self>> {
        names.par_iter().map(|name| Self::new(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_name_gets_a_request_signed_by_its_own_key() {
        let names: Vec<String> = (1..=20).map(|number| format!("loadtest-{number}.example.test")).collect();
        let requests = SigningRequest::all(&names).unwrap();
        let mut keys = HashSet::new();
        for (name, request) in names.iter().zip(&requests) {
            assert!(request.csr_pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{}", request.csr_pem);
            let key = KeyPair::from_pem(&request.key_pem).unwrap();
            let spki = key.subject_public_key_info();
            assert_eq!((&request.public_key, &request.csr_der), (&spki, &pem_content(&request.csr_pem)), "{name}");
            let der = &request.csr_der;
            // The key is in the request as it is, and the name twice: common name and subject alternative name.
            assert!(der.windows(spki.len()).any(|window| window == spki), "{name}");
            assert_eq!(der.windows(name.len()).filter(|window| *window == name.as_bytes()).count(), 2, "{name}");
            keys.insert(spki);
        }
        assert_eq!(keys.len(), names.len());
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let refused = SigningRequest::all(&["ok.example.test".to_owned(), "käse".to_owned()]).map(|_| ());
        assert!(refused.unwrap_err().to_string().contains("käse"));
    }

    fn pem_content(pem: &str) -> Vec<u8> {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }
}
