//! Loops that are driven by hand.

use std::sync::Mutex;

use rustls::pki_types::UnixTime;

use super::fetched::Expected;
use super::*;
use crate::provision::pki::{Authority, KeyType, Purpose};
use crate::scenario::journey::{Next, StepProgress};
use crate::wire::handshake::{Handshake, HandshakeFlow, Record, certificate_id};
use crate::wire::http1::Parser;
use crate::wire::x509;

const POLL_EVERY: Duration = Duration::from_millis(1_000);
const INITIAL: u64 = 1;

fn planned(seq: u64, client: u64) -> PlannedRequest {
    PlannedRequest { seq, client, step: 0 }
}

/// Returns a scenario of two agents, the first of which deploys to a daemon, and the chains that the daemon was given.
fn scenario(arrivals: &[u64]) -> (DeployLoop, Arc<Mutex<Vec<String>>>) {
    let installed = Arc::new(Mutex::new(Vec::new()));
    let given = installed.clone();
    let install = move |identity: &Identity| {
        given.lock().unwrap().push(identity.chain_pem.clone());
        Ok(())
    };
    let daemons = vec![DaemonTarget { kind: ConnectorKind::Nginx, install: Arc::new(install), initial: INITIAL }];
    let fleet = AgentFleet { agents: 2, poll_every: POLL_EVERY };
    (DeployLoop::new(fleet, daemons, arrivals, "h", "t").unwrap(), installed)
}

/// Replaces the key of an arrival by one for which `authority` has issued a certificate, and returns that one's chain.
fn issue(scenario: &DeployLoop, authority: &Authority, seq: usize, name: &str) -> String {
    let identity = authority.issue(KeyType::EcdsaP256, Purpose::Server, &[name]).unwrap();
    let public_key = x509::subject_public_key_info(&identity.chain[0]).unwrap().to_owned();
    let mut keys = scenario.shared.keys.borrow_mut();
    let prepared = keys[seq].as_mut().unwrap();
    (prepared.key_pem, prepared.public_key) = (identity.key_pem.clone(), public_key);
    identity.chain_pem + &authority.pem()
}

/// Takes the next action, which must be a request, and returns it.
fn request(journey: &mut dyn Journey) -> String {
    let mut bytes = Vec::new();
    match journey.next(&mut bytes) {
        Next::Send(0, _) => String::from_utf8(bytes).unwrap(),
        _ => panic!("no request to certctl"),
    }
}

/// Takes the next two actions: the wait for a poll, and the poll.
fn poll(journey: &mut dyn Journey) -> String {
    let Next::Pause(span) = journey.next(&mut Vec::new()) else { panic!("no wait for a poll") };
    assert!(span <= POLL_EVERY, "{span:?}");
    request(journey)
}

fn answer(journey: &mut dyn Journey, status: u16, body: &str) -> StepProgress {
    let mut parser = Parser::default();
    parser.start(Method::Get);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}");
    parser.feed(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    journey.answered(Moment::now(), Moment::now(), &parser.response().unwrap())
}

