//! `deploy_loop`: a certificate from its renewal to the server that shows it, as certctl's agents carry it there.

pub mod fetched;
mod journey;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::connector_kind::ConnectorKind;
use super::journey::{Journey, Journeys};
use super::signing::SigningRequest;
use super::{Claim, Scenario, audit};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::load::arrival::PlannedRequest;
use crate::measure::breach::Breach;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::provision::pki::Identity;
use crate::seed;
use crate::wire::http1::Response;
use crate::wire::request::Method;
use fetched::Fetched;
use journey::Loop;

/// The names of the steps, in their order.
pub const STEPS: &[&str] =
    &["renew", "job seen", "csr signed", "deployment seen", "fetch", "install", "served", "report"];
/// The permissions that it needs.
pub const PERMISSIONS: [&str; 4] = ["cert.issue", "agent.job.poll", "cert.read", "agent.job.complete"];

/// The time that a loop may take beside its waits for two polls.
pub const LOOP_ALLOWANCE: Duration = Duration::from_secs(2);
/// Selects the certificates of the seed by their ids, which end with five digits.
const CERTIFICATES: &str = "cert-loadtest-deploy-_____";

/// Returns the bounds on latencies where agents poll at this interval: the loop waits for two polls, each up to the
/// interval, and a step that is one request is judged by itself.
pub fn thresholds(poll_every: Duration) -> Vec<Threshold> {
    let half = Duration::from_millis(500);
    vec![
        Threshold::Response(Quantile::P95, poll_every * 2 + LOOP_ALLOWANCE),
        Threshold::Step("renew", Quantile::P95, half),
        Threshold::Step("csr signed", Quantile::P95, half * 2),
        Threshold::Step("fetch", Quantile::P95, half),
        Threshold::Step("report", Quantile::P95, half),
    ]
}

/// Returns the id of the certificate that an agent deploys, `number` counted from 1.
pub fn certificate(number: u64) -> String {
    format!("cert-loadtest-deploy-{number:05}")
}

/// Returns the one name of that certificate.
fn host_name(number: u64) -> String {
    format!("loadtest-deploy-{number:05}.example.test")
}

/// Installs a certificate with its key in a daemon, as certctl's connector does; an error in words if that fails.
pub type Install = Arc<dyn Fn(&Identity) -> Result<(), String> + Send + Sync>;

/// A daemon that an agent deploys to.
pub struct DaemonTarget {
    /// Its kind.
    pub kind: ConnectorKind,
    /// Replaces its certificate. May block.
    pub install: Install,
    /// The id of the certificate that it shows at the beginning, as in [`crate::wire::handshake::certificate_id`].
    pub initial: u64,
}

/// The agents of a run.
#[derive(Clone, Copy, Debug)]
pub struct AgentFleet {
    /// Their number. Each has one certificate and one target.
    pub agents: u64,
    /// The interval at which each polls for work.
    pub poll_every: Duration,
}

/// The scenario's state.
pub struct DeployLoop {
    shared: Rc<Shared>,
}

/// The state that all loops share.
struct Shared {
    host: String,
    token: String,
    fleet: AgentFleet,
    /// The daemons of the first agents. All further ones have none.
    daemons: Vec<DaemonTarget>,
    /// The longest time of each daemon from the order to install a certificate until a full handshake showed it.
    slowest: Vec<Cell<Duration>>,
    agents: Vec<RefCell<AgentState>>,
    /// The keys of the planned arrivals, by sequence number. Each is taken once.
    keys: RefCell<Vec<Option<SigningRequest>>>,
    /// The fingerprint of every certificate that was fetched, by its id.
    fetched: RefCell<HashMap<u64, String>>,
    /// The ids of the certificates that full handshakes have shown, of those fetched.
    served: RefCell<HashSet<u64>>,
    /// The authority at the end of the first chain that was fetched; all later ones must have the same.
    authority: RefCell<Option<Vec<u8>>>,
    counts: Counts,
}

