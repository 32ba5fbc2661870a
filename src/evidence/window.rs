//! The measured window: PostgreSQL's cumulative statistics at its edges, and the activity of its backends each second.
//!
//! The statistics lag: a backend reports them at the end of a transaction and at most once a second, and the rest ten
//! seconds after it goes idle. Over a window of many seconds they are good as rates. PostgreSQL keeps no cumulative
//! count of waits for locks; the number of waiting backends is therefore sampled, which misses waits shorter than the
//! time between two samples.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::witness::QUERY_LIMIT;
use crate::database::{DatabaseClient, NAME, Row};
use crate::error::{Context, Result};
use crate::load::limits::spawn;
use crate::load::progress::{Progress, Stage};

/// The interval of the samples of backends.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// The database's statistics in the measured window. They include the witness's own query each second.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Window {
    /// The time from the first snapshot to the last, in seconds.
    pub seconds: f64,
    /// Growth of cumulative statistics, as far as this PostgreSQL has them. Those of checkpoints, WAL and `io_…` are of
    /// the whole cluster.
    pub counts: BTreeMap<Cow<'static, str>, Count>,
    /// The activity of the database's backends.
    pub activity: Activity,
}

/// The growth of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Count {
    /// In total.
    pub count: u64,
    /// Per second.
    pub per_s: f64,
}

/// The backends of the database, without this suite's.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Activity {
    /// The number of samples.
    pub samples: u64,
    /// Numbers of backends: `backends`, `active`, `idle_in_transaction`, and those of the active ones that waited, by
    /// PostgreSQL's type of wait, as `waiting_lock`.
    pub backends: BTreeMap<String, Gauge>,
    /// The samples in their order; empty in summaries from before they were kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<ActivitySample>,
}

/// The backends of the database at one moment, without this suite's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ActivitySample {
    /// The moment, in seconds from the beginning of the window.
    pub at_s: f64,
    /// Active backends.
    pub active: u64,
    /// Those among the active ones that waited, by PostgreSQL's type and name of the wait, as in `Lock transactionid`.
    pub waits: BTreeMap<String, u64>,
}

/// A number that rises and falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gauge {
    /// The mean of all samples.
    pub mean: f64,
    /// The highest sample.
    pub max: u64,
}

/// Name in the results, view and column of each counter. A view or column that this PostgreSQL lacks is left out.
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

/// The result of the watching thread.
#[derive(Default)]
pub(super) struct Watched {
    pub window: Option<Window>,
    pub problems: Vec<String>,
}

