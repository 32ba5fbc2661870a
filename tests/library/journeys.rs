//! Journeys through the front door: a driver, real connections to two scripted peers, and the samples of each step.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use certctl_bench::clock::Moment;
use certctl_bench::database::DatabaseClient;
use certctl_bench::error::Result;
use certctl_bench::load::arrival::PlannedRequest;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::run::Control;
use certctl_bench::load::shard::Shard;
use certctl_bench::measure::validity::Work;
use certctl_bench::measure::{Measurement, Outcome};
use certctl_bench::run::{BoundWorkload, Workload, run};
use certctl_bench::scenario::journey::{Journey, Journeys, Next, StepProgress, Task};
use certctl_bench::scenario::{Claim, Scenario};
use certctl_bench::wire::handshake::Record;
use certctl_bench::wire::http1::Response;
use certctl_bench::wire::peer::{Connections, Peer};
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::{Trust, client_config};
use certctl_bench::wire::{Dialer, FaultKind};

use crate::common::peer::{Peer as ScriptedPeer, Reply, Request, Step, json};

const USERS: usize = 3;
const POLL: usize = 0;
const TASK: usize = 1;
const SHOWN: usize = 2;

/// A poll until the answer says "ready", a task, and a handshake with the second peer.
struct PollTaskShown {
    /// The task of one journey, if it is not the short one of the others.
    task: RefCell<Option<Task>>,
    longest_request: Option<Duration>,
}

struct OnTheWay {
    step: usize,
    polled: bool,
    task: Option<Task>,
    longest_request: Option<Duration>,
}

impl Scenario for PollTaskShown {
    fn title(&self) -> String {
        "journeys of three steps".to_owned()
    }

    fn steps(&self) -> &'static [&'static str] {
        &["poll", "task", "shown"]
    }

    fn encode(&self, _planned: PlannedRequest, _request: &mut Vec<u8>) -> Method {
        unreachable!("its arrivals begin journeys")
    }

    fn judge(&self, _planned: PlannedRequest, _start: Moment, _response: &Response<'_>) -> Outcome {
        unreachable!("its arrivals begin journeys")
    }

    fn journeys(&self) -> Option<&dyn Journeys> {
        Some(self)
    }

    fn begin_check(&self, _database: &mut DatabaseClient) -> Result<()> {
        Ok(())
    }

    fn finish_check(&self, _unanswered: u64, _database: &mut DatabaseClient) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    fn claims(&self) -> Vec<Claim> {
        Vec::new()
    }
}

impl Journeys for PollTaskShown {
    fn begin(&self, _planned: PlannedRequest, _start: Moment) -> Box<dyn Journey> {
        let (task, longest_request) = (self.task.take(), self.longest_request);
        Box::new(OnTheWay { step: POLL, polled: false, task, longest_request })
    }
}

impl OnTheWay {
    fn done(&mut self) -> StepProgress {
        self.step += 1;
        StepProgress::Done
    }
}

