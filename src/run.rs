//! The run of a benchmark: scenarios, each with its plan of load, over connections to a system under test, into
//! measurements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::Result;
use crate::foreign;
use crate::load;
use crate::load::arrival::PlannedRequest;
use crate::load::limits::Sockets;
use crate::load::plan::{Model, Opening, Plan};
use crate::load::run::{Client, Completion, Control, Job};
use crate::load::runtime::runtime;
use crate::load::schedule::Pattern;
use crate::measure::threshold::Threshold;
use crate::measure::{Measurement, Outcome, Recorder};
use crate::scenario::Scenario;
use crate::wire::connection::{Idle, Stopwatch};
use crate::wire::handshake::Record;
use crate::wire::http1::Response;
use crate::wire::peer::{Connections, Peer};
use crate::wire::request::Method;
use crate::wire::scratch::Room;
use crate::wire::{Connection, Fault, FaultKind, Phases, Scratch};

/// A workload as flags plan it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name in results.
    pub name: &'static str,
    /// The load: rate or users, connections, duration.
    pub plan: Plan,
    /// The bounds on its latencies.
    pub thresholds: Vec<Threshold>,
}

/// The requests of a workload, with the check of their answers, and the peer that they are sent to; `None` if the system
/// lacks the part that they are for.
pub type Binding = Option<(Rc<dyn Scenario>, Peer)>;
type Bind<S> = dyn FnOnce(&S) -> Result<Binding>;

/// A workload that is not bound to a system `S` yet.
pub struct PlannedWorkload<S> {
    /// The workload.
    pub workload: Workload,
    bind: Box<Bind<S>>,
}

impl<S> PlannedWorkload<S> {
    /// Plans a workload, which `bind` binds to a system.
    pub fn new(workload: Workload, bind: impl FnOnce(&S) -> Result<Binding> + 'static) -> Self {
        Self { workload, bind: Box::new(bind) }
    }

    /// Binds the workload to a system; returns `None` if the system lacks the part that it is for.
    ///
    /// # Errors
    /// If the system cannot be loaded in this way.
    pub fn bind(self, system: &S) -> Result<Option<BoundWorkload>> {
        let (workload, bound) = (self.workload, (self.bind)(system)?);
        Ok(bound.map(|(scenario, peer)| BoundWorkload { workload, scenario, peer: Rc::new(peer) }))
    }
}

/// A workload at its system.
#[derive(Clone)]
pub struct BoundWorkload {
    /// The workload.
    pub workload: Workload,
    /// The requests, and the check of their answers.
    pub scenario: Rc<dyn Scenario>,
    /// The addresses of the system, and the lifetime of connections to it.
    pub peer: Rc<Peer>,
}

/// Bounds of the number of connections that may wait for their peer to close them first; beyond that number,
/// connections are closed at once.
const MAX_CLOSING: usize = 1_024;
const MIN_CLOSING: usize = 64;
/// The most buffers that are kept while no request uses them.
const MAX_UNUSED_SCRATCHES: usize = 1_024;
/// The time for which a new connection is watched before its first request, once a peer has sent data without a
/// request: an answer already under way would otherwise be taken for the answer to that request.
const LISTENING: Duration = Duration::from_millis(200);
/// The longest wait for a peer to close its connection.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

/// Returns the sockets that `workloads` need, side by side.
pub fn sockets<'w>(workloads: impl Iterator<Item = &'w Workload> + Clone) -> Sockets {
    let connections = workloads.clone().map(|workload| workload.plan.connections).sum();
    let per_s: f64 = workloads.map(closed_per_s).sum();
    // Closings by a Poisson process stay within six standard deviations.
    let waiting = per_s * CLOSING_PATIENCE.as_secs_f64();
    let waiting = (waiting + 6.0 * waiting.sqrt()).ceil() as usize;
    let closing = if per_s > 0.0 { waiting.clamp(MIN_CLOSING, MAX_CLOSING) } else { 0 };
    Sockets { connections, closing }
}

/// Returns the number of connections that a workload closes per second, if each arrival has its own.
fn closed_per_s(workload: &Workload) -> f64 {
    match (&workload.plan.model, workload.plan.opening) {
        (
            Model::Open { pattern: Pattern::Constant(rate) | Pattern::Poisson(rate) | Pattern::Jittered(rate), .. },
            Opening::ByFirstRequest,
        ) => rate.per_second_f64(),
        _ => 0.0,
    }
}

