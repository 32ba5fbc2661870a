//! `job_drain`: many certificates are put into renewal at once, while a fleet of agents lives on beside it: until the
//! last one is renewed.
//!
//! Two workloads share the state of one drain: the [`DrainFleet`], whose polls show work and whose agents do it, and
//! the [`Wave`], which puts the certificates into renewal.

mod agent;
mod completions;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::agent_storm::Fleet;
use super::audit::{self, AuditCheck, AuditRows};
use super::journey::{Journey, Journeys};
use super::{Claim, Scenario, unwanted};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::load::arrival::PlannedRequest;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome};
use crate::seed;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};

use agent::Agents;
pub use completions::{Completions, Look};

/// The permission that an agent's report on a job needs.
pub const REPORT_PERMISSION: &str = "agent.job.complete";
/// The most certificates that one request puts into renewal.
pub const BATCH: u64 = 500;
/// The ids of a drain's certificates, which end with five digits, as a LIKE pattern.
const IDS: &str = "cert-loadtest-drain-_____";
const RENEWAL_PATH: &str = "/api/v1/certificates/bulk-renew";

/// The party that makes the private keys of renewed certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Keys {
    /// Agents: a poll shows the job, and the agent submits a signing request.
    #[default]
    Agent,
    /// certctl itself: its job processor works on the jobs.
    Server,
}

impl Keys {
    /// Returns its word in flags, and in certctl's setting `CERTCTL_KEYGEN_MODE`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Server => "server",
        }
    }
}

/// The rounds of certctl's job processor, in which it works on jobs where it makes the keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessorRounds {
    /// The most jobs that one takes.
    pub jobs: u64,
    /// The time between two, by its setting.
    pub every: Duration,
}

impl ProcessorRounds {
    /// certctl's defaults.
    pub const USUAL: Self = Self { jobs: 1_000, every: Duration::from_secs(30) };

    /// Returns the least time until the last round of so many jobs begins: the first one may begin at once, and certctl
    /// varies each interval by a tenth.
    pub fn least(self, jobs: u64) -> Duration {
        let later = jobs.div_ceil(self.jobs.max(1)).saturating_sub(1);
        let tenths = u32::try_from(later).unwrap_or(u32::MAX).saturating_mul(9);
        self.every.saturating_mul(tenths) / 10
    }
}

/// The names of the fleet's steps: the first two as in `agent_storm`.
pub const STEPS: &[&str] =
    &["heartbeat", "poll", "csr", "report", "heartbeat_before", "poll_before", "heartbeat_after", "poll_after"];
/// The step of a signing request.
const CSR: usize = 2;
/// The step of a report that a deployment is done.
const REPORT: usize = 3;
/// The names of the wave's steps.
pub const WAVE_STEPS: &[&str] = &["enqueue"];

/// Returns the bounds on latencies: those of a fleet, while the drain lasts.
pub fn thresholds() -> Vec<Threshold> {
    Fleet::Real.thresholds()
}

/// Returns the path of an agent's signing requests, `number` counted from 1.
fn csr_path(number: u64) -> String {
    format!("/api/v1/agents/ag-loadtest-{number:05}/csr")
}

/// Returns the id of a certificate of the drain, `number` counted from 1.
pub fn certificate_id(number: u64) -> String {
    format!("cert-loadtest-drain-{number:05}")
}

/// Returns the host name of a certificate of the drain, `number` counted from 1.
pub fn host_name(number: u64) -> String {
    format!("loadtest-drain-{number:05}.example.test")
}

/// The part of a run that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Before the wave.
    Before,
    /// From the wave until the last certificate is renewed.
    Drain,
    /// After that.
    After,
}

impl Part {
    /// Returns the step of a heartbeat or a poll, which has this step while the drain lasts.
    fn step(self, during: usize) -> usize {
        match self {
            Self::Drain => during,
            Self::Before => during + 4,
            Self::After => during + 6,
        }
    }
}

/// The state of a certificate's signing request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestState {
    /// None was submitted.
    Due,
    /// One was submitted, and no answer says that it was signed.
    Submitted,
    /// One was signed.
    Signed,
}

/// The size of a drain, and its end.
#[derive(Clone, Copy, Debug)]
pub struct DrainPlan {
    /// The party that makes the keys.
    pub keys: Keys,
    /// The number of agents, to whose targets the certificates map.
    pub agents: u64,
    /// The number of certificates.
    pub certificates: u64,
    /// The time for which deployments are awaited once the last certificate is renewed: in it, each agent polls.
    pub deployments: Duration,
    /// The time after which an agent begins no further job of a poll, and leaves the rest to its next one.
    pub round: Duration,
}

