//! The worker pool of one workload: its workers, each with a connection, and the state that they share.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::arrival::Arrival;
use super::closed::{self, Users};
use super::cut::Ended;
use super::deadline::{Deadlines, SWEEP_EVERY};
use super::dispatcher::Dispatcher;
use super::plan::{Model, Opening, Plan};
use super::progress::Stage;
use super::rate::Rate;
use super::run::{Client, Completion, Control, Job};
use super::shard::{Shard, Share};
use super::{open, own_part};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::event_loop::{Tasks, sleep, sleep_until, timeout};
use crate::measure::generator::{GeneratorReading, ThreadUse};
use crate::measure::{Measurement, Outcome, Recorder, Sample};
use crate::wire::{Fault, FaultKind, Phases};

/// The largest number of connections that may be opening at once.
const MAX_OPENING: usize = 64;
/// The number of attempts to open one connection.
const OPEN_ATTEMPTS: usize = 3;
/// The least time that opening all connections may take beyond what the connect rate implies.
const OPENING_PATIENCE: Duration = Duration::from_secs(60);
/// The longest wait for a connection to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The worker pool of one workload.
pub struct WorkerPool {
    shared: Rc<Shared>,
    workers: Tasks,
}

/// The state that the workers of one workload share.
pub struct Shared {
    pub plan: Plan,
    /// The part of the load that is this thread's.
    pub share: Share,
    pub recorder: Rc<RefCell<Recorder>>,
    pub control: Control,
    pub work: RequestSource,
    pub deadlines: Deadlines,
    opening_fault: RefCell<Option<Fault>>,
    opened: Cell<usize>,
}

/// The source of a worker's requests.
pub enum RequestSource {
    /// An open workload's arrivals.
    Dispatcher(Dispatcher),
    /// A closed workload's users, which are the workers.
    Users(Users),
}

impl WorkerPool {
    /// Starts the workers of a shard of `job` and waits until each has its connection, if the plan opens connections
    /// before the load.
    pub async fn assemble<C: Client>(mut job: Job<C>, shard: Shard, control: &Control) -> Result<Self> {
        let plan = job.plan;
        let share = Share::of(&plan, shard);
        let workers = share.connections();
        let work = match &plan.model {
            Model::Open { affinity, .. } => {
                let (recorder, progress) = (job.recorder.clone(), control.progress.clone());
                let on_unsent = move |arrival: Arrival, only: Option<usize>| {
                    progress.gave_up();
                    recorder.borrow_mut().unsent(only, arrival.intended, arrival.handed);
                };
                let dispatcher = Dispatcher::new(share, *affinity, plan.timeout, Box::new(on_unsent));
                RequestSource::Dispatcher(dispatcher)
            }
            Model::Closed { .. } => RequestSource::Users(Users::default()),
        };
        let shared = Rc::new(Shared {
            deadlines: Deadlines::new(workers, plan.timeout),
            recorder: job.recorder,
            control: control.clone(),
            work,
            opening_fault: RefCell::default(),
            opened: Cell::new(0),
            plan,
            share,
        });
        let mut tasks = Tasks::default();
        match shared.plan.opening {
            // The run is over: another workload's connections could not be opened.
            Opening::Before(_) if control.is_cut() => {}
            Opening::Before(rate) => open_all(rate, &mut job.client, &shared, &mut tasks).await?,
            Opening::ByFirstRequest => {
                for worker in 0..workers {
                    tasks.start(work_on(worker, (job.client)(), shared.clone(), None));
                }
            }
        }
        Ok(Self { shared, workers: tasks })
    }

    /// Drives the load, from `start` of the run until the last answer is in or given up; returns readings of the
    /// generator at the edges of the measured window.
    pub fn load(&self, start: Moment) -> impl Future<Output = (GeneratorReading, GeneratorReading)> + use<> {
        let shared = self.shared.clone();
        async move {
            match &shared.work {
                RequestSource::Dispatcher(dispatcher) => open::load(&shared, dispatcher, start).await,
                RequestSource::Users(users) => closed::load(&shared, users, start).await,
            }
        }
    }

    /// Records each wake-up of the generator's timer, from `start` of the run until it is dropped, after the last
    /// answer: an answer that comes after the window still belongs to it. Runs among the workers, so that it waits for
    /// its turn as an answer does that came in at the same moment.
    pub fn watch(&self, start: Moment) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        async move {
            let mut due = start + shared.plan.starts_after;
            loop {
                sleep_until(due).await;
                let now = Moment::now();
                if matches!(shared.work, RequestSource::Users(_)) {
                    shared.control.progress.lagged(now.ns_since(due));
                }
                due = shared.recorder.borrow_mut().tick(due, now);
            }
        }
    }

    /// Ends the workers and returns the measurement.
    pub async fn dismiss(mut self, usage: ThreadUse) -> Measurement {
        match &self.shared.work {
            RequestSource::Dispatcher(dispatcher) => dispatcher.close(),
            RequestSource::Users(users) => users.end(),
        }
        self.workers.all_ended().await;
        self.shared.recorder.borrow_mut().finish(usage.into())
    }
}

