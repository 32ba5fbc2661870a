//! `list_certificates`: pages of the certificates under management.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use serde_json::Value as Json;

use super::audit::{AuditCheck, AuditRows};
use super::divisible::{self, Divisible};
use super::{Claim, Scenario, issuance, unwanted};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::Result;
use crate::load::arrival::PlannedRequest;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode, with_header};

/// The name of the workload.
pub const NAME: &str = "list_certificates";
/// The names of the kinds of request.
pub const STEPS: &[&str] = &["list"];
/// The permission that it needs.
pub const PERMISSION: &str = "cert.read";

/// The number of certificates on a page.
const PER_PAGE: u64 = 50;
/// The number of pages after which a walk starts over: 50,000 certificates.
const MAX_PAGES: u64 = 1_000;
/// The number of pages after which a walk by cursor starts over: certctl's cursor as built never advances.
const MAX_CURSOR_PAGES: u64 = 20;

/// Returns the bounds on latencies.
pub fn thresholds() -> Vec<Threshold> {
    vec![
        Threshold::Response(Quantile::P95, Duration::from_millis(800)),
        Threshold::Response(Quantile::P99, Duration::from_secs(2)),
    ]
}

/// The pages that are requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// The first page, again and again.
    #[default]
    #[value(name = "first")]
    FirstPage,
    /// Page after page, to the last.
    Deep,
    /// The first page with If-None-Match, to count the answers that are 304 (RFC 9110, section 13.1.2).
    Conditional,
    /// Page after page by the cursor that each answer gives.
    Cursor,
}

/// The scenario's state: the next request, and the observations so far.
pub struct List {
    variant: Variant,
    host: String,
    token: String,
    answered: Cell<u64>,
    not_modified: Cell<u64>,
    walk: RefCell<Walk>,
    check: RefCell<Option<AuditCheck>>,
}

/// The state of a walk through the pages.
struct Walk {
    /// The page of each request in flight.
    requested: HashMap<u64, u64>,
    page: u64,
    pages: u64,
    deepest: u64,
    etag: Option<String>,
    cursor: Option<String>,
    first_id: Option<String>,
    cursor_pages: u64,
    advanced: u64,
}

/// One page as certctl sends it.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Row<'a>>,
    total: u64,
    page: Option<u64>,
    next_cursor: Option<&'a str>,
}

#[derive(Deserialize)]
struct Row<'a> {
    id: &'a str,
}

impl List {
    /// Returns the scenario for a system whose Host is `host`, with an API key `token`.
    pub fn new(variant: Variant, host: &str, token: &str) -> Self {
        let walk = Walk {
            requested: HashMap::new(),
            page: 1,
            pages: 1,
            deepest: 1,
            etag: None,
            cursor: None,
            first_id: None,
            cursor_pages: 0,
            advanced: 0,
        };
        Self {
            variant,
            host: host.to_owned(),
            token: token.to_owned(),
            answered: Cell::new(0),
            not_modified: Cell::new(0),
            walk: RefCell::new(walk),
            check: RefCell::default(),
        }
    }

    fn query(&self, seq: u64) -> String {
        let mut walk = self.walk.borrow_mut();
        match self.variant {
            Variant::FirstPage | Variant::Conditional => format!("per_page={PER_PAGE}"),
            Variant::Deep => {
                let page = walk.page;
                walk.requested.insert(seq, page);
                walk.page = if page < walk.pages.min(MAX_PAGES) { page + 1 } else { 1 };
                format!("per_page={PER_PAGE}&page={page}")
            }
            Variant::Cursor => {
                if walk.cursor_pages.is_multiple_of(MAX_CURSOR_PAGES) {
                    walk.cursor = None;
                }
                walk.cursor_pages += 1;
                // Only an answer to a request with a cursor has one; certctl takes any cursor for the beginning.
                format!("page_size={PER_PAGE}&cursor={}", walk.cursor.as_deref().unwrap_or("start"))
            }
        }
    }

