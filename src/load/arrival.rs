//! Arrivals: the requests of a workload, the client of each, and its intended start.

use crate::clock::Moment;

/// One request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// The sequence number, from 0, over warm-up and measured window together.
    pub seq: u64,
    /// The client that sends it, counted from 0: an agent, a user.
    pub client: u64,
    /// The index of its step in the scenario.
    pub step: usize,
}

/// One intended request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The request.
    pub planned: PlannedRequest,
    /// The intended start.
    pub intended: Moment,
    /// The moment at which it was handed in, which is later if the generator is behind.
    pub handed: Moment,
    /// True if no worker was free for it at that moment.
    pub waited: bool,
}
