//! Jobs: put up by renewals, fetched by agents.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::SystemTime;

use serde_json::Value;

use super::StoreError;

/// A renewal that waits for its agent's signing request: what certctl makes with its default key generation.
pub const AWAITING_CSR: &str = "AwaitingCSR";
pub const RUNNING: &str = "Running";

/// What requests about jobs need of a store.
pub trait JobStore {
    /// Inserts a job that awaits a signing request.
    fn insert_job(&self, new: &NewJob) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// The jobs for this agent, in one transaction: pending deployments, which are marked as running, and renewals
    /// that await a signing request, which are handed out again at every poll.
    fn claim_jobs(&self, agent_id: &str) -> impl Future<Output = Result<Vec<Job>, StoreError>> + Send;
    /// What a deployment goes to.
    fn target(&self, id: &str) -> impl Future<Output = Result<Option<DeploymentTarget>, StoreError>> + Send;
    /// How many jobs have which status. certctl loads every job to count them, and so do we.
    fn jobs_by_status(&self) -> impl Future<Output = Result<BTreeMap<String, u64>, StoreError>> + Send;
    /// How many notifications were given up.
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

/// Where a certificate is deployed.
#[derive(Debug)]
pub struct DeploymentTarget {
    pub kind: String,
    pub config: Option<Value>,
}
