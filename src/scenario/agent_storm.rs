//! `agent_storm`: a fleet of agents, each heartbeating in turn.

use std::cell::Cell;
use std::time::{Duration, Instant};

use postgres::Client;

use super::Scenario;
use crate::clock::Moment;
use crate::error::{Context, Result};
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Outcome, Quantile};
use crate::target::seed;
use crate::wire::http1::Response;
use crate::wire::request::{Method, Template, encode};

/// How many agents `seed/02_agent_fleet.sql` makes.
pub const SEEDED_AGENTS: u64 = 5_000;
/// The permission that a heartbeat needs.
pub const PERMISSION: &str = "agent.heartbeat";

/// What certctl answers to a heartbeat that it recorded.
const RECORDED: &[u8] = br#"{"status":"heartbeat_recorded"}"#;
/// Stands for an agent's number while a request is encoded.
const SLOT: &str = "#####";
/// certctl stamps a heartbeat with its own clock, which may differ from the database's by this much.
const CLOCK_TOLERANCE_S: f64 = 1.0;
/// How long certctl may take to write the audit rows of answered requests: it does so after it answers.
const AUDIT_PATIENCE: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The scenario's state: what is sent, and which heartbeats were accepted.
pub struct AgentStorm {
    agents: u64,
    greeting: Vec<u8>,
    templates: Vec<Template>,
    /// When the last accepted heartbeat of each agent started; 0 for never.
    last_accepted: Vec<Cell<Moment>>,
    accepted: Cell<u64>,
}

/// Audit rows of heartbeats before the run.
pub struct Books {
    audit_rows: u64,
}

impl AgentStorm {
    /// For the first `agents` of the seeded fleet, on a target whose Host is `host`, with an API key `token`.
    pub fn new(agents: u64, host: &str, token: &str) -> Self {
        // One per combination of operating system and architecture, in the order in which the seed deals them out.
        let templates = (0..MIX_PERIOD).map(|number| heartbeat_template(number, host, token)).collect();
        let greeting = encode(Method::Get, "/health", host, None, "");
        let last_accepted = (0..agents).map(|_| Cell::default()).collect();
        Self { agents, greeting, templates, last_accepted, accepted: Cell::new(0) }
    }

    /// The path of an agent's heartbeat, `number` counted from 1.
    pub fn path(number: u64) -> String {
        format!("/api/v1/agents/ag-loadtest-{number:05}/heartbeat")
    }
}

/// The seed's mix repeats after so many agents.
const MIX_PERIOD: u64 = 50;

/// The operating system and architecture that the seed gives to agent `number`: 80% linux, 10% windows, 10% darwin;
/// independently 80% amd64, 20% arm64.
fn platform(number: u64) -> (&'static str, &'static str) {
    let os = match number % 10 {
        0 => "windows",
        1 => "darwin",
        _ => "linux",
    };
    let architecture = if (number / 10).is_multiple_of(5) { "arm64" } else { "amd64" };
    (os, architecture)
}

fn heartbeat_template(number: u64, host: &str, token: &str) -> Template {
    let (os, architecture) = platform(number);
    let body = format!(
        r#"{{"version":"2.1.0","hostname":"loadtest-{SLOT}.fleet.example.test","os":"{os}","architecture":"{architecture}"}}"#
    );
    let target = format!("/api/v1/agents/ag-loadtest-{SLOT}/heartbeat");
    Template::new(encode(Method::Post, &target, host, Some(token), &body), SLOT)
}

impl Scenario for AgentStorm {
    type Books = Books;

    fn id(&self) -> &'static str {
        "agent_storm"
    }

    fn title(&self) -> String {
        format!("{} agents heartbeat in turn: POST {}", self.agents, Self::path(1).replace("00001", "NNNNN"))
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![
            Threshold::Response(Quantile::P95, Duration::from_millis(500)),
            Threshold::Response(Quantile::P99, Duration::from_secs(1)),
            Threshold::Errors(0.001),
        ]
    }

    fn greeting(&self, request: &mut Vec<u8>) -> Method {
        request.clone_from(&self.greeting);
        Method::Get
    }

    fn encode(&self, seq: u64, request: &mut Vec<u8>) -> Method {
        let number = seq % self.agents + 1;
        self.templates[(number % MIX_PERIOD) as usize].fill(number, request);
        Method::Post
    }

    fn judge(&self, seq: u64, start: Moment, response: &Response<'_>) -> Outcome {
        match response.status {
            200 if response.is_json() && response.body.trim_ascii() == RECORDED => {
                self.last_accepted[(seq % self.agents) as usize].set(start);
                self.accepted.set(self.accepted.get() + 1);
                Outcome::Ok
            }
            200 => Outcome::Wrong,
            429 => Outcome::Refused,
            status => Outcome::Failed(status),
        }
    }

    fn open_books(&self, database: &mut Client) -> Result<Books> {
        seed::refresh_fleet(database, self.agents)?;
        // Rows of earlier requests, the preflight's among them, may still be on their way.
        let settled = poll(AUDIT_PATIENCE, || {
            let before = audit_rows(database)?;
            std::thread::sleep(POLL_EVERY * 4);
            let after = audit_rows(database)?;
            Ok((after, before == after))
        })?;
        Ok(Books { audit_rows: settled })
    }

    fn close_books(&self, books: &Books, unanswered: u64, database: &mut Client) -> Result<Vec<Work>> {
        let claimed = self.accepted.get();
        let audited = poll(AUDIT_PATIENCE, || {
            let rows = audit_rows(database)?.saturating_sub(books.audit_rows);
            Ok((rows, rows >= claimed))
        })?;
        Ok(vec![
            Work {
                name: "agents whose row shows their last accepted heartbeat",
                claimed: self.last_accepted.iter().filter(|last| last.get() != Moment::default()).count() as u64,
                found: self.rows_updated(database)?,
                source: "SQL",
            },
            Work::counted("audit rows of accepted heartbeats", claimed, audited, unanswered, "SQL"),
        ])
    }

    fn accepted(&self) -> u64 {
        self.accepted.get()
    }
}

