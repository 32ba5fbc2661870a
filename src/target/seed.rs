//! Fills a database with the rows that the scenarios need, and refuses one that is not for load tests.
//!
//! Everything here uses the blocking `postgres` client, which panics inside a tokio runtime: call it before the runtime
//! starts, or in `spawn_blocking`. No message shows a password.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use postgres::error::{ErrorPosition, SqlState};
use postgres::{Client, Config, NoTls};
use regex::Regex;

use crate::error::{Context, Error, Result};

/// The seeds that the program carries, by file name, in the order in which they are applied.
pub const EMBEDDED: [(&str, &str); 1] = [("02_agent_fleet.sql", FLEET_SQL)];

const FLEET_SQL: &str = include_str!("../../seed/02_agent_fleet.sql");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many ids of foreign rows a refusal shows.
const EXAMPLES: usize = 3;

/// The agents of certctl's demo seed.
#[rustfmt::skip]
const DEMO_AGENTS: [&str; 13] = [
    "ag-data-prod", "ag-edge-01", "ag-iis-prod", "ag-k8s-prod", "ag-lb-prod", "ag-mac-dev", "ag-web-prod",
    "ag-web-staging", "agent-demo-1", "cloud-aws-sm", "cloud-azure-kv", "cloud-gcp-sm", "server-scanner",
];

/// The certificates of certctl's demo seed.
#[rustfmt::skip]
const DEMO_CERTIFICATES: [&str; 32] = [
    "mc-admin-prod", "mc-api-dev", "mc-api-prod", "mc-api-stg", "mc-auth-prod", "mc-blog-prod", "mc-cdn-prod",
    "mc-ci-prod", "mc-compromised", "mc-consul-prod", "mc-dash-prod", "mc-data-prod", "mc-docs-prod", "mc-edge-eu",
    "mc-grafana-prod", "mc-grpc-prod", "mc-k8s-ingress", "mc-legacy-prod", "mc-mail-prod", "mc-old-api", "mc-pay-prod",
    "mc-pay-stg", "mc-search-prod", "mc-shop-prod", "mc-smime-bob", "mc-status-prod", "mc-vault-prod", "mc-vpn-prod",
    "mc-web-prod", "mc-web-stg", "mc-wiki-prod", "mc-wildcard-prod",
];

/// Where the seeds come from.
#[derive(Clone, Debug, Default)]
pub enum Source {
    /// [`EMBEDDED`].
    #[default]
    Embedded,
    /// Every `*.sql` in this folder, in the order of their names.
    Folder(PathBuf),
}

/// What a user may ask of [`apply`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the seeds come from.
    pub source: Source,
    /// Seed even when the database holds rows that neither certctl's demo seed nor ours made.
    pub allow_foreign: bool,
}

/// What [`apply`] did.
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

/// Applies the seeds, each file in a transaction of its own, and tells on `out` what it did. Running it again adds
/// nothing.
///
/// Fails, before it writes anything, when the database cannot be reached, has not been migrated, or holds rows of
/// others and `options` do not allow that; and when a file fails, which then has changed nothing.
pub fn apply(url: &str, options: &Options, out: &mut dyn Write) -> Result<SeedReport> {
    let seeds = read(&options.source)?;
    let tables = tables_written(&seeds)?;
    let mut client = connect(url)?;
    let shown = redact_url(url);
    require_tables(&mut client, &shown, tables.iter().map(String::as_str).chain(["agents", "managed_certificates"]))?;
    if !options.allow_foreign {
        refuse_foreign_rows(&mut client, &shown)?;
    }
    let telling = || "writing what the seeds did".to_owned();
    writeln!(out, "seeding {shown}").context(telling)?;
    let before = tables.iter().map(|table| count(&mut client, table)).collect::<Result<Vec<_>>>()?;
    for (name, sql) in &seeds {
        let began = Instant::now();
        run_in_transaction(&mut client, name, sql)?;
        writeln!(out, "  {name}: applied in {} ms", began.elapsed().as_millis()).context(telling)?;
    }
    let mut report = SeedReport { files: seeds.into_iter().map(|(name, _)| name).collect(), tables: Vec::new() };
    for (table, before) in tables.into_iter().zip(before) {
        let after = count(&mut client, &table)?;
        // The planner's view of a table that just grew a hundredfold would otherwise hold until autovacuum comes.
        client
            .batch_execute(&format!("ANALYZE {table}"))
            .map_err(|error| failed(&format!("analyzing {table}"), &error))?;
        writeln!(out, "  {table}: {before} rows before, {after} after").context(telling)?;
        report.tables.push(TableRows { table, before, after });
    }
    Ok(report)
}

/// Fails when the database holds rows of others; it may have no tables yet. For whoever is about to write to it.
pub fn refuse_foreign(url: &str) -> Result<()> {
    refuse_foreign_rows(&mut connect(url)?, &redact_url(url))
}

