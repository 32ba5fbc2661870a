//! certctl-bench: benchmark and load-test suite for certctl.
//!
//! A run is a scenario, under a load, over the wire, against a system under test; its measurements become a verdict.
//!
//! | part | module | responsibility |
//! |---|---|---|
//! | requests | [`scenario`] | the requests to certctl, the check of each answer, side effects, thresholds |
//! | load | [`load`] | arrival schedules, pacing, the worker pool, warm-up, drain |
//! | wire | [`wire`] | dialling, TLS, HTTP/1.1, the phases of one exchange |
//! | system | [`target`] | the system under test: one that runs already, or one that a run starts and stops |
//! | results | [`measure`], [`report`], [`baseline`] | samples, validity, thresholds; summaries; comparison; verdict |
//!
//! [`run`] connects the parts. [`handshake`] benchmarks TLS handshakes alone, [`cli`] holds the flags and verbs,
//! [`database`] opens all sessions at PostgreSQL, [`clock`] is the only clock, [`error`] the only error type, and
//! [`foreign`] the only entry for text from outside. `src/reference/` and `src/f5_mock/` are programs of their own: the
//! reference server, which a run starts by default, and the F5 that `f5_deploy` deploys to.

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
