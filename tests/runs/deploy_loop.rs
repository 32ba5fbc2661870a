//! `deploy_loop` from its front door: at the reference server with real daemons, and at a scripted certctl that signs.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certctl_bench::event_loop::EventLoop;
use certctl_bench::load::dispatcher::Affinity;
use certctl_bench::load::plan::{Model, Opening, Plan};
use certctl_bench::load::rate::Rate;
use certctl_bench::load::run::Control;
use certctl_bench::load::schedule::Pattern;
use certctl_bench::load::shard::Shard;
use certctl_bench::measure::{Measurement, Outcome};
use certctl_bench::provision::pki::Identity;
use certctl_bench::run::{BoundWorkload, Workload, run};
use certctl_bench::scenario::Scenario as _;
use certctl_bench::scenario::connector_kind::ConnectorKind;
use certctl_bench::scenario::deploy_loop::{AgentFleet, DaemonTarget, DeployLoop, STEPS};
use certctl_bench::wire::peer::{Connections, Peer as LoadedPeer};
use certctl_bench::wire::tls::{Trust, client_config};
use certctl_bench::wire::{Connection, Dialer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SignatureAlgorithm,
};
use rustix::process::Resource;
use serde_json::{Value, json};

use crate::common::bench::{Bench, Finished};
use crate::common::needs::{Program, needs};
use crate::common::peer::{Peer, Reply, Request, TOKEN, certctl, json as answered};
use crate::common::process::limit;
use crate::common::summary::{
    assert_schema, assert_work, assert_work_by, measured, observed, outcome, outcome_of, results, threshold,
};

/// Few loops, soon done: they test what happens, not how fast.
const SHORT: &str = "--rate 10/s --duration 2s --warm-up 500ms --poll-every 50ms --agents 21";

fn bench(arguments: &str) -> Bench {
    Bench::named("deploy_loop", SHORT).arguments(arguments).measured()
}

/// Returns the results of a step.
fn step<'a>(summary: &'a Value, name: &str) -> &'a Value {
    let steps = results(summary)["steps"].as_array().unwrap();
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {steps:?}"))
}

fn came_to(summary: &Value, name: &str) -> u64 {
    step(summary, name)["scheduled"].as_u64().unwrap()
}

/// Returns the kinds of daemon that this machine has. The mock of an F5 is always there.
fn daemons() -> BTreeSet<&'static str> {
    let programs = [("nginx", Program::Nginx), ("apache", Program::Apache), ("haproxy", Program::Haproxy)];
    let installed = programs.into_iter().filter(|(_, program)| program.lack().is_none()).map(|(name, _)| name);
    installed.chain(["f5"]).collect()
}

#[test]
fn loops_reach_every_installed_daemon() {
    needs!(Postgresql);
    let finished = bench("").run().worked();
    let summary = finished.summary();
    assert_schema(&summary);
    let [("deploy_loop", results)] = measured(&summary)[..] else { panic!("{summary:#}") };
    assert_eq!(outcome(&summary, "ok"), 20, "{}", finished.stdout);
    // 25 loops with the warm-up, of 21 agents in turn: the first four have two each.
    let deployed = daemons().len() as u64 * 2;
    assert_work(
        results,
        &[
            ("renewal jobs", 25),
            ("renewal jobs completed", 25),
            ("certificate versions", 25),
            ("deployment jobs completed", 25),
            ("certificates served whose version is there", deployed),
        ],
    );
    for name in ["renew", "job seen", "csr signed", "deployment seen", "fetch", "report"] {
        assert_eq!((came_to(&summary, name), outcome_of(step(&summary, name), "ok")), (20, 20), "{name}");
    }
    // The warm-up has 5 arrivals: of the first four agents it is their first loop.
    assert_eq!((came_to(&summary, "install"), came_to(&summary, "served")), (deployed / 2, deployed / 2));
    for daemon in daemons() {
        let name = if daemon == "f5" { "the F5" } else { daemon };
        observed(results, &format!("longest time from an installation until {name} showed the certificate"));
        assert!(finished.stdout.contains(&format!("agents deploy to {daemon} ")), "{}", finished.stdout);
    }
    // The steps of each loop add up to it; histograms keep values to within a thousandth.
    let sum_us = |one: &Value| {
        let response = &one["response"];
        response["count"].as_f64().unwrap() * response["mean_us"].as_f64().unwrap_or(0.0)
    };
    let steps_us: f64 = STEPS.iter().map(|name| sum_us(step(&summary, name))).sum();
    assert!((steps_us / sum_us(&results["latency"]) - 1.0).abs() < 0.003, "{steps_us} {results:#}");
}

