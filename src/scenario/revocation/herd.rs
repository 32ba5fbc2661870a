//! The herd: relying parties that ask for the status of certificates, by OCSP and by the revocation list.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use clap::ValueEnum;

use super::ISSUER;
use super::batch::Batch;
use super::held_list::{HeldList, revoked_of};
use super::ledger::{Due, Ledger};
use super::shown::{Shown, Word};
use super::verified::VerifiedAnswers;
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::{Error, Result};
use crate::load::arrival::PlannedRequest;
use crate::measure::breach::Breach;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::scenario::{Claim, Scenario, audit, other_type, unwanted};
use crate::status::ocsp::{self, OcspAnswer, Refusal, SignedStatus, Status};
use crate::status::{Flaw, crl};
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode, encode_as, with_header};

/// The name of the workload.
pub const NAME: &str = "status_herd";
/// The names of the kinds of request.
const STEPS: &[&str] = &["ocsp_get", "ocsp_post", "ocsp_post_nonce", "crl"];

const OCSP_PATH: &str = "/.well-known/pki/ocsp";
const CRL_PATH: &str = "/.well-known/pki/crl";
/// The length of a nonce: certctl accepts up to 32 bytes (RFC 9654, section 2.1, wants that many of clients).
const NONCE_BYTES: usize = 32;
/// The most OCSP answers, and lists, that are remembered as verified.
const MOST_ANSWERS: usize = 2 * super::MOST_CERTIFICATES as usize;
const MOST_LISTS: usize = 16;
/// The size of the longest list, in bytes: one of ten thousand certificates has some 400 KiB, and those that were
/// revoked before the run are in it too.
const LONGEST_LIST: usize = 16 * 1024 * 1024;

/// The sources of a status that are asked; their kinds of request take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sources {
    /// OCSP by GET, by POST and by POST with a nonce, and the revocation list.
    #[default]
    All,
    /// The revocation list alone: a stock certctl answers every OCSP request with a 500.
    Crl,
}

impl Sources {
    /// Returns the names of the kinds of request.
    pub const fn steps(self) -> &'static [&'static str] {
        match self {
            Self::All => STEPS,
            Self::Crl => &["crl"],
        }
    }

    /// Returns the share of the requests that are OCSP's, 0 to 1.
    pub const fn ocsp_share(self) -> f64 {
        match self {
            Self::All => 0.75,
            Self::Crl => 0.0,
        }
    }

    /// Returns the bounds on latencies: guards against regressions, which certctl keeps with room to spare.
    pub fn thresholds(self) -> Vec<Threshold> {
        const BOUNDS: [(Quantile, Duration); 2] =
            [(Quantile::P95, Duration::from_millis(500)), (Quantile::P99, Duration::from_secs(1))];
        match self {
            Self::All => {
                let of = |step: &&'static str| BOUNDS.map(|(quantile, limit)| Threshold::Step(step, quantile, limit));
                STEPS.iter().flat_map(of).collect()
            }
            // The times of a single step are those of the workload.
            Self::Crl => BOUNDS.map(|(quantile, limit)| Threshold::Response(quantile, limit)).to_vec(),
        }
    }

    /// Returns the kind of a request, and its place among all kinds.
    fn kind(self, planned: PlannedRequest) -> (usize, Kind) {
        let index = match self {
            Self::All => planned.step % Kind::ALL.len(),
            Self::Crl => Kind::ALL.len() - 1,
        };
        (index, Kind::ALL[index])
    }
}

/// The kinds of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// OCSP by GET: certctl's own form of it, with the serial number in the path.
    Get,
    /// OCSP by POST.
    Post { nonce: bool },
    /// The revocation list, unless it is unchanged.
    List,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Get, Self::Post { nonce: false }, Self::Post { nonce: true }, Self::List];
}

/// The reason for which an answer is not the right one.
enum Fault {
    /// A relying party rejects it, whatever it says.
    Rejected(Flaw),
    /// Its content is wrong, in words.
    Wrong(String),
    /// A limiter refused it.
    Refused,
    /// Its status is another.
    Status(Outcome),
}

impl From<Flaw> for Fault {
    fn from(flaw: Flaw) -> Self {
        Self::Rejected(flaw)
    }
}

