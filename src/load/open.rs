//! The open workload: arrivals come when the schedule says, whatever the target does.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::deadline::{Deadlines, SWEEP_EVERY};
use super::desk::{Affinity, Arrival, Desk};
use super::pacer::Timer;
use super::priority::Priority;
use super::progress::{Progress, Stage};
use super::rate::Rate;
use super::schedule::{Arrivals, Schedule};
use crate::clock::Moment;
use crate::error::{Context, Error, Result};
use crate::measure::generator::{GeneratorUse, Reading};
use crate::measure::{Measurement, Outcome, Recorder, Sample};
use crate::wire::tls::Handshake;
use crate::wire::{Fault, FaultKind, Phases};

/// An open workload.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many arrivals there are.
    pub rate: Rate,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// Makes a random schedule repeatable.
    pub rng_seed: u64,
    /// How long arrivals are sent before the measured window.
    pub warm_up: Duration,
    /// How long the measured window is.
    pub window: Duration,
    /// How many workers, each with a connection.
    pub connections: usize,
    /// Which worker may take which arrival.
    pub affinity: Affinity,
    /// How fast connections are opened.
    pub connect_rate: Rate,
    /// How long a request may take, and how long an arrival may wait for a worker.
    pub timeout: Duration,
    /// Arrivals that start later than this count as late.
    pub max_lag: Duration,
}

/// How many connections may be in the middle of being opened.
const MAX_OPENING: usize = 64;
/// How often opening one connection is tried.
const OPEN_ATTEMPTS: usize = 3;
/// Between the last connection and the first arrival.
const SETTLE: Duration = Duration::from_millis(100);
/// How long connections may take to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

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
    pub handshake: Option<Handshake>,
}

/// What a worker drives: a client with one connection.
pub trait Client: 'static {
    /// Connects, before the first arrival.
    fn open(&mut self) -> impl Future<Output = Result<(Handshake, Phases), Fault>>;
    /// Does what an arrival asks; `start` is now.
    fn perform(&mut self, seq: u64, start: Moment) -> impl Future<Output = Done>;
    /// Drops the connection: a request on it was given up.
    fn abandon(&mut self);
    /// Disconnects, for at most `patience`.
    fn close(self, patience: Duration) -> impl Future<Output = ()>;
}

/// What a run needs besides its plan and clients.
pub struct Hooks {
    /// Takes the samples.
    pub recorder: Rc<RefCell<Recorder>>,
    /// Tells other threads how far the run is.
    pub progress: Arc<Progress>,
    /// Ends the run early once set.
    pub stop: Arc<AtomicBool>,
}

/// Runs `plan` with one client per connection, on the current thread's [`tokio::task::LocalSet`].
///
/// # Errors
/// If a connection cannot be opened before the first arrival, or the process is out of file descriptors.
pub async fn run<C: Client>(plan: &Plan, clients: impl Iterator<Item = C>, hooks: Hooks) -> Result<Measurement> {
    let expected = (plan.rate.per_second_f64() * plan.timeout.as_secs_f64()) as usize + plan.connections;
    let shared = Rc::new(Shared {
        patience: plan.timeout,
        desk: Desk::new(plan.connections, plan.affinity, plan.timeout),
        deadlines: Deadlines::new(plan.connections, plan.timeout, expected),
        opening_fault: RefCell::default(),
        opened: Cell::new(0),
        hooks,
    });
    let mut usage = GeneratorUse { start: Reading::take(), connections: plan.connections as u64, ..Default::default() };
    let mut workers = JoinSet::new();
    open(plan, clients, &shared, &mut workers).await?;
    usage.opened = Reading::take();

    let priority = Priority::raise();
    usage.scheduling = priority.label();
    pace(plan, &shared, &mut usage).await?;
    drain(plan, &shared).await;
    drop(priority);
    shared.desk.close();
    while workers.join_next().await.is_some() {}
    let measurement = shared.hooks.recorder.borrow_mut().finish(usage);
    Ok(measurement)
}

struct Shared {
    /// How long a connection may take to open.
    patience: Duration,
    desk: Desk,
    deadlines: Deadlines,
    opening_fault: RefCell<Option<Fault>>,
    opened: Cell<usize>,
    hooks: Hooks,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.hooks.stop.load(Ordering::Relaxed)
    }
}

/// Starts the workers, at the connect rate, and waits until each has its connection.
async fn open<C: Client>(
    plan: &Plan,
    clients: impl Iterator<Item = C>,
    shared: &Rc<Shared>,
    workers: &mut JoinSet<()>,
) -> Result<()> {
    shared.hooks.progress.enter(Stage::Opening);
    let timer = Timer::new().context(|| "making a timer".to_owned())?;
    let permits = Arc::new(Semaphore::new(MAX_OPENING));
    let start = Moment::now();
    for (worker, client) in clients.take(plan.connections).enumerate() {
        let at = start + Duration::from_nanos(plan.connect_rate.offset_ns(worker as u64));
        timer.sleep_until(at).await.context(|| "waiting for a timer".to_owned())?;
        // The semaphore is never closed.
        let permit = permits.clone().acquire_owned().await.expect("an open semaphore");
        if shared.stopped() || shared.opening_fault.borrow().is_some() {
            break;
        }
        workers.spawn_local(work(worker, client, shared.clone(), permit));
    }
    // Every permit is back once every worker has a connection or has given up.
    let _all = permits.acquire_many(MAX_OPENING as u32).await.expect("an open semaphore");
    let (opened, wanted) = (shared.opened.get(), plan.connections);
    if let Some(fault) = shared.opening_fault.take() {
        return Err(Error::new(format!("opened {opened} of {wanted} connections, then {fault}"))
            .mend("lower --connect-rate or --connections, or look at the target's limits and log"));
    }
    if shared.stopped() {
        return Err(Error::new(format!(
            "stopped after opening {opened} of {wanted} connections: nothing was measured"
        )));
    }
    Ok(())
}

