//! Flags of `agent_storm`, and the workload that they plan.

use std::time::Duration;

use clap::Args;

use super::bench::{Bench, Groups, at_certctl};
use super::common_flags::{ArrivalSpread, CertctlFlags, LoadFlags, RateProfileFlag, duration};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Opening};
use crate::load::rate::Rate;
use crate::load::schedule::{self, Pattern, Restart, Stream};
use crate::measure::threshold::Threshold;
use crate::run::Workload;
use crate::scenario::agent_storm::{
    AgentStorm as Scenario, Fleet, HEARTBEAT, HEARTBEAT_PERMISSION, POLL, POLL_PERMISSION, RECONNECT, SEEDED_AGENTS,
};
use crate::scenario::need::Need;
use crate::system::CheckedCertctl;

/// The defaults of certctl's agents.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_secs(30);
const JITTER: f64 = 0.1;
const AGENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The default window of a restart: an agent whose first heartbeat fails sends the next after a minute, so that two
/// minutes show the restart to its end.
const RESTART_WINDOW: Duration = Duration::from_secs(120);
/// The most agents of a smoke run.
const SMOKE_AGENTS: u64 = 100;

/// The connections of a duet's fleet.
const POOLED: u32 = 100;

/// Flags of `agent_storm`.
#[derive(Args, Clone, Debug)]
pub struct AgentStormFlags {
    /// Behaviour of the fleet.
    #[arg(long, value_enum, default_value = "contract", env = "CERTCTL_BENCH_FLEET")]
    fleet: Fleet,
    /// Arrivals: 167/s, 100/m [default: 167/s].
    #[arg(long, env = "CERTCTL_BENCH_RATE")]
    rate: Option<Rate>,
    #[command(flatten)]
    profile: RateProfileFlag,
    /// Spread of the arrivals: constant or poisson [default: constant].
    #[arg(long, env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: Option<ArrivalSpread>,
    /// Pool this many connections instead of one per agent.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_CONNECTIONS")]
    connections: Option<u32>,
    /// With --fleet restart: time within which all agents are back.
    #[arg(long, default_value = "5s", value_parser = duration, env = "CERTCTL_BENCH_RESTART_WITHIN")]
    restart_within: Duration,
}

impl AgentStormFlags {
    fn pattern(&self, load: &LoadFlags) -> Result<Pattern> {
        if self.fleet == Fleet::Contract {
            let rate = self.rate.unwrap_or(Rate::per_second(167));
            let spread = self.arrivals.unwrap_or_default();
            return load.pattern(self.profile.rate_profile.as_ref(), rate, spread, load.window());
        }
        let restart = Restart { within: self.restart_within, step: RECONNECT };
        Ok(Pattern::Fleet(schedule::FleetSchedule {
            streams: vec![
                Stream { step: HEARTBEAT, period: HEARTBEAT_EVERY },
                Stream { step: POLL, period: POLL_EVERY },
            ],
            jitter: JITTER,
            restart: (self.fleet == Fleet::Restart).then_some(restart),
        }))
    }
}

/// Returns the number of agents in the fleet.
fn agents(load: &LoadFlags) -> u64 {
    let agents = load.agents.unwrap_or(SEEDED_AGENTS);
    if load.is_smoke() { agents.min(SMOKE_AGENTS) } else { agents }
}

impl Bench for AgentStormFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "agent_storm";
    const ABOUT: &'static str = "A fleet of agents sends heartbeats to certctl, each agent on its own TLS connection.";
    const SEEDS: &'static [&'static str] = &["02_agent_fleet.sql"];

    fn smoke(&mut self) {
        self.connections = self.connections.map(|count| count.min(100));
        if self.fleet == Fleet::Contract {
            self.rate = Some(Rate::per_second(100));
        }
        self.restart_within = Duration::from_millis(500);
    }

    fn needs(&self, load: &LoadFlags) -> Vec<Need> {
        let mut needs = vec![Need::Permission(HEARTBEAT_PERMISSION)];
        if self.fleet != Fleet::Contract {
            needs.push(Need::Permission(POLL_PERMISSION));
        }
        needs.extend([Need::Agent(1), Need::Agent(agents(load))]);
        needs
    }

    fn loops(&self) -> &'static [&'static str] {
        if self.fleet == Fleet::Contract { &["heartbeat"] } else { &["heartbeat", "poll"] }
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        let (fleet, agents) = (self.fleet, agents(load));
        let (connections, affinity) = match (self.fleet, self.connections) {
            (Fleet::Contract, Some(count)) => (count as usize, Affinity::Any),
            _ => (agents as usize, Affinity::Own),
        };
        let model = Model::Open { pattern: self.pattern(load)?, clients: agents, affinity };
        let mut plan = load.plan(model, connections, fleet.steps().len())?;
        if self.fleet != Fleet::Contract {
            plan.timeout = load.timeout.unwrap_or(AGENT_TIMEOUT);
        }
        if self.fleet == Fleet::Restart {
            let (within, window) = (self.restart_within, load.duration.unwrap_or(RESTART_WINDOW));
            if within >= window {
                let [within, window] = [within, window].map(humantime::format_duration);
                return Err(Error::usage(format!(
                    "--restart-within {within} must be below --duration {window}: otherwise the fleet is not back when \
                     the run ends"
                ))
                .with_hint("lower --restart-within, or lengthen --duration"));
            }
            plan.opening = Opening::ByFirstRequest;
            plan.warm_up = Duration::ZERO;
            plan.window = window;
        }
        let workload = Workload { name: Self::NAME, plan, thresholds: fleet.thresholds() };
        let make = move |certctl: &CheckedCertctl| Ok(Scenario::new(fleet, agents, &certctl.host(), certctl.token()));
        Ok(vec![vec![at_certctl(workload, make)]])
    }

    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        const OF_CONTRACT: &str = "applies only to --fleet contract: real agents have their own schedule and \
                                   connections";
        let of_contract = ["rate", "rate_profile", "arrivals", "connections"].map(|id| (id, OF_CONTRACT));
        let of_restart = ("restart_within", "applies only to --fleet restart");
        match self.fleet {
            Fleet::Contract => vec![of_restart],
            Fleet::Real => of_contract.into_iter().chain([of_restart]).collect(),
            Fleet::Restart => {
                let warm_up = ("warm_up", "does not apply to --fleet restart, which measures the restart itself");
                of_contract.into_iter().chain([warm_up]).collect()
            }
        }
    }

    fn pool(&mut self) {
        if self.fleet == Fleet::Contract {
            self.connections.get_or_insert(POOLED);
        }
    }

    fn sized(&self) -> (&'static str, u64) {
        // A contract's agents may share connections.
        if self.fleet == Fleet::Contract { ("--connections", 1) } else { ("--agents", 1) }
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.001)
    }
}