/// The scenario's state.
pub struct Herd {
    sources: Sources,
    ledger: Rc<Ledger>,
    host: String,
    /// The OCSP request without a nonce for each certificate.
    requests: Vec<Vec<u8>>,
    /// The time after the confirmation of a revocation from which an OCSP answer may not be the old one.
    stale_within: Duration,
    answers: RefCell<VerifiedAnswers<Result<OcspAnswer, Flaw>>>,
    lists: RefCell<VerifiedAnswers<Result<Rc<Received>, Flaw>>>,
    /// The newest list.
    held: RefCell<Option<Rc<HeldList>>>,
    /// The list that was held when each request for it was sent, by the request's number. What remains is of requests
    /// without an answer.
    conditional: RefCell<HashMap<u64, Rc<HeldList>>>,
    shown: RefCell<[Shown; 4]>,
    counts: Cell<Counts>,
    /// The end of the answer to be judged.
    ended: Cell<Moment>,
    flaw: RefCell<String>,
}

/// A list as its bytes have it, and the certificates of the batch in it.
struct Received {
    list: crl::RevocationList,
    revoked: Rc<[usize]>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    /// All answers.
    judged: u64,
    /// Those among them that a relying party rejects.
    rejected: u64,
    /// OCSP answers with a status, right or wrong.
    statuses: u64,
    /// OCSP answers by POST about serial numbers with leading zeros.
    padded: u64,
    /// Those among them that say unknown.
    padded_unknown: u64,
    /// OCSP answers that repeat a nonce.
    nonces: u64,
    /// Those among them that have it in another place than RFC 6960 demands.
    misplaced_nonces: u64,
    /// Answers with a list, whole or unchanged, right or wrong.
    lists: u64,
    unchanged_lists: u64,
    limited: u64,
}

impl Herd {
    /// Returns the scenario for a system whose Host is `host`. From `stale_within` after the confirmation of a
    /// revocation, an OCSP answer that says good breaks a rule.
    ///
    /// # Errors
    /// If a request cannot be encoded.
    pub fn new(sources: Sources, ledger: Rc<Ledger>, stale_within: Duration, host: &str) -> Result<Self> {
        let batch = &ledger.batch;
        let requests = batch.certificates.iter().map(|one| ocsp::encode(&batch.issuer, &one.serial, None));
        let requests = requests.collect::<Result<Vec<_>, _>>();
        let requests = requests.map_err(|flaw| Error::new(format!("encoding an OCSP request: {flaw}")))?;
        let shown = RefCell::new(std::array::from_fn(|_| Shown::new(ledger.len())));
        Ok(Self {
            sources,
            ledger,
            host: host.to_owned(),
            requests,
            stale_within,
            answers: RefCell::new(VerifiedAnswers::new(MOST_ANSWERS)),
            lists: RefCell::new(VerifiedAnswers::new(MOST_LISTS)),
            held: RefCell::default(),
            conditional: RefCell::default(),
            shown,
            counts: Cell::default(),
            ended: Cell::default(),
            flaw: RefCell::default(),
        })
    }

    /// Returns the certificate of a request: each kind of request goes through all of them.
    fn certificate(&self, seq: u64) -> usize {
        (seq / self.steps().len() as u64 % self.ledger.len().max(1) as u64) as usize
    }

