//! One loop: the requests of an agent, from the order to renew its certificate to the report that it is deployed.

use std::rc::Rc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use serde::Deserialize;
use serde_json::json;

use super::fetched::{Expected, Fetched};
use super::{DaemonTarget, Shared, certificate, count, host_name};
use crate::clock::Moment;
use crate::load::arrival::PlannedRequest;
use crate::measure::Outcome;
use crate::provision::pki::Identity;
use crate::scenario::agent_jobs::{AGENT_PATIENCE, AWAITING_CSR, AgentJobs, DEPLOYMENT};
use crate::scenario::journey::{Journey, Next, StepProgress};
use crate::scenario::signing::SigningRequest;
use crate::scenario::unwanted;
use crate::wire::handshake::{HandshakeFlow, Record};
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};

/// The peer that is certctl. The daemons of the first agents follow.
const CERTCTL: usize = 0;
/// The pause between two handshakes with a daemon that does not show the new certificate yet.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The steps, in the order of [`super::STEPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Renew,
    JobSeen,
    CsrSigned,
    DeploymentSeen,
    Fetch,
    Install,
    Served,
    Report,
    Over,
}

/// A loop under way.
pub(super) struct Loop {
    shared: Rc<Shared>,
    /// The index of the agent.
    agent: usize,
    /// The id of its certificate.
    certificate: String,
    /// The key of this loop; the reason in words if none could be made.
    prepared: Result<SigningRequest, String>,
    step: Step,
    /// The end of the last event.
    at: Moment,
    /// The pause before the next request of this step is over.
    paused: bool,
    /// The deployment job.
    job: String,
    /// The fingerprint's id of the certificate that was fetched.
    fetched: u64,
    /// The certificate with its key, until it is installed.
    identity: Option<Identity>,
    /// The moment of the order to install it.
    ordered: Moment,
}

#[derive(Deserialize)]
struct State<'a> {
    status: &'a str,
}

#[derive(Deserialize)]
struct CertificateAnswer {
    certificate_pem: String,
}

impl Loop {
    pub(super) fn new(shared: &Rc<Shared>, planned: PlannedRequest, start: Moment) -> Self {
        let agent = (planned.client % shared.fleet.agents) as usize;
        let number = agent as u64 + 1;
        Self {
            shared: shared.clone(),
            agent,
            certificate: certificate(number),
            prepared: shared.take_key(planned, number).map_err(|error| error.to_string()),
            step: Step::Renew,
            at: start,
            paused: false,
            job: String::new(),
            fetched: 0,
            identity: None,
            ordered: start,
        }
    }

    fn daemon(&self) -> Option<&DaemonTarget> {
        self.shared.daemons.get(self.agent)
    }

    fn host_name(&self) -> String {
        host_name(self.agent as u64 + 1)
    }

    /// Ends the step, and begins `next`.
    fn go_on(&mut self, next: Step) -> StepProgress {
        self.step = next;
        self.paused = false;
        StepProgress::Done
    }