/// The state that an agent keeps from one loop to the next.
struct AgentState {
    /// True from the order to renew until the request was signed: the certificate may still be in renewal. True too at
    /// the beginning of a run that does not put the certificates back, since an earlier one may have been cut off.
    unfinished: bool,
    /// The jobs that the last poll showed.
    shown: HashSet<String>,
    /// The certificate that was fetched last.
    last: Option<Fetched>,
}

impl AgentState {
    /// Returns the state before the first loop.
    fn unknown() -> Self {
        Self { unfinished: true, shown: HashSet::new(), last: None }
    }
}

/// Counts over all loops, warm-up included.
#[derive(Default)]
struct Counts {
    renewed: Cell<u64>,
    refused_in_progress: Cell<u64>,
    polled: Cell<u64>,
    signed: Cell<u64>,
    reported: Cell<u64>,
    left_over: Cell<u64>,
    foreign: Cell<u64>,
    full_handshakes: Cell<u64>,
    showed_old: Cell<u64>,
    showed_unknown: Cell<u64>,
}

/// Returns the name of the longest time of a daemon.
fn slowest_name(kind: ConnectorKind) -> &'static str {
    match kind {
        ConnectorKind::Nginx => "longest time from an installation until nginx showed the certificate",
        ConnectorKind::Apache => "longest time from an installation until apache showed the certificate",
        ConnectorKind::Haproxy => "longest time from an installation until haproxy showed the certificate",
        ConnectorKind::F5 => "longest time from an installation until the F5 showed the certificate",
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl DeployLoop {
    /// Returns the scenario for a system whose Host is `host`, with an API key `token`. The first agents deploy to
    /// `daemons`, in their order. `arrivals` has the agent of each planned arrival, counted from 0: for each, a key is
    /// made now.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(
        fleet: AgentFleet,
        daemons: Vec<DaemonTarget>,
        arrivals: &[u64],
        host: &str,
        token: &str,
    ) -> Result<Self> {
        let keys: Result<Vec<_>> = arrivals
            .par_iter()
            .map(|agent| SigningRequest::new(&host_name(agent % fleet.agents + 1)).map(Some))
            .collect();
        let shared = Shared {
            host: host.to_owned(),
            token: token.to_owned(),
            fleet,
            slowest: daemons.iter().map(|_| Cell::default()).collect(),
            daemons,
            agents: (0..fleet.agents).map(|_| RefCell::new(AgentState::unknown())).collect(),
            keys: RefCell::new(keys?),
            fetched: RefCell::default(),
            served: RefCell::default(),
            authority: RefCell::default(),
            counts: Counts::default(),
        };
        Ok(Self { shared: Rc::new(shared) })
    }
}

impl Shared {
    /// Takes the key of an arrival. One more than planned gets a key made now.
    fn take_key(&self, planned: PlannedRequest, number: u64) -> Result<SigningRequest> {
        let planned = usize::try_from(planned.seq).ok().and_then(|seq| self.keys.borrow_mut().get_mut(seq)?.take());
        planned.map_or_else(|| SigningRequest::new(&host_name(number)), Ok)
    }
}

impl Journeys for DeployLoop {
    fn begin(&self, planned: PlannedRequest, start: Moment) -> Box<dyn Journey> {
        Box::new(Loop::new(&self.shared, planned, start))
    }
}

impl Scenario for DeployLoop {
    fn title(&self) -> String {
        let AgentFleet { agents, poll_every } = self.shared.fleet;
        let daemons: Vec<&str> = self.shared.daemons.iter().map(|daemon| daemon.kind.label()).collect();
        let deploys = match daemons.len() {
            0 => "all of which verify what they fetch".to_owned(),
            _ => format!("the first of which deploy to {}", daemons.join(", ")),
        };
        format!(
            "renewals carried out by {agents} agents that poll every {}, {deploys}",
            humantime::format_duration(poll_every)
        )
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, _planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        request.clear();
        Method::Get
    }

    fn judge(&self, _planned: PlannedRequest, _start: Moment, _response: &Response<'_>) -> Outcome {
        Outcome::Wrong
    }