    /// Returns the nonce of a request: no other request of any run has it.
    fn nonce(&self, seq: u64) -> Vec<u8> {
        let hash = digest(&SHA256, format!("{} {seq}", self.ledger.batch.run).as_bytes());
        hash.as_ref()[..NONCE_BYTES].to_vec()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn judge_ocsp(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Result<(), Fault> {
        let (step, kind) = self.sources.kind(planned);
        require_type(response, ocsp::RESPONSE_TYPE)?;
        let issuer = &self.ledger.batch.issuer;
        let nonce = (kind == Kind::Post { nonce: true }).then(|| self.nonce(planned.seq));
        let answer = match &nonce {
            // No other answer has the same bytes.
            Some(_) => ocsp::verify(response.body, issuer)?,
            None => self.answers.borrow_mut().get(response.body, |bytes| ocsp::verify(bytes, issuer))?,
        };
        let signed = match answer {
            OcspAnswer::Status(signed) => {
                self.count(|counts| counts.statuses += 1);
                signed
            }
            OcspAnswer::Refused(Refusal::Unauthorized | Refusal::TryLater) => {
                self.count(|counts| counts.limited += 1);
                return Err(Fault::Refused);
            }
            OcspAnswer::Refused(refusal) => return Err(Fault::Wrong(format!("it says {}", refusal.label()))),
        };
        let index = self.certificate(planned.seq);
        signed.check(&self.ledger.batch.certificates[index].serial, nonce.as_deref(), unix_time())?;
        self.judge_status(step, kind, index, start, &signed)
    }

    fn judge_status(
        &self,
        step: usize,
        kind: Kind,
        index: usize,
        start: Moment,
        signed: &SignedStatus,
    ) -> Result<(), Fault> {
        if let Some(nonce) = &signed.nonce {
            self.count(|counts| {
                counts.nonces += 1;
                counts.misplaced_nonces += u64::from(!nonce.is_in_place);
            });
        }
        // certctl looks up the number without leading zeros, and has stored it with them.
        let is_padded = !signed.serial.fills_its_field() && matches!(kind, Kind::Post { .. });
        self.count(|counts| counts.padded += u64::from(is_padded));
        let end = self.ended.get();
        let due = self.ledger.due(index, start, end);
        let word = match (signed.status, due) {
            (Status::Unknown, _) if is_padded => {
                self.count(|counts| counts.padded_unknown += 1);
                Word::Nothing
            }
            (Status::Unknown, _) => return Err(wrong("it says unknown about a certificate that was issued")),
            (Status::Revoked(_), Due::Good) => return Err(wrong("it says revoked before that was ordered")),
            (Status::Revoked(at), _) if at > unix_time() + crate::status::Freshness::SKEW_S => {
                return Err(wrong("it says revoked from a time in the future on"));
            }
            (Status::Revoked(_), _) => Word::Revoked,
            // It may be one of those that the first order does not name.
            (Status::Good, Due::Good) if self.ledger.first_order().is_none() => return Ok(()),
            (Status::Good, Due::Good | Due::Either) => Word::Good { is_stale: false, is_overdue: false },
            (Status::Good, Due::Revoked { since }) => {
                Word::Good { is_stale: true, is_overdue: start - since > self.stale_within }
            }
        };
        self.shown.borrow_mut()[step].note(index, word, matches!(due, Due::Revoked { .. }), end);
        Ok(())
    }

    fn judge_list(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Result<(), Fault> {
        let (step, _) = self.sources.kind(planned);
        let sent = self.conditional.borrow_mut().remove(&planned.seq);
        self.count(|counts| counts.lists += u64::from(matches!(response.status, 200 | 304)));
        let list = match (response.status, sent) {
            (304, Some(sent)) => {
                let etag = response.header("etag").map(String::from_utf8_lossy);
                if etag.is_some_and(|etag| Some(&*etag) != sent.etag.as_deref()) {
                    return Err(wrong("it is a 304 with another ETag than that of the request"));
                }
                self.count(|counts| counts.unchanged_lists += 1);
                sent
            }
            (304, None) => return Err(wrong("it is a 304 to a request without a condition")),
            (_, sent) => self.receive(response, sent.as_deref())?,
        };
        list.freshness.check(unix_time())?;
        let end = self.ended.get();
        if list.revoked.iter().any(|index| self.ledger.due(*index, start, end) == Due::Good) {
            return Err(wrong("it lists a certificate before its revocation was ordered"));
        }
        if self.ledger.first_order().is_none() {
            return Ok(());
        }
        let mut shown = self.shown.borrow_mut();
        for index in 0..self.ledger.len() {
            let due = self.ledger.due(index, start, end);
            let word = match (list.revoked.binary_search(&index), due) {
                (Ok(_), _) => Word::Revoked,
                (Err(_), Due::Good | Due::Either) => Word::Good { is_stale: false, is_overdue: false },
                // A list is right until its nextUpdate, however old it is.
                (Err(_), Due::Revoked { .. }) => Word::Good { is_stale: true, is_overdue: false },
            };
            shown[step].note(index, word, matches!(due, Due::Revoked { .. }), end);
        }
        Ok(())
    }

    /// Takes a whole list, in answer to a request that was sent while `sent` was held.
    fn receive(&self, response: &Response<'_>, sent: Option<&HeldList>) -> Result<Rc<HeldList>, Fault> {
        require_type(response, crl::TYPE)?;
        let batch = &self.ledger.batch;
        let received = self.lists.borrow_mut().get(response.body, |bytes| {
            let list = crl::verify(bytes, &batch.issuer)?;
            let revoked = revoked_of(batch, &list);
            Ok(Rc::new(Received { list, revoked }))
        })?;
        let list = Rc::new(HeldList {
            etag: response.header("etag").map(|etag| String::from_utf8_lossy(etag).into_owned()),
            number: received.list.number.clone(),
            freshness: received.list.freshness,
            revoked: received.revoked.clone(),
        });
        if let Some(sent) = sent {
            if list.etag.is_some() && list.etag == sent.etag {
                return Err(wrong("it is the whole list, though its ETag is that of the request"));
            }
            if sent.is_newer_than(&list) {
                return Err(wrong("its number is lower than that of an earlier list"));
            }
        }
        let mut held = self.held.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.is_newer_than(&list)) {
            *held = Some(list.clone());
        }
        Ok(list)
    }
}

fn wrong(flaw: &str) -> Fault {
    Fault::Wrong(flaw.to_owned())
}

/// Checks status and content type.
fn require_type(response: &Response<'_>, due: &str) -> Result<(), Fault> {
    if response.status != 200 {
        return Err(Fault::Status(unwanted(response.status, 200)));
    }
    let mut types = response.headers("content-type");
    let is_due = types.next().is_some_and(|value| value.eq_ignore_ascii_case(due.as_bytes())) && types.next().is_none();
    if is_due && response.coding().is_none() { Ok(()) } else { Err(Fault::Wrong(other_type(response, due))) }
}

/// Returns the time in seconds since 1970.
fn unix_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

impl Scenario for Herd {
    fn title(&self) -> String {
        let asked = match self.sources {
            Sources::All => {
                "OCSP by GET, by POST, and by POST with a nonce; the revocation list, unless it is unchanged"
            }
            Sources::Crl => "the revocation list, unless it is unchanged",
        };
        format!("status of {} certificates: {asked}", self.ledger.len())
    }

    fn steps(&self) -> &'static [&'static str] {
        self.sources.steps()
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let index = self.certificate(planned.seq);
        let post = |body: &[u8]| {
            let path = format!("{OCSP_PATH}/{ISSUER}");
            encode_as(Method::Post, &path, &self.host, &[], ocsp::REQUEST_TYPE, body)
        };
        let serial = &self.ledger.batch.certificates[index].serial;
        match self.sources.kind(planned).1 {
            Kind::Get => {
                let path = format!("{OCSP_PATH}/{ISSUER}/{}", serial.padded_hex());
                *request = encode(Method::Get, &path, &self.host, None, "");
                Method::Get
            }
            Kind::Post { nonce: false } => {
                *request = post(&self.requests[index]);
                Method::Post
            }
            Kind::Post { nonce: true } => {
                let nonce = self.nonce(planned.seq);
                // The same request was encoded without a nonce, and a nonce of 32 bytes is never too long.
                let body = ocsp::encode(&self.ledger.batch.issuer, serial, Some(&nonce)).unwrap_or_default();
                *request = post(&body);
                Method::Post
            }
            Kind::List => {
                *request = encode(Method::Get, &format!("{CRL_PATH}/{ISSUER}"), &self.host, None, "");
                if let Some(held) = &*self.held.borrow()
                    && let Some(etag) = &held.etag
                {
                    with_header(request, "If-None-Match", etag);
                    self.conditional.borrow_mut().insert(planned.seq, held.clone());
                }
                Method::Get
            }
        }
    }

    fn answered(&self, _start: Moment, end: Moment) {
        self.ended.set(end);
    }

    fn longest_answer(&self) -> usize {
        LONGEST_LIST
    }

    fn judge(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Outcome {
        let judged = match self.sources.kind(planned).1 {
            Kind::List => self.judge_list(planned, start, response),
            Kind::Get | Kind::Post { .. } => self.judge_ocsp(planned, start, response),
        };
        self.count(|counts| counts.judged += 1);
        match judged {
            Ok(()) => Outcome::Ok,
            Err(Fault::Rejected(flaw)) => {
                self.count(|counts| counts.rejected += 1);
                self.flaw.replace(flaw.to_string());
                Outcome::Wrong
            }
            Err(Fault::Wrong(flaw)) => {
                self.flaw.replace(flaw);
                Outcome::Wrong
            }
            Err(Fault::Refused) => {
                self.flaw.replace("it refuses, as certctl's limiter of OCSP requests does".to_owned());
                Outcome::Refused
            }
            Err(Fault::Status(outcome)) => outcome,
        }
    }

    fn flaw(&self, _planned: PlannedRequest, _response: &Response<'_>) -> String {
        self.flaw.borrow().clone()
    }

    /// The rows are those of the other workload.
    fn begin_check(&self, _database: &mut DatabaseClient) -> Result<()> {
        Ok(())
    }

    /// A status that is read leaves no row, but in caches. The certificates that were asked for are there.
    fn finish_check(&self, _unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let sql = "SELECT count(*) FROM certificate_versions JOIN managed_certificates AS c ON c.id = certificate_id \
                   WHERE c.name LIKE $1";
        let name = "certificates signed for the run";
        let found = audit::number(database, name, sql, &format!("{}%", Batch::prefix(&self.ledger.batch.run)))?;
        Ok(vec![Work::counted(name, self.ledger.len() as u64, found, 0, "SQL")])
    }

    fn claims(&self) -> Vec<Claim> {
        let Counts { statuses, lists, .. } = self.counts.get();
        let mut claims = vec![Claim { name: "revocation lists sent", counter: "crl_answers", claimed: lists }];
        if self.sources == Sources::All {
            claims.insert(0, Claim { name: "OCSP answers sent", counter: "ocsp_answers", claimed: statuses });
        }
        claims
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        const UNTIL: [&str; 4] = [
            "until every OCSP answer by GET says revoked",
            "until every OCSP answer by POST says revoked",
            "until every OCSP answer by POST with a nonce says revoked",
            "until every revocation list shows all",
        ];
        const STALE: [&str; 4] = [
            "OCSP answers by GET that say good after the confirmation",
            "OCSP answers by POST that say good after the confirmation",
            "OCSP answers by POST with a nonce that say good after the confirmation",
            "entries that revocation lists lack after the confirmation",
        ];
        let (counts, shown) = (self.counts.get(), self.shown.borrow());
        let (ordered, confirmed) = (self.ledger.first_order(), self.ledger.confirmed());
        let share = |name, count, of| Observation { name, value: Value::Share { count, of } };
        let mut observations = Vec::new();
        let skipped = Kind::ALL.len() - self.steps().len();
        for (name, shown) in UNTIL.into_iter().zip(&*shown).skip(skipped) {
            let value = ordered.map_or(Value::Never, |ordered| shown.until(ordered, &confirmed));
            observations.push(Observation { name, value });
        }
        for (name, shown) in STALE.into_iter().zip(&*shown).skip(skipped) {
            observations.push(share(name, shown.stale(), shown.after_confirmation()));
        }
        observations.push(share("revocation lists answered 304 Not Modified", counts.unchanged_lists, counts.lists));
        if self.sources == Sources::Crl {
            return observations;
        }
        observations.push(share(
            "OCSP answers by POST that say unknown about a serial number with a leading zero (certctl's defect)",
            counts.padded_unknown,
            counts.padded,
        ));
        observations.push(share(
            "nonces in the extensions of the certificate, not of the answer (certctl's defect)",
            counts.misplaced_nonces,
            counts.nonces,
        ));
        if counts.limited > 0 {
            let name = "OCSP answers that refuse (CERTCTL_OCSP_RATE_LIMIT_PER_IP_MIN=0 lifts certctl's limit)";
            observations.push(Observation { name, value: Value::Count(counts.limited) });
        }
        observations
    }

    fn broken_rules(&self) -> Vec<Breach> {
        const REJECTED: &str = "answers are such as a relying party rejects";
        const OVERDUE: [&str; 4] = [
            "OCSP answers by GET say good long after the revocation was confirmed (--stale-within)",
            "OCSP answers by POST say good long after the revocation was confirmed (--stale-within)",
            "OCSP answers by POST with a nonce say good long after the revocation was confirmed (--stale-within)",
            "revocation lists are overdue",
        ];
        let (counts, shown) = (self.counts.get(), self.shown.borrow());
        let rejected = (REJECTED, counts.rejected, counts.judged);
        let overdue = OVERDUE.into_iter().zip(&*shown);
        let overdue = overdue.map(|(what, shown)| (what, shown.overdue(), shown.after_confirmation()));
        let broken = std::iter::once(rejected).chain(overdue).filter(|(_, count, _)| *count > 0);
        broken.map(|(what, count, of)| Breach::Rule { what, count, of }).collect()
    }
}
