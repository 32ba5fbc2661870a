//! The restoration of the seeded rows to the state in the embedded seeds, so that each run starts from the same state.

use super::connection::failed;
use super::{CERTIFICATES_SQL, DEPLOYMENTS_SQL, DRAIN_SQL, FLEET_SQL, MIGRATE};
use crate::database::{DatabaseClient, Failure, Transaction};
use crate::error::{Error, Result};

/// Puts the seeded agents back to the state in the embedded seed, and no other row; returns their number.
///
/// Each run thus starts from the same state: certctl updates an agent that went Offline meanwhile in two statements,
/// the second of which writes the old heartbeat time back. Then vacuums the table, since the dead rows would start
/// autovacuum in the measured window. Fails, without a change, if there are fewer than `agents`.
pub fn refresh_fleet(client: &mut DatabaseClient, agents: u64) -> Result<u64> {
    let mut transaction = client.transaction().map_err(|error| FLEET.failed(&error))?;
    let restored = FLEET.restore(&mut transaction, agents)?;
    transaction.commit().map_err(|error| FLEET.failed(&error))?;
    vacuum(client, FLEET.table)?;
    Ok(restored)
}

/// Puts the seeded certificates back to the state in the embedded seed, deletes their jobs, and changes no other row;
/// returns the number of certificates.
///
/// certctl skips a certificate that is in renewal already: without this, a run would measure the skipping. Then vacuums
/// both tables, as [`refresh_fleet`] does. Fails, without a change, if there are fewer than `certificates`.
pub fn refresh_certificates(client: &mut DatabaseClient, certificates: u64) -> Result<u64> {
    Ok(restore_certificates(client, certificates)?.rows)
}

/// Puts the seeded certificates that agents deploy back to the state in the embedded seed, deletes what renewals have
/// left of them (jobs, versions, notifications), and changes no other row; returns the number of certificates.
///
/// A certificate in renewal refuses the next one, and a job that is left over is handed to the next agent that polls.
/// Then vacuums the tables, as [`refresh_fleet`] does. Fails, without a change, if there are fewer than `deployments`.
pub fn refresh_deployments(client: &mut DatabaseClient, deployments: u64) -> Result<u64> {
    Ok(restore_deployments(client, deployments)?.rows)
}

