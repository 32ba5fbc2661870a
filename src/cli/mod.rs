//! The front door: flags, verbs and exit codes.

pub mod bench;
pub mod criterion;
pub mod exit;
pub mod flags;
pub mod request_loop;
pub mod seed;
