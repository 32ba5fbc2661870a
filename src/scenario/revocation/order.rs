//! The order: the batch is revoked, some certificates by one request, one request after another.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::json;

use super::batch::Batch;
use super::ledger::Ledger;
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::Result;
use crate::load::arrival::PlannedRequest;
use crate::measure::Measurement;
use crate::measure::Outcome;
use crate::measure::observation::{Observation, Value};
use crate::measure::validity::Work;
use crate::scenario::audit::{self, AuditCheck, AuditRows};
use crate::scenario::{Claim, Scenario, unwanted};
use crate::seed;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode};

/// The name of the workload.
pub const NAME: &str = "bulk_revocation";
/// The names of the kinds of request.
pub const STEPS: &[&str] = &["bulk_revoke"];
/// The permission that it needs.
pub const PERMISSION: &str = "cert.bulk_revoke";

const PATH: &str = "/api/v1/certificates/bulk-revoke";
/// The reason that is given (RFC 5280, section 5.3.1, in certctl's spelling).
const REASON: &str = "superseded";

/// The scenario's state: its requests, and the sums of the answers.
pub struct RevocationOrder {
    ledger: Rc<Ledger>,
    host: String,
    token: String,
    /// The number of certificates that a request names.
    per_request: usize,
    revoked: Cell<u64>,
    /// Answers, right or wrong, that reported the work done.
    answers: Cell<u64>,
    ended: Cell<Moment>,
    audit: RefCell<Option<AuditCheck>>,
}

/// The answer of certctl.
#[derive(Deserialize)]
struct Reply {
    total_matched: u64,
    total_revoked: u64,
    total_skipped: u64,
    total_failed: u64,
}

impl RevocationOrder {
    /// Returns the scenario for a system whose Host is `host`, with an API key `token`.
    pub fn new(ledger: Rc<Ledger>, per_request: usize, host: &str, token: &str) -> Self {
        Self {
            ledger,
            host: host.to_owned(),
            token: token.to_owned(),
            per_request: per_request.max(1),
            revoked: Cell::default(),
            answers: Cell::default(),
            ended: Cell::default(),
            audit: RefCell::default(),
        }
    }

    /// Returns the certificates that a request names, by index.
    fn named(&self, seq: u64) -> Range<usize> {
        let end = |number: usize| number.saturating_mul(self.per_request).min(self.ledger.len());
        end(seq as usize)..end(seq as usize + 1)
    }
}

impl Scenario for RevocationOrder {
    fn title(&self) -> String {
        let (all, each) = (self.ledger.len(), self.per_request);
        format!("revocation of {all} certificates, {each} at a time, by id: POST {PATH}")
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let named = self.named(planned.seq);
        let ids: Vec<&str> = self.ledger.batch.certificates[named.clone()].iter().map(|one| &*one.id).collect();
        let body = json!({"certificate_ids": ids, "reason": REASON}).to_string();
        *request = encode(Method::Post, PATH, &self.host, Some(&self.token), &body);
        // It is sent at once.
        self.ledger.order(named, Moment::now());
        Method::Post
    }

    fn answered(&self, _start: Moment, end: Moment) {
        self.ended.set(end);
    }

    fn judge(&self, planned: PlannedRequest, _start: Moment, response: &Response<'_>) -> Outcome {
        if response.status != 200 || !response.is_json() {
            return unwanted(response.status, 200);
        }
        let Ok(reply) = serde_json::from_slice::<Reply>(response.body) else { return Outcome::Wrong };
        self.answers.set(self.answers.get() + 1);
        self.revoked.set(self.revoked.get() + reply.total_revoked);
        let named = self.named(planned.seq);
        let all = named.len() as u64;
        if [reply.total_matched, reply.total_revoked, reply.total_skipped, reply.total_failed] != [all, all, 0, 0] {
            return Outcome::Wrong;
        }
        self.ledger.confirm(named, self.ended.get());
        Outcome::Ok
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        seed::clean_revoked(database, &Batch::prefix(&self.ledger.batch.run))?;
        let kinds = vec![AuditRows { name: "audit rows of revocations", action: "api_post", path: PATH, status: 200 }];
        self.audit.replace(Some(AuditCheck::open(database, kinds)?));
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let Some(audit) = self.audit.take() else { return Ok(Vec::new()) };
        let mut work = audit.close(&[self.answers.get()], unanswered, database)?;
        let names = format!("{}%", Batch::prefix(&self.ledger.batch.run));
        let (revoked, in_doubt) = (self.revoked.get(), unanswered * self.per_request as u64);
        for (name, sql) in [
            (
                "certificates revoked",
                "SELECT count(*) FROM managed_certificates WHERE name LIKE $1 AND status = 'Revoked'",
            ),
            (
                "revocations recorded",
                "SELECT count(*) FROM certificate_revocations JOIN managed_certificates AS c ON c.id = certificate_id \
                 WHERE c.name LIKE $1",
            ),
        ] {
            let found = audit::number(database, name, sql, &names)?;
            work.push(Work::counted(name, revoked, found, in_doubt, "SQL"));
        }
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "certificates revoked", counter: "revocations", claimed: self.revoked.get() }]
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        let value = Value::Share { count: self.ledger.confirmed().len() as u64, of: self.ledger.len() as u64 };
        vec![Observation { name: "certificates whose revocation was confirmed", value }]
    }
}
