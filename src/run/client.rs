//! The client of a worker: sends a scenario's requests, or makes its journeys.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::line::Line;
use super::wiring::Wiring;
use crate::clock::Moment;
use crate::foreign;
use crate::load::arrival::{Arrival, PlannedRequest};
use crate::load::own_part;
use crate::load::run::{Client, Completion};
use crate::measure::{Outcome, Recorder, StepSample};
use crate::scenario::Scenario;
use crate::wire::connection::Stopwatch;
use crate::wire::handshake::Record;
use crate::wire::http1::Response;
use crate::wire::{Fault, Phases, Scratch};

/// The index of the system among the peers.
pub const SYSTEM: usize = 0;

/// A client that sends a scenario's requests: over one kept connection, which it opens again after a loss, or over a
/// new connection each time.
pub struct HttpClient {
    /// The requests, and the check of their answers.
    pub scenario: Rc<dyn Scenario>,
    /// Takes the samples.
    pub recorder: Rc<RefCell<Recorder>>,
    /// The state that all clients share.
    pub wiring: Wiring,
    /// The connections to the scenario's peers, the system's first.
    pub lines: Box<[Line]>,
    /// The step of a journey that is under way.
    pub under_way: Option<StepUnderWay>,
}

/// A step of a journey that is under way.
#[derive(Clone, Copy, Debug)]
pub struct StepUnderWay {
    /// The index of the step.
    pub step: usize,
    /// The intended start of the arrival that began the journey.
    pub arrival: Moment,
    /// The intended start of the step: that of the arrival, or the end of the step before it.
    pub intended: Moment,
    /// Its actual start.
    pub actual: Moment,
    /// The generator's own part of the journey up to then, in nanoseconds.
    pub own_before_ns: u64,
}

impl StepUnderWay {
    /// Returns the sample of the step, which ended at `end`.
    pub fn over(self, end: Moment, outcome: Outcome) -> StepSample {
        let Self { step, arrival, intended, actual, own_before_ns } = self;
        let own_ns = own_part::so_far(end).saturating_sub(own_before_ns);
        StepSample { step, arrival, intended, actual, end, own_ns, outcome }
    }
}

impl Client for HttpClient {
    async fn open(&mut self) -> Result<(Record, Phases), Fault> {
        self.lines[SYSTEM].open(&self.wiring).await
    }

    async fn perform(&mut self, arrival: Arrival, start: Moment) -> Completion {
        match self.scenario.journeys().is_some() {
            true => Box::pin(self.travel(arrival, start)).await,
            false => self.request(arrival.planned, start).await,
        }
    }

    fn abandon(&mut self) -> bool {
        let now = Moment::now();
        if let Some(under_way) = self.under_way.take() {
            self.recorder.borrow_mut().record_step(&under_way.over(now, Outcome::TimedOut));
            // A connection whose exchange was given up may still get its answer.
            for line in &mut self.lines {
                line.drop_connection();
                if let Some(since) = line.take_unopened() {
                    self.recorder.borrow_mut().not_reopened(under_way.arrival, Outcome::TimedOut, now.ns_since(since));
                }
            }
            return false;
        }
        self.lines[SYSTEM].drop_connection();
        self.lines[SYSTEM].take_unopened().is_some()
    }

    async fn close(self, patience: Duration) {
        for line in self.lines {
            line.close(patience).await;
        }
    }
}

impl HttpClient {
    /// Sends one request.
    async fn request(&mut self, planned: PlannedRequest, start: Moment) -> Completion {
        self.scenario.starting(start);
        let mut scratch = self.wiring.take_scratch(self.scenario.longest_answer());
        let mut watch = Stopwatch::from(start);
        let (mut phases, mut handshake) = (Phases::default(), None);
        let answered = self.exchange(planned, start, &mut scratch, &mut watch, &mut phases, &mut handshake).await;
        let mut answer_bytes = 0;
        let outcome = match (answered, scratch.response()) {
            (Ok(()), Some(response)) => {
                answer_bytes = response.size();
                self.scenario.answered(start, watch.last());
                let outcome = self.scenario.judge(planned, start, &response);
                if outcome != Outcome::Ok {
                    let is_in_content =
                        outcome == Outcome::Wrong || (outcome, response.status) == (Outcome::Refused, 200);
                    let flaw = || is_in_content.then(|| self.scenario.flaw(planned, &response));
                    self.recorder.borrow_mut().example(outcome, || describe(&response, flaw()));
                }
                outcome
            }
            // An exchange that succeeds has a response.
            (Ok(()), None) => Outcome::Wrong,
            (Err(fault), _) => {
                self.lines[SYSTEM].drop_connection();
                self.recorder.borrow_mut().fault(&fault);
                Outcome::Broken(fault.kind)
            }
        };
        self.wiring.return_scratch(scratch);
        if !self.lines[SYSTEM].hang_up(&self.wiring) {
            self.recorder.borrow_mut().closed_first();
        }
        let unconnected = self.lines[SYSTEM].take_unopened().is_some();
        Completion { end: watch.last(), phases, outcome, handshake, unconnected, answer_bytes }
    }

    async fn exchange(
        &mut self,
        planned: PlannedRequest,
        start: Moment,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
        handshake: &mut Option<Record>,
    ) -> Result<(), Fault> {
        *handshake = self.lines[SYSTEM].ready(&self.wiring, planned.seq, watch, phases).await?;
        if let Some(record) = handshake {
            self.scenario.connected(start, watch.last(), record);
        }
        let method = self.scenario.encode(planned, &mut scratch.request);
        self.lines[SYSTEM].exchange(&self.wiring, method, scratch, watch, phases).await
    }
}

/// Describes a response on one line, for people, with its `flaw` where its status is the right one.
pub fn describe(response: &Response<'_>, flaw: Option<String>) -> String {
    let status = response.status;
    match (response.coding(), flaw) {
        (Some(coding), _) => format!("{status}: coded as {}, which was not accepted", foreign::line_of_bytes(coding)),
        (None, Some(flaw)) => format!("{status}, but {flaw}: {}", foreign::line_of_bytes(response.body)),
        (None, None) => format!("{status}: {}", foreign::line_of_bytes(response.body)),
    }
}