    /// Returns the wait for the agent's next poll. Each agent polls at times of its own, evenly spread over the
    /// interval, whatever happens in between.
    fn until_next_poll(&self) -> Duration {
        let interval_ns = u64::try_from(self.shared.fleet.poll_every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let phase_ns = u128::from(interval_ns) * self.agent as u128 / u128::from(self.shared.fleet.agents.max(1));
        // The phase is a part of the interval.
        let since_ns = self.at.as_ns().saturating_sub(phase_ns as u64) % interval_ns;
        Duration::from_nanos(interval_ns - since_ns)
    }

    fn send(&self, method: Method, path: &str, body: &str, request: &mut Vec<u8>) -> Next {
        *request = encode(method, path, &self.shared.host, Some(&self.shared.token), body);
        Next::Send(CERTCTL, method)
    }

    /// Returns the path of a request of the agent.
    fn path(&self, rest: &str) -> String {
        format!("/api/v1/agents/ag-loadtest-{:05}/{rest}", self.agent + 1)
    }

    fn renewed(&mut self, response: &Response<'_>) -> StepProgress {
        let counts = &self.shared.counts;
        if response.status == 409 {
            count(&counts.refused_in_progress);
        }
        match has_status(response, 202, "renewal_triggered") {
            Ok(()) => {
                count(&counts.renewed);
                self.go_on(Step::JobSeen)
            }
            Err(failed) => failed,
        }
    }

    /// Looks for this loop's job in the answer to a poll. A job of another loop is none: those that failed leave some.
    fn polled(&mut self, response: &Response<'_>) -> StepProgress {
        if response.status != 200 {
            return failed(response, 200);
        }
        let Ok(work) = serde_json::from_slice::<AgentJobs>(response.body) else {
            return wrong("its JSON is no list of jobs");
        };
        let counts = &self.shared.counts;
        count(&counts.polled);
        let mut agent = self.shared.agents[self.agent].borrow_mut();
        let mut found = None;
        for item in &work.jobs {
            let is_new = !agent.shown.contains(&item.id);
            let is_due = match self.step {
                Step::JobSeen => item.kind != DEPLOYMENT && item.status == AWAITING_CSR,
                _ => item.kind == DEPLOYMENT,
            };
            if item.certificate_id != self.certificate {
                counts.foreign.set(counts.foreign.get() + u64::from(is_new));
            } else if is_due && is_new && found.is_none() {
                found = Some(item.id.clone());
            } else if is_new {
                count(&counts.left_over);
            }
        }
        agent.shown = work.jobs.into_iter().map(|item| item.id).collect();
        drop(agent);
        // The next request of this step is the next poll.
        self.paused = false;
        match (found, self.step) {
            (None, _) => StepProgress::Continues,
            (Some(_), Step::JobSeen) => self.go_on(Step::CsrSigned),
            (Some(job), _) => {
                self.job = job;
                self.go_on(Step::Fetch)
            }
        }
    }

    fn signed(&mut self, response: &Response<'_>) -> StepProgress {
        match has_status(response, 202, "csr_signed") {
            Ok(()) => {
                count(&self.shared.counts.signed);
                self.shared.agents[self.agent].borrow_mut().unfinished = false;
                self.go_on(Step::DeploymentSeen)
            }
            Err(failed) => failed,
        }
    }

    fn fetched(&mut self, response: &Response<'_>) -> StepProgress {
        if response.status != 200 {
            return failed(response, 200);
        }
        let Ok(answer) = serde_json::from_slice::<CertificateAnswer>(response.body) else {
            return wrong("its JSON has no certificate_pem");
        };
        match self.take(&answer.certificate_pem) {
            Ok(identity) if self.daemon().is_some() => {
                self.identity = Some(identity);
                self.go_on(Step::Install)
            }
            Ok(_) => self.go_on(Step::Report),
            Err(flaw) => wrong(flaw),
        }
    }

    /// Verifies a certificate that was fetched, and returns it with its key.
    fn take(&mut self, pem: &str) -> Result<Identity, String> {
        let prepared = self.prepared.as_ref()?;
        let (shared, name) = (self.shared.clone(), self.host_name());
        let mut agent = shared.agents[self.agent].borrow_mut();
        let mut authority = shared.authority.borrow_mut();
        let expected = Expected {
            name: &name,
            public_key: &prepared.public_key,
            earlier: agent.last.as_ref(),
            authority: authority.as_deref(),
        };
        let fetched = Fetched::verify(pem, &expected, UnixTime::now())?;
        let key_pem = &prepared.key_pem;
        // The key was made here, so that it can be read.
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| error.to_string())?;
        let (chain, chain_pem) = (fetched.chain.clone(), fetched.chain_pem.clone());
        let identity = Identity { chain, key, chain_pem, key_pem: key_pem.clone() };
        self.fetched = fetched.id;
        shared.fetched.borrow_mut().insert(fetched.id, fetched.fingerprint.clone());
        if authority.is_none() {
            *authority = fetched.chain.last().map(|last| last.to_vec());
        }
        agent.last = Some(fetched);
        Ok(identity)
    }

    fn reported(&mut self, response: &Response<'_>) -> StepProgress {
        match has_status(response, 200, "updated") {
            Ok(()) => {
                count(&self.shared.counts.reported);
                self.go_on(Step::Over)
            }
            Err(failed) => failed,
        }
    }
}

