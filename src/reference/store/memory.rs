//! The in-memory store: for machines without PostgreSQL. Its numbers say nothing about a database.

mod acme_memory;
mod acme_orders_memory;
mod certificate_memory;
mod job_memory;
mod publication_memory;
mod revocation_memory;
mod target_memory;
mod version_memory;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use certctl_bench::servers::hex;
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

use self::acme_memory::AcmeTables;
use self::certificate_memory::Table;
use self::job_memory::Jobs;
use self::publication_memory::Publications;
use self::revocation_memory::Revocations;
use self::target_memory::Targets;
use self::version_memory::Versions;
use super::{Agent, AuditEvent, Grant, Metadata, ONLINE, Permission, Settings, Store, StoreError};
use crate::clock::rfc3339_micros;
use crate::permissions::Role;

/// The rows that certificates refer to, as in `schema.sql`.
const OWNER: &str = "o-alice";
const TEAM: &str = "t-platform";
const ISSUER: &str = "iss-local";
const POLICIES: [&str; 2] = ["rp-default", "rp-standard"];
const PROFILES: [&str; 2] = ["prof-standard-tls", "prof-challenge"];

/// The numbers of rows that an in-memory store begins with.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    pub agents: u32,
    pub certificates: u32,
    /// Targets, one for each of the first agents; the certificates are mapped to them in turn.
    pub targets: u32,
    /// Certificates that agents deploy, each with a target of its own, of one of the first agents.
    pub deployments: u32,
    /// Certificates of a job drain.
    pub drain: u32,
    /// The first agents, which have a target each if there are certificates of a job drain; these are mapped to them in
    /// turn.
    pub drain_agents: u32,
}

/// All rows but those of the audit chain, of which it holds the head, and of notifications.
pub struct MemoryStore {
    agents: HashMap<String, Mutex<Agent>>,
    certificates: RwLock<Table>,
    targets: Targets,
    versions: RwLock<Versions>,
    jobs: Mutex<Jobs>,
    revocations: RwLock<Revocations>,
    publications: RwLock<Publications>,
    acme: Mutex<AcmeTables>,
    grants: Vec<Grant>,
    chain: Mutex<Chain>,
}

/// The end of the audit chain. Rows themselves are not kept: a long run would fill the memory.
#[derive(Default)]
struct Chain {
    head_hash: String,
    rows: u64,
}

impl MemoryStore {
    /// Returns a store with so many rows, shaped like the seed.
    pub fn new(seeds: Seeds, grants: Vec<Grant>) -> (Self, Settings) {
        let now = SystemTime::now();
        let agents = (1..=seeds.agents).map(|n| seeded_agent(n, now)).map(|agent| (agent.id.clone(), agent.into()));
        let agents: HashMap<_, _> = agents.collect();
        let values = Map::from_iter([("agents".to_owned(), json!(agents.len()))]);
        let settings = Settings { store: "in-memory".to_owned(), values };
        let deployments = seeds.deployments.min(seeds.agents);
        let of_drain = if seeds.drain > 0 { seeds.drain_agents.min(seeds.agents) } else { 0 };
        let targets = Targets::seeded(seeds.targets.min(seeds.agents), deployments, of_drain);
        let seeded = Table::seeded([seeds.certificates, deployments, seeds.drain], now, &targets);
        let certificates = RwLock::new(seeded);
        let store = Self {
            agents,
            certificates,
            targets,
            versions: RwLock::default(),
            jobs: Mutex::default(),
            revocations: RwLock::default(),
            publications: RwLock::default(),
            acme: Mutex::default(),
            grants,
            chain: Mutex::default(),
        };
        (store, settings)
    }

    fn locked(&self, id: &str) -> Option<MutexGuard<'_, Agent>> {
        // A poisoned agent is whole all the same: fields are only ever replaced by complete values.
        self.agents.get(id).map(|agent| agent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn granted(&self, actor: &str) -> impl Iterator<Item = Role> {
        self.grants.iter().filter(move |grant| grant.actor == actor).filter_map(|grant| Role::by_id(grant.role))
    }
}

impl Store for MemoryStore {
    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn roles(&self, actor: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.granted(actor).map(|role| role.id.to_owned()).collect())
    }