    fn judge_page(&self, seq: u64, body: &[u8]) -> Outcome {
        let mut walk = self.walk.borrow_mut();
        let requested = walk.requested.remove(&seq).unwrap_or(1);
        let Ok(page) = serde_json::from_slice::<Page<'_>>(body) else { return Outcome::Wrong };
        // The total is counted before the page is read, and certificates are only added.
        let due = page.total.saturating_sub((requested - 1) * PER_PAGE).min(PER_PAGE);
        let right_page = self.variant == Variant::Cursor || page.page == Some(requested);
        if !right_page || (page.data.len() as u64) < due || page.data.len() as u64 > PER_PAGE {
            return Outcome::Wrong;
        }
        walk.pages = page.total.div_ceil(PER_PAGE).max(1);
        walk.deepest = walk.deepest.max(requested);
        if self.variant == Variant::Cursor {
            walk.follow(&page);
        }
        Outcome::Ok
    }
}

impl Walk {
    fn follow(&mut self, page: &Page<'_>) {
        let id = page.data.first().map(|row| row.id);
        match &self.first_id {
            None => self.first_id = id.map(str::to_owned),
            Some(first) => self.advanced += u64::from(id.is_some_and(|id| id != first)),
        }
        self.cursor = page.next_cursor.map(str::to_owned);
    }
}

impl Scenario for List {
    fn title(&self) -> String {
        let which = match self.variant {
            Variant::FirstPage => "the first page of certificates",
            Variant::Deep => "page after page of certificates",
            Variant::Conditional => "the first page of certificates, unless unchanged",
            Variant::Cursor => "page after page of certificates, by cursor",
        };
        format!("{which}: GET {}?per_page={PER_PAGE}", issuance::PATH)
    }

    fn steps(&self) -> &'static [&'static str] {
        STEPS
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let path = format!("{}?{}", issuance::PATH, self.query(planned.seq));
        *request = encode(Method::Get, &path, &self.host, Some(&self.token), "");
        if self.variant == Variant::Conditional
            && let Some(etag) = &self.walk.borrow().etag
        {
            with_header(request, "If-None-Match", etag);
        }
        Method::Get
    }

    /// A page of 50 certificates is about 35 KiB, and certctl keeps names and tags of any length.
    fn longest_answer(&self) -> usize {
        1024 * 1024
    }

    fn judge(&self, planned: PlannedRequest, _start: Moment, response: &Response<'_>) -> Outcome {
        let outcome = match response.status {
            304 if self.variant == Variant::Conditional => {
                self.not_modified.set(self.not_modified.get() + 1);
                Outcome::Ok
            }
            200 if response.is_json() => self.judge_page(planned.seq, response.body),
            status => unwanted(status, 200),
        };
        if outcome == Outcome::Ok {
            self.answered.set(self.answered.get() + 1);
            if let Some(etag) = response.header("etag").filter(|_| response.status == 200) {
                self.walk.borrow_mut().etag = Some(String::from_utf8_lossy(etag).into_owned());
            }
        }
        outcome
    }

    fn divisible(&self) -> Option<&dyn Divisible> {
        Some(self)
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        let rows = |name, status| AuditRows { name, action: "api_get", path: issuance::PATH, status };
        let kinds = vec![rows("audit rows of pages", 200), rows("audit rows of unchanged pages", 304)];
        self.check.replace(Some(AuditCheck::open(database, kinds)?));
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let unchanged = self.not_modified.get();
        let claimed = [self.answered.get() - unchanged, unchanged];
        let mut work = match &*self.check.borrow() {
            Some(check) => check.close(&claimed, unanswered, database)?,
            None => Vec::new(),
        };
        work.retain(|work| work.claimed + work.found > 0);
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { name: "pages sent", counter: "certificates_listed", claimed: self.answered.get() }]
    }

    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        let (walk, answered) = (self.walk.borrow(), self.answered.get());
        let (name, value) = match self.variant {
            Variant::FirstPage => return Vec::new(),
            Variant::Deep => ("deepest page", Value::Count(walk.deepest)),
            Variant::Conditional => {
                ("answered 304 Not Modified", Value::Share { count: self.not_modified.get(), of: answered })
            }
            Variant::Cursor => {
                ("pages on which the cursor had advanced", Value::Share { count: walk.advanced, of: answered })
            }
        };
        vec![Observation { name, value }]
    }
}

impl Divisible for List {
    /// Makes an instance that walks through the pages on its own.
    fn instance(&self) -> Box<dyn Scenario + Send> {
        Box::new(Self::new(self.variant, &self.host, &self.token))
    }

