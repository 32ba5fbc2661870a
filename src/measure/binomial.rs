//! The upper tail of the binomial distribution: the probability that so many samples are beyond a limit by chance.

/// Returns the probability of at least `successes` in `trials`, each with probability `p`, 0 to 1.
pub fn at_least(successes: u64, trials: u64, p: f64) -> f64 {
    let (k, n) = (successes as f64, trials as f64);
    if successes == 0 || p >= 1.0 {
        return 1.0;
    }
    if successes > trials || p <= 0.0 {
        return 0.0;
    }
    if k <= n * p {
        // Not in the tail: the probability is about a half or more, and its value does not matter.
        return 1.0;
    }
    // The first term, C(n, k) p^k (1 - p)^(n - k), by its logarithm.
    let ln_choose: f64 = (1..=successes).map(|i| ((n - k + i as f64) / i as f64).ln()).sum();
    let mut term = (ln_choose + k * p.ln() + (n - k) * (-p).ln_1p()).exp();
    // Beyond the mean each term is smaller than the one before by a ratio that falls.
    let mut sum = 0.0;
    let mut i = k;
    while term > sum * 1e-15 && i <= n {
        sum += term;
        term *= (n - i) / (i + 1.0) * (p / (1.0 - p));
        i += 1.0;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_close(found: f64, by_hand: f64) {
        assert!((found / by_hand - 1.0).abs() < 1e-9, "{found:e}, by hand {by_hand:e}");
    }

    #[test]
    fn tails_match_hand_computed_values() {
        assert_close(at_least(1, 1, 0.01), 0.01);
        assert_close(at_least(3, 3, 0.05), 1.25e-4);
        assert_close(at_least(2, 3, 0.05), 3.0 * 0.0025 * 0.95 + 1.25e-4);
        // 1 - 0.999^10
        assert_close(at_least(1, 10, 0.001), 1.0 - 0.999_f64.powi(10));
        assert_close(at_least(8, 10, 0.5), 56.0 / 1024.0);
        // A success where the limit allows none.
        assert!(at_least(1, 1_000, f64::MIN_POSITIVE) < 1e-300);
        assert_eq!([at_least(0, 5, 0.1), at_least(6, 5, 0.1), at_least(1, 5, 0.0)], [1.0, 0.0, 0.0]);
    }

    #[test]
    fn tails_of_large_counts_are_accurate() {
        // Sixteen standard deviations above the mean, and half of one.
        assert!(at_least(11_600, 1_000_000, 0.01) < 1e-50);
        assert!(at_least(10_050, 1_000_000, 0.01) > 0.3);
        assert_eq!(at_least(500, 500, 0.01), 0.0_f64.max(1e-2_f64.powi(500)));
    }
}
