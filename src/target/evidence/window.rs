//! The measured window: PostgreSQL's cumulative statistics at its edges, and what its backends do, second by second.
//!
//! The statistics lag: a backend reports at the end of a transaction and at most once a second, and what it still has
//! when it falls silent ten seconds later. Over a window of many seconds they are good as rates. PostgreSQL keeps no cumulative count of waits for locks; how many backends wait is
//! therefore sampled, which misses waits shorter than the time between two samples.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::witness::QUERY_LIMIT;
use crate::database::{Client, NAME, Row};
use crate::error::{Context, Result};
use crate::load::limits::spawn;
use crate::load::progress::{Progress, Stage};

/// How soon an edge of the window is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often backends are looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// The database in the measured window. Its figures include the witness's own query a second.
#[derive(Debug, Deserialize, Serialize)]
pub struct Window {
    /// From the first snapshot to the last, in seconds.
    pub seconds: f64,
    /// Cumulative statistics, as far as this PostgreSQL has them. Those of checkpoints, WAL and `io_…` are the whole
    /// cluster's.
    pub counts: BTreeMap<Cow<'static, str>, Count>,
    /// What the database's backends were doing.
    pub activity: Activity,
}

/// How much a counter grew.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Count {
    /// In all.
    pub count: u64,
    /// By second.
    pub per_s: f64,
}

/// Backends of the database, ours aside.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Activity {
    /// How often they were looked at.
    pub samples: u64,
    /// How many there were: `backends`, `active`, `idle_in_transaction`, and among the active those that waited, as in
    /// `waiting_lock`, by PostgreSQL's types of wait.
    pub backends: BTreeMap<String, Level>,
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Level {
    /// Over all samples.
    pub mean: f64,
    /// The highest sample.
    pub max: u64,
}

/// Our name, the view's and the column's. A view or column that this PostgreSQL does not have is passed over.
#[rustfmt::skip]
const COUNTERS: [(&str, &str, &str); 27] = [
    ("commits", "database", "xact_commit"),
    ("rollbacks", "database", "xact_rollback"),
    ("rows_inserted", "database", "tup_inserted"),
    ("rows_updated", "database", "tup_updated"),
    ("rows_deleted", "database", "tup_deleted"),
    ("rows_returned", "database", "tup_returned"),
    ("rows_fetched", "database", "tup_fetched"),
    ("blocks_read", "database", "blks_read"),
    ("blocks_hit", "database", "blks_hit"),
    ("deadlocks", "database", "deadlocks"),
    ("conflicts", "database", "conflicts"),
    ("temp_bytes", "database", "temp_bytes"),
    ("wal_records", "wal", "wal_records"),
    ("wal_full_page_images", "wal", "wal_fpi"),
    ("wal_bytes", "wal", "wal_bytes"),
    ("wal_buffers_full", "wal", "wal_buffers_full"),
    ("wal_writes", "wal", "wal_write"),
    ("wal_syncs", "wal", "wal_sync"),
    ("io_reads", "io", "reads"),
    ("io_writes", "io", "writes"),
    ("io_extends", "io", "extends"),
    ("io_fsyncs", "io", "fsyncs"),
    ("checkpoints_timed", "checkpointer", "num_timed"),
    ("checkpoints_requested", "checkpointer", "num_requested"),
    // Up to PostgreSQL 16.
    ("checkpoints_timed", "bgwriter", "checkpoints_timed"),
    ("checkpoints_requested", "bgwriter", "checkpoints_req"),
    ("backend_buffer_writes", "bgwriter", "buffers_backend"),
];

/// Watches a run from a thread and a connection of its own.
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Watched>>,
}

/// What the thread brings home.
#[derive(Default)]
pub(super) struct Watched {
    pub window: Option<Window>,
    pub problems: Vec<String>,
}

