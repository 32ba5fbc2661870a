//! Issued versions, and the one profile, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{ISSUER, MemoryStore, PROFILE};
use crate::store::certificate_rows::{Certificate, CertificateStore as _};
use crate::store::profile_rows::{AllowedKey, Profile, ProfileStore};
use crate::store::version_rows::{CertificateVersion, VersionStore};
use crate::store::{AuditEvent, Store as _, StoreError, Violation};

/// The most versions, at about 3 KiB each: with more a long run would fill the memory.
const MAX_VERSIONS: usize = 250_000;

/// The table of versions.
#[derive(Default)]
pub struct Versions {
    /// In the order of their issuance.
    by_certificate: HashMap<String, Vec<Arc<CertificateVersion>>>,
    by_serial: HashMap<String, Arc<CertificateVersion>>,
}

impl Versions {
    /// Returns the version of this serial number.
    pub fn by_serial(&self, serial: &str) -> Option<CertificateVersion> {
        self.by_serial.get(serial).map(|version| CertificateVersion::clone(version))
    }

    fn newest_first(&self, certificate_id: &str) -> impl Iterator<Item = CertificateVersion> {
        let versions = self.by_certificate.get(certificate_id).into_iter().flatten().rev();
        versions.map(|version| CertificateVersion::clone(version))
    }

    fn add(&mut self, new: &CertificateVersion) -> Result<(), StoreError> {
        if self.by_serial.contains_key(&new.serial_number) {
            return Err(StoreError::violation_of(Violation::Duplicate, "a version of this serial number exists"));
        }
        if self.by_serial.len() >= MAX_VERSIONS {
            return Err(StoreError::because("no room in memory for more versions of certificates"));
        }
        let version = Arc::new(new.clone());
        self.by_serial.insert(new.serial_number.clone(), Arc::clone(&version));
        self.by_certificate.entry(new.certificate_id.clone()).or_default().push(version);
        Ok(())
    }
}

impl VersionStore for MemoryStore {
    async fn insert_version(&self, new: &CertificateVersion) -> Result<(), StoreError> {
        self.versions.write().unwrap_or_else(PoisonError::into_inner).add(new)
    }

    async fn insert_renewal(
        &self,
        new: &CertificateVersion,
        certificate: &Certificate,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        self.insert_version(new).await?;
        self.update_certificate(certificate).await?;
        self.append_audit(event).await
    }

    async fn versions(&self, certificate_id: &str) -> Result<Vec<CertificateVersion>, StoreError> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        Ok(versions.newest_first(certificate_id).collect())
    }

    async fn latest_version(&self, certificate_id: &str) -> Result<Option<CertificateVersion>, StoreError> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        Ok(versions.newest_first(certificate_id).next())
    }

    async fn certificate_by_serial(&self, issuer_id: &str, serial: &str) -> Result<Option<Certificate>, StoreError> {
        let version = self.versions.read().unwrap_or_else(PoisonError::into_inner).by_serial(serial);
        match version.filter(|_| issuer_id == ISSUER) {
            Some(version) => self.certificate(&version.certificate_id).await,
            None => Ok(None),
        }
    }
}

impl ProfileStore for MemoryStore {
    async fn profile(&self, id: &str) -> Result<Option<Profile>, StoreError> {
        let rule = |(family, min_size): (&str, i32)| AllowedKey { algorithm: family.to_owned(), min_size };
        // As in `schema.sql`.
        Ok((id == PROFILE).then(|| Profile {
            name: "reference TLS".to_owned(),
            allowed_keys: [("ECDSA", 256), ("RSA", 2_048)].map(rule).to_vec(),
            purposes: vec!["serverAuth".to_owned()],
            max_ttl_seconds: 7_776_000,
            allow_short_lived: false,
        }))
    }
}
