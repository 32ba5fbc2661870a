//! Flags of `job_drain`, and the workloads that they plan.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::bench::{Bench, Groups, at_certctl};
use super::common_flags::{CertctlFlags, LoadFlags, duration};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Plan};
use crate::load::rate::Rate;
use crate::load::schedule::{FleetSchedule, Pattern, Stream};
use crate::measure::threshold::Threshold;
use crate::run::Workload;
use crate::scenario::agent_storm::{HEARTBEAT, HEARTBEAT_PERMISSION, POLL, POLL_PERMISSION, SEEDED_AGENTS};
use crate::scenario::job_drain::{
    Completions, Drain, DrainFleet, DrainPlan, Keys, Look, REPORT_PERMISSION, STEPS, WAVE_STEPS, Wave, host_name,
    look_into, thresholds,
};
use crate::scenario::need::Need;
use crate::scenario::signing::SigningRequest;
use crate::scenario::{bulk_renewal, list};
use crate::system::{Certctl, CheckedCertctl, SystemKind, reference};

/// The default number of certificates.
const CERTIFICATES: u64 = 1_000;
/// The longest window, which ends once the drain is over.
const WINDOW: Duration = Duration::from_secs(600);
const JITTER: f64 = 0.1;
/// The reference server's counter of renewals that are complete.
const COMPLETED: &str = "jobs_signed";
/// The timeout of a round of an agent, a poll with the work that it shows. No job of it begins in its second half: so
/// each request has the 30 s for which certctl's agent waits for an answer.
const AGENT_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout of a request for renewal: that of certctl's answers.
const WAVE_TIMEOUT: Duration = Duration::from_secs(120);
/// The time for which deployments are awaited, in periods of the polls: each agent polls once in one, and a tenth more.
const AWAITED_POLLS: f64 = 2.2;
/// The sizes of a smoke run, and its times.
const SMOKE_AGENTS: u64 = 20;
const SMOKE_CERTIFICATES: u64 = 50;
const SMOKE_WINDOW: Duration = Duration::from_secs(60);
const SMOKE_PERIODS: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(600), Duration::from_millis(300)];

/// Flags of `job_drain`.
#[derive(Args, Clone, Debug)]
pub struct JobDrainFlags {
    /// Party that makes the keys of renewed certificates. A certctl that is started is set up for it.
    #[arg(long, value_enum, default_value = "agent", env = "CERTCTL_BENCH_KEYS")]
    keys: Keys,
    /// Time in the window at which the certificates are put into renewal; before it, the fleet is measured alone.
    #[arg(long, default_value = "30s", value_parser = duration, env = "CERTCTL_BENCH_WAVE_AT")]
    wave_at: Duration,
    /// Time between two heartbeats of an agent, ±10%.
    #[arg(long, default_value = "60s", value_parser = duration, env = "CERTCTL_BENCH_HEARTBEAT_EVERY")]
    heartbeat_every: Duration,
    /// Time between two polls of an agent, ±10%.
    #[arg(long, default_value = "30s", value_parser = duration, env = "CERTCTL_BENCH_POLL_EVERY")]
    poll_every: Duration,
}

impl JobDrainFlags {
    fn timeout(load: &LoadFlags) -> Duration {
        load.timeout.unwrap_or(AGENT_TIMEOUT)
    }

    fn plan(&self, load: &LoadFlags) -> DrainPlan {
        let (agents, certificates) = (load.agents.unwrap_or(SEEDED_AGENTS), load.certificates.unwrap_or(CERTIFICATES));
        let smoke = load.is_smoke();
        DrainPlan {
            keys: self.keys,
            agents: if smoke { agents.min(SMOKE_AGENTS) } else { agents },
            certificates: if smoke { certificates.min(SMOKE_CERTIFICATES) } else { certificates },
            deployments: self.poll_every.mul_f64(AWAITED_POLLS),
            round: Self::timeout(load) / 2,
        }
    }

    fn window(load: &LoadFlags) -> Duration {
        match load.is_smoke() {
            true => SMOKE_WINDOW,
            false => load.duration.unwrap_or(WINDOW),
        }
    }

    /// Plans the load of the fleet.
    fn fleet(&self, load: &LoadFlags, agents: u64) -> Result<Plan> {
        let pattern = Pattern::Fleet(FleetSchedule {
            streams: vec![
                Stream { step: HEARTBEAT, period: self.heartbeat_every },
                Stream { step: POLL, period: self.poll_every },
            ],
            jitter: JITTER,
            restart: None,
        });
        let model = Model::Open { pattern, clients: agents, affinity: Affinity::Own };
        let mut plan = load.plan(model, agents as usize, STEPS.len())?;
        plan.timeout = Self::timeout(load);
        plan.window = Self::window(load);
        Ok(plan)
    }

