//! The heartbeat: certctl's work between the permission check and the answer.

use std::time::SystemTime;

use certctl_bench::terminal;
use serde::Deserialize as _;

use crate::cli::Behaviour;
use crate::store::{Agent, Metadata, ONLINE, Store, StoreError};

/// The outcome of a heartbeat.
#[derive(Debug)]
pub enum Outcome {
    Recorded,
    Retired,
    Unknown,
    Failed,
}

/// Reads the metadata from a request's body. A body that does not decode counts as none; trailing bytes are ignored.
pub fn metadata(body: &[u8]) -> Option<Metadata> {
    let mut decoder = serde_json::Deserializer::from_slice(body);
    Metadata::deserialize(&mut decoder).ok().filter(|metadata| !metadata.is_empty())
}

/// Records one heartbeat: a SELECT, an UPDATE, and a second UPDATE when the agent was not Online.
pub async fn record<S: Store>(store: &S, behaviour: Behaviour, id: &str, metadata: Option<&Metadata>) -> Outcome {
    try_record(store, behaviour, id, metadata).await.unwrap_or_else(|error| {
        terminal::message(format_args!("certctl-reference: heartbeat failed: {error}\n"));
        Outcome::Failed
    })
}

async fn try_record<S: Store>(
    store: &S,
    behaviour: Behaviour,
    id: &str,
    metadata: Option<&Metadata>,
) -> Result<Outcome, StoreError> {
    let Some(agent) = store.agent(id).await? else { return Ok(Outcome::Unknown) };
    if agent.retired_at.is_some() {
        return Ok(Outcome::Retired);
    }
    let now = SystemTime::now();
    if !store.record_heartbeat(id, now, metadata).await? {
        return Ok(Outcome::Failed);
    }
    if agent.status != ONLINE {
        // certctl only logs a failure here.
        if let Err(error) = store.rewrite_agent(&back_online(agent, behaviour, now, metadata)).await {
            terminal::message(format_args!("certctl-reference: an agent could not be put Online: {error}\n"));
        }
    }
    Ok(Outcome::Recorded)
}

/// Returns the row for the second UPDATE. As built, it is the row from before the first one: the time and the metadata
/// of this very heartbeat are lost.
fn back_online(mut agent: Agent, behaviour: Behaviour, now: SystemTime, metadata: Option<&Metadata>) -> Agent {
    agent.status = ONLINE.to_owned();
    if behaviour == Behaviour::AsDocumented {
        agent.last_heartbeat_at = Some(now);
        if let Some(metadata) = metadata {
            metadata.apply(&mut agent);
        }
    }
    agent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{MemoryStore, Seeds};

    #[test]
    fn metadata_is_parsed_leniently() {
        assert_eq!(metadata(b""), None);
        assert_eq!(metadata(b"{}"), None);
        assert_eq!(metadata(b"{oops"), None);
        let parsed = metadata(br#"{"os":"linux","version":null,"unknown":1} trailing"#).expect("decodes");
        assert_eq!((parsed.os.as_str(), parsed.version.as_str()), ("linux", ""));
    }

    /// Returns the outcome of a heartbeat of an agent in this state, and the agent after it.
    async fn beat(behaviour: Behaviour, change: impl FnOnce(&mut Agent)) -> (Outcome, Agent) {
        let seeds = Seeds { agents: 1, certificates: 0, targets: 0, deployments: 0, drain: 0, drain_agents: 0 };
        let (store, _) = MemoryStore::new(seeds, Vec::new());
        let id = "ag-loadtest-00001";
        let mut agent = store.agent(id).await.expect("in memory").expect("seeded");
        agent.last_heartbeat_at = None;
        change(&mut agent);
        store.rewrite_agent(&agent).await.expect("in memory");
        let sent = Metadata { version: "9".to_owned(), ..Metadata::default() };
        let outcome = record(&store, behaviour, id, Some(&sent)).await;
        (outcome, store.agent(id).await.expect("in memory").expect("seeded"))
    }

    #[tokio::test]
    async fn first_heartbeat_of_an_offline_agent_is_lost_as_built() {
        for (behaviour, kept) in [(Behaviour::AsBuilt, false), (Behaviour::AsDocumented, true)] {
            let (outcome, agent) = beat(behaviour, |agent| agent.status = "Offline".to_owned()).await;
            assert!(matches!(outcome, Outcome::Recorded));
            assert_eq!(agent.status, ONLINE);
            assert_eq!((agent.last_heartbeat_at.is_some(), agent.version == "9"), (kept, kept));
        }
    }

    #[tokio::test]
    async fn a_retired_agent_is_not_updated() {
        let (outcome, agent) = beat(Behaviour::AsBuilt, |agent| agent.retired_at = Some(SystemTime::UNIX_EPOCH)).await;
        assert!(matches!(outcome, Outcome::Retired));
        assert_eq!(agent.last_heartbeat_at, None);
    }
}
