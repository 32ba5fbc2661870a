//! Flags of `acme_flow` and `acme_burst`, and the workloads that they plan.

use std::time::Duration;

use clap::Args;

use super::bench::{Bench, Groups, at_certctl};
use super::common_flags::{ArrivalSpread, CertctlFlags, EnvironmentUse, LoadFlags, RateProfileFlag, duration_or_zero};
use crate::capacity::translation::{ArrivalMeaning, ArrivalUnit};
use crate::error::{Error, Result};
use crate::inspect::preflight;
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Plan};
use crate::load::rate::Rate;
use crate::measure::threshold::Threshold;
use crate::run::Workload;
use crate::scenario::acme::{self, Acme as Scenario, DEFAULT_PROFILE, FLOW, STEPS};
use crate::scenario::need::Need;
use crate::system::CheckedCertctl;

/// The default timeout: as long as a graceful stop lets requests in flight go on.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of both bench targets.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Send at this rate instead (an open workload), which shows what the users' waiting for answers hides.
    #[arg(long, env = "CERTCTL_BENCH_RATE")]
    pub(super) rate: Option<Rate>,
    #[command(flatten)]
    varying: RateProfileFlag,
    /// With --rate or --rate-profile: spread of the arrivals, constant or poisson.
    #[arg(long, default_value = "constant", env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: ArrivalSpread,
    /// The profile whose ACME server gets the requests: a row of certctl's certificate_profiles [default: prof-standard-tls].
    #[arg(long, value_name = "ID", env = "CERTCTL_BENCH_PROFILE")]
    profile: Option<String>,
    /// The directory, a path or URL on the system, instead of the profile's [env also: CERTCTL_ACME_DIRECTORY].
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_DIRECTORY")]
    directory: Option<String>,
    /// Send no token: for a certctl whose ACME server accepts requests without one (as built, none does).
    #[arg(long, env = "CERTCTL_BENCH_NO_BEARER")]
    pub(super) no_bearer: bool,
    /// The old harness's variable counts, except in a smoke run.
    #[arg(skip = EnvironmentUse::Counts)]
    pub(super) environment: EnvironmentUse,
}

impl Common {
    fn directory(&self) -> String {
        let of = |profile: &str| format!("/acme/profile/{profile}/directory");
        // The old harness's variable comes last: a flag outranks it.
        let given = self.directory.clone().or_else(|| self.profile.as_deref().map(of));
        given.or_else(|| self.environment.variable("CERTCTL_ACME_DIRECTORY")).unwrap_or_else(|| of(DEFAULT_PROFILE))
    }

    /// Reports whether the workload is open.
    pub(super) fn is_open(&self) -> bool {
        self.rate.is_some() || self.varying.rate_profile.is_some()
    }

    pub(super) fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        let mut ignored = Vec::new();
        if !self.is_open() {
            ignored.push(("arrivals", "applies only to --rate and --rate-profile: users have no schedule"));
        }
        if self.directory.is_some() {
            ignored.push(("profile", "does not apply to --directory, which names the ACME server itself"));
        }
        ignored
    }

    pub(super) fn need(&self, renewal_info: bool) -> Need {
        Need::Acme { directory: self.directory(), bearer: !self.no_bearer, renewal_info }
    }

    /// Returns the plan of a load over so many connections, each a user's unless there is a rate, and checks the
    /// profile.
    ///
    /// # Errors
    /// If the flags contradict one another, or the profile is none.
    pub(super) fn plan(&self, users: u32, think: Duration, load: &LoadFlags, steps: usize) -> Result<Plan> {
        if let Some(profile) = &self.profile
            && !profile.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return Err(Error::usage(format!("--profile {profile:?} is not a valid id of a profile")));
        }
        let profile = self.varying.rate_profile.as_ref();
        let open = |pattern| Model::Open { pattern, clients: 1, affinity: Affinity::Any };
        let model = match (profile, self.rate) {
            (Some(profile), _) => open(load.varying(profile, self.arrivals, load.window())?),
            (None, Some(rate)) => open(self.arrivals.at(rate)),
            (None, None) => Model::Closed { think, rounds: None },
        };
        let mut plan = load.plan(model, users as usize, steps)?;
        plan.timeout = load.timeout.unwrap_or(TIMEOUT);
        Ok(plan)
    }

    fn groups(
        &self,
        name: &'static str,
        users: u32,
        think: Duration,
        load: &LoadFlags,
    ) -> Result<Groups<CheckedCertctl>> {
        let plan = self.plan(users, think, load, STEPS.len())?;
        let bearer = !self.no_bearer;
        let make = move |certctl: &CheckedCertctl| {
            let (token, paths) = (bearer.then_some(certctl.token()), certctl.acme()?);
            let renewal_info = preflight::renewal_info(paths, &certctl.certctl.base)?;
            Ok(Scenario::new(paths, renewal_info, &certctl.host(), token, certctl.audits_acme()))
        };
        let workload = Workload { name, plan, thresholds: acme::thresholds(name) };
        Ok(vec![vec![at_certctl(workload, make)]])
    }
}