    /// Plans the load of the wave beside that of the fleet.
    fn wave(&self, load: &LoadFlags, fleet: &Plan, certificates: u64) -> Result<Plan> {
        let Some(left) = fleet.window.checked_sub(self.wave_at).filter(|left| *left > Duration::ZERO) else {
            let [at, window] = [self.wave_at, fleet.window].map(humantime::format_duration);
            return Err(Error::usage(format!(
                "--wave-at {at} must be below --duration {window}: otherwise nothing is put into renewal"
            ))
            .with_hint("lower --wave-at, or lengthen --duration"));
        };
        let rounds = Some(Wave::requests(certificates));
        let mut plan = load.plan(Model::Closed { think: Duration::ZERO, rounds }, 1, WAVE_STEPS.len())?;
        plan.starts_after = fleet.warm_up + self.wave_at;
        plan.warm_up = Duration::ZERO;
        plan.window = left;
        plan.timeout = load.timeout.unwrap_or(WAVE_TIMEOUT);
        Ok(plan)
    }
}

/// Binds the fleet to a certctl: makes the signing requests, or the count of what certctl completes by itself.
fn bind(certctl: &CheckedCertctl, drain: Rc<Drain>, plan: DrainPlan) -> Result<DrainFleet> {
    let (host, token) = (certctl.host(), certctl.token());
    match plan.keys {
        Keys::Agent => {
            let names: Vec<String> = (1..=plan.certificates).map(host_name).collect();
            let requests = SigningRequest::all(&names)?.into_iter().map(|request| request.csr_pem);
            Ok(DrainFleet::new(drain, &host, token, &requests.collect::<Vec<_>>()))
        }
        Keys::Server => {
            let completions = Completions::start(plan.certificates, look(certctl)?)?;
            Ok(DrainFleet::watching(drain, &host, token, completions))
        }
    }
}

/// Returns a count of the renewals that certctl has completed: by SQL, or by the reference server's own counter.
fn look(checked: &CheckedCertctl) -> Result<Look> {
    let certctl = &checked.certctl;
    match &certctl.database {
        Some(url) => look_into(url),
        None if certctl.system.kind == SystemKind::Reference => {
            let own = Certctl::external(certctl.base.clone(), certctl.trust.clone(), certctl.token.clone(), None);
            let (dialer, stop) = (checked.dialer.clone(), Arc::new(AtomicBool::new(false)));
            let count = move || Ok(reference::counts(&own, &dialer, &stop)?.get(COMPLETED));
            let before = count()?;
            Ok(Box::new(move || Ok(count()?.saturating_sub(before))))
        }
        None => Err(Error::usage(format!(
            "{}: with --keys server no answer shows that a renewal is complete, and certctl's database is not known",
            certctl.base
        ))
        .with_hint("give --database URL, with the URL of certctl's own database")),
    }
}

impl Bench for JobDrainFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "job_drain";
    const ABOUT: &'static str = "Many certificates are put into renewal at once, beside a fleet that lives on.";
    const SEEDS: &'static [&'static str] = &["02_agent_fleet.sql", "04_job_drain.sql"];

    fn smoke(&mut self) {
        [self.wave_at, self.heartbeat_every, self.poll_every] = SMOKE_PERIODS;
    }

    fn needs(&self, load: &LoadFlags) -> Vec<Need> {
        let DrainPlan { keys, agents, certificates, .. } = self.plan(load);
        let permissions =
            [HEARTBEAT_PERMISSION, POLL_PERMISSION, REPORT_PERMISSION, bulk_renewal::PERMISSION, list::PERMISSION];
        let mut needs = permissions.map(Need::Permission).to_vec();
        needs.push(Need::Keys(keys));
        if keys == Keys::Server {
            let within = Self::window(load).saturating_sub(self.wave_at);
            needs.push(Need::ProcessorRounds { jobs: certificates, within });
        }
        needs.extend([Need::Agent(1), Need::Agent(agents), Need::Drain { certificates, agents }]);
        needs
    }

    fn loops(&self) -> &'static [&'static str] {
        // A certificate can be renewed once.
        &[]
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        let plan = self.plan(load);
        let fleet = self.fleet(load, plan.agents)?;
        let wave = self.wave(load, &fleet, plan.certificates)?;
        let drain = Rc::new(Drain::new(plan));
        let fleet = Workload { name: "fleet", plan: fleet, thresholds: thresholds() };
        let wave = Workload { name: "wave", plan: wave, thresholds: Vec::new() };
        let of_wave = drain.clone();
        Ok(vec![vec![
            at_certctl(fleet, move |certctl: &CheckedCertctl| bind(certctl, drain, plan)),
            at_certctl(wave, move |certctl: &CheckedCertctl| Ok(Wave::new(of_wave, &certctl.host(), certctl.token()))),
        ]])
    }

    fn rate(&self) -> Result<Option<Rate>> {
        Err(Error::usage(
            "job_drain: its load is a number of certificates that are due at once, beside a fleet with its own schedule: \
             it has no rate",
        )
        .with_hint("give one number after another: cargo bench --bench job_drain -- --certificates 5000"))
    }

    fn sized(&self) -> (&'static str, u64) {
        ("--agents", 1)
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("one process follows the jobs of all certificates")
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.001)
    }
}
