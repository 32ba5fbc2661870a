//! `bulk_renewal`: many certificates are put into renewal by one request.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::audit::{self, AuditCheck, AuditRows};
use super::divisible::{self, Divisible};
use super::{Claim, Scenario, unwanted};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::Result;
use crate::load::arrival::PlannedRequest;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::seed;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};

/// The number of certificates in `seed/01_bulk_renewal_certs.sql`.
pub const SEEDED_CERTIFICATES: u64 = 10_000;
/// The names of the kinds of request.
pub const STEPS: &[&str] = &["bulk_renew"];
/// The permission that it needs.
pub const PERMISSION: &str = "cert.issue";

const PATH: &str = "/api/v1/certificates/bulk-renew";
/// The longest time for a request, after which certctl cuts its connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);
/// The most certificates that certctl takes from a request by criteria, however many fit.
pub const CRITERIA_CAP: u64 = 50;

/// The criteria of [`Selection::Criteria`], which every seeded certificate fits.
pub const CRITERIA: [(&str, &str); 2] = [("team_id", "t-platform"), ("issuer_id", "iss-local")];

/// Returns the bounds on latencies.
pub fn thresholds() -> Vec<Threshold> {
    vec![
        Threshold::Response(Quantile::P95, Duration::from_secs(2)),
        Threshold::Response(Quantile::P99, Duration::from_secs(5)),
    ]
}

/// The certificates that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// A batch of seeded certificates by id, disjoint from all other batches: each request does the same work.
    Batches {
        /// The number of certificates that a request renews.
        size: u64,
    },
    /// All certificates of a team and issuer, by criteria, again and again. certctl takes the oldest 50, and skips
    /// those that are in renewal already: after the first request nothing is left to do.
    Criteria,
}

/// The scenario's state: its requests, and the sums of the answers.
pub struct BulkRenewal {
    selection: Selection,
    host: String,
    token: String,
    seen: RefCell<Seen>,
    check: RefCell<Option<Opened>>,
}

/// Sums over all answers.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    matched: u64,
    enqueued: u64,
    skipped: u64,
    failed: u64,
    largest_match: u64,
    /// Answers, right or wrong, that reported the work done.
    answers: u64,
    without_work: u64,
    /// The longest time per certificate renewed of any request.
    slowest_each: Duration,
}

struct Opened {
    audit: AuditCheck,
    jobs: u64,
}

/// The answer of certctl.
#[derive(Deserialize)]
struct Reply {
    total_matched: u64,
    total_enqueued: u64,
    total_skipped: u64,
    total_failed: u64,
}

impl BulkRenewal {
    /// Returns the scenario for a system whose Host is `host`, with an API key `token`.
    pub fn new(selection: Selection, host: &str, token: &str) -> Self {
        Self {
            selection,
            host: host.to_owned(),
            token: token.to_owned(),
            seen: RefCell::default(),
            check: RefCell::default(),
        }
    }

