//! Statement counts: `pg_stat_statements` of one database, before and after.

use std::collections::HashMap;

use postgres::Client;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// How many statements are kept apart.
const KEPT: usize = 20;
/// Stands in every statement of the witness, behind its first word: PostgreSQL 18 drops a comment in front.
pub(super) const MARK: &str = "/* certctl-bench */";

/// The statements of a database between two moments, but for the witness's own. Statements within functions and
/// triggers count as part of the one that called them.
#[derive(Debug, Deserialize, Serialize)]
pub struct Statements {
    /// Everything together.
    pub total: Cost,
    /// The same by arrival; absent without arrivals.
    pub per_arrival: Option<PerArrival>,
    /// Those with the most calls.
    pub most_called: Vec<Statement>,
    /// How many different statements there were.
    pub different: usize,
}

/// One statement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Statement {
    /// What it does to which tables, such as `UPDATE agents`: enough to know it by, and none of the text, which is the
    /// system's own. Two statements may share it.
    pub outline: String,
    /// What it cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What statements cost the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Cost {
    /// How often they were executed.
    pub calls: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Execution time, waits for locks included, in milliseconds.
    pub execution_ms: f64,
    /// Bytes of WAL. The first change of a page after a checkpoint adds the page itself.
    pub wal_bytes: u64,
    /// WAL records.
    pub wal_records: u64,
    /// Whole pages among them.
    pub wal_full_page_images: u64,
    /// Blocks found in shared buffers.
    pub shared_blocks_hit: u64,
    /// Blocks that had to be read.
    pub shared_blocks_read: u64,
    /// Blocks made dirty.
    pub shared_blocks_dirtied: u64,
}

/// [`Cost`] by arrival.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
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
    /// Calls of statements that this role may not see.
    hidden_calls: u64,
    /// Changes when counters were lost: entries pushed out, or a reset.
    epoch: String,
}

/// User, database (implied), query and whether a client sent it itself.
type Key = (u32, i64, bool);

/// Finds out whether a database's statements are counted, and may be seen.
///
/// # Errors
/// If not; with what mends that.
pub fn statement_statistics(client: &mut Client) -> Result<()> {
    let snapshot = View::find(client)?.read(client)?;
    if snapshot.hidden_calls > 0 {
        return Err(Error::new("pg_stat_statements hides statements of other roles")
            .mend("GRANT pg_read_all_stats to the database URL's user, unless it is certctl's own"));
    }
    Ok(())
}

/// The schema of the view, once it is known to be there.
pub(super) struct View(String);

impl View {
    /// Looks for the extension in the database.
    ///
    /// # Errors
    /// If the database has none, which only its owner can mend.
    pub(super) fn find(client: &mut Client) -> Result<Self> {
        let sql = format!(
            "SELECT {MARK} quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
             WHERE e.extname = 'pg_stat_statements'"
        );
        let found = client.query_opt(&sql, &[]).context(|| "looking for pg_stat_statements".to_owned())?;
        found.map(|row| Self(row.get(0))).ok_or_else(|| {
            Error::new("the database does not have the extension pg_stat_statements").mend(
                "start PostgreSQL with shared_preload_libraries=pg_stat_statements, then CREATE EXTENSION \
                 pg_stat_statements in certctl's database as a superuser",
            )
        })
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// If the library is not loaded or the extension is too old.
    pub(super) fn read(&self, client: &mut Client) -> Result<Snapshot> {
        let reading = || "reading pg_stat_statements".to_owned();
        let mend = "set shared_preload_libraries=pg_stat_statements and restart PostgreSQL; ALTER EXTENSION \
                    pg_stat_statements UPDATE mends an old one";
        let Self(schema) = self;
        let sql =
            format!("SELECT {MARK} dealloc::text || ' ' || stats_reset::text FROM {schema}.pg_stat_statements_info");
        let epoch = client.query_one(&sql, &[]).context(reading).map_err(|error| error.mend(mend))?.get(0);
        let sql = format!(
            "SELECT {MARK} userid, queryid, toplevel, query, calls, rows, total_exec_time, wal_bytes::int8, wal_records, \
             wal_fpi, shared_blks_hit, shared_blks_read, shared_blks_dirtied FROM {schema}.pg_stat_statements \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        let rows = client.query(&sql, &[]).context(reading).map_err(|error| error.mend(mend))?;
        let mut snapshot = Snapshot { entries: HashMap::new(), hidden_calls: 0, epoch };
        for row in rows {
            let count = |column: usize| row.get::<_, i64>(column).max(0) as u64;
            let cost = Cost {
                calls: count(4),
                rows: count(5),
                execution_ms: row.get(6),
                wal_bytes: count(7),
                wal_records: count(8),
                wal_full_page_images: count(9),
                shared_blocks_hit: count(10),
                shared_blocks_read: count(11),
                shared_blocks_dirtied: count(12),
            };
            let text: Option<String> = row.get(3);
            match row.get::<_, Option<i64>>(1) {
                // Another role's, and we may not see it.
                None => snapshot.hidden_calls += cost.calls,
                Some(_) if text.as_deref().is_some_and(|text| text.contains(MARK)) => {}
                Some(query) => {
                    let outline = outline(text.as_deref().unwrap_or("(lost)"));
                    snapshot.entries.insert((row.get(0), query, row.get(2)), (outline, cost));
                }
            }
        }
        Ok(snapshot)
    }
}

impl Snapshot {
    /// What was executed between `before` and this, and what makes that doubtful.
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
        executed.truncate(KEPT);
        let per_arrival = PerArrival::of(&total, arrivals);
        (Statements { total, per_arrival, most_called: executed, different }, problems)
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
        // Fewer than before: the entry was lost and made anew.
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

/// The first word of a statement, and the tables that it names, each once, in their order.
fn outline(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
    let verb = words.first().map_or("", String::as_str).trim_end_matches(';').to_ascii_uppercase();
    let mut tables: Vec<&str> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| &words[index]);
        let names_one = match word.as_str() {
            "join" | "into" => true,
            // Not IS DISTINCT FROM a value.
            "from" => before != "distinct",
            // Neither FOR UPDATE nor DO UPDATE.
            "update" => !matches!(before, "for" | "do" | "key"),
            _ => false,
        };
        let Some(name) = words.get(index + 1).filter(|_| names_one) else { continue };
        let name = name.trim_end_matches([',', ';', ')']);
        // Not a subquery, nor a function.
        let is_table = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !name.contains('(');
        if is_table && !matches!(name, "only" | "lateral") && !tables.contains(&name) {
            tables.push(name);
        }
    }
    format!("{verb} {}", tables.join(", ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_is_verb_and_tables() {
        for (text, expected) in [
            ("SELECT a FROM x WHERE a = $1", "SELECT x"),
            ("select a from (SELECT b\n FROM x JOIN y ON x.i = y.i) t where b is not distinct from c", "SELECT x, y"),
            ("UPDATE x SET a = $1 FROM y WHERE EXTRACT(EPOCH FROM now()) > $2", "UPDATE x, y"),
            ("SELECT * FROM x WHERE i IN (SELECT i FROM y) FOR UPDATE SKIP LOCKED", "SELECT x, y"),
            ("INSERT INTO x (a) VALUES ($1) ON CONFLICT (a) DO UPDATE SET a = $1", "INSERT x"),
            ("DELETE FROM x;", "DELETE x"),
            ("BEGIN;", "BEGIN"),
            ("", ""),
        ] {
            assert_eq!(outline(text), expected, "{text}");
        }
    }
}