/// Rows that were put back.
pub(super) struct Restored {
    /// The number of them.
    pub rows: u64,
    /// The rows of other tables that hung on them, and were deleted: table and number.
    pub deleted: Vec<(&'static str, u64)>,
}

/// Restores certificates as [`refresh_certificates`] does.
pub(super) fn restore_certificates(client: &mut DatabaseClient, needed: u64) -> Result<Restored> {
    CERTIFICATES.restore_alone(client, needed, &["jobs"])
}

/// Restores certificates as [`refresh_deployments`] does.
pub(super) fn restore_deployments(client: &mut DatabaseClient, needed: u64) -> Result<Restored> {
    DEPLOYMENTS.restore_alone(client, needed, &RENEWED)
}

/// Puts the certificates of a drain back to the state in the embedded seed, maps them to the targets of the first
/// `agents` agents (`None`: of all that have one), deletes what their renewals left, and changes no other row; returns
/// the number of certificates.
///
/// Then vacuums the tables, as [`refresh_fleet`] does. Fails, without a change, if there are fewer than `certificates`.
pub fn refresh_drain(client: &mut DatabaseClient, certificates: u64, agents: Option<u64>) -> Result<u64> {
    Ok(restore_drain(client, certificates, agents)?.rows)
}

/// The tables in which a renewal leaves rows.
const RENEWED: [&str; 3] = ["jobs", "certificate_versions", "notification_events"];
/// The tables of a drain beside that of its certificates.
const TARGETS: &str = "deployment_targets";
const MAPPINGS: &str = "certificate_target_mappings";

/// Restores the certificates of a drain as [`refresh_drain`] does, and returns the numbers of deleted rows too.
pub(super) fn restore_drain(client: &mut DatabaseClient, needed: u64, agents: Option<u64>) -> Result<Restored> {
    let failed = |error: Failure| DRAIN.failed(&error);
    let mut transaction = client.transaction().map_err(failed)?;
    let mut qualified = |table| DRAIN.qualified(&mut transaction, table);
    let (fleet, targets, mappings) = (qualified(FLEET.table)?, qualified(TARGETS)?, qualified(MAPPINGS)?);
    let renewed = [qualified(RENEWED[0])?, qualified(RENEWED[1])?, qualified(RENEWED[2])?];
    // Of one target at least: the seed deals the certificates out in turn.
    let size = agents.map_or_else(
        || format!("(SELECT greatest(count(*), 1) FROM {targets} WHERE id LIKE 'tgt-loadtest-drain-_____')"),
        |agents| agents.to_string(),
    );
    let setting = format!("SELECT set_config('certctl_bench.drain_agents', ({size})::text, true)");
    transaction.batch_execute(&setting).map_err(failed)?;
    let rows = DRAIN.restore(&mut transaction, needed)?;
    // The seed's targets and mappings are in temporary tables now, like its certificates.
    let mapped = format!(
        "INSERT INTO {targets} SELECT * FROM pg_temp.{TARGETS} AS first \
         WHERE EXISTS (SELECT FROM {fleet} AS agent WHERE agent.id = first.agent_id) ON CONFLICT DO NOTHING; \
         DELETE FROM {mappings} AS mapping USING pg_temp.managed_certificates AS first \
         WHERE mapping.certificate_id = first.id; \
         INSERT INTO {mappings} SELECT mapping.* FROM pg_temp.{MAPPINGS} AS mapping \
         JOIN pg_temp.managed_certificates AS first ON first.id = mapping.certificate_id \
         JOIN {targets} AS target ON target.id = mapping.target_id"
    );
    transaction.batch_execute(&mapped).map_err(failed)?;
    let mut deleted = Vec::new();
    for (table, name) in RENEWED.into_iter().zip(&renewed) {
        deleted.push((table, DRAIN.delete_hanging(&mut transaction, name)?));
    }
    transaction.commit().map_err(failed)?;
    for table in [DRAIN.table, MAPPINGS].into_iter().chain(RENEWED) {
        vacuum(client, table)?;
    }
    Ok(Restored { rows, deleted })
}

/// The beginning of a warning that dead rows could not be removed.
pub const DEAD_ROWS: &str = "dead rows stay";
/// The tables that are vacuumed once rows are put back.
pub const VACUUMED: [&str; 6] =
    ["agents", "managed_certificates", "jobs", MAPPINGS, "certificate_versions", "notification_events"];

/// Returns the hint for the right to vacuum `tables`.
pub fn leave_to_vacuum(tables: &str) -> String {
    format!("give the database URL of the table's owner, or from PostgreSQL 17 on GRANT MAINTAIN ON {tables}")
}

/// Removes the dead rows of `table`, or leaves a warning that this role may not, and updates the planner's statistics.
pub(super) fn vacuum(client: &mut DatabaseClient, table: &str) -> Result<()> {
    let earlier = client.take_warnings();
    let vacuumed = client.batch_execute(&format!("VACUUM (ANALYZE) {table}"));
    let skipped = client.take_warnings();
    earlier.into_iter().for_each(|warning| client.warn(warning));
    // If the role does not own the table, PostgreSQL does nothing and gives a warning.
    for warning in skipped {
        client.warn(format!("{DEAD_ROWS} in {table}: {warning}; {}", leave_to_vacuum(table)));
    }
    vacuumed.map_err(|error| failed(&format!("vacuuming {table}"), &error))
}

/// The rows of one embedded seed.
struct Seeded {
    /// Their name in messages.
    rows: &'static str,
    table: &'static str,
    sql: &'static str,
    /// The setting with their number, and the beginning of their ids.
    setting: &'static str,
    id: &'static str,
    /// The other tables that the seed writes to.
    beside: &'static [&'static str],
    /// The flag of `certctl-bench seed` with their number.
    flag: &'static str,
}

const FLEET: Seeded = Seeded {
    rows: "agents",
    table: "agents",
    sql: FLEET_SQL,
    setting: "certctl_bench.agents",
    id: "ag-loadtest-",
    beside: &[],
    flag: "--agents",
};
const CERTIFICATES: Seeded = Seeded {
    rows: "certificates",
    table: "managed_certificates",
    sql: CERTIFICATES_SQL,
    setting: "certctl_bench.certificates",
    id: "cert-loadtest-bulk-",
    beside: &[],
    flag: "--certificates",
};
const DRAIN: Seeded = Seeded {
    rows: "certificates of a drain",
    table: "managed_certificates",
    sql: DRAIN_SQL,
    setting: "certctl_bench.drain",
    id: "cert-loadtest-drain-",
    beside: &[TARGETS, MAPPINGS],
    flag: "--drain",
};

