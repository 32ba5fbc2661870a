//! The checks of PostgreSQL: its settings, its statistics, and whether this certctl uses it.

use std::thread;
use std::time::{Duration, Instant};

use super::{Finding, Report, ServerFacts, Severity};
use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::evidence::statement_statistics;
use crate::provision::postgres::OLDEST_MAJOR;
use crate::seed::{VACUUMED, leave_to_vacuum, require_writable};

/// The size of certctl's pool, unless CERTCTL_DATABASE_MAX_CONNS sets another.
const POOL: i64 = 50;
/// The most sessions of this suite at a time: checks of side effects, witness, window, the count of a job drain, and a
/// look into stuck waits.
const OURS: i64 = 5;
/// The longest wait for an audit row, which certctl writes after its answer.
const AUDIT_PATIENCE: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(50);
/// PostgreSQL's default, in its blocks of 8 KiB; a lower value was set on purpose.
const DEFAULT_BUFFERS: i64 = 16_384;
/// The size from which a table slows scans and vacuum noticeably.
const BIG_TABLE_BYTES: i64 = 1 << 30;
/// The tables that grow with every run.
const GROWING: [&str; 3] = ["audit_events", "jobs", "acme_nonces"];

/// Checks the database of the certctl whose API reported `facts`.
pub fn examine(client: &mut DatabaseClient, facts: &ServerFacts, report: Report<'_>) {
    for look in [version, writes, vacuums, connections, durability, buffers, autovacuum, statistics, sizes] {
        match look(client) {
            Ok(finding) => report(finding),
            Err(error) => report(Finding::of(Severity::Warn, &error)),
        }
    }
    if let Some(path) = &facts.unique_path {
        match is_its_own(client, path) {
            Ok(finding) => report(finding),
            Err(error) => report(Finding::of(Severity::Fail, &error)),
        }
    }
}

fn setting(client: &mut DatabaseClient, name: &str) -> Result<String> {
    let row = client.query_one("SELECT current_setting($1)", &[&name]);
    Ok(row.context(|| format!("reading PostgreSQL's setting {name}"))?.get(0))
}

fn number(client: &mut DatabaseClient, what: &str, sql: &str) -> Result<i64> {
    Ok(client.query_one(sql, &[]).context(|| what.to_owned())?.get(0))
}

fn version(client: &mut DatabaseClient) -> Result<Finding> {
    let version = setting(client, "server_version")?;
    let major =
        number(client, "reading PostgreSQL's version", "SELECT current_setting('server_version_num')::bigint / 10000")?;
    Ok(of_version(major, &version))
}

fn writes(client: &mut DatabaseClient) -> Result<Finding> {
    Ok(match require_writable(client, "the database") {
        Ok(()) => Finding::ok("rows can be changed"),
        Err(error) => Finding::of(Severity::Fail, &error),
    })
}

/// Checks that the role may vacuum the tables whose rows are put back: without the right, PostgreSQL only warns.
fn vacuums(client: &mut DatabaseClient) -> Result<Finding> {
    let sql = "SELECT name FROM unnest($1) WITH ORDINALITY AS t(name, place) \
               JOIN pg_class c ON c.oid = to_regclass(name) WHERE NOT \
               (pg_has_role(c.relowner, 'USAGE') \
                OR pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') \
                OR CASE WHEN current_setting('server_version_num')::int >= 170000 \
                   THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END) ORDER BY place";
    let rows = client.query(sql, &[&&VACUUMED[..]]).context(|| "reading which tables may be vacuumed".to_owned())?;
    let refused = rows.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>().join(", ");
    Ok(Finding::unless(
        refused.is_empty(),
        || {
            Finding::warn(
                format!(
                    "this role may not vacuum {refused}: dead rows of tables that are put back remain, and WAL is not \
                     compared"
                ),
                leave_to_vacuum(&refused),
            )
        },
        "tables whose rows are put back can be vacuumed",
    ))
}

fn of_version(major: i64, version: &str) -> Finding {
    Finding::unless(
        major >= i64::from(OLDEST_MAJOR),
        || Finding::fail(format!("PostgreSQL {version}"), format!("certctl's schema needs {OLDEST_MAJOR} or newer")),
        format!("PostgreSQL {version}"),
    )
}

fn connections(client: &mut DatabaseClient) -> Result<Finding> {
    let counting = "counting PostgreSQL's connections";
    let allowed = number(
        client,
        counting,
        "SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint",
    )?;
    let elsewhere = number(
        client,
        counting,
        "SELECT count(*) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND datname IS DISTINCT FROM current_database()",
    )?;
    let what = format!("{allowed} connections allowed, {elsewhere} of them used by other databases");
    Ok(Finding::unless(
        allowed - elsewhere >= POOL + OURS,
        || {
            Finding::fail(
                format!("{what}; certctl's pool opens up to {POOL}, and this suite {OURS}"),
                "raise max_connections to 100, or lower CERTCTL_DATABASE_MAX_CONNS",
            )
        },
        what.clone(),
    ))
}

