//! The revocation list that a relying party holds, and what it says about a batch.

use std::collections::HashMap;
use std::rc::Rc;

use super::batch::Batch;
use crate::status::crl::RevocationList;
use crate::status::{Freshness, Serial};

/// A list that was received and verified.
#[derive(Debug)]
pub struct HeldList {
    /// The value of its ETag field.
    pub etag: Option<String>,
    /// Its number, big-endian.
    pub number: Option<Vec<u8>>,
    /// The span of time for which it is valid.
    pub freshness: Freshness,
    /// The certificates of the batch that it shows as revoked, by index.
    pub revoked: Rc<[usize]>,
}

impl HeldList {
    /// Reports whether its number is greater than that of another list.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        // Without leading zeros, a longer number is a greater one.
        let key = |list: &Self| list.number.as_ref().map(|number| (number.len(), number.clone()));
        key(self) > key(other)
    }
}

/// Finds the certificates of a batch in a list.
pub fn revoked_of(batch: &Batch, list: &RevocationList) -> Rc<[usize]> {
    let indexes: HashMap<&Serial, usize> = batch.certificates.iter().map(|one| &one.serial).zip(0..).collect();
    let mut revoked: Vec<usize> = list.revoked.keys().filter_map(|serial| indexes.get(serial).copied()).collect();
    revoked.sort_unstable();
    revoked.into()
}
