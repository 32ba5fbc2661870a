//! OCSP responses and CRLs in memory.

use std::collections::HashMap;
use std::sync::PoisonError;

use super::MemoryStore;
use crate::store::StoreError;
use crate::store::publication_rows::{CrlRow, Publication, PublicationStore, ResponderRow};

/// The most responses, at about 1 KiB each: requests for random serial numbers would fill the memory.
const MAX_RESPONSES: usize = 250_000;

/// Signed statuses, by issuer and, for responses, serial number.
#[derive(Default)]
pub struct Publications {
    responses: HashMap<(String, String), Publication>,
    responders: HashMap<String, String>,
    crls: HashMap<String, Publication>,
}

fn key(issuer_id: &str, serial: &str) -> (String, String) {
    (issuer_id.to_owned(), serial.to_owned())
}

impl PublicationStore for MemoryStore {
    async fn forget_publications(&self) -> Result<(), StoreError> {
        *self.publications.write().unwrap_or_else(PoisonError::into_inner) = Publications::default();
        Ok(())
    }

    async fn ocsp_response(&self, issuer_id: &str, serial: &str) -> Result<Option<Publication>, StoreError> {
        let kept = self.publications.read().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.responses.get(&key(issuer_id, serial)).cloned())
    }

    async fn put_ocsp_response(&self, issuer_id: &str, serial: &str, response: &Publication) -> Result<(), StoreError> {
        let mut kept = self.publications.write().unwrap_or_else(PoisonError::into_inner);
        let key = key(issuer_id, serial);
        if kept.responses.len() >= MAX_RESPONSES && !kept.responses.contains_key(&key) {
            return Err(StoreError::because("no room in memory for more OCSP responses"));
        }
        kept.responses.insert(key, response.clone());
        Ok(())
    }

    async fn drop_ocsp_response(&self, issuer_id: &str, serial: &str) -> Result<(), StoreError> {
        self.publications.write().unwrap_or_else(PoisonError::into_inner).responses.remove(&key(issuer_id, serial));
        Ok(())
    }

    async fn ocsp_responder(&self, issuer_id: &str) -> Result<Option<String>, StoreError> {
        Ok(self.publications.read().unwrap_or_else(PoisonError::into_inner).responders.get(issuer_id).cloned())
    }

    async fn put_ocsp_responder(&self, issuer_id: &str, responder: &ResponderRow) -> Result<(), StoreError> {
        let mut kept = self.publications.write().unwrap_or_else(PoisonError::into_inner);
        kept.responders.insert(issuer_id.to_owned(), responder.serial.clone());
        Ok(())
    }

    async fn crl(&self, issuer_id: &str) -> Result<Option<Publication>, StoreError> {
        Ok(self.publications.read().unwrap_or_else(PoisonError::into_inner).crls.get(issuer_id).cloned())
    }

    async fn put_crl(&self, issuer_id: &str, crl: &CrlRow) -> Result<(), StoreError> {
        let mut kept = self.publications.write().unwrap_or_else(PoisonError::into_inner);
        kept.crls.insert(issuer_id.to_owned(), crl.publication.clone());
        Ok(())
    }
}