#[test]
fn a_server_in_memory_counts_the_work_itself() {
    let finished = bench("--deploy-to none --in-memory").run().worked();
    let summary = finished.summary();
    let kinds = ["renewal jobs", "polls answered", "signing requests signed", "deployment jobs completed"];
    let found = |name: &str| {
        let work = results(&summary)["work"].as_array().unwrap();
        work.iter().find(|one| one["name"] == name).unwrap()["found"].as_u64().unwrap()
    };
    assert_eq!(kinds.map(|kind| found(kind).min(26)), [25, 26, 25, 25], "{}", finished.stdout);
    assert_work_by("the reference server's own count", results(&summary), &kinds.map(|kind| (kind, found(kind))));
    assert_eq!((came_to(&summary, "fetch"), came_to(&summary, "install")), (20, 0));
    assert!(finished.stdout.contains("all of which verify what they fetch"), "{}", finished.stdout);
}

#[test]
fn connections_to_daemons_need_descriptors_too() {
    // Those of 21 agents and of 2 daemons, and those that wait for the daemons to close.
    let limited = |arguments: &str, hard: u64| {
        let mut bench = bench(arguments);
        limit(&mut bench.command, Resource::Nofile, Some(hard), Some(hard));
        bench.refused(1).messages()
    };
    assert_eq!(
        limited("--deploy-to nginx,f5", 150),
        "error: 23 connections, and 64 that wait for their peer to close, need 151 file descriptors; the hard limit \
         (RLIMIT_NOFILE) is 150\nhint: run ulimit -Hn 151 as root before the run, or lower --agents\n"
    );
    let needed = "error: 21 connections need 85 file descriptors; the hard limit (RLIMIT_NOFILE) is 84\n";
    assert!(limited("--deploy-to none", 84).starts_with(needed));
}

#[test]
fn daemons_and_none_are_a_usage_error() {
    let refused = bench("--deploy-to none,nginx").refused(2);
    assert_eq!(
        refused.messages(),
        "error: --deploy-to names daemons and none at once\nhint: leave `none` out, or the daemons\n"
    );
    let refused = Bench::named("deploy_loop", "--rate 10/s --agents 5").measured().refused(2);
    assert!(
        refused.messages().starts_with("error: 5 agents cannot begin loops at this rate")
            && refused.messages().contains("so that 40 are needed\nhint: "),
        "{}",
        refused.stderr
    );
    let few = "--rate 1/s --poll-every 100ms --agents 3 --deploy-to nginx,apache,haproxy,f5";
    assert_eq!(
        Bench::named("deploy_loop", few).measured().refused(2).messages(),
        "error: 3 agents cannot deploy to 4 daemons: each has one at most\n\
         hint: raise --agents, or name fewer daemons with --deploy-to\n"
    );
    let refused = Bench::named("deploy_loop", "--rate 10000/s --duration 1m --agents 99999").measured().refused(2);
    assert!(refused.messages().starts_with("error: more than 200000 loops: "), "{}", refused.stderr);
}

