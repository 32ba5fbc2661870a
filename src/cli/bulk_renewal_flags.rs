//! Flags of `bulk_renewal`, and the workloads that they plan.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::bench::{Bench, Groups, at_certctl};
use super::common_flags::{ArrivalSpread, CertctlFlags, LoadFlags, RateProfileFlag};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Plan};
use crate::load::rate::Rate;
use crate::load::schedule::Schedule;
use crate::measure::threshold::Threshold;
use crate::run::{PlannedWorkload, Workload};
use crate::scenario::bulk_renewal::{
    self, BulkRenewal as Scenario, CRITERIA, PERMISSION, SEEDED_CERTIFICATES, STEPS, Selection,
};
use crate::scenario::list;
use crate::scenario::need::Need;
use crate::system::CheckedCertctl;

/// The default batch size: with it five minutes and the warm-up, at 5/s, fit into the seeded certificates.
const DEFAULT_BATCH: u64 = 6;
const DEFAULT_WINDOW: Duration = Duration::from_secs(300);

/// The sweep: name, batch size and number of requests for each size. The batches of one size are disjoint.
const SWEEP: [(&str, u64, u64); 5] = [
    ("sweep_50", 50, 20),
    ("sweep_100", 100, 20),
    ("sweep_500", 500, 10),
    ("sweep_2000", 2_000, 5),
    ("sweep_10000", 10_000, 1),
];
/// The sweep's timeout: certctl cuts a request off after 120 s, and the sweep waits longer to see that.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(150);
/// The longest time for one size of the sweep.
const SWEEP_WINDOW: Duration = Duration::from_secs(600);

/// Flags of `bulk_renewal`.
#[derive(Args, Clone, Debug)]
pub struct BulkRenewalFlags {
    /// Certificates that a request names.
    #[arg(long, value_enum, default_value = "enqueue", env = "CERTCTL_BENCH_WORKLOAD")]
    workload: RenewalWorkload,
    /// Certificates that a request of `enqueue` renews; no certificate is renewed twice in a run.
    #[arg(long, default_value_t = DEFAULT_BATCH, value_parser = clap::value_parser!(u64).range(1..=SEEDED_CERTIFICATES),
          env = "CERTCTL_BENCH_BATCH_SIZE")]
    batch_size: u64,
    /// Arrivals: 5/s, 100/m.
    #[arg(long, default_value = "5/s", env = "CERTCTL_BENCH_RATE")]
    rate: Rate,
    #[command(flatten)]
    profile: RateProfileFlag,
    /// Spread of the arrivals: constant or poisson.
    #[arg(long, default_value = "constant", env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: ArrivalSpread,
    /// Connections that are pooled.
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_CONNECTIONS")]
    connections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RenewalWorkload {
    /// Batches by id, each of certificates that no other request renews.
    Enqueue,
    /// All certificates of a team and issuer, repeatedly: at most 50, and none after the first time.
    Rescan,
    /// One request after another of 50, 100, 500, 2,000 and 10,000 certificates, to find where the write timeout applies.
    Sweep,
}

impl BulkRenewalFlags {
    fn plan(&self, load: &LoadFlags) -> Result<Plan> {
        let window = load.duration.unwrap_or(DEFAULT_WINDOW);
        let pattern = load.pattern(self.profile.rate_profile.as_ref(), self.rate, self.arrivals, window)?;
        let model = Model::Open { pattern, clients: 1, affinity: Affinity::Any };
        let mut plan = load.plan(model, self.connections as usize, STEPS.len())?;
        plan.window = window;
        Ok(plan)
    }

