//! The count of side effects, from before a run to after it: in the database, or by the system's own counters.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::connectors::Connectors;
use super::counters::Counters;
use super::{CheckedCertctl, reference};
use crate::database::DatabaseClient;
use crate::error::Result;
use crate::measure::Measurement;
use crate::measure::validity::Work;
use crate::scenario::Scenario;
use crate::wire::peer::Peer;

/// A workload that was measured.
#[derive(Clone, Copy)]
pub struct Measured<'a> {
    /// Its scenario.
    pub scenario: &'a dyn Scenario,
    /// The peer of its requests.
    pub peer: &'a Peer,
    /// Its measurement.
    pub measurement: &'a Measurement,
}

/// A count of side effects that began before a run.
pub trait SideEffects {
    /// Returns the session in which the side effects are counted, if a database counts them.
    fn database(&mut self) -> Option<&mut DatabaseClient> {
        None
    }

    /// Returns the side effects of each workload, in their order.
    ///
    /// # Errors
    /// If the database or the system does not answer.
    fn finish(self: Box<Self>, measured: &[Measured<'_>]) -> Result<Vec<Vec<Work>>>;
}

/// Side effects that are counted in a database.
pub struct InDatabase(pub DatabaseClient);

/// Side effects that a reference server counts itself.
pub struct InMemory<'a> {
    /// The server.
    pub server: &'a CheckedCertctl,
    /// Its counters before the run.
    pub before: Counters,
    /// Ends the wait for an answer.
    pub stop: Arc<AtomicBool>,
}

/// Side effects at the daemons behind connectors, with the counters of the F5 before the run.
pub struct AtConnectors<'a>(pub &'a Connectors, pub Option<Counters>);

/// Side effects that nothing counts.
pub struct Uncounted;

impl SideEffects for InDatabase {
    fn database(&mut self) -> Option<&mut DatabaseClient> {
        Some(&mut self.0)
    }

    fn finish(mut self: Box<Self>, measured: &[Measured<'_>]) -> Result<Vec<Vec<Work>>> {
        measured.iter().map(|one| one.scenario.finish_check(one.measurement.unanswered, &mut self.0)).collect()
    }
}

impl SideEffects for InMemory<'_> {
    fn finish(self: Box<Self>, measured: &[Measured<'_>]) -> Result<Vec<Vec<Work>>> {
        let after = reference::counts(&self.server.certctl, &self.server.dialer, &self.stop)?;
        let work = measured
            .iter()
            .map(|one| after.work_since(&self.before, &one.scenario.claims(), one.measurement.unanswered));
        Ok(work.collect())
    }
}

impl SideEffects for AtConnectors<'_> {
    fn finish(self: Box<Self>, measured: &[Measured<'_>]) -> Result<Vec<Vec<Work>>> {
        measured.iter().map(|one| self.0.work(*one, self.1.as_ref())).collect()
    }
}

impl SideEffects for Uncounted {
    fn finish(self: Box<Self>, measured: &[Measured<'_>]) -> Result<Vec<Vec<Work>>> {
        Ok(vec![Vec::new(); measured.len()])
    }
}
