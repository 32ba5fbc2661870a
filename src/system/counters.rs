//! Side effects that a started server counts itself, for systems without a database to query.

use serde_json::{Map, Value};

use crate::measure::validity::Work;
use crate::scenario::Claim;

/// Counters by name, which only grow.
#[derive(Clone, Debug)]
pub struct Counters {
    values: Map<String, Value>,
    source: &'static str,
}

impl Counters {
    /// Takes a server's answer, if it is a JSON object; `source` names the server in results.
    pub fn new(values: Value, source: &'static str) -> Option<Self> {
        match values {
            Value::Object(values) => Some(Self { values, source }),
            _ => None,
        }
    }

    /// Returns a counter; 0 if there is no such counter.
    pub fn get(&self, counter: &str) -> u64 {
        self.values.get(counter).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Returns the work since `before` for each claim of the answers; `unanswered` more requests may have been carried
    /// out.
    pub fn work_since(&self, before: &Self, claims: &[Claim], unanswered: u64) -> Vec<Work> {
        let work = claims.iter().map(|Claim { name, counter, claimed }| {
            let found = self.get(counter).saturating_sub(before.get(counter));
            Work::counted(name, *claimed, found, unanswered, self.source)
        });
        work.collect()
    }
}
