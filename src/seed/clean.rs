//! The removal of rows that runs leave behind in a database.

use std::fmt;

use super::MIGRATE;
use super::connection::{exists, failed};
use super::restore::{refresh_fleet, restore_certificates, restore_deployments, restore_drain, vacuum};
use crate::database::{DatabaseClient, Failure, Parameter, SqlState, Transaction};
use crate::error::{Error, Result};

/// Selects the certificates that runs of `api_tier` and `revocation` posted. It requires both marks, so that a
/// certificate of a similar name stays, and so does a seeded one.
const ISSUED: &str =
    "(name LIKE 'loadtest-api-%' OR name LIKE 'loadtest-revoke-%') AND tags->>'source' = 'certctl-bench'";
/// The rows of certctl's caches of statuses, by table.
const STATUS_CACHES: [&str; 2] = ["crl_cache", "ocsp_response_cache"];
/// The contact of the ACME accounts of a run of `acme_enroll`, before and after the run's number.
const CONTACT: (&str, &str) = ("mailto:enrol-", "@loadtest.example.test");
/// Selects the rows of the accounts in a temporary table, by table, in an order in which nothing refers to a removed
/// row.
const ENROLLED: [(&str, &str); 4] = [
    (
        "acme_challenges",
        "authz_id IN (SELECT authz_id FROM acme_authorizations JOIN acme_orders USING (order_id) \
         JOIN pg_temp.enrolled USING (account_id))",
    ),
    ("acme_authorizations", "order_id IN (SELECT order_id FROM acme_orders JOIN pg_temp.enrolled USING (account_id))"),
    ("acme_orders", "account_id IN (SELECT account_id FROM pg_temp.enrolled)"),
    ("acme_accounts", "account_id IN (SELECT account_id FROM pg_temp.enrolled)"),
];
/// Selects the certificates that certctl issued for orders of such a run, whatever their domain.
pub(super) const ACME_ISSUED: &str = "name LIKE 'acme-%' AND common_name ~ '^e[0-9]+-[0-9a-f]{16}[.]'";
const DOING: &str = "removing the rows that runs have made";

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

/// Removes the rows that runs created, and no others: the ACME accounts that they made, with their orders; the
/// certificates that they posted, or that were issued for these orders, with all rows that depend on them; and the jobs
/// and versions of seeded certificates. Empties certctl's caches of OCSP answers and revocation lists, which it fills
/// again. Puts all seeded certificates and agents back.
///
/// Audit rows stay, since certctl permits no one to delete them, and so do ACME nonces, which cannot be attributed to a
/// run.
pub fn clean(client: &mut DatabaseClient) -> Result<Cleaned> {
    // Orders refer to certificates.
    let enrolled = remove_enrolled(client)?;
    let mut cleaned = remove_certificates(client, &format!("({ISSUED}) OR ({ACME_ISSUED})"), &[])?;
    for (table, removed) in empty_status_caches(client)? {
        if removed > 0 {
            cleaned.add(table, removed, 0);
        }
    }
    for table in reset(client)?.tables.into_iter().chain(enrolled.tables) {
        cleaned.add(&table.table, table.removed, table.restored);
    }
    Ok(cleaned)
}

/// Removes the certificates that runs posted, with all rows that depend on them, and vacuums their table; returns the
/// number of certificates.
///
/// Each run of `api_tier` begins with this, since a list costs certctl a scan of the whole table.
pub fn clean_issued(client: &mut DatabaseClient) -> Result<u64> {
    Ok(remove_certificates(client, ISSUED, &[])?.tables[0].removed)
}

/// Removes the certificates that runs posted, but for those of names that begin with `kept`, with all rows that depend
/// on them, and empties certctl's caches of OCSP answers and revocation lists; returns the number of certificates.
///
/// Each run of `revocation` begins with this, so that its lists hold its own certificates alone.
pub fn clean_revoked(client: &mut DatabaseClient, kept: &str) -> Result<u64> {
    let removed =
        remove_certificates(client, &format!("{ISSUED} AND NOT starts_with(name, $1)"), &[&kept])?.tables[0].removed;
    empty_status_caches(client)?;
    Ok(removed)
}

