//! The code that the end-to-end tests share: a scripted peer, OpenSSL's server, the reference server, the bench
//! programs, and a view of processes.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod acme;
pub mod authority;
pub mod bench;
pub mod browser;
pub mod certctl;
pub mod made_up;
pub mod misbehaviour;
pub mod needs;
pub mod openssl;
pub mod peer;
pub mod postgresql;
pub mod process;
pub mod reference;
pub mod relay;
pub mod runs;
pub mod stand_in;
pub mod summary;
pub mod turn;
pub mod webdriver;
