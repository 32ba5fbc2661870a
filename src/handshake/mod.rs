//! Raw TLS handshakes, case by case: what each costs a client and a server, and what it puts on the wire.
//!
//! [`matrix`] says which cases there are, [`keyring`] makes the two parties of a case, [`pipe`] lets them shake hands in
//! memory, [`loopback`] shakes hands with a server over TCP. [`counts`] holds what is the same in every run, and
//! [`selection`] the loops that a command line asks for.

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