/// Puts the seeded agents back to the state that the embedded seed gives, and no other row; returns how many.
///
/// Each run thus starts from the same state: an agent that went Offline in between would take certctl's path of two
/// updates, the second of which writes the old heartbeat time back. Then vacuums the table, since the dead rows would
/// call autovacuum into the measured window. Fails, changing nothing, when there are fewer than `agents`.
pub fn refresh_fleet(client: &mut Client, agents: u64) -> Result<u64> {
    const DOING: &str = "putting the seeded agents back to their first state";
    let failed = |error: postgres::Error| failed(DOING, &error);
    let mut transaction = client.transaction().map_err(failed)?;
    let table = transaction.query_opt(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = to_regclass('agents')",
        &[],
    );
    let table: String = match table.map_err(failed)? {
        Some(row) => row.get(0),
        None => return Err(Error::new(format!("{DOING}: the database has no table agents")).mend(MIGRATE)),
    };
    // A temporary table hides the real one from the seed, so that it states the fleet here too.
    let state = format!("CREATE TEMPORARY TABLE agents (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP; {FLEET_SQL}");
    transaction.batch_execute(&state).map_err(failed)?;
    let update = format!(
        "UPDATE {table} AS agent SET (hostname, status, last_heartbeat_at, os, architecture, ip_address, version, \
             retired_at, retired_reason) = ROW (first.hostname, first.status, first.last_heartbeat_at, first.os, \
             first.architecture, first.ip_address, first.version, first.retired_at, first.retired_reason) \
         FROM pg_temp.agents AS first WHERE agent.id = first.id"
    );
    let refreshed = transaction.execute(&update, &[]).map_err(failed)?;
    if refreshed < agents {
        return Err(Error::new(format!("{DOING}: there are {refreshed} of the {agents} that this run needs"))
            .mend("run `certctl-bench seed` on this database, or ask for fewer agents"));
    }
    transaction.commit().map_err(failed)?;
    client.batch_execute(&format!("VACUUM (ANALYZE) {table}")).map_err(failed)?;
    Ok(refreshed)
}

const MIGRATE: &str = "start certctl on this database once, or run its server with --migrate-only; then seed";

/// Connects to a PostgreSQL without TLS, within 10 s unless the URL says otherwise.
///
/// Fails when `url` is no connection URL (kind `Usage`), nobody answers, or the server refuses us.
pub fn connect(url: &str) -> Result<Client> {
    let shown = redact_url(url);
    let mut config: Config = url.parse().map_err(|error: postgres::Error| {
        // Of a text that is no URL, the parser's complaint may quote any part.
        let why = if url.contains("://") { format!(": {}", reason(&error)) } else { String::new() };
        Error::usage(format!("the database URL {shown} is not one{why}"))
            .mend("write postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable")
    })?;
    config.get_connect_timeout().is_none().then(|| config.connect_timeout(CONNECT_TIMEOUT));
    config.connect(NoTls).map_err(|error| {
        let mend = match error.code() {
            Some(code)
                if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(code) =>
            {
                "check user and password in the database URL"
            }
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "check the database's name in the URL",
            Some(_) => "mend what the server names",
            None => {
                "check host and port in the database URL, that PostgreSQL runs there, and that it takes sslmode=disable"
            }
        };
        failed(&format!("connecting to {shown}"), &error).mend(mend)
    })
}

fn read(source: &Source) -> Result<Vec<(String, String)>> {
    let folder = match source {
        Source::Embedded => return Ok(EMBEDDED.map(|(name, sql)| (name.to_owned(), sql.to_owned())).to_vec()),
        Source::Folder(folder) => folder,
    };
    let unreadable = |what: &Path, error: std::io::Error| {
        Error::usage(format!("reading seeds from {}: {error}", what.display()))
            .mend("name a folder that holds *.sql files")
    };
    let mut files = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(|error| unreadable(folder, error))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    if files.is_empty() {
        return Err(unreadable(folder, std::io::Error::other("it holds no *.sql file")));
    }
    let named = |path: PathBuf| {
        let sql = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), sql))
    };
    files.into_iter().map(named).collect()
}

/// The tables that the seeds write to, each once, in order; a seed that ends its transaction is refused here.
fn tables_written(seeds: &[(String, String)]) -> Result<Vec<String>> {
    // Each pattern is a constant that the tests compile.
    static COMMENT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)--[^\n]*|/\*.*?\*/").expect("a constant pattern"));
    static TRANSACTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:^|;)\s*(?:begin|start|commit|end|rollback|abort)\b[^;]*(?:;|$)")
            .expect("a constant pattern")
    });
    static WRITE: LazyLock<Regex> = LazyLock::new(|| {
        let verbs = r"insert\s+into|delete\s+from|merge\s+into|truncate(?:\s+table)?|(?:^|;)\s*update";
        Regex::new(&format!(r"(?i)(?:{verbs})\s+(?:only\s+)?([a-z_][a-z0-9_.]*)")).expect("a constant pattern")
    });
    let mut tables = Vec::new();
    for (name, sql) in seeds {
        let sql = COMMENT.replace_all(sql, " ");
        if let Some(found) = TRANSACTION.find(&sql) {
            let statement = found.as_str().trim_matches([';', ' ', '\n', '\t', '\r']);
            return Err(Error::usage(format!("the seed {name} says `{statement}`, but runs in a transaction of ours"))
                .mend("take that statement out"));
        }
        for write in WRITE.captures_iter(&sql) {
            let table = write[1].to_lowercase();
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
    }
    Ok(tables)
}

