//! A workload divided among processes and threads: the parts of each, written and read, become one measurement.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::Duration;

use certctl_bench::clock::Moment;
use certctl_bench::database::DatabaseClient;
use certctl_bench::error::Result;
use certctl_bench::load::arrival::PlannedRequest;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::run::Control;
use certctl_bench::load::shard::Shard;
use certctl_bench::load::start_line::StartLine;
use certctl_bench::measure::Outcome;
use certctl_bench::measure::validity::Work;
use certctl_bench::run::{BoundWorkload, RunPart, Workload, merge, run_part};
use certctl_bench::scenario::divisible::Divisible;
use certctl_bench::scenario::{Claim, Scenario};
use certctl_bench::wire::Dialer;
use certctl_bench::wire::http1::Response;
use certctl_bench::wire::peer::Peer;
use certctl_bench::wire::request::{Method, encode};
use certctl_bench::wire::tls::{Trust, client_config};
use serde_json::Value;

use crate::common::peer::{Peer as ScriptedPeer, json};

const USERS: usize = 7;
const ROUNDS: u64 = 3;
const STEPS: [&str; 2] = ["first", "second"];
const REQUESTS: u64 = USERS as u64 * ROUNDS * STEPS.len() as u64;

/// Requests that are noted, by whichever instance sends them.
struct Noted {
    sent: Arc<Mutex<Vec<PlannedRequest>>>,
    right: Cell<u64>,
}

impl Scenario for Noted {
    fn title(&self) -> String {
        "noted requests".to_owned()
    }

    fn steps(&self) -> &'static [&'static str] {
        &STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        self.sent.lock().unwrap().push(planned);
        *request = encode(Method::Get, "/", "localhost", None, "");
        Method::Get
    }

    fn judge(&self, _planned: PlannedRequest, _start: Moment, _response: &Response<'_>) -> Outcome {
        self.right.set(self.right.get() + 1);
        Outcome::Ok
    }

    fn divisible(&self) -> Option<&dyn Divisible> {
        Some(self)
    }

    fn begin_check(&self, _database: &mut DatabaseClient) -> Result<()> {
        Ok(())
    }

    fn finish_check(&self, _unanswered: u64, _database: &mut DatabaseClient) -> Result<Vec<Work>> {
        Ok(Vec::new())
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "right answers", counter: "", claimed: self.right.get() }]
    }
}

impl Divisible for Noted {
    fn instance(&self) -> Box<dyn Scenario + Send> {
        Box::new(Self { sent: self.sent.clone(), right: Cell::new(0) })
    }

    fn notes(&self, _start: Moment) -> Value {
        self.right.get().into()
    }

    fn absorb(&self, notes: &Value, _start: Moment) -> Result<()> {
        self.right.set(self.right.get() + notes.as_u64().unwrap());
        Ok(())
    }
}

fn bound(peer: &ScriptedPeer, sent: &Arc<Mutex<Vec<PlannedRequest>>>) -> BoundWorkload {
    let config = client_config(&Trust::from_file(&peer.ca_file()).unwrap()).unwrap();
    let dialer = Dialer::new(peer.address(), "localhost".try_into().unwrap(), config);
    let plan = Plan {
        model: Model::Closed { think: Duration::ZERO, rounds: Some(ROUNDS) },
        steps: STEPS.len(),
        starts_after: Duration::ZERO,
        goes_on: Duration::ZERO,
        warm_up: Duration::ZERO,
        window: Duration::from_secs(300),
        connections: USERS,
        further: 0,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout: Duration::from_secs(60),
        max_lag: Duration::from_secs(10),
        rng_seed: 1,
        part: None,
    };
    BoundWorkload {
        workload: Workload { name: "noted", plan, thresholds: Vec::new() },
        scenario: Rc::new(Noted { sent: sent.clone(), right: Cell::new(0) }),
        peer: Arc::new(Peer::certctl(dialer, "localhost")),
        others: Vec::new(),
    }
}

