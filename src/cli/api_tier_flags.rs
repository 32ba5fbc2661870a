//! Flags of `api_tier`, and the workloads that they plan.

use std::time::Duration;

use clap::Args;

use super::bench::{Bench, Groups, at_certctl};
use super::common_flags::{ArrivalSpread, CertctlFlags, LoadFlags, ProfileChoice};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::Model;
use crate::load::rate::Rate;
use crate::measure::threshold::Threshold;
use crate::run::Workload;
use crate::scenario::bulk_renewal::SEEDED_CERTIFICATES;
use crate::scenario::issuance::{self, Issuance};
use crate::scenario::list::{self, List, Variant};
use crate::scenario::need::Need;
use crate::system::CheckedCertctl;

/// The delay of the second workload after the first.
const LIST_STARTS_AFTER: Duration = Duration::from_secs(5);

/// Flags of `api_tier`.
#[derive(Args, Clone, Debug)]
pub struct ApiTierFlags {
    /// Certificates posted: 50/s, 100/m.
    #[arg(long, default_value = "50/s", env = "CERTCTL_BENCH_ISSUANCE_RATE")]
    issuance_rate: Rate,
    /// Let the rate of the posts vary over their window: ramp:10/s-100/s; step:10/s,50/s,100/s, in equal parts;
    /// spike:10/s,100/s@20s+5s, from second 20 on for 5 s; or file:PATH, with a second and a rate on each line.
    #[arg(long, value_name = "PROFILE", conflicts_with = "issuance_rate", env = "CERTCTL_BENCH_ISSUANCE_RATE_PROFILE")]
    issuance_rate_profile: Option<ProfileChoice>,
    /// Lists requested.
    #[arg(long, default_value = "50/s", env = "CERTCTL_BENCH_LIST_RATE")]
    list_rate: Rate,
    /// Let the rate of the lists vary over their window, likewise.
    #[arg(long, value_name = "PROFILE", conflicts_with = "list_rate", env = "CERTCTL_BENCH_LIST_RATE_PROFILE")]
    list_rate_profile: Option<ProfileChoice>,
    /// Pages to list.
    #[arg(long, value_enum, default_value = "first", env = "CERTCTL_BENCH_PAGES")]
    pages: Variant,
    /// Spread of the arrivals: constant, jittered or poisson [default: posts constant, lists jittered, so that they
    /// keep no fixed distance].
    #[arg(long, env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: Option<ArrivalSpread>,
    /// Connections that each of the two workloads pools.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_CONNECTIONS")]
    connections: u32,
    /// Delay of the lists against the posts.
    #[arg(skip = LIST_STARTS_AFTER)]
    list_starts_after: Duration,
}

impl Bench for ApiTierFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "api_tier";
    const ABOUT: &'static str = "Certificates are posted to certctl while its certificates are listed.";
    const SEEDS: &'static [&'static str] = &["01_bulk_renewal_certs.sql"];

    fn smoke(&mut self) {
        self.connections = self.connections.min(20);
        self.list_starts_after = Duration::from_millis(200);
    }

    fn needs(&self, _load: &LoadFlags) -> Vec<Need> {
        vec![
            Need::Permission(issuance::PERMISSION),
            Need::Permission(list::PERMISSION),
            // The cost of a list depends on the number of certificates.
            Need::Certificate(1),
            Need::Certificate(SEEDED_CERTIFICATES),
        ]
    }

    fn loops(&self) -> &'static [&'static str] {
        &["issuance", "list"]
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        let plan = |(rate, profile): (Rate, &Option<_>), usual, steps: usize, starts_after: Duration| {
            let pattern = load.pattern(profile.as_ref(), rate, self.arrivals.unwrap_or(usual), load.window())?;
            let model = Model::Open { pattern, clients: 1, affinity: Affinity::Any };
            let mut plan = load.plan(model, self.connections as usize, steps)?;
            plan.starts_after = starts_after;
            // Two random schedules of one seed would be the same.
            plan.rng_seed = plan.rng_seed.wrapping_add(starts_after.as_millis() as u64);
            Ok::<_, Error>(plan)
        };
        let of_posts = (self.issuance_rate, &self.issuance_rate_profile);
        let of_lists = (self.list_rate, &self.list_rate_profile);
        let posts = Workload {
            name: issuance::NAME,
            plan: plan(of_posts, ArrivalSpread::Constant, issuance::STEPS.len(), Duration::ZERO)?,
            thresholds: issuance::thresholds(),
        };
        let lists = Workload {
            name: list::NAME,
            plan: plan(of_lists, ArrivalSpread::Jittered, list::STEPS.len(), self.list_starts_after)?,
            thresholds: list::thresholds(),
        };
        let pages = self.pages;
        Ok(vec![vec![
            at_certctl(posts, |certctl| Ok(Issuance::new(&Issuance::run_name(), &certctl.host(), certctl.token()))),
            at_certctl(lists, move |certctl| Ok(List::new(pages, &certctl.host(), certctl.token()))),
        ]])
    }

    fn sized(&self) -> (&'static str, u64) {
        // For each of the two workloads.
        ("--connections", 2)
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.01)
    }
}
