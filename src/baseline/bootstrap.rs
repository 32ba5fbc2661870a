//! The timeline of a run, and the uncertainty of its quantiles: a block bootstrap, since seconds resemble their
//! neighbours.
//!
//! Samples of a load test are not independent: a checkpoint, a noisy neighbour or a full queue slows down many in a
//! row. Künsch (1989) therefore draws blocks of consecutive observations instead of single ones, and Politis and Romano
//! (1992) close the series to a circle, so that its ends are drawn as often as its middle.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::histogram::{Bucket, Histogram};
use crate::error::Result;
use crate::summary::facts::SecondFacts;

/// The fewest seconds of a bootstrap: fewer make too few blocks.
const FEWEST_SECONDS: usize = 20;
/// The number of resamples. A standard error from so many is itself off by 7%.
const RESAMPLES: u64 = 100;
/// The seed of the drawing, so that the same runs give the same intervals.
const SEED: u64 = 0x5eed;

/// The response times of each second of a run.
#[derive(Clone, Debug, Default)]
pub struct Seconds {
    /// Every bucket that occurs, in order.
    buckets: Vec<Bucket>,
    /// For each second, the index and the count of each bucket that occurred.
    seconds: Vec<Vec<(u32, u32)>>,
}

impl Seconds {
    /// Reads the timeline of a summary.
    ///
    /// # Errors
    /// If it holds something that is no histogram.
    pub fn read(timeline: &[SecondFacts]) -> Result<Self> {
        let histograms: Result<Vec<_>> = timeline.iter().map(|second| Histogram::from_base64(&second.hdr_us)).collect();
        Ok(Self::of(&histograms?))
    }

    /// Combines histograms of one shape.
    pub fn of(histograms: &[Histogram]) -> Self {
        let mut buckets: Vec<_> = histograms.iter().flat_map(|one| &one.buckets).map(|(bucket, _)| *bucket).collect();
        buckets.sort_unstable();
        buckets.dedup();
        let index = |bucket: &Bucket| buckets.binary_search(bucket).unwrap_or_default() as u32;
        let thin = |one: &Histogram| -> Vec<(u32, u32)> {
            one.buckets.iter().map(|(bucket, count)| (index(bucket), *count as u32)).collect()
        };
        let seconds = histograms.iter().map(thin).collect();
        Self { buckets, seconds }
    }

    /// Returns the standard error of the logarithm of each quantile (0 to 1), by resampling blocks; `None` where there
    /// are too few seconds.
    pub fn ln_errors<const N: usize>(&self, quantiles: [f64; N]) -> Option<[f64; N]> {
        let length = self.seconds.len();
        if length < FEWEST_SECONDS || self.buckets.is_empty() {
            return None;
        }
        let block = block_length(length, correlation(&self.ln_medians()));
        let resamples: Vec<[f64; N]> =
            (0..RESAMPLES).into_par_iter().filter_map(|number| self.resample(number, block, quantiles)).collect();
        // Blocks hide a part of the variance: that within a block's length.
        let hidden = length as f64 / (length - block) as f64;
        Some(std::array::from_fn(|index| {
            let values: Vec<f64> = resamples.iter().map(|one| one[index]).collect();
            (variance(&values) * hidden).sqrt()
        }))
    }

    /// Returns the logarithm of the median of each second that has one.
    fn ln_medians(&self) -> Vec<f64> {
        let median = |second: &Vec<(u32, u32)>| {
            let total: u64 = second.iter().map(|(_, count)| u64::from(*count)).sum();
            let mut before = 0;
            let (bucket, _) = second.iter().find(|(_, count)| {
                before += u64::from(*count);
                before * 2 >= total
            })?;
            Some(self.buckets[*bucket as usize].ln_at(0.5))
        };
        self.seconds.iter().filter_map(median).collect()
    }

    /// Returns the logarithms of the quantiles of one resample; `None` if it has no sample.
    fn resample<const N: usize>(&self, number: u64, block: usize, quantiles: [f64; N]) -> Option<[f64; N]> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED + number);
        let length = self.seconds.len();
        let mut counts = vec![0_u32; self.buckets.len()];
        let mut total = 0;
        let mut drawn = 0;
        while drawn < length {
            let start = (random.next_u64() % length as u64) as usize;
            for offset in 0..block.min(length - drawn) {
                for (bucket, count) in &self.seconds[(start + offset) % length] {
                    counts[*bucket as usize] += count;
                    total += u64::from(*count);
                }
            }
            drawn += block;
        }
        (total > 0).then(|| self.ln_quantiles(&counts, total, quantiles))
    }

    /// Returns the logarithms of the quantiles (in rising order) of samples with these counts per bucket.
    fn ln_quantiles<const N: usize>(&self, counts: &[u32], total: u64, quantiles: [f64; N]) -> [f64; N] {
        let mut found = [0.0; N];
        let mut next = 0;
        let mut before = 0.0;
        for (bucket, count) in self.buckets.iter().zip(counts) {
            let count = f64::from(*count);
            while next < N && before + count >= quantiles[next] * total as f64 && count > 0.0 {
                found[next] = bucket.ln_at((quantiles[next] * total as f64 - before) / count);
                next += 1;
            }
            before += count;
        }
        found
    }
}

