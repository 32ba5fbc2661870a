//! Flags of `deploy_loop`, and the workload that they plan.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::bench::{Bench, Groups, SystemArgs};
use super::common_flags::{ArrivalSpread, CertctlFlags, EnvironmentUse, LoadFlags, RateProfileFlag, duration};
use super::prepare::DeploymentChoice;
use crate::capacity::translation::{ArrivalMeaning, ArrivalUnit};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Plan};
use crate::load::rate::Rate;
use crate::load::schedule::{Pattern, Schedule};
use crate::measure::threshold::Threshold;
use crate::provision::pki::Identity;
use crate::run::{Binding, PlannedWorkload, Workload};
use crate::scenario::connector_kind::ConnectorKind;
use crate::scenario::deploy_loop::{self, AgentFleet, DaemonTarget, DeployLoop, LOOP_ALLOWANCE, PERMISSIONS};
use crate::scenario::need::Need;
use crate::seed::Sizes;
use crate::system::SystemKind;
use crate::system::connectors::Connectors;
use crate::system::with_daemons::CertctlWithDaemons;

/// The default window: at the default rate the thresholds need 40 s.
const WINDOW: Duration = Duration::from_secs(60);
/// The time that a loop may take beside those waits before it is given up.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most loops of a run: a key is made for each, and kept in memory.
const MOST_LOOPS: usize = 200_000;
/// The agents whose rows a search for the capacity has by default: for 1,250 loops a second with the default polls.
const SEARCHED_AGENTS: u64 = 5_000;

/// Flags that name the certctl, beside which daemons are started.
#[derive(Args, Clone, Debug)]
pub struct DeploymentFlags {
    #[command(flatten)]
    certctl: CertctlFlags,
}

impl DeploymentFlags {
    /// Takes the flags of a verb that names the certctl itself.
    pub(super) fn of(certctl: CertctlFlags) -> Self {
        Self { certctl }
    }
}

impl SystemArgs for DeploymentFlags {
    type Choice = DeploymentChoice;

    const NAMES: &'static [(&'static str, Option<&'static str>)] = CertctlFlags::NAMES;

    fn resolve(self, environment: EnvironmentUse) -> Result<DeploymentChoice> {
        Ok(DeploymentChoice { certctl: self.certctl.resolve(environment)?, daemons: Vec::new() })
    }

    fn wants_loopback_alone(&self) -> bool {
        self.certctl.wants_loopback_alone()
    }

    fn ignored(&self, environment: EnvironmentUse) -> Vec<(&'static str, &'static str)> {
        self.certctl.ignored(environment)
    }
}

/// Flags of `deploy_loop`.
#[derive(Args, Clone, Debug)]
pub struct DeployLoopFlags {
    /// Renewals that begin: 5/s, 100/m. Each is a loop up to the report that the certificate is deployed.
    #[arg(long, default_value = "5/s", env = "CERTCTL_BENCH_RATE")]
    rate: Rate,
    #[command(flatten)]
    profile: RateProfileFlag,
    /// Spread of the arrivals: constant or poisson.
    #[arg(long, default_value = "constant", env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: ArrivalSpread,
    /// Interval at which each agent polls for work. certctl's agents poll every 30 s; a loop waits for two polls.
    #[arg(long, default_value = "1s", value_parser = duration, env = "CERTCTL_BENCH_POLL_EVERY")]
    poll_every: Duration,
    /// Daemons that the first agents deploy to, started on loopback; all further agents verify what they fetch. `none`
    /// for no daemon [default: those that are installed, and a mock of an F5].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "DAEMONS", env = "CERTCTL_BENCH_DEPLOY_TO")]
    deploy_to: Vec<DeployTo>,
    /// True in a search for the capacity: the rows are the same at all of its rates, and each takes as many agents as it
    /// needs.
    #[arg(skip)]
    is_searched: bool,
}

/// A daemon to deploy to, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DeployTo {
    /// nginx.
    Nginx,
    /// Apache httpd.
    Apache,
    /// HAProxy.
    Haproxy,
    /// A mock of an F5.
    F5,
    /// None.
    None,
}

