//! Flags of `revocation`, and the workloads that they plan.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;

use super::bench::{Bench, Groups};
use super::common_flags::{ArrivalSpread, CertctlFlags, LoadFlags, duration};
use crate::error::{Error, Result};
use crate::load::dispatcher::Affinity;
use crate::load::plan::{Model, Opening, Plan};
use crate::load::rate::Rate;
use crate::measure::threshold::Threshold;
use crate::run::{Binding, PlannedWorkload, Workload};
use crate::scenario::issuance::{self, Issuance};
use crate::scenario::list;
use crate::scenario::need::Need;
use crate::scenario::revocation::batch::CSR_PERMISSION;
use crate::scenario::revocation::herd::{self, Herd, Sources};
use crate::scenario::revocation::ledger::Ledger;
use crate::scenario::revocation::order::{self, RevocationOrder};
use crate::scenario::revocation::{ISSUER, MOST_CERTIFICATES};
use crate::system::{CheckedCertctl, revocable};

const DEFAULT_BATCH: u64 = 200;
const SMOKE_BATCH: u64 = 10;

/// Flags of `revocation`.
#[derive(Args, Clone, Debug)]
pub struct RevocationFlags {
    /// Certificates that certctl signs for the run, and that are revoked in it.
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_BATCH,
          value_parser = clap::value_parser!(u64).range(1..=MOST_CERTIFICATES), env = "CERTCTL_BENCH_BATCH")]
    batch: u64,
    /// Sources of a status that are asked.
    #[arg(long, value_enum, default_value = "all", env = "CERTCTL_BENCH_SOURCES")]
    sources: Sources,
    /// Certificates that a request to revoke names.
    #[arg(long, value_name = "COUNT", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(1..=MOST_CERTIFICATES), env = "CERTCTL_BENCH_PER_REQUEST")]
    per_request: u64,
    /// Time from the beginning of the window to the order to revoke [default: half of the window].
    #[arg(long, value_name = "TIME", value_parser = duration, env = "CERTCTL_BENCH_REVOKE_AT")]
    revoke_at: Option<Duration>,
    /// Time after the confirmation of a revocation from which an OCSP answer that says good is a breach.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, env = "CERTCTL_BENCH_STALE_WITHIN")]
    stale_within: Duration,
    /// Requests for a status: 200/s, 100/m. The kinds of request take turns.
    #[arg(long, default_value = "200/s", env = "CERTCTL_BENCH_RATE")]
    rate: Rate,
    /// Spread of the arrivals: constant, jittered or poisson.
    #[arg(long, default_value = "poisson", env = "CERTCTL_BENCH_ARRIVALS")]
    arrivals: ArrivalSpread,
    /// Connections that the herd pools.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_CONNECTIONS")]
    connections: u32,
}

impl RevocationFlags {
    /// Plans the herd, and the order within its window.
    fn plans(&self, load: &LoadFlags) -> Result<(Plan, Plan)> {
        let pattern = self.arrivals.at(self.rate);
        let model = Model::Open { pattern, clients: 1, affinity: Affinity::Any };
        let herd = load.plan(model, self.connections as usize, self.sources.steps().len())?;
        let revoke_at = self.revoke_at.unwrap_or(herd.window / 2);
        let Some(rest) = herd.window.checked_sub(revoke_at).filter(|rest| !rest.is_zero()) else {
            let [revoke_at, window] = [revoke_at, herd.window].map(humantime::format_duration);
            return Err(Error::usage(format!("--revoke-at {revoke_at} must be below --duration {window}"))
                .with_hint("lower --revoke-at, or lengthen --duration"));
        };
        // A list shows all certificates at once.
        let turn_s = match self.sources {
            Sources::All => self.sources.steps().len() as f64 * self.batch as f64 / self.rate.per_second_f64(),
            Sources::Crl => 0.0,
        };
        if turn_s > rest.as_secs_f64() {
            return Err(Error::usage(format!(
                "at {} each kind of request comes to all {} certificates within {turn_s:.1} s, but only {} are left \
                 after the order to revoke",
                self.rate,
                self.batch,
                humantime::format_duration(rest)
            ))
            .with_hint("raise --rate, lower --batch, or lengthen --duration"));
        }
        let requests = self.batch.div_ceil(self.per_request);
        let mut order =
            load.plan(Model::Closed { think: Duration::ZERO, rounds: Some(requests) }, 1, order::STEPS.len())?;
        order.opening = Opening::ByFirstRequest;
        order.starts_after = herd.warm_up + revoke_at;
        order.warm_up = Duration::ZERO;
        order.window = rest;
        Ok((herd, order))
    }
}

