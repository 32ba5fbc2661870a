//! Raw TLS handshakes, case by case: their cost to client and server, and their bytes on the wire.
//!
//! [`matrix`] lists the cases, [`keyring`] makes the two parties of a case, [`pipe`] lets them shake hands in memory,
//! [`loopback`] shakes hands with a server over TCP. [`counts`] holds what is the same in every run, and [`selection`]
//! the loops that a command line selects.

pub mod against;
pub mod counts;
pub mod keyring;
pub mod listener;
pub mod loopback;
pub mod matrix;
pub mod pipe;
pub mod selection;
pub mod servers;
pub mod throughput;
