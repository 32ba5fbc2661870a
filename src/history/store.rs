//! The database: a file of SQLite with the whole summary of each run, and the columns that a list shows.
//!
//! It has a rollback journal and no write-ahead log: a run writes once, at its end, and the file then is all there is.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::baseline::source;
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::foreign;
use crate::summary::{Summary, Verdict};
use crate::system::hex;

/// The schema's version, the database's `user_version`: raised whenever a reader of the last version could misread
/// this one.
const VERSION: i32 = 1;
/// The database's `application_id`: "cctb".
const APPLICATION: i32 = 0x6363_7462;
const SCHEMA: &str = "
    CREATE TABLE runs (
        id TEXT NOT NULL PRIMARY KEY,
        finished_at TEXT NOT NULL,
        scenario TEXT NOT NULL,
        verdict TEXT NOT NULL,
        p50_us REAL,
        p99_us REAL,
        suite_commit TEXT NOT NULL,
        system TEXT NOT NULL,
        machine TEXT NOT NULL,
        summary BLOB NOT NULL
    ) STRICT;
    CREATE INDEX runs_by_time ON runs (finished_at);
";
const COLUMNS: &str = "id, finished_at, scenario, verdict, p50_us, p99_us, suite_commit, system, machine";
/// The longest wait for another process that writes the file.
const PATIENCE: Duration = Duration::from_secs(5);
/// The digits of an id, and of the beginning of one that a list shows.
const ID_DIGITS: usize = 32;
const SHORT_DIGITS: usize = 8;
/// The most ids that an error names.
const NAMED: usize = 4;

/// The runs that were made here.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    file: PathBuf,
}

/// A run of the history, as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptRun {
    /// Its id in the history, 32 hexadecimal digits.
    pub id: String,
    /// The second of its end, RFC 3339, UTC.
    pub finished_at: String,
    /// The scenario.
    pub scenario: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// The median response time of its first workload, in microseconds; absent where there are too few samples.
    pub p50_us: Option<f64>,
    /// The 99th percentile, likewise.
    pub p99_us: Option<f64>,
    /// The suite's commit.
    pub commit: String,
    /// Kind and version of the system.
    pub system: String,
    /// The machine of the generator.
    pub machine: String,
}

/// The state of a file of SQLite.
enum State {
    /// Nothing is in it yet.
    Empty,
    /// It is a history of this version.
    Ready,
}

