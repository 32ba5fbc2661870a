//! Flags of `acme_enroll`, and the workload that they plan.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::acme_flags::Common;
use super::bench::{Bench, Groups, at_certctl};
use super::common_flags::{CertctlFlags, EnvironmentUse, LoadFlags};
use crate::capacity::translation::{ArrivalMeaning, ArrivalUnit};
use crate::error::{Error, Result};
use crate::load::plan::{Model, Plan};
use crate::load::rate::Rate;
use crate::measure::threshold::Threshold;
use crate::run::Workload;
use crate::scenario::acme_enroll::{self, AcmeEnroll as Scenario, MOST_AHEAD, ORDERS_PER_ACCOUNT, Options};
use crate::scenario::need::Need;
use crate::system::CheckedCertctl;
use crate::terminal::errln;
use crate::wire::tls::Trust;

/// The default domain below which names are ordered (RFC 6761, section 6.2: nobody else's).
const DOMAIN: &str = "loadtest.example.test";
/// The longest domain: the common name of a certificate has at most 64 characters (RFC 5280, appendix A.1).
const LONGEST_DOMAIN: usize = 37;
/// The making of keys that is announced: one that takes longer.
const ANNOUNCED: Duration = Duration::from_millis(500);

/// Flags of `acme_enroll`.
#[derive(Args, Clone, Debug)]
pub struct AcmeEnrollFlags {
    /// Users, each with a connection of its own; with --rate or --rate-profile: connections that are pooled.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000),
          env = "CERTCTL_BENCH_USERS")]
    users: u32,
    /// Go on to the certificate, and verify it. Stock certctl cannot finalize an order: one that --certctl starts has
    /// its database patched for it, a running one must have been.
    #[arg(long, env = "CERTCTL_BENCH_FINALIZE")]
    finalize: bool,
    /// Orders of an account, after which it is used no more: certctl lets it have 5 open ones.
    #[arg(long, value_name = "COUNT", default_value_t = ORDERS_PER_ACCOUNT,
          value_parser = clap::value_parser!(u32).range(1..), env = "CERTCTL_BENCH_ORDERS_PER_ACCOUNT")]
    orders_per_account: u32,
    /// Enrolments of users for which keys are made before the load; more are made under load, and counted. In an open
    /// workload the schedule says how many there are.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=MOST_AHEAD), env = "CERTCTL_BENCH_KEYS_AHEAD")]
    keys_ahead: u64,
    /// Domain of the names that are ordered.
    #[arg(long, value_name = "NAME", default_value = DOMAIN, value_parser = domain, env = "CERTCTL_BENCH_DOMAIN")]
    domain: String,
    /// With --finalize: the authorities that may have issued the certificates, PEM [default: the last certificate of
    /// each chain].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_ACME_CA")]
    acme_ca: Option<PathBuf>,
    /// The system is an ACME server other than certctl (RFC 8555): it gets no token, and nothing else of certctl's API
    /// is looked for.
    #[arg(long, env = "CERTCTL_BENCH_ACME_SERVER")]
    acme_server: bool,
    #[command(flatten)]
    common: Common,
}

impl AcmeEnrollFlags {
    fn has_token(&self) -> bool {
        !self.acme_server && !self.common.no_bearer
    }

    /// Returns the number of enrolments for which keys are made ahead.
    fn enrolments(&self, plan: &Plan) -> u64 {
        match &plan.model {
            Model::Closed { .. } => self.keys_ahead,
            Model::Open { pattern, clients, .. } => {
                let mean = pattern.per_second(*clients) * (plan.warm_up + plan.window).as_secs_f64();
                // A Poisson process stays within six standard deviations.
                (mean + 6.0 * mean.sqrt()).ceil() as u64
            }
        }
    }
}

impl Bench for AcmeEnrollFlags {
    type System = CertctlFlags;