/// Runs workloads side by side and measures them, on the calling thread; returns the measurements in the same order.
///
/// # Errors
/// If the run cannot start; a failure after that is measured, not returned.
pub fn run(workloads: &[BoundWorkload], control: &Control) -> Result<Vec<Measurement>> {
    let wiring =
        Wiring { most_closing: sockets(workloads.iter().map(|one| &one.workload)).closing, ..Wiring::default() };
    let jobs = workloads.iter().map(|workload| wiring.job(workload)).collect();
    runtime()?.block_on(load::run::run(jobs, control))
}

/// The state that the clients of all workloads share.
#[derive(Clone, Default)]
struct Wiring {
    /// Buffers that no request uses.
    scratch: Rc<RefCell<Vec<Scratch>>>,
    /// The memory that the bodies of all answers share.
    room: Rc<Room>,
    /// True once a peer has sent data without a request.
    outspoken: Rc<Cell<bool>>,
    /// The number of connections that wait for their peer to close.
    closing: Rc<Cell<usize>>,
    /// The most that may wait.
    most_closing: usize,
}

impl Wiring {
    fn job(&self, bound: &BoundWorkload) -> Job<HttpClient> {
        let BoundWorkload { workload, scenario, peer } = bound.clone();
        let plan = workload.plan;
        let recorder = Recorder::new(plan.window, plan.max_lag, scenario.steps())
            .with_connections(plan.connections)
            .with_warm_up(plan.warm_up);
        let recorder = match plan.model {
            Model::Open { .. } => recorder,
            Model::Closed { .. } => recorder.of_users(),
        };
        let recorder = match (plan.part, &plan.model) {
            (Some(_), Model::Open { pattern, clients, .. }) => {
                recorder.keeping_answers((pattern.per_second(*clients) * plan.window.as_secs_f64()) as usize)
            }
            _ => recorder,
        };
        let recorder = Rc::new(RefCell::new(recorder));
        let wiring = self.clone();
        let client = {
            let recorder = recorder.clone();
            Box::new(move || HttpClient {
                peer: peer.clone(),
                scenario: scenario.clone(),
                recorder: recorder.clone(),
                wiring: wiring.clone(),
                connection: None,
                opening: false,
            })
        };
        Job { plan, client, recorder }
    }

    /// Reports whether one more connection may wait for its peer to close.
    fn may_wait(&self) -> bool {
        self.closing.get() < self.most_closing
    }

    /// Waits, in a task of its own, for the peer to close `connection` first.
    fn close(&self, connection: Connection) {
        let (closing, outspoken) = (self.closing.clone(), self.outspoken.clone());
        closing.set(closing.get() + 1);
        load::detached::detach(async move {
            if connection.close_second(CLOSING_PATIENCE).await {
                outspoken.set(true);
            }
            closing.set(closing.get() - 1);
        });
    }

    /// Reports whether a peer has closed an idle connection.
    fn is_closed(&self, idle: Idle) -> Result<bool, Fault> {
        match idle {
            Idle::Quiet => Ok(false),
            Idle::Closed => Ok(true),
            Idle::Spoke(fault) => {
                // Bytes that are not TLS cannot be taken for an answer.
                self.outspoken.set(self.outspoken.get() || fault.kind == FaultKind::Protocol);
                Err(fault)
            }
        }
    }

    /// Takes buffers for an exchange whose answer has at most `longest_answer` bytes.
    fn take_scratch(&self, longest_answer: usize) -> Scratch {
        let unused = self.scratch.borrow_mut().pop();
        let mut scratch = unused.unwrap_or_else(|| Scratch::within(&self.room));
        scratch.bound_body(longest_answer);
        scratch
    }

    fn return_scratch(&self, mut scratch: Scratch) {
        scratch.shrink();
        let mut unused = self.scratch.borrow_mut();
        if unused.len() < MAX_UNUSED_SCRATCHES {
            unused.push(scratch);
        }
    }
}

/// A client that sends a scenario's requests: over one kept connection, which it opens again after a loss, or over a
/// new connection each time.
struct HttpClient {
    peer: Rc<Peer>,
    scenario: Rc<dyn Scenario>,
    recorder: Rc<RefCell<Recorder>>,
    wiring: Wiring,
    /// Boxed, so that an idle worker is cheap to move.
    connection: Option<Box<Connection>>,
    /// A connection is being opened for a request.
    opening: bool,
}

