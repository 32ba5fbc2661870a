//! A coarse histogram that one thread writes while another reads it: for figures during a run, which the results at its
//! end do not use.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::distribution::Quantile;

/// Each doubling of a duration is divided into so many buckets of the same width.
const PARTS: u64 = 16;
/// The exponent of [`PARTS`]: durations below as many microseconds have a bucket each.
const PART_BITS: u32 = PARTS.trailing_zeros();
/// The longest duration, in microseconds, that has a bucket of its own: beyond ten minutes.
const MOST_US: u64 = (1 << 30) - 1;
/// The number of buckets.
pub const BUCKETS: usize = index_of_us(MOST_US) + 1;

/// Returns the bucket of a duration.
const fn index_of_us(us: u64) -> usize {
    if us < PARTS {
        return us as usize;
    }
    let exponent = us.ilog2();
    let part = (us >> (exponent - PART_BITS)) & (PARTS - 1);
    ((exponent - PART_BITS + 1) as u64 * PARTS + part) as usize
}

/// Returns the least duration of a bucket, and the least beyond it, in microseconds.
fn bounds_us(index: usize) -> (u64, u64) {
    let index = index as u64;
    if index < PARTS {
        return (index, index + 1);
    }
    let shift = index / PARTS - 1;
    let low = (PARTS + index % PARTS) << shift;
    (low, low + (1 << shift))
}

/// Returns the middle of a bucket, in microseconds.
fn middle_us(index: usize) -> f64 {
    let (low, beyond) = bounds_us(index);
    (low + beyond) as f64 / 2.0
}

/// The histogram, as it is written. Recording takes one addition.
#[derive(Debug)]
pub struct LiveHistogram([AtomicU64; BUCKETS]);

impl Default for LiveHistogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl LiveHistogram {
    /// Adds a duration.
    pub fn record(&self, ns: u64) {
        self.0[index_of_us((ns / 1_000).min(MOST_US))].fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces all counts.
    pub fn show(&self, counts: &BucketCounts) {
        for (bucket, count) in self.0.iter().zip(counts.all()) {
            bucket.store(count, Ordering::Relaxed);
        }
    }

    /// Adds its counts to others.
    pub fn add_to(&self, counts: &mut BucketCounts) {
        counts.make_room();
        for (sum, bucket) in counts.0.iter_mut().zip(&self.0) {
            *sum += bucket.load(Ordering::Relaxed);
        }
    }
}

/// The counts of a [`LiveHistogram`] at one moment, or between two. Without a duration it takes no memory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub struct BucketCounts(Vec<u64>);

impl PartialEq for BucketCounts {
    fn eq(&self, other: &Self) -> bool {
        self.all().eq(other.all())
    }
}

impl Eq for BucketCounts {}

/// Restores counts from those that are not 0, each with its bucket; one beyond the last bucket is left out.
impl From<Vec<(usize, u64)>> for BucketCounts {
    fn from(known: Vec<(usize, u64)>) -> Self {
        let mut counts = Self::default();
        if !known.is_empty() {
            counts.make_room();
        }
        for (index, count) in known {
            if let Some(bucket) = counts.0.get_mut(index) {
                *bucket = count;
            }
        }
        counts
    }
}

impl From<BucketCounts> for Vec<(usize, u64)> {
    fn from(counts: BucketCounts) -> Self {
        counts.0.into_iter().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

impl BucketCounts {
    fn make_room(&mut self) {
        self.0.resize(BUCKETS, 0);
    }

    /// Returns the count of each bucket.
    fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied().chain(std::iter::repeat(0)).take(BUCKETS)
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.make_room();
        self.0.iter_mut().zip(other.all()).for_each(|(sum, count)| *sum += count);
    }

    /// Returns the counts since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(earlier.all()).map(|(now, before)| now.saturating_sub(before)).collect())
    }

