//! Scenarios whose load can be divided: no request depends on what another connection was answered, so that each
//! generator thread has an instance of its own, and what all of them saw is added up at the end.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Scenario;
use crate::clock::Moment;
use crate::error::{Context as _, Result};

/// The division of a scenario among shards.
pub trait Divisible {
    /// Makes an instance for a shard, which has seen nothing yet.
    fn instance(&self) -> Box<dyn Scenario + Send>;

    /// Returns what this instance saw: counts, and moments as nanoseconds since `start` of the run, which every machine
    /// has on a clock of its own.
    fn notes(&self, start: Moment) -> Value;

    /// Adds what the instance of a shard saw.
    ///
    /// # Errors
    /// If the notes are not those of this scenario.
    fn absorb(&self, notes: &Value, start: Moment) -> Result<()>;
}

/// Writes the notes of a scenario.
pub(super) fn write(notes: &impl Serialize) -> Value {
    // Notes are numbers and texts, in structures whose names are texts.
    serde_json::to_value(notes).expect("serializing to memory")
}

/// Reads the notes of a scenario.
pub(super) fn read<T: DeserializeOwned>(notes: &Value) -> Result<T> {
    T::deserialize(notes).context(|| "reading the notes of a shard".to_owned())
}
