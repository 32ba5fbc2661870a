//! The difference between two sides, as pure numbers. docs/BASELINES.md derives it and names the sources.

use super::bootstrap::variance;
use super::student::{t_above, t_tail};

/// The weight of an assumption about the spread of runs, as a number of runs.
const ASSUMED_RUNS: f64 = 4.0;
/// The part of the variance between runs that the runs of one sitting share, and those of another do not: the machine's
/// neighbours, a cold cache, a database grown old. Sides whose runs alternated share it.
const SITTING: f64 = 0.5;
/// The probability with which a comparison of two equal sides may flag anything at all.
pub const FALSE_ALARMS: f64 = 0.01;

/// The values of one measure in a side's runs.
#[derive(Clone, Debug, Default)]
pub struct RunValues {
    /// The value of each run.
    pub values: Vec<f64>,
    /// The error of each value, judged by its run alone; zero where nothing is known.
    pub errors: Vec<f64>,
}

/// The difference between two sides, with all that is needed for an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The head's mean minus the base's.
    pub estimate: f64,
    /// Its standard error.
    pub error: f64,
    /// The degrees of freedom of that error.
    pub freedom: f64,
}

impl Difference {
    /// Compares two samples of at least one run each. `assumed` is the standard deviation between runs that is assumed
    /// until runs show better; `noise` is the factor by which all measures together exceed the assumed variance
    /// ([`noise`]); `in_turn` states that the runs of the sides alternated.
    ///
    /// The variance of a run is estimated from all runs of both sides together, and moderated as in Smyth (2004): few
    /// runs say little about their own spread, and chance makes it look small. The assumption is the sum of the
    /// variance within a run, which its own samples show, and that between runs.
    pub fn between(base: &RunValues, head: &RunValues, assumed: f64, noise: f64, in_turn: bool) -> Self {
        let [runs_base, runs_head] = [base, head].map(|side| side.values.len() as f64);
        let observed_freedom = runs_base + runs_head - 2.0;
        let within = within([base, head]);
        let assumed = (assumed * assumed + within) * noise;
        let freedom = ASSUMED_RUNS + observed_freedom;
        let variance = (ASSUMED_RUNS * assumed + squares(base) + squares(head)) / freedom;
        // The variance within a run is no part of what the runs of a sitting share.
        let sitting = if in_turn { 0.0 } else { SITTING * (variance - within).max(0.0) };
        Self {
            estimate: mean(&head.values) - mean(&base.values),
            error: (variance * (1.0 / runs_base + 1.0 / runs_head) + sitting).sqrt(),
            freedom,
        }
    }

    /// Returns the probability of so large a difference between equal sides.
    pub fn p(&self) -> f64 {
        if self.error == 0.0 {
            return if self.estimate == 0.0 { 1.0 } else { 0.0 };
        }
        2.0 * t_tail(self.estimate.abs() / self.error, self.freedom)
    }

    /// Returns the interval that misses the true difference with this probability.
    pub fn interval(&self, missed: f64) -> (f64, f64) {
        let reach = t_above(missed / 2.0, self.freedom) * self.error;
        (self.estimate - reach, self.estimate + reach)
    }
}

/// Returns the factor by which the variance of the runs exceeds the assumed one: the largest of all measures, each
/// given by its two samples and the standard deviation between runs that is assumed of it; not below one. Measures of
/// the same runs share their noise: where one of them shows a machine noisier than assumed, another of few runs looks
/// calm by chance.
pub fn noise<'a>(measures: impl Iterator<Item = ([&'a RunValues; 2], f64)>) -> f64 {
    let ratios = measures.filter_map(|(sides, assumed)| {
        let expected = assumed * assumed + within(sides);
        let observed = common_variance(sides)?;
        (expected > 0.0).then_some(observed / expected)
    });
    ratios.fold(1.0, f64::max)
}

/// Returns the mean variance within a run, which its own samples show.
fn within(sides: [&RunValues; 2]) -> f64 {
    let errors = sides.into_iter().flat_map(|side| &side.errors).map(|error| error * error);
    mean(&errors.collect::<Vec<_>>())
}

/// Returns the variance of a run within its side; `None` where neither side has two.
fn common_variance(sides: [&RunValues; 2]) -> Option<f64> {
    let freedom: f64 = sides.iter().map(|side| side.values.len() as f64 - 1.0).sum();
    (freedom > 0.0).then(|| sides.into_iter().map(squares).sum::<f64>() / freedom)
}

/// Returns the level of each of several measures, so that all together raise a false alarm with a probability of at
/// most [`FALSE_ALARMS`]: Holm's procedure (1979). A measure differs if its `p` is not above its level.
///
/// The levels fit intervals too: each interval excludes zero exactly if its measure differs.
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

/// Returns the noise floor: the average difference between two runs of the same thing, which is 2/√π standard
/// deviations of normal ones (Gini's mean difference).
pub fn noise_floor(values: &[f64]) -> f64 {
    mean_difference(variance(values))
}

