//! The duet: two systems that are alive at once, under paired arrivals of one generator, compared block by block.
//!
//! Both meet the same moments of the machine, so that what the machine does cancels out of their ratio (Bulej et al.,
//! "Duet Benchmarking", ICPE 2020). Between two blocks both are restarted, with ports and order of start exchanged, so
//! that the luck of one process's memory layout averages out (Kalibera and Jones, "Rigorous Benchmarking in Reasonable
//! Time", ISMM 2013). A block is the unit of the statistics. Pure: [`block`] holds what was measured, [`estimate`] the
//! statistics, [`verdict`] what follows. docs/BASELINES.md explains it.

pub mod block;
pub mod estimate;
pub mod verdict;

use serde::Serialize;

use crate::load::plan::DuetSide;
use crate::measure::machine::Machine;
use crate::summary::plan::PlanFacts;
use crate::system::SystemDescription;
use block::Block;
use verdict::{DuetVerdict, Judged, Settings};

/// A value for each side of a duet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sides<T> {
    /// That of the base.
    pub base: T,
    /// That of the head.
    pub head: T,
}

impl<T> Sides<T> {
    /// Makes the value of each side.
    ///
    /// # Errors
    /// The first error of `make`.
    pub fn try_make<E>(mut make: impl FnMut(DuetSide) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self { base: make(DuetSide::Base)?, head: make(DuetSide::Head)? })
    }

    /// Returns the value of one side.
    pub fn of(&self, side: DuetSide) -> &T {
        match side {
            DuetSide::Base => &self.base,
            DuetSide::Head => &self.head,
        }
    }

    /// Returns the value of one side.
    pub fn of_mut(&mut self, side: DuetSide) -> &mut T {
        match side {
            DuetSide::Base => &mut self.base,
            DuetSide::Head => &mut self.head,
        }
    }

    /// Converts the value of each side.
    pub fn map<U>(self, mut convert: impl FnMut(T) -> U) -> Sides<U> {
        Sides { base: convert(self.base), head: convert(self.head) }
    }

    /// Converts references to the values.
    pub fn as_ref(&self) -> Sides<&T> {
        Sides { base: &self.base, head: &self.head }
    }
}

/// The result of a duet.
#[derive(Debug, Serialize)]
pub struct Duet {
    /// The version of this form of results.
    pub schema_version: u32,
    /// The bench target.
    pub scenario: &'static str,
    /// The moment of its end, UTC, RFC 3339.
    pub finished_at: String,
    /// The verdict over all judged measures.
    pub verdict: DuetVerdict,
    /// The exit code that follows.
    pub exit_code: u8,
    /// The reasons for which nothing may be concluded.
    pub invalid: Vec<String>,
    /// Missing evidence: without it the verdict is never green, and is `regressed` where what is left shows that.
    pub missing: Vec<String>,
    /// Remarks that do not change the verdict.
    pub notes: Vec<String>,
    /// The bounds of the judgement.
    pub settings: Settings,
    /// The two systems, as they were in the last block; absent before the first.
    pub systems: Option<Sides<SystemDescription>>,
    /// The machine.
    pub machine: Machine,
    /// The workloads, as both sides together get them.
    pub plans: Vec<PlanFacts>,
    /// The measures with what follows from each.
    pub measures: Vec<Judged>,
    /// Statements whose cost per right answer differs, with those that only one side has.
    pub statements: Vec<block::StatementPair>,
    /// Blocks that were repeated, with the reason: the generator was at fault, or a port was taken.
    pub repeated: Vec<String>,
    /// The blocks.
    pub blocks: Vec<Block>,
}

/// The version of [`Duet`] as JSON.
pub const SCHEMA_VERSION: u32 = 1;
