//! Jobs: inserted by renewals, fetched by agents.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::SystemTime;

use serde_json::Value;

use super::StoreError;

/// The status of a renewal that waits for its agent's signing request, as certctl makes it with its default key
/// generation.
pub const AWAITING_CSR: &str = "AwaitingCSR";
pub const RUNNING: &str = "Running";

/// The operations that requests about jobs need of a store.
pub trait JobStore {
    /// Inserts a job that awaits a signing request.
    fn insert_job(&self, new: &NewJob) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Returns the jobs for this agent, in one transaction: pending deployments, which are marked as running, and
    /// renewals that await a signing request, which are handed out again at every poll.
    fn claim_jobs(&self, agent_id: &str) -> impl Future<Output = Result<Vec<Job>, StoreError>> + Send;
    /// Returns the target of a deployment.
    fn target(&self, id: &str) -> impl Future<Output = Result<Option<DeploymentTarget>, StoreError>> + Send;
    /// Counts the jobs by status. certctl loads every job to count them, and so does this store.
    fn jobs_by_status(&self) -> impl Future<Output = Result<BTreeMap<String, u64>, StoreError>> + Send;
    /// Counts the notifications that were given up.
    fn dead_notifications(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// A job to insert.
#[derive(Debug)]
pub struct NewJob {
    pub id: String,
    pub kind: &'static str,
    pub certificate_id: String,
    pub at: SystemTime,
}

/// A job that an agent is to do.
#[derive(Debug)]
pub struct Job {
    pub id: String,
    pub kind: String,
    pub certificate_id: String,
    pub target_id: Option<String>,
    pub status: String,
}

/// A place to which certificates are deployed.
#[derive(Debug)]
pub struct DeploymentTarget {
    pub kind: String,
    pub config: Option<Value>,
}
