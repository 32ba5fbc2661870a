//! The change between two sides as pure numbers, with runs as the unit. docs/BASELINES.md names the sources.

use super::student::{t_above, t_tail};

/// The probability with which a comparison of two equal sides may flag any timed measure at all.
pub const FALSE_ALARMS: f64 = 0.05;
/// The probability that is left outside of the interval of an equivalence test: two one-sided tests at 5% each.
pub const EQUIVALENCE: f64 = 0.10;
/// The quantile of the normal distribution that 95% are below: one-sided bounds on shares of many arrivals.
pub const NORMAL_95: f64 = 1.644_854;

/// The change from base to head, with all that is needed for an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanChange {
    /// The head's mean minus the base's.
    pub estimate: f64,
    /// Its standard error.
    pub error: f64,
    /// The degrees of freedom of that error.
    pub freedom: f64,
}

impl MeanChange {
    /// Compares the values of two sides, one of each run. With two runs or more on both sides this is Welch's t (1947);
    /// a single run is compared with the other side's prediction interval. `None` where neither side has two runs.
    pub fn between(base: &[f64], head: &[f64]) -> Option<Self> {
        if base.is_empty() || head.is_empty() {
            return None;
        }
        let (square, freedom) = match (variance(base), variance(head)) {
            (None, None) => return None,
            (Some(variance), None) => predicted(variance, base.len()),
            (None, Some(variance)) => predicted(variance, head.len()),
            (Some(of_base), Some(of_head)) => welch([(of_base, base.len()), (of_head, head.len())]),
        };
        Some(Self { estimate: mean(head) - mean(base), error: square.sqrt(), freedom })
    }

    /// Returns the probability of a change so far beyond `limit` (not negative), on either side, where none is beyond
    /// it.
    pub fn p_beyond(&self, limit: f64) -> f64 {
        let beyond = self.estimate.abs() - limit;
        match beyond > 0.0 {
            false => 1.0,
            true if self.error == 0.0 => 0.0,
            true => 2.0 * t_tail(beyond / self.error, self.freedom),
        }
    }

    /// Returns the interval that misses the true change with this probability.
    pub fn interval(&self, missed: f64) -> (f64, f64) {
        let reach = if self.error == 0.0 { 0.0 } else { t_above(missed / 2.0, self.freedom) * self.error };
        (self.estimate - reach, self.estimate + reach)
    }
}

/// Returns the squared error and the degrees of freedom of one more run than the `runs` that have this variance.
fn predicted(variance: f64, runs: usize) -> (f64, f64) {
    (variance * (1.0 + 1.0 / runs as f64), runs as f64 - 1.0)
}

/// The number of runs from which Welch's degrees of freedom hold for sides of unequal number too.
const ENOUGH_RUNS: usize = 5;

/// Returns the squared error of a difference of means, and its degrees of freedom.
///
/// They are those of Welch and Satterthwaite, which a few runs beside many make too many: of two equal sides, two runs
/// beside ten then differ in 10% of cases where 5% are meant. There they are those of the smaller side, their lower
/// bound.
fn welch(sides: [(f64, usize); 2]) -> (f64, f64) {
    let [(base, base_below), (head, head_below)] =
        sides.map(|(variance, runs)| (variance / runs as f64, runs as f64 - 1.0));
    let square = base + head;
    let fewest = sides[0].1.min(sides[1].1);
    if square == 0.0 || (sides[0].1 != sides[1].1 && fewest < ENOUGH_RUNS) {
        return (square, fewest as f64 - 1.0);
    }
    (square, square * square / (base * base / base_below + head * head / head_below))
}

/// Returns the level of each of several measures, so that all together raise a false alarm with a probability of at
/// most [`FALSE_ALARMS`]: Holm's procedure (1979). A measure differs if its `p` is not above its level.
///
/// The levels fit intervals too: each interval excludes what its `p` is about exactly if its measure differs.
pub fn levels(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut levels = vec![FALSE_ALARMS; p.len()];
    let mut stopped = None;
    for (rank, index) in order.into_iter().enumerate() {
        let level = stopped.unwrap_or(FALSE_ALARMS / (p.len() - rank) as f64);
        levels[index] = level;
        // From the first that does not differ on, none does.
        if p[index] > level {
            stopped = Some(level);
        }
    }
    levels
}

