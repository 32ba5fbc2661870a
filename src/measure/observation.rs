//! Observations: facts about a scenario's answers that are neither a latency nor an error, such as the share of 304s.

use std::fmt;
use std::time::Duration;

/// A fact worth reporting about a workload, warm-up included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The name of the fact.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
}

/// The value of an observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// A part of a whole.
    Share {
        /// The size of the part.
        count: u64,
        /// The size of the whole.
        of: u64,
    },
    /// The duration of an event.
    Duration(Duration),
    /// A number of things per second.
    PerSecond(f64),
    /// The event did not occur, without which the run says nothing.
    Never,
    /// The event did not occur within this time, which the run observed, and that is a result.
    NotWithin(Duration),
}

/// Returns a duration as text for people.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.3} ms", seconds * 1e3) } else { format!("{seconds:.3} s") }
}

/// Returns a rate as text for people.
pub fn show_rate(per_s: f64) -> String {
    format!("{per_s:.3}/s")
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.value {
            Value::Count(count) => write!(f, "{count}"),
            Value::Share { count, of } => write!(f, "{count} of {of}"),
            Value::Duration(duration) => f.write_str(&show(duration)),
            Value::PerSecond(per_s) => f.write_str(&show_rate(per_s)),
            Value::Never => f.write_str("never"),
            Value::NotWithin(span) => write!(f, "not within {}", show(span)),
        }
    }
}