impl DeployTo {
    fn kind(self) -> Option<ConnectorKind> {
        match self {
            Self::Nginx => Some(ConnectorKind::Nginx),
            Self::Apache => Some(ConnectorKind::Apache),
            Self::Haproxy => Some(ConnectorKind::Haproxy),
            Self::F5 => Some(ConnectorKind::F5),
            Self::None => None,
        }
    }
}

impl DeployLoopFlags {
    /// Returns the kinds of daemon, each once.
    fn kinds(&self) -> Vec<ConnectorKind> {
        let wanted = |kind: &ConnectorKind| {
            self.deploy_to.is_empty() || self.deploy_to.iter().any(|one| one.kind() == Some(*kind))
        };
        ConnectorKind::ALL.into_iter().filter(wanted).collect()
    }

    fn window(load: &LoadFlags) -> Duration {
        load.duration.unwrap_or(WINDOW)
    }

    fn pattern(&self, load: &LoadFlags) -> Result<Pattern> {
        load.pattern(self.profile.rate_profile.as_ref(), self.rate, self.arrivals, Self::window(load))
    }

    /// Returns the number of agents: as many as can begin a loop as often as the rate says, while an agent with a loop
    /// under way begins no other (Little's law), and one for each daemon at least, unless a flag gives another number.
    fn agents(&self, load: &LoadFlags) -> Result<u64> {
        self.fleet(load).map(|(agents, _)| agents)
    }

    /// Returns that number, and the number of agents that have rows.
    fn fleet(&self, load: &LoadFlags) -> Result<(u64, u64)> {
        let most_per_s = self.pattern(load)?.peak_per_second(1);
        let each_s = (self.poll_every * 2 + LOOP_ALLOWANCE).as_secs_f64();
        let fewest = (most_per_s * each_s).ceil().max(1.0) as u64;
        let daemons = self.kinds().len() as u64;
        let by_default = if self.is_searched { SEARCHED_AGENTS } else { fewest.max(daemons) };
        let seeded = load.agents.unwrap_or(by_default).min(Sizes::MOST);
        if seeded < fewest {
            return Err(Error::usage(format!(
                "{seeded} agents cannot begin loops at this rate: each waits for two polls, up to {} apart, so that \
                 {fewest} are needed",
                humantime::format_duration(self.poll_every)
            ))
            .with_hint(format!("lower the rate or --poll-every, or raise --agents (at most {})", Sizes::MOST)));
        }
        // Without the flag, those that are left over are not deployed to.
        if !self.deploy_to.is_empty() && seeded < daemons {
            return Err(Error::usage(format!(
                "{seeded} agents cannot deploy to {daemons} daemons: each has one at most"
            ))
            .with_hint("raise --agents, or name fewer daemons with --deploy-to"));
        }
        let agents = if self.is_searched { fewest.max(daemons).min(seeded) } else { seeded };
        Ok((agents, seeded))
    }

    fn check(&self) -> Result<()> {
        if self.deploy_to.contains(&DeployTo::None) && self.deploy_to.len() > 1 {
            return Err(Error::usage("--deploy-to names daemons and none at once")
                .with_hint("leave `none` out, or the daemons"));
        }
        Ok(())
    }

    /// Returns the agent of each planned arrival, in their order.
    fn arrivals(&self, plan: &Plan) -> Result<Vec<u64>> {
        let Model::Open { pattern, clients, .. } = &plan.model else { return Ok(Vec::new()) };
        let span = plan.warm_up + plan.window;
        let schedule = Schedule::new(pattern, *clients, plan.steps, span, plan.rng_seed).with_warm_up(plan.warm_up);
        let agents: Vec<u64> = schedule.take(MOST_LOOPS + 1).map(|(_, planned)| planned.client).collect();
        match agents.len() > MOST_LOOPS {
            true => Err(Error::usage(format!(
                "more than {MOST_LOOPS} loops: the key of each is made before the run and kept in memory"
            ))
            .with_hint("lower the rate or --duration")),
            false => Ok(agents),
        }
    }
}

