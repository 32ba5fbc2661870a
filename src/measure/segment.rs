//! Segments: the parts of a window between which the planned rate of arrivals changes, each with results of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use super::outcome::Outcome;
use crate::error::{Error, Result};

/// A part of the measured window, and the rate of arrivals that is planned in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Its beginning, from that of the window.
    pub begin: Duration,
    /// Its end, from the beginning of the window; an arrival at this moment belongs to the next segment.
    pub end: Duration,
    /// The planned rate at its beginning, in arrivals per second.
    pub from_per_s: f64,
    /// The planned rate at its end; in between it changes linearly.
    pub to_per_s: f64,
}

/// The measurement of one segment, by intended start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SegmentMeasurement {
    /// The plan.
    pub segment: Segment,
    /// Arrivals that the schedule put into it.
    pub scheduled: u64,
    /// Those among them that were sent.
    pub started: u64,
    /// Response time of right answers.
    pub response: Distribution,
}

/// The segments of a window, in order and without gaps. Recording allocates nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Segments(Vec<SegmentMeasurement>);

impl Segments {
    /// Makes room for these segments.
    pub fn new(segments: &[Segment]) -> Self {
        let mut response = Distribution::default();
        response.make_room();
        let measured = segments.iter().map(|segment| SegmentMeasurement {
            segment: *segment,
            scheduled: 0,
            started: 0,
            response: response.clone(),
        });
        Self(measured.collect())
    }

    /// Counts an arrival of the schedule at this time of the window.
    pub(super) fn schedule(&mut self, offset_ns: u64) {
        if let Some(one) = self.at(offset_ns) {
            one.scheduled += 1;
        }
    }

    /// Records an arrival that was sent.
    pub(super) fn record(&mut self, offset_ns: u64, outcome: Outcome, response_ns: u64) {
        if let Some(one) = self.at(offset_ns) {
            one.started += 1;
            if outcome == Outcome::Ok {
                one.response.record(response_ns);
            }
        }
    }

    /// Adds what another part of the run recorded in the same segments.
    ///
    /// # Errors
    /// If the segments are others.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if !self.iter().map(|one| one.segment).eq(other.iter().map(|one| one.segment)) {
            return Err(Error::new("merging measurements: the segments of their rate profiles differ"));
        }
        for (one, other) in self.0.iter_mut().zip(&other.0) {
            one.scheduled += other.scheduled;
            one.started += other.started;
            one.response.merge(&other.response)?;
        }
        Ok(())
    }

    /// Returns the measurements, in the order of time.
    pub fn iter(&self) -> impl Iterator<Item = &SegmentMeasurement> {
        self.0.iter()
    }

    /// Returns the segment that this time of the window belongs to.
    fn at(&mut self, offset_ns: u64) -> Option<&mut SegmentMeasurement> {
        let offset = Duration::from_nanos(offset_ns);
        let index = self.0.partition_point(|one| one.segment.end <= offset);
        self.0.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_belongs_to_the_segment_that_it_begins_in() {
        let second = Duration::from_secs(1);
        let segment =
            |begin: u32, end: u32| Segment { begin: second * begin, end: second * end, from_per_s: 1.0, to_per_s: 1.0 };
        let mut segments = Segments::new(&[segment(0, 1), segment(1, 3)]);
        for offset_ns in [0, 999_999_999, 1_000_000_000, 2_999_999_999, 3_000_000_000] {
            segments.schedule(offset_ns);
        }
        segments.record(999_999_999, Outcome::Ok, 5);
        segments.record(1_000_000_000, Outcome::Failed(500), 5);
        let counts: Vec<_> = segments.iter().map(|one| (one.scheduled, one.started, one.response.count())).collect();
        assert_eq!(counts, [(2, 1, 1), (2, 1, 0)]);
    }
}