impl Journey for OnTheWay {
    fn step(&self) -> usize {
        self.step
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Next {
        match self.step {
            POLL if std::mem::take(&mut self.polled) => Next::Pause(Duration::from_millis(20)),
            POLL => {
                *request = encode(Method::Get, "/poll", "localhost", None, "");
                Next::Send(0, Method::Get)
            }
            TASK => Next::Run(self.task.take().unwrap_or_else(|| {
                Box::new(|| {
                    std::thread::sleep(Duration::from_millis(30));
                    Ok(())
                })
            })),
            SHOWN => Next::Connect(1),
            _ => Next::End,
        }
    }

    fn answered(&mut self, _sent: Moment, _end: Moment, response: &Response<'_>) -> StepProgress {
        self.polled = true;
        match response.body {
            b"ready" => self.done(),
            b"not yet" => StepProgress::Continues,
            _ => StepProgress::Failed(Outcome::Wrong, "it is neither ready nor not".to_owned()),
        }
    }

    fn longest_request(&self) -> Option<Duration> {
        self.longest_request
    }

    fn ran(&mut self, result: Result<(), String>) -> StepProgress {
        assert_eq!(result, Ok(()));
        self.done()
    }

    fn connected(&mut self, record: &Record) -> StepProgress {
        assert_ne!(record.certificate, 0);
        self.done()
    }
}

fn peer_of(address: std::net::SocketAddr, ca_file: &Path) -> Peer {
    let trust = Trust::from_file(ca_file).unwrap();
    let config = client_config(&trust).unwrap();
    let dialer = Dialer::new(address, "localhost".try_into().unwrap(), config);
    Peer { dialers: vec![dialer], connections: Connections::PerArrival }
}

/// Runs a journey of each user, at a first peer with this script and at a second one.
fn travel(
    script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    second: &Peer2,
    timeout: Duration,
) -> Measurement {
    travel_with(None, None, script, second, timeout)
}

/// Does the same with another task for one of the journeys, and with a bound on each request.
fn travel_with(
    task: Option<Task>,
    longest_request: Option<Duration>,
    script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    second: &Peer2,
    timeout: Duration,
) -> Measurement {
    let first = ScriptedPeer::start(script);
    let plan = Plan {
        model: Model::Closed { think: Duration::ZERO, rounds: Some(1) },
        steps: 1,
        starts_after: Duration::ZERO,
        goes_on: Duration::ZERO,
        warm_up: Duration::ZERO,
        window: Duration::from_secs(60),
        connections: USERS,
        further: USERS,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout,
        max_lag: Duration::from_secs(10),
        rng_seed: 1,
        part: None,
    };
    let bound = BoundWorkload {
        workload: Workload { name: "journeys", plan, thresholds: Vec::new() },
        scenario: Rc::new(PollTaskShown { task: RefCell::new(task), longest_request }),
        peer: Arc::new(peer_of(first.address(), &first.ca_file())),
        others: vec![Arc::new(second.peer())],
    };
    run(&[bound], &[Shard::WHOLE], &Control::default()).unwrap().remove(0)
}

/// The second peer, which only shakes hands.
struct Peer2 {
    scripted: ScriptedPeer,
    is_there: bool,
}

impl Peer2 {
    fn start() -> Self {
        Self { scripted: ScriptedPeer::start(|_| json(500, "")), is_there: true }
    }

