//! The reference server from outside: its own process, real TLS, certctl's answers, on both stores.
//!
//! Some of these tests need PostgreSQL 15 or newer; the part of them that does is skipped without.

mod acme;
mod bulk_renewal;
mod certificates;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod front;
mod issuing;
mod job_processor;
mod lifecycle;
mod metrics;
mod relying_party;
mod revocation;
mod server;
mod work_poll;
