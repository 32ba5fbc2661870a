//! `job_drain` from its front door: at the reference server, and at a scripted certctl whose jobs go wrong as the test
//! wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use certctl_bench::provision::postgres::{Cluster, find};
use certctl_bench::scenario::job_drain::look_into;
use postgres::{Client, NoTls};
use serde_json::{Value, json as value};

use crate::common::bench::Bench;
use crate::common::certctl::renewed;
use crate::common::needs::needs;
use crate::common::peer::{Peer, Reply, Request, certctl, json};
use crate::common::summary::{assert_schema, measured, observed, reasons, threshold_of};

/// A fleet of 20 agents for 50 certificates, in a hurry.
const SMALL: &str =
    "--agents 20 --certificates 50 --wave-at 500ms --heartbeat-every 600ms --poll-every 300ms --warm-up 0s";
const AGENTS: u64 = 20;

fn bench(arguments: &str) -> Bench {
    Bench::named("job_drain", &format!("{SMALL} {arguments}")).measured()
}

/// The jobs of a certctl whose keys agents make, and which has no others.
#[derive(Default)]
struct Jobs {
    awaiting: BTreeSet<u64>,
    /// Deployment jobs that no poll has shown.
    pending: BTreeSet<u64>,
    /// The deployment jobs that were reported, and how often.
    reported: BTreeMap<u64, u32>,
    /// Signing requests by certificate, those that failed among them.
    submitted: BTreeMap<u64, Vec<String>>,
}

/// A certctl that shows an agent the jobs of every twentieth certificate.
#[derive(Clone, Default)]
struct Lifecycle(Arc<Mutex<Jobs>>);

fn number(text: &str) -> u64 {
    text.rsplit('-').next().unwrap().parse().unwrap()
}

