//! The server side's evidence of a run, beside what clients measure: PostgreSQL's statistics, certctl's metrics.
//!
//! It covers two spans of time, since the statistics differ in quality:
//! - **quiet to quiet**, from before the first connection until all work is done: statement counts and WAL bytes. The
//!   same work gives the same counts, so they can gate;
//! - **the measured window**: rates. `pg_stat_database` and similar views lag by up to a second, and by up to ten for a
//!   backend that goes idle, so that a difference between two moments under load cannot gate.

pub mod meter;
pub mod metrics;
pub mod processes;
mod statements;
mod window;
mod witness;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use statements::{Cost, PerArrival, Statement, Statements, statement_statistics};
pub use window::{Activity, ActivitySample, Count, Window};
pub use witness::DatabaseWitness;

use crate::error::Error;
use metrics::{Change, Metrics};

/// The evidence of the server side about a run.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Evidence {
    /// Arrivals that were sent, warm-up included: the divisor of figures "per arrival".
    pub arrivals: u64,
    /// The database's settings that affect the figures.
    pub settings: BTreeMap<String, String>,
    /// Quiet to quiet: the database's statements. Absent if no database was given.
    pub statements: Option<Known<Statements>>,
    /// Quiet to quiet: bytes of WAL that the whole cluster wrote, its own upkeep included.
    pub wal_bytes: Option<u64>,
    /// The measured window; absent if the run did not reach it.
    pub window: Option<Window>,
    /// Those of certctl's own metrics that changed. Absent if they were not requested.
    pub metrics: Option<Known<BTreeMap<String, Change>>>,
    /// Failures to read evidence, and reasons to doubt a figure above.
    pub problems: Vec<String>,
}

/// A value, or the reason for which it is missing.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Known<T> {
    /// The value.
    Yes(T),
    /// It is missing.
    No {
        /// The reason.
        unavailable: String,
        /// The fix that would make it available.
        hint: Option<String>,
    },
}

impl<T> Known<T> {
    /// Returns the value, if it is known.
    pub fn yes(&self) -> Option<&T> {
        match self {
            Self::Yes(it) => Some(it),
            Self::No { .. } => None,
        }
    }
}

impl<T> From<Error> for Known<T> {
    fn from(error: Error) -> Self {
        Self::No { unavailable: error.what().to_owned(), hint: error.hint().map(str::to_owned) }
    }
}

impl Evidence {
    /// Adds the changes of certctl's own metrics. Reading them is work for certctl: do it before the witness starts and
    /// after it finishes.
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
