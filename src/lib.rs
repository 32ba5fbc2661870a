//! certctl-bench: benchmark and load-test suite for certctl.
//!
//! One idea carries the house: **what, when, how, where, so what**.
//!
//! | word | module | it knows |
//! |---|---|---|
//! | what | [`scenario`] | which requests certctl is asked, what a right answer and the work done look like |
//! | when | [`load`] | arrival schedules, pacing, workers, warm-up, drain |
//! | how | [`wire`] | dialling, TLS, HTTP/1.1, the phases of one exchange |
//! | where | [`target`] | the system under test: one that runs already, or one that we start and stop |
//! | so what | [`measure`], [`report`], [`baseline`] | samples, validity, thresholds; summaries; comparison; verdict |
//!
//! [`run`] brings them together, [`handshake`] looks at TLS handshakes alone, [`cli`] holds the flags and verbs,
//! [`database`] opens the sessions at PostgreSQL, [`clock`] is the one clock, [`error`] the one error, [`foreign`] the one
//! way in for text that others wrote. `src/reference/` and `src/f5_mock/` are programs of their own:
//! the certctl-shaped server that runs start by default, and the F5 that `f5_deploy` deploys to.

#![warn(clippy::unwrap_used)]

#[cfg(not(target_os = "linux"))]
compile_error!("certctl-bench runs on Linux: it needs timerfd, parent-death signals and /proc");

pub mod baseline;
pub mod cli;
pub mod clock;
pub mod database;
pub mod error;
pub mod files;
pub mod foreign;
pub mod handshake;
pub mod load;
pub mod measure;
pub mod report;
pub mod run;
pub mod scenario;
pub mod target;
pub mod terminal;
pub mod wire;

pub use error::{Context, Error, Result};
