//! `acme_flow` and `acme_burst`: the requests of an ACME client before it signs anything (RFC 8555, sections 7.1.1 and
//! 7.2; RFC 9773).

pub(super) mod answer;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::answer::{Nonce, is_directory, is_problem, is_problem_type};
use super::audit::{AuditCheck, AuditRows};
use super::nonces::Nonces;
use super::{Claim, Scenario, other_type, unwanted};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::{Context as _, Result};
use crate::load::arrival::PlannedRequest;
use crate::measure::breach::Breach;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};

/// The names of the kinds of request.
pub const STEPS: &[&str] = &["directory", "new_nonce", "renewal_info_malformed", "renewal_info_unknown"];

/// The profile of certctl's demo seed whose ACME server is the default.
pub const DEFAULT_PROFILE: &str = "prof-standard-tls";

/// The workload whose users think: its bound on errors counts 429s, and leaves room for them.
pub const FLOW: &str = "acme_flow";

const DIRECTORY: usize = 0;
const NEW_NONCE: usize = 1;
const MALFORMED: usize = 2;
const UNKNOWN: usize = 3;

/// An id that has not two parts: certctl refuses it before it looks anything up.
const MALFORMED_ID: &str = "aaaa";
/// An id of two parts of base64url, of a certificate that does not exist: certctl looks it up.
const UNKNOWN_ID: &str = "aaaa.bbbb";

/// The age up to which nonces are looked for: certctl may forget one after five minutes.
const NONCES_LAST: Duration = Duration::from_secs(240);

const MALFORMED_TYPE: &str = "urn:ietf:params:acme:error:malformed";
const RATE_LIMITED_TYPE: &str = "urn:ietf:params:acme:error:rateLimited";

/// Returns the bounds on latencies, and on failures where 429s have a bound of their own.
pub fn thresholds(workload: &str) -> Vec<Threshold> {
    let limits_ms = [500, 300, 800, 800];
    let steps = STEPS.iter().zip(limits_ms);
    let latencies = steps.map(|(step, ms)| Threshold::Step(step, Quantile::P95, Duration::from_millis(ms)));
    // Beside the bound on all errors, which is looser: a bound on failures other than by a rate limit.
    let faults = (workload == FLOW).then_some(Threshold::Faults(0.001));
    latencies.chain(faults).collect()
}

/// The resources of an ACME server, all at the system under test.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Paths {
    /// The path of the directory itself.
    pub directory: String,
    /// The path of new nonces.
    pub new_nonce: String,
    /// The path of renewal information (RFC 9773); absent if the server has none.
    pub renewal_info: Option<String>,
    /// The URL of new accounts, as the directory has it: signed requests repeat it.
    pub new_account: String,
    /// The URL of new orders.
    pub new_order: String,
}

/// The scenario's state: its requests, and the nonces that were given out.
pub struct Acme {
    directory: String,
    requests: [(Method, Vec<u8>); 4],
    /// Right answers by step.
    answered: [Cell<u64>; 4],
    /// Nonces in right answers.
    given_out: Cell<u64>,
    /// Right answers that call an unknown certificate's id malformed, as Pebble does for another authority's.
    unknown_refused: Cell<u64>,
    nonces: RefCell<Nonces>,
    repeated_nonces: Cell<u64>,
    refused: Cell<u64>,
    refused_in_shape: Cell<u64>,
    has_token: bool,
    audited: bool,
    check: RefCell<Option<AuditCheck>>,
}

impl Acme {
    /// Returns the scenario for a system whose Host is `host`; its requests carry `token` if there is one, and leave
    /// audit rows if `audited`. `renewal_info` is the path of renewal information.
    pub fn new(paths: &Paths, renewal_info: &str, host: &str, token: Option<&str>, audited: bool) -> Self {
        let request = |method, path: &str| (method, encode(method, path, host, token, ""));
        let renewal_info = renewal_info.trim_end_matches('/');
        Self {
            directory: paths.directory.clone(),
            requests: [
                request(Method::Get, &paths.directory),
                request(Method::Head, &paths.new_nonce),
                request(Method::Get, &format!("{renewal_info}/{MALFORMED_ID}")),
                request(Method::Get, &format!("{renewal_info}/{UNKNOWN_ID}")),
            ],
            answered: Default::default(),
            given_out: Cell::new(0),
            unknown_refused: Cell::new(0),
            nonces: RefCell::new(Nonces::new(NONCES_LAST)),
            repeated_nonces: Cell::new(0),
            refused: Cell::new(0),
            refused_in_shape: Cell::new(0),
            has_token: token.is_some(),
            audited: audited && token.is_some(),
            check: RefCell::default(),
        }
    }