    fn peer(&self) -> Peer {
        let mut address = self.scripted.address();
        if !self.is_there {
            // Nobody speaks tcpmux any more.
            address.set_port(1);
        }
        peer_of(address, &self.scripted.ca_file())
    }
}

/// Says "not yet" twice on each connection, and then this.
fn after_two(last: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync {
    let counts = std::sync::Mutex::new(std::collections::HashMap::new());
    move |request| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(request.connection).or_insert(0);
        *count += 1;
        json(200, if *count <= 2 { "not yet" } else { last })
    }
}

const LONG: Duration = Duration::from_secs(60);

/// Returns for each step the number of journeys that came to it, and the outcomes.
fn outcomes(measurement: &Measurement) -> Vec<(u64, Vec<(Outcome, u64)>)> {
    measurement.steps.iter().map(|step| (step.scheduled, step.outcomes.sorted())).collect()
}

#[test]
fn the_steps_of_a_journey_add_up_to_it() {
    let measurement = travel(after_two("ready"), &Peer2::start(), LONG);
    let ok = (3, vec![(Outcome::Ok, 3)]);
    assert_eq!(outcomes(&measurement), [ok.clone(), ok.clone(), ok], "{:?}", measurement.examples);
    assert_eq!((measurement.scheduled, measurement.outcomes.sorted()), (3, vec![(Outcome::Ok, 3)]));
    let sum: f64 = measurement.steps.iter().map(|step| step.response.mean_ns().unwrap()).sum();
    let whole = measurement.response.mean_ns().unwrap();
    // Histograms keep values to within a thousandth.
    assert!((sum / whole - 1.0).abs() < 0.003, "{sum} {whole}");
    let at_least = |step: usize, ms: u64| assert!(measurement.steps[step].response.min_ns().unwrap() >= ms * 999_000);
    at_least(POLL, 40);
    at_least(TASK, 30);
    // One connection to each peer, a full handshake: the first is opened before the load.
    assert_eq!((measurement.opening.kinds.total(), measurement.reopening.kinds.total()), (3, 3));
    assert_eq!(measurement.reopening.undeclared, 0);
}

#[test]
fn a_failed_step_ends_its_journey() {
    let measurement = travel(after_two("what?"), &Peer2::start(), LONG);
    let none = (0, Vec::new());
    assert_eq!(outcomes(&measurement), [(3, vec![(Outcome::Wrong, 3)]), none.clone(), none]);
    assert_eq!(measurement.outcomes.sorted(), [(Outcome::Wrong, 3)]);
    let (_, example) = &measurement.examples[0];
    assert_eq!(example, "200, but it is neither ready nor not: what?");
}

#[test]
fn a_step_without_an_answer_times_out_with_its_journey() {
    let measurement = travel(|_| vec![Step::Silence], &Peer2::start(), Duration::from_millis(300));
    assert_eq!(outcomes(&measurement)[POLL], (3, vec![(Outcome::TimedOut, 3)]));
    assert_eq!(outcomes(&measurement)[TASK], (0, Vec::new()));
    assert_eq!(measurement.outcomes.sorted(), [(Outcome::TimedOut, 3)]);
    assert_eq!(measurement.reopening.failed.total(), 0);
}

#[test]
fn a_request_that_its_client_gives_up_has_timed_out() {
    let (longest, began) = (Some(Duration::from_millis(300)), Moment::now());
    let measurement = travel_with(None, longest, |_| vec![Step::Silence], &Peer2::start(), LONG);
    // Otherwise the end of the whole journey's time would end it.
    assert!(Moment::now() - began < LONG);
    assert_eq!(outcomes(&measurement)[POLL], (3, vec![(Outcome::TimedOut, 3)]));
    assert_eq!(outcomes(&measurement)[TASK], (0, Vec::new()));
    assert_eq!((measurement.outcomes.sorted(), measurement.unanswered), (vec![(Outcome::TimedOut, 3)], 3));
    assert_eq!(measurement.reopening.failed.total(), 0);
}

#[test]
fn a_peer_that_is_away_breaks_the_step_that_needs_it() {
    let measurement = travel(after_two("ready"), &Peer2 { is_there: false, ..Peer2::start() }, LONG);
    let refused = Outcome::Broken(FaultKind::Connect);
    assert_eq!(outcomes(&measurement)[SHOWN], (3, vec![(refused, 3)]));
    assert_eq!(measurement.outcomes.sorted(), [(refused, 3)]);
    assert_eq!(measurement.reopening.failed.sorted(), [(refused, 3)]);
}

#[test]
fn a_task_that_hangs_does_not_hold_up_the_end_of_a_run() {
    let (release, held) = channel::<()>();
    let ended = Arc::new(AtomicBool::new(false));
    let by_task = ended.clone();
    // It ends once it is released, or after a time that is far beyond the run's.
    let task: Task = Box::new(move || {
        let _ = held.recv_timeout(LONG);
        by_task.store(true, Ordering::SeqCst);
        Ok(())
    });
    let measurement = travel_with(Some(task), None, after_two("ready"), &Peer2::start(), Duration::from_secs(2));
    assert!(!ended.load(Ordering::SeqCst), "the run waited for the task");
    drop(release);
    assert!(measurement.outcomes.count(Outcome::TimedOut) >= 1, "{:?}", outcomes(&measurement));
}
