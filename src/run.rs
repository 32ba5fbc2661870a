//! The run of a benchmark: scenarios, each with its plan of load, over connections to a system under test, into
//! measurements.

mod client;
mod line;
mod travel;
mod wiring;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::event_loop::sleep;
use crate::load;
use crate::load::limits::{Sockets, spawn};
use crate::load::plan::{Model, Opening, Plan};
use crate::load::rate::Rate;
use crate::load::run::{Control, Job, ShardMeasurements, ThreadPlace};
use crate::load::runtime::runtime;
use crate::load::shard::{Shard, Share};
use crate::load::start_line::StartLine;
use crate::measure::threshold::Threshold;
use crate::measure::{Measurement, Recorder};
use crate::scenario::Scenario;
use crate::scenario::divisible::Divisible;
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
            peer: Arc::new(peer),
            others: others.into_iter().map(Arc::new).collect(),
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
    pub peer: Arc<Peer>,
    /// The further peers of its journeys.
    pub others: Vec<Arc<Peer>>,
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
    Sockets { connections, closing, ..Sockets::default() }
}

/// Returns the most connections that a workload closes per second, if each arrival has its own.
fn closed_per_s(workload: &Workload) -> f64 {
    let peak = workload.plan.model.peak().filter(|_| workload.plan.opening == Opening::ByFirstRequest);
    peak.map_or(0.0, Rate::per_second_f64)
}

/// Runs workloads side by side and measures them, with a generator thread for each of `shards`: one runs on the calling
/// thread, several on threads of their own. Returns the measurements in the order of the workloads; what their scenarios
/// saw is in those of `workloads`.
///
/// # Errors
/// If the run cannot start, or a workload cannot be divided; a failure after that is measured, not returned.
pub fn run(workloads: &[BoundWorkload], shards: &[Shard], control: &Control) -> Result<Vec<Measurement>> {
    let start_line = StartLine::of(shards.len());
    run_from(workloads, shards, &start_line, control).map(|measured| measured.measurements)
}

/// Runs the same as a part of a run that other processes take part in, and returns it for [`merge`]. The start line
/// agrees with them on the start.
///
/// # Errors
/// As of [`run`].
pub fn run_part(
    workloads: &[BoundWorkload],
    shards: &[Shard],
    start_line: &StartLine,
    control: &Control,
) -> Result<RunPart> {
    let ShardMeasurements { start, measurements } = run_from(workloads, shards, start_line, control)?;
    let notes = workloads.iter().map(|bound| bound.divisible().map(|divisible| divisible.notes(start)));
    Ok(RunPart { notes: notes.collect::<Result<_>>()?, measurements })
}

/// The part of a run that some of its shards made.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunPart {
    /// The measurement of each workload.
    pub measurements: Vec<Measurement>,
    /// What the scenario of each saw.
    pub notes: Vec<Value>,
}

/// Merges the parts of a run that began at `start`: returns the measurement of each workload, and lets the scenarios of
/// `workloads` absorb what those of the parts saw.
///
/// # Errors
/// If there is no part, or one of them is of other workloads; the error names the difference.
pub fn merge(workloads: &[BoundWorkload], parts: Vec<RunPart>, start: Moment) -> Result<Vec<Measurement>> {
    let mut all = Vec::<Measurement>::new();
    for RunPart { measurements, notes } in parts {
        if measurements.len() != workloads.len() || notes.len() != workloads.len() {
            let (of_part, wanted) = (measurements.len().min(notes.len()), workloads.len());
            return Err(Error::new(format!("merging a part of {of_part} workloads into a run of {wanted}"))
                .with_hint("give every part of a run the same flags"));
        }
        for (bound, notes) in workloads.iter().zip(&notes) {
            bound.divisible()?.absorb(notes, start)?;
        }
        if all.is_empty() {
            all = measurements;
            continue;
        }
        for (one, other) in all.iter_mut().zip(&measurements) {
            one.merge(other)?;
        }
    }
    if all.is_empty() {
        return Err(Error::new("merging the parts of a run: there is none"));
    }
    Ok(all)
}

