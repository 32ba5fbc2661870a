//! A recorded distribution, read back and reduced to the values that occurred.

use super::student::binomial_at_most;
use crate::error::Result;
use crate::measure::distribution;

/// The values that occurred, in order, each with its count. A value is a bucket of the HDR histogram, identified by its
/// lowest value; the unit is the histogram's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Each bucket, with its count.
    pub buckets: Vec<(Bucket, u64)>,
}

/// A bucket: all values from `low` to below `high` count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// The lowest value that belongs to it.
    pub low: u64,
    /// The lowest value that does not.
    pub high: u64,
}

impl Histogram {
    /// Reads an HDR histogram (V2 deflate, base64).
    ///
    /// # Errors
    /// If the text is no HDR histogram.
    pub fn from_base64(text: &str) -> Result<Self> {
        let hdr = distribution::decode(text)?;
        let recorded = hdr.iter_recorded().map(|step| {
            let value = step.value_iterated_to();
            let bucket = Bucket { low: hdr.lowest_equivalent(value), high: hdr.highest_equivalent(value) + 1 };
            (bucket, step.count_at_value())
        });
        Ok(Self { buckets: recorded.collect() })
    }

    /// Returns the number of samples.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Returns the standard error of the logarithm of the quantile `share`, if samples are independent: half of the
    /// order-statistic interval that holds with a probability of 68%. `None` where the samples do not reach around the
    /// quantile.
    pub fn ln_error(&self, share: f64) -> Option<f64> {
        // The probability that a normal variable is within one standard deviation.
        const ONE_SIGMA: f64 = 0.682_689;
        let (low, high) = order_interval(self.count(), share, ONE_SIGMA)?;
        Some((self.ln_at_rank(high) - self.ln_at_rank(low)) / 2.0)
    }

    /// Returns the logarithm of the sample of this rank, from 1 on; the samples of a bucket are taken to be spread over
    /// it.
    fn ln_at_rank(&self, rank: u64) -> f64 {
        let mut before = 0;
        for (bucket, count) in &self.buckets {
            if before + count >= rank {
                return bucket.ln_at((rank - before) as f64 / *count as f64);
            }
            before += count;
        }
        self.buckets.last().map_or(0.0, |(bucket, _)| bucket.ln_at(1.0))
    }
}

impl Bucket {
    /// Returns the logarithm of the value that lies this share, 0 to 1, into the bucket.
    pub fn ln_at(self, share: f64) -> f64 {
        let (low, high) = (self.low as f64, self.high as f64);
        // A duration of zero has no logarithm.
        (low + (high - low) * share).max(0.5).ln()
    }
}

/// Returns the ranks, from 1 on, of two order statistics of `samples` independent samples, between which the quantile
/// `share` lies with at least this probability (David and Nagaraja, Order Statistics, 7.1). `None` where the samples do
/// not reach so far.
pub fn order_interval(samples: u64, share: f64, probability: f64) -> Option<(u64, u64)> {
    let beyond = (1.0 - probability) / 2.0;
    // The quantile is below sample `rank` if fewer than `rank` samples are below the quantile.
    let below_rank = |rank: u64| binomial_at_most(rank - 1, samples, share);
    let least = |wanted: &dyn Fn(u64) -> bool| {
        let (mut low, mut high) = (1, samples + 1);
        while low < high {
            let middle = u64::midpoint(low, high);
            if wanted(middle) { high = middle } else { low = middle + 1 }
        }
        low
    };
    // The first rank that is too high for a lower bound, less one; and the first that is high enough for an upper one.
    let low = least(&|rank| below_rank(rank) > beyond) - 1;
    let high = least(&|rank| below_rank(rank) >= 1.0 - beyond);
    (low >= 1 && high <= samples).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::Distribution;

    #[test]
    fn recorded_samples_are_read_back() {
        let mut distribution = Distribution::default();
        for ns in [5, 5, 1_000_003, 70_000_000_000] {
            distribution.record(ns);
        }
        let histogram = Histogram::from_base64(&distribution.to_base64()).unwrap();
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.buckets[0], (Bucket { low: 5, high: 6 }, 2));
        for ((bucket, count), value) in histogram.buckets[1..].iter().zip([1_000_003, 70_000_000_000]) {
            assert!(bucket.low <= value && value < bucket.high && *count == 1, "{bucket:?} {value}");
        }
        assert!(Histogram::from_base64("!").is_err() && Histogram::from_base64("AAAA").is_err());
    }

    #[test]
    fn median_intervals_match_published_tables() {
        // 10 samples: P(2nd < median < 9th) = 1002 / 1024.
        assert_eq!(order_interval(10, 0.5, 0.95), Some((2, 9)));
        assert_eq!(order_interval(10, 0.5, 0.99), Some((1, 10)));
        assert_eq!(order_interval(5, 0.5, 0.95), None);
        assert_eq!(order_interval(100, 0.99, 0.68), None);
    }

    proptest! {
        #[test]
        fn an_interval_covers_its_stated_probability(samples in 1_u64..3_000, share in 0.01..0.99_f64, probability in 0.5..0.999_f64) {
            if let Some((low, high)) = order_interval(samples, share, probability) {
                let held = binomial_at_most(high - 1, samples, share) - binomial_at_most(low - 1, samples, share);
                prop_assert!(low < high && held >= probability - 1e-9, "{low} {high} {held}");
            }
        }
    }
}