impl Journey for Loop {
    fn step(&self) -> usize {
        // Nothing is under way after the last step.
        (self.step as usize).min(Step::Report as usize)
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Next {
        match self.step {
            Step::Renew => {
                let mut agent = self.shared.agents[self.agent].borrow_mut();
                // A loop that failed or was cut off may have left the certificate in renewal, which refuses another.
                let force = if std::mem::replace(&mut agent.unfinished, true) { "?force=true" } else { "" };
                drop(agent);
                let path = format!("/api/v1/certificates/{}/renew{force}", self.certificate);
                self.send(Method::Post, &path, "", request)
            }
            Step::JobSeen | Step::DeploymentSeen if !self.paused => {
                self.paused = true;
                Next::Pause(self.until_next_poll())
            }
            Step::JobSeen | Step::DeploymentSeen => self.send(Method::Get, &self.path("work"), "", request),
            Step::CsrSigned => {
                let csr = self.prepared.as_ref().map_or("", |prepared| prepared.csr_pem.as_str());
                let body = json!({"csr_pem": csr, "certificate_id": self.certificate}).to_string();
                self.send(Method::Post, &self.path("csr"), &body, request)
            }
            Step::Fetch => {
                let path = self.path(&format!("certificates/{}", self.certificate));
                self.send(Method::Get, &path, "", request)
            }
            Step::Install => {
                self.ordered = Moment::now();
                // Only an agent with a daemon comes here, and only with what it fetched.
                let install = self.daemon().map(|daemon| daemon.install.clone());
                match (install, self.identity.take()) {
                    (Some(install), Some(identity)) => Next::Run(Box::new(move || install(&identity))),
                    _ => Next::Run(Box::new(|| Err("there is nothing to install".to_owned()))),
                }
            }
            Step::Served if self.paused => {
                self.paused = false;
                Next::Pause(LOOK_EVERY)
            }
            Step::Served => Next::Connect(CERTCTL + 1 + self.agent),
            Step::Report => {
                let path = self.path(&format!("jobs/{}/status", self.job));
                self.send(Method::Post, &path, r#"{"status":"Completed"}"#, request)
            }
            Step::Over => Next::End,
        }
    }

    fn answered(&mut self, _sent: Moment, end: Moment, response: &Response<'_>) -> StepProgress {
        self.at = end;
        match self.step {
            Step::Renew => self.renewed(response),
            Step::JobSeen | Step::DeploymentSeen => self.polled(response),
            Step::CsrSigned => self.signed(response),
            Step::Fetch => self.fetched(response),
            Step::Report => self.reported(response),
            Step::Install | Step::Served | Step::Over => wrong("no request was sent"),
        }
    }

    fn longest_request(&self) -> Option<Duration> {
        // The order to renew is not the agent's.
        (self.step != Step::Renew).then_some(AGENT_PATIENCE)
    }

    fn connected(&mut self, record: &Record) -> StepProgress {
        let (counts, shown) = (&self.shared.counts, record.certificate);
        // Another look follows, unless this one ends the step.
        self.paused = true;
        // A resumed handshake shows nothing: the certificate is that of its first one.
        if record.handshake.kind == HandshakeFlow::Resumed {
            return StepProgress::Continues;
        }
        count(&counts.full_handshakes);
        let is_known = self.shared.fetched.borrow().contains_key(&shown);
        if is_known {
            self.shared.served.borrow_mut().insert(shown);
        }
        if shown == self.fetched {
            if let Some(slowest) = self.shared.slowest.get(self.agent) {
                slowest.set(slowest.get().max(Moment::now() - self.ordered));
            }
            return self.go_on(Step::Report);
        }
        let is_old = is_known || self.daemon().is_some_and(|daemon| daemon.initial == shown);
        count(if is_old { &counts.showed_old } else { &counts.showed_unknown });
        StepProgress::Continues
    }

    fn ran(&mut self, result: Result<(), String>) -> StepProgress {
        match result {
            Ok(()) => self.go_on(Step::Served),
            Err(why) => wrong(format!("installing the certificate failed: {why}")),
        }
    }
}

/// Checks that an answer has the status code `due`, and the JSON `{"status": word}`.
fn has_status(response: &Response<'_>, due: u16, word: &str) -> Result<(), StepProgress> {
    if response.status != due {
        return Err(failed(response, due));
    }
    match serde_json::from_slice::<State<'_>>(response.body) {
        Ok(state) if state.status == word => Ok(()),
        _ => Err(wrong(format!("its JSON has no status {word}"))),
    }
}

/// Returns the failure of an answer whose status code is not `due`: the code says all.
fn failed(response: &Response<'_>, due: u16) -> StepProgress {
    StepProgress::Failed(unwanted(response.status, due), String::new())
}

/// Returns the failure of an answer with the right status code.
fn wrong(flaw: impl Into<String>) -> StepProgress {
    StepProgress::Failed(Outcome::Wrong, flaw.into())
}