#[test]
fn certificates_that_are_not_seeded_are_reported() {
    let peer = Peer::start(|request| match request.path.as_str() {
        "/api/v1/auth/check" => granted(),
        path if path.starts_with("/api/v1/certificates/") => answered(404, r#"{"message":"Certificate not found"}"#),
        _ => certctl(request),
    });
    let refused = bench("--deploy-to none").towards_peer(&peer).refused(1);
    assert!(
        refused.messages().ends_with(
            ": certificate 21 of those that agents deploy is not seeded (404: Certificate not found)\n\
             hint: run `certctl-bench seed --deployments 21 --database URL` with the URL of certctl's own database\n"
        ),
        "{}",
        refused.stderr
    );
    // At such a rate two agents would do, but each of the four daemons has one.
    let slow = Bench::named("deploy_loop", "--rate 30/m --poll-every 100ms").measured();
    let messages = slow.towards_peer(&peer).refused(1).messages();
    assert!(messages.contains(": certificate 4 of those that agents deploy is not seeded"), "{messages}");
}

#[test]
fn a_certctl_that_runs_already_gets_the_advice() {
    let certctl = Arc::new(Signing::default());
    let finished = certctl.load("").worked();
    assert!(finished.stderr.contains("CERTCTL_SCHEDULER_JOB_PROCESSOR_INTERVAL=24h"), "{}", finished.stderr);
    assert_eq!(outcome(&finished.summary(), "ok"), 20);
}

#[test]
fn a_certificate_for_another_key_is_a_wrong_answer() {
    let certctl = Arc::new(Signing { signs: Signs::AnotherKey, ..Signing::default() });
    let finished = certctl.load("").exits(3);
    let summary = finished.summary();
    assert_eq!((outcome(&summary, "wrong answer"), outcome(&summary, "ok")), (20, 0));
    assert_eq!(outcome_of(step(&summary, "fetch"), "wrong answer"), 20);
    assert_eq!(came_to(&summary, "report"), 0);
    assert!(finished.stdout.contains("its certificate is for another key"), "{}", finished.stdout);
}

#[test]
fn the_same_certificate_again_is_a_wrong_answer() {
    // Agents have one or two loops: the second of each gets the certificate of the first.
    let certctl = Arc::new(Signing { signs: Signs::Once, ..Signing::default() });
    let summary = certctl.load("").exits(3).summary();
    assert_eq!(outcome_of(step(&summary, "fetch"), "wrong answer"), 4);
}

#[test]
fn jobs_of_others_are_passed_over_and_reported() {
    let certctl = Arc::new(Signing { strays: true, ..Signing::default() });
    let finished = certctl.load("").worked();
    let summary = finished.summary();
    assert_eq!(outcome(&summary, "ok"), 20, "{}", finished.stdout);
    // Each of the 21 agents sees the same stray job in each of its polls, and counts it once.
    assert_eq!(observed(results(&summary), "jobs of other certificates that polls showed")["count"], 21);
}

#[test]
fn a_failed_signature_ends_its_loop_and_forces_the_next() {
    let certctl = Arc::new(Signing { refuses_first: true, ..Signing::default() });
    let finished = certctl.load("").exits(3);
    let summary = finished.summary();
    assert_eq!(threshold(&summary, "errors")["passed"], false);
    // Four agents have their second loop in the window.
    assert_eq!((outcome(&summary, "failed (500)"), outcome(&summary, "ok")), (16, 4), "{}", finished.stdout);
    assert_eq!(outcome_of(step(&summary, "csr signed"), "failed (500)"), 16);
    let state = certctl.state.lock().unwrap();
    // Without a database the first loop of each of the 21 agents is forced too.
    assert_eq!((state.forced, state.refused_in_progress), (21 + 4, 0));
}

/// The time in which any machine comes to the last step but one.
const AMPLE: Duration = Duration::from_secs(15);

/// Runs one loop of one agent, whose daemon is this peer, at a certctl that signs.
fn deploy_to(daemon: &Peer, initial: u64, timeout: Duration) -> (Measurement, DeployLoop) {
    let certctl = Arc::new(Signing::default());
    let server = certctl.clone().start();
    let plan = Plan {
        model: Model::Open { pattern: Pattern::Constant(Rate::per_second(1)), clients: 1, affinity: Affinity::Own },
        steps: 1,
        starts_after: Duration::ZERO,
        goes_on: Duration::ZERO,
        warm_up: Duration::ZERO,
        window: Duration::from_secs(1),
        connections: 1,
        further: 1,
        opening: Opening::Before(Rate::per_second(1_000)),
        timeout,
        max_lag: Duration::from_millis(100),
        rng_seed: 1,
        part: None,
    };
    let fleet = AgentFleet { agents: 1, poll_every: Duration::from_millis(20) };
    // It takes the certificate and keeps showing its own.
    let install = Arc::new(|_: &Identity| Ok(()));
    let target = DaemonTarget { kind: ConnectorKind::Nginx, install, initial };
    let scenario = Rc::new(DeployLoop::new(fleet, vec![target], &[0], "localhost", TOKEN).unwrap());
    let trust = Trust::from_file(&server.ca_file()).unwrap();
    let peer = |address, trust: &Trust, connections| {
        let dialer = Dialer::new(address, "localhost".try_into().unwrap(), client_config(trust).unwrap());
        Arc::new(LoadedPeer { dialers: vec![dialer], connections })
    };
    let bound = BoundWorkload {
        workload: Workload { name: "deploy_loop", plan, thresholds: Vec::new() },
        scenario: scenario.clone(),
        peer: peer(server.address(), &trust, Connections::Kept(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n".to_vec())),
        others: vec![peer(daemon.address(), &Trust::Insecure, Connections::PerArrival)],
    };
    let measurement = run(&[bound], &[Shard::WHOLE], &Control::default()).unwrap().remove(0);
    let scenario = Rc::into_inner(scenario).expect("the run is over");
    (measurement, scenario)
}

/// Returns the id of the certificate that a peer shows.
fn shown(peer: &Peer) -> u64 {
    let config = client_config(&Trust::Insecure).unwrap();
    let dialer = Dialer::new(peer.address(), "localhost".try_into().unwrap(), config);
    let (mut watch, mut phases) =
        (certctl_bench::wire::connection::Stopwatch::from(certctl_bench::clock::Moment::now()), Default::default());
    let connection: Connection = EventLoop::new().unwrap().block_on(dialer.open(&mut watch, &mut phases)).unwrap();
    connection.record().certificate
}

#[test]
fn a_daemon_that_keeps_its_old_certificate_times_out() {
    let daemon = Peer::start(|_| Vec::new());
    let (measurement, scenario) = deploy_to(&daemon, shown(&daemon), AMPLE);
    assert_eq!(measurement.outcomes.sorted(), [(Outcome::TimedOut, 1)], "{:?}", measurement.examples);
    let served = STEPS.iter().position(|name| *name == "served").unwrap();
    assert_eq!(measurement.steps[served].outcomes.sorted(), [(Outcome::TimedOut, 1)]);
    assert_eq!(measurement.steps[served + 1].scheduled, 0);
    assert!(scenario.broken_rules().is_empty());
    let observed: Vec<String> = scenario.observations(&measurement).iter().map(ToString::to_string).collect();
    assert!(observed[0].starts_with("full handshakes that still showed an earlier certificate: "), "{observed:?}");
}

#[test]
fn a_certificate_of_nobody_is_a_breach() {
    let daemon = Peer::start(|_| Vec::new());
    let (_, scenario) = deploy_to(&daemon, shown(&daemon) ^ 1, AMPLE);
    let broken: Vec<String> = scenario.broken_rules().iter().map(ToString::to_string).collect();
    assert!(broken[0].contains("full handshakes showed a certificate that certctl did not hand out"), "{broken:?}");
}

/// The certificates that a scripted certctl signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Signs {
    /// One for each request.
    #[default]
    Each,
    /// One with a key of its own.
    AnotherKey,
    /// The first of each agent, which it hands out again and again.
    Once,
}

/// A scripted certctl that renews, signs and deploys.
struct Signing {
    signs: Signs,
    /// Each poll shows a job of another certificate too.
    strays: bool,
    /// The first signing request of each agent is refused.
    refuses_first: bool,
    authority: CertifiedIssuer<'static, KeyPair>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: u64,
    /// By the number of the agent and its certificate.
    rows: BTreeMap<String, Row>,
    forced: u64,
    refused_in_progress: u64,
}

#[derive(Default)]
struct Row {
    in_renewal: bool,
    has_submitted: bool,
    awaiting: Vec<u64>,
    pending: Vec<u64>,
    certificate: Option<String>,
}

impl Default for Signing {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { signs: Signs::Each, strays: false, refuses_first: false, authority, state: Mutex::default() }
    }
}

/// A public key on P-256.
struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Returns the public key of a signing request. Before its 65 bytes there are the algorithm and the length, which all
/// such keys share (RFC 5480).
fn public_key(csr_pem: &str) -> PublicKey {
    let lines: String = csr_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(lines).unwrap();
    const HEAD: [u8; 13] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3, 0x42, 0];
    let at = der.windows(HEAD.len()).position(|window| window == HEAD).expect("a key on P-256") + HEAD.len();
    PublicKey(der[at..at + 65].to_vec())
}