fn durability(client: &mut DatabaseClient) -> Result<Finding> {
    let (fsync, commit) = (setting(client, "fsync")?, setting(client, "synchronous_commit")?);
    let what = format!("fsync {fsync}, synchronous_commit {commit}");
    Ok(Finding::unless(
        fsync == "on" && commit != "off",
        || {
            Finding::warn(
                format!("{what}: writes are faster than a durable database's"),
                "set both to on, or compare these figures only with figures of the same settings",
            )
        },
        what.clone(),
    ))
}

fn buffers(client: &mut DatabaseClient) -> Result<Finding> {
    let what = format!("shared_buffers {}", setting(client, "shared_buffers")?);
    let blocks = number(
        client,
        "reading shared_buffers",
        "SELECT setting::bigint FROM pg_settings WHERE name = 'shared_buffers'",
    )?;
    Ok(Finding::unless(
        blocks >= DEFAULT_BUFFERS,
        || Finding::warn(format!("{what}, less than PostgreSQL's default"), "set shared_buffers to 128MB or more"),
        what.clone(),
    ))
}

fn autovacuum(client: &mut DatabaseClient) -> Result<Finding> {
    Ok(Finding::unless(
        setting(client, "autovacuum")? == "on",
        || Finding::warn("autovacuum is off: tables bloat from run to run", "set autovacuum to on"),
        "autovacuum is on",
    ))
}

fn statistics(client: &mut DatabaseClient) -> Result<Finding> {
    statement_statistics(client)?;
    Ok(Finding::ok("pg_stat_statements can be read"))
}

fn sizes(client: &mut DatabaseClient) -> Result<Finding> {
    let mut sizes = Vec::new();
    for table in GROWING {
        let sql = "SELECT reltuples::bigint, pg_total_relation_size(oid) FROM pg_class WHERE oid = to_regclass($1)";
        let row = client.query_opt(sql, &[&table]).context(|| format!("reading the size of {table}"))?;
        // A table that was never analyzed has -1 rows.
        sizes.extend(row.map(|row| (table, row.get::<_, i64>(0).max(0), row.get::<_, i64>(1))));
    }
    Ok(of_sizes(&sizes))
}

/// Judges the sizes of tables: names, rows and bytes.
fn of_sizes(sizes: &[(&str, i64, i64)]) -> Finding {
    let text = |(table, rows, bytes): &(&str, i64, i64)| {
        format!("{table} about {rows} rows, {:.1} MiB", *bytes as f64 / f64::from(1 << 20))
    };
    let what = sizes.iter().map(text).collect::<Vec<_>>().join("; ");
    Finding::unless(
        sizes.iter().all(|(_, _, bytes)| *bytes < BIG_TABLE_BYTES),
        || Finding::warn(what.clone(), "start from a fresh database: figures depend on what earlier runs left"),
        if what.is_empty() { "no table that grows from run to run" } else { &what },
    )
}

/// Checks that the unique request to certctl is in this database's audit log.
fn is_its_own(client: &mut DatabaseClient, path: &str) -> Result<Finding> {
    let start = Instant::now();
    loop {
        let sql = "SELECT EXISTS (SELECT FROM audit_events WHERE resource_type = 'api' AND resource_id = $1)";
        let row = client.query_one(sql, &[&path]).context(|| "looking for certctl's audit rows".to_owned())?;
        if row.get(0) {
            return Ok(Finding::ok("it is this certctl's database: its audit log shows this suite's request"));
        }
        if start.elapsed() > AUDIT_PATIENCE {
            return Ok(Finding::fail(
                "it is not this certctl's database: its audit log does not show this suite's request",
                "give --database the URL in certctl's CERTCTL_DATABASE_URL",
            ));
        }
        thread::sleep(POLL_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_and_large_tables_are_reported() {
        assert_eq!([of_version(14, "14.9").level, of_version(15, "15.0").level], [Severity::Fail, Severity::Ok]);
        let sizes = |bytes| of_sizes(&[("jobs", 7, 1 << 20), ("audit_events", 9_000_000, bytes)]);
        assert_eq!(sizes(1 << 29).what, "jobs about 7 rows, 1.0 MiB; audit_events about 9000000 rows, 512.0 MiB");
        assert_eq!([sizes(1 << 29).level, sizes(1 << 30).level], [Severity::Ok, Severity::Warn]);
    }
}