/// The state of a drain, which its workloads share.
pub struct Drain {
    plan: DrainPlan,
    wave: Cell<Option<Moment>>,
    /// The state of each certificate's signing request.
    requests: RefCell<Vec<RequestState>>,
    left: Cell<u64>,
    /// Answers that a signing request was signed.
    answers: Cell<u64>,
    drained: Cell<Option<Moment>>,
    /// Counts what certctl completes by itself, where it makes the keys.
    completions: OnceCell<Completions>,
    delivered: Cell<u64>,
    reported: Cell<u64>,
    last_report: Cell<Option<Moment>>,
    foreign: Cell<u64>,
    /// Deployment jobs that the database shows as running though no poll showed them.
    taken: Cell<u64>,
    /// Renewal jobs that the database shows as pending.
    pending: Cell<u64>,
}

impl Drain {
    /// Creates the state of a drain that has not begun.
    pub fn new(plan: DrainPlan) -> Self {
        Self {
            plan,
            wave: Cell::default(),
            requests: RefCell::new(vec![RequestState::Due; plan.certificates as usize]),
            left: Cell::new(plan.certificates),
            answers: Cell::default(),
            drained: Cell::default(),
            completions: OnceCell::new(),
            delivered: Cell::default(),
            reported: Cell::default(),
            last_report: Cell::default(),
            foreign: Cell::default(),
            taken: Cell::default(),
            pending: Cell::default(),
        }
    }

    /// Begins, with a request that starts now.
    fn begin(&self, now: Moment) {
        if self.wave.get().is_none() {
            self.wave.set(Some(now));
            self.completions.get().inspect(|completions| completions.begin());
        }
    }

    /// Returns the part of the run that a request belongs to which starts at `start`.
    fn part(&self, start: Moment) -> Part {
        match (self.wave.get(), self.drained()) {
            (Some(wave), _) if start < wave => Part::Before,
            (None, _) => Part::Before,
            (_, Some(drained)) if start >= drained => Part::After,
            _ => Part::Drain,
        }
    }

    /// Takes note that a certificate's signing request is submitted.
    fn submitted(&self, number: u64) {
        let state = &mut self.requests.borrow_mut()[(number - 1) as usize];
        if *state == RequestState::Due {
            *state = RequestState::Submitted;
        }
    }

    /// Takes note of an answer, by `end`, that a certificate's signing request was signed.
    fn signed(&self, number: u64, end: Moment) {
        self.answers.set(self.answers.get() + 1);
        self.renewed(number, end);
    }

    /// Takes note that a poll showed a deployment of a certificate by `end`: its signing request was signed, though the
    /// answer was lost. A deployment that comes before any request is of an earlier run.
    fn deploying(&self, number: u64, end: Moment) {
        let state = self.requests.borrow()[(number - 1) as usize];
        if state == RequestState::Submitted {
            self.renewed(number, end);
        }
    }

    fn renewed(&self, number: u64, end: Moment) {
        let state = &mut self.requests.borrow_mut()[(number - 1) as usize];
        if std::mem::replace(state, RequestState::Signed) != RequestState::Signed {
            self.left.set(self.left.get() - 1);
            if self.left.get() == 0 {
                self.drained.set(Some(end));
            }
        }
    }

    fn reported(&self, end: Moment) {
        self.reported.set(self.reported.get() + 1);
        self.last_report.set(Some(end));
    }

    /// Returns the moment at which the last certificate was renewed.
    fn drained(&self) -> Option<Moment> {
        match self.completions.get() {
            None => self.drained.get(),
            // A certificate that is deployed was renewed, though no look has shown it yet.
            Some(completions) => completions.reached().into_iter().chain(self.deployed()).min(),
        }
    }

    /// Returns the number of renewals that are known to be complete.
    fn completed(&self) -> u64 {
        match self.completions.get() {
            None => self.plan.certificates - self.left.get(),
            // As above: the run may end before the look that would have counted the last ones.
            Some(_) if self.deployed().is_some() => self.plan.certificates,
            Some(completions) => completions.count(),
        }
    }

