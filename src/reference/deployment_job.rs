//! Deployments that no agent was named for: the server looks whether the target's agent could do them, and no more.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::app::App;
use crate::audit::Change;
use crate::store::job_rows::{Job, RUNNING};
use crate::store::{Agent, Store};
use crate::{issuance, notifications};

/// The longest silence of an agent that deployments are left to.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// Leaves the deployment to the target's agent, or fails it.
pub async fn process<S: Store>(app: &App<S>, job: &Job) -> Result<(), String> {
    app.store.set_job_status(&job.id, RUNNING, None).await.map_err(|error| error.to_string())?;
    let certificate = match app.store.certificate(&job.certificate_id).await {
        Ok(Some(certificate)) => certificate,
        Ok(None) => return Err(issuance::fail(app, job, "certificate fetch failed: not found".to_owned()).await),
        Err(error) => return Err(issuance::fail(app, job, format!("certificate fetch failed: {error}")).await),
    };
    let Some(target_id) = job.target_id.as_deref().filter(|id| !id.is_empty()) else {
        return Err(issuance::fail(app, job, "target_id not found in job".to_owned()).await);
    };
    let target = match app.store.target(target_id).await {
        Ok(Some(target)) => target,
        Ok(None) => return Err(issuance::fail(app, job, "target fetch failed: not found".to_owned()).await),
        Err(error) => return Err(issuance::fail(app, job, format!("target fetch failed: {error}")).await),
    };
    let agent = match app.store.agent(&target.agent_id).await {
        Ok(Some(agent)) => agent,
        Ok(None) => return Err(issuance::fail(app, job, "agent fetch failed: not found".to_owned()).await),
        Err(error) => return Err(issuance::fail(app, job, format!("agent fetch failed: {error}")).await),
    };
    let mut details = json!({"job_id": job.id, "target_id": target_id, "agent_id": agent.id});
    let Some(reason) = unable(&agent, SystemTime::now()) else {
        app.audit.append(&Change::by_system("deployment_job_dispatched", &certificate.id, details)).await;
        return Ok(());
    };
    let failure = issuance::fail(app, job, reason.to_owned()).await;
    notifications::not_deployed(app, &certificate, &target.name, reason).await;
    details["reason"] = reason.into();
    app.audit.append(&Change::by_system("deployment_job_failed", &certificate.id, details)).await;
    Err(failure)
}

/// Returns the reason for which an agent will not fetch a deployment.
fn unable(agent: &Agent, now: SystemTime) -> Option<&'static str> {
    let silent = agent.last_heartbeat_at.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age > SILENCE));
    match agent.retired_at {
        Some(_) => Some("assigned agent is retired"),
        None if silent => Some("agent is offline"),
        None => None,
    }
}