impl Watcher {
    /// Connects and begins to look.
    pub(super) fn start(url: &str, progress: Arc<Progress>) -> Result<Self> {
        let mut sources = Sources::open(url)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = spawn("witness", move || watch(&mut sources, &progress, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the thread and takes what it has seen.
    pub(super) fn finish(mut self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        let watched = self.thread.take().map(JoinHandle::join);
        watched.and_then(Result::ok).unwrap_or_else(|| Watched {
            window: None,
            problems: vec!["the witness's thread came to grief".to_owned()],
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits for the window, samples it until it ends or `stop` is set, and sums it up.
fn watch(sources: &mut Sources, progress: &Progress, stop: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    while progress.stage() != Stage::Measuring {
        if stop.load(Ordering::Relaxed) || progress.stage() == Stage::Draining {
            return watched;
        }
        thread::sleep(LOOK_EVERY);
    }
    let mut samples = Samples::default();
    let outcome = sources.snapshot().and_then(|(began, first)| {
        let mut next = began;
        while progress.stage() == Stage::Measuring && !stop.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                samples.add(&sources.activity()?);
                next = Instant::now() + SAMPLE_EVERY;
            }
            thread::sleep(LOOK_EVERY);
        }
        let (ended, last) = sources.snapshot()?;
        Ok((ended - began, first, last))
    });
    match outcome {
        Ok((span, first, last)) => {
            let seconds = span.as_secs_f64();
            let counts = counts_between(&first, &last, seconds, &mut watched.problems);
            watched.problems.extend(samples.hides.then(|| {
                "pg_stat_activity hides what other roles' backends do; GRANT pg_read_all_stats to the database URL's \
                 user"
                    .to_owned()
            }));
            watched.window = Some(Window { seconds, counts, activity: samples.sum_up() });
        }
        Err(error) => watched.problems.push(format!("the measured window: {}", error.what())),
    }
    watched
}

fn counts_between(
    first: &Value,
    last: &Value,
    seconds: f64,
    problems: &mut Vec<String>,
) -> BTreeMap<Cow<'static, str>, Count> {
    let mut counts = BTreeMap::new();
    for (name, view, column) in COUNTERS {
        let at = |snapshot: &Value| snapshot[view][column].as_u64();
        let (Some(before), Some(after)) = (at(first), at(last)) else { continue };
        match after.checked_sub(before) {
            Some(count) => {
                counts.insert(name.into(), Count { count, per_s: count as f64 / seconds });
            }
            None => problems.push(format!("pg_stat_{view}.{column} was reset in the measured window")),
        }
    }
    counts
}

/// Where the figures come from.
struct Sources {
    client: Client,
    snapshot_sql: String,
}

impl Sources {
    fn open(url: &str) -> Result<Self> {
        let mut client = Client::open(url, "window")?.with_query_limit(QUERY_LIMIT);
        let mut parts = vec![
            "'database', (SELECT row_to_json(v) FROM pg_stat_database v WHERE datname = current_database())".to_owned(),
        ];
        for (key, select) in [
            ("wal", "SELECT row_to_json(v) FROM pg_stat_wal v"),
            ("bgwriter", "SELECT row_to_json(v) FROM pg_stat_bgwriter v"),
            ("checkpointer", "SELECT row_to_json(v) FROM pg_stat_checkpointer v"),
            (
                "io",
                "SELECT json_build_object('reads', sum(reads), 'writes', sum(writes), 'extends', sum(extends), \
                 'fsyncs', sum(fsyncs)) FROM pg_stat_io WHERE object <> 'wal'",
            ),
        ] {
            let there = format!("SELECT to_regclass('pg_catalog.pg_stat_{key}') IS NOT NULL");
            if client.query_one(&there, &[]).context(|| format!("looking for pg_stat_{key}"))?.get(0) {
                parts.push(format!("'{key}', ({select})"));
            }
        }
        Ok(Self { client, snapshot_sql: format!("SELECT json_build_object({})::text", parts.join(", ")) })
    }

    fn snapshot(&mut self) -> Result<(Instant, Value)> {
        let reading = || "reading PostgreSQL's statistics".to_owned();
        let text: String = self.client.query_one(&self.snapshot_sql, &[]).context(reading)?.get(0);
        Ok((Instant::now(), serde_json::from_str(&text).context(reading)?))
    }

    /// How many backends there are, by state and type of wait.
    fn activity(&mut self) -> Result<Vec<Group>> {
        // Whoever may not see what a backend does is not told its type either; autovacuum's belong to no role.
        let sql = format!(
            "SELECT state, wait_event_type, backend_type IS NULL, count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend' \
             AND usesysid IS NOT NULL AND coalesce(application_name, '') NOT LIKE '{NAME} %' GROUP BY 1, 2, 3"
        );
        let rows = self.client.query(&sql, &[]).context(|| "sampling pg_stat_activity".to_owned())?;
        let group = |row: &Row| Group {
            state: row.get(0),
            wait: row.get(1),
            is_hidden: row.get(2),
            backends: row.get::<_, i64>(3).unsigned_abs(),
        };
        Ok(rows.iter().map(group).collect())
    }
}

/// Backends that do the same.
struct Group {
    /// None of those that only just begin.
    state: Option<String>,
    /// The type of what they wait for.
    wait: Option<String>,
    /// Whether what they do is kept from us.
    is_hidden: bool,
    backends: u64,
}

/// Samples of backends, summed.
#[derive(Default)]
struct Samples {
    count: u64,
    /// Whether there were backends of which we may not see what they do.
    hides: bool,
    /// Sum and maximum.
    levels: BTreeMap<String, (u64, u64)>,
}

impl Samples {
    fn add(&mut self, groups: &[Group]) {
        let mut sample: BTreeMap<String, u64> = BTreeMap::new();
        let mut note = |name: &str, count: u64| *sample.entry(name.to_owned()).or_default() += count;
        for name in ["backends", "active", "idle_in_transaction", "waiting_lock"] {
            note(name, 0);
        }
        for Group { state, wait, is_hidden, backends: count } in groups {
            self.hides |= is_hidden;
            note("backends", *count);
            match state.as_deref() {
                Some("active") => {
                    note("active", *count);
                    if let Some(wait) = wait {
                        note(&format!("waiting_{}", wait.to_ascii_lowercase()), *count);
                    }
                }
                Some(state) if state.starts_with("idle in transaction") => note("idle_in_transaction", *count),
                _ => {}
            }
        }
        self.count += 1;
        for (name, count) in sample {
            let (sum, max) = self.levels.entry(name).or_default();
            *sum += count;
            *max = (*max).max(count);
        }
    }

    fn sum_up(self) -> Activity {
        let levels = self.levels.into_iter();
        let mean = |sum: u64| sum as f64 / self.count as f64;
        let backends = levels.map(|(name, (sum, max))| (name, Level { mean: mean(sum), max })).collect();
        Activity { samples: self.count, backends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_only_just_begins_has_no_state_and_hides_nothing() {
        let begins = Group { state: None, wait: None, is_hidden: false, backends: 1 };
        let mut samples = Samples::default();
        samples.add(&[begins]);
        assert!(!samples.hides);
        let backends = samples.sum_up().backends;
        assert_eq!((backends["backends"].max, backends["active"].max), (1, 0));
    }
}
