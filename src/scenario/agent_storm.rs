//! `agent_storm`: a fleet of agents that heartbeat in turn, or behave as real agents do.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::audit::{AuditCheck, AuditRows};
use super::divisible::{self, Divisible};
use super::{Claim, Scenario, unwanted};
use crate::clock::Moment;
use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::load::arrival::PlannedRequest;
use crate::measure::observation::{Observation, Value};
use crate::measure::threshold::Threshold;
use crate::measure::timeline::Steady;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome, Quantile};
use crate::seed;
use crate::wire::http1::Response;
use crate::wire::request::{Method, Template, encode};
use clap::ValueEnum;

/// The number of agents in `seed/02_agent_fleet.sql`.
pub const SEEDED_AGENTS: u64 = 5_000;
/// The permission that a heartbeat needs.
pub const HEARTBEAT_PERMISSION: &str = "agent.heartbeat";
/// The permission that a poll for work needs.
pub const POLL_PERMISSION: &str = "agent.job.poll";

/// The step that is a heartbeat.
pub const HEARTBEAT: usize = 0;
/// The step that is a poll for work.
pub const POLL: usize = 1;
/// The step that is an agent's first heartbeat, on a connection that it opens.
pub const RECONNECT: usize = 2;

/// The answer of certctl to a heartbeat that it recorded.
const RECORDED: &[u8] = br#"{"status":"heartbeat_recorded"}"#;
/// The placeholder of an agent's number while a request is encoded.
const SLOT: &str = "#####";
/// A fleet that came back is in steady state once its answers are faster than this, as the contract requires.
const STEADY_BELOW: Duration = Duration::from_millis(500);
/// The smallest fleet whose steady state is reported. The p90 of a second takes 100 answers, and an agent sends a
/// request every 20 s on average: so many agents send 150 a second, and by chance fewer than 100 in none of some
/// hundred seconds.
const MIN_REPORTED_AGENTS: u64 = 3_000;
/// The largest difference between certctl's clock, which stamps heartbeats, and the database's.
const CLOCK_TOLERANCE_S: f64 = 1.0;

/// The behaviour of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Fleet {
    /// Heartbeats only, one agent after the other, at --rate.
    #[default]
    Contract,
    /// Each agent heartbeats every 60 s and polls for work every 30 s, ±10%.
    Real,
    /// All agents connect at once, then live like that.
    Restart,
}

impl Fleet {
    /// Returns the names of the kinds of request.
    pub fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Contract => &["heartbeat"],
            Self::Real => &["heartbeat", "poll"],
            Self::Restart => &["heartbeat", "poll", "reconnect"],
        }
    }

    /// Returns the bounds on latencies.
    pub fn thresholds(self) -> Vec<Threshold> {
        let (p95, p99) = (Duration::from_millis(500), Duration::from_secs(1));
        match self {
            Self::Contract => {
                vec![Threshold::Response(Quantile::P95, p95), Threshold::Response(Quantile::P99, p99)]
            }
            Self::Real => ["heartbeat", "poll"]
                .into_iter()
                .flat_map(|step| [Threshold::Step(step, Quantile::P95, p95), Threshold::Step(step, Quantile::P99, p99)])
                .collect(),
            // A restart is measured, not judged: see the observations.
            Self::Restart => Vec::new(),
        }
    }
}

/// The scenario's state: its requests, and the heartbeats that were accepted.
pub struct AgentStorm {
    fleet: Fleet,
    agents: u64,
    heartbeats: Vec<Template>,
    poll: Template,
    /// The start of the last accepted heartbeat of each agent; 0 for none.
    last_accepted: Vec<Cell<Moment>>,
    accepted: Cell<u64>,
    polled: Cell<u64>,
    recovery: Recovery,
    check: RefCell<Option<AuditCheck>>,
}

/// The return of a fleet after an outage.
#[derive(Default)]
struct Recovery {
    began: Cell<Option<Moment>>,
    /// The number of agents that are back.
    back: Cell<u64>,
    /// The moment at which the latest of them was.
    latest: Cell<Moment>,
}