    async fn permissions(&self, actor: &str) -> Result<Vec<Permission>, StoreError> {
        let global = |name: &str| Permission { name: name.to_owned(), scope_type: "global".to_owned(), scope_id: None };
        Ok(self.granted(actor).flat_map(Role::permissions).map(global).collect())
    }

    async fn agent(&self, id: &str) -> Result<Option<Agent>, StoreError> {
        Ok(self.locked(id).map(|agent| agent.clone()))
    }

    async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let agents = self.agents.keys().filter_map(|id| self.locked(id).map(|agent| agent.clone()));
        Ok(agents.filter(|agent| agent.retired_at.is_none()).collect())
    }

    async fn record_heartbeat(
        &self,
        id: &str,
        at: SystemTime,
        metadata: Option<&Metadata>,
    ) -> Result<bool, StoreError> {
        let Some(mut agent) = self.locked(id).filter(|agent| agent.retired_at.is_none()) else { return Ok(false) };
        agent.last_heartbeat_at = Some(at);
        if let Some(metadata) = metadata {
            metadata.apply(&mut agent);
        }
        Ok(true)
    }

    async fn rewrite_agent(&self, agent: &Agent) -> Result<(), StoreError> {
        if let Some(mut current) = self.locked(&agent.id) {
            *current = agent.clone();
        }
        Ok(())
    }

    async fn append_audit(&self, event: &AuditEvent) -> Result<(), StoreError> {
        // The hash is computed inside the lock on purpose: certctl serialises exactly this.
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        chain.head_hash = link(&chain.head_hash, event);
        chain.rows += 1;
        Ok(())
    }
}

/// Returns the hash that ties an audit row to the one before it, over the same text as in the database.
fn link(previous: &str, event: &AuditEvent) -> String {
    let at = rfc3339_micros(event.at);
    let fields = [
        previous,
        &event.id,
        &event.actor,
        event.actor_type,
        &event.action,
        event.resource_type,
        &event.resource_id,
        &event.details,
        &at,
        event.category,
    ];
    hex(&Sha256::digest(fields.join("|")))
}

/// Returns agent `n` of the fleet, as `seed/02_agent_fleet.sql` has it.
fn seeded_agent(n: u32, now: SystemTime) -> Agent {
    let os = match n % 10 {
        0 => "windows",
        1 => "darwin",
        _ => "linux",
    };
    let architecture = if (n / 10).is_multiple_of(5) { "arm64" } else { "amd64" };
    let ago = |age: Duration| now.checked_sub(age).unwrap_or(now);
    Agent {
        id: format!("ag-loadtest-{n:05}"),
        name: format!("loadtest-agent-{n:05}"),
        hostname: format!("loadtest-{n:05}.fleet.example.test"),
        status: ONLINE.to_owned(),
        last_heartbeat_at: Some(ago(Duration::from_millis(12) * ((n - 1) % 5_000 + 1))),
        registered_at: ago(Duration::from_secs(86_400) * ((n - 1) % 90 + 1)),
        api_key_hash: "!loadtest: no key has this hash".to_owned(),
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        ip_address: format!("10.{}.{}.{}", 42 + (n - 1) / 62_500, (n - 1) / 250 % 250, (n - 1) % 250 + 1),
        version: "2.1.0".to_owned(),
        retired_at: None,
        retired_reason: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_and_architecture_of_the_fleet_are_independent() {
        let now = SystemTime::now();
        let mut pairs: HashMap<(String, String), u32> = HashMap::new();
        for agent in (1..=5_000).map(|n| seeded_agent(n, now)) {
            *pairs.entry((agent.os, agent.architecture)).or_default() += 1;
        }
        let address = |n| seeded_agent(n, now).ip_address;
        assert_eq!([address(1), address(251), address(5_000)], ["10.42.0.1", "10.42.1.1", "10.42.19.250"]);
        let count = |os: &str, arch: &str| pairs[&(os.to_owned(), arch.to_owned())];
        assert_eq!((count("linux", "amd64"), count("linux", "arm64")), (3_200, 800));
        assert_eq!((count("windows", "amd64"), count("windows", "arm64")), (400, 100));
        assert_eq!((count("darwin", "amd64"), count("darwin", "arm64")), (400, 100));
    }
}