    /// Returns true if the answer has a new nonce, or none where none is `needed`. A nonce is good for one request (RFC
    /// 8555, section 6.5): an answer with one that was given out before is wrong.
    fn has_fresh_nonce(&self, start: Moment, response: &Response<'_>, needed: bool) -> bool {
        let nonce = match Nonce::of(response) {
            Nonce::None => return !needed,
            Nonce::Several | Nonce::Invalid => return false,
            Nonce::Valid(nonce) => nonce,
        };
        let fresh = self.nonces.borrow_mut().insert(nonce, start);
        self.repeated_nonces.set(self.repeated_nonces.get() + u64::from(!fresh));
        self.given_out.set(self.given_out.get() + u64::from(fresh));
        fresh
    }

    fn refuse(&self, step: usize, response: &Response<'_>) -> Outcome {
        self.refused.set(self.refused.get() + 1);
        // The answer to a HEAD has no body that could name the type.
        let in_shape = match step {
            NEW_NONCE => is_problem_type(response),
            _ => is_problem(response, RATE_LIMITED_TYPE),
        };
        if in_shape {
            self.refused_in_shape.set(self.refused_in_shape.get() + 1);
            Outcome::Refused
        } else {
            Outcome::Wrong
        }
    }
}

impl Scenario for Acme {
    fn title(&self) -> String {
        let token = if self.has_token { "" } else { ", without a token" };
        let directory = &self.directory;
        format!("{directory}, new-nonce, renewal-info of a malformed and of an unknown certificate{token}")
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let (method, bytes) = &self.requests[planned.step];
        request.clone_from(bytes);
        *method
    }