/// Returns the length of a block in seconds: that which suits a series whose neighbours are correlated like this
/// (Politis and White, 2004, for a circular block bootstrap of an autoregressive series). A short series hides its
/// correlation, and a block of a third of it is the longest that still leaves something to draw.
fn block_length(seconds: usize, correlation: f64) -> usize {
    const LEAST: f64 = 0.5;
    const MOST: f64 = 0.9;
    let correlation = correlation.clamp(LEAST, MOST);
    let ratio = 2.0 * correlation / (1.0 - correlation * correlation);
    let block = (1.5 * ratio * ratio * seconds as f64).cbrt().ceil() as usize;
    block.min(seconds / 3)
}

/// Returns the correlation of each value with the one before it; 0 where all are equal.
fn correlation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let all: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let neighbours: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if all > 0.0 { neighbours / all } else { 0.0 }
}

/// Returns the variance of a sample.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // proptest has another of that name.
    use rand_xoshiro::rand_core::Rng;

    use super::*;

    /// Returns a second with these counts in these buckets, 1% wide.
    fn second(counts: &[(u64, u64)]) -> Histogram {
        let bucket = |low: u64| Bucket { low, high: low + low.div_ceil(100) };
        Histogram { buckets: counts.iter().map(|(low, count)| (bucket(*low), *count)).collect() }
    }

    fn uniform(seed: u64) -> impl Iterator<Item = f64> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        std::iter::repeat_with(move || (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    #[test]
    fn identical_seconds_have_no_error() {
        let seconds = Seconds::of(&vec![second(&[(1_000, 50), (2_000, 50)]); 60]);
        let [p25, p75] = seconds.ln_errors([0.25, 0.75]).unwrap();
        assert!(p25 < 1e-9 && p75 < 1e-9, "{p25} {p75}");
        assert!(Seconds::of(&vec![second(&[(1_000, 50)]); 19]).ln_errors([0.5]).is_none());
    }

    #[test]
    fn correlated_seconds_have_a_larger_error() {
        // As many fast and slow seconds in either: in turn, or slow for a quarter of a minute at a time.
        let run = |is_slow: &dyn Fn(usize) -> bool| {
            let speeds = [1_000, 1_400];
            let seconds: Vec<_> = (0..120)
                .map(|index| {
                    second(
                        &(0..40).map(|step| (speeds[usize::from(is_slow(index))] + step * 20, 3)).collect::<Vec<_>>(),
                    )
                })
                .collect();
            Seconds::of(&seconds).ln_errors([0.5]).unwrap()[0]
        };
        let (in_turn, in_blocks) = (run(&|index| index % 2 == 0), run(&|index| index / 15 % 2 == 0));
        assert!(in_blocks > in_turn * 3.0, "{in_blocks} {in_turn}");
    }

    #[test]
    fn independent_seconds_have_the_theoretical_error() {
        // Uniform in ln from ln 1000 to ln 1000 + 1: the median's standard error is 0.5 / sqrt(samples).
        let mut uniform = uniform(7);
        let mut seconds = Vec::new();
        for _ in 0..200 {
            let mut values: Vec<u64> = (0..100).map(|_| (1_000.0 * uniform.next().unwrap().exp()) as u64).collect();
            values.sort_unstable();
            let mut histogram = Histogram::default();
            for value in values {
                match histogram.buckets.last_mut() {
                    Some((bucket, count)) if bucket.low == value => *count += 1,
                    _ => histogram.buckets.push((Bucket { low: value, high: value + 1 }, 1)),
                }
            }
            seconds.push(histogram);
        }
        let [error] = Seconds::of(&seconds).ln_errors([0.5]).unwrap();
        let theory = 0.5 / (200.0 * 100.0_f64).sqrt();
        assert!((error / theory - 1.0).abs() < 0.3, "{error} {theory}");
        let merged = Histogram { buckets: merge(&seconds) };
        let by_order = merged.ln_error(0.5).unwrap();
        assert!((by_order / theory - 1.0).abs() < 0.3, "{by_order} {theory}");
    }

    fn merge(seconds: &[Histogram]) -> Vec<(Bucket, u64)> {
        let mut merged = std::collections::BTreeMap::new();
        for (bucket, count) in seconds.iter().flat_map(|one| &one.buckets) {
            *merged.entry(*bucket).or_insert(0) += count;
        }
        merged.into_iter().collect()
    }

    proptest! {
        #[test]
        fn errors_do_not_depend_on_the_unit(scale in 2_u64..50, lows in prop::collection::vec(1_000_u64..5_000, 20..40)) {
            let run = |scale: u64| {
                let seconds: Vec<_> = lows.iter().map(|low| Histogram {
                    buckets: vec![(Bucket { low: low * scale, high: (low + 10) * scale }, 30)],
                }).collect();
                Seconds::of(&seconds).ln_errors([0.5]).unwrap()[0]
            };
            let (one, other) = (run(1), run(scale));
            prop_assert!((one - other).abs() < 1e-9, "{one} {other}");
        }
    }
}
