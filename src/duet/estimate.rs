//! The estimate of a ratio from its logarithms in blocks, by Student's t.

use serde::Serialize;

use crate::baseline::student::{t_above, t_tail};

/// The mean of the logarithms of a ratio over blocks, and its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The number of blocks.
    pub blocks: usize,
    /// The mean: ln(head / base).
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

impl Estimate {
    /// Estimates from one logarithm per block; `None` from fewer than two.
    pub fn of(logarithms: &[f64]) -> Option<Self> {
        let n = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / n;
        let squares: f64 = logarithms.iter().map(|one| (one - mean).powi(2)).sum();
        (logarithms.len() > 1).then(|| Self { blocks: logarithms.len(), mean, error: (squares / (n - 1.0) / n).sqrt() })
    }

    fn freedom(&self) -> f64 {
        (self.blocks - 1) as f64
    }

    /// Returns the ratio minus one, and the two-sided interval of this confidence (0 to 1) about it.
    pub fn change(&self, confidence: f64) -> (f64, [f64; 2]) {
        let half = t_above((1.0 - confidence) / 2.0, self.freedom()) * self.error;
        (self.mean.exp_m1(), [(self.mean - half).exp_m1(), (self.mean + half).exp_m1()])
    }

    /// Returns the probability of such a mean, or a greater one, if the true logarithm were `bound`.
    pub fn above(&self, bound: f64) -> f64 {
        let distance = self.mean - bound;
        if self.error == 0.0 {
            return if distance > 0.0 { 0.0 } else { 1.0 };
        }
        let t = distance / self.error;
        let tail = t_tail(t.abs(), self.freedom());
        if t > 0.0 { tail } else { 1.0 - tail }
    }

    /// Returns the probability of such a mean, or a lower one, if the true logarithm were `bound`.
    pub fn below(&self, bound: f64) -> f64 {
        let mirrored = Self { mean: -self.mean, ..*self };
        mirrored.above(-bound)
    }

    /// Returns the ratio minus one that would have been found with a probability of about 95%, tested at `alpha`
    /// against a ratio of 1 + `threshold`: the sum of the two quantiles, as usual for the size of a sample.
    pub fn detectable(&self, threshold: f64, alpha: f64) -> f64 {
        let quantiles = t_above(alpha, self.freedom()) + t_above(0.05, self.freedom());
        (threshold.ln_1p() + quantiles * self.error).exp_m1()
    }
}

/// Adjusts the probabilities of a family of tests, so that the smallest of `n` counts `n` times, the next `n - 1` times,
/// and so on (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979): a family in which nothing differs
/// has one at or below alpha with a probability of at most alpha.
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let mut adjusted = vec![1.0; probabilities.len()];
    let mut least = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        least = least.max((probabilities[index] * (probabilities.len() - rank) as f64).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    #[test]
    fn an_interval_matches_one_computed_by_hand() {
        // Mean 0.02, variance 0.0001, so that the error is 0.005; t(0.975, 3) is 3.182446.
        let estimate = Estimate::of(&[0.01, 0.01, 0.03, 0.03].map(|x: f64| (x - 0.02) * 0.75_f64.sqrt() + 0.02));
        let estimate = estimate.unwrap();
        close(estimate.mean, 0.02);
        close(estimate.error, 0.005);
        let (change, [low, high]) = estimate.change(0.95);
        close(change, 0.02_f64.exp_m1());
        close(low.ln_1p(), 0.02 - 3.182_446 * 0.005);
        close(high.ln_1p(), 0.02 + 3.182_446 * 0.005);
        // The tail of t = 4 with three degrees of freedom.
        close(estimate.above(0.0), 0.014_004_2);
        close(estimate.below(0.0), 1.0 - 0.014_004_2);
        close(estimate.below(0.04), 0.014_004_2);
        assert_eq!(Estimate::of(&[0.1]), None);
    }

    #[test]
    fn blocks_without_scatter_decide_at_once() {
        let estimate = Estimate::of(&[0.125; 4]).unwrap();
        assert_eq!([estimate.above(0.05), estimate.above(0.2), estimate.below(0.2)], [0.0, 1.0, 0.0]);
    }

    #[test]
    fn holm_counts_the_smallest_most() {
        assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert_eq!(holm(&[]), [] as [f64; 0]);
    }

    /// Draws from a normal distribution: twelve uniform numbers, less six.
    fn normal(rng: &mut Xoshiro256PlusPlus) -> f64 {
        (0..12).map(|_| rng.next_u64() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
    }

    #[test]
    fn families_without_a_difference_are_rarely_found() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let trials = 20_000;
        let found = (0..trials)
            .filter(|_| {
                let family: Vec<f64> = (0..3)
                    .map(|_| {
                        let blocks: Vec<f64> = (0..8).map(|_| 0.01 * normal(&mut rng)).collect();
                        Estimate::of(&blocks).unwrap().above(0.0)
                    })
                    .collect();
                holm(&family).iter().any(|p| *p <= 0.01)
            })
            .count();
        // 200 are expected, give or take four standard deviations of 14.
        assert!((144..256).contains(&found), "{found}");
    }

    #[test]
    fn what_is_called_detectable_is_found_19_times_in_20() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let (blocks, sd, threshold, alpha) = (8, 0.01, 0.02_f64, 0.01);
        let error = sd / f64::from(blocks).sqrt();
        let detectable = Estimate { blocks: 8, mean: 0.0, error }.detectable(threshold, alpha);
        let trials = 20_000;
        let found = (0..trials)
            .filter(|_| {
                let values: Vec<f64> = (0..blocks).map(|_| detectable.ln_1p() + sd * normal(&mut rng)).collect();
                Estimate::of(&values).unwrap().above(threshold.ln_1p()) <= alpha
            })
            .count();
        let share = found as f64 / f64::from(trials);
        assert!((0.92..0.97).contains(&share), "{share}");
    }
}
