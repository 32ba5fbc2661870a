//! Jobs in memory, with queues in place of the indexes, so that a poll costs what its agent has to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{MutexGuard, PoisonError};
use std::time::SystemTime;

use super::MemoryStore;
use crate::store::StoreError;
use crate::store::job_rows::{
    AWAITING_CSR, DEPLOYMENT, DeploymentTarget, ISSUANCE, Job, JobStore, PENDING, PendingClaim, RENEWAL, RUNNING,
};

/// The most jobs: with more a long run would fill the memory.
const MAX_JOBS: usize = 1_000_000;

/// The table of jobs.
#[derive(Default)]
pub struct Jobs {
    rows: HashMap<String, Job>,
    by_certificate: HashMap<String, Vec<String>>,
    queues: HashMap<Queue, BTreeSet<(SystemTime, String)>>,
}

/// A place where jobs wait, in the order of their time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Queue {
    /// Pending deployments of an agent.
    Deployments(String),
    /// Renewals that await a signing request of an agent.
    Requests(String),
    /// Pending jobs of all kinds, by their schedule.
    Processor,
}

impl Jobs {
    fn put(&mut self, job: Job, queues: Vec<Queue>) {
        for queue in queues {
            let at = queue.time_of(&job);
            self.queues.entry(queue).or_default().insert((at, job.id.clone()));
        }
        self.rows.insert(job.id.clone(), job);
    }

    fn take(&mut self, id: &str, queues: Vec<Queue>) -> Option<Job> {
        let job = self.rows.remove(id)?;
        for queue in queues {
            if let Some(waiting) = self.queues.get_mut(&queue) {
                waiting.remove(&(queue.time_of(&job), job.id.clone()));
                if waiting.is_empty() {
                    self.queues.remove(&queue);
                }
            }
        }
        Some(job)
    }

    fn waiting(&self, queue: &Queue) -> impl Iterator<Item = &Job> {
        self.queues.get(queue).into_iter().flatten().filter_map(|(_, id)| self.rows.get(id))
    }
}

impl Queue {
    fn time_of(&self, job: &Job) -> SystemTime {
        if *self == Self::Processor { job.scheduled_at } else { job.created_at }
    }
}

impl MemoryStore {
    /// Locks the jobs. Certificates may be locked after them, never before.
    fn locked_jobs(&self) -> MutexGuard<'_, Jobs> {
        // A poisoned table may have lost a job that was being changed, and is otherwise whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the queues in which a job waits.
    fn queues_of(&self, job: &Job) -> Vec<Queue> {
        match (job.status.as_str(), job.kind.as_str()) {
            (PENDING, DEPLOYMENT) => {
                let target = job.target_id.as_ref().and_then(|id| self.targets.get(id));
                let agent_id = job.agent_id.clone().or_else(|| target.map(|target| target.agent_id.clone()));
                agent_id.map(Queue::Deployments).into_iter().chain([Queue::Processor]).collect()
            }
            (PENDING, _) => vec![Queue::Processor],
            (AWAITING_CSR, RENEWAL | ISSUANCE) => {
                let table = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
                let agents = table.get(&job.certificate_id).into_iter().flat_map(|one| self.targets.agents_of(one));
                agents.map(|agent_id| Queue::Requests(agent_id.to_owned())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Changes a job and its place in the queues; false when there is none.
    fn change(&self, jobs: &mut Jobs, id: &str, change: impl FnOnce(&mut Job)) -> bool {
        let Some(queues) = jobs.rows.get(id).map(|job| self.queues_of(job)) else { return false };
        let Some(mut job) = jobs.take(id, queues) else { return false };
        change(&mut job);
        let queues = self.queues_of(&job);
        jobs.put(job, queues);
        true
    }

    /// Marks jobs as running, and returns them.
    fn run(&self, jobs: &mut Jobs, ids: &[String]) -> Vec<Job> {
        for id in ids {
            self.change(jobs, id, |job| RUNNING.clone_into(&mut job.status));
        }
        ids.iter().filter_map(|id| jobs.rows.get(id).cloned()).collect()
    }
}

impl JobStore for MemoryStore {
    async fn insert_job(&self, new: &Job) -> Result<(), StoreError> {
        let mut jobs = self.locked_jobs();
        if jobs.rows.len() >= MAX_JOBS {
            return Err(StoreError::because("no room in memory for more jobs"));
        }
        let queues = self.queues_of(new);
        jobs.by_certificate.entry(new.certificate_id.clone()).or_default().push(new.id.clone());
        jobs.put(new.clone(), queues);
        Ok(())
    }

    async fn job(&self, id: &str) -> Result<Option<Job>, StoreError> {
        Ok(self.locked_jobs().rows.get(id).cloned())
    }

    async fn jobs_of_certificate(&self, certificate_id: &str) -> Result<Vec<Job>, StoreError> {
        let jobs = self.locked_jobs();
        let ids = jobs.by_certificate.get(certificate_id);
        Ok(ids.into_iter().flatten().rev().filter_map(|id| jobs.rows.get(id).cloned()).collect())
    }

    async fn set_job_status(&self, id: &str, status: &str, error: Option<&str>) -> Result<bool, StoreError> {
        Ok(self.change(&mut self.locked_jobs(), id, |job| {
            status.clone_into(&mut job.status);
            job.last_error = error.map(str::to_owned);
        }))
    }

    async fn rewrite_job(&self, changed: &Job) -> Result<bool, StoreError> {
        Ok(self.change(&mut self.locked_jobs(), &changed.id, |job| job.clone_from(changed)))
    }

    async fn claim_jobs(&self, agent_id: &str) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.locked_jobs();
        let deployments = Queue::Deployments(agent_id.to_owned());
        let pending: Vec<String> = jobs.waiting(&deployments).map(|job| job.id.clone()).collect();
        let mut claimed = self.run(&mut jobs, &pending);
        claimed.extend(jobs.waiting(&Queue::Requests(agent_id.to_owned())).cloned());
        Ok(claimed)
    }

    async fn claim_pending(&self, claim: PendingClaim) -> Result<Vec<Job>, StoreError> {
        let mut jobs = self.locked_jobs();
        let claimable = jobs.waiting(&Queue::Processor).filter(|job| claim.of_agents || !job.is_of_agent());
        let pending: Vec<String> = claimable.take(claim.limit).map(|job| job.id.clone()).collect();
        Ok(self.run(&mut jobs, &pending))
    }

    async fn target(&self, id: &str) -> Result<Option<DeploymentTarget>, StoreError> {
        Ok(self.targets.get(id).cloned())
    }

    async fn targets_of_certificate(&self, certificate_id: &str) -> Result<Vec<DeploymentTarget>, StoreError> {
        let table = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        let targets = table.get(certificate_id).into_iter().flat_map(|certificate| self.targets.of(certificate));
        Ok(targets.cloned().collect())
    }

    async fn jobs_by_status(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        for job in self.locked_jobs().rows.values() {
            *counts.entry(job.status.clone()).or_default() += 1;
        }
        Ok(counts)
    }

    async fn dead_notifications(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}
