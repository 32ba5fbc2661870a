//! The seeded rows put back to the state that the embedded seeds give, so that each run starts from the same one.

use super::connection::failed;
use super::{CERTIFICATES_SQL, FLEET_SQL, MIGRATE};
use crate::database::{Client, Failure, Transaction};
use crate::error::{Error, Result};

/// Puts the seeded agents back to the state that the embedded seed gives, and no other row; returns how many.
///
/// Each run thus starts from the same state: an agent that went Offline in between would take certctl's path of two
/// updates, the second of which writes the old heartbeat time back. Then vacuums the table, since the dead rows would
/// call autovacuum into the measured window. Fails, changing nothing, when there are fewer than `agents`.
pub fn refresh_fleet(client: &mut Client, agents: u64) -> Result<u64> {
    let mut transaction = client.transaction().map_err(|error| FLEET.failed(&error))?;
    let restored = FLEET.restore(&mut transaction, agents)?;
    transaction.commit().map_err(|error| FLEET.failed(&error))?;
    vacuum(client, FLEET.table)?;
    Ok(restored)
}

/// Puts the seeded certificates back to the state that the embedded seed gives, deletes their jobs, and touches no other
/// row; returns how many certificates.
///
/// One that is in renewal already is skipped by certctl: without this, a run would measure the skipping. Then vacuums
/// both tables, as [`refresh_fleet`] does. Fails, changing nothing, when there are fewer than `certificates`.
pub fn refresh_certificates(client: &mut Client, certificates: u64) -> Result<u64> {
    Ok(restore_certificates(client, certificates)?.certificates)
}

/// What [`restore_certificates`] did.
pub(super) struct Restored {
    /// Certificates put back.
    pub certificates: u64,
    /// Jobs of these deleted.
    pub jobs: u64,
}

/// [`refresh_certificates`], which tells about the jobs too.
pub(super) fn restore_certificates(client: &mut Client, needed: u64) -> Result<Restored> {
    let failed = |error: Failure| CERTIFICATES.failed(&error);
    let mut transaction = client.transaction().map_err(failed)?;
    let jobs = CERTIFICATES.qualified(&mut transaction, "jobs")?;
    let certificates = CERTIFICATES.restore(&mut transaction, needed)?;
    let of_seeded = format!(
        "DELETE FROM {jobs} AS job USING pg_temp.managed_certificates AS first \
                             WHERE job.certificate_id = first.id"
    );
    let deleted = transaction.execute(&of_seeded, &[]).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    vacuum(client, CERTIFICATES.table)?;
    vacuum(client, "jobs")?;
    Ok(Restored { certificates, jobs: deleted })
}

/// How a warning begins that dead rows could not be removed.
pub const DEAD_ROWS: &str = "dead rows stay";
/// The tables that are vacuumed once rows are put back.
pub const VACUUMED: [&str; 3] = ["agents", "managed_certificates", "jobs"];

/// The hint that lets `tables` be vacuumed.
pub fn leave_to_vacuum(tables: &str) -> String {
    format!("give the database URL of the table's owner, or from PostgreSQL 17 on GRANT MAINTAIN ON {tables}")
}

/// Removes the dead rows of `table`, or leaves a warning that it may not, and tells the planner what is left.
pub(super) fn vacuum(client: &mut Client, table: &str) -> Result<()> {
    let earlier = client.take_warnings();
    let vacuumed = client.batch_execute(&format!("VACUUM (ANALYZE) {table}"));
    let skipped = client.take_warnings();
    earlier.into_iter().for_each(|warning| client.warn(warning));
    // To whom the table does not belong, PostgreSQL says so in a warning, and does nothing.
    for warning in skipped {
        client.warn(format!("{DEAD_ROWS} in {table}: {warning}; {}", leave_to_vacuum(table)));
    }
    vacuumed.map_err(|error| failed(&format!("vacuuming {table}"), &error))
}

/// The rows that one embedded seed makes.
struct Seeded {
    /// What a message calls them.
    rows: &'static str,
    table: &'static str,
    sql: &'static str,
    /// The setting that says how many there are, and how their ids begin.
    setting: &'static str,
    id: &'static str,
}

const FLEET: Seeded =
    Seeded { rows: "agents", table: "agents", sql: FLEET_SQL, setting: "certctl_bench.agents", id: "ag-loadtest-" };
const CERTIFICATES: Seeded = Seeded {
    rows: "certificates",
    table: "managed_certificates",
    sql: CERTIFICATES_SQL,
    setting: "certctl_bench.certificates",
    id: "cert-loadtest-bulk-",
};

impl Seeded {
    /// Writes the seed's values into every column of the rows that have its ids and names. Until the transaction ends,
    /// the table's bare name is that of a temporary one, which holds what the seed says of these rows.
    fn restore(&self, transaction: &mut Transaction<'_>, needed: u64) -> Result<u64> {
        let failed = |error: Failure| self.failed(&error);
        let table = self.qualified(transaction, self.table)?;
        let (columns, values) = self.columns(transaction)?;
        // As many as there may be: those of the highest number.
        let size = format!(
            "SELECT set_config('{}', coalesce(max(substr(id, {}))::int, 0)::text, true) FROM {table} \
             WHERE id ~ '^{}[0-9]{{5}}$'",
            self.setting,
            self.id.len() + 1,
            self.id
        );
        transaction.batch_execute(&size).map_err(failed)?;
        // It hides the real one from the seed, which thus states the rows here too.
        let first = format!(
            "CREATE TEMPORARY TABLE {0} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DROP; {1} \
             DELETE FROM pg_temp.{0} AS first \
             WHERE NOT EXISTS (SELECT FROM {table} AS seeded WHERE (seeded.id, seeded.name) = (first.id, first.name))",
            self.table, self.sql
        );
        transaction.batch_execute(&first).map_err(failed)?;
        let update = format!(
            "UPDATE {table} AS seeded SET ({columns}) = ROW ({values}) FROM pg_temp.{} AS first \
             WHERE seeded.id = first.id",
            self.table
        );
        let restored = transaction.execute(&update, &[]).map_err(failed)?;
        if restored < needed {
            return Err(Error::new(format!(
                "{}: there are {restored} of the {needed} that this run needs",
                self.doing()
            ))
            .mend(format!(
                "run `certctl-bench seed --{0} {needed}` on this database, or ask for fewer {0}",
                self.rows
            )));
        }
        Ok(restored)
    }

    /// The columns other than the id, and the same of the seed's rows.
    fn columns(&self, transaction: &mut Transaction<'_>) -> Result<(String, String)> {
        let row = transaction.query_one(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), \
                 string_agg('first.' || quote_ident(attname), ', ' ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attname <> 'id'",
            &[&self.table],
        );
        row.map(|row| (row.get(0), row.get(1))).map_err(|error| self.failed(&error))
    }

    /// The name of a real table that no temporary one can hide.
    fn qualified(&self, transaction: &mut Transaction<'_>, table: &str) -> Result<String> {
        let name = transaction.query_opt(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = to_regclass($1)",
            &[&table],
        );
        match name.map_err(|error| self.failed(&error))? {
            Some(row) => Ok(row.get(0)),
            None => Err(Error::new(format!("{}: the database has no table {table}", self.doing())).mend(MIGRATE)),
        }
    }

    fn doing(&self) -> String {
        format!("putting the seeded {} back to their first state", self.rows)
    }

    fn failed(&self, error: &Failure) -> Error {
        failed(&self.doing(), error)
    }
}
