//! What: the requests that certctl is asked, what a right answer and the work done look like, and the thresholds.
//! Knows no socket and no rate.

pub mod agent_storm;
pub mod need;

use crate::clock::Moment;
use crate::error::Result;
use crate::measure::Outcome;
use crate::measure::threshold::Threshold;
use crate::measure::validity::Work;
use crate::wire::http1::Response;
use crate::wire::request::Method;

/// One kind of request, asked again and again.
pub trait Scenario: 'static {
    /// What [`Scenario::open_books`] reads and [`Scenario::close_books`] compares with.
    type Books;

    /// The name of scenario, bench target and results.
    fn id(&self) -> &'static str;

    /// What it asks, in one line for people.
    fn title(&self) -> String;

    /// The bounds that it promises.
    fn thresholds(&self) -> Vec<Threshold>;

    /// Replaces `request` by an encoded request that costs the target next to nothing: the first on each connection
    /// that is opened before the load.
    fn greeting(&self, request: &mut Vec<u8>) -> Method;

    /// Replaces `request` by the encoded request of arrival `seq`.
    fn encode(&self, seq: u64, request: &mut Vec<u8>) -> Method;

    /// Says what came of arrival `seq`, which started at `start`, and notes the work that the answer claims.
    fn judge(&self, seq: u64, start: Moment, response: &Response<'_>) -> Outcome;

    /// Brings the rows that the scenario writes into the state that every run starts from, and counts what its work
    /// will add to. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If the database cannot be asked.
    fn open_books(&self, database: &mut postgres::Client) -> Result<Self::Books>;

    /// Counts the work that the database shows since `books` were opened. `unanswered` is how many requests got no
    /// complete answer, so that their work may or may not be there. Not for use inside an async runtime.
    ///
    /// # Errors
    /// If the database cannot be asked.
    fn close_books(&self, books: &Self::Books, unanswered: u64, database: &mut postgres::Client) -> Result<Vec<Work>>;

    /// How many right answers there were, warm-up included.
    fn accepted(&self) -> u64;
}
