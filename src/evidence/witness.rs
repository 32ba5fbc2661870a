//! The recording of the database's evidence about a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::statements::{Snapshot, View, uncounted};
use super::window::Watcher;
use super::{Evidence, Known};
use crate::database::DatabaseClient;
use crate::error::{Context, Error, Result};
use crate::load::progress::Progress;

/// The longest time of a query of the witness.
pub(super) const QUERY_LIMIT: Duration = Duration::from_secs(15);
/// Settings that affect the figures. Those that this PostgreSQL does not have, or does not show, are left out.
const SETTINGS: [&str; 21] = [
    "server_version",
    "max_connections",
    "fsync",
    "synchronous_commit",
    "shared_buffers",
    "wal_level",
    "autovacuum",
    "track_io_timing",
    "block_size",
    "compute_query_id",
    "data_checksums",
    "full_page_writes",
    "pg_stat_statements.max",
    "pg_stat_statements.track",
    "pg_stat_statements.track_planning",
    "pg_stat_statements.track_utility",
    "track_commit_timestamp",
    "wal_compression",
    "wal_consistency_checking",
    "wal_log_hints",
    "wal_segment_size",
];

/// A recorder of a system's database from one quiet moment to the next. It stops when it is dropped.
///
/// Not for use inside an async runtime. Start it before the generator's thread raises its priority: the thread that
/// this starts would inherit the priority.
pub struct DatabaseWitness {
    client: DatabaseClient,
    settings: BTreeMap<String, String>,
    statements: Result<(View, Snapshot)>,
    /// The position of the next byte of WAL at the start.
    wal: u64,
    /// The start time of PostgreSQL.
    started: String,
    watcher: Watcher,
}

impl DatabaseWitness {
    /// Starts recording, while the system is quiet. `progress` shows the measured window.
    ///
    /// # Errors
    /// If a query of the database fails. A database that counts no statements is a note in the evidence, not an error.
    pub fn start(url: &str, progress: Arc<Progress>) -> Result<Self> {
        let mut client = DatabaseClient::open(url, "witness")?.with_query_limit(QUERY_LIMIT);
        let watcher = Watcher::start(url, progress)?;
        let settings = settings(&mut client)?;
        let statements = View::find(&mut client).and_then(|view| {
            let snapshot = view.read(&mut client)?;
            Ok((view, snapshot))
        });
        let wal = wal_position(&mut client)?;
        let started = started(&mut client)?;
        Ok(Self { client, settings, statements, wal, started, watcher })
    }

    /// Finishes, once the system is quiet again after `arrivals` were sent, warm-up included. A failure to read is
    /// among the evidence's problems: the measurement is not lost with it.
    pub fn finish(mut self, arrivals: u64) -> Evidence {
        let watched = self.watcher.finish();
        let mut problems = watched.problems;
        let mut note = |error: &Error| problems.push(error.what().to_owned());
        let wal = wal_position(&mut self.client).inspect_err(&mut note);
        let statements = self.statements.and_then(|(view, before)| {
            let after = view.read(&mut self.client)?;
            match after.counts_since(&before) {
                true => Ok(after.since(&before, arrivals)),
                false => Err(uncounted(&mut self.client)),
            }
        });
        if let Ok(started) = started(&mut self.client)
            && started != self.started
        {
            problems.push("PostgreSQL was restarted while it was watched".to_owned());
        }
        let statements = match statements {
            Ok((statements, doubts)) => {
                problems.extend(doubts);
                Known::Yes(statements)
            }
            Err(error) => error.into(),
        };
        Evidence {
            arrivals,
            settings: self.settings,
            statements: Some(statements),
            wal_bytes: wal.ok().and_then(|now| now.checked_sub(self.wal)),
            window: watched.window,
            metrics: None,
            problems,
        }
    }
}

fn settings(client: &mut DatabaseClient) -> Result<BTreeMap<String, String>> {
    let sql = "SELECT name, current_setting(name, true) FROM unnest($1) AS name";
    let rows = client.query(sql, &[&SETTINGS.as_slice()]).context(|| "reading PostgreSQL's settings".to_owned())?;
    let pairs = rows.iter().map(|row| (row.get(0), row.get(1)));
    Ok(pairs.filter_map(|(name, value): (String, Option<String>)| Some((name, value?))).collect())
}

fn wal_position(client: &mut DatabaseClient) -> Result<u64> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
    let row = client.query_one(sql, &[]).context(|| "reading PostgreSQL's WAL position".to_owned())?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

fn started(client: &mut DatabaseClient) -> Result<String> {
    let sql = "SELECT extract(epoch FROM pg_postmaster_start_time())::text";
    Ok(client.query_one(sql, &[]).context(|| "reading when PostgreSQL was started".to_owned())?.get(0))
}