fn jobs(jobs: &[(&str, &str, u64, &str)]) -> String {
    let item = |(id, kind, number, status): &(&str, &str, u64, &str)| {
        format!(r#"{{"id":"{id}","type":"{kind}","certificate_id":"{}","status":"{status}"}}"#, certificate(*number))
    };
    let items: Vec<String> = jobs.iter().map(item).collect();
    format!(r#"{{"count":{},"jobs":[{}]}}"#, items.len(), items.join(","))
}

fn pem_answer(pem: &str) -> String {
    serde_json::json!({ "certificate_pem": pem }).to_string()
}

fn shown(certificate: u64, kind: HandshakeFlow) -> Record {
    let handshake = Handshake { kind, version: "-", suite: "-", group: "-", key: "-", chain_length: 1, alpn: "-" };
    Record { handshake, as_declared: true, read_bytes: 0, written_bytes: 0, certificate }
}

const RENEWED: &str = r#"{"status":"renewal_triggered"}"#;
const SIGNED: &str = r#"{"status":"csr_signed"}"#;
const UPDATED: &str = r#"{"status":"updated"}"#;

/// Drives a loop of agent `number` up to the fetch, which is the next request.
fn up_to_fetch(journey: &mut dyn Journey, number: u64, job: &str) {
    request(journey);
    assert_eq!(answer(journey, 202, RENEWED), StepProgress::Done);
    poll(journey);
    let due = jobs(&[(&format!("csr-{job}"), "Renewal", number, "AwaitingCSR")]);
    assert_eq!(answer(journey, 200, &due), StepProgress::Done);
    request(journey);
    assert_eq!(answer(journey, 202, SIGNED), StepProgress::Done);
    poll(journey);
    assert_eq!(answer(journey, 200, &jobs(&[(job, "Deployment", number, "Running")])), StepProgress::Done);
}

#[test]
fn a_loop_without_a_daemon_verifies_what_it_fetched() {
    let (scenario, installed) = scenario(&[1]);
    let authority = Authority::root(KeyType::EcdsaP256).unwrap();
    let chain = issue(&scenario, &authority, 0, &host_name(2));
    let mut journey = scenario.begin(planned(0, 1), Moment::now());
    let journey = &mut *journey;
    // Nobody has put the certificates back: an earlier run may have left it in renewal.
    let renewal = request(journey);
    assert!(renewal.starts_with("POST /api/v1/certificates/cert-loadtest-deploy-00002/renew?force=true HTTP"));
    // The operator's patience has another bound than the agent's.
    assert_eq!(journey.longest_request(), None);
    assert_eq!(answer(journey, 202, RENEWED), StepProgress::Done);
    assert_eq!((journey.step(), journey.longest_request()), (1, Some(Duration::from_secs(30))));
    assert!(poll(journey).starts_with("GET /api/v1/agents/ag-loadtest-00002/work HTTP"));
    assert_eq!(answer(journey, 200, r#"{"count":0,"jobs":[]}"#), StepProgress::Continues);
    poll(journey);
    assert_eq!(answer(journey, 200, &jobs(&[("job-1", "Renewal", 2, "AwaitingCSR")])), StepProgress::Done);
    let csr = request(journey);
    assert!(csr.starts_with("POST /api/v1/agents/ag-loadtest-00002/csr HTTP"), "{csr}");
    assert!(csr.contains(r#""certificate_id":"cert-loadtest-deploy-00002","csr_pem":"-----BEGIN CERTIFICATE REQUEST"#));
    assert_eq!(answer(journey, 202, SIGNED), StepProgress::Done);
    poll(journey);
    assert_eq!(answer(journey, 200, &jobs(&[("job-2", "Deployment", 2, "Running")])), StepProgress::Done);
    let fetch = "GET /api/v1/agents/ag-loadtest-00002/certificates/cert-loadtest-deploy-00002 HTTP";
    assert!(request(journey).starts_with(fetch));
    assert_eq!(answer(journey, 200, &pem_answer(&chain)), StepProgress::Done);
    assert_eq!(STEPS[journey.step()], "report");
    let report = request(journey);
    assert!(report.starts_with("POST /api/v1/agents/ag-loadtest-00002/jobs/job-2/status HTTP"), "{report}");
    assert!(report.ends_with(r#"{"status":"Completed"}"#), "{report}");
    assert_eq!(answer(journey, 200, UPDATED), StepProgress::Done);
    assert!(matches!(journey.next(&mut Vec::new()), Next::End));
    let claimed: Vec<u64> = scenario.claims().iter().map(|claim| claim.claimed).collect();
    assert_eq!(claimed, [1, 3, 1, 1]);
    assert!(installed.lock().unwrap().is_empty() && scenario.broken_rules().is_empty());
}

#[test]
fn a_loop_ends_when_a_full_handshake_shows_its_certificate() {
    let (scenario, installed) = scenario(&[0]);
    let authority = Authority::root(KeyType::EcdsaP256).unwrap();
    let chain = issue(&scenario, &authority, 0, &host_name(1));
    let mut journey = scenario.begin(planned(0, 0), Moment::now());
    let journey = &mut *journey;
    up_to_fetch(journey, 1, "job-2");
    request(journey);
    assert_eq!(answer(journey, 200, &pem_answer(&chain)), StepProgress::Done);
    assert_eq!(STEPS[journey.step()], "install");
    let Next::Run(task) = journey.next(&mut Vec::new()) else { panic!("nothing is installed") };
    assert_eq!(journey.ran(task()), StepProgress::Done);
    assert_eq!(*installed.lock().unwrap(), std::slice::from_ref(&chain));
    assert_eq!(STEPS[journey.step()], "served");
    let leaf: rustls::pki_types::CertificateDer<'_> =
        rustls::pki_types::pem::PemObject::from_pem_slice(chain.as_bytes()).unwrap();
    let new = certificate_id(&leaf);
    // The certificate before it, one of nobody's, and a resumed handshake, which shows nothing.
    for (certificate, kind) in
        [(INITIAL, HandshakeFlow::Full), (99, HandshakeFlow::HelloRetry), (new, HandshakeFlow::Resumed)]
    {
        assert!(matches!(journey.next(&mut Vec::new()), Next::Connect(1)));
        assert_eq!(journey.connected(&shown(certificate, kind)), StepProgress::Continues);
        assert!(matches!(journey.next(&mut Vec::new()), Next::Pause(_)));
    }
    assert!(matches!(journey.next(&mut Vec::new()), Next::Connect(1)));
    assert_eq!(journey.connected(&shown(new, HandshakeFlow::Full)), StepProgress::Done);
    request(journey);
    assert_eq!(answer(journey, 200, UPDATED), StepProgress::Done);
    let observed: Vec<String> =
        scenario.observations(&Measurement::default()).iter().map(ToString::to_string).collect();
    assert_eq!(observed[0], "full handshakes that still showed an earlier certificate: 1 of 3");
    assert!(observed[1].starts_with("longest time from an installation until nginx showed"), "{observed:?}");
    let broken: Vec<String> = scenario.broken_rules().iter().map(ToString::to_string).collect();
    assert_eq!(broken, ["1 of 3 full handshakes showed a certificate that certctl did not hand out: none is allowed"]);
    assert_eq!(scenario.shared.served.borrow().len(), 1);
}

#[test]
fn a_failed_installation_ends_the_loop_in_its_words() {
    let (scenario, _) = scenario(&[0]);
    let mut journey = scenario.begin(planned(0, 0), Moment::now());
    let StepProgress::Failed(Outcome::Wrong, flaw) = journey.ran(Err("nginx: no space".to_owned())) else {
        panic!("it failed")
    };
    assert!(flaw.contains("nginx: no space"), "{flaw}");
}

#[test]
fn certificates_with_a_flaw_are_refused_in_words() {
    let (scenario, _) = scenario(&[1]);
    let name = host_name(2);
    let authority = Authority::root(KeyType::EcdsaP256).unwrap();
    let other = Authority::root(KeyType::EcdsaP256).unwrap();
    let chain = issue(&scenario, &authority, 0, &name);
    let public_key = scenario.shared.keys.borrow()[0].as_ref().unwrap().public_key.clone();
    let now = UnixTime::now();
    let expected = |name| Expected { name, public_key: &public_key, earlier: None, authority: None };
    let flaw = |pem: &str, expected: &Expected<'_>, now| Fetched::verify(pem, expected, now).err().unwrap_or_default();
    let verified = Fetched::verify(&chain, &expected(&name), now).unwrap();
    assert_eq!(verified.fingerprint.len(), 64);
    assert_eq!(verified.chain.len(), 2);
    let leaf = chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let another = authority.issue(KeyType::EcdsaP256, Purpose::Server, &[&name]).unwrap().chain_pem;
    for (pem, words) in [
        ("", "it has 0 certificates"),
        (leaf, "it has 1 certificates"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "not PEM"),
        (&(another + &authority.pem()), "for another key"),
        (&(leaf.to_owned() + &other.pem()), "does not verify"),
    ] {
        let flaw = flaw(pem, &expected(&name), now);
        assert!(flaw.contains(words), "{words}: {flaw}");
    }
    assert!(flaw(&chain, &expected("elsewhere.example.test"), now).contains("not for elsewhere"));
    let same = Expected { earlier: Some(&verified), ..expected(&name) };
    assert!(flaw(&chain, &same, now).contains("the same certificate as before"));
    let root = other.certificate().to_vec();
    let pinned = Expected { authority: Some(&root), ..expected(&name) };
    assert!(flaw(&chain, &pinned, now).contains("another authority"));
    let long_ago = UnixTime::since_unix_epoch(Duration::from_secs(1));
    assert!(flaw(&chain, &expected(&name), long_ago).contains("does not verify"));
}

#[test]
fn jobs_of_others_and_of_failed_loops_are_passed_over() {
    let (scenario, _) = scenario(&[1, 1]);
    scenario.shared.agents[1].borrow_mut().unfinished = false;
    let mut first = scenario.begin(planned(0, 1), Moment::now());
    assert!(!request(&mut *first).contains("force"));
    assert_eq!(answer(&mut *first, 202, RENEWED), StepProgress::Done);
    poll(&mut *first);
    // Go escapes an ampersand.
    let escaped = r#"{"count":1,"jobs":[{"id":"f","type":"Renewal","certificate_id":"a\u0026b","status":"Running"}]}"#;
    assert_eq!(answer(&mut *first, 200, escaped), StepProgress::Continues);
    poll(&mut *first);
    // A deployment, before anything was signed, and a job of another certificate.
    let others = [("old", "Deployment", 2, "Running"), ("foreign", "Renewal", 1, "AwaitingCSR")];
    assert_eq!(answer(&mut *first, 200, &jobs(&others)), StepProgress::Continues);
    poll(&mut *first);
    assert_eq!(answer(&mut *first, 200, &jobs(&[("own", "Renewal", 2, "AwaitingCSR"), others[1]])), StepProgress::Done);
    request(&mut *first);
    assert_eq!(answer(&mut *first, 500, "{}"), StepProgress::Failed(Outcome::Failed(500), String::new()));

    // The certificate is still in renewal, and the job that was shown still waits.
    let mut second = scenario.begin(planned(1, 1), Moment::now());
    assert!(
        request(&mut *second).starts_with("POST /api/v1/certificates/cert-loadtest-deploy-00002/renew?force=true ")
    );
    assert_eq!(answer(&mut *second, 202, RENEWED), StepProgress::Done);
    poll(&mut *second);
    let both = [("own", "Renewal", 2, "AwaitingCSR"), ("newer", "Renewal", 2, "AwaitingCSR")];
    assert_eq!(answer(&mut *second, 200, &jobs(&both[..1])), StepProgress::Continues);
    poll(&mut *second);
    assert_eq!(answer(&mut *second, 200, &jobs(&both)), StepProgress::Done);
    request(&mut *second);
    assert_eq!(answer(&mut *second, 202, SIGNED), StepProgress::Done);
    let observed: Vec<String> =
        scenario.observations(&Measurement::default()).iter().map(ToString::to_string).collect();
    assert_eq!(
        observed,
        ["jobs of failed loops that polls showed: 1", "jobs of other certificates that polls showed: 2"]
    );
    // What was signed needs no force.
    let mut third = scenario.begin(planned(2, 1), Moment::now());
    assert!(!request(&mut *third).contains("force"));
    assert_eq!(answer(&mut *third, 409, "{}"), StepProgress::Failed(Outcome::Failed(409), String::new()));
    let observed = scenario.observations(&Measurement::default());
    assert_eq!(observed[0].to_string(), "renewals refused as already in progress: 1");
}

#[test]
fn wrong_answers_end_a_loop_with_their_flaw() {
    let (scenario, _) = scenario(&[1]);
    let begin = || scenario.begin(planned(0, 1), Moment::now());
    let mut journey = begin();
    request(&mut *journey);
    let wrong = StepProgress::Failed(Outcome::Wrong, "its JSON has no status renewal_triggered".to_owned());
    assert_eq!(answer(&mut *journey, 202, r#"{"status":"x"}"#), wrong);
    for (status, outcome) in [(429, Outcome::Refused), (200, Outcome::Failed(200)), (403, Outcome::Failed(403))] {
        let mut journey = begin();
        request(&mut *journey);
        assert_eq!(answer(&mut *journey, status, RENEWED), StepProgress::Failed(outcome, String::new()));
    }
    let mut journey = begin();
    request(&mut *journey);
    answer(&mut *journey, 202, RENEWED);
    poll(&mut *journey);
    let wrong = StepProgress::Failed(Outcome::Wrong, "its JSON is no list of jobs".to_owned());
    assert_eq!(answer(&mut *journey, 200, "{}"), wrong);
}

#[test]
fn each_agent_polls_at_times_of_its_own() {
    let fleet = AgentFleet { agents: 4, poll_every: POLL_EVERY };
    let scenario = DeployLoop::new(fleet, Vec::new(), &[], "h", "t").unwrap();
    for agent in 0..4 {
        for at_ms in [10_000, 10_100, 10_250, 10_999] {
            let at = Moment::from_ns(at_ms * 1_000_000);
            let mut journey = Loop::new(&scenario.shared, planned(agent, agent), at);
            let mut parser = Parser::default();
            parser.start(Method::Get);
            let head = format!("HTTP/1.1 202 x\r\nContent-Length: {}\r\n\r\n{RENEWED}", RENEWED.len());
            parser.feed(head.as_bytes()).unwrap();
            assert_eq!(journey.answered(at, at, &parser.response().unwrap()), StepProgress::Done);
            let Next::Pause(span) = journey.next(&mut Vec::new()) else { panic!("no wait") };
            let due_ns = (at + span).as_ns();
            assert_eq!(due_ns % 1_000_000_000, agent * 250_000_000, "{agent} at {at_ms}");
            assert!(span > Duration::ZERO && span <= POLL_EVERY);
        }
    }
}