fn run_from(
    workloads: &[BoundWorkload],
    shards: &[Shard],
    start_line: &StartLine,
    control: &Control,
) -> Result<ShardMeasurements> {
    let place =
        |index: usize| ThreadPlace { shard: shards[index], start_line: start_line.clone(), checks_limits: index == 0 };
    check_shards(workloads, shards)?;
    if shards.len() == 1 {
        return run_here(workloads, &place(0), control);
    }
    let mut threads = Vec::with_capacity(shards.len());
    for index in 0..shards.len() {
        let seats = workloads.iter().map(Seat::of).collect::<Result<Vec<_>>>()?;
        let (place, control) = (place(index), control.clone());
        let thread = spawn(&format!("generator {index}"), move || {
            let calls_off = CallsOff(&place.start_line);
            let workloads: Vec<_> = seats.into_iter().map(Seat::take).collect();
            let measured = run_here(&workloads, &place, &control).inspect_err(|error| calls_off.0.call_off(error))?;
            let notes = workloads.iter().map(|bound| bound.divisible().map(|one| one.notes(measured.start)));
            let part = RunPart { notes: notes.collect::<Result<_>>()?, measurements: measured.measurements };
            Ok::<_, Error>((measured.start, part))
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => start_line.call_off(&error),
        }
        if threads.len() <= index {
            break;
        }
    }
    let mut parts = Vec::with_capacity(threads.len());
    let mut start = Moment::default();
    for done in threads.into_iter().map(JoinHandle::join).collect::<Vec<_>>() {
        let (began, part) = done.map_err(|_| Error::new("a thread of the generator panicked"))??;
        start = began;
        parts.push(part);
    }
    let measurements = merge(workloads, parts, start)?;
    Ok(ShardMeasurements { start, measurements })
}

/// Calls off the start once it is dropped: a thread that ends before the start would keep the others waiting.
struct CallsOff<'a>(&'a StartLine);

impl Drop for CallsOff<'_> {
    fn drop(&mut self) {
        self.0.call_off(&Error::new("a thread of the generator ended before the start"));
    }
}

/// A workload on its way to a generator thread.
struct Seat {
    workload: Workload,
    scenario: Box<dyn Scenario + Send>,
    peer: Arc<Peer>,
    others: Vec<Arc<Peer>>,
}

impl Seat {
    fn of(bound: &BoundWorkload) -> Result<Self> {
        let BoundWorkload { workload, peer, others, .. } = bound.clone();
        Ok(Self { workload, scenario: bound.divisible()?.instance(), peer, others })
    }

    fn take(self) -> BoundWorkload {
        let scenario: Box<dyn Scenario> = self.scenario;
        BoundWorkload { workload: self.workload, scenario: scenario.into(), peer: self.peer, others: self.others }
    }
}

impl BoundWorkload {
    /// Returns the division of its scenario among shards.
    ///
    /// # Errors
    /// If it has none.
    pub fn divisible(&self) -> Result<&dyn Divisible> {
        self.scenario.divisible().ok_or_else(|| {
            let text = "its requests depend on one another across connections, so that one thread must send them all";
            Error::usage(format!("{}: {text}", self.workload.name)).with_hint("leave out --generator-threads")
        })
    }
}

/// Checks that each shard can have its part of each workload.
///
/// # Errors
/// If one of them cannot be divided, or has fewer connections than there are shards (kind `Usage`).
pub fn check_shards(workloads: &[BoundWorkload], shards: &[Shard]) -> Result<()> {
    let count = shards.first().map_or(0, |shard| shard.count());
    for bound in workloads.iter().filter(|_| count > 1) {
        bound.divisible()?;
        let connections = bound.workload.plan.connections as u64;
        if connections < count {
            let name = bound.workload.name;
            return Err(Error::usage(format!(
                "{name}: {connections} connections cannot be divided among {count} generator threads"
            ))
            .with_hint(format!("give --generator-threads {connections}, or more connections")));
        }
    }
    Ok(())
}

/// Runs a shard of workloads on the calling thread.
fn run_here(workloads: &[BoundWorkload], place: &ThreadPlace, control: &Control) -> Result<ShardMeasurements> {
    debug_assert!(workloads.iter().all(|one| one.others.is_empty() || one.workload.plan.further > 0));
    let closing = sockets(workloads.iter().map(|one| &one.workload)).closing as u64;
    let wiring = Wiring::with_closing(closing.div_ceil(place.shard.count()) as usize);
    let jobs = workloads.iter().map(|workload| job(workload, place.shard, &wiring)).collect();
    let runtime = runtime()?;
    let measured = runtime.block_on(async {
        tokio::select! {
            biased;
            measured = load::run::run(jobs, place, control) => measured,
            never = end_once_over(workloads, control) => match never {},
        }
    });
    runtime.end(TASK_PATIENCE);
    measured
}

/// Ends the run once the scenario of one of its workloads says that everything is over.
async fn end_once_over(workloads: &[BoundWorkload], control: &Control) -> Infallible {
    loop {
        if workloads.iter().any(|bound| bound.scenario.is_over()) {
            control.cut.finish();
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Makes the clients of a workload, and the recorder of their samples.
fn job(bound: &BoundWorkload, shard: Shard, wiring: &Wiring) -> Job<HttpClient> {
    let BoundWorkload { workload, scenario, peer, others } = bound.clone();
    let plan = workload.plan;
    let recorder = Rc::new(RefCell::new(recorder(&plan, shard, &*scenario)));
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

fn recorder(plan: &Plan, shard: Shard, scenario: &dyn Scenario) -> Recorder {
    let recorder = Recorder::new(plan.window, plan.max_lag, scenario.steps())
        .with_connections(Share::of(plan, shard).connections())
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
        Some(_) => {
            let expected = pattern.per_second(*clients) * plan.window.as_secs_f64();
            recorder.keeping_answers(shard.size_of(expected as u64) as usize)
        }
        None => recorder,
    }
}