/// What a shard saw: moments in nanoseconds since the start of the run.
#[derive(Serialize, Deserialize)]
struct Notes {
    accepted: u64,
    polled: u64,
    began_ns: Option<u64>,
    latest_ns: u64,
    /// The agents with an accepted heartbeat, counted from 0, and the start of the last one of each.
    last_accepted_ns: Vec<(u64, u64)>,
}

impl Recovery {
    /// Returns the time from the first reconnect until all agents were back; `None` if they are not.
    fn span(&self, agents: u64) -> Option<Duration> {
        let began = self.began.get().filter(|_| self.back.get() == agents)?;
        Some(self.latest.get() - began)
    }
}

impl AgentStorm {
    /// Returns the scenario for the first `agents` of the seeded fleet, at a system whose Host is `host`, with an API
    /// key `token`.
    pub fn new(fleet: Fleet, agents: u64, host: &str, token: &str) -> Self {
        // One per combination of operating system and architecture, in the order in which the seed deals them out.
        let heartbeats = (0..MIX_PERIOD).map(|number| heartbeat_template(number, host, token)).collect();
        let work = format!("/api/v1/agents/ag-loadtest-{SLOT}/work");
        Self {
            fleet,
            agents,
            heartbeats,
            poll: Template::new(encode(Method::Get, &work, host, Some(token), ""), SLOT),
            last_accepted: (0..agents).map(|_| Cell::default()).collect(),
            accepted: Cell::new(0),
            polled: Cell::new(0),
            recovery: Recovery::default(),
            check: RefCell::default(),
        }
    }

    /// Returns the path of an agent's heartbeat, `number` counted from 1.
    pub fn path(number: u64) -> String {
        format!("/api/v1/agents/ag-loadtest-{number:05}/heartbeat")
    }

    fn accept_heartbeat(&self, planned: PlannedRequest, start: Moment) {
        let last = &self.last_accepted[(planned.client % self.agents) as usize];
        let first = last.replace(start) == Moment::default();
        self.accepted.set(self.accepted.get() + 1);
        if first {
            let back = self.recovery.back.get() + 1;
            self.recovery.back.set(back);
            if self.fleet == Fleet::Restart {
                self.recovery.latest.set(Moment::now());
            }
        }
    }
}

/// The number of agents after which the seed's mix repeats.
const MIX_PERIOD: u64 = 50;

/// Returns the operating system and architecture that the seed gives to agent `number`: 80% linux, 10% windows, 10%
/// darwin; independently 80% amd64, 20% arm64.
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
    let path = format!("/api/v1/agents/ag-loadtest-{SLOT}/heartbeat");
    Template::new(encode(Method::Post, &path, host, Some(token), &body), SLOT)
}

impl Scenario for AgentStorm {
    fn title(&self) -> String {
        let (agents, path) = (self.agents, Self::path(1).replace("00001", "NNNNN"));
        match self.fleet {
            Fleet::Contract => format!("{agents} agents heartbeat in turn: POST {path}"),
            Fleet::Real => format!("{agents} agents heartbeat every 60 s and poll for work every 30 s"),
            Fleet::Restart => format!("{agents} agents come back at once, then heartbeat and poll for work"),
        }
    }