#[test]
fn processes_with_threads_share_the_users_of_a_workload() {
    const PROCESSES: u64 = 2;
    let peer = ScriptedPeer::start(|_| json(200, "{}"));
    let sent = Arc::<Mutex<Vec<PlannedRequest>>>::default();
    let (barrier, agreed) = (Arc::new(Barrier::new(PROCESSES as usize)), Arc::new(OnceLock::new()));
    // Stand-ins for processes: all that they share is the start.
    let parts: Vec<String> = std::thread::scope(|scope| {
        let processes: Vec<_> = (0..PROCESSES)
            .map(|index| {
                let (peer, sent, barrier, agreed) = (&peer, &sent, barrier.clone(), agreed.clone());
                scope.spawn(move || {
                    let shards = Shard::new(index, PROCESSES).unwrap().threads(2).unwrap();
                    let start_line = StartLine::agreed(
                        2,
                        Box::new(move || {
                            barrier.wait();
                            Ok(*agreed.get_or_init(|| Moment::now() + Duration::from_millis(100)))
                        }),
                    );
                    let part = run_part(&[bound(peer, sent)], &shards, &start_line, &Control::default()).unwrap();
                    serde_json::to_string(&part).unwrap()
                })
            })
            .collect();
        processes.into_iter().map(|process| process.join().unwrap()).collect()
    });
    let parts: Vec<RunPart> = parts.iter().map(|part| serde_json::from_str(part).unwrap()).collect();
    let whole = bound(&peer, &sent);
    let merged = merge(std::slice::from_ref(&whole), parts, *agreed.get().unwrap()).unwrap().remove(0);
    merged.check().unwrap();
    assert_eq!((merged.scheduled, merged.outcomes.count(Outcome::Ok)), (REQUESTS, REQUESTS));
    assert_eq!(merged.steps.iter().map(|step| step.response.count()).collect::<Vec<_>>(), [REQUESTS / 2; 2]);
    assert_eq!((merged.opening.tls.count(), merged.generator.threads()), (USERS as u64, 4));
    assert_eq!(whole.scenario.claims()[0].claimed, REQUESTS);

    // Each user made its rounds, once, under numbers that no other request has.
    let sent = sent.lock().unwrap();
    let mut of_users = BTreeMap::<(u64, usize), u64>::new();
    sent.iter().for_each(|planned| *of_users.entry((planned.client, planned.step)).or_default() += 1);
    assert_eq!(of_users.len(), USERS * STEPS.len());
    assert!(of_users.iter().all(|((user, _), rounds)| *user < USERS as u64 && *rounds == ROUNDS), "{of_users:?}");
    assert_eq!(sent.iter().map(|planned| planned.seq).collect::<BTreeSet<_>>().len() as u64, REQUESTS);
}

#[test]
fn parts_of_another_run_are_not_merged() {
    let peer = ScriptedPeer::start(|_| json(200, "{}"));
    let sent = Arc::<Mutex<Vec<PlannedRequest>>>::default();
    let one = bound(&peer, &sent);
    let part = || {
        let (shards, start_line) = ([Shard::WHOLE], StartLine::of(1));
        run_part(std::slice::from_ref(&one), &shards, &start_line, &Control::default()).unwrap()
    };
    let mut other = part();
    other.measurements[0].settings.warm_up = Duration::from_secs(3);
    let refused = |parts| merge(std::slice::from_ref(&one), parts, Moment::now()).unwrap_err().to_string();
    let different = refused(vec![part(), other]);
    assert!(different.contains("the warm-up is 0ns in one and 3s in another"), "{different}");
    let mut empty = part();
    empty.measurements.clear();
    assert!(refused(vec![part(), empty]).contains("a part of 0 workloads into a run of 1"));
    assert!(refused(Vec::new()).contains("there is none"));
}
