//! Breaches by the system under test that no threshold states.

use std::fmt;
use std::time::Duration;

/// A breach that no threshold states.
#[derive(Clone, Debug, PartialEq)]
pub enum Breach {
    /// Answers broke a rule that allows no exception.
    Rule {
        /// The behaviour of these answers, in words.
        what: &'static str,
        /// The number of these answers.
        count: u64,
        /// The number of all answers.
        of: u64,
    },
    /// A connection could not be opened before the load, which did not begin.
    NotOpened {
        /// The number of connections opened.
        opened: u64,
        /// The number of connections wanted.
        wanted: u64,
        /// The fault of the next connection.
        why: String,
    },
    /// So many arrivals were in flight that the run was ended.
    Overrun {
        /// The number of arrivals that were neither answered nor given up.
        in_flight: u64,
        /// The largest number that the run may have.
        most: u64,
    },
    /// So many requests failed that the run was ended, as `--abort-on-errors` demands.
    Drowned {
        /// The share that failed, 0 to 1.
        share: f64,
        /// The span within which the requests ended.
        within: Duration,
    },
}

impl Breach {
    /// Returns true if arrivals that start late, or never, on the generator's side would show the breach too.
    pub fn depends_on_starts(&self) -> bool {
        matches!(self, Self::Overrun { .. })
    }

    /// Returns true if a system that other processes keep from working would show the breach too.
    pub fn depends_on_speed(&self) -> bool {
        matches!(self, Self::Drowned { .. } | Self::NotOpened { .. } | Self::Overrun { .. })
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { what, count, of } => write!(f, "{count} of {of} {what}: none is allowed"),
            Self::NotOpened { opened, wanted, why } => write!(f, "opened {opened} of {wanted} connections, then {why}"),
            Self::Overrun { in_flight, most } => {
                write!(f, "{in_flight} arrivals were in flight, above the bound of {most}: the run was ended")
            }
            Self::Drowned { share, within } => write!(
                f,
                "{:.1}% of the requests that ended within {} failed: the run was ended by --abort-on-errors",
                share * 100.0,
                humantime::format_duration(*within)
            ),
        }
    }
}
