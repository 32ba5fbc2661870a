//! Statement counts: the difference of two readings of `pg_stat_statements` for one database.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::database::{DatabaseClient, Failure, MARK, SqlState, outline};
use crate::error::{Context, Error, Result};

/// The most statements that are listed singly.
const KEPT: usize = 20;

/// The statements of a database between two moments, without this suite's. Statements within functions and triggers
/// count as part of the calling statement, also where `pg_stat_statements.track` is `all`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Statements {
    /// The cost of all statements.
    pub total: Cost,
    /// The same per arrival; absent without arrivals.
    pub per_arrival: Option<PerArrival>,
    /// The statements with the most calls.
    pub most_called: Vec<Statement>,
    /// All of them, most called first; not part of results.
    #[serde(skip)]
    pub all: Vec<Statement>,
    /// The number of different statements.
    pub different: usize,
}

/// One statement.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Statement {
    /// Its verb and tables, such as `UPDATE agents`: enough to recognise it, without its text, which belongs to the
    /// system. Two statements may share an outline.
    pub outline: String,
    /// Its cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// The cost of statements to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cost {
    /// The number of executions.
    pub calls: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Execution time, waits for locks included, in milliseconds.
    pub execution_ms: f64,
    /// Bytes of WAL. The first change of a page after a checkpoint adds the whole page.
    pub wal_bytes: u64,
    /// WAL records.
    pub wal_records: u64,
    /// Whole pages among them.
    pub wal_full_page_images: u64,
    /// Blocks found in shared buffers.
    pub shared_blocks_hit: u64,
    /// Blocks read from outside of shared buffers.
    pub shared_blocks_read: u64,
    /// Blocks that were dirtied.
    pub shared_blocks_dirtied: u64,
}

/// [`Cost`] per arrival.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PerArrival {
    /// Statements.
    pub calls: f64,
    /// Rows returned or changed.
    pub rows: f64,
    /// Bytes of WAL.
    pub wal_bytes: f64,
}

/// The counters at one moment.
pub(super) struct Snapshot {
    entries: HashMap<Key, (String, Cost)>,
    /// Calls of statements whose text this role may not see.
    hidden_calls: u64,
    /// Calls of this suite's queries: at least one more in each snapshot than in the one before.
    own_calls: u64,
    /// Calls of statements whose text is lost, which may be this suite's.
    nameless_calls: u64,
    /// A text that changes when counters are lost, by eviction of entries or a reset.
    epoch: String,
}

/// The ids of user and query; the database is implied.
type Key = (u32, i64);

/// The settings that switch the counting, each with the value that switches it off.
const COUNTING: [(&str, &str); 2] = [("compute_query_id", "off"), ("pg_stat_statements.track", "none")];

/// Checks that a database's statements are counted, and may be read.
///
/// # Errors
/// If not, with the fix.
pub fn statement_statistics(client: &mut DatabaseClient) -> Result<()> {
    let view = View::find(client)?;
    let before = view.read(client)?;
    let snapshot = view.read(client)?;
    if snapshot.own_calls <= before.own_calls {
        return Err(uncounted(client));
    }
    if snapshot.hidden_calls > 0 {
        return Err(Error::new("pg_stat_statements hides statements of other roles")
            .with_hint("GRANT pg_read_all_stats to the database URL's user, unless it is certctl's own"));
    }
    Ok(())
}

/// Creates the error for statements that are not counted, with the reason.
pub(super) fn uncounted(client: &mut DatabaseClient) -> Error {
    let names = COUNTING.map(|(name, _)| format!("'{name}'")).join(", ");
    let sql = format!("SELECT name, setting FROM pg_settings WHERE name IN ({names}) ORDER BY name");
    let settings: Vec<(String, String)> = match client.query(&sql, &[]) {
        Ok(rows) => rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        Err(_) => Vec::new(),
    };
    let guilty = settings.iter().find(|(name, value)| COUNTING.contains(&(name, value)));
    match guilty {
        Some((name, value)) => {
            Error::new(format!("pg_stat_statements counts nothing: {name} is {value}")).with_hint(match &**name {
                "compute_query_id" => "set compute_query_id to auto and reload PostgreSQL",
                _ => "set pg_stat_statements.track to top and reload PostgreSQL",
            })
        }
        None => {
            let values =
                settings.iter().map(|(name, value)| format!("{name} is {value}")).collect::<Vec<_>>().join(", ");
            Error::new(format!("pg_stat_statements does not count this suite's own queries ({values})"))
                .with_hint("set compute_query_id to auto and pg_stat_statements.track to top, and reload PostgreSQL")
        }
    }
}

