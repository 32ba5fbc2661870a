//! The run of a benchmark: scenarios, each with its plan of load, over connections to a system under test, into
//! measurements.

mod client;
mod line;
mod travel;
mod wiring;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Result;
use crate::load;
use crate::load::limits::Sockets;
use crate::load::plan::{Model, Opening, Plan};
use crate::load::rate::Rate;
use crate::load::run::{Control, Job};
use crate::load::runtime::runtime;
use crate::measure::threshold::Threshold;
use crate::measure::{Measurement, Recorder};
use crate::scenario::Scenario;
use crate::wire::peer::Peer;
use client::HttpClient;
use line::Line;
use wiring::{CLOSING_PATIENCE, Wiring};

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

/// The requests of a workload and their peers.
pub struct Binding {
    /// The requests, or journeys, and the check of their answers.
    pub scenario: Rc<dyn Scenario>,
    /// The system: the peer of all requests, and the one with index 0 in journeys.
    pub peer: Peer,
    /// The further peers of journeys, with the indexes from 1 on.
    pub others: Vec<Peer>,
}

impl Binding {
    /// Binds requests to the system that they are sent to.
    pub fn of(scenario: impl Scenario, peer: Peer) -> Self {
        Self { scenario: Rc::new(scenario), peer, others: Vec::new() }
    }
}

/// Binds a workload to a system; `None` if the system lacks the part that it is for.
type Bind<S> = dyn FnOnce(&S) -> Result<Option<Binding>>;

/// A workload that is not bound to a system `S` yet.
pub struct PlannedWorkload<S> {
    /// The workload.
    pub workload: Workload,
    bind: Box<Bind<S>>,
}

impl<S> PlannedWorkload<S> {
    /// Plans a workload, which `bind` binds to a system.
    pub fn new(workload: Workload, bind: impl FnOnce(&S) -> Result<Option<Binding>> + 'static) -> Self {
        Self { workload, bind: Box::new(bind) }
    }

    /// Binds the workload to a system; returns `None` if the system lacks the part that it is for.
    ///
    /// # Errors
    /// If the system cannot be loaded in this way.
    pub fn bind(self, system: &S) -> Result<Option<BoundWorkload>> {
        let (workload, bound) = (self.workload, (self.bind)(system)?);
        Ok(bound.map(|Binding { scenario, peer, others }| BoundWorkload {
            workload,
            scenario,
            peer: Rc::new(peer),
            others: others.into_iter().map(Rc::new).collect(),
        }))
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
    /// The further peers of its journeys.
    pub others: Vec<Rc<Peer>>,
}

/// Bounds of the number of connections that may wait for their peer to close them first; beyond that number,
/// connections are closed at once.
const MAX_CLOSING: usize = 1_024;
const MIN_CLOSING: usize = 64;
/// The longest wait for the tasks of journeys that still run once the run is over: one may wait for a daemon that hangs.
const TASK_PATIENCE: Duration = Duration::from_secs(1);
/// The interval at which scenarios are asked for the end of the run.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns the sockets that `workloads` need, side by side.
pub fn sockets<'w>(workloads: impl Iterator<Item = &'w Workload> + Clone) -> Sockets {
    let further: usize = workloads.clone().map(|workload| workload.plan.further).sum();
    let connections = workloads.clone().map(|workload| workload.plan.connections).sum::<usize>() + further;
    let per_s: f64 = workloads.map(closed_per_s).sum();
    // Closings by a Poisson process stay within six standard deviations.
    let waiting = per_s * CLOSING_PATIENCE.as_secs_f64();
    let waiting = (waiting + 6.0 * waiting.sqrt()).ceil() as usize;
    // Journeys open connections to further peers at a rate that no plan states.
    let closing = if per_s > 0.0 || further > 0 { waiting.clamp(MIN_CLOSING, MAX_CLOSING) } else { 0 };
    Sockets { connections, closing }
}

/// Returns the most connections that a workload closes per second, if each arrival has its own.
fn closed_per_s(workload: &Workload) -> f64 {
    let peak = workload.plan.model.peak().filter(|_| workload.plan.opening == Opening::ByFirstRequest);
    peak.map_or(0.0, Rate::per_second_f64)
}

/// Runs workloads side by side and measures them, on the calling thread; returns the measurements in the same order.
///
/// # Errors
/// If the run cannot start; a failure after that is measured, not returned.
pub fn run(workloads: &[BoundWorkload], control: &Control) -> Result<Vec<Measurement>> {
    debug_assert!(workloads.iter().all(|one| one.others.is_empty() || one.workload.plan.further > 0));
    let wiring = Wiring::with_closing(sockets(workloads.iter().map(|one| &one.workload)).closing);
    let jobs = workloads.iter().map(|workload| job(workload, &wiring)).collect();
    let runtime = runtime()?;
    let measured = runtime.block_on(async {
        tokio::select! {
            biased;
            measured = load::run::run(jobs, control) => measured,
            never = end_once_over(workloads, control) => match never {},
        }
    });
    // Dropped, it would wait for tasks without a bound.
    runtime.shutdown_timeout(TASK_PATIENCE);
    measured
}

/// Ends the run once the scenario of one of its workloads says that everything is over.
async fn end_once_over(workloads: &[BoundWorkload], control: &Control) -> Infallible {
    loop {
        if workloads.iter().any(|bound| bound.scenario.is_over()) {
            control.cut.finish();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Makes the clients of a workload, and the recorder of their samples.
fn job(bound: &BoundWorkload, wiring: &Wiring) -> Job<HttpClient> {
    let BoundWorkload { workload, scenario, peer, others } = bound.clone();
    let plan = workload.plan;
    let recorder = Rc::new(RefCell::new(recorder(&plan, &*scenario)));
    let wiring = wiring.clone();
    let client = {
        let recorder = recorder.clone();
        Box::new(move || HttpClient {
            scenario: scenario.clone(),
            recorder: recorder.clone(),
            wiring: wiring.clone(),
            lines: std::iter::once(&peer).chain(&others).cloned().map(Line::to).collect(),
            under_way: None,
        })
    };
    Job { plan, client, recorder }
}

fn recorder(plan: &Plan, scenario: &dyn Scenario) -> Recorder {
    let recorder = Recorder::new(plan.window, plan.max_lag, scenario.steps())
        .with_connections(plan.connections)
        .with_warm_up(plan.warm_up);
    let recorder = match scenario.journeys() {
        Some(_) => recorder.of_journeys(),
        None => recorder,
    };
    let Model::Open { pattern, clients, .. } = &plan.model else { return recorder.of_users() };
    let recorder = match pattern.curve() {
        Some(curve) => recorder.with_segments(curve.segments()),
        None => recorder,
    };
    match plan.part {
        Some(_) => recorder.keeping_answers((pattern.per_second(*clients) * plan.window.as_secs_f64()) as usize),
        None => recorder,
    }
}