impl Bench for RevocationFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "revocation";
    const ABOUT: &'static str = "Certificates are revoked in bulk while relying parties ask for their status.";
    const SEEDS: &'static [&'static str] = &["02_agent_fleet.sql"];

    fn smoke(&mut self) {
        self.batch = self.batch.min(SMOKE_BATCH);
        self.per_request = self.per_request.min(5);
        self.connections = self.connections.min(10);
        self.revoke_at = None;
    }

    fn needs(&self, load: &LoadFlags) -> Vec<Need> {
        let window = load.duration.unwrap_or(Duration::from_secs(30)) + load.warm_up.unwrap_or(Duration::from_secs(5));
        let minute = window.min(Duration::from_secs(60)).as_secs_f64();
        let per_minute = (self.rate.per_second_f64() * minute * self.sources.ocsp_share()).ceil() as u64;
        let mut needs = vec![
            Need::Permission(order::PERMISSION),
            Need::Permission(issuance::PERMISSION),
            Need::Permission(list::PERMISSION),
            Need::Permission(CSR_PERMISSION),
            Need::Agent(1),
        ];
        if self.sources == Sources::All {
            needs.push(Need::Ocsp { issuer: ISSUER, per_minute });
        }
        needs
    }

    fn loops(&self) -> &'static [&'static str] {
        // A certificate can be revoked once.
        &[]
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        let (herd_plan, order_plan) = self.plans(load)?;
        let herd = Workload { name: herd::NAME, plan: herd_plan, thresholds: self.sources.thresholds() };
        // A handful of requests is too few for a quantile.
        let order = Workload { name: order::NAME, plan: order_plan, thresholds: Vec::new() };
        let (sources, batch, stale_within) = (self.sources, self.batch, self.stale_within);
        let per_request = self.per_request as usize;
        // The workload that is bound first has the certificates made.
        let made = Rc::new(RefCell::new(None::<Rc<Ledger>>));
        let ledger = move |certctl: &CheckedCertctl| -> Result<Rc<Ledger>> {
            if let Some(ledger) = &*made.borrow() {
                return Ok(ledger.clone());
            }
            let ledger = Rc::new(Ledger::new(revocable::make(certctl, &Issuance::run_name(), batch)?));
            Ok(made.borrow_mut().insert(ledger).clone())
        };
        let same = ledger.clone();
        Ok(vec![vec![
            PlannedWorkload::new(herd, move |certctl: &CheckedCertctl| {
                let herd = Herd::new(sources, ledger(certctl)?, stale_within, &certctl.host())?;
                Ok(Some(Binding::of(herd, certctl.peer())))
            }),
            PlannedWorkload::new(order, move |certctl: &CheckedCertctl| {
                let order = RevocationOrder::new(same(certctl)?, per_request, &certctl.host(), certctl.token());
                Ok(Some(Binding::of(order, certctl.peer())))
            }),
        ]])
    }

    fn rate(&self) -> Result<Option<Rate>> {
        Err(Error::usage(
            "revocation: each certificate is revoked once, in the middle of a run, and what counts is the time until \
             every answer says so: no rate alone decides that",
        )
        .with_hint("give one rate after another: cargo bench --bench revocation -- --rate 400/s"))
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("the herd is compared with the orders to revoke in one process")
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.01)
    }
}
