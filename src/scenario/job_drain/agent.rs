//! An agent's journeys: a heartbeat, and a poll with the work that it shows, one job after another, as certctl's agent
//! works. Unlike that agent it makes its keys ahead of the run, leaves out the installation, and reports a deployment
//! again at its next poll if the report fails.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::super::agent_jobs::{AGENT_PATIENCE, AWAITING_CSR, AgentJob, AgentJobs, DEPLOYMENT};
use super::super::agent_storm::{AgentStorm, Fleet, HEARTBEAT, POLL};
use super::super::journey::{Journey, Next, StepProgress};
use super::super::{Scenario as _, other_type, unwanted};
use super::{CSR, Check, Drain, Keys, Part, REPORT, certificate_id, csr_path};
use crate::clock::Moment;
use crate::load::arrival::PlannedRequest;
use crate::measure::Outcome;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};

/// The index of certctl among the peers.
const SYSTEM: usize = 0;
/// The longest answer to a poll: all jobs of a drain for one agent have some 4 MiB.
const LONGEST_POLL: usize = 8 * 1024 * 1024;
/// The longest id of a job that is taken into a path.
const LONGEST_ID: usize = 100;

/// The agents of a drain.
pub(super) struct Agents {
    pub(super) drain: Rc<Drain>,
    pub(super) storm: AgentStorm,
    host: String,
    token: String,
    /// The body of each certificate's signing request.
    requests: Vec<String>,
    /// Deployments by agent that are still to be reported.
    unreported: RefCell<HashMap<u64, Vec<String>>>,
    pub(super) check: RefCell<Option<Check>>,
}

/// A job that an agent has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Todo {
    /// Submits the signing request of the certificate of this number, counted from 1.
    Sign(u64),
    /// Reports that the deployment job of this id is done.
    Report(String),
}

impl Agents {
    pub(super) fn new(drain: Rc<Drain>, host: &str, token: &str, requests: &[String]) -> Self {
        let body = |(number, csr_pem): (u64, &String)| {
            json!({ "csr_pem": csr_pem, "certificate_id": certificate_id(number) }).to_string()
        };
        Self {
            storm: AgentStorm::new(Fleet::Real, drain.plan.agents, host, token),
            host: host.to_owned(),
            token: token.to_owned(),
            requests: (1..).zip(requests).map(body).collect(),
            unreported: RefCell::default(),
            check: RefCell::default(),
            drain,
        }
    }

    /// Begins the journey of an arrival.
    pub(super) fn begin(agents: &Rc<Self>, planned: PlannedRequest, start: Moment) -> Box<dyn Journey> {
        let (agents, part) = (agents.clone(), agents.drain.part(start));
        match planned.step {
            HEARTBEAT => Box::new(Heartbeat { agents, planned, part, is_over: false }),
            _ => {
                let over_from = start + agents.drain.plan.round;
                Box::new(Round { agents, planned, part, over_from, polled: false, todo: VecDeque::new() })
            }
        }
    }

    fn number(&self, planned: PlannedRequest) -> u64 {
        planned.client % self.drain.plan.agents + 1
    }

    /// Returns the number of a certificate of the drain.
    fn certificate(&self, id: &str) -> Option<u64> {
        let number = id.rsplit('-').next()?.parse().ok()?;
        ((1..=self.drain.plan.certificates).contains(&number) && id == certificate_id(number)).then_some(number)
    }

    /// Returns what an agent does about a job that a poll has shown by `end`; `None` if nothing.
    ///
    /// # Errors
    /// If the job is not what certctl may show; the error has the flaw in words.
    fn todo(&self, item: AgentJob, end: Moment) -> Result<Option<Todo>, String> {
        let number = self.certificate(&item.certificate_id);
        let awaits_request = item.status == AWAITING_CSR;
        if !awaits_request && item.kind != DEPLOYMENT {
            return Ok(None);
        }
        let Some(number) = number else {
            self.drain.foreign.set(self.drain.foreign.get() + 1);
            return Ok(None);
        };
        if !awaits_request {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if item.id.is_empty() || item.id.len() > LONGEST_ID || !item.id.bytes().all(fits) {
                return Err("the id of a job is none".to_owned());
            }
            self.drain.deploying(number, end);
            return Ok(Some(Todo::Report(item.id)));
        }
        match self.drain.plan.keys {
            Keys::Agent => Ok(Some(Todo::Sign(number))),
            Keys::Server => {
                Err("a job awaits a signing request, though certctl is to make the keys: CERTCTL_KEYGEN_MODE=server"
                    .to_owned())
            }
        }
    }
}

/// A heartbeat.
struct Heartbeat {
    agents: Rc<Agents>,
    planned: PlannedRequest,
    part: Part,
    is_over: bool,
}