/// Flags of `acme_flow`.
#[derive(Args, Clone, Debug)]
pub struct AcmeFlowFlags {
    /// Users, each with a connection of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_USERS")]
    users: u32,
    /// Pause of a user after each round.
    #[arg(long, default_value = "1s", value_parser = duration_or_zero, env = "CERTCTL_BENCH_THINK_TIME")]
    think_time: Duration,
    #[command(flatten)]
    common: Common,
}

impl Bench for AcmeFlowFlags {
    type System = CertctlFlags;

    const NAME: &'static str = FLOW;
    const ABOUT: &'static str = "ACME clients read directory, nonce and renewal information, with think time in \
                                 between.";
    const SEEDS: &'static [&'static str] = &[];

    fn smoke(&mut self) {
        self.common.environment = EnvironmentUse::Ignored;
        self.users = self.users.min(10);
        self.think_time = self.think_time.min(Duration::from_millis(100));
    }

    fn needs(&self, _load: &LoadFlags) -> Vec<Need> {
        vec![self.common.need(true)]
    }

    fn loops(&self) -> &'static [&'static str] {
        STEPS
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        self.common.groups(Self::NAME, self.users, self.think_time, load)
    }

    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        let mut ignored = self.common.ignored();
        if self.common.is_open() {
            ignored.push(("think_time", "does not apply to an open workload (--rate, --rate-profile)"));
        }
        ignored
    }

    fn rate(&self) -> Result<Option<Rate>> {
        Ok(self.common.rate)
    }

    fn set_rate(&mut self, rate: Rate) {
        self.common.rate = Some(rate);
    }

    fn unit(&self) -> ArrivalUnit {
        ArrivalUnit::new("ACME requests", ArrivalMeaning::Other)
    }

    fn sized(&self) -> (&'static str, u64) {
        ("--users", 1)
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("the nonces of all answers are compared with one another in one process")
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.01)
    }
}

/// Flags of `acme_burst`.
#[derive(Args, Clone, Debug)]
pub struct AcmeBurstFlags {
    /// Users, each with a connection of its own; with --rate or --rate-profile: connections that are pooled.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_USERS")]
    users: u32,
    #[command(flatten)]
    common: Common,
}

impl Bench for AcmeBurstFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "acme_burst";
    const ABOUT: &'static str = "ACME clients read directory, nonce and renewal information as fast as they can.";
    const SEEDS: &'static [&'static str] = &[];

    fn smoke(&mut self) {
        self.common.environment = EnvironmentUse::Ignored;
        self.users = self.users.min(10);
    }

    fn needs(&self, _load: &LoadFlags) -> Vec<Need> {
        vec![self.common.need(true)]
    }

    fn loops(&self) -> &'static [&'static str] {
        STEPS
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        self.common.groups(Self::NAME, self.users, Duration::ZERO, load)
    }

    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        self.common.ignored()
    }

    fn rate(&self) -> Result<Option<Rate>> {
        Ok(self.common.rate)
    }

    fn set_rate(&mut self, rate: Rate) {
        self.common.rate = Some(rate);
    }

    fn unit(&self) -> ArrivalUnit {
        ArrivalUnit::new("ACME requests", ArrivalMeaning::Other)
    }

    fn sized(&self) -> (&'static str, u64) {
        ("--users", 1)
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("the nonces of all answers are compared with one another in one process")
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Faults(0.001)
    }
}
