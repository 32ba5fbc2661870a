//! The seeds: they fill a database with the rows that scenarios need, are put back between runs and cleaned up after
//! them. A database that is not for load tests is refused.
//!
//! Everything here blocks the calling thread, which is a panic inside a tokio runtime: call it before the runtime
//! starts, or in `spawn_blocking`. No message shows a password.

mod clean;
mod connection;
mod foreign_rows;
mod restore;
mod seed_files;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

pub use clean::{Cleaned, TableCleaned, clean, clean_issued, clean_revoked, enrolment_contact, reset};
pub use connection::{addresses, connect, exists, redact_url};
pub use foreign_rows::{is_own_certificate, refuse_foreign};
pub use restore::{
    DEAD_ROWS, VACUUMED, leave_to_vacuum, refresh_certificates, refresh_deployments, refresh_drain, refresh_fleet,
};

use crate::database::{DatabaseClient, ErrorPosition, Failure, SqlState};
use crate::error::{Context, Error, Result};
use connection::failed;

/// The seeds in this program, by file name, in the order in which they are applied.
pub const EMBEDDED: [(&str, &str); 4] = [
    ("01_bulk_renewal_certs.sql", CERTIFICATES_SQL),
    ("02_agent_fleet.sql", FLEET_SQL),
    ("03_deploy_loop.sql", DEPLOYMENTS_SQL),
    ("04_job_drain.sql", DRAIN_SQL),
];

const CERTIFICATES_SQL: &str = include_str!("../seed/01_bulk_renewal_certs.sql");
const FLEET_SQL: &str = include_str!("../seed/02_agent_fleet.sql");
const DEPLOYMENTS_SQL: &str = include_str!("../seed/03_deploy_loop.sql");
const DRAIN_SQL: &str = include_str!("../seed/04_job_drain.sql");
const MIGRATE: &str = "start certctl on this database once, or run its server with --migrate-only; then seed";
const DEMO: &str =
    "the seeds refer to rows of certctl's demo seed: start it once with CERTCTL_DEMO_SEED=true; then seed";

/// The source of the seeds.
#[derive(Clone, Debug, Default)]
pub enum SeedSource {
    /// [`EMBEDDED`].
    #[default]
    Embedded,
    /// Every `*.sql` in this folder, in the order of their names.
    Folder(PathBuf),
}

/// The numbers of rows of the embedded seeds. Existing rows stay: a greater size adds rows, a smaller one removes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Agents.
    pub agents: u64,
    /// Certificates to renew.
    pub certificates: u64,
    /// Certificates that agents deploy, each with its target; no more than agents. Only `deploy_loop` needs any.
    pub deployments: u64,
    /// Certificates of a job drain: none by default, since a list costs certctl what its table is long.
    pub drain: u64,
    /// The agents to whose targets the certificates of a job drain map, in turn.
    pub drain_agents: u64,
}

impl Default for Sizes {
    /// The sizes that the scenarios need by default.
    fn default() -> Self {
        Self { agents: 5_000, certificates: 10_000, deployments: 0, drain: 0, drain_agents: 5_000 }
    }
}

impl Sizes {
    /// The most rows of a kind: a greater number has more digits than the ids in requests.
    pub const MOST: u64 = 99_999;

    /// Returns the statements that set these sizes for the seeds of a transaction.
    fn setting(self) -> String {
        let Self { agents, certificates, deployments, drain, drain_agents } = self;
        format!(
            "SET LOCAL certctl_bench.agents = {agents}; SET LOCAL certctl_bench.certificates = {certificates}; \
             SET LOCAL certctl_bench.deployments = {deployments}; \
             SET LOCAL certctl_bench.drain = {drain}; SET LOCAL certctl_bench.drain_agents = {drain_agents}; "
        )
    }
}

/// The user's options for [`apply`].
#[derive(Clone, Debug, Default)]
pub struct SeedOptions {
    /// The source of the seeds.
    pub source: SeedSource,
    /// The numbers of rows.
    pub sizes: Sizes,
    /// Seed even if the database holds rows from neither certctl's demo seed nor this suite.
    pub allow_foreign: bool,
}

/// The result of [`apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedReport {
    /// The files applied, in order.
    pub files: Vec<String>,
    /// The tables that they write to.
    pub tables: Vec<TableRows>,
}

/// Rows of one table before and after the seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// The table's name as the seed spells it.
    pub table: String,
    /// Rows before the first seed.
    pub before: i64,
    /// Rows after the last seed.
    pub after: i64,
}