const DEPLOYMENTS: Seeded = Seeded {
    rows: "deployments",
    table: "managed_certificates",
    sql: DEPLOYMENTS_SQL,
    setting: "certctl_bench.deployments",
    id: "cert-loadtest-deploy-",
    beside: &[],
    flag: "--deployments",
};

impl Seeded {
    /// Restores certificates in a transaction of its own, deletes the rows of the tables `hanging` that belong to them,
    /// and vacuums all of these tables.
    fn restore_alone(&self, client: &mut DatabaseClient, needed: u64, hanging: &[&'static str]) -> Result<Restored> {
        let failed = |error: Failure| self.failed(&error);
        let mut transaction = client.transaction().map_err(failed)?;
        let names = hanging.iter().map(|table| self.qualified(&mut transaction, table)).collect::<Result<Vec<_>>>()?;
        let rows = self.restore(&mut transaction, needed)?;
        let mut deleted = Vec::new();
        for (table, name) in hanging.iter().zip(names) {
            deleted.push((*table, self.delete_hanging(&mut transaction, &name)?));
        }
        transaction.commit().map_err(failed)?;
        // Otherwise nothing was written.
        if rows > 0 || deleted.iter().any(|(_, deleted)| *deleted > 0) {
            for table in std::iter::once(&self.table).chain(hanging) {
                vacuum(client, table)?;
            }
        }
        Ok(Restored { rows, deleted })
    }

    /// Deletes the rows of a table that belong to the restored certificates; returns their number.
    fn delete_hanging(&self, transaction: &mut Transaction<'_>, table: &str) -> Result<u64> {
        let of_seeded = format!(
            "DELETE FROM {table} AS own USING pg_temp.{} AS first WHERE own.certificate_id = first.id",
            self.table
        );
        transaction.execute(&of_seeded, &[]).map_err(|error| self.failed(&error))
    }

    /// Writes the seed's values into every column of the rows that have its ids and names. Until the end of the
    /// transaction the table's bare name is that of a temporary table, which holds the seed's values of these rows.
    fn restore(&self, transaction: &mut Transaction<'_>, needed: u64) -> Result<u64> {
        let failed = |error: Failure| self.failed(&error);
        let table = self.qualified(transaction, self.table)?;
        let (columns, values) = self.columns(transaction)?;
        // The highest number of a row that exists, so that the seed covers all of them.
        let size = format!(
            "SELECT set_config('{}', coalesce(max(substr(id, {}))::int, 0)::text, true) FROM {table} \
             WHERE id ~ '^{}[0-9]{{5}}$'",
            self.setting,
            self.id.len() + 1,
            self.id
        );
        transaction.batch_execute(&size).map_err(failed)?;
        // A temporary table hides the real one from the seed, which thus inserts its rows into the temporary one.
        for beside in self.beside {
            let real = self.qualified(transaction, beside)?;
            let temporary = format!("CREATE TEMPORARY TABLE {beside} (LIKE {real} INCLUDING DEFAULTS) ON COMMIT DROP");
            transaction.batch_execute(&temporary).map_err(failed)?;
        }
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
                "{}: only {restored} of the {needed} that this run needs exist",
                self.doing()
            ))
            .with_hint(format!(
                "run `certctl-bench seed {} {needed}` on this database, or load fewer {}",
                self.flag, self.rows
            )));
        }
        Ok(restored)
    }

    /// Returns the lists of columns other than the id, of the real table and of the temporary one.
    fn columns(&self, transaction: &mut Transaction<'_>) -> Result<(String, String)> {
        let row = transaction.query_one(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), \
                 string_agg('first.' || quote_ident(attname), ', ' ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attname <> 'id'",
            &[&self.table],
        );
        row.map(|row| (row.get(0), row.get(1))).map_err(|error| self.failed(&error))
    }

    /// Returns the qualified name of a real table, which a temporary table cannot hide.
    fn qualified(&self, transaction: &mut Transaction<'_>, table: &str) -> Result<String> {
        let name = transaction.query_opt(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = to_regclass($1)",
            &[&table],
        );
        match name.map_err(|error| self.failed(&error))? {
            Some(row) => Ok(row.get(0)),
            None => Err(Error::new(format!("{}: the database has no table {table}", self.doing())).with_hint(MIGRATE)),
        }
    }

    fn doing(&self) -> String {
        format!("putting the seeded {} back to their first state", self.rows)
    }

    fn failed(&self, error: &Failure) -> Error {
        failed(&self.doing(), error)
    }
}