impl Lifecycle {
    fn answer(&self, request: &Request) -> Reply {
        let mut jobs = self.0.lock().unwrap();
        let parts: Vec<&str> = request.path.split('/').collect();
        match (request.method.as_str(), parts.get(3..).unwrap_or_default()) {
            ("GET", ["auth", "check"]) => granted(),
            ("POST", ["certificates", "bulk-renew"]) => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                let ids = body["certificate_ids"].as_array().unwrap();
                jobs.awaiting.extend(ids.iter().map(|id| number(id.as_str().unwrap())));
                renewed(ids.len())
            }
            ("GET", ["certificates", id]) => json(200, &value!({ "id": id }).to_string()),
            ("GET", ["agents", agent, "work"]) => jobs.work(number(agent)),
            ("POST", ["agents", _, "csr"]) => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                let number = number(body["certificate_id"].as_str().unwrap());
                jobs.submitted.entry(number).or_default().push(body["csr_pem"].as_str().unwrap().to_owned());
                assert!(jobs.awaiting.remove(&number), "certificate {number} is not awaited");
                jobs.pending.insert(number);
                json(202, r#"{"status":"csr_signed"}"#)
            }
            ("POST", ["agents", _, "jobs", job, "status"]) => {
                assert_eq!(request.body, r#"{"status":"Completed"}"#);
                *jobs.reported.entry(number(job)).or_default() += 1;
                json(200, r#"{"status":"updated"}"#)
            }
            _ => certctl(request),
        }
    }
}

impl Jobs {
    fn work(&mut self, agent: u64) -> Reply {
        let is_its_own = |number: &u64| (number - 1) % AGENTS + 1 == agent;
        let shown: Vec<u64> = self.pending.iter().copied().filter(is_its_own).collect();
        self.pending.retain(|number| !shown.contains(number));
        let item = |number: u64, kind: &str, status: &str| {
            let certificate = format!("cert-loadtest-drain-{number:05}");
            value!({ "id": format!("job-{kind}-{number}"), "type": kind, "certificate_id": certificate, "status": status })
        };
        let deployments = shown.iter().map(|number| item(*number, "Deployment", "Running"));
        let renewals = self.awaiting.iter().filter(|number| is_its_own(number));
        let jobs: Vec<Value> =
            deployments.chain(renewals.map(|number| item(*number, "Renewal", "AwaitingCSR"))).collect();
        json(200, &format!(r#"{{"count":{},"jobs":{}}}"#, jobs.len(), Value::from(jobs)))
    }
}

fn granted() -> Reply {
    let permissions = ["agent.heartbeat", "agent.job.poll", "agent.job.complete", "cert.issue", "cert.read"];
    let granted = permissions.map(|permission| value!({ "permission": permission }));
    json(200, &value!({ "user": "u", "effective_permissions": granted }).to_string())
}

/// Returns the results of the fleet and of the wave.
fn parts(summary: &Value) -> [&Value; 2] {
    let [("fleet", fleet), ("wave", wave)] = measured(summary)[..] else { panic!("{summary:#}") };
    [fleet, wave]
}

/// Returns the number of a step's outcomes.
fn step(fleet: &Value, name: &str, outcome: &str) -> u64 {
    let steps = fleet["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}"));
    let outcomes = step["outcomes"].as_array().unwrap().iter();
    outcomes.filter(|one| one["outcome"] == outcome).map(|one| one["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_drain_by_agents_ends_with_its_last_deployment() {
    let certctl = Lifecycle::default();
    let of_peer = certctl.clone();
    let peer = Peer::start(move |request| of_peer.answer(request));
    let finished = bench("--duration 120s").towards_peer(&peer).run().worked();
    let summary = finished.summary();
    assert_schema(&summary);
    let [fleet, wave] = parts(&summary);
    assert_eq!((step(fleet, "csr", "ok"), step(fleet, "report", "ok")), (50, 50));
    assert_eq!((wave["arrivals"]["started"].as_u64(), &summary["ended_early"]), (Some(1), &Value::Null));
    assert_eq!(observed(wave, "certificates put into renewal")["count"], 50);
    let drained_s = observed(fleet, "time until drained")["duration_s"].as_f64().unwrap();
    let per_s = observed(fleet, "renewal jobs completed per second")["per_s"].as_f64().unwrap();
    assert!((per_s * drained_s - 50.0).abs() < 1e-6, "{per_s}/s in {drained_s} s");
    assert!(observed(fleet, "time until deployed")["duration_s"].as_f64().unwrap() >= drained_s);
    // The window ends with the drain, and not when it was planned to.
    let measured_s = fleet["arrivals"]["measured_s"].as_f64().unwrap();
    assert!((drained_s..120.0).contains(&measured_s), "{measured_s} s for {drained_s} s");
    // The fleet alone, and beside the drain.
    for name in ["heartbeat_before", "heartbeat", "poll_before", "poll"] {
        assert!(step(fleet, name, "ok") > 0, "{name}: {fleet:#}");
    }
    for name in ["heartbeat p95", "heartbeat p99", "poll p95", "poll p99"] {
        threshold_of(&summary, "fleet", name);
    }
    let jobs = certctl.0.lock().unwrap();
    let all: BTreeSet<u64> = (1..=50).collect();
    assert_eq!(jobs.reported.keys().copied().collect::<BTreeSet<_>>(), all);
    assert!(jobs.reported.values().all(|times| *times == 1), "{:?}", jobs.reported);
    // Each certificate has a request of its own, made once.
    let requests: BTreeSet<&String> = jobs.submitted.values().flatten().collect();
    assert_eq!((jobs.submitted.len(), requests.len()), (50, 50));
    for line in ["20 agents heartbeat and poll while 50 renewals are drained; they submit the signing requests", "/s\n"]
    {
        assert!(finished.stdout.contains(line), "{line}: {}", finished.stdout);
    }
}

#[test]
fn a_request_that_fails_is_submitted_again() {
    let certctl = Lifecycle::default();
    let of_peer = certctl.clone();
    let refused = Mutex::new(BTreeSet::new());
    let peer = Peer::start(move |request| {
        // Each certificate's first request fails.
        if request.path.ends_with("/csr") && refused.lock().unwrap().insert(request.body.clone()) {
            return json(500, r#"{"error":"Internal Server Error","message":"Failed to submit CSR"}"#);
        }
        of_peer.answer(request)
    });
    let summary = bench("--duration 120s").towards_peer(&peer).run().exits(3).summary();
    let [fleet, _] = parts(&summary);
    assert_eq!((step(fleet, "csr", "failed (500)"), step(fleet, "csr", "ok")), (50, 50));
    assert!(observed(fleet, "time until drained")["duration_s"].is_f64());
    assert!(certctl.0.lock().unwrap().submitted.values().all(|requests| requests.len() == 1));
}

#[test]
fn a_drain_that_does_not_end_is_invalid() {
    let certctl = Lifecycle::default();
    let peer = Peer::start(move |request| {
        // One certificate is never signed.
        match request.path.ends_with("/csr") && request.body.contains("cert-loadtest-drain-00007") {
            true => json(500, "{}"),
            false => certctl.answer(request),
        }
    });
    let summary = bench("--duration 6s").towards_peer(&peer).run().invalid_or_breached().summary();
    let [fleet, _] = parts(&summary);
    let drained = observed(fleet, "time until drained");
    assert_eq!((&drained["duration_s"], &drained["count"]), (&Value::Null, &Value::Null));
    assert!(observed(fleet, "renewal jobs left")["count"].as_u64().unwrap() >= 1);
    let reasons = reasons(&summary);
    assert!(reasons.contains("time until drained, first renewal request to last renewal: not observed"), "{reasons}");
}

#[test]
fn a_job_of_another_certificate_is_left_alone() {
    let certctl = Lifecycle::default();
    let peer = Peer::start(move |request| {
        let own = certctl.answer(request);
        match request.path.ends_with("/ag-loadtest-00003/work") {
            true => json(
                200,
                r#"{"count":1,"jobs":[{"id":"j","type":"Renewal","certificate_id":"mc-api-prod","status":"AwaitingCSR"}]}"#,
            ),
            false => own,
        }
    });
    let summary = bench("--duration 4s").towards_peer(&peer).run().invalid_or_breached().summary();
    let [fleet, _] = parts(&summary);
    assert!(observed(fleet, "jobs of other certificates that polls showed")["count"].as_u64().unwrap() > 0);
    assert_eq!(step(fleet, "csr", "failed (500)"), 0);
}

#[test]
fn a_certificate_that_is_in_renewal_already_is_a_breach() {
    let certctl = Lifecycle::default();
    let peer = Peer::start(move |request| {
        let answer = certctl.answer(request);
        match request.path.ends_with("/bulk-renew") {
            true => json(200, r#"{"total_matched":50,"total_enqueued":49,"total_skipped":1,"total_failed":0}"#),
            false => answer,
        }
    });
    let summary = bench("--duration 120s").towards_peer(&peer).run().invalid_or_breached().summary();
    let [_, wave] = parts(&summary);
    assert_eq!(wave["outcomes"][0]["outcome"], "wrong answer");
    assert_eq!(observed(wave, "certificates put into renewal")["count"], 49);
}

#[test]
fn what_cannot_be_drained_is_refused_before_the_run() {
    let refused = bench("--duration 400ms").refused(2);
    assert_eq!(
        refused.messages(),
        "error: --wave-at 500ms must be below --duration 400ms: otherwise nothing is put into renewal\n\
         hint: lower --wave-at, or lengthen --duration\n"
    );
    let certctl = Lifecycle::default();
    let peer = Peer::start(move |request| match request.path.as_str() {
        "/api/v1/certificates/cert-loadtest-drain-00021/deployments" => {
            json(200, r#"{"data":[{"id":"t","agent_id":"ag-loadtest-00021"}],"total":1}"#)
        }
        "/api/v1/auth/runtime-config" => json(200, r#"{"runtime_config":{"CERTCTL_DEMO_MODE_ACK":"false"}}"#),
        _ => certctl.answer(request),
    });
    for (arguments, code, message) in [
        ("", 1, "certificate 21 of the drain maps to a target of ag-loadtest-00021, but the run has 20 agents"),
        ("--agents 50 --keys server", 1, "its CERTCTL_KEYGEN_MODE is agent, so that a drain with --keys server"),
    ] {
        let refused = Bench::named("job_drain", &format!("--certificates 50 {arguments}")).measured();
        let refused = if arguments.is_empty() { refused.arguments("--agents 20") } else { refused };
        let messages = refused.towards_peer(&peer).refused(code).messages();
        assert!(messages.contains(message) && messages.contains("\nhint: "), "{messages}");
    }
    let lifecycle = Lifecycle::default();
    let peer = Peer::start(move |request| lifecycle.answer(request));
    let messages = bench("--keys server").towards_peer(&peer).refused(2).messages();
    assert!(messages.contains("certctl's database is not known\nhint: give --database URL"), "{messages}");
    let cut_off = Peer::start(|request| match request.path.contains("/cert-loadtest-drain-") {
        true => {
            let id = request.path.rsplit('/').next().unwrap();
            json(200, &value!({ "id": id, "status": "RenewalInProgress" }).to_string())
        }
        false => Lifecycle::default().answer(request),
    });
    let messages = bench("").towards_peer(&cut_off).refused(1).messages();
    assert!(
        messages.contains("certificate 1 of the drain is in renewal already, from an earlier run\nhint: run ")
            && messages.contains("seed --reset"),
        "{messages}"
    );
    let missing = Peer::start(|request| match request.path.contains("/cert-loadtest-drain-") {
        true => json(404, r#"{"error":"Not Found","message":"Certificate not found"}"#),
        false => Lifecycle::default().answer(request),
    });
    let messages = bench("").towards_peer(&missing).refused(1).messages();
    assert!(
        messages.contains("certificate 1 of the drain is not seeded") && messages.contains("--drain 50"),
        "{messages}"
    );
}

/// Asserts that these side effects were found, so many of each, and no claim without its effect.
#[track_caller]
fn assert_found(results: &Value, source: &str, expected: &[(&str, u64)]) {
    let work = results["work"].as_array().unwrap();
    for one in work {
        assert_eq!((&one["claimed"], &one["source"]), (&one["found"], &source.into()), "{one}");
    }
    for (name, count) in expected {
        let found = work.iter().find(|one| one["name"] == *name).unwrap_or_else(|| panic!("no {name}: {work:?}"));
        assert_eq!(found["found"].as_u64(), Some(*count), "{name}");
    }
}

const OWN_COUNT: &str = "the reference server's own count";

#[test]
fn agents_drain_a_database_to_the_last_row_again_and_again() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[("fsync", "off")]).unwrap();
    cluster.create_database("drained").unwrap();
    let url = cluster.url("drained");
    // The second fleet is smaller: the certificates are mapped to its own agents.
    for agents in [20, 10] {
        let arguments = SMALL.replace("--agents 20", &format!("--agents {agents}"));
        let run = Bench::named("job_drain", &format!("{arguments} --duration 200s")).measured().database(&url);
        let summary = run.run().worked().summary();
        let [fleet, wave] = parts(&summary);
        assert_found(
            fleet,
            "SQL",
            &[
                ("agents whose row shows their last accepted heartbeat", agents),
                ("audit rows of signed requests", 50),
                ("audit rows of reports", 50),
                ("renewal jobs completed", 50),
                ("certificate versions", 50),
                ("deployment jobs completed", 50),
                ("certificates active with a later expiry", 50),
            ],
        );
        assert_found(wave, "SQL", &[("audit rows of renewals", 1), ("renewal jobs", 50)]);
        assert!(observed(fleet, "time until drained")["duration_s"].is_f64(), "{agents} agents");
        assert_eq!(observed(fleet, "deployments reported by agents")["count"], 50);
    }
}

#[test]
fn agents_drain_a_server_without_a_database() {
    let summary = bench("--duration 200s --in-memory").run().worked().summary();
    let [fleet, wave] = parts(&summary);
    assert_found(fleet, OWN_COUNT, &[("signing requests signed", 50), ("deployments reported", 50)]);
    assert_found(wave, OWN_COUNT, &[("renewal jobs", 50)]);
    assert!(observed(fleet, "time until deployed")["duration_s"].is_f64());
}

#[test]
fn a_server_drains_its_jobs_with_keys_of_its_own() {
    needs!(Postgresql);
    for (store, source) in [("", "SQL"), ("--in-memory", OWN_COUNT)] {
        // As documented, the job processor leaves deployments to their agents.
        let run = bench(&format!("--duration 200s --keys server --behaviour as-documented {store}"));
        let summary = run.env("CERTCTL_REFERENCE_JOB_INTERVAL", "1s").run().worked().summary();
        let [fleet, wave] = parts(&summary);
        let expected: &[_] = match source {
            "SQL" => &[
                ("renewal jobs completed", 50),
                ("certificate versions", 50),
                ("deployment jobs completed", 50),
                ("certificates active with a later expiry", 50),
            ],
            _ => &[("deployments reported", 50)],
        };
        assert_found(fleet, source, expected);
        assert_found(wave, source, &[("renewal jobs", 50)]);
        assert_eq!(step(fleet, "csr", "ok"), 0);
        let [drained, deployed] = ["time until drained", "time until deployed"]
            .map(|name| observed(fleet, name)["duration_s"].as_f64().unwrap());
        assert!(drained <= deployed, "{drained} s, {deployed} s");
    }
}

#[test]
fn a_drain_with_more_rounds_than_time_is_refused() {
    // Two rounds: the second one begins 27 s after the first at the earliest.
    let run = |window: &str, certificates: u64| {
        let arguments = format!("--keys server --in-memory --agents 20 --wave-at 500ms --duration {window}");
        Bench::named("job_drain", &format!("{arguments} --certificates {certificates}")).measured()
    };
    let refused = run("20s", 1_001).refused(2).messages();
    let why = ": its job processor takes 1000 jobs every 30s (±10%), so that the last of 1001 are begun 27s after the \
               first at the earliest, but only 19s 500ms of the window are left for them\n\
               hint: lengthen --duration by 8s or more, or lower --certificates\n";
    assert!(refused.ends_with(why), "{refused}");
    assert!(
        run("4000s", 99_999).env("CERTCTL_REFERENCE_JOB_INTERVAL", "50s").refused(2).messages().contains("every 50s")
    );
    // Neither one round nor short intervals are refused.
    for (certificates, interval) in [(1_000, "30s"), (1_001, "10s")] {
        let mut running = run("20s", certificates).env("CERTCTL_REFERENCE_JOB_INTERVAL", interval).start();
        running.wait_until_measuring();
    }
}

#[test]
fn a_look_after_one_that_took_too_long_has_a_session() {
    needs!(Postgresql);
    let cluster = Cluster::start(&find().unwrap(), &[("fsync", "off")]).unwrap();
    cluster.create_database("locked").unwrap();
    let mut client = Client::connect(&cluster.url("locked"), NoTls).unwrap();
    client.batch_execute("CREATE TABLE jobs (certificate_id text, status text, type text)").unwrap();
    let mut look = look_into(&cluster.url("locked")).unwrap();
    let mut locked = client.transaction().unwrap();
    locked.batch_execute("LOCK TABLE jobs").unwrap();
    let failed = look().unwrap_err();
    assert!(failed.what().starts_with("counting completed renewal jobs: "), "{failed}");
    locked.batch_execute("INSERT INTO jobs VALUES ('cert-loadtest-drain-00001', 'Completed', 'Renewal')").unwrap();
    locked.commit().unwrap();
    assert_eq!(look().unwrap(), 1);
}

#[test]
fn a_smoke_run_drains_by_default() {
    let summary = Bench::named("job_drain", "--in-memory").smoke().run().exits(0).summary();
    let [fleet, _] = parts(&summary);
    assert_eq!(
        (summary["verdict"].as_str(), step(fleet, "csr", "ok"), step(fleet, "report", "ok")),
        (Some("smoke"), 50, 50)
    );
}
