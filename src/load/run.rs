//! A run: one or more workloads side by side, each generator thread with its shard of them, from the first connection
//! to the last answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use super::arrival::Arrival;
use super::cut::Cut;
use super::plan::Plan;
use super::priority::Priority;
use super::progress::{Progress, Stage};
use super::shard::Shard;
use super::start_line::StartLine;
use super::worker_pool::WorkerPool;
use crate::clock::Moment;
use crate::error::Result;
use crate::event_loop::Tasks;
use crate::measure::generator::{self, GeneratorReading, ThreadUse};
use crate::measure::{Measurement, Outcome, Recorder};
use crate::wire::handshake::Record;
use crate::wire::{Fault, Phases};

/// The result of one request, as a client reports it.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The moment of its end.
    pub end: Moment,
    /// The phases of its time.
    pub phases: Phases,
    /// Its outcome.
    pub outcome: Outcome,
    /// The handshake, if the request opened a connection.
    pub handshake: Option<Record>,
    /// True if the request needed a connection and could not open one.
    pub unconnected: bool,
    /// The bytes of the answer, head and body; 0 without one.
    pub answer_bytes: u64,
}

/// A client with a connection of its own, which a worker drives.
pub trait Client: 'static {
    /// Connects, before the first arrival.
    fn open(&mut self) -> impl Future<Output = Result<(Record, Phases), Fault>>;
    /// Sends the request of an arrival and waits for its answer, or makes its journey; `start` is now.
    fn perform(&mut self, arrival: Arrival, start: Moment) -> impl Future<Output = Completion>;
    /// Drops the connection, since a request on it was given up; returns true if it was still being opened.
    fn abandon(&mut self) -> bool;
    /// Closes the connection, within at most `patience`.
    fn close(self, patience: Duration) -> impl Future<Output = ()>;
}

/// One workload of a run.
pub struct Job<C> {
    /// The amount and timing of the load.
    pub plan: Plan,
    /// Makes a client for each worker.
    pub client: Box<dyn FnMut() -> C>,
    /// Takes the samples.
    pub recorder: Rc<RefCell<Recorder>>,
}

/// The means by which other threads watch a run, and end it.
#[derive(Clone, Default)]
pub struct Control {
    /// The progress of the run.
    pub progress: Arc<Progress>,
    /// Ends the run early once set.
    pub stop: Arc<AtomicBool>,
    /// Limits at which the run ends early.
    pub cut: Cut,
}

impl Control {
    /// Counts a request that is to be sent; returns `false` if it may not be.
    pub fn may_send(&self) -> bool {
        self.cut.may_send()
    }

    /// Returns true if a limit was reached.
    pub fn is_cut(&self) -> bool {
        self.cut.is_over()
    }
}

/// The place of one generator thread in a run.
pub struct ThreadPlace {
    /// Its shard of every workload.
    pub shard: Shard,
    /// The start line that it waits at with the other threads of its process.
    pub start_line: StartLine,
    /// True in one thread of the process, which checks the limits of the run.
    pub checks_limits: bool,
}

/// The measurements of one generator thread.
#[derive(Debug)]
pub struct ShardMeasurements {
    /// The moment of the start, the same for all threads of the run.
    pub start: Moment,
    /// The measurements, in the order of the workloads.
    pub measurements: Vec<Measurement>,
}

/// Runs a shard of `jobs` side by side; returns the measurements in their order. The pacers are part of this future
/// itself, and the workers are tasks: the loop polls the former between any two of the latter, so that no burst of
/// answers keeps a pacer from its turn.
///
/// # Errors
/// If a connection cannot be opened before the first arrival, or the process is out of file descriptors.
pub async fn run<C: Client>(
    mut jobs: Vec<Job<C>>,
    place: &ThreadPlace,
    control: &Control,
) -> Result<ShardMeasurements> {
    let shard = place.shard;
    let connections = jobs.iter().map(|job| shard.size_of(job.plan.connections as u64)).sum();
    let process = generator::process_id();
    let mut usage = ThreadUse { process, start: GeneratorReading::take(), connections, ..ThreadUse::default() };
    control.progress.expect_windows(jobs.len());
    let end = jobs.iter().map(|job| job.plan.end()).max().unwrap_or_default();
    for job in &mut jobs {
        job.plan.goes_on = end - job.plan.end();
    }
    let mut crews = Vec::with_capacity(jobs.len());
    control.progress.enter(Stage::Opening);
    for job in jobs {
        crews.push(WorkerPool::assemble(job, shard, control).await?);
    }
    usage.opened = GeneratorReading::take();

    let priority = Priority::raise();
    usage.scheduling = priority.label();
    let start = place.start_line.wait().await?;
    control.progress.enter(Stage::WarmUp);
    // The watches end when they are dropped.
    let mut watches = Tasks::default();
    for worker_pool in &crews {
        watches.start(worker_pool.watch(start));
    }
    if place.checks_limits {
        let cut = control.clone();
        watches.start(async move { cut.cut.watch(&cut.progress, start).await });
    }
    let loads = crews.iter().map(|worker_pool| Box::pin(worker_pool.load(start))).collect();
    for load in all(loads).await {
        let (window_start, window_end) = load;
        usage.cover(window_start, window_end);
    }
    drop(priority);
    usage.peak_rss_bytes = generator::peak_rss_bytes();
    let mut measurements = Vec::with_capacity(crews.len());
    for worker_pool in crews {
        measurements.push(worker_pool.dismiss(usage).await);
    }
    Ok(ShardMeasurements { start, measurements })
}

/// Drives a few futures to their ends.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(ready) = Pin::new(future).poll(context)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