    fn judge(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Outcome {
        let (wanted, right) = match (planned.step, response.status) {
            (step, 429) => return self.refuse(step, response),
            // A nonce is due in answers to POST alone (section 6.5).
            (DIRECTORY, 200) => (200, is_directory(response) && self.has_fresh_nonce(start, response, false)),
            // 200 is what a server should answer to HEAD, 204 what it must to GET (section 7.2).
            (NEW_NONCE, 200 | 204) => (response.status, self.has_fresh_nonce(start, response, true)),
            (DIRECTORY | NEW_NONCE, _) => (200, false),
            (MALFORMED, status) => (400, status == 400 && is_problem(response, MALFORMED_TYPE)),
            // 404, or 400 from a server that calls the id malformed, although it is well-formed.
            (_, status @ (400 | 404)) => (status, is_problem(response, MALFORMED_TYPE)),
            (_, _) => (404, false),
        };
        match right {
            true => {
                let answered = &self.answered[planned.step];
                answered.set(answered.get() + 1);
                let refused = planned.step == UNKNOWN && response.status == 400;
                self.unknown_refused.set(self.unknown_refused.get() + u64::from(refused));
                Outcome::Ok
            }
            false => unwanted(response.status, wanted),
        }
    }

    fn flaw(&self, planned: PlannedRequest, response: &Response<'_>) -> String {
        let due = match (response.status, planned.step) {
            (429, _) => RATE_LIMITED_TYPE,
            (_, DIRECTORY) if !response.is_json() => return other_type(response, "JSON"),
            (_, DIRECTORY) if !is_directory(response) => {
                return "it is a directory without newNonce, newAccount or newOrder".to_owned();
            }
            (_, DIRECTORY | NEW_NONCE) => {
                return match Nonce::of(response) {
                    Nonce::None => "it has no Replay-Nonce".to_owned(),
                    Nonce::Several => "it has more than one Replay-Nonce".to_owned(),
                    Nonce::Invalid => "its Replay-Nonce is not base64url".to_owned(),
                    Nonce::Valid(_) => "its Replay-Nonce was issued before".to_owned(),
                };
            }
            _ => MALFORMED_TYPE,
        };
        match is_problem_type(response) {
            true => format!("its type is not {due}"),
            false => other_type(response, "application/problem+json"),
        }
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        self.nonces.borrow_mut().keep_names();
        if self.audited {
            let rows = |name, action, path, status| AuditRows { name, action, path, status };
            let kinds = vec![
                rows("audit rows of directories", "api_get", "/acme/%/directory", 200),
                rows("audit rows of nonces", "api_head", "/acme/%/new-nonce", 200),
                rows("audit rows of malformed ids", "api_get", "/acme/%/renewal-info/%", 400),
                rows("audit rows of unknown ids", "api_get", "/acme/%/renewal-info/%", 404),
            ];
            self.check.replace(Some(AuditCheck::open(database, kinds)?));
        }
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let mut work = vec![self.nonces_kept(database)?];
        if let Some(check) = &*self.check.borrow() {
            let mut claimed: Vec<u64> = self.answered.iter().map(Cell::get).collect();
            // The audit rows of the two ids differ in their status alone.
            claimed[MALFORMED] += self.unknown_refused.get();
            claimed[UNKNOWN] -= self.unknown_refused.get();
            work.extend(check.close(&claimed, unanswered, database)?);
        }
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "nonces given out", counter: "nonces_issued", claimed: self.given_out.get() }]
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        let nonces = self.nonces.borrow();
        let unique = Value::Share { count: nonces.unique(), of: nonces.seen() };
        let refused = Value::Share { count: self.refused_in_shape.get(), of: self.refused.get() };
        let mut observations = vec![
            Observation { name: "unique Replay-Nonces", value: unique },
            Observation { name: "429s of the right shape", value: refused },
        ];
        if self.unknown_refused.get() > 0 {
            let name = "unknown certificates answered 400 in place of 404";
            observations.push(Observation { name, value: Value::Count(self.unknown_refused.get()) });
        }
        if let Some(look_back) = nonces.look_back() {
            let name = "Replay-Nonces before each with which it was compared, at least";
            observations.push(Observation { name, value: Value::Count(look_back) });
        }
        observations
    }

    fn broken_rules(&self) -> Vec<Breach> {
        let misshapen = self.refused.get() - self.refused_in_shape.get();
        let rules = [
            ("Replay-Nonces were given out before", self.repeated_nonces.get(), self.nonces.borrow().seen()),
            ("429s are not as ACME shapes them", misshapen, self.refused.get()),
        ];
        let broken = rules.into_iter().filter(|(_, count, _)| *count > 0);
        broken.map(|(what, count, of)| Breach::Rule { what, count, of }).collect()
    }
}