    /// Returns the moment at which the last deployment was reported.
    fn deployed(&self) -> Option<Moment> {
        self.last_report.get().filter(|_| self.reported.get() >= self.plan.certificates)
    }

    fn is_over(&self, now: Moment) -> bool {
        let Some(drained) = self.drained() else { return false };
        self.deployed().is_some() || now - drained >= self.plan.deployments
    }

    fn observations(&self) -> Vec<Observation> {
        let Some(wave) = self.wave.get() else {
            return vec![Observation { name: DRAINED, value: Value::Never }];
        };
        let drained = self.drained().map(|drained| drained - wave);
        // What certctl completes by itself may be counted between these two.
        let left = self.plan.certificates.saturating_sub(self.completed());
        let count = |name, count| Observation { name, value: Value::Count(count) };
        let mut observations =
            vec![Observation { name: DRAINED, value: drained.map_or(Value::Never, Value::Duration) }];
        match drained.map(|span| span.as_secs_f64()).filter(|span_s| *span_s > 0.0) {
            Some(span_s) => observations.push(Observation {
                name: "renewal jobs completed per second, until drained",
                value: Value::PerSecond(self.plan.certificates as f64 / span_s),
            }),
            None => observations.push(count("renewal jobs left", left)),
        }
        observations.push(Observation {
            name: "deployments reported by agents",
            value: Value::Share { count: self.reported.get(), of: self.plan.certificates },
        });
        observations.extend(self.deployed().map(|deployed| Observation {
            name: "time until deployed, first renewal request to last report",
            value: Value::Duration(deployed - wave),
        }));
        for (name, number) in [
            ("deployment jobs taken by certctl's job processor, or by a poll whose answer was lost", self.taken.get()),
            (PENDING, if self.plan.keys == Keys::Agent { self.pending.get() } else { 0 }),
            ("jobs of other certificates that polls showed", self.foreign.get()),
            ("looks for completed renewals that failed", self.completions.get().map_or(0, Completions::failed)),
        ] {
            observations.extend((number > 0).then(|| count(name, number)));
        }
        observations
    }
}

/// The observation that says why agents had nothing to sign.
const PENDING: &str = "renewal jobs that wait for certctl's own keys: it runs with CERTCTL_KEYGEN_MODE=server";
/// The observation that a drain is about.
const DRAINED: &str = "time until drained, first renewal request to last renewal";

/// The fleet beside a drain: its agents heartbeat and poll, and do the work that polls show.
pub struct DrainFleet(Rc<Agents>);

impl DrainFleet {
    /// Returns the fleet of a drain at a system whose Host is `host`, with an API key `token`. `requests` are the
    /// certificates' signing requests as PEM, in their order; none where certctl makes the keys.
    pub fn new(drain: Rc<Drain>, host: &str, token: &str, requests: &[String]) -> Self {
        Self(Rc::new(Agents::new(drain, host, token, requests)))
    }

    /// Returns the fleet of a drain whose keys certctl makes; `completions` counts them.
    pub fn watching(drain: Rc<Drain>, host: &str, token: &str, completions: Completions) -> Self {
        // A drain is bound to one system once.
        let _ = drain.completions.set(completions);
        Self::new(drain, host, token, &[])
    }

    fn drain(&self) -> &Drain {
        &self.0.drain
    }
}

impl Journeys for DrainFleet {
    fn begin(&self, planned: PlannedRequest, start: Moment) -> Box<dyn Journey> {
        Agents::begin(&self.0, planned, start)
    }
}

impl Scenario for DrainFleet {
    fn title(&self) -> String {
        let DrainPlan { keys, agents, certificates, .. } = self.drain().plan;
        let signer = match keys {
            Keys::Agent => "they submit the signing requests",
            Keys::Server => "certctl makes the keys",
        };
        format!("{agents} agents heartbeat and poll while {certificates} renewals are drained; {signer}")
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    // Its arrivals begin journeys: these two are not called.
    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        self.0.storm.encode(planned, request)
    }