fn require_tables<'a>(client: &mut Client, shown: &str, tables: impl Iterator<Item = &'a str>) -> Result<()> {
    for table in tables {
        if !exists(client, table)? {
            return Err(Error::new(format!(
                "seeding {shown}: it has no table {table}, so it is not certctl's database, or not migrated"
            ))
            .mend(MIGRATE));
        }
    }
    Ok(())
}

fn exists(client: &mut Client, table: &str) -> Result<bool> {
    let row = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]);
    row.map(|row| row.get(0)).map_err(|error| failed(&format!("looking for the table {table}"), &error))
}

/// Keeps the seeds out of a database that somebody uses: load tests change, renew and revoke what they find.
fn refuse_foreign_rows(client: &mut Client, shown: &str) -> Result<()> {
    let mut foreign = Vec::new();
    for (table, ours, demo) in [
        ("agents", "id LIKE 'ag-loadtest-%'", DEMO_AGENTS.as_slice()),
        ("managed_certificates", "name LIKE 'loadtest-%'", DEMO_CERTIFICATES.as_slice()),
    ] {
        if !exists(client, table)? {
            continue;
        }
        let rows = client
            .query(
                &format!(
                    "SELECT id, count(*) OVER () FROM {table} WHERE NOT {ours} AND id <> ALL ($1) ORDER BY id LIMIT {EXAMPLES}"
                ),
                &[&demo],
            )
            .map_err(|error| failed(&format!("looking for rows of others in {table}"), &error))?;
        if let Some(first) = rows.first() {
            let ids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            foreign.push(format!("{} in {table} (such as {})", first.get::<_, i64>(1), ids.join(", ")));
        }
    }
    if foreign.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "refusing to write to {shown}: it does not look like a database for load tests; rows that neither certctl's demo \
         seed nor this suite made: {}",
        foreign.join(", ")
    ))
    .mend("give the URL of a load-test database, or --allow-foreign-rows if this is one"))
}

fn count(client: &mut Client, table: &str) -> Result<i64> {
    let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]);
    row.map(|row| row.get(0)).map_err(|error| failed(&format!("counting the rows of {table}"), &error))
}

fn run_in_transaction(client: &mut Client, name: &str, sql: &str) -> Result<()> {
    let mut run = || {
        let mut transaction = client.transaction()?;
        transaction.batch_execute(sql)?;
        transaction.commit()
    };
    run().map_err(|error: postgres::Error| {
        let position = error.as_db_error().and_then(|db| db.position());
        let place = match position {
            Some(ErrorPosition::Original(at)) => {
                format!(", line {}", 1 + sql.chars().take(*at as usize).filter(|&c| c == '\n').count())
            }
            _ => String::new(),
        };
        failed(&format!("applying the seed {name}{place}"), &error)
    })
}

fn failed(doing: &str, error: &postgres::Error) -> Error {
    Error::new(format!("{doing}: {}", reason(error)))
}

/// What went wrong, without the library's "db error" before it.
fn reason(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{}: {}", db.severity(), db.message()),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// `url` with everything that may be a password replaced by `***`: what stands between the first colon and the last
/// `@`, a port that is no number, and parameters other than the harmless ones. A text without `://` is not shown at all.
pub fn redact_url(url: &str) -> String {
    const HARMLESS: [&str; 6] = ["application_name", "connect_timeout", "dbname", "host", "port", "sslmode"];
    let Some((scheme, rest)) = url.split_once("://") else { return "(not shown: it may hold a password)".to_owned() };
    // The last one: a password may itself hold an unescaped `@`, `/` or `?`.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => {
            (user.split_once(':').map_or(format!("{user}@"), |(user, _)| format!("{user}:***@")), place)
        }
        None => (String::new(), rest),
    };
    let (place, parameters) = place.split_once('?').map_or((place, ""), |(place, parameters)| (place, parameters));
    // `postgres://user:password` without a host reads as host and port.
    let (authority, path) = place.find('/').map_or((place, ""), |slash| place.split_at(slash));
    let authority = match authority.rsplit_once(':') {
        Some((host, port)) if !port.bytes().all(|byte| byte.is_ascii_digit()) && !host.starts_with('[') => {
            format!("{host}:***")
        }
        _ => authority.to_owned(),
    };
    let parameters: Vec<String> = parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if HARMLESS.contains(&name) => parameter.to_owned(),
            Some((name, _)) => format!("{name}=***"),
            None => "***".to_owned(),
        })
        .collect();
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{scheme}://{user}{authority}{path}{question}{}", parameters.join("&"))
}

/// Placeholder until the seeds land.
pub fn refresh_certificates(_: &mut Client, n: u64) -> Result<u64> {
    Ok(n)
}
/// Placeholder until the seeds land.
pub fn clean_issued(_: &mut Client) -> Result<u64> {
    Ok(0)
}
