//! Audit rows, which certctl writes for every authenticated request, counted before and after a run.

use std::time::{Duration, Instant};

use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::measure::validity::Work;

/// The longest wait for the audit rows of answered requests: certctl writes them after it answers.
const AUDIT_PATIENCE: Duration = Duration::from_secs(30);
/// The longest pause between two of these rows: without another one for so long, no more are awaited.
const AUDIT_GAP: Duration = Duration::from_secs(8);
const POLL_EVERY: Duration = Duration::from_millis(50);

/// A kind of audit row.
#[derive(Clone, Copy, Debug)]
pub struct AuditRows {
    /// Its name in results.
    pub name: &'static str,
    /// certctl's word for the method, such as `api_post`.
    pub action: &'static str,
    /// The path, as a LIKE pattern.
    pub path: &'static str,
    /// The status of the answer.
    pub status: u16,
}

/// The number of audit rows of some kinds before a run.
#[derive(Debug)]
pub struct AuditCheck {
    kinds: Vec<AuditRows>,
    before: Vec<u64>,
}

impl AuditCheck {
    /// Counts the rows of these kinds, once no more come: those of earlier requests, the preflight's among them, may
    /// still be on their way.
    pub fn open(database: &mut DatabaseClient, kinds: Vec<AuditRows>) -> Result<Self> {
        let before = poll(AUDIT_PATIENCE, || {
            let before = count_all(database, &kinds)?;
            std::thread::sleep(POLL_EVERY * 4);
            let after = count_all(database, &kinds)?;
            let settled = before == after;
            Ok((after, settled))
        })?;
        Ok(Self { kinds, before })
    }

    /// Returns the rows that came since, beside the number that is claimed of each kind.
    pub fn close(&self, claimed: &[u64], unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let found = self.poll_for(claimed, AUDIT_PATIENCE, database)?;
        let work = self.kinds.iter().zip(claimed).zip(found);
        Ok(work.map(|((kind, claimed), found)| Work::counted(kind.name, *claimed, found, unanswered, "SQL")).collect())
    }
}

impl AuditCheck {
    /// Waits until at least these many rows of each kind have come, or `patience` ends, which is no error.
    pub fn wait_for(&self, rows: &[u64], patience: Duration, database: &mut DatabaseClient) -> Result<()> {
        self.poll_for(rows, patience, database).map(drop)
    }

    /// Returns the rows that came since, once there are as many as `wanted`, none came for a while, or `patience` ends.
    fn poll_for(&self, wanted: &[u64], patience: Duration, database: &mut DatabaseClient) -> Result<Vec<u64>> {
        let (mut last, mut came) = (Vec::new(), Instant::now());
        poll(patience, || {
            let now = count_all(database, &self.kinds)?;
            let found: Vec<u64> =
                now.iter().zip(&self.before).map(|(now, before)| now.saturating_sub(*before)).collect();
            if found != last {
                (last, came) = (found.clone(), Instant::now());
            }
            let complete = found.iter().zip(wanted).all(|(found, wanted)| found >= wanted);
            Ok((found, complete || came.elapsed() > AUDIT_GAP))
        })
    }
}

fn count_all(database: &mut DatabaseClient, kinds: &[AuditRows]) -> Result<Vec<u64>> {
    kinds.iter().map(|kind| count(database, kind)).collect()
}

fn count(database: &mut DatabaseClient, kind: &AuditRows) -> Result<u64> {
    let sql = "SELECT count(*) FROM audit_events WHERE action = $1 AND resource_type = 'api' AND resource_id LIKE $2 \
               AND details->>'status' = $3";
    let row = database.query_one(sql, &[&kind.action, &kind.path, &kind.status.to_string()]);
    Ok(row.context(|| "counting audit rows".to_owned())?.get::<_, i64>(0) as u64)
}

/// Returns the number that a query gives.
pub fn number(database: &mut DatabaseClient, what: &str, sql: &str, pattern: &str) -> Result<u64> {
    let row = database.query_one(sql, &[&pattern]).context(|| format!("counting {what}"))?;
    Ok(row.get::<_, i64>(0) as u64)
}

/// Repeats `read` until its reading is good or `patience` ends; returns the last reading.
fn poll<T>(patience: Duration, mut read: impl FnMut() -> Result<(T, bool)>) -> Result<T> {
    let start = Instant::now();
    loop {
        let (reading, good) = read()?;
        if good || start.elapsed() > patience {
            return Ok(reading);
        }
        std::thread::sleep(POLL_EVERY);
    }
}
