//! `acme_enroll`: clients that enrol with an ACME server by signed requests (RFC 8555): an account, an order, its
//! authorization and, on a server that can finalize it, its certificate.
//!
//! An arrival is one order with everything that belongs to it. An account makes a few orders, one after another, and is
//! then used no more. An arrival that finds no account idle begins with a new one.

mod chain;
mod enrolment;
mod jws;
mod keys;
mod resources;
mod retry_after;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use self::enrolment::{Enrolment, KeptAccount};
use self::keys::Keys;
use super::acme::Paths;
use super::journey::{Journey, Journeys};
use super::{Claim, Scenario, audit};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::{Error, Result};
use crate::load::arrival::PlannedRequest;
use crate::measure::breach::Breach;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::seed::enrolment_contact;
use crate::wire::http1::Response;
use crate::wire::request::Method;

pub use self::keys::MOST_AHEAD;

/// The names of the steps of an enrolment that is finalized.
const STEPS: &[&str] = &["new_account", "new_order", "authz", "challenge", "finalize", "certificate"];
/// The number of steps of an enrolment that is not.
const STEPS_BEFORE_FINALIZE: usize = 4;

const NEW_ACCOUNT: usize = 0;
const NEW_ORDER: usize = 1;
const AUTHORIZATION: usize = 2;
const CHALLENGE: usize = 3;
const FINALIZE: usize = 4;
const CERTIFICATE: usize = 5;

/// The number of orders that certctl lets an account have open at once.
pub const ORDERS_PER_ACCOUNT: u32 = 5;

/// The most nonces that wait for the next enrolment.
const MOST_NONCES: usize = 1_024;
/// The age up to which a nonce is used: certctl may forget one after five minutes.
const NONCES_LAST: Duration = Duration::from_secs(240);

/// Returns the names of the steps.
pub fn steps(finalize: bool) -> &'static [&'static str] {
    if finalize { STEPS } else { &STEPS[..STEPS_BEFORE_FINALIZE] }
}

/// Returns the bounds on latencies. A challenge has none: its time is that of the server's validation.
pub fn thresholds(finalize: bool) -> Vec<Threshold> {
    let bound = |step: usize, ms| Threshold::Step(STEPS[step], Quantile::P95, Duration::from_millis(ms));
    let mut thresholds = vec![bound(NEW_ACCOUNT, 500), bound(NEW_ORDER, 500), bound(AUTHORIZATION, 500)];
    if finalize {
        thresholds.extend([bound(FINALIZE, 2_000), bound(CERTIFICATE, 500)]);
    }
    thresholds
}

/// The choices of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// True if orders are finalized, and their certificates fetched and verified.
    pub finalize: bool,
    /// The orders of an account.
    pub orders_per_account: u32,
    /// The domain below which names are ordered.
    pub domain: String,
    /// The authorities that may have issued the certificates; if there are none, the last certificate of each chain is
    /// taken for one.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The number of enrolments for which keys are made ahead.
    pub enrolments: u64,
    /// The most enrolments that are under way at once: each may need a new account.
    pub at_once: u64,
}

/// The scenario's state.
pub struct AcmeEnroll(Rc<State>);

/// The state that the enrolments share.
struct State {
    paths: Paths,
    host: String,
    token: Option<String>,
    finalize: bool,
    orders_per_account: u32,
    authorities: Vec<CertificateDer<'static>>,
    /// The contact of this run's accounts, by which their rows are found.
    contact: String,
    keys: Keys,
    /// Accounts with room for orders that no enrolment uses, the last used last.
    idle: RefCell<Vec<Rc<KeptAccount>>>,
    nonces: RefCell<SpareNonces>,
    counts: Counts,
}

/// Sums over all answers.
#[derive(Default)]
struct Counts {
    /// Accounts made.
    accounts: Count,
    /// Orders made.
    orders: Count,
    /// Challenges answered.
    challenges: Count,
    /// Orders that got a certificate.
    certificates: Count,
    /// Certificates fetched and verified.
    verified: Count,
    /// Certificates fetched that do not verify.
    unverified: Count,
    /// Requests for a nonce.
    fetched: Count,
    /// Requests sent again since their nonce was refused.
    bad_nonces: Count,
    /// Successful answers to signed requests.
    answers: Count,
    /// Those without a nonce.
    without_nonce: Count,
    refused: Count,
    refused_in_shape: Count,
}

#[derive(Default)]
struct Count(Cell<u64>);

impl Count {
    fn add(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }

    fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Nonces that ended enrolments have left, the youngest last.
#[derive(Default)]
struct SpareNonces(Vec<(String, Moment)>);

impl SpareNonces {
    /// Takes the youngest, if it is young enough at `now`.
    fn take(&mut self, now: Moment) -> Option<(String, Moment)> {
        let youngest = self.0.pop()?;
        if now - youngest.1 <= NONCES_LAST {
            return Some(youngest);
        }
        // All others are older.
        self.0.clear();
        None
    }

