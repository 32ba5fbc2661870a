//! Journeys: sequences of requests that belong together, from the first to a result that only the last one shows, such
//! as a renewal until a server presents the new certificate.
//!
//! An arrival begins a journey, and the journey is what the workload measures: its response time runs from the intended
//! start to its end. Its steps follow one another without a gap, each measured by itself, so that their response times
//! add up to that of the journey. A step takes as many requests as it needs: a poll is sent again until it shows what
//! was awaited.

use std::time::Duration;

use crate::clock::Moment;
use crate::load::arrival::PlannedRequest;
use crate::measure::Outcome;
use crate::wire::handshake::Record;
use crate::wire::http1::Response;
use crate::wire::request::Method;

/// The journeys of a scenario.
pub trait Journeys {
    /// Begins the journey of an arrival that starts at `start`.
    fn begin(&self, planned: PlannedRequest, start: Moment) -> Box<dyn Journey>;
}

/// One journey under way. Its driver takes [`Journey::next`] and reports the result by the method that belongs to it,
/// until a step fails or the journey has ended.
pub trait Journey {
    /// Returns the index of the step that is under way, among the scenario's steps.
    fn step(&self) -> usize;

    /// Returns what is to be done next, and encodes the request into `request` if it is one.
    fn next(&mut self, request: &mut Vec<u8>) -> Next;

    /// Takes the answer to the request, which was sent at `sent` and had arrived by `end`.
    fn answered(&mut self, sent: Moment, end: Moment, response: &Response<'_>) -> StepProgress;

    /// Takes the handshake of a connection that [`Next::Connect`] opened.
    fn connected(&mut self, _record: &Record) -> StepProgress {
        StepProgress::Failed(Outcome::Wrong, "no connection was to be opened".to_owned())
    }

    /// Takes the result of a task that [`Next::Run`] ran: an error in words where it failed.
    fn ran(&mut self, _result: Result<(), String>) -> StepProgress {
        StepProgress::Failed(Outcome::Wrong, "no task was to be run".to_owned())
    }

    /// Returns the time after which the client that this stands for gives up the request that [`Journey::next`] encoded;
    /// `None` if only the end of the arrival's own time ends it.
    fn longest_request(&self) -> Option<Duration> {
        None
    }

    /// Returns the size of the longest answer that can be a right one, in bytes.
    fn longest_answer(&self) -> usize {
        256 * 1024
    }
}

/// The next action of a journey.
pub enum Next {
    /// Sends the encoded request to a peer of the scenario, by its index, on the connection kept to it.
    Send(usize, Method),
    /// Opens a new connection to a peer of the scenario, by its index, with a full handshake, and closes it again.
    Connect(usize),
    /// Runs a task that may block, on a thread of its own.
    Run(Task),
    /// Waits.
    Pause(Duration),
    /// Ends: every step is done.
    End,
}

/// A task that may block. It returns an error in words if it fails.
pub type Task = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// The state of a step after a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepProgress {
    /// The step goes on.
    Continues,
    /// The step is done, and the one that [`Journey::step`] names from now on begins; after the last one, the journey
    /// is over.
    Done,
    /// The step failed, and the journey with it: the outcome, and the flaw in words for people.
    Failed(Outcome, String),
}