/// Returns the probability that so many values of one normal distribution have any that is so far from their mean, in
/// their standard deviations, as these have: Grubbs' test for one outlier, on either side (Technometrics 11, 1969). 1
/// where there are fewer than three.
pub fn p_outlier(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (mean, Some(variance)) = (mean(values), variance(values)) else { return 1.0 };
    let farthest = values.iter().map(|value| (value - mean).powi(2)).fold(0.0, f64::max);
    if count < 3.0 || farthest == 0.0 {
        return 1.0;
    }
    let squared = farthest / variance;
    // The t of a value beside all others; 0 is left where these agree exactly, but for rounding.
    let rest = ((count - 1.0).powi(2) - count * squared).max(0.0);
    let t = (count * (count - 2.0) * squared / rest).sqrt();
    if t.is_infinite() { 0.0 } else { (2.0 * count * t_tail(t, count - 2.0)).min(1.0) }
}

/// Returns the standard deviation of the logarithms of positive values: for small ones, the share by which runs differ.
/// `None` where there are fewer than two.
pub fn spread(values: &[f64]) -> Option<f64> {
    variance(&values.iter().map(|value| value.ln()).collect::<Vec<_>>()).map(f64::sqrt)
}

/// Returns the variance of a sample; `None` where it has fewer than two values.
fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