    fn put(&mut self, nonce: String, since: Moment) {
        if self.0.len() >= MOST_NONCES {
            self.0.remove(0);
        }
        let at = self.0.partition_point(|(_, other)| *other <= since);
        self.0.insert(at, (nonce, since));
    }
}

impl AcmeEnroll {
    /// Returns the scenario for a system whose Host is `host`; its requests carry `token` if there is one. Makes the
    /// keys, which takes a while.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(paths: &Paths, host: &str, token: Option<&str>, options: &Options) -> Result<Self> {
        let mut run = [0; 8];
        aws_lc_rs::rand::fill(&mut run).map_err(|_| Error::new("drawing the run's number: no random numbers"))?;
        let run = format!("{:016x}", u64::from_ne_bytes(run));
        let accounts = options.enrolments.div_ceil(options.orders_per_account.into()) + options.at_once;
        let suffix = format!("-{run}.{}", options.domain);
        let keys = Keys::make(accounts, options.enrolments, options.finalize, suffix)?;
        Ok(Self(Rc::new(State {
            paths: paths.clone(),
            host: host.to_owned(),
            token: token.map(str::to_owned),
            finalize: options.finalize,
            orders_per_account: options.orders_per_account,
            authorities: options.authorities.clone(),
            contact: enrolment_contact(&run),
            keys,
            idle: RefCell::default(),
            nonces: RefCell::default(),
            counts: Counts::default(),
        })))
    }

    /// Returns the number of account keys, and of signing requests, that were made and not used yet.
    pub fn keys_left(&self) -> (u64, u64) {
        self.0.keys.left()
    }
}

impl Journeys for AcmeEnroll {
    fn begin(&self, _planned: PlannedRequest, start: Moment) -> Box<dyn Journey> {
        Box::new(Enrolment::begin(&self.0, start))
    }
}

impl Scenario for AcmeEnroll {
    fn title(&self) -> String {
        let (orders, directory) = (self.0.orders_per_account, &self.0.paths.directory);
        let end = if self.0.finalize { ", finalized, its certificate fetched and verified" } else { "" };
        let token = if self.0.token.is_some() { "" } else { "; without a token" };
        format!("enrolment at {directory}: an order for one name{end}; {orders} orders an account{token}")
    }

    fn steps(&self) -> &'static [&'static str] {
        steps(self.0.finalize)
    }

    /// Is not called, and neither is [`Self::judge`]: arrivals begin journeys.
    fn encode(&self, _planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        request.clear();
        Method::Head
    }

    fn judge(&self, _planned: PlannedRequest, _start: Moment, _response: &Response<'_>) -> Outcome {
        Outcome::Wrong
    }

    fn journeys(&self) -> Option<&dyn Journeys> {
        Some(self)
    }

    /// Every row of a run is found by the contact of the run's accounts: rows of earlier runs need no count.
    fn begin_check(&self, _database: &mut DatabaseClient) -> Result<()> {
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        const ACCOUNTS: &str = "SELECT count(*) FROM acme_accounts WHERE $1 = ANY (contact)";
        const ORDERS: &str = "SELECT count(*) FROM acme_orders JOIN acme_accounts USING (account_id) \
                              WHERE $1 = ANY (contact)";
        const CERTIFICATES: &str = "SELECT count(*) FROM acme_orders JOIN acme_accounts USING (account_id) \
                                    JOIN certificate_versions USING (certificate_id) WHERE $1 = ANY (contact)";
        let queries = [ACCOUNTS, ORDERS, CERTIFICATES];
        let work = self.claims().into_iter().zip(queries).map(|(Claim { name, claimed, .. }, sql)| {
            let found = audit::number(database, name, sql, &self.0.contact)?;
            Ok(Work::counted(name, claimed, found, unanswered, "SQL"))
        });
        work.collect()
    }

    fn claims(&self) -> Vec<Claim> {
        let Counts { accounts, orders, certificates, .. } = &self.0.counts;
        let claim = |name, counter, claimed: &Count| Claim { name, counter, claimed: claimed.get() };
        let mut claims =
            vec![claim("ACME accounts", "accounts_created", accounts), claim("ACME orders", "orders_created", orders)];
        if self.0.finalize {
            claims.push(claim("ACME certificates", "orders_finalized", certificates));
        }
        claims
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        let counts = &self.0.counts;
        let count = |name, count| Observation { name, value: Value::Count(count) };
        let share = |name, count, of| Observation { name, value: Value::Share { count, of } };
        let mut observations = vec![
            count("accounts made", counts.accounts.get()),
            count("badNonce, retried", counts.bad_nonces.get()),
            count("new-nonce requests", counts.fetched.get()),
            count("challenges answered", counts.challenges.get()),
            share("429s of the right shape", counts.refused_in_shape.get(), counts.refused.get()),
        ];
        if self.0.finalize {
            observations.push(share("certificates verified", counts.verified.get(), counts.certificates.get()));
        }
        observations.push(count("keys made under load, none being left", self.0.keys.late()));
        observations
    }

    fn broken_rules(&self) -> Vec<Breach> {
        let counts = &self.0.counts;
        let misshapen = counts.refused.get() - counts.refused_in_shape.get();
        let rules = [
            ("successful answers to signed requests have no Replay-Nonce", &counts.without_nonce, counts.answers.get()),
            ("429s are not as ACME shapes them", &Count(Cell::new(misshapen)), counts.refused.get()),
            ("certificates do not verify", &counts.unverified, counts.certificates.get()),
        ];
        let broken = rules.into_iter().filter(|(_, count, _)| count.get() > 0);
        broken.map(|(what, count, of)| Breach::Rule { what, count: count.get(), of }).collect()
    }
}

#[cfg(test)]
mod tests;