    fn journeys(&self) -> Option<&dyn Journeys> {
        Some(self)
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        seed::refresh_fleet(database, self.shared.fleet.agents)?;
        seed::refresh_deployments(database, self.shared.fleet.agents)?;
        for agent in &self.shared.agents {
            agent.borrow_mut().unfinished = false;
        }
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let counts = &self.shared.counts;
        // All of these rows are of this run: the earlier ones were removed before it.
        let mut found = |what, sql| audit::number(database, what, sql, CERTIFICATES);
        let renewals =
            found("renewal jobs", "SELECT count(*) FROM jobs WHERE type <> 'Deployment' AND certificate_id LIKE $1")?;
        let completed = found(
            "completed renewal jobs",
            "SELECT count(*) FROM jobs WHERE type <> 'Deployment' AND status = 'Completed' AND certificate_id LIKE $1",
        )?;
        let versions = found("versions", "SELECT count(*) FROM certificate_versions WHERE certificate_id LIKE $1")?;
        let deployed = found(
            "completed deployment jobs",
            "SELECT count(*) FROM jobs WHERE type = 'Deployment' AND status = 'Completed' AND certificate_id LIKE $1",
        )?;
        let counted = |name, claimed: &Cell<u64>, found| Work::counted(name, claimed.get(), found, unanswered, "SQL");
        let mut work = vec![
            counted("renewal jobs", &counts.renewed, renewals),
            counted("renewal jobs completed", &counts.signed, completed),
            counted("certificate versions", &counts.signed, versions),
            counted("deployment jobs completed", &counts.reported, deployed),
        ];
        if !self.shared.daemons.is_empty() {
            let fetched = self.shared.fetched.borrow();
            let served = self.shared.served.borrow();
            let prints: Vec<&str> = served.iter().filter_map(|id| fetched.get(id)).map(String::as_str).collect();
            let sql = "SELECT count(*) FROM certificate_versions WHERE fingerprint_sha256 = ANY ($1)";
            let row = database.query_one(sql, &[&prints]);
            let known: i64 = row.context(|| "looking for the certificates that were served".to_owned())?.get(0);
            let (claimed, found) = (served.len() as u64, known as u64);
            work.push(Work { name: "certificates served whose version is there", claimed, found, source: "SQL" });
        }
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        let counts = &self.shared.counts;
        let claim = |name, counter, claimed: &Cell<u64>| Claim { name, counter, claimed: claimed.get() };
        vec![
            claim("renewal jobs", "renewals_enqueued", &counts.renewed),
            claim("polls answered", "polls", &counts.polled),
            claim("signing requests signed", "csrs_signed", &counts.signed),
            claim("deployment jobs completed", "deployments_completed", &counts.reported),
        ]
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        let counts = &self.shared.counts;
        let mut observations = Vec::new();
        let mut observe = |name, value| observations.push(Observation { name, value });
        let full = counts.full_handshakes.get();
        if full > 0 {
            let value = Value::Share { count: counts.showed_old.get(), of: full };
            observe("full handshakes that still showed an earlier certificate", value);
        }
        for (daemon, slowest) in self.shared.daemons.iter().zip(&self.shared.slowest) {
            if slowest.get() > Duration::ZERO {
                observe(slowest_name(daemon.kind), Value::Duration(slowest.get()));
            }
        }
        for (name, counter) in [
            ("renewals refused as already in progress", &counts.refused_in_progress),
            ("jobs of failed loops that polls showed", &counts.left_over),
            ("jobs of other certificates that polls showed", &counts.foreign),
        ] {
            if counter.get() > 0 {
                observe(name, Value::Count(counter.get()));
            }
        }
        observations
    }

    fn broken_rules(&self) -> Vec<Breach> {
        let counts = &self.shared.counts;
        let unknown = Breach::Rule {
            what: "full handshakes showed a certificate that certctl did not hand out",
            count: counts.showed_unknown.get(),
            of: counts.full_handshakes.get(),
        };
        if counts.showed_unknown.get() > 0 { vec![unknown] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests;