/// Applies the seeds, each file in a transaction of its own, and reports on `out`. A second call adds nothing.
///
/// Fails, before it writes anything, if the database cannot be reached, has not been migrated, or holds foreign rows
/// and `options` do not allow that. Fails, too, if a file fails, which then has changed nothing.
pub fn apply(url: &str, options: &SeedOptions, out: &mut dyn Write) -> Result<SeedReport> {
    let seeds = seed_files::read(&options.source)?;
    let tables = seed_files::tables_written(&seeds)?;
    let mut client = open(url, options.allow_foreign)?;
    let shown = redact_url(url);
    require_tables(&mut client, &shown, tables.iter().map(String::as_str))?;
    let printing = || "printing the result of the seeds".to_owned();
    writeln!(out, "seeding {shown}").context(printing)?;
    let before = tables.iter().map(|table| count(&mut client, table)).collect::<Result<Vec<_>>>()?;
    for (name, sql) in &seeds {
        let began = Instant::now();
        run_in_transaction(&mut client, options.sizes, name, sql)?;
        writeln!(out, "  {name}: applied in {} ms", began.elapsed().as_millis()).context(printing)?;
    }
    let mut report = SeedReport { files: seeds.into_iter().map(|(name, _)| name).collect(), tables: Vec::new() };
    for (table, before) in tables.into_iter().zip(before) {
        let after = count(&mut client, &table)?;
        // Otherwise autovacuum would take a table that grew a hundredfold, perhaps within a window, and the planner's
        // statistics would last until then.
        restore::vacuum(&mut client, &table)?;
        writeln!(out, "  {table}: {before} rows before, {after} after").context(printing)?;
        report.tables.push(TableRows { table, before, after });
    }
    for warning in client.take_warnings() {
        writeln!(out, "  warning: {warning}").context(printing)?;
    }
    Ok(report)
}

/// Opens a session at a certctl database, which has to be one for load tests unless `allow_foreign` is true.
///
/// Fails, without a write, if it cannot be reached, has not been migrated, or holds foreign rows.
pub fn open(url: &str, allow_foreign: bool) -> Result<DatabaseClient> {
    let mut client = connect(url)?;
    let shown = redact_url(url);
    require_writable(&mut client, &shown)?;
    require_tables(&mut client, &shown, ["agents", "managed_certificates"].into_iter())?;
    if !allow_foreign {
        foreign_rows::refuse_foreign_rows(&mut client, &shown)?;
    }
    Ok(client)
}

/// Checks that rows can be changed in the database; the error has the reason if not.
pub fn require_writable(client: &mut DatabaseClient, shown: &str) -> Result<()> {
    let sql = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')";
    let row = client.query_one(sql, &[]).map_err(|error| failed("checking that rows can be changed", &error))?;
    let (is_standby, read_only): (bool, String) = (row.get(0), row.get(1));
    match (is_standby, &*read_only) {
        (true, _) => Err(Error::new(format!("opening {shown}: it is a standby, which takes no writes"))
            .with_hint("give the URL of the primary")),
        (false, "on") => Err(Error::new(format!("opening {shown}: default_transaction_read_only is on"))
            .with_hint("ALTER ROLE … (or DATABASE …) RESET default_transaction_read_only, or use another role")),
        _ => Ok(()),
    }
}

/// Returns a hint if the database has such a table outside of the search path.
fn elsewhere(client: &mut DatabaseClient, table: &str) -> Option<String> {
    let sql = "SELECT quote_ident(n.nspname), current_setting('search_path') FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = $1 AND c.relkind IN ('r', 'p') ORDER BY 1";
    let row = client.query(sql, &[&table]).ok()?.into_iter().next()?;
    let (schema, path): (String, String) = (row.get(0), row.get(1));
    Some(format!(
        "the schema {schema} has one, but this role's search_path is {path}: ALTER ROLE … SET search_path = {schema}, \
         or add options=-csearch_path%3D{schema} to the URL"
    ))
}

fn require_tables<'a>(client: &mut DatabaseClient, shown: &str, tables: impl Iterator<Item = &'a str>) -> Result<()> {
    for table in tables {
        if !exists(client, table)? {
            return Err(Error::new(format!(
                "opening {shown}: it has no table {table}, so it is not certctl's database, or not migrated"
            ))
            .with_hint(elsewhere(client, table).unwrap_or_else(|| MIGRATE.to_owned())));
        }
    }
    Ok(())
}

fn count(client: &mut DatabaseClient, table: &str) -> Result<i64> {
    let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]);
    row.map(|row| row.get(0)).map_err(|error| failed(&format!("counting the rows of {table}"), &error))
}

fn run_in_transaction(client: &mut DatabaseClient, sizes: Sizes, name: &str, sql: &str) -> Result<()> {
    let mut run = || {
        let mut transaction = client.transaction()?;
        transaction.batch_execute(&sizes.setting())?;
        transaction.batch_execute(sql)?;
        transaction.commit()
    };
    run().map_err(|error: Failure| {
        let position = error.as_db_error().and_then(|db| db.position());
        let place = match position {
            Some(ErrorPosition::Original(at)) => {
                format!(", line {}", 1 + sql.chars().take(*at as usize).filter(|&c| c == '\n').count())
            }
            _ => String::new(),
        };
        let failed = failed(&format!("applying the seed {name}{place}"), &error);
        match error.code() {
            Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => failed.with_hint(DEMO),
            _ => failed,
        }
    })
}
