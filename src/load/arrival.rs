//! Arrivals: what is asked, by whom, and when it is meant to be.

use crate::clock::Moment;

/// One request to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Counts from 0, over warm-up and measured window together.
    pub seq: u64,
    /// Who asks, counted from 0: an agent, a user.
    pub client: u64,
    /// Which of the scenario's steps it is.
    pub step: usize,
}

/// One intended request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What is asked.
    pub ask: Ask,
    /// When it is meant to start.
    pub intended: Moment,
    /// When it was handed in, which is later if the generator is behind.
    pub handed: Moment,
    /// No worker was free for it then.
    pub waited: bool,
}