impl Shared {
    /// Returns true if the run is to stop.
    pub fn stopped(&self) -> bool {
        self.control.stop.load(Ordering::Relaxed) || self.control.is_cut() || self.control.cut.is_finished()
    }

    /// Ends the window, if the run was ended by a limit, or because everything is over. Returns true if no arrival that
    /// waits is to be sent.
    pub fn end_early(&self) -> bool {
        if self.control.is_cut() {
            self.recorder.borrow_mut().cut(Moment::now());
            return true;
        }
        if self.control.cut.is_finished() {
            self.recorder.borrow_mut().end(Moment::now());
        }
        false
    }

    /// Returns true if this workload sends no more requests, measured or not.
    pub fn is_over(&self, now: Moment) -> bool {
        let recorder = self.recorder.borrow();
        now >= recorder.window_end() + self.plan.goes_on
    }

    /// Waits until `moment`, and ends requests past their deadline meanwhile; returns `false` if the run is to stop.
    pub async fn wait(&self, moment: Moment) -> bool {
        loop {
            if self.control.stop.load(Ordering::Relaxed) || self.control.is_cut() {
                return false;
            }
            let now = Moment::now();
            if now >= moment {
                return true;
            }
            // What is due is still sent: otherwise arrivals of the window would be missing that nobody counts.
            if self.control.cut.is_finished() {
                return false;
            }
            self.deadlines.sweep(now);
            let until = moment.min(now + SWEEP_EVERY);
            sleep_until(until).await;
        }
    }

    /// Waits until opening further connections is of no use, because the run is to stop or a connection was given up,
    /// and returns `true`; returns `false` once `last` has passed.
    async fn opening_is_over(&self, last: Moment) -> bool {
        while !self.stopped() && self.opening_fault.borrow().is_none() {
            if Moment::now() >= last {
                return false;
            }
            sleep(SWEEP_EVERY).await;
        }
        true
    }

    /// Enters the measuring stage: this workload's window has begun.
    pub fn measuring(&self) {
        self.control.progress.enter(Stage::Measuring);
    }

    /// Records that this workload's window is over.
    pub fn paced(&self) {
        self.control.progress.window_over();
    }

    /// Waits for the requests in flight to end, for as long as a request may take.
    pub async fn drain(&self, outstanding: impl Fn() -> u64) {
        let patience = Moment::now() + self.plan.timeout + SWEEP_EVERY;
        let stopped = || self.control.stop.load(Ordering::Relaxed);
        while outstanding() > 0 && Moment::now() < patience && !stopped() {
            sleep(Duration::from_millis(5)).await;
            self.deadlines.sweep(Moment::now());
        }
        if stopped() {
            self.recorder.borrow_mut().stop(Moment::now());
        }
    }
}

/// Starts the workers at the connect rate and waits until each has its connection.
async fn open_all<C: Client>(
    rate: Rate,
    client: &mut dyn FnMut() -> C,
    shared: &Rc<Shared>,
    workers: &mut Tasks,
) -> Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_OPENING));
    let start = Moment::now();
    let (shard, all) = (shared.share.shard(), shared.share.connections() as u64);
    let opening = async {
        for worker in 0..all {
            let at = start + Duration::from_nanos(rate.offset_ns(shard.number_of(worker)));
            sleep_until(at).await;
            // The semaphore is never closed.
            let permit = permits.clone().acquire_owned().await.expect("an open semaphore");
            workers.start(work_on(worker as usize, client(), shared.clone(), Some(permit)));
        }
        // Every permit is back once every worker has a connection or has given up.
        let _all = permits.acquire_many(MAX_OPENING as u32).await.expect("an open semaphore");
    };
    let patience = OPENING_PATIENCE.max(shared.plan.timeout * (OPEN_ATTEMPTS as u32 + 1));
    let last = start + Duration::from_nanos(rate.offset_ns(shard.number_of(all))) + patience;
    // Connections that are still being opened then are dropped with the workers.
    let in_time = tokio::select! {
        () = opening => true,
        in_time = shared.opening_is_over(last) => in_time,
    };
    let (opened, wanted) = (shared.opened.get(), all as usize);
    let whose = if shared.share.is_whole() { String::new() } else { format!(" of {shard}") };
    let hint = "lower --connect-rate or --connections, or check the system's limits and log";
    let why = match shared.opening_fault.take() {
        Some(fault) if fault.kind == FaultKind::Exhausted => {
            return Err(
                Error::new(format!("opened {opened} of {wanted} connections{whose}, then {fault}")).with_hint(hint)
            );
        }
        Some(fault) => fault.to_string(),
        None if shared.control.stop.load(Ordering::Relaxed) => {
            return Err(Error::new(format!(
                "stopped after opening {opened} of {wanted} connections{whose}: nothing was measured"
            )));
        }
        None if !in_time => format!("no further one within {:.0} s", (Moment::now() - start).as_secs_f64()),
        None => return Ok(()),
    };
    // The failed attempts are measured, and the load does not begin.
    shared.control.cut.end(Ended::NotOpened {
        opened: opened as u64,
        wanted: wanted as u64,
        why: if whose.is_empty() { format!("{why} ({hint})") } else { format!("{why}, in {shard} ({hint})") },
    });
    Ok(())
}

