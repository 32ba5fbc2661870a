//! Takes down what the database says about a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use postgres::Client;

use super::statements::{MARK, Snapshot, View};
use super::window::Watcher;
use super::{Evidence, Known};
use crate::error::{Context, Error, Result};
use crate::load::progress::Progress;
use crate::target::seed;

/// Settings that figures depend on.
const SETTINGS: [&str; 8] = [
    "server_version",
    "max_connections",
    "fsync",
    "synchronous_commit",
    "shared_buffers",
    "wal_level",
    "autovacuum",
    "track_io_timing",
];

/// Watches a target's database from one quiet moment to the next. Dropped, it stops.
///
/// Not for use inside an async runtime. Start it before the generator's thread raises its priority: the thread that it
/// starts inherits that.
pub struct Witness {
    client: Client,
    settings: BTreeMap<String, String>,
    statements: Result<(View, Snapshot)>,
    /// Where the next byte of WAL went.
    wal: u64,
    watcher: Watcher,
}

impl Witness {
    /// Begins, while the target is quiet. The measured window is what `progress` says it is.
    ///
    /// # Errors
    /// If the database cannot be asked. That it counts no statements is no error but in the evidence.
    pub fn start(url: &str, progress: Arc<Progress>) -> Result<Self> {
        let mut client = seed::connect(url)?;
        let watcher = Watcher::start(url, progress)?;
        let settings = settings(&mut client)?;
        let statements = View::find(&mut client).and_then(|view| {
            let snapshot = view.read(&mut client)?;
            Ok((view, snapshot))
        });
        let wal = wal_position(&mut client)?;
        Ok(Self { client, settings, statements, wal, watcher })
    }

    /// Ends, when the target is quiet again after `arrivals` were sent, warm-up included. What could not be read is
    /// among the evidence's problems: a measurement is not lost for want of evidence.
    pub fn finish(mut self, arrivals: u64) -> Evidence {
        let watched = self.watcher.finish();
        let mut problems = watched.problems;
        let mut note = |error: &Error| problems.push(error.what().to_owned());
        let wal = wal_position(&mut self.client).inspect_err(&mut note);
        let statements = self.statements.and_then(|(view, before)| {
            let after = view.read(&mut self.client)?;
            Ok(after.since(&before, arrivals))
        });
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

fn settings(client: &mut Client) -> Result<BTreeMap<String, String>> {
    let sql = format!("SELECT {MARK} current_setting($1)");
    let read = |name: &str| {
        let row = client.query_one(&sql, &[&name]).context(|| format!("reading PostgreSQL's setting {name}"))?;
        Ok((name.to_owned(), row.get(0)))
    };
    SETTINGS.into_iter().map(read).collect()
}

fn wal_position(client: &mut Client) -> Result<u64> {
    let sql = format!("SELECT {MARK} pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8");
    let row = client.query_one(&sql, &[]).context(|| "reading PostgreSQL's WAL position".to_owned())?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}
