//! Brings the five words together: one scenario (what), under a plan (when), over the wire (how), at a target
//! (where), into a measurement (so what).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::clock::Moment;
use crate::error::{Context, Result};
use crate::load::open::{self, Client, Done, Hooks, Plan};
use crate::load::progress::Progress;
use crate::measure::{Measurement, Outcome, Recorder};
use crate::scenario::Scenario;
use crate::wire::connection::Stopwatch;
use crate::wire::tls::Handshake;
use crate::wire::{Connection, Dialer, Fault, Phases, Scratch};

/// A runtime for one generator thread.
///
/// # Errors
/// If the process is out of file descriptors.
pub fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        // How many tasks run before sockets and the pacer's timer are looked at again: the default of 61 would let a
        // burst of answers delay the next arrival by a millisecond or two.
        .event_interval(4)
        .build()
        .context(|| "starting the generator's runtime".to_owned())
}

/// Runs an open workload of one scenario and measures it, on the calling thread.
///
/// # Errors
/// If the run cannot start; what happens after that is measured, not reported as an error.
pub fn open_workload<S: Scenario>(
    scenario: &Rc<S>,
    dialer: &Dialer,
    plan: &Plan,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
) -> Result<Measurement> {
    let recorder = Rc::new(RefCell::new(Recorder::new(plan.window, plan.max_lag)));
    let scratch = Rc::new(RefCell::new(Vec::new()));
    let dialer = Rc::new(dialer.clone());
    let clients = std::iter::repeat_with(|| HttpClient {
        dialer: dialer.clone(),
        scenario: scenario.clone(),
        recorder: recorder.clone(),
        scratch: scratch.clone(),
        connection: None,
    });
    let hooks = Hooks { recorder: recorder.clone(), progress, stop };
    LocalSet::new().block_on(&runtime()?, open::run(plan, clients, hooks))
}

/// A client that asks a scenario's requests over one kept connection, and reconnects where that was lost.
struct HttpClient<S> {
    dialer: Rc<Dialer>,
    scenario: Rc<S>,
    recorder: Rc<RefCell<Recorder>>,
    /// Buffers that no request is using.
    scratch: Rc<RefCell<Vec<Scratch>>>,
    /// Boxed, so that moving the client about costs an idle worker nothing.
    connection: Option<Box<Connection>>,
}

impl<S: Scenario> Client for HttpClient<S> {
    async fn open(&mut self) -> Result<(Handshake, Phases), Fault> {
        let mut phases = Phases::default();
        // Boxed, so that an idle worker does not keep the room that a handshake needs.
        let connection = Box::pin(self.dialer.open(&mut Stopwatch::from(Moment::now()), &mut phases)).await?;
        let mut connection = Box::new(connection);
        let handshake = connection.handshake();
        self.connection = Box::pin(self.greet(&mut connection)).await?.then_some(connection);
        Ok((handshake, phases))
    }

    async fn perform(&mut self, seq: u64, start: Moment) -> Done {
        let mut scratch = self.scratch.borrow_mut().pop().unwrap_or_default();
        let mut watch = Stopwatch::from(start);
        let (mut phases, mut handshake) = (Phases::default(), None);
        let answered = self.ask(seq, &mut scratch, &mut watch, &mut phases, &mut handshake).await;
        let outcome = match (answered, scratch.response()) {
            (Ok(()), Some(response)) => {
                let outcome = self.scenario.judge(seq, start, &response);
                if outcome != Outcome::Ok {
                    self.recorder.borrow_mut().example(outcome, || describe(response.status, response.body));
                }
                outcome
            }
            // An exchange that ends well has a response.
            (Ok(()), None) => Outcome::Wrong,
            (Err(fault), _) => {
                self.connection = None;
                self.recorder.borrow_mut().fault(&fault);
                Outcome::Broken(fault.kind)
            }
        };
        self.scratch.borrow_mut().push(scratch);
        Done { end: watch.last(), phases, outcome, handshake }
    }

    fn abandon(&mut self) {
        self.connection = None;
    }

    async fn close(self, patience: Duration) {
        if let Some(connection) = self.connection {
            connection.close(patience).await;
        }
    }
}

impl<S: Scenario> HttpClient<S> {
    /// Asks the scenario's first request and returns whether the connection was kept. certctl closes a connection
    /// that asks nothing within 5 s, and one that has asked something only after 60 s of silence.
    async fn greet(&self, connection: &mut Connection) -> Result<bool, Fault> {
        let mut scratch = self.scratch.borrow_mut().pop().unwrap_or_default();
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        let method = self.scenario.greeting(&mut scratch.request);
        let kept = connection.exchange(method, &mut scratch, &mut watch, &mut phases).await;
        self.scratch.borrow_mut().push(scratch);
        kept
    }

    async fn ask(
        &mut self,
        seq: u64,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
        handshake: &mut Option<Handshake>,
    ) -> Result<(), Fault> {
        if let Some(connection) = &mut self.connection
            && connection.is_stale().await
        {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connection = Box::pin(self.dialer.open(watch, phases)).await?;
                *handshake = Some(connection.handshake());
                none.insert(Box::new(connection))
            }
        };
        let method = self.scenario.encode(seq, &mut scratch.request);
        if !connection.exchange(method, scratch, watch, phases).await? {
            self.connection = None;
        }
        Ok(())
    }
}

/// How much of a body is kept, in bytes: more than is shown, so that a secret is found whole before it is cut.
const EXAMPLE_BYTES: usize = 2_000;

/// A response in a line, for people: bounded and printable.
fn describe(status: u16, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(&body[..body.len().min(EXAMPLE_BYTES)])
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    format!("{status}: {}", text.trim())
}
