//! Things that a run starts and stops: child processes that cannot outlive it, a private PostgreSQL, daemons, certificates; and
//! the network namespace that it enters.

pub mod child;
pub mod daemon;
pub mod keeper;
pub mod network;
pub mod pki;
pub mod port;
pub mod postgres;
