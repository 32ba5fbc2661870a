//! Jobs in memory: counted, not kept, since no request reads one. There are no targets, so that no agent has work.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::MemoryStore;
use crate::store::StoreError;
use crate::store::job_rows::{AWAITING_CSR, DeploymentTarget, Job, JobStore, NewJob};

impl JobStore for MemoryStore {
    async fn insert_job(&self, _: &NewJob) -> Result<(), StoreError> {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn claim_jobs(&self, _: &str) -> Result<Vec<Job>, StoreError> {
        Ok(Vec::new())
    }

    async fn target(&self, _: &str) -> Result<Option<DeploymentTarget>, StoreError> {
        Ok(None)
    }

    async fn jobs_by_status(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        Ok(BTreeMap::from([(AWAITING_CSR.to_owned(), self.jobs.load(Ordering::Relaxed))]))
    }

    async fn dead_notifications(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}