/// Checks that no role, nor this database, has a setting that exempts it from the counting.
fn exempt(client: &mut DatabaseClient) -> Result<()> {
    let sql = "SELECT coalesce(setrole::regrole::text, '-'), setting FROM pg_db_role_setting, unnest(setconfig) AS setting \
               WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1, 2";
    let rows = client.query(sql, &[]).context(|| "reading the settings of roles".to_owned())?;
    for row in rows {
        let (role, setting): (String, String) = (row.get(0), row.get(1));
        if COUNTING.iter().any(|(name, nothing)| setting == format!("{name}={nothing}")) {
            let (owner, hint) = match &*role {
                "-" => ("the database".to_owned(), "ALTER DATABASE … RESET".to_owned()),
                role => (format!("the role {role}"), format!("ALTER ROLE {role} RESET")),
            };
            let name = setting.split('=').next().unwrap_or_default();
            return Err(Error::new(format!(
                "pg_stat_statements does not count everything: {owner} is set to {setting}"
            ))
            .with_hint(format!("{hint} {name}, then start certctl again")));
        }
    }
    Ok(())
}

/// The schema of the view, after the check that the extension exists.
pub(super) struct View(String);

impl View {
    /// Looks for the extension in the database.
    ///
    /// # Errors
    /// If the database does not have it, which only its administrator can fix, or exempts a role from the counting.
    pub(super) fn find(client: &mut DatabaseClient) -> Result<Self> {
        let sql = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
                   WHERE e.extname = 'pg_stat_statements'";
        let found = client.query_opt(sql, &[]).context(|| "looking for pg_stat_statements".to_owned())?;
        let view = found.map(|row| Self(row.get(0))).ok_or_else(|| {
            Error::new("the database does not have the extension pg_stat_statements").with_hint(
                "start PostgreSQL with shared_preload_libraries=pg_stat_statements, then CREATE EXTENSION \
                 pg_stat_statements in certctl's database as a superuser",
            )
        })?;
        exempt(client)?;
        Ok(view)
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// If the library is not loaded, the extension is too old, or the role has no permission.
    pub(super) fn read(&self, client: &mut DatabaseClient) -> Result<Snapshot> {
        let Self(schema) = self;
        let failed = |failure: Failure| {
            let hint = match failure.code() {
                Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!(
                    "GRANT USAGE ON SCHEMA {schema}, and SELECT ON {schema}.pg_stat_statements and \
                     {schema}.pg_stat_statements_info, to the database URL's user"
                ),
                Some(code) if *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => {
                    "set shared_preload_libraries=pg_stat_statements and restart PostgreSQL".to_owned()
                }
                Some(code) if [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE].contains(code) => {
                    "the extension is of an older PostgreSQL: ALTER EXTENSION pg_stat_statements UPDATE".to_owned()
                }
                _ => return Error::new(format!("reading pg_stat_statements: {failure}")),
            };
            Error::new(format!("reading pg_stat_statements: {failure}")).with_hint(hint)
        };
        let sql = format!(
            "SELECT dealloc::text || ' ' || extract(epoch FROM stats_reset)::text FROM {schema}.pg_stat_statements_info"
        );
        let epoch = client.query_one(&sql, &[]).map_err(failed)?.get(0);
        // A statement within another is part of the other's cost already.
        let sql = format!(
            "SELECT userid, queryid, query, calls, rows, total_exec_time, wal_bytes::int8, wal_records, wal_fpi, \
             shared_blks_hit, shared_blks_read, shared_blks_dirtied FROM {schema}.pg_stat_statements \
             WHERE toplevel AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        let rows = client.query(&sql, &[]).map_err(failed)?;
        let mut snapshot =
            Snapshot { entries: HashMap::new(), hidden_calls: 0, own_calls: 0, nameless_calls: 0, epoch };
        for row in rows {
            let count = |column: usize| row.get::<_, i64>(column).max(0) as u64;
            let cost = Cost {
                calls: count(3),
                rows: count(4),
                execution_ms: row.get(5),
                wal_bytes: count(6),
                wal_records: count(7),
                wal_full_page_images: count(8),
                shared_blocks_hit: count(9),
                shared_blocks_read: count(10),
                shared_blocks_dirtied: count(11),
            };
            // In a database without an encoding it may not be valid text.
            let text: Option<String> = row.try_get(2).unwrap_or_default();
            let outline = match (row.get::<_, Option<i64>>(1), &text) {
                // It belongs to another role, and this one may not see it.
                (None, _) => {
                    snapshot.hidden_calls += cost.calls;
                    continue;
                }
                (Some(_), Some(text)) if text.contains(MARK) => {
                    snapshot.own_calls += cost.calls;
                    continue;
                }
                (Some(_), Some(text)) => outline(text),
                (Some(_), None) => {
                    snapshot.nameless_calls += cost.calls;
                    "(lost)".to_owned()
                }
            };
            if let Some(query) = row.get(1) {
                snapshot.entries.insert((row.get(0), query), (outline, cost));
            }
        }
        Ok(snapshot)
    }
}

impl Snapshot {
    /// Reports whether this suite's queries since `before` were counted, as they are if any are.
    pub(super) fn counts_since(&self, before: &Self) -> bool {
        self.epoch != before.epoch || self.own_calls > before.own_calls
    }

    /// Returns the statements between `before` and this snapshot, and the reasons to doubt them.
    pub(super) fn since(self, before: &Self, arrivals: u64) -> (Statements, Vec<String>) {
        let mut problems = Vec::new();
        if self.epoch != before.epoch {
            problems.push(
                "pg_stat_statements lost counters (reset, or more statements than pg_stat_statements.max)".to_owned(),
            );
        }
        if self.hidden_calls != before.hidden_calls {
            problems.push(format!(
                "pg_stat_statements hides statements of other roles (calls: {}); GRANT pg_read_all_stats to the \
                 database URL's user",
                self.hidden_calls.abs_diff(before.hidden_calls)
            ));
        }
        if self.nameless_calls != before.nameless_calls {
            problems
                .push("pg_stat_statements lost the texts of statements: this suite's own may be counted".to_owned());
        }
        let shrunk = |(key, (_, earlier)): (&Key, &(String, Cost))| {
            self.entries.get(key).is_none_or(|(_, now)| now.calls < earlier.calls)
        };
        if self.epoch == before.epoch && before.entries.iter().any(shrunk) {
            problems.push("pg_stat_statements lost counters: some were reset".to_owned());
        }
        let mut executed: Vec<Statement> = self
            .entries
            .into_iter()
            .map(|(key, (outline, cost))| {
                let earlier = before.entries.get(&key).map_or_else(Cost::default, |(_, cost)| *cost);
                Statement { outline, cost: cost.since(&earlier) }
            })
            .filter(|statement| statement.cost.calls > 0)
            .collect();
        executed.sort_by(|a, b| b.cost.calls.cmp(&a.cost.calls).then_with(|| a.outline.cmp(&b.outline)));
        let total = executed.iter().fold(Cost::default(), |total, statement| total.plus(&statement.cost));
        let different = executed.len();
        let per_arrival = PerArrival::of(&total, arrivals);
        let most_called = executed.iter().take(KEPT).cloned().collect();
        (Statements { total, per_arrival, most_called, all: executed, different }, problems)
    }
}

impl PerArrival {
    fn of(total: &Cost, arrivals: u64) -> Option<Self> {
        let by_arrival = |count: u64| count as f64 / arrivals as f64;
        (arrivals > 0).then(|| Self {
            calls: by_arrival(total.calls),
            rows: by_arrival(total.rows),
            wal_bytes: by_arrival(total.wal_bytes),
        })
    }
}

impl Cost {
    fn since(&self, earlier: &Self) -> Self {
        // Fewer calls than before: the entry was evicted and created anew.
        if self.calls < earlier.calls {
            return *self;
        }
        self.with(earlier, u64::saturating_sub, self.execution_ms - earlier.execution_ms)
    }

    fn plus(&self, other: &Self) -> Self {
        self.with(other, |a, b| a + b, self.execution_ms + other.execution_ms)
    }

    fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64, execution_ms: f64) -> Self {
        Self {
            calls: combine(self.calls, other.calls),
            rows: combine(self.rows, other.rows),
            execution_ms,
            wal_bytes: combine(self.wal_bytes, other.wal_bytes),
            wal_records: combine(self.wal_records, other.wal_records),
            wal_full_page_images: combine(self.wal_full_page_images, other.wal_full_page_images),
            shared_blocks_hit: combine(self.shared_blocks_hit, other.shared_blocks_hit),
            shared_blocks_read: combine(self.shared_blocks_read, other.shared_blocks_read),
            shared_blocks_dirtied: combine(self.shared_blocks_dirtied, other.shared_blocks_dirtied),
        }
    }
}
