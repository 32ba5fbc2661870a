//! All access to PostgreSQL: addresses, sessions, and limits on the time of everything.
//!
//! Every session is opened here, so that each has a name (`application_name` begins with `certctl-bench`), speaks TLS
//! where the URL requires it, overrides settings that would change the meaning of a query or the lifetime of the
//! session, and never waits without a limit: not for a lock, and not for a server that has been stopped.
//!
//! Of libpq's environment variables only `PGPASSWORD` is read, and only where the URL has no password: a URL that is
//! typed stays in the shell's history. `~/.pgpass` is not read.

mod address;
mod client;
mod database_tls;
mod failure;
mod outline;
mod watch;

pub use address::{Address, keep_passwords, redact_url};
pub use client::{DatabaseClient, Parameter, Transaction};
pub use failure::Failure;
pub use outline::outline;
pub use tokio_postgres::Row;
pub use tokio_postgres::error::{ErrorPosition, SqlState};
pub use watch::{heed, is_stopped};

/// The beginning of the `application_name` of each session.
pub const NAME: &str = "certctl-bench";
/// The name of an unused expression in every query of the suite. `pg_stat_statements` thus never counts the suite's
/// queries and others in one entry, and the suite's are recognised by their text; a comment would not do, since
/// PostgreSQL 18 drops comments in front.
pub const MARK: &str = "certctl_bench";
