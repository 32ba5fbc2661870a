//! Targets in memory: fixed at the start, since no request adds one.

use std::collections::HashMap;

use serde_json::json;

use crate::store::certificate_rows::Certificate;
use crate::store::job_rows::DeploymentTarget;

/// The targets by their id.
#[derive(Default)]
pub struct Targets(HashMap<String, DeploymentTarget>);

impl Targets {
    /// Returns a target of each of the first agents of the fleet.
    pub fn seeded(targets: u32) -> Self {
        Self((1..=targets).map(|n| (target_id(n), seeded_target(n))).collect())
    }

    /// Returns the target that certificate `n` of the seed is mapped to.
    pub fn of_certificate(&self, n: u32) -> Option<String> {
        let targets = u32::try_from(self.0.len()).ok()?;
        Some(target_id(n.checked_sub(1)?.checked_rem(targets)? + 1))
    }

    /// Returns the target of this id.
    pub fn get(&self, id: &str) -> Option<&DeploymentTarget> {
        self.0.get(id)
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