    fn body(&self, seq: u64) -> String {
        let Selection::Batches { size } = self.selection else {
            let criteria = CRITERIA.map(|(name, value)| format!(r#""{name}":"{value}""#));
            return format!("{{{}}}", criteria.join(","));
        };
        let mut body = String::with_capacity(24 + 28 * size as usize);
        body.push_str(r#"{"certificate_ids":["#);
        for number in seq * size + 1..=(seq + 1) * size {
            let comma = if body.ends_with('[') { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(body, r#"{comma}"cert-loadtest-bulk-{number:05}""#);
        }
        body.push_str("]}");
        body
    }

    /// Returns the most jobs that a request without a complete answer may have made.
    fn at_most_per_request(&self) -> u64 {
        match self.selection {
            Selection::Batches { size } => size,
            Selection::Criteria => CRITERIA_CAP,
        }
    }
}

impl Seen {
    fn merge(&mut self, other: &Self) {
        self.matched += other.matched;
        self.enqueued += other.enqueued;
        self.skipped += other.skipped;
        self.failed += other.failed;
        self.largest_match = self.largest_match.max(other.largest_match);
        self.answers += other.answers;
        self.without_work += other.without_work;
        self.slowest_each = self.slowest_each.max(other.slowest_each);
    }

    fn add(&mut self, reply: &Reply, took: Duration) {
        if let Ok(enqueued @ 1..) = u32::try_from(reply.total_enqueued) {
            self.slowest_each = self.slowest_each.max(took / enqueued);
        }
        self.matched += reply.total_matched;
        self.enqueued += reply.total_enqueued;
        self.skipped += reply.total_skipped;
        self.failed += reply.total_failed;
        self.largest_match = self.largest_match.max(reply.total_matched);
        self.answers += 1;
        self.without_work += u64::from(reply.total_enqueued == 0);
    }
}

impl Scenario for BulkRenewal {
    fn title(&self) -> String {
        match self.selection {
            Selection::Batches { size } => format!("renewal of {size} certificates at a time, by id: POST {PATH}"),
            Selection::Criteria => {
                format!("renewal by criteria, again and again (certctl takes {CRITERIA_CAP} at most): POST {PATH}")
            }
        }
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        *request = encode(Method::Post, PATH, &self.host, Some(&self.token), &self.body(planned.seq));
        Method::Post
    }

    /// The answer that names 10,000 certificates with their jobs has some 1.1 MiB.
    fn longest_answer(&self) -> usize {
        4 * 1024 * 1024
    }

    fn judge(&self, _planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Outcome {
        if response.status != 200 || !response.is_json() {
            return unwanted(response.status, 200);
        }
        let Ok(reply) = serde_json::from_slice::<Reply>(response.body) else { return Outcome::Wrong };
        self.seen.borrow_mut().add(&reply, Moment::now() - start);
        let done = [reply.total_matched, reply.total_enqueued, reply.total_skipped, reply.total_failed];
        let right = match self.selection {
            Selection::Batches { size } => done == [size, size, 0, 0],
            Selection::Criteria => {
                reply.total_failed == 0 && reply.total_matched == reply.total_enqueued + reply.total_skipped
            }
        };
        if right { Outcome::Ok } else { Outcome::Wrong }
    }

    fn divisible(&self) -> Option<&dyn Divisible> {
        Some(self)
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        seed::refresh_certificates(database, SEEDED_CERTIFICATES)?;
        let kinds = vec![AuditRows { name: "audit rows of renewals", action: "api_post", path: PATH, status: 200 }];
        let audit = AuditCheck::open(database, kinds)?;
        self.check.replace(Some(Opened { audit, jobs: jobs(database)? }));
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let Some(opened) = self.check.take() else { return Ok(Vec::new()) };
        let (enqueued, in_doubt) = (self.seen.borrow().enqueued, unanswered * self.at_most_per_request());
        // A wrong answer is audited like a right one: its status is the same.
        let answers = self.seen.borrow().answers;
        let mut work = opened.audit.close(&[answers], unanswered, database)?;
        let found = jobs(database)?.saturating_sub(opened.jobs);
        work.push(Work::counted("renewal jobs", enqueued, found, in_doubt, "SQL"));
        if let Selection::Batches { .. } = self.selection {
            let sql = "SELECT count(*) FROM managed_certificates WHERE id LIKE $1 AND status = 'RenewalInProgress'";
            let found = audit::number(database, "certificates in renewal", sql, "cert-loadtest-bulk-_____")?;
            work.push(Work::counted("certificates in renewal", enqueued, found, in_doubt, "SQL"));
        }
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "renewal jobs", counter: "renewals_enqueued", claimed: self.seen.borrow().enqueued }]
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        let seen = self.seen.borrow();
        let count = |name, count| Observation { name, value: Value::Count(count) };
        let mut observations = vec![
            count("certificates matched, all answers", seen.matched),
            count("certificates put into renewal, all answers", seen.enqueued),
        ];
        if seen.slowest_each > Duration::ZERO {
            let fits = WRITE_TIMEOUT.as_nanos() / seen.slowest_each.as_nanos().max(1);
            observations.push(Observation {
                name: "time per certificate, slowest request",
                value: Value::Duration(seen.slowest_each),
            });
            observations
                .push(count("certificates that fit into certctl's write timeout of 120 s at that pace", fits as u64));
        }
        if self.selection == Selection::Criteria {
            observations.extend([
                count("certificates skipped, all answers", seen.skipped),
                count("certificates failed, all answers", seen.failed),
                count("most certificates matched by one request", seen.largest_match),
                Observation {
                    name: "requests that put nothing into renewal",
                    value: Value::Share { count: seen.without_work, of: seen.answers },
                },
            ]);
        }
        observations
    }
}

impl Divisible for BulkRenewal {
    /// Makes an instance whose batches are its own, as the numbers of its arrivals are.
    fn instance(&self) -> Box<dyn Scenario + Send> {
        Box::new(Self::new(self.selection, &self.host, &self.token))
    }

    fn notes(&self, _start: Moment) -> Json {
        divisible::write(&*self.seen.borrow())
    }

    fn absorb(&self, notes: &Json, _start: Moment) -> Result<()> {
        self.seen.borrow_mut().merge(&divisible::read(notes)?);
        Ok(())
    }
}

/// Counts all jobs, the suite's own or not.
fn jobs(database: &mut DatabaseClient) -> Result<u64> {
    audit::number(database, "jobs", "SELECT count(*) FROM jobs WHERE id LIKE $1", "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;

    fn judge(renewal: &BulkRenewal, counts: [u64; 4]) -> Outcome {
        let [matched, enqueued, skipped, failed] = counts;
        let body = format!(
            r#"{{"total_matched":{matched},"total_enqueued":{enqueued},"total_skipped":{skipped},"total_failed":{failed}}}"#
        );
        let mut parser = Parser::default();
        parser.start(Method::Post);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        parser.feed(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        renewal.judge(PlannedRequest { seq: 0, client: 0, step: 0 }, Moment::now(), &parser.response().unwrap())
    }

    #[test]
    fn batches_are_disjoint_and_partial_renewals_are_wrong() {
        let renewal = BulkRenewal::new(Selection::Batches { size: 3 }, "h", "t");
        let ids = |seq: u64| renewal.body(seq).replace("cert-loadtest-bulk-", "");
        assert_eq!(ids(0), r#"{"certificate_ids":["00001","00002","00003"]}"#);
        assert_eq!(ids(1), r#"{"certificate_ids":["00004","00005","00006"]}"#);
        assert_eq!(judge(&renewal, [3, 3, 0, 0]), Outcome::Ok);
        for counts in [[2, 2, 0, 0], [3, 2, 1, 0], [3, 2, 0, 1], [3, 0, 3, 0], [4, 4, 0, 0]] {
            assert_eq!(judge(&renewal, counts), Outcome::Wrong, "{counts:?}");
        }
        // What was done is counted all the same: the database will show it.
        assert_eq!(renewal.claims()[0].claimed, 3 + 2 + 2 + 2 + 4);
    }

    #[test]
    fn a_rescan_counts_requests_without_renewals() {
        let renewal = BulkRenewal::new(Selection::Criteria, "h", "t");
        assert_eq!(judge(&renewal, [50, 47, 3, 0]), Outcome::Ok);
        assert_eq!(judge(&renewal, [50, 0, 50, 0]), Outcome::Ok);
        assert_eq!(judge(&renewal, [50, 0, 49, 0]), Outcome::Wrong);
        let lines: Vec<String> =
            renewal.observations(&Measurement::default()).iter().map(ToString::to_string).collect();
        // All answers, the wrong one among them.
        assert!(lines.contains(&"requests that put nothing into renewal: 2 of 3".to_owned()), "{lines:?}");
        assert!(lines.contains(&"most certificates matched by one request: 50".to_owned()), "{lines:?}");
    }
}
