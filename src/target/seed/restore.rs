//! The seeded rows put back to the state that the embedded seeds give, so that each run starts from the same one.

use postgres::Client;

use super::connection::failed;
use super::{FLEET_SQL, MIGRATE};
use crate::error::{Error, Result};

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