fn granted() -> Reply {
    let permissions = ["cert.issue", "agent.job.poll", "cert.read", "agent.job.complete"];
    let each: Vec<Value> = permissions.iter().map(|permission| json!({ "permission": permission })).collect();
    answered(200, &json!({"user": "u", "effective_permissions": each}).to_string())
}

impl Signing {
    fn start(self: Arc<Self>) -> Peer {
        Peer::start(move |request| self.answer(request))
    }

    fn load(self: &Arc<Self>, arguments: &str) -> Finished {
        let peer = self.clone().start();
        bench("--deploy-to none").arguments(arguments).towards_peer(&peer).run()
    }

    fn answer(&self, request: &Request) -> Reply {
        let parts: Vec<&str> = request.path.trim_start_matches("/api/v1/").split(['/', '?']).collect();
        let mut state = self.state.lock().unwrap();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["auth", "check"]) => granted(),
            ("GET", ["certificates", id]) => answered(200, &json!({"id": id, "status": "Active"}).to_string()),
            ("POST", ["certificates", id, "renew", force @ ..]) => state.renew(number(id), force == ["force=true"]),
            ("GET", ["agents", id, "work"]) => self.work(&mut state, number(id)),
            ("POST", ["agents", id, "csr"]) => self.sign(&mut state, number(id), &request.body),
            ("GET", ["agents", _, "certificates", id]) => {
                let pem = state.rows[number(id)].certificate.clone().unwrap_or_default();
                answered(200, &json!({ "certificate_pem": pem }).to_string())
            }
            ("POST", ["agents", _, "jobs", _, "status"]) => answered(200, r#"{"status":"updated"}"#),
            _ => certctl(request),
        }
    }

    fn work(&self, state: &mut State, number: &str) -> Reply {
        let row = state.rows.entry(number.to_owned()).or_default();
        let item = |job: u64, kind: &str, status: &str| {
            json!({"id": format!("job-{job}"), "type": kind, "certificate_id": format!("cert-loadtest-deploy-{number}"),
                   "status": status})
        };
        let mut jobs: Vec<Value> =
            std::mem::take(&mut row.pending).into_iter().map(|job| item(job, "Deployment", "Running")).collect();
        jobs.extend(row.awaiting.iter().map(|job| item(*job, "Renewal", "AwaitingCSR")));
        if self.strays {
            jobs.push(json!({"id": "stray", "type": "Renewal", "certificate_id": "mc-1", "status": "AwaitingCSR"}));
        }
        answered(200, &json!({"count": jobs.len(), "jobs": jobs}).to_string())
    }

    fn sign(&self, state: &mut State, number: &str, body: &str) -> Reply {
        let row = state.rows.get_mut(number).unwrap();
        if self.refuses_first && !std::mem::replace(&mut row.has_submitted, true) {
            return answered(500, r#"{"error":"Internal Server Error","message":"Failed to submit CSR"}"#);
        }
        let body: Value = serde_json::from_str(body).unwrap();
        let key = match self.signs {
            Signs::AnotherKey => PublicKey(KeyPair::generate().unwrap().der_bytes().to_vec()),
            _ => public_key(body["csr_pem"].as_str().unwrap()),
        };
        let name = format!("loadtest-deploy-{number}.example.test");
        let leaf = CertificateParams::new([name]).unwrap().signed_by(&key, &self.authority).unwrap();
        state.jobs += 1;
        let job = state.jobs;
        let row = state.rows.get_mut(number).unwrap();
        if self.signs != Signs::Once || row.certificate.is_none() {
            row.certificate = Some(leaf.pem() + &self.authority.pem());
        }
        row.in_renewal = false;
        row.awaiting.remove(0);
        row.pending.push(job);
        answered(202, r#"{"status":"csr_signed"}"#)
    }
}

/// Returns the digits at the end of an id.
fn number(id: &str) -> &str {
    id.rsplit('-').next().unwrap()
}

impl State {
    fn renew(&mut self, number: &str, force: bool) -> Reply {
        self.jobs += 1;
        self.forced += u64::from(force);
        let (job, row) = (self.jobs, self.rows.entry(number.to_owned()).or_default());
        if row.in_renewal && !force {
            self.refused_in_progress += 1;
            return answered(409, r#"{"message":"certificate renewal already in progress"}"#);
        }
        row.in_renewal = true;
        row.awaiting.push(job);
        answered(202, r#"{"status":"renewal_triggered"}"#)
    }
}