    /// Refuses more requests than there are batches: a certificate named twice would be skipped the second time.
    fn refuse_too_many(&self, plan: &Plan) -> Result<()> {
        let span = plan.warm_up + plan.window;
        let Model::Open { pattern, .. } = &plan.model else { return Ok(()) };
        // The count is bounded: a day at the highest rate has too many arrivals to count.
        let most = SEEDED_CERTIFICATES as usize + 1;
        let schedule = Schedule::new(pattern, 1, 1, span, plan.rng_seed).with_warm_up(plan.warm_up);
        let requests = schedule.take(most).count() as u64;
        if requests * self.batch_size <= SEEDED_CERTIFICATES {
            return Ok(());
        }
        let fits = SEEDED_CERTIFICATES / requests.max(1);
        let rate = if pattern.curve().is_some() { "--rate-profile" } else { "--rate" };
        let hint = match fits {
            0 => format!("lower {rate} or --duration"),
            _ => format!("give --batch-size {fits} or less at this rate and duration, or lower those"),
        };
        Err(Error::usage(format!(
            "{}{requests} requests of {} certificates exceed the {SEEDED_CERTIFICATES} seeded certificates",
            if requests > SEEDED_CERTIFICATES { "at least " } else { "" },
            self.batch_size
        ))
        .with_hint(hint))
    }

    fn sweep(load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        let size = |(name, size, requests): (&'static str, u64, u64)| {
            let requests = if load.is_smoke() { 1 } else { requests };
            let model = Model::Closed { think: Duration::ZERO, rounds: Some(requests) };
            let mut plan = load.plan(model, 1, STEPS.len())?;
            plan.warm_up = Duration::ZERO;
            plan.window = SWEEP_WINDOW;
            plan.timeout = load.timeout.unwrap_or(SWEEP_TIMEOUT);
            Ok(vec![planned(name, plan, Selection::Batches { size })])
        };
        let sizes = if load.is_smoke() { &SWEEP[..2] } else { &SWEEP[..] };
        sizes.iter().copied().map(size).collect()
    }
}

fn planned(name: &'static str, plan: Plan, selection: Selection) -> PlannedWorkload<CheckedCertctl> {
    let workload = Workload { name, plan, thresholds: bulk_renewal::thresholds() };
    at_certctl(workload, move |certctl| Ok(Scenario::new(selection, &certctl.host(), certctl.token())))
}

impl Bench for BulkRenewalFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "bulk_renewal";
    const ABOUT: &'static str = "Seeded certificates are put into renewal, many in one request.";
    const SEEDS: &'static [&'static str] = &["01_bulk_renewal_certs.sql"];

    fn smoke(&mut self) {
        self.rate = Rate::per_second(20);
        self.batch_size = self.batch_size.min(10);
        self.connections = self.connections.min(10);
    }

    fn needs(&self, _load: &LoadFlags) -> Vec<Need> {
        let mut needs = vec![
            Need::Permission(PERMISSION),
            Need::Permission(list::PERMISSION),
            Need::Renewable(1),
            Need::Certificate(SEEDED_CERTIFICATES),
        ];
        match self.workload {
            RenewalWorkload::Enqueue => {}
            RenewalWorkload::Rescan => needs.insert(2, Need::OnlyOurs(&CRITERIA)),
            RenewalWorkload::Sweep => needs.insert(0, Need::Database),
        }
        needs
    }

    fn loops(&self) -> &'static [&'static str] {
        // A batch can be renewed once.
        if self.workload == RenewalWorkload::Rescan { &["bulk_renew"] } else { &[] }
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        let (name, selection) = match self.workload {
            RenewalWorkload::Enqueue => ("enqueue", Selection::Batches { size: self.batch_size }),
            RenewalWorkload::Rescan => ("rescan", Selection::Criteria),
            RenewalWorkload::Sweep => return Self::sweep(load),
        };
        let plan = self.plan(load)?;
        if self.workload == RenewalWorkload::Enqueue {
            self.refuse_too_many(&plan)?;
        }
        Ok(vec![vec![planned(name, plan, selection)]])
    }

    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        const NOT_OF_SWEEP: &str = "does not apply to --workload sweep, whose sizes and requests are fixed";
        let of_enqueue = ("batch_size", "applies only to --workload enqueue");
        match self.workload {
            RenewalWorkload::Enqueue => Vec::new(),
            RenewalWorkload::Rescan => vec![of_enqueue],
            RenewalWorkload::Sweep => {
                let fixed = ["rate", "rate_profile", "arrivals", "connections", "duration", "warm_up"];
                fixed.into_iter().map(|id| (id, NOT_OF_SWEEP)).chain([of_enqueue]).collect()
            }
        }
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.01)
    }

    fn is_judged(&self) -> bool {
        self.workload != RenewalWorkload::Sweep
    }
}