    const NAME: &'static str = "acme_enroll";
    const ABOUT: &'static str = "ACME clients enrol by signed requests: account, order, authorization, certificate.";
    const SEEDS: &'static [&'static str] = &[];

    fn smoke(&mut self) {
        self.common.environment = EnvironmentUse::Ignored;
        self.users = self.users.min(4);
        self.keys_ahead = self.keys_ahead.min(1_000);
    }

    fn needs(&self, _load: &LoadFlags) -> Vec<Need> {
        let Need::Acme { directory, renewal_info, .. } = self.common.need(false) else { return Vec::new() };
        let acme = Need::Acme { directory, bearer: self.has_token(), renewal_info };
        let needs = [(self.acme_server, Need::AcmeAlone), (self.finalize, Need::AcmeFinalization), (true, acme)];
        needs.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, need)| need).collect()
    }

    /// A step of an enrolment needs those before it, so that none can be repeated by itself.
    fn loops(&self) -> &'static [&'static str] {
        &[]
    }

    fn groups(&self, load: &LoadFlags) -> Result<Groups<CheckedCertctl>> {
        // Each arrival takes all steps.
        let plan = self.common.plan(self.users, Duration::ZERO, load, 1)?;
        let authorities = match self.acme_ca.as_deref().map(Trust::from_file).transpose()? {
            Some(Trust::Authorities(certificates)) => certificates,
            _ => Vec::new(),
        };
        let options = Options {
            finalize: self.finalize,
            orders_per_account: self.orders_per_account,
            domain: self.domain.clone(),
            authorities,
            enrolments: self.enrolments(&plan),
            at_once: plan.connections as u64,
        };
        let has_token = self.has_token();
        let make = move |certctl: &CheckedCertctl| {
            let began = Instant::now();
            let token = has_token.then_some(certctl.token());
            let scenario = Scenario::new(certctl.acme()?, &certctl.host(), token, &options)?;
            if began.elapsed() > ANNOUNCED {
                let ((accounts, requests), took) = (scenario.keys_left(), began.elapsed().as_secs_f64());
                errln!("made keys of {accounts} accounts and {requests} certificates in {took:.1} s");
            }
            Ok(scenario)
        };
        let workload = Workload { name: Self::NAME, plan, thresholds: acme_enroll::thresholds(self.finalize) };
        Ok(vec![vec![at_certctl(workload, make)]])
    }

    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        let mut ignored = self.common.ignored();
        if !self.finalize {
            ignored.push(("acme_ca", "applies only to --finalize: no certificate is fetched"));
        }
        if self.acme_server {
            ignored.push(("no_bearer", "goes without saying for --acme-server"));
            ignored.push(("profile", "does not apply to --acme-server: profiles are certctl's"));
        }
        if self.common.is_open() {
            ignored
                .push(("keys_ahead", "does not apply to an open workload: its schedule says how many keys are needed"));
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
        // Without it no certificate comes of an order.
        let meaning = if self.finalize { ArrivalMeaning::Enrolment } else { ArrivalMeaning::Other };
        ArrivalUnit::new("enrolments", meaning)
    }

    fn arrivals_for_a_sample(&self) -> f64 {
        // Of the orders of an account, one is made with a new account.
        self.orders_per_account.into()
    }

    fn sized(&self) -> (&'static str, u64) {
        ("--users", 1)
    }

    fn unsplit(&self) -> Option<&'static str> {
        Some("an enrolment needs the keys and accounts that one process has")
    }

    fn error_floor(&self) -> Threshold {
        Threshold::Errors(0.01)
    }
}

/// Parses a domain: labels of letters, digits and hyphens (RFC 5890, section 2.3.1).
fn domain(text: &str) -> Result<String, Error> {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    match text.len() <= LONGEST_DOMAIN && text.split('.').all(is_label) {
        true => Ok(text.to_ascii_lowercase()),
        false => {
            Err(Error::usage(format!("is no domain of at most {LONGEST_DOMAIN} letters, digits, hyphens and dots")))
        }
    }
}