/// Returns the daemons that agents deploy to, of those that were started.
fn targets(daemons: &Connectors) -> Result<Vec<DaemonTarget>> {
    // All of them were started here, so that the lists have one order.
    let all = daemons.all().iter().zip(daemons.replaceable());
    all.map(|(connector, replaceable)| {
        let install = move |identity: &Identity| replaceable.replace(identity).map_err(|error| error.to_string());
        Ok(DaemonTarget { kind: connector.kind, install: Arc::new(install), initial: connector.shown()? })
    })
    .collect()
}

impl Bench for DeployLoopFlags {
    type System = DeploymentFlags;

    const NAME: &'static str = "deploy_loop";
    const ABOUT: &'static str = "Agents renew certificates and deploy them, up to the daemon that shows the new one.";
    const SEEDS: &'static [&'static str] = &["02_agent_fleet.sql", "03_deploy_loop.sql"];

    fn smoke(&mut self) {
        self.rate = Rate::per_second(10);
        self.poll_every = self.poll_every.min(Duration::from_millis(100));
    }

    fn needs(&self, load: &LoadFlags) -> Vec<Need> {
        let permissions = PERMISSIONS.into_iter().map(Need::Permission);
        // Flags that give no number were refused when the load was planned.
        let rows = self.fleet(load).map(|(_, seeded)| [Need::Deployment(seeded), Need::Deployment(1)]);
        permissions.chain(rows.into_iter().flatten()).collect()
    }

    fn loops(&self) -> &'static [&'static str] {
        // Its requests follow from one another.
        &[]
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CertctlWithDaemons>> {
        self.check()?;
        let fleet = AgentFleet { agents: self.agents(load)?, poll_every: self.poll_every };
        let model = Model::Open { pattern: self.pattern(load)?, clients: fleet.agents, affinity: Affinity::Own };
        // Every arrival begins with the first step.
        let mut plan = load.plan(model, fleet.agents as usize, 1)?;
        plan.window = Self::window(load);
        // An agent has one loop at a time, and one daemon at most.
        plan.further = self.kinds().len().min(fleet.agents as usize);
        plan.timeout = load.timeout.unwrap_or(TIMEOUT + self.poll_every * 2);
        let arrivals = self.arrivals(&plan)?;
        let workload = Workload { name: Self::NAME, plan, thresholds: deploy_loop::thresholds(self.poll_every) };
        let bind = move |system: &CertctlWithDaemons| {
            let (certctl, daemons) = (&system.certctl, system.daemons.iter().flat_map(Connectors::all));
            let others = daemons.map(|daemon| daemon.unverified_peer()).collect::<Result<_>>()?;
            let mut targets = system.daemons.as_ref().map(targets).transpose()?.unwrap_or_default();
            targets.truncate(fleet.agents as usize);
            let scenario = DeployLoop::new(fleet, targets, &arrivals, &certctl.host(), certctl.token())?;
            Ok(Some(Binding { scenario: Rc::new(scenario), peer: certctl.peer(), others }))
        };
        Ok(vec![vec![PlannedWorkload::new(workload, bind)]])
    }

    fn rate(&self) -> Result<Option<Rate>> {
        Ok(Some(self.rate))
    }

    fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.is_searched = true;
    }

    fn unit(&self) -> ArrivalUnit {
        ArrivalUnit::new("loops", ArrivalMeaning::Deployment)
    }

    fn sized(&self) -> (&'static str, u64) {
        ("--agents", 1)
    }

    fn adjust(&self, choice: &mut DeploymentChoice) {
        choice.daemons = self.kinds();
    }

    fn remark(&self, system: &CertctlWithDaemons, _workloads: &[&Workload]) -> Option<String> {
        let described = &system.certctl.certctl.system;
        // One that was started here has no turn of that loop in a run, unless it was to have.
        let may_process = described.kind == SystemKind::Certctl && described.certctl_settings().is_none();
        may_process.then(|| {
            "certctl's job processor takes every deployment that no agent has fetched by its next turn, and no agent \
             gets it then: start certctl with CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL=24h, or expect some loops to \
             time out"
                .to_owned()
        })
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("an agent and the daemon that it deploys to belong to one process")
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.01)
    }
}
