//! Targets in memory: fixed at the start, since no request adds one.

use std::collections::HashMap;

use serde_json::json;

use crate::store::certificate_rows::Certificate;
use crate::store::job_rows::DeploymentTarget;

/// The targets.
#[derive(Default)]
pub struct Targets {
    by_id: HashMap<String, DeploymentTarget>,
    /// The number of those of the fleet that certificates are mapped to in turn.
    of_fleet: u32,
    /// The number of those that certificates of a job drain are mapped to in turn.
    of_drain: u32,
}

/// The beginnings of targets' ids.
const FLEET: &str = "tgt-loadtest-";
const DRAIN: &str = "tgt-loadtest-drain-";

impl Targets {
    /// Returns a target of each of the first `of_fleet` agents, those of `seed/03_deploy_loop.sql`, and one more of
    /// each of the first `of_drain` agents, for the certificates of a job drain.
    pub fn seeded(of_fleet: u32, deployments: u32, of_drain: u32) -> Self {
        let targets = |id, number| (1..=number).map(move |n| seeded_target(id, n));
        let in_turn = targets(FLEET, of_fleet).chain(targets(DRAIN, of_drain));
        let all = in_turn.chain((1..=deployments).map(deployment_target));
        Self { by_id: all.map(|target| (target.id.clone(), target)).collect(), of_fleet, of_drain }
    }

    /// Returns the target that certificate `n` of the seed is mapped to.
    pub fn of_certificate(&self, n: u32) -> Option<String> {
        Some(target_id(FLEET, n.checked_sub(1)?.checked_rem(self.of_fleet)? + 1))
    }

    /// Returns the target that certificate `n` of a job drain is mapped to.
    pub fn of_drained(&self, n: u32) -> Option<String> {
        Some(target_id(DRAIN, n.checked_sub(1)?.checked_rem(self.of_drain)? + 1))
    }

    /// Returns the target of this id.
    pub fn get(&self, id: &str) -> Option<&DeploymentTarget> {
        self.by_id.get(id)
    }

    /// Returns the targets that a certificate is mapped to.
    pub fn of(&self, certificate: &Certificate) -> impl Iterator<Item = &DeploymentTarget> {
        certificate.target_ids.iter().flatten().filter_map(|id| self.get(id))
    }

    /// Returns the agents of those targets.
    pub fn agents_of(&self, certificate: &Certificate) -> impl Iterator<Item = &str> {
        self.of(certificate).map(|target| target.agent_id.as_str())
    }
}

fn target_id(beginning: &str, n: u32) -> String {
    format!("{beginning}{n:05}")
}

fn seeded_target(beginning: &str, n: u32) -> DeploymentTarget {
    let file = |kind: &str| format!("/etc/nginx/tls/loadtest-{n:05}.{kind}");
    DeploymentTarget {
        id: target_id(beginning, n),
        name: format!("loadtest-target-{n:05}"),
        kind: "NGINX".to_owned(),
        agent_id: format!("ag-loadtest-{n:05}"),
        config: Some(json!({"cert_path": file("crt"), "key_path": file("key"), "reload_command": "nginx -s reload"})),
    }
}

/// Returns the target that certificate `n` of `seed/03_deploy_loop.sql` is mapped to.
fn deployment_target(n: u32) -> DeploymentTarget {
    DeploymentTarget {
        id: deployment_target_id(n),
        name: format!("loadtest-deploy-{n:05}"),
        kind: "NGINX".to_owned(),
        agent_id: format!("ag-loadtest-{n:05}"),
        config: Some(json!({})),
    }
}

/// Returns the id of that target.
pub fn deployment_target_id(n: u32) -> String {
    format!("tgt-loadtest-deploy-{n:05}")
}
