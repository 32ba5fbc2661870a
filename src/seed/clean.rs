//! The removal of rows that runs leave behind in a database.

use std::fmt;

use super::MIGRATE;
use super::connection::{exists, failed};
use super::restore::{Restored, RestoredDrain, refresh_fleet, restore_certificates, restore_drain, vacuum};
use crate::database::{DatabaseClient, Failure, SqlState, Transaction};
use crate::error::{Error, Result};

/// Selects the certificates that runs of `api_tier` posted. It requires both marks, so that a certificate of a similar
/// name stays, and so does a seeded one.
const ISSUED: &str = "name LIKE 'loadtest-api-%' AND tags->>'source' = 'certctl-bench'";
const DOING: &str = "removing the certificates that runs have posted";

/// The result of [`clean`] or [`reset`], by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Each table once. The three that runs write to are always present, others if they had rows that depend on a
    /// certificate.
    pub tables: Vec<TableCleaned>,
}

/// The changes of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCleaned {
    /// The table's name.
    pub table: String,
    /// Rows removed.
    pub removed: u64,
    /// Seeded rows put back to their first state.
    pub restored: u64,
}

impl Cleaned {
    /// Returns the number of rows put back, over all tables.
    pub fn restored(&self) -> u64 {
        self.tables.iter().map(|table| table.restored).sum()
    }

    fn add(&mut self, table: &str, removed: u64, restored: u64) {
        match self.tables.iter_mut().find(|known| known.table == table) {
            Some(known) => {
                known.removed += removed;
                known.restored += restored;
            }
            None => self.tables.push(TableCleaned { table: table.to_owned(), removed, restored }),
        }
    }
}

impl fmt::Display for TableCleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.removed, self.restored) {
            (0, 0) => write!(f, "{}: nothing to do", self.table),
            (0, restored) => write!(f, "{}: {restored} put back", self.table),
            (removed, 0) => write!(f, "{}: {removed} removed", self.table),
            (removed, restored) => write!(f, "{}: {removed} removed, {restored} put back", self.table),
        }
    }
}

/// Removes the rows that runs created, and no others: the certificates that they posted with all rows that depend on
/// them, and the jobs of seeded certificates. Puts all seeded certificates and agents back.
///
/// Audit rows stay, since certctl permits no one to delete them, and so do ACME nonces, which cannot be attributed to a
/// run.
pub fn clean(client: &mut DatabaseClient) -> Result<Cleaned> {
    let mut cleaned = remove_issued(client)?;
    for table in reset(client)?.tables {
        cleaned.add(&table.table, table.removed, table.restored);
    }
    Ok(cleaned)
}

/// Removes the certificates that runs posted, with all rows that depend on them, and vacuums their table; returns the
/// number of certificates.
///
/// Each run of `api_tier` begins with this, since a list costs certctl a scan of the whole table.
pub fn clean_issued(client: &mut DatabaseClient) -> Result<u64> {
    Ok(remove_issued(client)?.tables[0].removed)
}

/// Puts all seeded certificates and agents back to their first state, and deletes the jobs of these certificates and
/// what their renewals left.
pub fn reset(client: &mut DatabaseClient) -> Result<Cleaned> {
    let Restored { certificates, jobs } = restore_certificates(client, 0)?;
    let drain = restore_drain(client, 0, None)?;
    let agents = refresh_fleet(client, 0)?;
    let mut cleaned = Cleaned::default();
    cleaned.add("managed_certificates", 0, certificates);
    cleaned.add("jobs", jobs, 0);
    cleaned.add("agents", 0, agents);
    let RestoredDrain { certificates, deleted } = drain;
    cleaned.add("managed_certificates", 0, certificates);
    for (table, rows) in deleted.into_iter().filter(|(_, rows)| *rows > 0) {
        cleaned.add(table, rows, 0);
    }
    Ok(cleaned)
}

/// Removes the certificates that runs posted. Their table is the first in the result.
fn remove_issued(client: &mut DatabaseClient) -> Result<Cleaned> {
    if !exists(client, "managed_certificates")? {
        return Err(Error::new(format!("{DOING}: the database has no table managed_certificates")).with_hint(MIGRATE));
    }
    let mut transaction = client.transaction().map_err(|error| unremoved(&error))?;
    let mut hanging = Vec::new();
    // The deletion would cascade to these rows; they are deleted separately to be counted.
    for (table, column) in dependents(&mut transaction)? {
        let delete =
            format!("DELETE FROM {table} WHERE {column} IN (SELECT id FROM managed_certificates WHERE {ISSUED})");
        let removed = transaction.execute(&delete, &[]).map_err(|error| unremoved(&error))?;
        hanging.push((table, removed));
    }
    let delete = format!("DELETE FROM managed_certificates WHERE {ISSUED}");
    let issued = transaction.execute(&delete, &[]).map_err(|error| unremoved(&error))?;
    transaction.commit().map_err(|error| unremoved(&error))?;

    let mut cleaned = Cleaned::default();
    cleaned.add("managed_certificates", issued, 0);
    vacuum(client, "managed_certificates")?;
    for (table, removed) in hanging.into_iter().filter(|&(_, removed)| removed > 0) {
        vacuum(client, &table)?;
        cleaned.add(&table, removed, 0);
    }
    Ok(cleaned)
}

/// Returns the tables whose rows are deleted together with the certificate that they reference, with the column of the
/// reference.
fn dependents(transaction: &mut Transaction<'_>) -> Result<Vec<(String, String)>> {
    let rows = transaction.query(
        "SELECT DISTINCT key.conrelid::regclass::text, quote_ident(name.attname) FROM pg_constraint key \
         JOIN pg_attribute name ON name.attrelid = key.conrelid AND name.attnum = key.conkey[1] \
         WHERE key.contype = 'f' AND key.confdeltype = 'c' AND key.confrelid = to_regclass('managed_certificates') \
         ORDER BY 1, 2",
        &[],
    );
    Ok(rows.map_err(|error| unremoved(&error))?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn unremoved(error: &Failure) -> Error {
    let failed = failed(DOING, error);
    match error.code() {
        Some(code) if *code == SqlState::FOREIGN_KEY_VIOLATION => failed.with_hint(
            "no run makes such rows: remove them from the table that the message names last, then try again",
        ),
        _ => failed,
    }
}
