//! The one way to a PostgreSQL: where it is, how a session is opened, and how long anything may take there.
//!
//! Every session of ours is opened here, so that each is named (`application_name` begins with `certctl-bench`), speaks
//! TLS where the URL asks for it, keeps clear of settings that would change what a query means or how long the session
//! lives, and never waits without a bound: not for a lock, and not for a server that has been stopped.
//!
//! Of libpq's environment variables `PGPASSWORD` alone is read, and only where the URL has no password: a URL that is
//! typed ends in the shell's history. `~/.pgpass` is not read.

mod address;
mod client;
mod failure;
mod outline;
mod tls;
mod watch;

pub use address::{Address, keep_passwords, redact_url};
pub use client::{Client, Parameter, Transaction};
pub use failure::Failure;
pub use outline::outline;
pub use tokio_postgres::Row;
pub use tokio_postgres::error::{ErrorPosition, SqlState};
pub use watch::heed;

/// How the `application_name` of each session of ours begins.
pub const NAME: &str = "certctl-bench";
/// Stands in every query of ours, as the name of an expression that is not used. `pg_stat_statements` thus has no entry
/// that is ours and somebody else's, and tells ours apart by its text: PostgreSQL 18 drops comments in front.
pub const MARK: &str = "certctl_bench";