impl AgentStorm {
    /// How many agents' rows are as young as their last accepted heartbeat.
    fn rows_updated(&self, database: &mut Client) -> Result<u64> {
        let sql = "SELECT right(id, 5)::bigint, EXTRACT(EPOCH FROM clock_timestamp() - last_heartbeat_at)::float8 \
                   FROM agents WHERE id LIKE 'ag-loadtest-_____' AND last_heartbeat_at IS NOT NULL";
        let rows = database.query(sql, &[]).context(|| "reading the agents' last heartbeats".to_owned())?;
        let now = Moment::now();
        let updated = rows.iter().filter(|row| {
            let (number, age_s): (i64, f64) = (row.get(0), row.get(1));
            let last = usize::try_from(number - 1).ok().and_then(|index| self.last_accepted.get(index));
            last.is_some_and(|last| {
                last.get() != Moment::default() && age_s <= (now - last.get()).as_secs_f64() + CLOCK_TOLERANCE_S
            })
        });
        Ok(updated.count() as u64)
    }
}

/// Audit rows of heartbeats that the seeded fleet sent and certctl accepted.
fn audit_rows(database: &mut Client) -> Result<u64> {
    let sql = "SELECT count(*) FROM audit_events WHERE action = 'api_post' AND resource_type = 'api' \
               AND resource_id LIKE '/api/v1/agents/ag-loadtest-%/heartbeat' AND details->>'status' = '200'";
    let row = database.query_one(sql, &[]).context(|| "counting audit rows".to_owned())?;
    Ok(row.get::<_, i64>(0) as u64)
}

/// Reads a count until it is what it should be or patience ends; returns the last reading.
fn poll(patience: Duration, mut read: impl FnMut() -> Result<(u64, bool)>) -> Result<u64> {
    let start = Instant::now();
    loop {
        let (count, good) = read()?;
        if good || start.elapsed() > patience {
            return Ok(count);
        }
        std::thread::sleep(POLL_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Parser;

    fn judge(bytes: &[u8]) -> Outcome {
        let mut parser = Parser::default();
        parser.start(Method::Post);
        parser.feed(bytes).unwrap();
        AgentStorm::new(5, "h", "t").judge(0, Moment::now(), &parser.response().unwrap())
    }

    #[test]
    fn only_the_recorded_answer_is_ok() {
        let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        let ok = format!("{json}Content-Length: 32\r\n\r\n{{\"status\":\"heartbeat_recorded\"}}\n");
        assert_eq!(judge(ok.as_bytes()), Outcome::Ok);
        let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        assert_eq!(judge(html.as_bytes()), Outcome::Wrong);
        let other = format!("{json}Content-Length: 2\r\n\r\n{{}}");
        assert_eq!(judge(other.as_bytes()), Outcome::Wrong);
        assert_eq!(judge(b"HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n"), Outcome::Refused);
        assert_eq!(judge(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"), Outcome::Failed(500));
    }

    #[test]
    fn agents_take_turns_and_keep_their_platform() {
        let storm = AgentStorm::new(5_000, "localhost:8443", "t0k");
        let mut request = Vec::new();
        for (seq, number) in [(0, 1), (4_999, 5_000), (5_000, 1), (12_344, 2_345)] {
            storm.encode(seq, &mut request);
            let text = String::from_utf8(request.clone()).unwrap();
            assert!(text.starts_with(&format!("POST {} HTTP/1.1\r\n", AgentStorm::path(number))), "{text}");
            let (os, architecture) = platform(number);
            assert!(text.contains(&format!("\"hostname\":\"loadtest-{number:05}.fleet.example.test\"")), "{text}");
            assert!(text.ends_with(&format!("\"os\":\"{os}\",\"architecture\":\"{architecture}\"}}")), "{text}");
        }
    }
}
