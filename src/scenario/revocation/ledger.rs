//! The ledger: when the revocation of each certificate was ordered, and when it was confirmed.

use std::cell::RefCell;

use super::batch::Batch;
use crate::clock::Moment;

/// The revocations of a batch, which the two workloads share.
#[derive(Debug)]
pub struct Ledger {
    /// The certificates.
    pub batch: Batch,
    revocations: RefCell<Vec<Revocation>>,
}

/// The progress of one certificate's revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// The moment before the request that orders it was sent.
    pub ordered: Option<Moment>,
    /// The moment at which the answer that confirms it had arrived.
    pub confirmed: Option<Moment>,
}

/// The statuses that an answer may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Good: the answer had arrived before the revocation was ordered.
    Good,
    /// Good or revoked: the revocation was under way.
    Either,
    /// Revoked: its request was sent after the revocation was confirmed.
    Revoked {
        /// The moment of the confirmation.
        since: Moment,
    },
}

impl Ledger {
    /// Begins the ledger of a batch.
    pub fn new(batch: Batch) -> Self {
        let revocations = vec![Revocation::default(); batch.certificates.len()];
        Self { batch, revocations: RefCell::new(revocations) }
    }

    /// Returns the number of certificates.
    pub fn len(&self) -> usize {
        self.batch.certificates.len()
    }

    /// Reports whether there are no certificates.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that the revocation of these certificates is ordered from this moment on.
    pub fn order(&self, certificates: std::ops::Range<usize>, now: Moment) {
        for revocation in self.revocations.borrow_mut().iter_mut().take(certificates.end).skip(certificates.start) {
            revocation.ordered.get_or_insert(now);
        }
    }

    /// Notes that the revocation of these certificates was confirmed by this moment.
    pub fn confirm(&self, certificates: std::ops::Range<usize>, now: Moment) {
        for revocation in self.revocations.borrow_mut().iter_mut().take(certificates.end).skip(certificates.start) {
            revocation.confirmed.get_or_insert(now);
        }
    }

    /// Returns the statuses that are right for a certificate in an answer that had arrived by `end`, to a request sent
    /// at `start`.
    pub fn due(&self, certificate: usize, start: Moment, end: Moment) -> Due {
        let revocation = self.revocations.borrow().get(certificate).copied().unwrap_or_default();
        match revocation {
            Revocation { confirmed: Some(since), .. } if start > since => Due::Revoked { since },
            Revocation { ordered: Some(ordered), .. } if end > ordered => Due::Either,
            _ => Due::Good,
        }
    }

    /// Returns the moment of the first order.
    pub fn first_order(&self) -> Option<Moment> {
        self.revocations.borrow().iter().filter_map(|one| one.ordered).min()
    }

    /// Returns the certificates whose revocation was confirmed.
    pub fn confirmed(&self) -> Vec<usize> {
        let revocations = self.revocations.borrow();
        (0..).zip(revocations.iter()).filter(|(_, one)| one.confirmed.is_some()).map(|(index, _)| index).collect()
    }
}
