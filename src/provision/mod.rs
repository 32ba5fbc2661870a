//! What a run starts and stops: child processes that cannot outlive it, a private PostgreSQL, daemons, certificates.

pub mod child;
pub mod daemon;
pub mod keeper;
pub mod pki;
pub mod postgres;
