//! The plan of a workload, as data.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Opening, Plan};
use crate::run::BoundWorkload;
use crate::scenario::Scenario;
use crate::wire::peer::Connections;

/// The load that one workload puts on the system.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlanFacts {
    /// The workload's name.
    pub name: Cow<'static, str>,
    /// Its requests, for people.
    pub title: String,
    /// The way in which the system's pace counts.
    pub model: LoadModel,
    /// The pattern of arrivals: `constant`, `poisson`, `fleet`, or `fleet, back within 5s` after a restart; absent in a
    /// closed workload.
    pub arrivals: Option<String>,
    /// Mean arrivals per second of the window; absent in a closed workload, where the system decides.
    pub rate_per_s: Option<f64>,
    /// The course of the rate over the window, where it varies, as in `ramp:10/s-100/s`; one from a file by the number of
    /// its points and a hash of them. The warm-up has its first rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_profile: Option<String>,
    /// The pause of a user after each round, in seconds; absent in an open workload.
    pub think_s: Option<f64>,
    /// The number of rounds after which a user of a closed workload ends; absent where the window ends it.
    pub rounds: Option<u64>,
    /// The number of clients that take turns, or of users.
    pub clients: u64,
    /// The number of connections.
    pub connections: usize,
    /// The connection that a request takes.
    pub affinity: ConnectionUse,
    /// Seconds after the start of the run.
    pub starts_after_s: f64,
    /// Seconds before the measured window.
    pub warm_up_s: f64,
    /// Planned seconds of the measured window.
    pub window_s: f64,
    /// The longest time that a request may take, in seconds.
    pub timeout_s: f64,
    /// The schedule lag above which an arrival counts as late, in milliseconds.
    pub max_lag_ms: f64,
    /// Connections opened per second before the first arrival; absent where the first request on each opens it.
    pub connect_rate_per_s: Option<f64>,
    /// The seed, which makes a random schedule repeatable.
    pub rng_seed: u64,
}

/// The models of load (Schroeder et al., NSDI 2006).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LoadModel {
    /// Arrivals do not wait for the system.
    Open,
    /// Users do.
    Closed,
}

/// The connection that a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ConnectionUse {
    /// The one of its client.
    #[serde(rename = "own")]
    Own,
    /// Any of a pool.
    #[serde(rename = "any")]
    Any,
    /// A new one, of which there are at most `connections` at a time.
    #[serde(rename = "per arrival")]
    PerArrival,
}

impl fmt::Display for LoadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
        })
    }
}

impl fmt::Display for ConnectionUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "own",
            Self::Any => "any",
            Self::PerArrival => "per arrival",
        })
    }
}

impl PlanFacts {
    /// Describes a workload.
    pub fn of_workload(bound: &BoundWorkload) -> Self {
        let facts = Self::of(bound.workload.name, &*bound.scenario, &bound.workload.plan);
        match bound.peer.connections {
            Connections::PerArrival => Self { affinity: ConnectionUse::PerArrival, ..facts },
            Connections::Kept(_) => facts,
        }
    }

    /// Describes a count of late arrivals, for people; in a closed workload, where users are never late, a count of
    /// late ticks of the generator's timer.
    pub fn late(&self, count: u64) -> String {
        if self.model == LoadModel::Closed { format!("timer ticks late {count}") } else { format!("late {count}") }
    }

    /// Describes the workload `name`: `plan` of `scenario`.
    pub fn of(name: &'static str, scenario: &dyn Scenario, plan: &Plan) -> Self {
        let facts = Self {
            name: name.into(),
            title: scenario.title(),
            model: LoadModel::Open,
            arrivals: None,
            rate_per_s: None,
            rate_profile: None,
            think_s: None,
            rounds: None,
            clients: plan.connections as u64,
            connections: plan.connections,
            affinity: ConnectionUse::Own,
            starts_after_s: plan.starts_after.as_secs_f64(),
            warm_up_s: plan.warm_up.as_secs_f64(),
            window_s: plan.window.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            max_lag_ms: plan.max_lag.as_secs_f64() * 1e3,
            connect_rate_per_s: match plan.opening {
                Opening::Before(rate) => Some(rate.per_second_f64()),
                Opening::ByFirstRequest => None,
            },
            rng_seed: plan.rng_seed,
        };
        match &plan.model {
            Model::Open { pattern, clients, affinity } => Self {
                arrivals: Some(pattern.to_string()),
                rate_per_s: Some(pattern.per_second(*clients)),
                rate_profile: pattern.curve().map(ToString::to_string),
                clients: *clients,
                affinity: match affinity {
                    Affinity::Own => ConnectionUse::Own,
                    Affinity::Any => ConnectionUse::Any,
                },
                ..facts
            },
            Model::Closed { think, rounds } => {
                Self { model: LoadModel::Closed, think_s: Some(think.as_secs_f64()), rounds: *rounds, ..facts }
            }
        }
    }
}
