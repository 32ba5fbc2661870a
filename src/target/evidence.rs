//! What the system under test says happened, beside what its clients saw: PostgreSQL's statistics, certctl's metrics.
//!
//! Two brackets, since the statistics are not alike:
//! - **quiet to quiet**, from before the first connection until all work is done: statement counts and WAL bytes. A
//!   server that does the same work gives the same counts, so that they can gate.
//! - **the measured window**: rates. `pg_stat_database` and its like lag by up to a second, and of a backend that falls
//!   silent by up to ten, so that a count between two moments under load is none to gate by.

pub mod metrics;
mod statements;
mod window;
mod witness;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use statements::{Cost, PerArrival, Statement, Statements, statement_statistics};
pub use window::{Activity, Count, Window};
pub use witness::Witness;

use crate::error::Error;
use metrics::{Change, Metrics};

/// What the server side shows of a run.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Evidence {
    /// Arrivals sent, warm-up included: what figures "per arrival" divide by.
    pub arrivals: u64,
    /// The database's settings that figures depend on.
    pub settings: BTreeMap<String, String>,
    /// Quiet to quiet: the database's statements. Absent where no database was given.
    pub statements: Option<Known<Statements>>,
    /// Quiet to quiet: bytes of WAL that the whole cluster wrote, its own upkeep included.
    pub wal_bytes: Option<u64>,
    /// The measured window; absent where none was reached.
    pub window: Option<Window>,
    /// certctl's own metrics that changed. Absent where nobody asked for them.
    pub metrics: Option<Known<BTreeMap<String, Change>>>,
    /// What could not be found out, or makes a figure above doubtful.
    pub problems: Vec<String>,
}

/// Something, or why it could not be had.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Known<T> {
    /// It is there.
    Yes(T),
    /// It is not.
    No {
        /// Why not.
        unavailable: String,
        /// What would make it available.
        mend: Option<String>,
    },
}

impl<T> Known<T> {
    /// It, if it is there.
    pub fn yes(&self) -> Option<&T> {
        match self {
            Self::Yes(it) => Some(it),
            Self::No { .. } => None,
        }
    }
}

impl<T> From<Error> for Known<T> {
    fn from(error: Error) -> Self {
        Self::No { unavailable: error.what().to_owned(), mend: error.mending().map(str::to_owned) }
    }
}

impl Evidence {
    /// Adds what changed in certctl's own metrics. To read them is work for certctl: do it outside of the witness's
    /// time.
    #[must_use]
    pub fn with_metrics(mut self, before: Result<Metrics, Error>, after: Result<Metrics, Error>) -> Self {
        self.metrics = Some(match (before, after) {
            (Ok(before), Ok(after)) => {
                if metrics::restarted(&before, &after) {
                    self.problems.push("certctl was restarted between the two readings of its metrics".to_owned());
                }
                Known::Yes(metrics::changes(&before, &after))
            }
            (Err(error), _) | (_, Err(error)) => error.into(),
        });
        self
    }
}