    fn judge(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Outcome {
        self.0.storm.judge(planned, start, response)
    }

    fn journeys(&self) -> Option<&dyn Journeys> {
        Some(self)
    }

    fn is_over(&self) -> bool {
        self.drain().is_over(Moment::now())
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        let DrainPlan { agents, certificates, .. } = self.drain().plan;
        self.0.storm.begin_check(database)?;
        seed::refresh_drain(database, certificates, Some(agents))?;
        let rows = |name, path, status| AuditRows { name, action: "api_post", path, status };
        let kinds = vec![
            rows("audit rows of signed requests", "/api/v1/agents/ag-loadtest-%/csr", 202),
            rows("audit rows of reports", "/api/v1/agents/ag-loadtest-%/jobs/%/status", 200),
        ];
        let sql = "SELECT coalesce(max(expires_at), now())::text FROM managed_certificates WHERE id LIKE $1";
        let row = database.query_one(sql, &[&IDS]).context(|| "reading the certificates' expiry".to_owned())?;
        let check = Check { audit: AuditCheck::open(database, kinds)?, expiry: row.get(0) };
        self.0.check.replace(Some(check));
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let drain = self.drain();
        if let Some(error) = drain.completions.get().and_then(Completions::failure) {
            return Err(error);
        }
        let mut work = self.0.storm.finish_check(unanswered, database)?;
        let Some(check) = self.0.check.take() else { return Ok(work) };
        let (answers, reported) = (drain.answers.get(), drain.reported.get());
        work.extend(check.audit.close(&[answers, reported], unanswered, database)?);
        // certctl goes on with what it does by itself.
        let (completed, in_doubt) = match drain.plan.keys {
            Keys::Agent => (answers, unanswered),
            Keys::Server => (drain.completed(), drain.plan.certificates.saturating_sub(drain.completed())),
        };
        let mut counted = |name, sql: &str, claimed, in_doubt| -> Result<()> {
            let found = audit::number(database, name, sql, IDS)?;
            work.push(Work::counted(name, claimed, found, in_doubt, "SQL"));
            Ok(())
        };
        counted("renewal jobs completed", RENEWED_JOBS, completed, in_doubt)?;
        let versions = "SELECT count(*) FROM certificate_versions WHERE certificate_id LIKE $1";
        counted("certificate versions", versions, completed, in_doubt)?;
        counted("deployment jobs completed", DEPLOYED_JOBS, reported, unanswered)?;
        let sql = "SELECT count(*) FROM managed_certificates WHERE id LIKE $1 AND status = 'Active' \
                   AND expires_at > $2::text::timestamptz";
        let row = database.query_one(sql, &[&IDS, &check.expiry]);
        let found = row.context(|| "counting renewed certificates".to_owned())?.get::<_, i64>(0) as u64;
        let renewed = drain.completed();
        work.push(Work::counted("certificates active with a later expiry", renewed, found, in_doubt, "SQL"));
        let running = audit::number(database, "deployment jobs under way", RUNNING_JOBS, IDS)?;
        drain.taken.set(running.saturating_sub(drain.delivered.get().saturating_sub(reported)));
        drain.pending.set(audit::number(database, "pending renewal jobs", PENDING_JOBS, IDS)?);
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        let drain = self.drain();
        let mut claims = self.0.storm.claims();
        if drain.plan.keys == Keys::Agent {
            claims.push(Claim {
                name: "signing requests signed",
                counter: "csrs_signed",
                claimed: drain.answers.get(),
            });
        }
        claims.push(Claim {
            name: "deployments reported",
            counter: "deployments_completed",
            claimed: drain.reported.get(),
        });
        claims
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        self.drain().observations()
    }
}

/// Counts the renewal jobs of the drain that are complete; the parameter is [`IDS`].
const RENEWED_JOBS: &str = "SELECT count(*) FROM jobs WHERE certificate_id LIKE $1 AND status = 'Completed' \
                            AND type IN ('Renewal', 'Issuance')";
const DEPLOYED_JOBS: &str =
    "SELECT count(*) FROM jobs WHERE certificate_id LIKE $1 AND status = 'Completed' AND type = 'Deployment'";
const RUNNING_JOBS: &str =
    "SELECT count(*) FROM jobs WHERE certificate_id LIKE $1 AND status = 'Running' AND type = 'Deployment'";
const PENDING_JOBS: &str = "SELECT count(*) FROM jobs WHERE certificate_id LIKE $1 AND status = 'Pending' \
                            AND type IN ('Renewal', 'Issuance')";

/// Returns a count of the renewals that the database shows as complete.
///
/// # Errors
/// If the database does not answer.
pub fn look_into(url: &str) -> Result<Look> {
    /// The longest time of a query, beside the load.
    const QUERY_LIMIT: Duration = Duration::from_secs(15);
    let url = url.to_owned();
    let open = move || Ok(DatabaseClient::open(&url, "drain")?.with_query_limit(QUERY_LIMIT));
    let mut session = Some(open()?);
    Ok(Box::new(move || {
        // A session with a failed query may be lost for good: the next look has another.
        let mut client = session.take().map_or_else(&open, Ok)?;
        let count = audit::number(&mut client, "completed renewal jobs", RENEWED_JOBS, IDS)?;
        session = Some(client);
        Ok(count)
    }))
}

/// The state of a check of side effects, from before the run.
struct Check {
    audit: AuditCheck,
    /// The latest expiry of the certificates, as PostgreSQL writes it.
    expiry: String,
}

/// The wave: all certificates of the drain are put into renewal, [`BATCH`] by a request, one request after another.
pub struct Wave {
    drain: Rc<Drain>,
    host: String,
    token: String,
    enqueued: Cell<u64>,
    answers: Cell<u64>,
    audit: RefCell<Option<AuditCheck>>,
}

/// The answer of certctl to a request for renewal.
#[derive(Deserialize)]
struct Reply {
    total_matched: u64,
    total_enqueued: u64,
    total_skipped: u64,
    total_failed: u64,
}

impl Wave {
    /// Returns the wave of a drain at a system whose Host is `host`, with an API key `token`.
    pub fn new(drain: Rc<Drain>, host: &str, token: &str) -> Self {
        Self {
            drain,
            host: host.to_owned(),
            token: token.to_owned(),
            enqueued: Cell::default(),
            answers: Cell::default(),
            audit: RefCell::default(),
        }
    }

