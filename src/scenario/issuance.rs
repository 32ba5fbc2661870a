//! `issuance_acceptance`: certctl accepts certificates that are to be managed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::divisible::{self, Divisible};
use super::{Claim, Scenario, audit, unwanted};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::Result;
use crate::load::arrival::PlannedRequest;
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Outcome, Quantile};
use crate::seed;
use crate::wire::http1::Response;
use crate::wire::request::{Method, Template, encode};

/// The name of the workload.
pub const NAME: &str = "issuance_acceptance";
/// The names of the kinds of request.
pub const STEPS: &[&str] = &["issuance"];
/// The permission that it needs.
pub const PERMISSION: &str = "cert.issue";
/// The path to which certificates are posted.
pub const PATH: &str = "/api/v1/certificates";

/// The placeholder of an arrival's number while a request is encoded.
const SLOT: &str = "########";
/// The stated validity of the certificates: certctl's hourly renewal scan looks 31 days ahead, and would act on those
/// that expire by then.
const VALID_FOR: Duration = Duration::from_secs(90 * 86_400);

/// Returns the bounds on latencies.
pub fn thresholds() -> Vec<Threshold> {
    vec![
        Threshold::Response(Quantile::P95, Duration::from_secs(2)),
        Threshold::Response(Quantile::P99, Duration::from_secs(5)),
    ]
}

/// The scenario's state: its request, and the number of certificates accepted.
pub struct Issuance {
    prefix: String,
    template: Template,
    accepted: Cell<u64>,
    /// The prefixes of the names that shards in other processes gave their certificates.
    prefixes_of_others: RefCell<BTreeSet<String>>,
    expected: RefCell<Vec<u8>>,
}

impl Issuance {
    /// Returns the scenario for a system whose Host is `host`, with an API key `token`. `run` distinguishes this run's
    /// certificates from those of all others: letters, digits and hyphens.
    pub fn new(run: &str, host: &str, token: &str) -> Self {
        let prefix = format!("loadtest-api-{run}-");
        let name = format!("{prefix}{SLOT}.example.test");
        let expires_at = humantime::format_rfc3339_seconds(SystemTime::now() + VALID_FOR);
        let body = format!(
            r#"{{"name":"{name}","common_name":"{name}","sans":["{name}"],"environment":"loadtest","issuer_id":"iss-local","owner_id":"o-alice","team_id":"t-platform","renewal_policy_id":"rp-standard","expires_at":"{expires_at}","tags":{{"source":"certctl-bench","run":"{run}"}}}}"#
        );
        let template = Template::new(encode(Method::Post, PATH, host, Some(token), &body), SLOT);
        Self::with(prefix, template)
    }

    fn with(prefix: String, template: Template) -> Self {
        Self {
            prefix,
            template,
            accepted: Cell::new(0),
            prefixes_of_others: RefCell::default(),
            expected: RefCell::default(),
        }
    }

    /// Returns a name that no other run has: the time in milliseconds and the process, in base 36.
    pub fn run_name() -> String {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}-{}", base36(since_epoch.as_millis()), base36(u128::from(std::process::id())))
    }

    /// Returns true if the answer is about the certificate that was posted.
    fn names(&self, seq: u64, body: &[u8]) -> bool {
        let mut expected = self.expected.borrow_mut();
        expected.clear();
        expected.extend_from_slice(b"\"name\":\"");
        expected.extend_from_slice(self.prefix.as_bytes());
        let slot = expected.len();
        expected.resize(slot + SLOT.len(), b'0');
        let mut rest = seq;
        for digit in expected[slot..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        body.windows(expected.len()).any(|window| window == *expected)
    }
}

fn base36(mut number: u128) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

impl Scenario for Issuance {
    fn title(&self) -> String {
        format!("certificates to manage, each with a name of its own: POST {PATH}")
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        self.template.fill(planned.seq, request);
        Method::Post
    }

    fn judge(&self, planned: PlannedRequest, _start: Moment, response: &Response<'_>) -> Outcome {
        if response.status != 201 {
            return unwanted(response.status, 201);
        }
        if !response.is_json() || !self.names(planned.seq, response.body) {
            return Outcome::Wrong;
        }
        self.accepted.set(self.accepted.get() + 1);
        Outcome::Ok
    }

    fn divisible(&self) -> Option<&dyn Divisible> {
        Some(self)
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        seed::clean_issued(database)?;
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let sql = "SELECT count(*) FROM managed_certificates WHERE name LIKE $1";
        let others = self.prefixes_of_others.borrow();
        let mut found = 0;
        for prefix in others.iter().chain([&self.prefix]) {
            found += audit::number(database, "the certificates posted", sql, &format!("{prefix}%"))?;
        }
        Ok(vec![Work::counted("certificates created", self.accepted.get(), found, unanswered, "SQL")])
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "certificates created", counter: "certificates_created", claimed: self.accepted.get() }]
    }
}

impl Divisible for Issuance {
    /// Makes an instance with the same names: the numbers of arrivals distinguish the certificates of all shards.
    fn instance(&self) -> Box<dyn Scenario + Send> {
        Box::new(Self::with(self.prefix.clone(), self.template.clone()))
    }

    fn notes(&self, _start: Moment) -> Value {
        divisible::write(&(self.accepted.get(), &self.prefix))
    }

    fn absorb(&self, notes: &Value, _start: Moment) -> Result<()> {
        let (accepted, prefix): (u64, String) = divisible::read(notes)?;
        self.accepted.set(self.accepted.get() + accepted);
        if prefix != self.prefix {
            self.prefixes_of_others.borrow_mut().insert(prefix);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;

    #[test]
    fn only_the_posted_certificate_is_a_right_answer() {
        let issuance = Issuance::new("r1", "localhost:8443", "t0k");
        let judge = |seq, status: u16, name: &str| {
            let body = format!(r#"{{"id":"cert-1","name":"{name}"}}"#);
            let mut parser = Parser::default();
            parser.start(Method::Post);
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
            parser.feed(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
            issuance.judge(PlannedRequest { seq, client: 0, step: 0 }, Moment::now(), &parser.response().unwrap())
        };
        assert_eq!(judge(7, 201, "loadtest-api-r1-00000007.example.test"), Outcome::Ok);
        assert_eq!(judge(8, 201, "loadtest-api-r1-00000007.example.test"), Outcome::Wrong);
        assert_eq!(judge(7, 200, "loadtest-api-r1-00000007.example.test"), Outcome::Failed(200));
        assert_eq!(judge(7, 500, "loadtest-api-r1-00000007.example.test"), Outcome::Failed(500));
        assert_eq!(issuance.accepted.get(), 1);
    }

    #[test]
    fn names_are_unique_within_a_run_and_between_runs() {
        let request = |run: &str, seq| {
            let mut request = Vec::new();
            Issuance::new(run, "h", "t").encode(PlannedRequest { seq, client: 0, step: 0 }, &mut request);
            String::from_utf8(request).unwrap()
        };
        assert!(request("a1", 3).contains(r#""name":"loadtest-api-a1-00000003.example.test""#));
        assert_ne!(request("a1", 3), request("a1", 4));
        assert_ne!(request("a1", 3), request("a2", 3));
        let run = Issuance::run_name();
        assert!(run.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{run}");
    }
}
