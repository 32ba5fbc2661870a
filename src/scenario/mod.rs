//! Scenarios: requests to the system, their right answers, side effects and thresholds. A scenario knows no socket and
//! no rate.

pub mod acme;
pub mod acme_enroll;
mod agent_jobs;
pub mod agent_storm;
pub mod audit;
pub mod bulk_renewal;
pub mod connector_handshake;
pub mod connector_kind;
pub mod deploy_loop;
pub mod divisible;
pub mod f5_deploy;
pub mod issuance;
pub mod job_drain;
pub mod journey;
pub mod list;
pub mod need;
pub mod nonces;
pub mod revocation;
pub mod rotation;
pub mod signing;

use std::time::Duration;

use crate::clock::Moment;
use crate::error::Result;
use crate::foreign;
use crate::load::arrival::PlannedRequest;
use crate::measure::breach::Breach;
use crate::measure::observation::Observation;
use crate::measure::validity::Work;
use crate::measure::{Measurement, Outcome};
use crate::wire::handshake::Record;
use crate::wire::http1::Response;
use crate::wire::request::Method;
use divisible::Divisible;
use journey::Journeys;

/// A few kinds of request, sent again and again.
pub trait Scenario: 'static {
    /// Describes its requests in one line for people.
    fn title(&self) -> String;

    /// Returns the names of its kinds of request; [`PlannedRequest::step`] is an index into them.
    fn steps(&self) -> &'static [&'static str];

    /// Takes note of a request that starts at `start`, before its connection is opened where it needs one.
    fn starting(&self, _start: Moment) {}

    /// Replaces `request` by the encoded request.
    fn encode(&self, planned: PlannedRequest, request: &mut Vec<u8>) -> Method;

    /// Takes note of a connection that was opened for a request that started at `start`; its handshake had ended at
    /// `shown`.
    fn connected(&self, _start: Moment, _shown: Moment, _record: &Record) {}

    /// Takes note that a request that started at `start` was answered, whatever the answer, by `end`.
    fn answered(&self, _start: Moment, _end: Moment) {}

    /// Returns the size of the longest answer that can be a right one, in bytes: a longer one is not read to its end.
    fn longest_answer(&self) -> usize {
        256 * 1024
    }

    /// Returns the outcome of a request that started at `start`, and notes the side effects that the answer claims.
    fn judge(&self, planned: PlannedRequest, start: Moment, response: &Response<'_>) -> Outcome;

    /// Describes, for people, the flaw of an answer that was just judged wrong.
    fn flaw(&self, _planned: PlannedRequest, response: &Response<'_>) -> String {
        match response.is_json() {
            true => "its JSON is not the right answer".to_owned(),
            false => other_type(response, "JSON"),
        }
    }

    /// Returns its journeys, if its arrivals begin journeys and not single requests: then [`Self::encode`] and
    /// [`Self::judge`] are not called.
    fn journeys(&self) -> Option<&dyn Journeys> {
        None
    }

    /// Returns its division among shards; `None` if its requests depend on what other connections were answered, so
    /// that only one generator thread can send them.
    fn divisible(&self) -> Option<&dyn Divisible> {
        None
    }

    /// Reports whether everything that the run is to measure is over, so that it may end before its window does.
    fn is_over(&self) -> bool {
        false
    }

    /// Restores the rows that the scenario writes to the state in which every run starts, and counts those to which it
    /// will add. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If a query fails.
    fn begin_check(&self, database: &mut crate::database::DatabaseClient) -> Result<()>;

    /// Counts the side effects that the database shows since [`Self::begin_check`]. `unanswered` is the number of
    /// requests without a complete answer, so that their side effects may or may not be there. Not for use inside an
    /// async runtime.
    ///
    /// # Errors
    /// If a query fails.
    fn finish_check(&self, unanswered: u64, database: &mut crate::database::DatabaseClient) -> Result<Vec<Work>>;

    /// Returns the side effects that the answers so far claim, warm-up included.
    fn claims(&self) -> Vec<Claim>;

    /// Returns further observations of a run that gave this measurement, warm-up included.
    fn observations(&self, _measurement: &Measurement) -> Vec<Observation> {
        Vec::new()
    }

    /// Returns the rules that answers broke, be it once: each is a breach.
    fn broken_rules(&self) -> Vec<Breach> {
        Vec::new()
    }

    /// Returns the part of the window, from its beginning, from which its figure comes; `None` if it comes from all of
    /// it.
    fn decisive_span(&self) -> Option<Duration> {
        None
    }
}

/// A side effect that answers claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the side effect.
    pub name: &'static str,
    /// The reference server's own counter of it.
    pub counter: &'static str,
    /// The number claimed.
    pub claimed: u64,
}

/// Describes the content type of an answer, where another is `due`.
fn other_type(response: &Response<'_>, due: &str) -> String {
    let mut types = response.headers("content-type");
    let Some(first) = types.next() else { return format!("it has no Content-Type, expected {due}") };
    let first = foreign::line_of_bytes(first);
    match types.count() {
        0 => format!("its Content-Type is {first}, expected {due}"),
        more => format!("the first of its {} Content-Types is {first}, expected {due}", more + 1),
    }
}

/// Returns the outcome of an answer that is not the right one, where the right one has the status `wanted`. Any other
/// status but 429 is a failure, be it another success such as 204.
fn unwanted(status: u16, wanted: u16) -> Outcome {
    match status {
        429 => Outcome::Refused,
        status if status == wanted => Outcome::Wrong,
        status => Outcome::Failed(status),
    }
}
