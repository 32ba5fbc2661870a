//! `revocation`: a batch of certificates is revoked while relying parties ask for the status of each.
//!
//! Two workloads side by side: [`herd::Herd`], the relying parties, and [`order::RevocationOrder`], the order to
//! revoke. They share a [`ledger::Ledger`]: a status is right or wrong by the moment at which the certificate's
//! revocation was ordered, and by that at which certctl confirmed it.

pub mod batch;
mod held_list;
pub mod herd;
pub mod ledger;
pub mod order;
mod shown;
mod verified;

/// The issuer of the certificates, by certctl's name.
pub const ISSUER: &str = "iss-local";
/// The most certificates of a batch.
pub const MOST_CERTIFICATES: u64 = 10_000;
