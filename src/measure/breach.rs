//! What the system under test did that is a breach without a threshold on it.

use std::fmt;
use std::time::Duration;

/// A breach that no threshold states.
#[derive(Clone, Debug, PartialEq)]
pub enum Breach {
    /// Answers broke a rule that allows no exception.
    Rule {
        /// What they did.
        what: &'static str,
        /// How many.
        count: u64,
        /// Of how many.
        of: u64,
    },
    /// A connection could not be opened before the load, which did not begin.
    NotOpened {
        /// So many were opened.
        opened: u64,
        /// Of so many.
        wanted: u64,
        /// What became of the next.
        why: String,
    },
    /// So many requests failed that the run was ended, as was wished.
    Drowned {
        /// The share that failed, 0 to 1.
        share: f64,
        /// Within so long.
        within: Duration,
    },
}

impl Breach {
    /// Whether a system that others keep from working would show it too.
    pub fn depends_on_speed(&self) -> bool {
        matches!(self, Self::Drowned { .. } | Self::NotOpened { .. })
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { what, count, of } => write!(f, "{count} of {of} {what}: not one may be"),
            Self::NotOpened { opened, wanted, why } => write!(f, "opened {opened} of {wanted} connections, then {why}"),
            Self::Drowned { share, within } => write!(
                f,
                "{:.1}% of the requests that ended within {} failed: the run was ended, as --abort-on-errors has it",
                share * 100.0,
                humantime::format_duration(*within)
            ),
        }
    }
}