impl History {
    /// Opens the history `file`, and makes it where there is none, with its folder.
    ///
    /// # Errors
    /// If it cannot be written, is damaged, another program's, of a newer schema, or in use for too long.
    pub fn create(file: &Path) -> Result<Self> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).context(|| format!("making the folder {}", files::shown(folder)))?;
        }
        let mut history = Self::connect(file, OpenFlags::SQLITE_OPEN_CREATE)?;
        if let State::Empty = history.state()? {
            history.fill().map_err(|error| history.failed("writing", &error))?;
            // Another process may have filled it first, with whatever version.
            history.state()?;
        }
        Ok(history)
    }

    /// Opens the history `file`, in which runs are kept already.
    ///
    /// # Errors
    /// If there is none, or it is damaged, another program's, of a newer schema, or in use for too long.
    pub fn open(file: &Path) -> Result<Self> {
        let empty = || {
            Error::usage(format!("no run is kept in {}", files::shown(file))).with_hint(
                "run a bench target, import results with `certctl-bench runs import`, or name another file with \
                 --history",
            )
        };
        if !file.exists() {
            return Err(empty());
        }
        let history = Self::connect(file, OpenFlags::empty())?;
        match history.state()? {
            State::Empty => Err(empty()),
            State::Ready => Ok(history),
        }
    }

    fn connect(file: &Path, further: OpenFlags) -> Result<Self> {
        // Made absolute: SQLite takes some relative names, such as `:memory:`, for more than a file.
        let path = std::path::absolute(file).context(|| format!("finding {}", files::shown(file)))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | further;
        let failed = |error: rusqlite::Error| failed(file, "opening", &error);
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        // Anyone may have written the file: its schema calls nothing.
        connection.pragma_update(None, "trusted_schema", false).map_err(failed)?;
        Ok(Self { connection, file: file.to_owned() })
    }

    /// Checks whose file it is, and of which version.
    fn state(&self) -> Result<State> {
        let read = || -> rusqlite::Result<_> {
            let number = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
            let tables = "SELECT count(*) FROM sqlite_schema";
            let tables = self.connection.query_row(tables, [], |row| row.get::<_, i64>(0))?;
            Ok((number("application_id")?, number("user_version")?, tables))
        };
        let name = files::shown(&self.file);
        match read().map_err(|error| self.failed("reading", &error))? {
            (APPLICATION, VERSION, _) => Ok(State::Ready),
            (0, 0, 0) => Ok(State::Empty),
            (APPLICATION, version, _) => Err(Error::invalid(format!(
                "{name} has history schema {version}; this version of the suite reads {VERSION}"
            ))
            .with_hint("use the version of the suite that wrote it, or a later one, or another file with --history")),
            _ => Err(Error::usage(format!("{name} is another program's database, not a history of runs"))
                .with_hint("name another file with --history")),
        }
    }

    /// Makes the tables, in one transaction, unless another process has just made them.
    fn fill(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tables = "SELECT count(*) FROM sqlite_schema";
        if transaction.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()
    }

    /// Keeps a run, and returns its id, with true if it was not kept before, or by an older result: parts of shards may be
    /// merged again.
    ///
    /// # Errors
    /// If the file cannot be written, or is in use for too long.
    pub fn add(&mut self, summary: &Summary) -> Result<(String, bool)> {
        let json = summary.to_json()?;
        let run = KeptRun::of(summary, &json);
        let insert = format!(
            "INSERT INTO runs ({COLUMNS}, summary) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                              ON CONFLICT (id) DO UPDATE SET finished_at = excluded.finished_at, verdict = excluded.verdict, \
                              p50_us = excluded.p50_us, p99_us = excluded.p99_us, summary = excluded.summary \
                              WHERE runs.finished_at < excluded.finished_at"
        );
        let values = params![
            run.id,
            run.finished_at,
            run.scenario,
            run.verdict.label(),
            run.p50_us,
            run.p99_us,
            run.commit,
            run.system,
            run.machine,
            deflated(&json)?
        ];
        let added = self.connection.execute(&insert, values).map_err(|error| self.failed("writing", &error))?;
        Ok((run.id, added == 1))
    }

    /// Returns the runs, of all scenarios or of one, the newest first, at most `limit`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn list(&self, scenario: Option<&str>, limit: usize) -> Result<Vec<KeptRun>> {
        let select = format!(
            "SELECT {COLUMNS} FROM runs WHERE ?1 IS NULL OR scenario = ?1 ORDER BY finished_at DESC, rowid DESC LIMIT ?2"
        );
        let read = || -> rusqlite::Result<_> {
            let mut statement = self.connection.prepare(&select)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            statement.query_map(params![scenario, limit], KeptRun::read)?.collect()
        };
        read().map_err(|error| self.failed("reading", &error))
    }

    /// Returns the number of runs, of all scenarios or of one.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn count(&self, scenario: Option<&str>) -> Result<usize> {
        let select = "SELECT count(*) FROM runs WHERE ?1 IS NULL OR scenario = ?1";
        let count = self.connection.query_row(select, [scenario], |row| row.get::<_, i64>(0));
        // A count is not negative.
        count.map(|count| count as usize).map_err(|error| self.failed("reading", &error))
    }

    /// Returns the id that begins with `prefix`.
    ///
    /// # Errors
    /// If no id begins so, or several do, or the file cannot be read.
    pub fn find(&self, prefix: &str) -> Result<String> {
        let shown = foreign::line(prefix);
        if prefix.is_empty() || !prefix.chars().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Error::usage(format!("{shown:?} is not the id of a run"))
                .with_hint("give the hexadecimal digits that `certctl-bench runs` shows"));
        }
        let read = || -> rusqlite::Result<_> {
            let select = "SELECT id FROM runs WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT ?2";
            let mut statement = self.connection.prepare(select)?;
            let most = NAMED as i64 + 1;
            let ids = statement.query_map(params![prefix.to_ascii_lowercase(), most], |row| row.get(0))?;
            ids.collect::<rusqlite::Result<Vec<String>>>()
        };
        let mut ids = read().map_err(|error| self.failed("reading", &error))?;
        match ids.len() {
            0 => {
                Err(Error::usage(format!("no run in {} has an id that begins with {shown}", files::shown(&self.file)))
                    .with_hint("`certctl-bench runs` lists them"))
            }
            1 => Ok(ids.remove(0)),
            count => {
                let further = if count > NAMED { ", …" } else { "" };
                ids.truncate(NAMED);
                Err(Error::usage(format!("several ids begin with {shown}: {}{further}", ids.join(", ")))
                    .with_hint("give more digits"))
            }
        }
    }

    /// Returns the text of a run's `summary.json`.
    ///
    /// # Errors
    /// If there is no such run, or the file cannot be read or is damaged.
    pub fn json(&self, id: &str) -> Result<String> {
        let select = "SELECT summary FROM runs WHERE id = ?1";
        let found = self.connection.query_row(select, [id], |row| row.get::<_, Vec<u8>>(0)).optional();
        let Some(bytes) = found.map_err(|error| self.failed("reading", &error))? else {
            return Err(Error::usage(format!("the run {} was removed from {}", short(id), files::shown(&self.file)))
                .with_hint("`certctl-bench runs` lists those that are kept"));
        };
        inflated(&bytes).map_err(|why| damaged(&self.file, &format!("the run {}: {why}", short(id))))
    }

    /// Returns the summary of a run.
    ///
    /// # Errors
    /// If it cannot be read, or is of another schema.
    pub fn summary(&self, id: &str) -> Result<Summary> {
        source::summary_of(&format!("the run {}", short(id)), &self.json(id)?)
    }

    /// Removes a run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn remove(&mut self, id: &str) -> Result<()> {
        let removed = self.connection.execute("DELETE FROM runs WHERE id = ?1", [id]);
        removed.map(drop).map_err(|error| self.failed("writing", &error))
    }

    fn failed(&self, doing: &str, error: &rusqlite::Error) -> Error {
        failed(&self.file, doing, error)
    }
}