impl Watcher {
    /// Connects and starts the thread.
    pub(super) fn start(url: &str, progress: Arc<Progress>) -> Result<Self> {
        let mut sources = Sources::open(url)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = spawn("witness", move || watch(&mut sources, &progress, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops the thread and takes its result.
    pub(super) fn finish(mut self) -> Watched {
        self.stop();
        let watched = self.thread.take().map(JoinHandle::join);
        watched
            .and_then(Result::ok)
            .unwrap_or_else(|| Watched { window: None, problems: vec!["the witness's thread failed".to_owned()] })
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.iter().for_each(|running| running.thread().unpark());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for the window, samples it until it ends or `stop` is set, and computes the figures.
fn watch(sources: &mut Sources, progress: &Progress, stop: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    progress.unpark_at_changes();
    while progress.stage() != Stage::Measuring {
        if stop.load(Ordering::Relaxed) || progress.stage() == Stage::Draining {
            return watched;
        }
        thread::park();
    }
    let mut samples = Samples::default();
    let outcome = sources.snapshot().and_then(|(began, first)| {
        let mut next = began;
        while progress.stage() == Stage::Measuring && !stop.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                let groups = sources.activity()?;
                progress.observe_backends(samples.add(began.elapsed(), &groups));
                next = Instant::now() + SAMPLE_EVERY;
            }
            thread::park_timeout(next.saturating_duration_since(Instant::now()));
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

/// The session and query that the figures are read with.
struct Sources {
    client: DatabaseClient,
    snapshot_sql: String,
}

impl Sources {
    fn open(url: &str) -> Result<Self> {
        let mut client = DatabaseClient::open(url, "window")?.with_query_limit(QUERY_LIMIT);
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

    /// Counts the backends by state and type of wait.
    fn activity(&mut self) -> Result<Vec<BackendGroup>> {
        // A role that may not see a backend's activity does not see its type either; autovacuum workers belong to no
        // role.
        let sql = format!(
            "SELECT state, wait_event_type, wait_event, backend_type IS NULL, count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend' \
             AND usesysid IS NOT NULL AND coalesce(application_name, '') NOT LIKE '{NAME} %' GROUP BY 1, 2, 3, 4"
        );
        let rows = self.client.query(&sql, &[]).context(|| "sampling pg_stat_activity".to_owned())?;
        let group = |row: &Row| BackendGroup {
            state: row.get(0),
            wait: row.get(1),
            event: row.get(2),
            is_hidden: row.get(3),
            backends: row.get::<_, i64>(4).unsigned_abs(),
        };
        Ok(rows.iter().map(group).collect())
    }
}

/// Backends in the same state.
struct BackendGroup {
    /// `None` for a backend that is just starting.
    state: Option<String>,
    /// The type of the wait, if they wait.
    wait: Option<String>,
    /// Its name.
    event: Option<String>,
    /// True if this role may not see their activity.
    is_hidden: bool,
    backends: u64,
}

/// Samples of backends, summed.
#[derive(Default)]
struct Samples {
    count: u64,
    /// True if there were backends whose activity this role may not see.
    hides: bool,
    /// Sum and maximum, by name.
    levels: BTreeMap<String, (u64, u64)>,
    timeline: Vec<ActivitySample>,
}

impl Samples {
    /// Adds a sample from so long after the beginning, and returns its numbers of backends.
    fn add(&mut self, at: Duration, groups: &[BackendGroup]) -> BTreeMap<String, u64> {
        let mut sample: BTreeMap<String, u64> = BTreeMap::new();
        let mut waits = BTreeMap::new();
        let mut note = |name: &str, count: u64| *sample.entry(name.to_owned()).or_default() += count;
        for name in ["backends", "active", "idle_in_transaction", "waiting_lock"] {
            note(name, 0);
        }
        for BackendGroup { state, wait, event, is_hidden, backends: count } in groups {
            self.hides |= is_hidden;
            note("backends", *count);
            match state.as_deref() {
                Some("active") => {
                    note("active", *count);
                    if let Some(wait) = wait {
                        note(&format!("waiting_{}", wait.to_ascii_lowercase()), *count);
                        let name = [wait, event.as_deref().unwrap_or_default()].join(" ");
                        *waits.entry(name.trim_end().to_owned()).or_default() += *count;
                    }
                }
                Some(state) if state.starts_with("idle in transaction") => note("idle_in_transaction", *count),
                _ => {}
            }
        }
        self.count += 1;
        for (name, count) in &sample {
            let (sum, max) = self.levels.entry(name.clone()).or_default();
            *sum += count;
            *max = (*max).max(*count);
        }
        let at_s = (at.as_secs_f64() * 1e3).round() / 1e3;
        self.timeline.push(ActivitySample { at_s, active: sample["active"], waits });
        sample
    }

    fn sum_up(self) -> Activity {
        let levels = self.levels.into_iter();
        let mean = |sum: u64| sum as f64 / self.count as f64;
        let backends = levels.map(|(name, (sum, max))| (name, Gauge { mean: mean(sum), max })).collect();
        Activity { samples: self.count, backends, timeline: self.timeline }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starting_backend_has_no_state_and_hides_nothing() {
        let begins = BackendGroup { state: None, wait: None, event: None, is_hidden: false, backends: 1 };
        let mut samples = Samples::default();
        samples.add(Duration::ZERO, &[begins]);
        assert!(!samples.hides);
        let backends = samples.sum_up().backends;
        assert_eq!((backends["backends"].max, backends["active"].max), (1, 0));
    }

    #[test]
    fn each_sample_keeps_what_backends_waited_for() {
        let of = |state: &str, wait: Option<&str>, event: Option<&str>, backends| BackendGroup {
            state: Some(state.to_owned()),
            wait: wait.map(str::to_owned),
            event: event.map(str::to_owned),
            is_hidden: false,
            backends,
        };
        let mut samples = Samples::default();
        let shown = samples.add(
            Duration::from_millis(1_500),
            &[
                of("active", Some("Lock"), Some("transactionid"), 3),
                of("active", Some("IO"), Some("WalSync"), 1),
                of("active", None, None, 2),
                of("idle", Some("Client"), Some("ClientRead"), 7),
            ],
        );
        assert_eq!((shown["active"], shown["waiting_lock"], shown["waiting_io"]), (6, 3, 1));
        let waits = [("IO WalSync".to_owned(), 1), ("Lock transactionid".to_owned(), 3)].into();
        assert_eq!(samples.sum_up().timeline, [ActivitySample { at_s: 1.5, active: 6, waits }]);
    }
}
