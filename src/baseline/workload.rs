//! The workload's fingerprint: a hash of everything that changes the requests to the system, and of nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::summary::Summary;
use crate::summary::plan::PlanFacts;
use crate::system::hex;

/// The properties of a workload, with their fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadIdentity {
    /// Each property, by workload and name.
    pub properties: BTreeMap<String, String>,
    /// A hash of all properties.
    pub fingerprint: String,
}

impl WorkloadIdentity {
    /// Collects the properties of a run's workloads. Not among them: the system's address, the folder of the results,
    /// and the lag from which an arrival counts as late.
    pub fn of(summary: &Summary) -> Self {
        Self::of_plans(&summary.about.scenario, summary.plans())
    }

    /// Does the same for the plans of a bench target.
    pub fn of_plans<'p>(scenario: &str, plans: impl Iterator<Item = &'p PlanFacts>) -> Self {
        let mut properties = BTreeMap::from([("scenario".to_owned(), scenario.to_owned())]);
        for plan in plans {
            properties.extend(facts(plan).map(|(name, value)| (format!("{}/{name}", plan.name), value)));
        }
        let fingerprint = Self::hash(&properties);
        Self { properties, fingerprint }
    }

    /// Reports whether the fingerprint is that of the properties.
    pub fn is_whole(&self) -> bool {
        self.fingerprint == Self::hash(&self.properties)
    }

    /// Describes the properties in which this and `other` differ, a line each.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.properties.keys().chain(other.properties.keys()).collect();
        let shown = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
        let pairs = names.into_iter().map(|name| (name, self.properties.get(name), other.properties.get(name)));
        pairs
            .filter(|(_, mine, theirs)| mine != theirs)
            .map(|(name, mine, theirs)| format!("{name}: {} against {}", shown(mine), shown(theirs)))
            .collect()
    }

    fn hash(properties: &BTreeMap<String, String>) -> String {
        let text: String = properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        short_hash(&text)
    }
}

/// Returns the first 64 bits of a text's SHA-256, in hexadecimal.
pub fn short_hash(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

/// Returns the properties of one workload. Its title holds what only its scenario knows, such as the size of a batch.
fn facts(plan: &PlanFacts) -> impl Iterator<Item = (&'static str, String)> {
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    [
        ("affinity", Some(plan.affinity.to_string())),
        ("arrivals", plan.arrivals.clone()),
        ("clients", Some(plan.clients.to_string())),
        ("connect_rate_per_s", number(plan.connect_rate_per_s)),
        ("connections", Some(plan.connections.to_string())),
        ("model", Some(plan.model.to_string())),
        ("rate_per_s", number(plan.rate_per_s)),
        ("rate_profile", plan.rate_profile.clone()),
        ("rng_seed", Some(plan.rng_seed.to_string())),
        ("rounds", plan.rounds.map(|rounds| rounds.to_string())),
        ("starts_after_s", Some(plan.starts_after_s.to_string())),
        ("think_s", number(plan.think_s)),
        ("timeout_s", Some(plan.timeout_s.to_string())),
        ("title", Some(plan.title.clone())),
        ("warm_up_s", Some(plan.warm_up_s.to_string())),
        ("window_s", Some(plan.window_s.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
}