/// Describes a failure of the database, with the fix.
fn failed(file: &Path, doing: &str, error: &rusqlite::Error) -> Error {
    let name = files::shown(file);
    let plain = |hint: &str| Error::new(format!("{doing} the history {name}: {error}")).with_hint(hint);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let patience = PATIENCE.as_secs();
            Error::new(format!("{doing} the history {name}: another process has had it locked for {patience} s"))
                .with_hint("wait for its end, or name another file with --history")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            plain("name a file that this user can write with --history; `--history none` keeps no runs")
        }
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::TooBig) => {
            plain("free space there, or name a file elsewhere with --history")
        }
        // What is left is a file whose content is not as this suite writes it.
        _ => damaged(file, &error.to_string()),
    }
}

fn damaged(file: &Path, why: &str) -> Error {
    Error::usage(format!("the history {} is damaged: {why}", files::shown(file))).with_hint(
        "move the file away, and import the results that are still there: certctl-bench runs import \
         target/certctl-bench",
    )
}

/// Returns the beginning of an id that a list shows.
pub fn short(id: &str) -> &str {
    id.get(..SHORT_DIGITS).unwrap_or(id)
}

impl KeptRun {
    /// Describes a run whose `summary.json` is `json`.
    pub fn of(summary: &Summary, json: &str) -> Self {
        let (system, machine) = (&summary.about.system, &summary.about.machine);
        let response = summary.measured().next().map(|(_, results)| &results.latency.response);
        let finished_at = humantime::parse_rfc3339(&summary.finished_at)
            .map_or_else(|_| summary.finished_at.clone(), |at| humantime::format_rfc3339_seconds(at).to_string());
        let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
        Self {
            id: id(summary, json),
            finished_at,
            scenario: summary.about.scenario.to_string(),
            verdict: summary.verdict,
            p50_us: response.and_then(|response| response.p50_us),
            p99_us: response.and_then(|response| response.p99_us),
            commit: machine.commit.clone(),
            system: format!("{} {}", system.kind, system.version),
            machine: format!(
                "{} × {}, {gib:.0} GiB{}, {}",
                machine.cores,
                machine.cpu_model,
                machine.limits(),
                if machine.virtualisation == "none" { "bare metal" } else { &machine.virtualisation }
            ),
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        // Anyone may have written it.
        let text = |column| row.get::<_, String>(column).map(|text| foreign::line(&text));
        let word = text(3)?;
        let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.label() == word);
        Ok(Self {
            id: text(0)?,
            finished_at: text(1)?,
            scenario: text(2)?,
            verdict: verdict.ok_or_else(|| rusqlite::Error::InvalidColumnType(3, "verdict".to_owned(), Type::Text))?,
            p50_us: row.get(4)?,
            p99_us: row.get(5)?,
            commit: text(6)?,
            system: text(7)?,
            machine: text(8)?,
        })
    }
}

/// Returns the id of a run: its own where that is of the suite's making, and else a hash of the name that a user gave
/// it, or of an older run's whole content.
fn id(summary: &Summary, json: &str) -> String {
    match &summary.run_id {
        Some(own) if own.len() == ID_DIGITS && own.bytes().all(|digit| b"0123456789abcdef".contains(&digit)) => {
            own.clone()
        }
        other => hex(&Sha256::digest(other.as_deref().unwrap_or(json))[..ID_DIGITS / 2]),
    }
}

fn deflated(text: &str) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).context(|| "compressing a summary".to_owned())
}

/// Undoes [`deflated`], up to the largest file that is read.
fn inflated(bytes: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    let limited = ZlibDecoder::new(bytes).take(source::LARGEST_BYTES + 1).read_to_string(&mut text);
    match limited.map_err(|error| error.to_string())? as u64 {
        size if size > source::LARGEST_BYTES => Err(format!("it has more than {} bytes", source::LARGEST_BYTES)),
        _ => Ok(text),
    }
}