    /// Returns the number of its requests for this number of certificates.
    pub const fn requests(certificates: u64) -> u64 {
        certificates.div_ceil(BATCH)
    }

    /// Returns the numbers of the certificates that a request names.
    fn batch(&self, seq: u64) -> std::ops::RangeInclusive<u64> {
        seq * BATCH + 1..=((seq + 1) * BATCH).min(self.drain.plan.certificates)
    }
}

impl Scenario for Wave {
    fn title(&self) -> String {
        let certificates = self.drain.plan.certificates;
        format!("renewal of {certificates} certificates by id, {BATCH} by a request: POST {RENEWAL_PATH}")
    }

    fn steps(&self) -> &'static [&'static str] {
        WAVE_STEPS
    }

    fn starting(&self, start: Moment) {
        self.drain.begin(start);
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let ids: Vec<String> = self.batch(planned.seq).map(|number| format!("{:?}", certificate_id(number))).collect();
        let body = format!(r#"{{"certificate_ids":[{}]}}"#, ids.join(","));
        *request = encode(Method::Post, RENEWAL_PATH, &self.host, Some(&self.token), &body);
        Method::Post
    }

    fn judge(&self, planned: PlannedRequest, _start: Moment, response: &Response<'_>) -> Outcome {
        if response.status != 200 || !response.is_json() {
            return unwanted(response.status, 200);
        }
        self.answers.set(self.answers.get() + 1);
        let Ok(reply) = serde_json::from_slice::<Reply>(response.body) else { return Outcome::Wrong };
        self.enqueued.set(self.enqueued.get() + reply.total_enqueued);
        let size = self.batch(planned.seq).count() as u64;
        let done = [reply.total_matched, reply.total_enqueued, reply.total_skipped, reply.total_failed];
        if done == [size, size, 0, 0] { Outcome::Ok } else { Outcome::Wrong }
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        let kinds =
            vec![AuditRows { name: "audit rows of renewals", action: "api_post", path: RENEWAL_PATH, status: 200 }];
        self.audit.replace(Some(AuditCheck::open(database, kinds)?));
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let Some(check) = self.audit.take() else { return Ok(Vec::new()) };
        let mut work = check.close(&[self.answers.get()], unanswered, database)?;
        let sql = "SELECT count(*) FROM jobs WHERE certificate_id LIKE $1 AND type IN ('Renewal', 'Issuance')";
        let found = audit::number(database, "renewal jobs", sql, IDS)?;
        work.push(Work::counted("renewal jobs", self.enqueued.get(), found, unanswered * BATCH, "SQL"));
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "renewal jobs", counter: "renewals_enqueued", claimed: self.enqueued.get() }]
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        vec![Observation {
            name: "certificates put into renewal",
            value: Value::Share { count: self.enqueued.get(), of: self.drain.plan.certificates },
        }]
    }
}

#[cfg(test)]
mod tests;
