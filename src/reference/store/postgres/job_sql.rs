//! Jobs in PostgreSQL.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::job_rows::{AWAITING_CSR, DeploymentTarget, Job, JobStore, NewJob, RUNNING};

const COLUMNS: &str = "job.id, job.type, job.certificate_id, job.target_id, job.agent_id, job.status, job.attempts,
    job.max_attempts, job.last_error, job.scheduled_at, job.started_at, job.completed_at, job.created_at";

impl JobStore for PostgresStore {
    async fn insert_job(&self, new: &NewJob) -> Result<(), StoreError> {
        let sql = "INSERT INTO jobs
                (id, type, certificate_id, target_id, agent_id, status, attempts, max_attempts, last_error,
                scheduled_at, started_at, completed_at, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            RETURNING id";
        let NewJob { id, kind, certificate_id, at } = new;
        let (nothing, never): (Option<&str>, Option<SystemTime>) = (None, None);
        let parameters: [&(dyn ToSql + Sync); 13] = [
            id,
            kind,
            certificate_id,
            &nothing,
            &nothing,
            &AWAITING_CSR,
            &0_i32,
            &3_i32,
            &nothing,
            at,
            &never,
            &never,
            at,
        ];
        self.pool.get().await?.query_one(sql, &parameters).await?;
        Ok(())
    }

    async fn claim_jobs(&self, agent_id: &str) -> Result<Vec<Job>, StoreError> {
        let assigned = format!(
            "SELECT {COLUMNS} FROM jobs job
            WHERE job.agent_id = $1 AND job.status = 'Pending' AND job.type = 'Deployment'
            ORDER BY job.created_at FOR UPDATE SKIP LOCKED"
        );
        let by_target = format!(
            "SELECT {COLUMNS} FROM jobs job JOIN deployment_targets target ON target.id = job.target_id
            WHERE target.agent_id = $1 AND job.agent_id IS NULL AND job.status = 'Pending'
                AND job.type = 'Deployment'
            ORDER BY job.created_at FOR UPDATE OF job SKIP LOCKED"
        );
        let awaiting = format!(
            "SELECT {COLUMNS} FROM jobs job
            WHERE job.status = 'AwaitingCSR' AND job.type IN ('Renewal', 'Issuance') AND EXISTS (
                SELECT FROM certificate_target_mappings mapping
                JOIN deployment_targets target ON target.id = mapping.target_id
                WHERE mapping.certificate_id = job.certificate_id AND target.agent_id = $1)
            ORDER BY job.created_at FOR UPDATE SKIP LOCKED"
        );
        let mut client = self.pool.get().await?;
        // Not the pool's own transaction type: nothing here is kept prepared.
        let transaction = (**client).transaction().await?;
        let mut jobs = jobs_of(&transaction.query(&assigned, &[&agent_id]).await?)?;
        jobs.extend(jobs_of(&transaction.query(&by_target, &[&agent_id]).await?)?);
        let renewals = jobs_of(&transaction.query(&awaiting, &[&agent_id]).await?)?;
        if !jobs.is_empty() {
            let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
            let sql = "UPDATE jobs SET status = $1 WHERE id = ANY ($2)";
            transaction.execute(sql, &[&RUNNING, &ids]).await?;
        }
        transaction.commit().await?;
        for job in &mut jobs {
            RUNNING.clone_into(&mut job.status);
        }
        jobs.extend(renewals);
        Ok(jobs)
    }

    async fn target(&self, id: &str) -> Result<Option<DeploymentTarget>, StoreError> {
        let sql = "SELECT id, name, type, agent_id, config::text, coalesce(encrypted_config, ''), enabled,
                last_tested_at, coalesce(test_status, 'untested'), coalesce(source, 'database'), created_at,
                updated_at
            FROM deployment_targets WHERE id = $1";
        let Some(row) = self.pool.get().await?.query_opt(sql, &[&id]).await? else { return Ok(None) };
        let config = row.try_get::<_, Option<&str>>(4)?.map(serde_json::from_str).transpose()?;
        Ok(Some(DeploymentTarget { kind: row.try_get(2)?, config }))
    }

    async fn jobs_by_status(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs job ORDER BY job.created_at DESC");
        let rows = self.pool.get().await?.query_typed(&sql, &[]).await?;
        let mut counts = BTreeMap::new();
        for job in jobs_of(&rows)? {
            *counts.entry(job.status).or_default() += 1;
        }
        Ok(counts)
    }

    async fn dead_notifications(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM notification_events WHERE status = $1";
        let row = self.pool.get().await?.query_one(sql, &[&"dead"]).await?;
        // A count is never negative.
        Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
    }
}

/// Reads rows; fails, like certctl, on a job without a certificate.
fn jobs_of(rows: &[Row]) -> Result<Vec<Job>, StoreError> {
    let job = |row: &Row| {
        Ok(Job {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            certificate_id: row.try_get(2)?,
            target_id: row.try_get(3)?,
            status: row.try_get(5)?,
        })
    };
    rows.iter().map(job).collect()
}
