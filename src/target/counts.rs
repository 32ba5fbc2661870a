//! Work that a server of ours counts itself, for where there is no database to ask.

use serde_json::{Map, Value};

use crate::measure::validity::Work;
use crate::scenario::Claim;

/// Counts by name, which only grow.
#[derive(Clone, Debug)]
pub struct Counts {
    values: Map<String, Value>,
    source: &'static str,
}

impl Counts {
    /// Takes a server's answer, if it is a JSON object; `source` is what results call it.
    pub fn new(values: Value, source: &'static str) -> Option<Self> {
        match values {
            Value::Object(values) => Some(Self { values, source }),
            _ => None,
        }
    }

    /// One count; 0 for one that there is not.
    pub fn get(&self, counter: &str) -> u64 {
        self.values.get(counter).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The work since `before`, of what answers claim; `unanswered` more may have been carried out.
    pub fn work_since(&self, before: &Self, claims: &[Claim], unanswered: u64) -> Vec<Work> {
        let work = claims.iter().map(|Claim { name, counter, claimed }| {
            let found = self.get(counter).saturating_sub(before.get(counter));
            Work::counted(name, *claimed, found, unanswered, self.source)
        });
        work.collect()
    }
}