impl Journey for Heartbeat {
    fn step(&self) -> usize {
        self.part.step(HEARTBEAT)
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Next {
        if self.is_over {
            return Next::End;
        }
        Next::Send(SYSTEM, self.agents.storm.encode(self.planned, request))
    }

    fn answered(&mut self, sent: Moment, _end: Moment, response: &Response<'_>) -> StepProgress {
        self.is_over = true;
        match self.agents.storm.judge(self.planned, sent, response) {
            Outcome::Ok => StepProgress::Done,
            outcome => StepProgress::Failed(outcome, self.agents.storm.flaw(self.planned, response)),
        }
    }

    fn longest_request(&self) -> Option<Duration> {
        Some(AGENT_PATIENCE)
    }
}

/// A poll, and the work that it shows.
struct Round {
    agents: Rc<Agents>,
    planned: PlannedRequest,
    part: Part,
    /// The moment from which no further job is begun.
    over_from: Moment,
    /// True once the poll was answered.
    polled: bool,
    /// The jobs that are left, the one under way first.
    todo: VecDeque<Todo>,
}

impl Round {
    /// Takes the answer to the poll.
    fn take_work(&mut self, sent: Moment, end: Moment, response: &Response<'_>) -> StepProgress {
        let agents = self.agents.clone();
        let outcome = agents.storm.judge(self.planned, sent, response);
        if outcome != Outcome::Ok {
            return StepProgress::Failed(outcome, agents.storm.flaw(self.planned, response));
        }
        let Ok(work) = serde_json::from_slice::<AgentJobs>(response.body) else {
            return StepProgress::Failed(Outcome::Wrong, "its JSON is not a list of jobs".to_owned());
        };
        self.polled = true;
        let number = agents.number(self.planned);
        let earlier = agents.unreported.borrow_mut().remove(&number).unwrap_or_default();
        self.todo.extend(earlier.into_iter().map(Todo::Report));
        let mut flaw = None;
        for item in work.jobs {
            match agents.todo(item, end) {
                Ok(todo) => {
                    let deployment = matches!(todo, Some(Todo::Report(_)));
                    agents.drain.delivered.set(agents.drain.delivered.get() + u64::from(deployment));
                    self.todo.extend(todo);
                }
                Err(why) => flaw = Some(why),
            }
        }
        flaw.map_or(StepProgress::Done, |flaw| StepProgress::Failed(Outcome::Wrong, flaw))
    }

    /// Takes the answer to the job under way.
    fn take_answer(&mut self, end: Moment, response: &Response<'_>) -> StepProgress {
        let (wanted, text) = match self.todo.front() {
            Some(Todo::Sign(_)) => (202, "csr_signed"),
            _ => (200, "updated"),
        };
        if response.status != wanted || !response.is_json() {
            return StepProgress::Failed(unwanted(response.status, wanted), other_type(response, "JSON"));
        }
        let status = serde_json::from_slice::<Status>(response.body).map(|answer| answer.status);
        if status.as_deref().ok() != Some(text) {
            return StepProgress::Failed(Outcome::Wrong, format!("its status is not {text:?}"));
        }
        match self.todo.pop_front() {
            Some(Todo::Sign(number)) => self.agents.drain.signed(number, end),
            Some(Todo::Report(_)) => self.agents.drain.reported(end),
            None => {}
        }
        // A further job would have too little time before the deadline of the whole round. A late poll alone does not end
        // a round: an agent whose polls are slow would do nothing at all.
        if end >= self.over_from {
            self.put_off();
        }
        StepProgress::Done
    }

    /// Leaves the jobs that are left to the agent's next round. certctl shows a signing request's job again, but a
    /// deployment's never.
    fn put_off(&mut self) {
        let left = self.todo.drain(..).filter_map(|todo| match todo {
            Todo::Report(job) => Some(job),
            Todo::Sign(_) => None,
        });
        let left: Vec<String> = left.collect();
        if !left.is_empty() {
            let number = self.agents.number(self.planned);
            self.agents.unreported.borrow_mut().entry(number).or_default().extend(left);
        }
    }
}

/// The answer to a signing request, or to a report.
#[derive(Deserialize)]
struct Status {
    status: String,
}

impl Journey for Round {
    fn step(&self) -> usize {
        match self.todo.front().filter(|_| self.polled) {
            Some(Todo::Sign(_)) => CSR,
            Some(Todo::Report(_)) => REPORT,
            None => self.part.step(POLL),
        }
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Next {
        if !self.polled {
            return Next::Send(SYSTEM, self.agents.storm.encode(self.planned, request));
        }
        let number = self.agents.number(self.planned);
        let (path, body) = match self.todo.front() {
            Some(Todo::Sign(certificate)) => {
                self.agents.drain.submitted(*certificate);
                let body = self.agents.requests.get((certificate - 1) as usize);
                (csr_path(number), body.map_or("{}", String::as_str))
            }
            Some(Todo::Report(job)) => {
                (format!("/api/v1/agents/ag-loadtest-{number:05}/jobs/{job}/status"), r#"{"status":"Completed"}"#)
            }
            None => return Next::End,
        };
        *request = encode(Method::Post, &path, &self.agents.host, Some(&self.agents.token), body);
        Next::Send(SYSTEM, Method::Post)
    }

    fn answered(&mut self, sent: Moment, end: Moment, response: &Response<'_>) -> StepProgress {
        if self.polled { self.take_answer(end, response) } else { self.take_work(sent, end, response) }
    }

    fn longest_request(&self) -> Option<Duration> {
        Some(AGENT_PATIENCE)
    }

    fn longest_answer(&self) -> usize {
        LONGEST_POLL
    }
}

/// A round may end anywhere, at a timeout too.
impl Drop for Round {
    fn drop(&mut self) {
        self.put_off();
    }
}
