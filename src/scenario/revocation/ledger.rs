//! The ledger: when the revocation of each certificate was ordered, and when it was confirmed.

use std::cell::{Cell, RefCell};

use super::batch::Batch;
use crate::clock::Moment;

/// The revocations of a batch, which the two workloads share.
#[derive(Debug)]
pub struct Ledger {
    /// The certificates.
    pub batch: Batch,
    revocations: RefCell<Vec<Revocation>>,
    first_order: Cell<Option<Moment>>,
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
        Self { batch, revocations: RefCell::new(revocations), first_order: Cell::default() }
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
        self.first_order.set(Some(self.first_order().unwrap_or(now)));
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
        self.first_order.get()
    }

    /// Returns the certificates whose revocation was confirmed.
    pub fn confirmed(&self) -> Vec<usize> {
        let revocations = self.revocations.borrow();
        (0..).zip(revocations.iter()).filter(|(_, one)| one.confirmed.is_some()).map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::pki::{Authority, KeyType};
    use crate::status::{IssuerCertificate, Serial};

    #[test]
    fn a_status_is_due_by_order_and_confirmation() {
        let root = Authority::root(KeyType::EcdsaP256).unwrap();
        let issuer = IssuerCertificate::from_der(root.certificate()).unwrap();
        let certificate = |number: u8| super::super::batch::BatchCertificate {
            id: number.to_string(),
            serial: Serial::new(&[number]).unwrap(),
        };
        let batch = Batch { run: "r".to_owned(), issuer, certificates: vec![certificate(1), certificate(2)] };
        let (ledger, at) = (Ledger::new(batch), Moment::from_ns);
        assert_eq!(ledger.due(0, at(10), at(20)), Due::Good);
        ledger.order(0..1, at(30));
        assert_eq!(ledger.due(0, at(10), at(30)), Due::Good);
        assert_eq!(ledger.due(0, at(10), at(31)), Due::Either);
        assert_eq!(ledger.due(1, at(10), at(31)), Due::Good);
        ledger.confirm(0..1, at(50));
        // Sent before the confirmation, it may have been answered before the revocation.
        assert_eq!(ledger.due(0, at(50), at(90)), Due::Either);
        assert_eq!(ledger.due(0, at(51), at(90)), Due::Revoked { since: at(50) });
        ledger.order(1..9, at(70));
        assert_eq!((ledger.first_order(), ledger.confirmed()), (Some(at(30)), vec![0]));
    }
}