/// Returns the arithmetic mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Returns the median.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    // proptest has another of that name.
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn welch_matches_a_worked_example() {
        // Variances of means 2.5/5 and 10/5; freedom 2.5² / (0.5²/4 + 2²/4).
        let change = MeanChange::between(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 4.0, 6.0, 8.0, 10.0]).unwrap();
        assert_eq!(change.estimate, 3.0);
        assert!((change.error - 2.5_f64.sqrt()).abs() < 1e-9 && (change.freedom - 5.882_353).abs() < 1e-6);
        // Of sides of unequal number the smaller one decides, unless it has five.
        let freedom = |base: &[f64], head: &[f64]| MeanChange::between(base, head).unwrap().freedom;
        assert_eq!(freedom(&[1.0, 2.0], &[2.0, 4.0, 6.0, 8.0, 10.0]), 1.0);
        assert!(freedom(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) > 8.0);
    }

    #[test]
    fn a_single_run_has_a_prediction_interval() {
        // Mean 3, variance 2.5: 3 ± 2.776 · √2.5 · √1.2 for the sixth run.
        let change = MeanChange::between(&[1.0, 2.0, 3.0, 4.0, 5.0], &[3.0]).unwrap();
        let (low, high) = change.interval(0.05);
        assert!((high - 4.809).abs() < 1e-3 && (low + 4.809).abs() < 1e-3, "{low} {high}");
        let back = MeanChange::between(&[3.0], &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((back.error, back.freedom), (change.error, 4.0));
        assert_eq!((MeanChange::between(&[1.0], &[2.0]), MeanChange::between(&[], &[1.0, 2.0])), (None, None));
    }

    #[test]
    fn equal_runs_have_a_point_for_an_interval() {
        let change = MeanChange::between(&[1.0, 1.0], &[1.5, 1.5]).unwrap();
        assert_eq!((change.interval(0.05), change.freedom), ((0.5, 0.5), 1.0));
        assert_eq!((change.p_beyond(0.1), change.p_beyond(0.5)), (0.0, 1.0));
    }

    #[test]
    fn holm_stops_at_the_first_non_significant_p_value() {
        let levels = levels(&[0.02, 0.000_5, 0.9, 0.005]);
        // 0.0005 ≤ 5%/4, 0.005 ≤ 5%/3, 0.02 ≤ 5%/2, 0.9 > 5%.
        for (level, wanted) in levels.iter().zip([0.025, 0.012_5, 0.05, 0.05 / 3.0]) {
            assert!((level - wanted).abs() < 1e-12, "{levels:?}");
        }
        // The second smallest fails at 5%/2, so that the largest, which 5% would let pass, is held to that too.
        assert_eq!(super::levels(&[0.03, 0.005, 0.045])[2], 0.025);
    }

    #[test]
    fn medians_and_spreads_are_exact() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        let spread = super::spread(&[1.0, std::f64::consts::E]).unwrap();
        assert!((spread - 0.5_f64.sqrt()).abs() < 1e-12 && super::spread(&[1.0]).is_none());
    }

    /// Normal values with a fixed seed.
    struct Random(Xoshiro256PlusPlus);

    impl Random {
        fn uniform(&mut self) -> f64 {
            (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
        }

        fn runs(&mut self, count: usize, spread: f64) -> Vec<f64> {
            (0..count).map(|_| spread * self.normal()).collect()
        }
    }

    #[test]
    fn intervals_cover_the_truth_as_often_as_stated() {
        const TRIALS: u32 = 4_000;
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(13));
        // The last one's sides differ in number and in spread, for which a pooled variance would not do.
        for (runs, spreads) in
            [([5, 5], [0.1, 0.1]), ([5, 1], [0.1, 0.1]), ([1, 10], [0.1, 0.1]), ([3, 12], [0.3, 0.05])]
        {
            for missed in [0.05, 0.10] {
                let mut covered = 0;
                for _ in 0..TRIALS {
                    let [base, head] = [0, 1].map(|side| random.runs(runs[side], spreads[side]));
                    let (low, high) = MeanChange::between(&base, &head).unwrap().interval(missed);
                    covered += u32::from(low <= 0.0 && 0.0 <= high);
                }
                let share = f64::from(covered) / f64::from(TRIALS);
                assert!((share - (1.0 - missed)).abs() < 0.015, "{runs:?}, {missed}: {share}");
            }
        }
    }

    #[test]
    fn outliers_are_as_improbable_as_grubbs_states() {
        // The farthest values are 1.715 and 2.290 standard deviations out, the critical values of 5% for 5 and 10
        // values.
        let ten = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0, 4.04];
        for values in [&[1.0, -1.0, 1.0, -1.0, 7.54][..], &ten] {
            let p = p_outlier(values);
            assert!((p - 0.05).abs() < 0.001, "{p}");
        }
        const TRIALS: u32 = 4_000;
        let mut random = Random(Xoshiro256PlusPlus::seed_from_u64(7));
        for count in [3, 5, 12] {
            let found = (0..TRIALS).filter(|_| p_outlier(&random.runs(count, 0.2)) <= 0.05).count();
            let share = found as f64 / f64::from(TRIALS);
            assert!((share - 0.05).abs() < 0.015, "{count}: {share}");
        }
        assert_eq!((p_outlier(&[1.0, 1.0, 1.0, 2.0]), p_outlier(&[1.0; 5]), p_outlier(&[1.0, 9.0])), (0.0, 1.0, 1.0));
    }

    proptest! {
        #[test]
        fn an_interval_is_beyond_exactly_if_its_measure_differs(
            changes in prop::collection::vec((-0.3..0.3_f64, 0.001..0.1_f64), 1..12), limit in 0.0..0.1_f64
        ) {
            let changes: Vec<_> = changes.iter()
                .map(|(estimate, error)| MeanChange { estimate: *estimate, error: *error, freedom: 8.0 }).collect();
            let p: Vec<f64> = changes.iter().map(|change| change.p_beyond(limit)).collect();
            for ((change, p), level) in changes.iter().zip(&p).zip(levels(&p)) {
                let (low, high) = change.interval(level);
                prop_assert!(low <= change.estimate && change.estimate <= high);
                // On the edge itself either answer will do.
                if (p / level - 1.0).abs() > 1e-6 {
                    prop_assert_eq!(low > limit || high < -limit, *p < level);
                }
            }
        }

        #[test]
        fn swapped_sides_swap_the_sign(
            base in prop::collection::vec(0.5..2.0_f64, 1..8), head in prop::collection::vec(0.5..2.0_f64, 2..8)
        ) {
            let there = MeanChange::between(&base, &head).unwrap();
            let back = MeanChange::between(&head, &base).unwrap();
            prop_assert!((there.estimate + back.estimate).abs() < 1e-12 && (there.error - back.error).abs() < 1e-12);
            prop_assert!((there.freedom - back.freedom).abs() < 1e-9);
        }
    }
}
