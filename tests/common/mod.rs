//! What the end-to-end tests share: a scripted peer, the reference server, the bench program, and a look at processes.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod bench;
pub mod peer;
pub mod process;
pub mod reference;
