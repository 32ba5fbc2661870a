//! A run: one or more workloads side by side on one thread, from the first connection to the last answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::task::JoinSet;

use super::crew::Crew;
use super::plan::Plan;
use super::priority::Priority;
use super::progress::{Progress, Stage};
use crate::clock::Moment;
use crate::error::{Context, Result};
use crate::measure::generator::{GeneratorUse, Reading};
use crate::measure::{Measurement, Outcome, Recorder};
use crate::wire::handshake::Record;
use crate::wire::{Fault, Phases};

/// Between the last connection and the first arrival.
const SETTLE: Duration = Duration::from_millis(100);

/// What came of one request, as a client tells it.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// When it was over.
    pub end: Moment,
    /// Where the time went.
    pub phases: Phases,
    /// What came of it.
    pub outcome: Outcome,
    /// The handshake, if it opened a connection.
    pub handshake: Option<Record>,
}

/// What a worker drives: a client with one connection.
pub trait Client: 'static {
    /// Connects, before the first arrival.
    fn open(&mut self) -> impl Future<Output = Result<(Record, Phases), Fault>>;
    /// Asks; `start` is now.
    fn perform(&mut self, ask: super::arrival::Ask, start: Moment) -> impl Future<Output = Done>;
    /// Drops the connection: a request on it was given up.
    fn abandon(&mut self);
    /// Disconnects, for at most `patience`.
    fn close(self, patience: Duration) -> impl Future<Output = ()>;
}

/// One workload of a run.
pub struct Job<C> {
    /// How much, and when.
    pub plan: Plan,
    /// Makes a client.
    pub client: Box<dyn FnMut() -> C>,
    /// Takes the samples.
    pub recorder: Rc<RefCell<Recorder>>,
}

/// How other threads watch a run, and end it.
#[derive(Clone, Default)]
pub struct Control {
    /// How far the run is.
    pub progress: Arc<Progress>,
    /// Ends the run early once set.
    pub stop: Arc<AtomicBool>,
}

/// Runs `jobs` side by side on the current thread's [`tokio::task::LocalSet`]; the measurements are in their order.
///
/// # Errors
/// If a connection cannot be opened before the first arrival, or the process is out of file descriptors.
pub async fn run<C: Client>(jobs: Vec<Job<C>>, control: &Control) -> Result<Vec<Measurement>> {
    let connections = jobs.iter().map(|job| job.plan.connections as u64).sum();
    let mut usage = GeneratorUse { start: Reading::take(), connections, ..GeneratorUse::default() };
    let pacing = Rc::new(Cell::new(jobs.len()));
    let mut crews = Vec::with_capacity(jobs.len());
    control.progress.enter(Stage::Opening);
    for job in jobs {
        crews.push(Crew::assemble(job, control, &pacing).await?);
    }
    usage.opened = Reading::take();

    let priority = Priority::raise();
    usage.scheduling = priority.label();
    let start = Moment::now() + SETTLE;
    control.progress.enter(Stage::WarmUp);
    let mut loads = JoinSet::new();
    for crew in &crews {
        loads.spawn_local(crew.load(start));
    }
    while let Some(load) = loads.join_next().await {
        let (window_start, window_end) = load.context(|| "driving the load".to_owned())??;
        usage.cover(window_start, window_end);
    }
    drop(priority);
    let mut measurements = Vec::with_capacity(crews.len());
    for crew in crews {
        measurements.push(crew.dismiss(usage).await);
    }
    Ok(measurements)
}
