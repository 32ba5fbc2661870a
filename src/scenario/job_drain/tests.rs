//! Journeys that are driven by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use super::*;
use crate::error::Error;
use crate::scenario::agent_storm::{HEARTBEAT, POLL};
use crate::scenario::journey::{Next, StepProgress};
use crate::wire::http1::Parser;

const SPAN: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(30);

fn drain(keys: Keys, agents: u64, certificates: u64) -> Rc<Drain> {
    Rc::new(Drain::new(DrainPlan { keys, agents, certificates, deployments: SPAN, round: ROUND }))
}

fn fleet(drain: &Rc<Drain>) -> DrainFleet {
    let requests: Vec<String> = (1..=drain.plan.certificates).map(|number| format!("CSR {number}\n")).collect();
    DrainFleet::new(drain.clone(), "h", "t", &requests)
}

fn at(seconds: u64) -> Moment {
    Moment::from_ns(seconds * 1_000_000_000)
}

fn json(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn with_response<T>(answer: &str, take: impl FnOnce(&Response<'_>) -> T) -> T {
    let mut parser = Parser::default();
    parser.start(Method::Get);
    parser.feed(answer.as_bytes()).unwrap();
    take(&parser.response().unwrap())
}

/// A journey of agent `client`, counted from 0, that starts at a second.
struct Driven(Box<dyn Journey>);

impl Driven {
    fn begin(fleet: &DrainFleet, client: u64, step: usize, second: u64) -> Self {
        Self(Journeys::begin(fleet, PlannedRequest { seq: 0, client, step }, at(second)))
    }

    fn step(&self) -> &'static str {
        STEPS[self.0.step()]
    }

    /// Returns the request line and the body of the next request; `None` at the end.
    fn request(&mut self) -> Option<(String, String)> {
        let mut request = Vec::new();
        match self.0.next(&mut request) {
            Next::Send(0, _) => {
                let text = String::from_utf8(request).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                Some((head.lines().next().unwrap().to_owned(), body.to_owned()))
            }
            Next::End => None,
            _ => panic!("something else than a request"),
        }
    }

    fn answer(&mut self, second: u64, status: u16, body: &str) -> StepProgress {
        with_response(&json(status, body), |response| self.0.answered(at(second), at(second), response))
    }
}

fn jobs(items: &[(&str, &str, u64, &str)]) -> String {
    let item = |(id, kind, number, status): &(&str, &str, u64, &str)| {
        format!(r#"{{"id":"{id}","type":"{kind}","certificate_id":"{}","status":"{status}"}}"#, certificate_id(*number))
    };
    let items: Vec<String> = items.iter().map(item).collect();
    format!(r#"{{"count":{},"jobs":[{}]}}"#, items.len(), items.join(","))
}

const SIGNED: &str = r#"{"status":"csr_signed"}"#;
const UPDATED: &str = r#"{"status":"updated"}"#;

#[test]
fn an_agent_does_the_work_of_a_poll_in_its_order() {
    let drain = drain(Keys::Agent, 20, 50);
    let fleet = fleet(&drain);
    drain.begin(at(10));
    let mut round = Driven::begin(&fleet, 6, POLL, 11);
    assert_eq!(
        (round.step(), round.request().unwrap().0),
        ("poll", "GET /api/v1/agents/ag-loadtest-00007/work HTTP/1.1".to_owned())
    );
    let work = jobs(&[("job-a", "Renewal", 7, "AwaitingCSR"), ("job-b", "Deployment", 27, "Running")]);
    assert_eq!(round.answer(11, 200, &work), StepProgress::Done);
    let (line, body) = round.request().unwrap();
    assert_eq!((round.step(), &*line), ("csr", "POST /api/v1/agents/ag-loadtest-00007/csr HTTP/1.1"));
    assert_eq!(body, r#"{"certificate_id":"cert-loadtest-drain-00007","csr_pem":"CSR 7\n"}"#);
    assert_eq!(round.answer(12, 202, SIGNED), StepProgress::Done);
    let (line, body) = round.request().unwrap();
    assert_eq!(
        (round.step(), &*line, &*body),
        ("report", "POST /api/v1/agents/ag-loadtest-00007/jobs/job-b/status HTTP/1.1", r#"{"status":"Completed"}"#)
    );
    assert_eq!(round.answer(13, 200, UPDATED), StepProgress::Done);
    assert_eq!(round.request(), None);
    assert_eq!((drain.completed(), drain.answers.get(), drain.reported.get()), (1, 1, 1));
}

#[test]
fn an_agent_gives_a_request_up_as_certctls_agent_does() {
    let fleet = fleet(&drain(Keys::Agent, 1, 1));
    for step in [HEARTBEAT, POLL] {
        assert_eq!(Driven::begin(&fleet, 0, step, 1).0.longest_request(), Some(Duration::from_secs(30)));
    }
}

#[test]
fn requests_have_a_step_for_the_part_of_the_run() {
    let drain = drain(Keys::Agent, 1, 1);
    let fleet = fleet(&drain);
    let step = |step, second| Driven::begin(&fleet, 0, step, second).step();
    assert_eq!([step(HEARTBEAT, 9), step(POLL, 9)], ["heartbeat_before", "poll_before"]);
    drain.begin(at(10));
    // A second request of the wave is not its beginning.
    drain.begin(at(12));
    assert_eq!([step(HEARTBEAT, 9), step(HEARTBEAT, 10), step(POLL, 11)], ["heartbeat_before", "heartbeat", "poll"]);
    drain.signed(1, at(20));
    assert_eq!(
        [step(HEARTBEAT, 19), step(HEARTBEAT, 20), step(POLL, 21)],
        ["heartbeat", "heartbeat_after", "poll_after"]
    );
    assert_eq!(thresholds().iter().map(ToString::to_string).collect::<Vec<_>>()[0], "heartbeat p95");
}

#[test]
fn a_heartbeat_is_a_journey_of_one_step() {
    let drain = drain(Keys::Agent, 20, 50);
    let fleet = fleet(&drain);
    let mut heartbeat = Driven::begin(&fleet, 20, HEARTBEAT, 1);
    assert_eq!(heartbeat.request().unwrap().0, "POST /api/v1/agents/ag-loadtest-00001/heartbeat HTTP/1.1");
    assert_eq!(heartbeat.answer(1, 200, r#"{"status":"heartbeat_recorded"}"#), StepProgress::Done);
    assert_eq!(heartbeat.request(), None);
    let mut refused = Driven::begin(&fleet, 3, HEARTBEAT, 1);
    assert!(matches!(refused.answer(1, 500, "{}"), StepProgress::Failed(Outcome::Failed(500), _)));
    assert_eq!(fleet.claims()[0].claimed, 1);
}

#[test]
fn a_request_that_is_not_signed_stays_to_be_done() {
    let drain = drain(Keys::Agent, 3, 2);
    let fleet = fleet(&drain);
    drain.begin(at(0));
    let work = jobs(&[("job-a", "Renewal", 1, "AwaitingCSR"), ("job-b", "Deployment", 2, "Running")]);
    for (client, status, body) in [(0, 500, "{}"), (1, 202, r#"{"status":"csr_accepted"}"#), (2, 200, SIGNED)] {
        let mut round = Driven::begin(&fleet, client, POLL, 1);
        round.request();
        assert_eq!(round.answer(1, 200, &work), StepProgress::Done);
        let StepProgress::Failed(outcome, _) = round.answer(2, status, body) else { panic!("{status} {body}") };
        assert_eq!(outcome, unwanted(status, 202), "{status} {body}");
    }
    assert_eq!((drain.completed(), drain.answers.get(), drain.drained()), (0, 0, None));
    // The deployment that came with it is never shown again: the agent's next round reports it first.
    let mut next = Driven::begin(&fleet, 1, POLL, 3);
    next.request();
    assert_eq!(next.answer(3, 200, &jobs(&[("job-a", "Renewal", 1, "AwaitingCSR")])), StepProgress::Done);
    assert_eq!((next.step(), next.request().is_some()), ("report", true));
    assert_eq!(next.answer(4, 200, UPDATED), StepProgress::Done);
    assert_eq!((next.step(), next.request().is_some()), ("csr", true));
    assert_eq!(next.answer(5, 202, SIGNED), StepProgress::Done);
    assert_eq!((next.request(), drain.reported.get(), drain.delivered.get(), drain.completed()), (None, 1, 3, 1));
}

#[test]
fn a_deployment_stands_for_an_answer_that_was_lost() {
    let drain = drain(Keys::Agent, 1, 2);
    let fleet = fleet(&drain);
    drain.begin(at(10));
    let mut cut_off = Driven::begin(&fleet, 0, POLL, 11);
    cut_off.request();
    // The deployment of certificate 2 is of an earlier run: nothing was submitted for it yet.
    let work = jobs(&[("job-a", "Renewal", 1, "AwaitingCSR"), ("job-b", "Deployment", 2, "Running")]);
    assert_eq!(cut_off.answer(11, 200, &work), StepProgress::Done);
    assert_eq!((cut_off.step(), cut_off.request().is_some()), ("csr", true));
    drop(cut_off);
    assert_eq!((drain.completed(), drain.drained()), (0, None));
    let mut next = Driven::begin(&fleet, 0, POLL, 40);
    next.request();
    let work = jobs(&[("job-c", "Deployment", 1, "Running"), ("job-d", "Renewal", 2, "AwaitingCSR")]);
    assert_eq!(next.answer(41, 200, &work), StepProgress::Done);
    assert_eq!((drain.completed(), drain.answers.get()), (1, 0));
    for answer in [(200, UPDATED), (200, UPDATED), (202, SIGNED)] {
        assert!(next.request().is_some());
        assert_eq!(next.answer(42, answer.0, answer.1), StepProgress::Done);
    }
    assert_eq!((drain.completed(), drain.answers.get(), drain.drained()), (2, 1, Some(at(42))));
}

#[test]
fn a_long_round_leaves_the_rest_to_the_next_one() {
    let drain = drain(Keys::Agent, 1, 4);
    let fleet = fleet(&drain);
    drain.begin(at(0));
    let work = jobs(&[
        ("job-a", "Renewal", 1, "AwaitingCSR"),
        ("job-b", "Renewal", 2, "AwaitingCSR"),
        ("job-c", "Renewal", 3, "AwaitingCSR"),
        ("job-d", "Deployment", 4, "Running"),
    ]);
    let mut round = Driven::begin(&fleet, 0, POLL, 100);
    round.request();
    // A poll that is answered late is followed by one job all the same.
    assert_eq!(round.answer(131, 200, &work), StepProgress::Done);
    assert_eq!((round.step(), round.request().is_some()), ("csr", true));
    assert_eq!(round.answer(132, 202, SIGNED), StepProgress::Done);
    assert_eq!(round.request(), None);
    // The report waited here, and the signing requests at certctl.
    let mut next = Driven::begin(&fleet, 0, POLL, 140);
    next.request();
    let work = jobs(&[("job-b", "Renewal", 2, "AwaitingCSR"), ("job-c", "Renewal", 3, "AwaitingCSR")]);
    assert_eq!(next.answer(140, 200, &work), StepProgress::Done);
    assert_eq!((next.step(), next.request().is_some()), ("report", true));
    assert_eq!(next.answer(141, 200, UPDATED), StepProgress::Done);
    assert_eq!((next.step(), next.request().is_some()), ("csr", true));
    assert_eq!(next.answer(169, 202, SIGNED), StepProgress::Done);
    assert_eq!((next.step(), next.request().is_some()), ("csr", true));
    assert_eq!(next.answer(170, 202, SIGNED), StepProgress::Done);
    assert_eq!((next.request(), drain.completed(), drain.reported.get()), (None, 3, 1));
}

#[test]
fn jobs_of_other_certificates_are_left_alone() {
    let drain = drain(Keys::Agent, 1, 2);
    let fleet = fleet(&drain);
    let mut round = Driven::begin(&fleet, 0, POLL, 1);
    let work = r#"{"count":4,"jobs":[
        {"id":"a","type":"Renewal","certificate_id":"mc-api-prod","status":"AwaitingCSR"},
        {"id":"b","type":"Deployment","certificate_id":"cert-loadtest-drain-00003","status":"Running"},
        {"id":"c","type":"Deployment","certificate_id":"cert-loadtest-drain-1","status":"Running"},
        {"id":"d","type":"Validation","certificate_id":"cert-loadtest-drain-00001","status":"Running"}]}"#;
    assert_eq!(round.answer(1, 200, work), StepProgress::Done);
    assert_eq!((round.request(), drain.foreign.get(), drain.delivered.get()), (None, 3, 0));
}

#[test]
fn a_poll_that_is_none_is_wrong() {
    for (keys, body) in [
        (Keys::Agent, r#"{"count":1,"jobs":null}"#.to_owned()),
        (Keys::Agent, r#"{"count":1,"jobs":[{"id":"a"}]}"#.to_owned()),
        // Its id would lead elsewhere.
        (Keys::Agent, jobs(&[("../x", "Deployment", 1, "Running")])),
        (Keys::Agent, jobs(&[("", "Deployment", 1, "Running")])),
        (Keys::Server, jobs(&[("a", "Renewal", 1, "AwaitingCSR")])),
    ] {
        let drain = drain(keys, 1, 2);
        let fleet = DrainFleet::new(drain.clone(), "h", "t", &[]);
        let mut round = Driven::begin(&fleet, 0, POLL, 1);
        let StepProgress::Failed(outcome, flaw) = round.answer(1, 200, &body) else { panic!("{body}") };
        assert_eq!((outcome, flaw.is_empty()), (Outcome::Wrong, false), "{body}");
    }
}

#[test]
fn a_drain_ends_with_its_last_signature_and_deployment() {
    let drain = drain(Keys::Agent, 1, 2);
    let value =
        |name: &str| drain.observations().into_iter().find(|one| one.name.starts_with(name)).map(|one| one.value);
    assert_eq!(value("time until drained"), Some(Value::Never));
    drain.begin(at(10));
    drain.signed(1, at(12));
    // Another job of the same certificate.
    drain.signed(1, at(13));
    assert_eq!((value("time until drained"), value("renewal jobs left")), (Some(Value::Never), Some(Value::Count(1))));
    assert!(!drain.is_over(at(10_000)));
    drain.signed(2, at(18));
    assert_eq!(value("time until drained"), Some(Value::Duration(Duration::from_secs(8))));
    assert_eq!(value("renewal jobs completed per second"), Some(Value::PerSecond(0.25)));
    assert_eq!((value("renewal jobs left"), value("time until deployed")), (None, None));
    // Deployments are awaited for a while, and no longer.
    assert_eq!([drain.is_over(at(77)), drain.is_over(at(78))], [false, true]);
    drain.reported(at(20));
    assert_eq!(value("deployments reported"), Some(Value::Share { count: 1, of: 2 }));
    drain.reported(at(21));
    assert_eq!(value("time until deployed"), Some(Value::Duration(Duration::from_secs(11))));
    assert!(drain.is_over(at(22)));
}

#[test]
fn a_wave_names_each_certificate_once() {
    let drain = drain(Keys::Agent, 20, 1_201);
    let wave = Wave::new(drain.clone(), "h", "t");
    assert_eq!([Wave::requests(1_201), Wave::requests(500), Wave::requests(1)], [3, 1, 1]);
    let mut named = Vec::new();
    for seq in 0..3 {
        let (planned, mut request) = (PlannedRequest { seq, client: 0, step: 0 }, Vec::new());
        wave.starting(at(10 + seq));
        wave.encode(planned, &mut request);
        let text = String::from_utf8(request).unwrap();
        let body: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        let ids = body["certificate_ids"].as_array().unwrap();
        named.extend(ids.iter().map(|id| id.as_str().unwrap().to_owned()));
        let reply = |enqueued: usize| {
            let skipped = ids.len() - enqueued;
            let counts = format!(r#""total_enqueued":{enqueued},"total_skipped":{skipped},"total_failed":0"#);
            json(200, &format!(r#"{{"total_matched":{},{counts}}}"#, ids.len()))
        };
        let judge = |enqueued| with_response(&reply(enqueued), |response| wave.judge(planned, at(0), response));
        assert_eq!([judge(ids.len()), judge(ids.len() - 1)], [Outcome::Ok, Outcome::Wrong]);
    }
    assert_eq!(named, (1..=1_201).map(certificate_id).collect::<Vec<_>>());
    assert_eq!((drain.wave.get(), wave.claims()[0].claimed), (Some(at(10)), 2 * 1_201 - 3));
}

#[test]
fn completions_are_counted_from_the_wave_on_until_all_are_there() {
    let (looked, looks) = mpsc::channel();
    let count = AtomicU64::new(0);
    let look = move || {
        // A second look comes once the test has taken note of the first, and so on.
        let now = count.fetch_add(3, Ordering::SeqCst) + 3;
        looked.send(now).map_err(|_| Error::new("nobody waits"))?;
        Ok(now)
    };
    let completions = Completions::start(6, Box::new(look)).unwrap();
    assert_eq!((completions.count(), completions.reached()), (0, None));
    let began = Moment::now();
    completions.begin();
    assert_eq!(looks.iter().take(2).collect::<Vec<_>>(), [3, 6]);
    // The thread drops the look, and with it the channel, once it has seen all.
    assert_eq!(looks.recv(), Err(mpsc::RecvError));
    assert!(completions.reached().is_some_and(|reached| reached > began));
    assert_eq!((completions.count(), completions.failure().is_none()), (6, true));
}

#[test]
fn a_look_that_fails_is_followed_by_another() {
    let (looked, looks) = mpsc::channel();
    let number = AtomicU64::new(0);
    let look = move || {
        let number = number.fetch_add(1, Ordering::SeqCst) + 1;
        looked.send(number).map_err(|_| Error::new("nobody waits"))?;
        if number == 2 { Err(Error::new("no database")) } else { Ok(number) }
    };
    let drain = drain(Keys::Server, 1, 3);
    let fleet = DrainFleet::watching(drain.clone(), "h", "t", Completions::start(3, Box::new(look)).unwrap());
    drain.begin(at(1));
    assert_eq!(looks.iter().collect::<Vec<_>>(), [1, 2, 3]);
    let completions = drain.completions.get().unwrap();
    assert_eq!((completions.count(), completions.failed(), completions.failure().is_none()), (3, 1, true));
    assert!(completions.reached().is_some());
    let observations = fleet.observations(&Measurement::default());
    let failed = observations.iter().find(|one| one.name.starts_with("looks for completed renewals that failed"));
    assert_eq!(failed.unwrap().value, Value::Count(1));
}

#[test]
fn looks_that_keep_failing_are_an_error() {
    let (looked, looks) = mpsc::channel();
    let look = move || {
        looked.send(()).map_err(|_| Error::new("nobody waits"))?;
        Err(Error::new("no database").with_hint("start it"))
    };
    let completions = Completions::start(1, Box::new(look)).unwrap();
    completions.begin();
    // A look is noted before the next one begins.
    looks.iter().take(4).for_each(drop);
    assert!(completions.failure().is_none_or(|error| error.what().starts_with("the last 4 looks")));
    looks.recv().unwrap();
    let error = completions.failure().unwrap().to_string();
    assert!(error.ends_with(" looks for completed renewals failed: no database\nhint: start it"), "{error}");
    assert_eq!((completions.reached(), completions.count()), (None, 0));
}
