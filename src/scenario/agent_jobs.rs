//! The jobs of agents, as certctl shows them in the answer to a poll, and the patience of an agent.

use std::time::Duration;

use serde::Deserialize;

/// The time after which certctl's agent gives up a request (`http.Client.Timeout` in cmd/agent/main.go).
pub(super) const AGENT_PATIENCE: Duration = Duration::from_secs(30);
/// certctl's word for the type of a job that deploys.
pub(super) const DEPLOYMENT: &str = "Deployment";
/// certctl's word for the status of a job that awaits a signing request.
pub(super) const AWAITING_CSR: &str = "AwaitingCSR";

/// The answer to a poll.
#[derive(Deserialize)]
pub(super) struct AgentJobs {
    /// The jobs.
    pub jobs: Vec<AgentJob>,
}

/// A job, without what the agents of this suite do not need. Its texts are not borrowed: one with an escape cannot be.
#[derive(Deserialize)]
pub(super) struct AgentJob {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The id of the certificate that it is about.
    pub certificate_id: String,
    /// Its status.
    pub status: String,
}
