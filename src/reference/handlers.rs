//! Handlers: the answer of each route once its request has an actor.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::Key;
use crate::chain::ReceivedRequest;
use crate::cli::Behaviour;
use crate::clock::rfc3339;
use crate::heartbeat::{self, Outcome};
use crate::reply::{self, Reply};
use crate::store::{ACTOR_TYPE, Agent, Permission, Store, TENANT};

/// Checks a permission: fetches all the actor's permissions and looks for one.
pub async fn gate<S: Store>(app: &App<S>, key: &Key, needed: &str) -> Result<(), Reply> {
    match app.store.permissions(key.actor).await {
        Ok(held) if held.iter().any(|one| one.name == needed && one.scope_type == "global") => Ok(()),
        Ok(_) => Err(reply::denied(StatusCode::FORBIDDEN, "Insufficient permissions")),
        Err(_) => Err(reply::denied(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")),
    }
}

/// Answers with the key's actor and rights; behind no gate, but audited.
pub async fn auth_check<S: Store>(app: &App<S>, key: &Key) -> Reply {
    let mut answer = json!({"status": "authenticated", "user": key.actor, "admin": key.admin});
    // certctl leaves the rights out when it cannot read them.
    if let (Ok(roles), Ok(permissions)) = (app.store.roles(key.actor).await, app.store.permissions(key.actor).await) {
        let permission = |one: Permission| {
            let mut entry = json!({"permission": one.name, "scope_type": one.scope_type});
            if let Some(scope_id) = one.scope_id {
                entry["scope_id"] = scope_id.into();
            }
            entry
        };
        answer["actor_id"] = key.actor.into();
        answer["actor_type"] = ACTOR_TYPE.into();
        answer["tenant_id"] = TENANT.into();
        answer["admin_via_role"] = roles.iter().any(|role| role == "r-admin").into();
        answer["roles"] = roles.into();
        answer["effective_permissions"] = permissions.into_iter().map(permission).collect();
    }
    reply::json(StatusCode::OK, &answer)
}

/// Answers with one agent.
pub async fn show_agent<S: Store>(app: &App<S>, id: &str, request_id: &str) -> Reply {
    match app.store.agent(id).await {
        Ok(Some(agent)) => reply::json(StatusCode::OK, &agent_json(agent)),
        // certctl answers every failure of this lookup like that.
        Ok(None) | Err(_) => reply::failure(StatusCode::NOT_FOUND, "Agent not found", request_id),
    }
}

fn agent_json(agent: Agent) -> Value {
    let mut fields = Map::from_iter(
        [
            ("id", agent.id),
            ("name", agent.name),
            ("hostname", agent.hostname),
            ("status", agent.status),
            ("registered_at", rfc3339(agent.registered_at)),
            ("os", agent.os),
            ("architecture", agent.architecture),
            ("ip_address", agent.ip_address),
            ("version", agent.version),
        ]
        .map(|(name, value)| (name.to_owned(), Value::from(value))),
    );
    let optional = [
        ("last_heartbeat_at", agent.last_heartbeat_at.map(rfc3339)),
        ("retired_at", agent.retired_at.map(rfc3339)),
        ("retired_reason", agent.retired_reason),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.into());
        }
    }
    fields.into()
}

/// Answers a heartbeat.
pub async fn beat<S: Store>(app: &App<S>, id: &str, request: &ReceivedRequest) -> Reply {
    let (metadata, request_id) = (heartbeat::metadata(&request.body), &request.id);
    match heartbeat::record(&*app.store, app.behaviour, id, metadata.as_ref()).await {
        Outcome::Recorded => {
            app.work.heartbeats.one();
            reply::json(StatusCode::OK, &json!({"status": "heartbeat_recorded"}))
        }
        Outcome::Retired => reply::failure(StatusCode::GONE, "Agent has been retired", request_id),
        Outcome::Unknown if app.behaviour == Behaviour::AsDocumented => {
            reply::failure(StatusCode::NOT_FOUND, "Agent not found", request_id)
        }
        Outcome::Unknown | Outcome::Failed => {
            reply::failure(StatusCode::INTERNAL_SERVER_ERROR, "Failed to record heartbeat", request_id)
        }
    }
}

/// Answers with the counts of work done, which certctl does not have: a run on the in-memory store can be checked too.
pub fn work<S: Store>(app: &App<S>) -> Reply {
    let (written, failed, dropped) = app.audit.totals();
    let mut counts = app.work.by_name();
    // Lossless: no machine has more than 64 bits.
    let pending = app.audit.pending() as u64;
    let audit = [("rows", written), ("pending", pending), ("failed", failed), ("dropped", dropped)];
    counts.extend(audit.map(|(name, count)| (format!("audit_{name}"), count.into())));
    reply::json(StatusCode::OK, &counts)
}