    /// Returns the number of durations.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the sum of all durations in microseconds, to within 3%, or half a microsecond each.
    pub fn sum_us(&self) -> f64 {
        let each = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        each.map(|(index, count)| middle_us(index) * *count as f64).sum()
    }

    /// Returns a quantile in microseconds, to within 3%, or half a microsecond; `None` if fewer than ten durations lie
    /// beyond it.
    pub fn quantile_us(&self, quantile: Quantile) -> Option<f64> {
        let total = self.total();
        if total < quantile.samples_needed() {
            return None;
        }
        let rank = (quantile.fraction() * total as f64).ceil() as u64;
        let mut below = 0;
        let index = self.0.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some(middle_us(index))
    }

    /// Returns a duration that none exceeds, in microseconds, at most 6% beyond the longest; `None` without any.
    pub fn most_us(&self) -> Option<f64> {
        let last = self.0.iter().rposition(|count| *count > 0)?;
        Some(bounds_us(last).1 as f64)
    }

    /// Returns the number of durations below each of these limits, in microseconds: of a bucket that a limit divides,
    /// none.
    pub fn below_us(&self, limits: &[u64]) -> Vec<u64> {
        let below = |limit: &u64| {
            let within = self.0.iter().enumerate().filter(|(index, _)| bounds_us(*index).1 <= *limit);
            within.map(|(_, count)| count).sum()
        };
        limits.iter().map(below).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_lies_within_its_bucket(us in 0..=MOST_US) {
            let index = index_of_us(us);
            let (low, beyond) = bounds_us(index);
            prop_assert!(low <= us && us < beyond, "{us}: {low} to {beyond}");
            prop_assert!(index < BUCKETS && (beyond - low) * PARTS <= low.max(PARTS));
        }

        #[test]
        fn quantiles_are_within_three_percent(mut values in proptest::collection::vec(20_u64..5_000_000, 20..2_000)) {
            let histogram = LiveHistogram::default();
            values.iter().for_each(|us| histogram.record(us * 1_000));
            let mut counts = BucketCounts::default();
            histogram.add_to(&mut counts);
            values.sort_unstable();
            let exact = values[values.len().div_ceil(2) - 1] as f64;
            let shown = counts.quantile_us(Quantile::P50).unwrap();
            prop_assert!((shown / exact - 1.0).abs() <= 1.0 / 32.0, "{shown} for {exact}");
            let sum: u64 = values.iter().sum();
            prop_assert!((counts.sum_us() / sum as f64 - 1.0).abs() <= 1.0 / 32.0);
            let most = values[values.len() - 1] as f64;
            let bound = counts.most_us().unwrap();
            prop_assert!(bound > most && bound <= most * 17.0 / 16.0 + 1.0, "{bound} for {most}");
        }
    }

    #[test]
    fn neighbouring_buckets_meet() {
        for index in 1..BUCKETS {
            assert_eq!(bounds_us(index - 1).1, bounds_us(index).0, "bucket {index}");
        }
        assert_eq!(bounds_us(BUCKETS - 1).1, MOST_US + 1);
    }

    #[test]
    fn counts_survive_being_written_and_read() {
        let histogram = LiveHistogram::default();
        [1_000, 2_000_000, 2_000_000, u64::MAX].into_iter().for_each(|ns| histogram.record(ns));
        let mut counts = BucketCounts::default();
        histogram.add_to(&mut counts);
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<BucketCounts>(&text).unwrap(), counts);
        assert_eq!(text, "[[1,1],[127,2],[431,1]]");
        assert_eq!(serde_json::from_str::<BucketCounts>("[[9000000,1]]").unwrap().total(), 0);
        // 2 ms is in the bucket up to 2.048 ms.
        assert_eq!(counts.below_us(&[2, 2_000, 2_048, u64::MAX]), [1, 1, 3, 4]);
        assert_eq!(counts.since(&counts.clone()).total(), 0);
        assert_eq!(counts.quantile_us(Quantile::P50), None, "too few");
    }
}
