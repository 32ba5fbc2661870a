//! The driver of journeys: takes the next action of one after another, and measures its steps.

use super::client::{HttpClient, StepUnderWay, describe};
use crate::clock::Moment;
use crate::event_loop::{on_thread, sleep, timeout};
use crate::load::arrival::Arrival;
use crate::load::own_part;
use crate::load::run::Completion;
use crate::measure::Outcome;
use crate::scenario::journey::{Journey, Next, StepProgress, Task};
use crate::wire::connection::Stopwatch;
use crate::wire::request::Method;
use crate::wire::{Fault, Phases, Scratch};

/// The result of one action: its end, and the state of the step after it.
struct Acted {
    end: Moment,
    progress: StepProgress,
    answer_bytes: u64,
}

impl HttpClient {
    /// Makes the journey of an arrival that starts at `start`, which is now.
    pub async fn travel(&mut self, arrival: Arrival, start: Moment) -> Completion {
        // Only a scenario with journeys is travelled.
        let mut journey = self.scenario.journeys().expect("journeys").begin(arrival.planned, start);
        let mut answer_bytes = 0;
        let mut step = StepUnderWay {
            step: journey.step(),
            arrival: arrival.intended,
            intended: arrival.intended,
            actual: start,
            own_before_ns: own_part::so_far(start),
        };
        let (end, outcome) = loop {
            self.under_way = Some(step);
            let Some(acted) = self.act(&mut *journey, arrival).await else { break (step.actual, Outcome::Ok) };
            answer_bytes += acted.answer_bytes;
            match acted.progress {
                StepProgress::Continues => {}
                StepProgress::Done => {
                    self.recorder.borrow_mut().record_step(&step.over(acted.end, Outcome::Ok));
                    let (begin, own_before_ns) = (acted.end, own_part::so_far(acted.end));
                    step = StepUnderWay { step: journey.step(), intended: begin, actual: begin, own_before_ns, ..step };
                }
                StepProgress::Failed(outcome, _) => {
                    self.recorder.borrow_mut().record_step(&step.over(acted.end, outcome));
                    break (acted.end, outcome);
                }
            }
        };
        self.under_way = None;
        for line in &mut self.lines {
            if !line.hang_up(&self.wiring) {
                self.recorder.borrow_mut().closed_first();
            }
        }
        Completion { end, phases: Phases::default(), outcome, handshake: None, unconnected: false, answer_bytes }
    }

    /// Takes the next action of `journey`; returns `None` if it is over.
    async fn act(&mut self, journey: &mut dyn Journey, arrival: Arrival) -> Option<Acted> {
        let mut scratch = self.wiring.take_scratch(journey.longest_answer());
        scratch.request.clear();
        let acted = match journey.next(&mut scratch.request) {
            Next::Send(peer, method) => self.send(journey, arrival, peer, method, &mut scratch).await,
            Next::Connect(peer) => self.connect(journey, arrival, peer).await,
            Next::Run(task) => {
                let result = run(task).await;
                Acted { end: Moment::now(), progress: self.noted(journey.ran(result)), answer_bytes: 0 }
            }
            Next::Pause(span) => {
                // Buffers are not held over a pause.
                self.wiring.return_scratch(scratch);
                sleep(span).await;
                return Some(Acted { end: Moment::now(), progress: StepProgress::Continues, answer_bytes: 0 });
            }
            Next::End => {
                self.wiring.return_scratch(scratch);
                return None;
            }
        };
        self.wiring.return_scratch(scratch);
        Some(acted)
    }

    /// Sends the request in `scratch` to a peer.
    async fn send(
        &mut self,
        journey: &mut dyn Journey,
        arrival: Arrival,
        peer: usize,
        method: Method,
        scratch: &mut Scratch,
    ) -> Acted {
        let sent = Moment::now();
        let (mut watch, mut phases) = (Stopwatch::from(sent), Phases::default());
        let exchange = self.exchange_with(arrival, peer, method, scratch, &mut watch, &mut phases);
        let exchanged = match journey.longest_request() {
            None => exchange.await,
            Some(longest) => match timeout(longest, exchange).await {
                Ok(exchanged) => exchanged,
                Err(_) => return self.given_up(arrival, peer),
            },
        };
        let end = watch.last();
        if let Err(fault) = exchanged {
            return self.broken(arrival, peer, end, &fault);
        }
        let response = scratch.response().expect("an exchange that succeeds has a response");
        let progress = journey.answered(sent, end, &response);
        if let StepProgress::Failed(outcome, flaw) = &progress {
            let flaw = (*outcome == Outcome::Wrong).then(|| flaw.clone());
            self.recorder.borrow_mut().example(*outcome, || describe(&response, flaw));
        }
        Acted { end, progress, answer_bytes: response.size() }
    }

    async fn exchange_with(
        &mut self,
        arrival: Arrival,
        peer: usize,
        method: Method,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<(), Fault> {
        let line = &mut self.lines[peer];
        if let Some(record) = line.ready(&self.wiring, arrival.planned.seq, watch, phases).await? {
            self.recorder.borrow_mut().reopened(arrival.intended, &record, phases);
        }
        line.exchange(&self.wiring, method, scratch, watch, phases).await
    }

    /// Opens a connection to a peer, and closes it.
    async fn connect(&mut self, journey: &mut dyn Journey, arrival: Arrival, peer: usize) -> Acted {
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        let dialled = self.lines[peer].dial(arrival.planned.seq, &mut watch, &mut phases).await;
        let end = watch.last();
        let connection = match dialled {
            Ok(connection) => connection,
            Err(fault) => return self.broken(arrival, peer, end, &fault),
        };
        let record = connection.record();
        self.recorder.borrow_mut().reopened(arrival.intended, &record, &phases);
        if !self.wiring.close(*connection) {
            self.recorder.borrow_mut().closed_first();
        }
        Acted { end, progress: self.noted(journey.connected(&record)), answer_bytes: 0 }
    }

    /// Keeps the flaw of a step that failed without an answer.
    fn noted(&self, progress: StepProgress) -> StepProgress {
        if let StepProgress::Failed(outcome, flaw) = &progress {
            self.recorder.borrow_mut().example(*outcome, || flaw.clone());
        }
        progress
    }

    /// Returns the result of a request whose client gives it up now.
    fn given_up(&mut self, arrival: Arrival, peer: usize) -> Acted {
        let (end, outcome) = (Moment::now(), Outcome::TimedOut);
        let line = &mut self.lines[peer];
        // Its answer may still come.
        line.drop_connection();
        if let Some(since) = line.take_unopened() {
            self.recorder.borrow_mut().not_reopened(arrival.intended, outcome, end.ns_since(since));
        }
        Acted { end, progress: StepProgress::Failed(outcome, String::new()), answer_bytes: 0 }
    }

    /// Returns the result of an action at a peer that a fault ended.
    fn broken(&mut self, arrival: Arrival, peer: usize, end: Moment, fault: &Fault) -> Acted {
        let outcome = Outcome::Broken(fault.kind);
        let line = &mut self.lines[peer];
        line.drop_connection();
        let mut recorder = self.recorder.borrow_mut();
        if let Some(since) = line.take_unopened() {
            recorder.not_reopened(arrival.intended, outcome, end.ns_since(since));
        }
        recorder.fault(fault);
        Acted { end, progress: StepProgress::Failed(outcome, fault.detail.clone()), answer_bytes: 0 }
    }
}

/// Runs a task on a thread of its own.
async fn run(task: Task) -> Result<(), String> {
    on_thread(task).await.unwrap_or_else(|error| Err(format!("the task did not end: {error}")))
}
