//! Jobs in PostgreSQL.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::job_rows::{DeploymentTarget, Job, JobStore, PENDING, PendingClaim, RUNNING};

const COLUMNS: &str = "job.id, job.type, job.certificate_id, job.target_id, job.agent_id, job.status, job.attempts,
    job.max_attempts, job.last_error, job.scheduled_at, job.started_at, job.completed_at, job.created_at";
const TARGET_COLUMNS: &str = "target.id, target.name, target.type, target.agent_id, target.config::text,
    coalesce(target.encrypted_config, ''), target.enabled, target.last_tested_at,
    coalesce(target.test_status, 'untested'), coalesce(target.source, 'database'), target.created_at,
    target.updated_at";

impl JobStore for PostgresStore {
    async fn insert_job(&self, new: &Job) -> Result<(), StoreError> {
        let sql = "INSERT INTO jobs
                (id, type, certificate_id, target_id, agent_id, status, attempts, max_attempts, last_error,
                scheduled_at, started_at, completed_at, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            RETURNING id";
        let Job { id, kind, certificate_id, target_id, agent_id, status, attempts, max_attempts, .. } = new;
        let Job { last_error, scheduled_at, started_at, completed_at, created_at, .. } = new;
        let parameters: [&(dyn ToSql + Sync); 13] = [
            id,
            kind,
            certificate_id,
            target_id,
            agent_id,
            status,
            attempts,
            max_attempts,
            last_error,
            scheduled_at,
            started_at,
            completed_at,
            created_at,
        ];
        self.pool.get().await?.query_one(sql, &parameters).await?;
        Ok(())
    }

    async fn job(&self, id: &str) -> Result<Option<Job>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs job WHERE job.id = $1");
        let row = self.pool.get().await?.query_opt(&sql, &[&id]).await?;
        row.as_ref().map(job_of).transpose()
    }

    async fn jobs_of_certificate(&self, certificate_id: &str) -> Result<Vec<Job>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM jobs job WHERE job.certificate_id = $1 ORDER BY job.created_at DESC");
        jobs_of(&self.pool.get().await?.query(&sql, &[&certificate_id]).await?)
    }

    async fn set_job_status(&self, id: &str, status: &str, error: Option<&str>) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET status = $1, last_error = $2 WHERE id = $3";
        Ok(self.pool.get().await?.execute(sql, &[&status, &error, &id]).await? > 0)
    }

    async fn rewrite_job(&self, changed: &Job) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET (type, certificate_id, target_id, agent_id, status, attempts, max_attempts,
                last_error, scheduled_at, started_at, completed_at)
            = ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            WHERE id = $12";
        let Job { id, kind, certificate_id, target_id, agent_id, status, attempts, max_attempts, .. } = changed;
        let Job { last_error, scheduled_at, started_at, completed_at, .. } = changed;
        let parameters: [&(dyn ToSql + Sync); 12] = [
            kind,
            certificate_id,
            target_id,
            agent_id,
            status,
            attempts,
            max_attempts,
            last_error,
            scheduled_at,
            started_at,
            completed_at,
            id,
        ];
        Ok(self.pool.get().await?.execute(sql, &parameters).await? > 0)
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
        run(&transaction, &mut jobs).await?;
        transaction.commit().await?;
        jobs.extend(renewals);
        Ok(jobs)
    }

    async fn claim_pending(&self, claim: PendingClaim) -> Result<Vec<Job>, StoreError> {
        let others =
            if claim.of_agents { "" } else { "AND NOT (job.type = 'Deployment' AND coalesce(job.agent_id, '') <> '')" };
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs job WHERE job.status = $1 {others}
            ORDER BY job.scheduled_at FOR UPDATE SKIP LOCKED LIMIT {}",
            claim.limit
        );
        let mut client = self.pool.get().await?;
        let transaction = (**client).transaction().await?;
        let mut jobs = jobs_of(&transaction.query(&sql, &[&PENDING]).await?)?;
        run(&transaction, &mut jobs).await?;
        transaction.commit().await?;
        Ok(jobs)
    }

    async fn target(&self, id: &str) -> Result<Option<DeploymentTarget>, StoreError> {
        let sql = format!("SELECT {TARGET_COLUMNS} FROM deployment_targets target WHERE target.id = $1");
        let row = self.pool.get().await?.query_opt(&sql, &[&id]).await?;
        row.as_ref().map(target_of).transpose()
    }

    async fn targets_of_certificate(&self, certificate_id: &str) -> Result<Vec<DeploymentTarget>, StoreError> {
        let sql = format!(
            "SELECT {TARGET_COLUMNS} FROM deployment_targets target
            JOIN certificate_target_mappings mapping ON mapping.target_id = target.id
            WHERE mapping.certificate_id = $1 ORDER BY target.created_at DESC"
        );
        self.pool.get().await?.query(&sql, &[&certificate_id]).await?.iter().map(target_of).collect()
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

/// Marks jobs as running, in one statement if there are any.
async fn run(transaction: &Transaction<'_>, jobs: &mut [Job]) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    transaction.execute("UPDATE jobs SET status = $1 WHERE id = ANY ($2)", &[&RUNNING, &ids]).await?;
    for job in jobs {
        RUNNING.clone_into(&mut job.status);
    }
    Ok(())
}

fn jobs_of(rows: &[Row]) -> Result<Vec<Job>, StoreError> {
    rows.iter().map(job_of).collect()
}

/// Reads a row; fails, like certctl, on a job without a certificate or a schedule.
fn job_of(row: &Row) -> Result<Job, StoreError> {
    Ok(Job {
        id: row.try_get(0)?,
        kind: row.try_get(1)?,
        certificate_id: row.try_get(2)?,
        target_id: row.try_get(3)?,
        agent_id: row.try_get(4)?,
        status: row.try_get(5)?,
        attempts: row.try_get(6)?,
        max_attempts: row.try_get(7)?,
        last_error: row.try_get(8)?,
        scheduled_at: row.try_get(9)?,
        started_at: row.try_get(10)?,
        completed_at: row.try_get(11)?,
        created_at: row.try_get(12)?,
        verification_status: "",
    })
}

fn target_of(row: &Row) -> Result<DeploymentTarget, StoreError> {
    let config = row.try_get::<_, Option<&str>>(4)?.map(serde_json::from_str).transpose()?;
    let (id, name, kind, agent_id) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(DeploymentTarget { id, name, kind, agent_id, config })
}