/// Runs one worker: opens its connection if `opening` is given, then sends one request after another.
async fn work_on<C: Client>(worker: usize, mut client: C, shared: Rc<Shared>, opening: Option<OwnedSemaphorePermit>) {
    if let Some(permit) = opening {
        // Boxed, like the close: an idle worker must not keep memory for what it does only once.
        let opened = Box::pin(connect(&mut client, &shared)).await;
        drop(permit);
        if !opened {
            return;
        }
    }
    match &shared.work {
        RequestSource::Dispatcher(dispatcher) => open::work(worker, &mut client, &shared, dispatcher).await,
        // An idle worker of the other kind has none of its memory.
        RequestSource::Users(users) => Box::pin(closed::work(worker, &mut client, &shared, users)).await,
    }
    Box::pin(client.close(CLOSE_PATIENCE)).await;
}

async fn connect<C: Client>(client: &mut C, shared: &Shared) -> bool {
    for attempt in 1..=OPEN_ATTEMPTS {
        let start = Moment::now();
        let patience = shared.plan.timeout;
        let opened = timeout(patience, client.open()).await;
        let opened =
            opened.unwrap_or_else(|_| Err(Fault::new(FaultKind::Connect, format!("not open within {patience:?}"))));
        match opened {
            Ok((record, phases)) => {
                shared.recorder.borrow_mut().opened(&record, &phases);
                shared.opened.set(shared.opened.get() + 1);
                shared.control.progress.connected();
                return true;
            }
            Err(fault) => {
                let mut recorder = shared.recorder.borrow_mut();
                recorder.not_opened(Outcome::Broken(fault.kind), Moment::now().ns_since(start));
                if attempt == OPEN_ATTEMPTS || shared.stopped() {
                    shared.opening_fault.borrow_mut().get_or_insert(fault);
                }
            }
        }
    }
    false
}

/// Sends the request of `arrival`, starting at `actual`, which is now, and records its result. In a box, so that the
/// memory of requests in flight is shared by all workers, and an idle one has none of it.
pub fn perform<'w, C: Client>(
    worker: usize,
    client: &'w mut C,
    arrival: Arrival,
    actual: Moment,
    shared: &'w Shared,
) -> Pin<Box<impl Future<Output = ()> + use<'w, C>>> {
    Box::pin(async move {
        let (done, own_part) = {
            let request = pin!(client.perform(arrival, actual));
            own_part::of(actual, pin!(shared.deadlines.guard(worker, actual, request))).await
        };
        let done = done.unwrap_or_else(|| {
            let unconnected = client.abandon();
            let (end, phases) = (Moment::now(), Phases::default());
            Completion { end, phases, outcome: Outcome::TimedOut, handshake: None, unconnected, answer_bytes: 0 }
        });
        let sample = Sample {
            step: arrival.planned.step,
            connection: worker,
            intended: arrival.intended,
            handed: arrival.handed,
            waited: arrival.waited,
            actual,
            end: done.end,
            own_ns: own_part.until(done.end),
            phases: done.phases,
            outcome: done.outcome,
            handshake: done.handshake,
            unconnected: done.unconnected,
            answer_bytes: done.answer_bytes,
        };
        shared.recorder.borrow_mut().record(&sample);
        shared.control.progress.count(sample.outcome, sample.response_ns());
        if matches!(shared.work, RequestSource::Dispatcher(_)) {
            shared.control.progress.lagged(sample.lag_ns());
        }
    })
}
