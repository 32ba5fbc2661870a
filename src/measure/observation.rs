//! Observations: what a scenario saw of its answers that is neither a latency nor an error, such as the share of 304s.

use std::fmt;
use std::time::Duration;

/// Something worth telling about a workload, warm-up included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// What was observed.
    pub name: &'static str,
    /// How much.
    pub value: Value,
}

/// How much of it there was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// Some of all.
    Share {
        /// How many.
        count: u64,
        /// Of how many.
        of: u64,
    },
    /// How long something took.
    Duration(Duration),
    /// It did not come about.
    Never,
}

/// A duration for people.
pub fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.3} ms", seconds * 1e3) } else { format!("{seconds:.3} s") }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        match self.value {
            Value::Count(count) => write!(f, "{count}"),
            Value::Share { count, of } => write!(f, "{count} of {of}"),
            Value::Duration(duration) => f.write_str(&show(duration)),
            Value::Never => f.write_str("never"),
        }
    }
}