    fn notes(&self, _start: Moment) -> Json {
        let walk = self.walk.borrow();
        divisible::write(&[self.answered.get(), self.not_modified.get(), walk.deepest, walk.advanced])
    }

    fn absorb(&self, notes: &Json, _start: Moment) -> Result<()> {
        let [answered, not_modified, deepest, advanced]: [u64; 4] = divisible::read(notes)?;
        self.answered.set(self.answered.get() + answered);
        self.not_modified.set(self.not_modified.get() + not_modified);
        let mut walk = self.walk.borrow_mut();
        walk.deepest = walk.deepest.max(deepest);
        walk.advanced += advanced;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;

    fn planned(seq: u64) -> PlannedRequest {
        PlannedRequest { seq, client: 0, step: 0 }
    }

    fn page(total: u64, number: u64, rows: u64) -> String {
        let data: Vec<String> = (0..rows).map(|row| format!(r#"{{"id":"c{number}-{row}","name":"n"}}"#)).collect();
        format!(r#"{{"data":[{}],"total":{total},"page":{number},"per_page":50}}"#, data.join(","))
    }

    fn judge(list: &List, seq: u64, head: &str, body: &str) -> Outcome {
        let mut parser = Parser::default();
        parser.start(Method::Get);
        let head = format!("HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        parser.feed(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        list.judge(planned(seq), Moment::now(), &parser.response().unwrap())
    }

    fn encoded(list: &List, seq: u64) -> String {
        let mut request = Vec::new();
        list.encode(planned(seq), &mut request);
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn a_page_whose_rows_contradict_its_total_is_wrong() {
        let list = List::new(Variant::FirstPage, "h", "t");
        assert_eq!(judge(&list, 0, "200 OK", &page(120, 1, 50)), Outcome::Ok);
        assert_eq!(judge(&list, 1, "200 OK", &page(120, 1, 49)), Outcome::Wrong);
        assert_eq!(judge(&list, 2, "200 OK", &page(120, 2, 50)), Outcome::Wrong);
        assert_eq!(judge(&list, 3, "200 OK", "{}"), Outcome::Wrong);
        assert_eq!(judge(&list, 4, "304 x", ""), Outcome::Failed(304));
    }

    #[test]
    fn a_deep_walk_restarts_after_the_last_page() {
        let list = List::new(Variant::Deep, "h", "t");
        let mut pages = Vec::new();
        for seq in 0..5 {
            let request = encoded(&list, seq);
            let number: u64 = request.split("&page=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            pages.push(number);
            let rows = if number == 3 { 20 } else { 50 };
            assert_eq!(judge(&list, seq, "200 OK", &page(120, number, rows)), Outcome::Ok);
        }
        // The walk learns from the first answer that there are three.
        assert_eq!(pages, [1, 1, 2, 3, 1]);
        assert_eq!(list.observations(&Measurement::default())[0].to_string(), "deepest page: 3");
    }

    #[test]
    fn a_conditional_list_sends_its_etag_and_counts_304s() {
        let list = List::new(Variant::Conditional, "h", "t");
        assert!(!encoded(&list, 0).contains("If-None-Match"));
        assert_eq!(judge(&list, 0, "200 OK\r\nEtag: \"abc\"", &page(50, 1, 50)), Outcome::Ok);
        assert!(encoded(&list, 1).contains("\r\nIf-None-Match: \"abc\"\r\n\r\n"));
        assert_eq!(judge(&list, 1, "304 Not Modified", ""), Outcome::Ok);
        assert_eq!(list.observations(&Measurement::default())[0].to_string(), "answered 304 Not Modified: 1 of 2");
    }

    #[test]
    fn a_stuck_cursor_is_bounded_and_reported() {
        let list = List::new(Variant::Cursor, "h", "t");
        let stuck = page(500, 1, 50).replace("\"page\":1,\"per_page\":50", "\"next_cursor\":\"c2\",\"page_size\":50");
        for seq in 0..45 {
            let cursor = if seq % MAX_CURSOR_PAGES == 0 { "cursor=start " } else { "cursor=c2 " };
            assert!(encoded(&list, seq).contains(cursor), "{seq}");
            assert_eq!(judge(&list, seq, "200 OK", &stuck), Outcome::Ok);
        }
        assert_eq!(
            list.observations(&Measurement::default())[0].to_string(),
            "pages on which the cursor had advanced: 0 of 45"
        );
    }
}