impl Client for HttpClient {
    async fn open(&mut self) -> Result<(Record, Phases), Fault> {
        let mut phases = Phases::default();
        // Boxed, so that an idle worker does not hold the memory that a handshake needs.
        let connection = Box::pin(self.peer.dialer(0).open(&mut Stopwatch::from(Moment::now()), &mut phases)).await?;
        let mut connection = Box::new(connection);
        let record = connection.record();
        self.connection = Box::pin(self.greet(&mut connection)).await?.then_some(connection);
        Ok((record, phases))
    }

    async fn perform(&mut self, planned: PlannedRequest, start: Moment) -> Completion {
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
                self.connection = None;
                self.recorder.borrow_mut().fault(&fault);
                Outcome::Broken(fault.kind)
            }
        };
        self.wiring.return_scratch(scratch);
        if self.peer.connections == Connections::PerArrival
            && let Some(connection) = self.connection.take()
        {
            match self.wiring.may_wait() {
                true => self.wiring.close(*connection),
                false => self.recorder.borrow_mut().closed_first(),
            }
        }
        let unconnected = std::mem::take(&mut self.opening);
        Completion { end: watch.last(), phases, outcome, handshake, unconnected, answer_bytes }
    }

    fn abandon(&mut self) -> bool {
        self.connection = None;
        std::mem::take(&mut self.opening)
    }

    async fn close(self, patience: Duration) {
        if let Some(connection) = self.connection {
            connection.close(patience).await;
        }
    }
}

impl HttpClient {
    /// Sends the first request of a connection and returns whether the connection was kept. certctl closes a connection
    /// without a request after 5 s, and one that has had a request only after 60 s of silence.
    async fn greet(&self, connection: &mut Connection) -> Result<bool, Fault> {
        let Connections::Kept(greeting) = &self.peer.connections else { return Ok(true) };
        let mut scratch = self.wiring.take_scratch(LONGEST_GREETING);
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        scratch.request.clear();
        scratch.request.extend_from_slice(greeting);
        let kept = connection.exchange(Method::Get, &mut scratch, &mut watch, &mut phases).await;
        self.wiring.return_scratch(scratch);
        // A connection that is out of step is kept: the next request on it reports the fault.
        Ok(kept? || connection.is_out_of_step())
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
        if let Some(connection) = &mut self.connection
            && self.wiring.is_closed(connection.idle().await)?
        {
            self.connection = None;
        }
        let method;
        let connection = match &mut self.connection {
            Some(connection) => {
                method = self.scenario.encode(planned, &mut scratch.request);
                connection
            }
            none => {
                self.opening = true;
                let connection = Box::pin(self.peer.dialer(planned.seq).open(watch, phases)).await?;
                self.opening = false;
                let record = connection.record();
                self.scenario.connected(start, watch.last(), &record);
                *handshake = Some(record);
                let mut connection = Box::new(connection);
                method = self.scenario.encode(planned, &mut scratch.request);
                let idle = match self.wiring.outspoken.get() {
                    false => connection.idle().await,
                    true => Box::pin(connection.listen(LISTENING)).await,
                };
                if self.wiring.is_closed(idle)? {
                    return Err(Fault::new(FaultKind::Closed, "the peer closed the connection before the request"));
                }
                none.insert(connection)
            }
        };
        let reusable = connection.exchange(method, scratch, watch, phases).await?;
        // A connection that is out of step is kept: the next request on it reports the fault.
        let is_kept = reusable || connection.is_out_of_step();
        if !is_kept && self.peer.connections != Connections::PerArrival {
            self.connection = None;
        }
        Ok(())
    }
}

/// The longest answer to a greeting, in bytes.
const LONGEST_GREETING: usize = 64 * 1024;

/// Describes a response on one line, for people, with its `flaw` where its status is the right one.
fn describe(response: &Response<'_>, flaw: Option<String>) -> String {
    let status = response.status;
    match (response.coding(), flaw) {
        (Some(coding), _) => format!("{status}: coded as {}, which was not accepted", foreign::line_of_bytes(coding)),
        (None, Some(flaw)) => format!("{status}, but {flaw}: {}", foreign::line_of_bytes(response.body)),
        (None, None) => format!("{status}: {}", foreign::line_of_bytes(response.body)),
    }
}
