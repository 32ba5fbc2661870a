//! The poll for work: the jobs that an agent receives.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::cli::Behaviour;
use crate::reply::{self, Reply};
use crate::store::job_rows::{AWAITING_CSR, DEPLOYMENT, Job};
use crate::store::{Store, StoreError};

#[derive(Serialize)]
struct Answer {
    count: usize,
    jobs: Vec<Item>,
}

/// A job, with the data that the agent needs to do it.
#[derive(Serialize)]
struct Item {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    certificate_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    common_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sans: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_config: Option<Value>,
    status: String,
}

/// Answers with the agent's jobs. A retired agent may poll too.
pub async fn answer<S: Store>(app: &App<S>, agent_id: &str, request_id: &str) -> Reply {
    match work_for(&*app.store, agent_id).await {
        Ok(Some(jobs)) => {
            app.work.polls.one();
            app.work.deployments_claimed.add(jobs.iter().filter(|job| job.kind == DEPLOYMENT).count());
            reply::json(StatusCode::OK, &Answer { count: jobs.len(), jobs })
        }
        Ok(None) if app.behaviour == Behaviour::AsDocumented => {
            reply::failure(StatusCode::NOT_FOUND, "Agent not found", request_id)
        }
        Ok(None) | Err(_) => {
            reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "Failed to get pending work", request_id)
        }
    }
}

/// Returns the agent's jobs; `None` for an agent that does not exist.
async fn work_for<S: Store>(store: &S, agent_id: &str) -> Result<Option<Vec<Item>>, StoreError> {
    if store.agent(agent_id).await?.is_none() {
        return Ok(None);
    }
    let mut items = Vec::new();
    for job in store.claim_jobs(agent_id).await? {
        items.push(item(store, job).await);
    }
    Ok(Some(items))
}

/// Adds the data that belongs to the job. Data that is not found is left out, as is data that certctl fails to read.
async fn item<S: Store>(store: &S, job: Job) -> Item {
    let Job { id, kind, certificate_id, target_id, status, .. } = job;
    let target = match target_id.as_deref().filter(|id| !id.is_empty()) {
        Some(id) => store.target(id).await.ok().flatten(),
        None => None,
    };
    let certificate = match status.as_str() {
        AWAITING_CSR => store.certificate(&certificate_id).await.ok().flatten(),
        _ => None,
    };
    let (common_name, sans) = certificate.map(|found| (found.common_name, found.sans)).unzip();
    let (target_type, target_config) = target.map(|found| (found.kind, found.config)).unzip();
    let (sans, target_config) = (sans.flatten().unwrap_or_default(), target_config.flatten());
    Item { id, kind, certificate_id, common_name, sans, target_id, target_type, target_config, status }
}
