//! What: the requests that certctl is asked, what a right answer and the work done look like, and the thresholds.
//! Knows no socket and no rate.

pub mod acme;
pub mod agent_storm;
pub mod books;
pub mod bulk_renewal;
pub mod f5_deploy;
pub mod handshake;
pub mod issuance;
pub mod list;
pub mod need;
mod nonces;
pub mod rotation;

use std::time::Duration;

use crate::clock::Moment;
use crate::error::Result;
use crate::foreign;
use crate::load::arrival::Ask;
use crate::measure::breach::Breach;
use crate::measure::observation::Observation;
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome};
use crate::wire::handshake::Record;
use crate::wire::http1::Response;
use crate::wire::request::Method;

/// A few kinds of request, asked again and again.
pub trait Scenario: 'static {
    /// The name of the workload in results.
    fn name(&self) -> &'static str;

    /// What it asks, in one line for people.
    fn title(&self) -> String;

    /// The names of its kinds of request; [`Ask::step`] is an index into them.
    fn steps(&self) -> &'static [&'static str];

    /// The bounds on latencies that it promises.
    fn thresholds(&self) -> Vec<Threshold>;

    /// Takes note of a request that starts at `start`, before its connection is opened where it needs one.
    fn starting(&self, _start: Moment) {}

    /// Replaces `request` by the encoded request.
    fn encode(&self, ask: Ask, request: &mut Vec<u8>) -> Method;

    /// Takes note of a connection that was opened for a request that started at `start`; its handshake had ended at
    /// `shown`.
    fn connected(&self, _start: Moment, _shown: Moment, _record: &Record) {}

    /// Takes note that a request that started at `start` was answered, whatever the answer, by `end`.
    fn answered(&self, _start: Moment, _end: Moment) {}

    /// The longest answer that can be a right one, in bytes: a longer one is not read to its end.
    fn longest_answer(&self) -> usize {
        256 * 1024
    }

    /// Says what came of a request that started at `start`, and notes the work that the answer claims.
    fn judge(&self, ask: Ask, start: Moment, response: &Response<'_>) -> Outcome;

    /// Names, for people, the flaw of an answer that was just judged wrong.
    fn flaw(&self, _ask: Ask, response: &Response<'_>) -> String {
        match response.is_json() {
            true => "its JSON is not the right answer".to_owned(),
            false => other_type(response, "JSON"),
        }
    }

    /// Brings the rows that the scenario writes into the state that every run starts from, and counts what its work
    /// will add to. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If the database cannot be asked.
    fn open_books(&self, database: &mut crate::database::Client) -> Result<()>;

    /// Counts the work that the database shows since the books were opened. `unanswered` is how many requests got no
    /// complete answer, so that their work may or may not be there. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If the database cannot be asked.
    fn close_books(&self, unanswered: u64, database: &mut crate::database::Client) -> Result<Vec<Work>>;

    /// What the answers so far claim, warm-up included.
    fn claims(&self) -> Vec<Claim>;

    /// What else is worth telling, warm-up included, of a run that gave this measurement.
    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        Vec::new()
    }

    /// Rules that answers broke, be it once: each is a breach.
    fn broken_rules(&self) -> Vec<Breach> {
        Vec::new()
    }

    /// How much of the window, from its beginning, its figure comes from; `None` where it comes from all of it.
    fn telling(&self) -> Option<Duration> {
        None
    }
}

/// Work that answers claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed.
    pub name: &'static str,
    /// The reference server's own counter of it.
    pub counter: &'static str,
    /// How much.
    pub claimed: u64,
}

/// The content type of an answer, where another is `due`.
fn other_type(response: &Response<'_>, due: &str) -> String {
    let mut types = response.headers("content-type");
    let Some(first) = types.next() else { return format!("it has no Content-Type, where {due} is due") };
    let first = foreign::line_of_bytes(first);
    match types.count() {
        0 => format!("its Content-Type is {first}, where {due} is due"),
        more => format!("the first of its {} Content-Types is {first}, where {due} is due", more + 1),
    }
}

/// The outcome of an answer that is not the right one, where the right one has the status `wanted`. A status is the
/// wanted one or not: another success than that, be it 204, has failed like any other.
fn unwanted(status: u16, wanted: u16) -> Outcome {
    match status {
        429 => Outcome::Refused,
        status if status == wanted => Outcome::Wrong,
        status => Outcome::Failed(status),
    }
}
