//! One second of a run that goes on, and the reading of it from the generator's counters.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::load::progress::{Observed, ProgressCounts, Stage};
use crate::measure::Quantile;
use crate::measure::buckets::BucketCounts;
use crate::measure::machine_use::CpuUse;

/// The number of seconds from which quantiles are taken: at 100 requests a second, a p99 has ten samples beyond it.
pub const SPAN_S: usize = 10;

/// The figures of a second. Answers count when they come, not when their requests were due: the results of the run, by
/// intended start, differ a little.
#[derive(Clone, Debug)]
pub struct LiveSecond {
    /// Its end, in seconds from the beginning of the display.
    pub at_s: f64,
    /// The stage of the run at its end.
    pub stage: Stage,
    /// Answers per second, right or wrong: neither timeouts nor broken connections.
    pub answers_per_s: f64,
    /// Wrong answers, faults and arrivals that were given up, per second.
    pub errors_per_s: f64,
    /// Response time of the right answers of the last [`SPAN_S`] seconds, in microseconds: p50, p95 and p99, each where
    /// ten samples lie beyond.
    pub response_us: [Option<f64>; 3],
    /// The slowest right answer of this second, in microseconds.
    pub slowest_us: Option<f64>,
    /// Schedule lag of the last [`SPAN_S`] seconds at p99, in microseconds; in a closed workload that of the timer.
    pub lag_p99_us: Option<f64>,
    /// The counts so far.
    pub counts: ProgressCounts,
    /// The use of the machine, with the number of processors that are watched.
    pub machine: Option<(CpuUse, u32)>,
    /// The database's backends by state and type of wait.
    pub backends: Option<BTreeMap<String, u64>>,
}

/// The quantiles of [`LiveSecond::response_us`].
pub const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P95, Quantile::P99];

/// Reads seconds from counters that only grow.
#[derive(Default)]
pub struct Sampler {
    /// The counts at the ends of the last seconds, the latest last.
    earlier: VecDeque<ProgressCounts>,
    last_at: Duration,
}

impl Sampler {
    /// Begins to read counters that are 0 at this time from the beginning of the display.
    pub fn from(at: Duration) -> Self {
        Self { earlier: VecDeque::from([ProgressCounts::default()]), last_at: at }
    }

    /// Returns the time of the last reading.
    pub fn last_at(&self) -> Duration {
        self.last_at
    }

    /// Returns the second that ends now.
    pub fn sample(&mut self, at: Duration, stage: Stage, counts: ProgressCounts, observed: &Observed) -> LiveSecond {
        let span_s = at.saturating_sub(self.last_at).as_secs_f64().max(1e-3);
        self.last_at = at;
        let none = ProgressCounts::default();
        let (first, last) = (self.earlier.front().unwrap_or(&none), self.earlier.back().unwrap_or(&none));
        let errors = |counts: &ProgressCounts| counts.not_ok + counts.unsent;
        let answers = |counts: &ProgressCounts| (counts.ok + counts.not_ok).saturating_sub(counts.unanswered);
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / span_s;
        let recent = |of: fn(&ProgressCounts) -> &BucketCounts| of(&counts).since(of(first));
        let response = recent(|counts| &counts.response);
        let second = LiveSecond {
            at_s: at.as_secs_f64(),
            stage,
            answers_per_s: per_s(answers(&counts), answers(last)),
            errors_per_s: per_s(errors(&counts), errors(last)),
            response_us: QUANTILES.map(|quantile| response.quantile_us(quantile)),
            slowest_us: counts.response.since(&last.response).most_us(),
            lag_p99_us: recent(|counts| &counts.lag).quantile_us(Quantile::P99),
            machine: observed.machine,
            backends: observed.backends.clone(),
            counts: counts.clone(),
        };
        self.earlier.push_back(counts);
        if self.earlier.len() > SPAN_S {
            self.earlier.pop_front();
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::progress::Progress;
    use crate::measure::Outcome;

    #[test]
    fn a_second_is_the_growth_of_the_counters() {
        let progress = Progress::default();
        let mut sampler = Sampler::from(Duration::from_secs(5));
        let mut sample = |seconds| {
            sampler.sample(Duration::from_secs(seconds), Stage::Measuring, progress.counts(), &progress.observed())
        };
        for number in 0..1_000 {
            progress.count(Outcome::Ok, number * 1_000);
            progress.lagged(2_000_000);
        }
        progress.count(Outcome::Wrong, 9_000_000_000);
        progress.count(Outcome::TimedOut, 9_000_000_000);
        progress.gave_up();
        let first = sample(6);
        assert_eq!((first.answers_per_s, first.errors_per_s), (1_001.0, 3.0));
        let [p50, p95, p99] = first.response_us.map(|us| us.unwrap());
        assert!((p50 / 500.0 - 1.0).abs() < 0.04 && (p95 / 950.0 - 1.0).abs() < 0.04, "{p50} {p95}");
        assert!((p99 / 990.0 - 1.0).abs() < 0.04 && (first.lag_p99_us.unwrap() / 2_000.0 - 1.0).abs() < 0.04);
        assert!(first.slowest_us.unwrap() >= 999.0, "a wrong answer has no response time here");
        // Two seconds later nothing new: rates are 0, the quantiles still those of the last ten seconds.
        let second = sample(8);
        assert_eq!((second.answers_per_s, second.slowest_us), (0.0, None));
        assert_eq!(second.response_us, first.response_us);
        let later = (9..=18).map(&mut sample).last().unwrap();
        assert_eq!(later.response_us, [None; 3], "the answers are more than ten seconds old");
    }
}
