//! The outcome of an arrival.

use std::fmt;

use crate::wire::FaultKind;

/// The outcome of one arrival. A failure of the network or of the peer is data, not an error of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The right answer.
    Ok,
    /// 429: a rate limiter refused.
    Refused,
    /// A status other than the one that the scenario wants, even if it means success.
    Failed(u16),
    /// The wanted status with a wrong answer: HTML where JSON was due, or the work not done.
    Wrong,
    /// No complete answer.
    Broken(FaultKind),
    /// No complete answer within the request's timeout.
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Refused => f.write_str("refused (429)"),
            Self::Failed(status) => write!(f, "failed ({status})"),
            Self::Wrong => f.write_str("wrong answer"),
            Self::Broken(kind) => write!(f, "broken ({})", kind.label()),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}