/// Empties certctl's caches of statuses; returns the number of rows removed from each.
fn empty_status_caches(client: &mut DatabaseClient) -> Result<Vec<(&'static str, u64)>> {
    let mut emptied = Vec::new();
    for table in STATUS_CACHES {
        if exists(client, table)? {
            let removed = client.execute(&format!("DELETE FROM {table}"), &[]).map_err(|error| unremoved(&error))?;
            vacuum(client, table)?;
            emptied.push((table, removed));
        }
    }
    Ok(emptied)
}

/// Puts all seeded certificates and agents back to their first state, and deletes the jobs of these certificates, and
/// the versions and notifications of those that agents deploy and of those of a drain.
pub fn reset(client: &mut DatabaseClient) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    let certificates =
        [restore_certificates(client, 0)?, restore_deployments(client, 0)?, restore_drain(client, 0, None)?];
    for restored in certificates {
        cleaned.add("managed_certificates", 0, restored.rows);
        let jobs_or_some = restored.deleted.into_iter().filter(|(table, removed)| *table == "jobs" || *removed > 0);
        for (table, removed) in jobs_or_some {
            cleaned.add(table, removed, 0);
        }
    }
    let agents = refresh_fleet(client, 0)?;
    cleaned.add("agents", 0, agents);
    Ok(cleaned)
}

/// Returns the contact of the ACME accounts of a run, by which their rows are found.
pub fn enrolment_contact(run: &str) -> String {
    format!("{}{run}{}", CONTACT.0, CONTACT.1)
}

/// Removes the ACME accounts that runs made, with all that belongs to them but certificates.
fn remove_enrolled(client: &mut DatabaseClient) -> Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    for (table, _) in ENROLLED {
        // Older certctls have no ACME server.
        if !exists(client, table)? {
            return Ok(cleaned);
        }
    }
    let mut transaction = client.transaction().map_err(|error| unremoved(&error))?;
    let ours = format!(
        "CREATE TEMPORARY TABLE enrolled ON COMMIT DROP AS SELECT account_id FROM acme_accounts \
         WHERE EXISTS (SELECT FROM unnest(contact) AS one WHERE one LIKE '{}')",
        enrolment_contact("%")
    );
    transaction.batch_execute(&ours).map_err(|error| unremoved(&error))?;
    for (table, condition) in ENROLLED {
        let delete = format!("DELETE FROM {table} WHERE {condition}");
        let removed = transaction.execute(&delete, &[]).map_err(|error| unremoved(&error))?;
        if removed > 0 {
            cleaned.add(table, removed, 0);
        }
    }
    transaction.commit().map_err(|error| unremoved(&error))?;
    for table in &cleaned.tables {
        vacuum(client, &table.table)?;
    }
    Ok(cleaned)
}

/// Removes the certificates that `condition` selects, with these values for its parameters. Their table is the first in
/// the result.
fn remove_certificates(client: &mut DatabaseClient, condition: &str, values: &[&dyn Parameter]) -> Result<Cleaned> {
    if !exists(client, "managed_certificates")? {
        return Err(Error::new(format!("{DOING}: the database has no table managed_certificates")).with_hint(MIGRATE));
    }
    let mut transaction = client.transaction().map_err(|error| unremoved(&error))?;
    let mut hanging = Vec::new();
    // The deletion would cascade to these rows; they are deleted separately to be counted.
    for (table, column) in dependents(&mut transaction)? {
        let delete =
            format!("DELETE FROM {table} WHERE {column} IN (SELECT id FROM managed_certificates WHERE {condition})");
        let removed = transaction.execute(&delete, values).map_err(|error| unremoved(&error))?;
        hanging.push((table, removed));
    }
    let delete = format!("DELETE FROM managed_certificates WHERE {condition}");
    let issued = transaction.execute(&delete, values).map_err(|error| unremoved(&error))?;
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

/// Returns the tables whose rows are to be deleted together with the certificate that they reference, with the column
/// of the reference: those to which the deletion would cascade, and revocations, which certctl keeps from that.
fn dependents(transaction: &mut Transaction<'_>) -> Result<Vec<(String, String)>> {
    let rows = transaction.query(
        "SELECT DISTINCT key.conrelid::regclass::text, quote_ident(name.attname) FROM pg_constraint key \
         JOIN pg_attribute name ON name.attrelid = key.conrelid AND name.attnum = key.conkey[1] \
         WHERE key.contype = 'f' AND (key.confdeltype = 'c' OR key.conrelid = to_regclass('certificate_revocations')) \
         AND key.confrelid = to_regclass('managed_certificates') \
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
