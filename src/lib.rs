//! certctl-bench: benchmark and load-test suite for certctl.
//!
//! A run is a scenario, under a load, over the wire, against a system under test; its measurements become a verdict.
//! The modules, lowest first: each imports only those above it in this table (a test checks every `crate::` path).
//!
//! | module | responsibility |
//! |---|---|
//! | [`clock`] | the only clock |
//! | [`error`] | the only error type |
//! | [`exit_code`] | every exit code |
//! | [`foreign`] | the only entry for text from outside |
//! | [`terminal`] | standard output and standard error |
//! | [`servers`] | what the two servers of this repository share; nothing else uses it |
//! | [`files`] | atomic writes, bounded reads |
//! | [`event_loop`] | the event loop of a thread: tasks, sockets, timers |
//! | [`database`] | sessions at PostgreSQL |
//! | [`wire`] | dialling, TLS, HTTP/1.1, the phases of one exchange |
//! | [`status`] | the revocation status of certificates: OCSP and CRLs, verified |
//! | [`measure`] | samples, distributions, outcomes, timeline, machine use, thresholds, the rules of validity |
//! | [`load`] | arrival schedules, pacing, the worker pool, warm-up, drain |
//! | [`provision`] | what a run starts and stops: processes, PostgreSQL, daemons, certificates |
//! | [`seed`] | the rows that scenarios need, and their reset |
//! | [`scenario`] | the requests of a workload, the check of each answer, side effects, thresholds |
//! | [`system`] | the system under test: a certctl, the reference server, the daemons behind connectors |
//! | [`evidence`] | the system's side of a run: PostgreSQL's statistics, certctl's metrics, machine use |
//! | [`inspect`] | preflight and doctor |
//! | [`run`] | workloads bound to a system, and their run |
//! | [`summary`] | the result of a run as data, and its verdict |
//! | [`baseline`] | baselines and comparisons |
//! | [`history`] | the runs that are kept, and the changes of a measure over them |
//! | [`shard`] | the parts of a run that several processes or machines play, and their merge |
//! | [`duet`] | two systems at once, paired arrivals, one verdict |
//! | [`capacity`] | the search for the highest rate within the thresholds |
//! | [`report`] | results as text, JSON, Markdown and HTML, and in the formats of other tools |
//! | [`live`] | the view of a run while it goes on: a line, a page, metrics |
//! | [`handshake`] | benchmarks of TLS handshakes alone |
//! | [`cli`] | flags, and one file for each command |
//!
//! `src/reference/` and `src/f5_mock/` are programs of their own: the reference server, which a run starts by default,
//! and the mock of an F5 that `connector_tier` loads and `deploy_loop` deploys to.

#![warn(clippy::unwrap_used)]

#[cfg(not(target_os = "linux"))]
compile_error!("certctl-bench runs on Linux: it needs epoll, parent-death signals and /proc");

pub mod baseline;
pub mod capacity;
pub mod cli;
pub mod clock;
pub mod database;
pub mod duet;
pub mod error;
pub mod event_loop;
pub mod evidence;
pub mod exit_code;
pub mod files;
pub mod foreign;
pub mod handshake;
pub mod history;
pub mod inspect;
pub mod live;
pub mod load;
pub mod measure;
pub mod provision;
pub mod report;
pub mod run;
pub mod scenario;
pub mod seed;
pub mod servers;
pub mod shard;
pub mod status;
pub mod summary;
pub mod system;
pub mod terminal;
pub mod wire;

pub use error::{Context, Error, Result};