/// Returns the noise floor of both sides' runs together; 0 where neither has two.
pub fn common_noise_floor(sides: [&RunValues; 2]) -> f64 {
    common_variance(sides).map_or(0.0, mean_difference)
}

fn mean_difference(variance: f64) -> f64 {
    2.0 * (variance / std::f64::consts::PI).sqrt()
}

/// Returns the sum of the squared distances of runs from their mean.
fn squares(side: &RunValues) -> f64 {
    variance(&side.values) * (side.values.len() as f64 - 1.0)
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

    use super::*;

    fn sample(values: &[f64]) -> RunValues {
        RunValues { values: values.to_vec(), errors: vec![0.0; values.len()] }
    }

    #[test]
    fn holm_stops_at_the_first_non_significant_p_value() {
        let levels = levels(&[0.004, 0.000_1, 0.5, 0.001]);
        // 0.0001 ≤ 1%/4, 0.001 ≤ 1%/3, 0.004 ≤ 1%/2, 0.5 > 1%.
        for (level, wanted) in levels.iter().zip([0.005, 0.002_5, 0.01, 0.01 / 3.0]) {
            assert!((level - wanted).abs() < 1e-12, "{levels:?}");
        }
        // The second smallest fails at 1%/2, so that the largest, which 1% would let pass, is held to that too.
        assert_eq!(super::levels(&[0.006, 0.001, 0.009])[2], 0.005);
    }

    #[test]
    fn single_runs_have_the_assumed_error() {
        let difference = Difference::between(&sample(&[1.0]), &sample(&[1.1]), 0.02, 1.0, true);
        assert!((difference.error - 0.02 * 2.0_f64.sqrt()).abs() < 1e-12 && difference.freedom == ASSUMED_RUNS);
        let apart = Difference::between(&sample(&[1.0]), &sample(&[1.1]), 0.02, 1.0, false);
        assert!(apart.error > difference.error);
    }

    #[test]
    fn many_runs_outweigh_the_assumed_error() {
        let runs: Vec<f64> = (0..200).map(|index| f64::from(index % 2) * 0.2).collect();
        let difference = Difference::between(&sample(&runs), &sample(&runs), 0.02, 1.0, true);
        let truth = 0.1 * (2.0_f64 / 200.0).sqrt();
        assert!((difference.error / truth - 1.0).abs() < 0.03, "{difference:?}");
    }

    #[test]
    fn contradicting_runs_raise_the_assumed_error() {
        let runs = sample(&[0.0, 0.4]);
        let contradicted = noise([([&runs, &runs], 0.04)].into_iter());
        assert!((contradicted - 50.0).abs() < 1e-9, "0.08 where 0.0016 is assumed: {contradicted}");
        let difference = Difference::between(&runs, &runs, 0.04, contradicted, true);
        assert!((difference.error - 0.08_f64.sqrt()).abs() < 1e-9, "{difference:?}");
        let quiet = sample(&[0.0, 0.01]);
        assert_eq!(noise([([&quiet, &quiet], 0.04)].into_iter()), 1.0);
        assert_eq!(noise([([&quiet, &quiet], 0.04), ([&runs, &runs], 0.04)].into_iter()), contradicted);
        assert_eq!(noise(std::iter::empty()), 1.0);
    }

    #[test]
    fn medians_and_noise_floors_are_exact() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert!((noise_floor(&[1.0, 3.0]) - 1.595_77).abs() < 1e-5);
        assert_eq!(noise_floor(&[1.0]), 0.0);
    }

    proptest! {
        #[test]
        fn an_interval_excludes_zero_exactly_if_its_measure_differs(
            sides in prop::collection::vec((-0.3..0.3_f64, 0.001..0.1_f64), 1..12)
        ) {
            let differences: Vec<_> = sides.iter()
                .map(|(estimate, error)| Difference { estimate: *estimate, error: *error, freedom: 8.0 }).collect();
            let p: Vec<f64> = differences.iter().map(Difference::p).collect();
            for ((difference, p), level) in differences.iter().zip(&p).zip(levels(&p)) {
                let (low, high) = difference.interval(level);
                prop_assert!(low <= difference.estimate && difference.estimate <= high);
                // On the edge itself either answer will do.
                if (p / level - 1.0).abs() > 1e-6 {
                    prop_assert_eq!(low > 0.0 || high < 0.0, *p < level);
                }
            }
        }

        #[test]
        fn swapped_sides_swap_the_sign(base in prop::collection::vec(0.5..2.0_f64, 1..8), head in prop::collection::vec(0.5..2.0_f64, 1..8)) {
            let there = Difference::between(&sample(&base), &sample(&head), 0.03, 1.0, false);
            let back = Difference::between(&sample(&head), &sample(&base), 0.03, 1.0, false);
            prop_assert!((there.estimate + back.estimate).abs() < 1e-12 && (there.error - back.error).abs() < 1e-12);
        }
    }
}