    fn steps(&self) -> &'static [&'static str] {
        self.fleet.steps()
    }

    fn starting(&self, start: Moment) {
        if self.fleet == Fleet::Restart && self.recovery.began.get().is_none() {
            self.recovery.began.set(Some(start));
        }
    }

    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method {
        let number = planned.client % self.agents + 1;
        if planned.step == POLL {
            self.poll.fill(number, request);
            return Method::Get;
        }
        self.heartbeats[(number % MIX_PERIOD) as usize].fill(number, request);
        Method::Post
    }

    fn judge(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Outcome {
        if response.status != 200 || !response.is_json() {
            return unwanted(response.status, 200);
        }
        if planned.step == POLL {
            let right = response.body.starts_with(br#"{"count":"#);
            self.polled.set(self.polled.get() + u64::from(right));
            return if right { Outcome::Ok } else { Outcome::Wrong };
        }
        if response.body.trim_ascii() != RECORDED {
            return Outcome::Wrong;
        }
        self.accept_heartbeat(planned, start);
        Outcome::Ok
    }

    fn divisible(&self) -> Option<&dyn Divisible> {
        Some(self)
    }

    fn begin_check(&self, database: &mut DatabaseClient) -> Result<()> {
        seed::refresh_fleet(database, self.agents)?;
        let rows = |name, action, path| AuditRows { name, action, path, status: 200 };
        let heartbeat = "/api/v1/agents/ag-loadtest-%/heartbeat";
        let mut kinds = vec![rows("audit rows of accepted heartbeats", "api_post", heartbeat)];
        if self.fleet != Fleet::Contract {
            kinds.push(rows("audit rows of answered polls", "api_get", "/api/v1/agents/ag-loadtest-%/work"));
        }
        self.check.replace(Some(AuditCheck::open(database, kinds)?));
        Ok(())
    }

    fn finish_check(&self, unanswered: u64, database: &mut DatabaseClient) -> Result<Vec<Work>> {
        let mut work = vec![Work {
            name: "agents whose row shows their last accepted heartbeat",
            claimed: self.recovery.back.get(),
            found: self.rows_updated(database)?,
            source: "SQL",
        }];
        if let Some(check) = &*self.check.borrow() {
            work.extend(check.close(&[self.accepted.get(), self.polled.get()], unanswered, database)?);
        }
        Ok(work)
    }

    fn claims(&self) -> Vec<Claim> {
        let heartbeats = Claim { name: "heartbeats recorded", counter: "heartbeats", claimed: self.accepted.get() };
        let polls = Claim { name: "polls answered", counter: "polls", claimed: self.polled.get() };
        if self.fleet == Fleet::Contract { vec![heartbeats] } else { vec![heartbeats, polls] }
    }

    fn decisive_span(&self) -> Option<Duration> {
        self.recovery.span(self.agents)
    }

    fn observations(&self, measurement: &Measurement) -> Vec<Observation> {
        if self.recovery.began.get().is_none() {
            return Vec::new();
        }
        let recovered = self.recovery.span(self.agents);
        let observe =
            |name, span: Option<Duration>| Observation { name, value: span.map_or(Value::Never, Value::Duration) };
        let mut observations = vec![
            observe("time to recovered, first reconnect to last agent accepted", recovered),
            Observation {
                name: "agents back",
                value: Value::Share { count: self.recovery.back.get(), of: self.agents },
            },
        ];
        if self.agents >= MIN_REPORTED_AGENTS {
            let after = match measurement.timeline.steady(Quantile::P90, STEADY_BELOW) {
                Steady::After(span) => Some(span),
                Steady::Never => None,
            };
            observations.push(observe("time to steady state, p90 of every later second below 500 ms", after));
        }
        observations
    }
}

impl AgentStorm {
    /// Counts the agents whose rows are as young as their last accepted heartbeat.
    fn rows_updated(&self, database: &mut DatabaseClient) -> Result<u64> {
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

impl Divisible for AgentStorm {
    fn instance(&self) -> Box<dyn Scenario + Send> {
        Box::new(Self {
            fleet: self.fleet,
            agents: self.agents,
            heartbeats: self.heartbeats.clone(),
            poll: self.poll.clone(),
            last_accepted: (0..self.agents).map(|_| Cell::default()).collect(),
            accepted: Cell::new(0),
            polled: Cell::new(0),
            recovery: Recovery::default(),
            check: RefCell::default(),
        })
    }

    fn notes(&self, start: Moment) -> Json {
        let last = self.last_accepted.iter().map(Cell::get).zip(0..);
        let accepted = last.filter(|(last, _)| *last != Moment::default());
        divisible::write(&Notes {
            accepted: self.accepted.get(),
            polled: self.polled.get(),
            began_ns: self.recovery.began.get().map(|began| began.ns_since(start)),
            latest_ns: self.recovery.latest.get().ns_since(start),
            last_accepted_ns: accepted.map(|(last, agent)| (agent, last.ns_since(start))).collect(),
        })
    }

    fn absorb(&self, notes: &Json, start: Moment) -> Result<()> {
        let notes: Notes = divisible::read(notes)?;
        let at = |ns| start + Duration::from_nanos(ns);
        self.accepted.set(self.accepted.get() + notes.accepted);
        self.polled.set(self.polled.get() + notes.polled);
        let recovery = &self.recovery;
        recovery.began.set(recovery.began.get().into_iter().chain(notes.began_ns.map(at)).min());
        recovery.latest.set(recovery.latest.get().max(at(notes.latest_ns)));
        for (agent, ns) in notes.last_accepted_ns {
            // An index beyond the fleet is of another run, which the caller has refused.
            let Some(last) = usize::try_from(agent).ok().and_then(|agent| self.last_accepted.get(agent)) else {
                continue;
            };
            recovery.back.set(recovery.back.get() + u64::from(last.get() == Moment::default()));
            last.set(last.get().max(at(ns)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::timeline::Timeline;
    use crate::wire::http1::Parser;

    fn planned(seq: u64) -> PlannedRequest {
        PlannedRequest { seq, client: seq, step: HEARTBEAT }
    }

    fn judge(bytes: &[u8]) -> Outcome {
        let mut parser = Parser::default();
        parser.start(Method::Post);
        parser.feed(bytes).unwrap();
        AgentStorm::new(Fleet::Contract, 5, "h", "t").judge(planned(0), Moment::now(), &parser.response().unwrap())
    }

    #[test]
    fn only_a_recorded_heartbeat_is_a_right_answer() {
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
    fn a_silent_second_of_a_large_fleet_is_not_steady() {
        let time_to_steady = |agents, answers_in_the_last_second: u64| {
            let storm = AgentStorm::new(Fleet::Restart, agents, "h", "t");
            storm.starting(Moment::now());
            let mut measurement =
                Measurement { timeline: Timeline::new(Duration::from_secs(2)), ..Measurement::default() };
            for (second, answers) in [(0, 150), (1, answers_in_the_last_second)] {
                for _ in 0..answers {
                    measurement.timeline.record(second * 1_000_000_000, Outcome::Ok, 1_000_000);
                }
            }
            let observations = storm.observations(&measurement);
            let steady = observations.iter().find(|one| one.name.starts_with("time to steady state"));
            steady.map(|one| one.value)
        };
        assert_eq!(time_to_steady(3_000, 100), Some(Value::Duration(Duration::ZERO)));
        assert_eq!([time_to_steady(3_000, 99), time_to_steady(3_000, 0)], [Some(Value::Never); 2]);
        assert_eq!(time_to_steady(2_999, 100), None);
    }

    #[test]
    fn agents_rotate_and_keep_their_platform() {
        let storm = AgentStorm::new(Fleet::Contract, 5_000, "localhost:8443", "t0k");
        let mut request = Vec::new();
        for (seq, number) in [(0, 1), (4_999, 5_000), (5_000, 1), (12_344, 2_345)] {
            storm.encode(planned(seq), &mut request);
            let text = String::from_utf8(request.clone()).unwrap();
            assert!(text.starts_with(&format!("POST {} HTTP/1.1\r\n", AgentStorm::path(number))), "{text}");
            let (os, architecture) = platform(number);
            assert!(text.contains(&format!("\"hostname\":\"loadtest-{number:05}.fleet.example.test\"")), "{text}");
            assert!(text.ends_with(&format!("\"os\":\"{os}\",\"architecture\":\"{architecture}\"}}")), "{text}");
        }
    }
}
