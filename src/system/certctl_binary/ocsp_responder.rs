//! An issuer with an OCSP responder for a certctl that cannot make its own: as built it refuses to write the
//! responder's key, and answers every OCSP request with a 500. It reads a key that is there already.

use std::path::Path;

use rcgen::{CustomExtension, DnType, ExtendedKeyUsagePurpose};

use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::provision::pki::{Authority, Identity, KeyType, Purpose};

/// id-pkix-ocsp-nocheck (RFC 6960, section 4.2.2.2.1): the responder's own status is not looked up.
const NO_CHECK: [u64; 10] = [1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
const NULL: [u8; 2] = [5, 0];

/// The issuer `iss-local`, an authority of our own, and the responder that it authorises, as certctl makes both: RSA
/// with 2048 bits, and ECDSA on P-256.
pub(super) struct OcspResponder {
    pub authority: Authority,
    pub responder: Identity,
}

impl OcspResponder {
    /// Makes both.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn make() -> Result<Self> {
        let authority = Authority::root(KeyType::Rsa2048)?;
        let responder = authority.issue_with(KeyType::EcdsaP256, Purpose::Server, &[], |params| {
            params.distinguished_name.push(DnType::CommonName, "certctl-bench OCSP responder");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
            let no_check = CustomExtension::from_oid_content(&NO_CHECK, NULL.to_vec());
            params.custom_extensions = vec![no_check];
        })?;
        Ok(Self { authority, responder })
    }

    /// Enters both into a database of certctl's that has its demo seed. The files have these paths.
    ///
    /// # Errors
    /// If a statement fails: an older certctl has no table of responders.
    pub fn enter(&self, client: &mut DatabaseClient, files: &ResponderFiles<'_>) -> Result<()> {
        let path = |path: &Path| path.display().to_string();
        let issuer = "UPDATE issuers SET encrypted_config = NULL, \
                      config = config || jsonb_build_object('ca_cert_path', $1::text, 'ca_key_path', $2::text) \
                      WHERE id = 'iss-local'";
        client
            .execute(issuer, &[&path(files.issuer), &path(files.issuer_key)])
            .context(|| "giving the issuer iss-local its certificate".to_owned())?;
        let responder = "INSERT INTO ocsp_responders \
                         (issuer_id, cert_pem, cert_serial, key_path, key_alg, not_before, not_after) \
                         VALUES ('iss-local', $1, 'certctl-bench', $2, 'ECDSA-P256', now() - interval '1 hour', \
                         now() + interval '30 days')";
        client
            .execute(responder, &[&self.responder.chain_pem, &path(files.responder_key)])
            .context(|| "giving the issuer iss-local an OCSP responder".to_owned())?;
        Ok(())
    }
}

/// The paths of an issuer's files.
pub(super) struct ResponderFiles<'a> {
    pub issuer: &'a Path,
    pub issuer_key: &'a Path,
    pub responder_key: &'a Path,
}
