//! Targets in memory: fixed at the start, since no request adds one.

use std::collections::HashMap;

use serde_json::json;

use crate::store::certificate_rows::Certificate;
use crate::store::job_rows::DeploymentTarget;

/// The targets by their id.
#[derive(Default)]
pub struct Targets {
    by_id: HashMap<String, DeploymentTarget>,
    /// The number of those that certificates are mapped to in turn.
    in_turn: u32,
}

impl Targets {
    /// Returns targets of the first agents of the fleet: those that certificates are mapped to in turn, and those of
    /// `seed/03_deploy_loop.sql`.
    pub fn seeded(in_turn: u32, deployments: u32) -> Self {
        let all = (1..=in_turn).map(seeded_target).chain((1..=deployments).map(deployment_target));
        Self { by_id: all.map(|target| (target.id.clone(), target)).collect(), in_turn }
    }

    /// Returns the target that certificate `n` of the seed is mapped to.
    pub fn of_certificate(&self, n: u32) -> Option<String> {
        Some(target_id(n.checked_sub(1)?.checked_rem(self.in_turn)? + 1))
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

fn target_id(n: u32) -> String {
    format!("tgt-loadtest-{n:05}")
}

fn seeded_target(n: u32) -> DeploymentTarget {
    let file = |kind: &str| format!("/etc/nginx/tls/loadtest-{n:05}.{kind}");
    DeploymentTarget {
        id: target_id(n),
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
