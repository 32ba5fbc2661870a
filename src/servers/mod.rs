//! The parts that the reference server and the mock of an F5 share. Nothing else in this library uses them.

pub mod leaf;
pub mod process;
pub mod socket;
