//! Jobs and the targets of deployments: inserted by renewals, done by agents or by the processor.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use super::StoreError;
use crate::clock;

/// The status of a job that the processor, or for a deployment its agent, is to take.
pub const PENDING: &str = "Pending";
/// The status of a renewal that waits for its agent's signing request.
pub const AWAITING_CSR: &str = "AwaitingCSR";
pub const RUNNING: &str = "Running";
pub const COMPLETED: &str = "Completed";
pub const FAILED: &str = "Failed";

pub const RENEWAL: &str = "Renewal";
/// The type of the first renewal of a certificate.
pub const ISSUANCE: &str = "Issuance";
pub const DEPLOYMENT: &str = "Deployment";

/// The operations that requests about jobs need of a store.
pub trait JobStore {
    /// Inserts a job.
    fn insert_job(&self, new: &Job) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the job of this id.
    fn job(&self, id: &str) -> impl Future<Output = Result<Option<Job>, StoreError>> + Send;
    /// Returns the jobs of a certificate, the newest first.
    fn jobs_of_certificate(&self, certificate_id: &str) -> impl Future<Output = Result<Vec<Job>, StoreError>> + Send;
    /// Sets a job's status, and its error or none; false when there is no such job.
    fn set_job_status(
        &self,
        id: &str,
        status: &str,
        error: Option<&str>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Writes all fields of a job over the one of its id; false when there is none.
    fn rewrite_job(&self, changed: &Job) -> impl Future<Output = Result<bool, StoreError>> + Send;
    /// Returns the jobs for this agent, in one transaction: pending deployments, which are marked as running, and
    /// renewals that await a signing request, which are handed out again at every poll.
    fn claim_jobs(&self, agent_id: &str) -> impl Future<Output = Result<Vec<Job>, StoreError>> + Send;
    /// Returns the pending jobs of the processor, the first scheduled first, and marks them as running in the same
    /// transaction.
    fn claim_pending(&self, claim: PendingClaim) -> impl Future<Output = Result<Vec<Job>, StoreError>> + Send;
    /// Returns the target of a deployment.
    fn target(&self, id: &str) -> impl Future<Output = Result<Option<DeploymentTarget>, StoreError>> + Send;
    /// Returns the targets that a certificate is mapped to.
    fn targets_of_certificate(
        &self,
        certificate_id: &str,
    ) -> impl Future<Output = Result<Vec<DeploymentTarget>, StoreError>> + Send;
    /// Counts the jobs by status. certctl loads every job to count them, and so does this store.
    fn jobs_by_status(&self) -> impl Future<Output = Result<BTreeMap<String, u64>, StoreError>> + Send;
    /// Counts the notifications that were given up.
    fn dead_notifications(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// A claim of the processor.
#[derive(Clone, Copy, Debug)]
pub struct PendingClaim {
    /// The most jobs to claim.
    pub limit: usize,
    /// Deployments that an agent is to fetch are claimed too, as certctl does, and so taken from their agent.
    pub of_agents: bool,
}

/// A row of the table of jobs. The order of the fields is that of certctl's JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub certificate_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    pub status: String,
    pub attempts: i32,
    pub max_attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(serialize_with = "clock::serialize")]
    pub scheduled_at: SystemTime,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "clock::serialize_optional")]
    pub started_at: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "clock::serialize_optional")]
    pub completed_at: Option<SystemTime>,
    #[serde(serialize_with = "clock::serialize")]
    pub created_at: SystemTime,
    /// Always empty: certctl neither reads nor writes the column.
    pub verification_status: &'static str,
}

impl Job {
    /// Returns a new job, with neither target nor agent.
    pub fn new(id: String, kind: &str, certificate_id: &str, status: &str) -> Self {
        let now = SystemTime::now();
        Self {
            id,
            kind: kind.to_owned(),
            certificate_id: certificate_id.to_owned(),
            target_id: None,
            agent_id: None,
            status: status.to_owned(),
            attempts: 0,
            max_attempts: 3,
            last_error: None,
            scheduled_at: now,
            started_at: None,
            completed_at: None,
            created_at: now,
            verification_status: "",
        }
    }

    /// Returns true if the job is a deployment that its agent fetches.
    pub fn is_of_agent(&self) -> bool {
        self.kind == DEPLOYMENT && self.agent_id.as_ref().is_some_and(|id| !id.is_empty())
    }
}

/// A place to which certificates are deployed.
#[derive(Clone, Debug)]
pub struct DeploymentTarget {
    pub id: String,
    pub name: String,
    pub kind: String,
    pub agent_id: String,
    pub config: Option<Value>,
}