impl Acme {
    /// Counts the nonces of the last four minutes that the database has. It may have removed older ones.
    fn nonces_kept(&self, database: &mut DatabaseClient) -> Result<Work> {
        let (nonces, now) = (self.nonces.borrow(), Moment::now());
        // The machine may have been started less than four minutes ago.
        let since = Moment::from_ns(now.as_ns().saturating_sub(NONCES_LAST.as_nanos() as u64));
        let texts: Vec<&str> = nonces.since(since).collect();
        let sql = "SELECT count(*) FROM acme_nonces WHERE nonce = ANY ($1)";
        let row = database.query_one(sql, &[&texts]).context(|| "looking for the nonces given out".to_owned())?;
        let found = row.get::<_, i64>(0) as u64;
        Ok(Work { name: "nonces given out in the last 4 min", claimed: texts.len() as u64, found, source: "SQL" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;

    fn acme() -> Acme {
        let path = |end: &str| format!("/acme/profile/p/{end}");
        let paths = Paths {
            directory: path("directory"),
            new_nonce: path("new-nonce"),
            renewal_info: None,
            new_account: String::new(),
            new_order: String::new(),
        };
        Acme::new(&paths, &path("renewal-info"), "localhost:8443", Some("t0k"), true)
    }

    fn judge(acme: &Acme, step: usize, head: &str, body: &str) -> Outcome {
        let mut parser = Parser::default();
        parser.start(acme.requests[step].0);
        let message = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let length = if acme.requests[step].0 == Method::Head { message.len() - body.len() } else { message.len() };
        parser.feed(&message.as_bytes()[..length]).unwrap();
        acme.judge(PlannedRequest { seq: 0, client: 0, step }, Moment::now(), &parser.response().unwrap())
    }

    const DIRECTORY_BODY: &str = r#"{"newNonce":"https://h/n","newAccount":"https://h/a","newOrder":"https://h/o"}"#;

    fn problem(kind: &str) -> String {
        format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"…","status":0}}"#)
    }

    #[test]
    fn only_the_expected_4xx_is_a_right_answer() {
        let acme = acme();
        let problem_head = |status: u16| format!("{status} x\r\nContent-Type: application/problem+json");
        assert_eq!(judge(&acme, 2, &problem_head(400), &problem("malformed")), Outcome::Ok);
        assert_eq!(judge(&acme, 3, &problem_head(404), &problem("malformed")), Outcome::Ok);
        // The answer to the other id, the router's own 404, HTML, and a server error.
        assert_eq!(judge(&acme, 2, &problem_head(404), &problem("malformed")), Outcome::Failed(404));
        assert_eq!(judge(&acme, 3, &problem_head(400), &problem("malformed")), Outcome::Ok);
        assert_eq!(
            acme.observations(&Measurement::default())[2].to_string(),
            "unknown certificates answered 400 in place of 404: 1"
        );
        assert_eq!(judge(&acme, 3, "404 x\r\nContent-Type: text/plain", "404 page not found"), Outcome::Wrong);
        assert_eq!(judge(&acme, 3, "200 OK\r\nContent-Type: text/html", "<html>"), Outcome::Failed(200));
        assert_eq!(judge(&acme, 0, &problem_head(500), &problem("serverInternal")), Outcome::Failed(500));
    }

    #[test]
    fn a_repeated_or_malformed_nonce_is_a_wrong_answer() {
        let acme = acme();
        let head = |nonce| format!("200 OK\r\nContent-Type: application/json\r\nReplay-Nonce: {nonce}");
        assert_eq!(judge(&acme, 0, &head("n1"), DIRECTORY_BODY), Outcome::Ok);
        assert_eq!(judge(&acme, 1, &head("n2"), ""), Outcome::Ok);
        assert_eq!(judge(&acme, 1, &head("n1"), ""), Outcome::Wrong);
        assert_eq!(judge(&acme, 1, "200 OK", ""), Outcome::Wrong);
        assert_eq!(judge(&acme, 0, &head("n3"), "{}"), Outcome::Wrong);
        // Base64url alone is valid, also where a nonce is not needed.
        for nonce in ["", "n=", "n+/", "n 4", "\u{e9}"] {
            assert_eq!(judge(&acme, 1, &head(nonce), ""), Outcome::Wrong, "{nonce}");
            assert_eq!(judge(&acme, 0, &head(nonce), DIRECTORY_BODY), Outcome::Wrong, "{nonce}");
        }
        // Two in one answer are wrong, be they the same or not.
        for second in ["n6", "n7"] {
            let two = format!("{}\r\nReplay-Nonce: {second}", head("n6"));
            assert_eq!(judge(&acme, 1, &two, ""), Outcome::Wrong, "{second}");
            assert_eq!(judge(&acme, 0, &two, DIRECTORY_BODY), Outcome::Wrong, "{second}");
        }
        assert_eq!(judge(&acme, 1, "204 x\r\nReplay-Nonce: n5", ""), Outcome::Ok);
        assert_eq!(
            judge(&acme, 0, "200 OK\r\nContent-Type: Application/JSON;charset=utf-8", DIRECTORY_BODY),
            Outcome::Ok
        );
        assert_eq!(acme.claims()[0].claimed, 3);
        assert_eq!(acme.observations(&Measurement::default())[0].to_string(), "unique Replay-Nonces: 3 of 4");
    }

    #[test]
    fn only_a_429_in_acme_form_counts_as_refused() {
        let acme = acme();
        let limited = "429 x\r\nContent-Type: application/problem+json";
        assert_eq!(judge(&acme, 0, limited, &problem("rateLimited")), Outcome::Refused);
        assert_eq!(judge(&acme, 2, limited, &problem("malformed")), Outcome::Wrong);
        assert_eq!(judge(&acme, 3, "429 x\r\nContent-Type: text/plain", "{\"error\":\"…\"}"), Outcome::Wrong);
        assert_eq!(judge(&acme, 1, limited, ""), Outcome::Refused);
        assert_eq!(judge(&acme, 1, "429 x\r\nContent-Type: text/plain", ""), Outcome::Wrong);
        assert_eq!(acme.observations(&Measurement::default())[1].to_string(), "429s of the right shape: 2 of 5");
    }
}