/// One worker: opens its connection, then takes one arrival after another.
async fn work<C: Client>(worker: usize, mut client: C, shared: Rc<Shared>, permit: tokio::sync::OwnedSemaphorePermit) {
    // Boxed, as the close is: an idle worker is to keep no room for what it does once.
    let opened = Box::pin(connect(&mut client, &shared)).await;
    drop(permit);
    if !opened {
        return;
    }
    while let Some(arrival) = shared.desk.take(worker).await {
        let sample = perform(worker, &mut client, arrival, &shared).await;
        shared.hooks.recorder.borrow_mut().record(&sample);
        shared.hooks.progress.count(sample.outcome);
        shared.desk.finish();
    }
    Box::pin(client.close(CLOSE_PATIENCE)).await;
}

async fn connect<C: Client>(client: &mut C, shared: &Shared) -> bool {
    for attempt in 1..=OPEN_ATTEMPTS {
        let opened = tokio::time::timeout(shared.patience, client.open()).await;
        let opened = opened
            .unwrap_or_else(|_| Err(Fault::new(FaultKind::Connect, format!("not open within {:?}", shared.patience))));
        match opened {
            Ok((handshake, phases)) => {
                shared.hooks.recorder.borrow_mut().opened(handshake, &phases);
                shared.opened.set(shared.opened.get() + 1);
                shared.hooks.progress.connected();
                return true;
            }
            Err(fault) if attempt == OPEN_ATTEMPTS || shared.stopped() => {
                shared.opening_fault.borrow_mut().get_or_insert(fault);
            }
            Err(_) => {}
        }
    }
    false
}

async fn perform<C: Client>(worker: usize, client: &mut C, arrival: Arrival, shared: &Shared) -> Sample {
    let actual = Moment::now();
    let done = {
        let request = pin!(client.perform(arrival.seq, actual));
        shared.deadlines.guard(worker, actual, request).await
    };
    let done = done.unwrap_or_else(|| {
        client.abandon();
        Done { end: Moment::now(), phases: Phases::default(), outcome: Outcome::TimedOut, handshake: None }
    });
    Sample {
        intended: arrival.intended,
        waited: arrival.waited,
        actual,
        end: done.end,
        phases: done.phases,
        outcome: done.outcome,
        handshake: done.handshake,
    }
}

/// Hands in every arrival at its intended start, through warm-up and window.
async fn pace(plan: &Plan, shared: &Shared, usage: &mut GeneratorUse) -> Result<()> {
    let timer = Timer::new().context(|| "making a timer".to_owned())?;
    let start = Moment::now() + SETTLE;
    let window_start = start + plan.warm_up;
    shared.hooks.recorder.borrow_mut().begin(window_start);
    shared.hooks.progress.enter(Stage::WarmUp);
    let span = plan.warm_up + plan.window;
    let schedule = Schedule::new(plan.arrivals, plan.rate, span, plan.rng_seed);
    // A run that ends before its window has used nothing in it.
    usage.window_start = Reading::take();
    let mut measuring = false;
    for (seq, offset_ns) in (0u64..).zip(schedule) {
        let intended = start + Duration::from_nanos(offset_ns);
        if !measuring && intended >= window_start {
            measuring = true;
            wait(&timer, window_start, shared).await?;
            usage.window_start = Reading::take();
            shared.hooks.progress.enter(Stage::Measuring);
        }
        if !wait(&timer, intended, shared).await? {
            break;
        }
        shared.hooks.recorder.borrow_mut().scheduled(intended);
        shared.desk.put(Arrival { seq, intended, waited: false });
    }
    wait(&timer, start + span, shared).await?;
    usage.window_end = Reading::take();
    Ok(())
}

/// Waits until `moment`, and ends requests whose time is up meanwhile; returns `false` if the run is to stop.
async fn wait(timer: &Timer, moment: Moment, shared: &Shared) -> Result<bool> {
    loop {
        if shared.stopped() {
            return Ok(false);
        }
        let now = Moment::now();
        if now >= moment {
            return Ok(true);
        }
        shared.deadlines.sweep(now);
        let until = moment.min(now + SWEEP_EVERY);
        timer.sleep_until(until).await.context(|| "waiting for a timer".to_owned())?;
    }
}

/// Lets what is in flight end, for as long as a request may take.
async fn drain(plan: &Plan, shared: &Shared) {
    shared.hooks.progress.enter(Stage::Draining);
    let patience = Moment::now() + plan.timeout + SWEEP_EVERY;
    while shared.desk.outstanding() > 0 && Moment::now() < patience && !shared.stopped() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        shared.deadlines.sweep(Moment::now());
    }
    if shared.stopped() {
        shared.hooks.recorder.borrow_mut().stop(Moment::now());
    }
    shared.desk.abandon_waiting();
    while shared.desk.outstanding() > 0 {
        shared.deadlines.expire_all();
        tokio::task::yield_now().await;
    }
}
