//! Change points of a series of values: E-divisive means, with permutation tests.
//!
//! The statistic is that of Matteson and James, "A Nonparametric Approach for Multiple Change Point Analysis of
//! Multivariate Data" (JASA 109, 2014), with an exponent of 1, as Daly, Brown, Ingo, O'Leary and Bradford use it for
//! benchmarks in "The Use of Change Point Detection to Identify Software Performance Regressions in a Continuous
//! Integration System" (ICPE 2020). It asks for no distribution, and finds changes of the spread too, if they are
//! large.

use std::ops::Range;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::baseline::statistics::FALSE_ALARMS;

/// The fewest values between two change points, and before the first and after the last.
pub const LEAST_STRETCH: usize = 3;
/// The most values of a series: the work grows with their square.
pub const MOST_VALUES: usize = 500;
/// The permutations of a test: the least probability that it can give is a thousandth.
pub const PERMUTATIONS: usize = 999;
/// The seed of the permutations: the same values have the same change points, always.
const SEED: u64 = 2_020;
/// The share by which two sums of the same distances, added up in another order, may differ.
const ROUNDING: f64 = 1e-9;

/// A change point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// The place of the first value after the change.
    pub at: usize,
    /// The probability of a division as clear as this one where the values between the change points found before it
    /// come in a random order.
    pub p: f64,
}

/// Returns the change points of `values`, at most [`MOST_VALUES`], in their order.
///
/// The series is divided where its parts differ most, then each part again, until a division is no clearer than those
/// of shuffled values, with a probability above [`FALSE_ALARMS`]. That is how often a series without a change is given
/// one.
pub fn find(values: &[f64]) -> Vec<ChangePoint> {
    search(values, PERMUTATIONS)
}

fn search(values: &[f64], permutations: usize) -> Vec<ChangePoint> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut found: Vec<ChangePoint> = Vec::new();
    loop {
        let stretches = stretches(values.len(), &found);
        let Some(division) = best(values, &stretches).filter(|division| division.q > 0.0) else { return found };
        let mut shuffled = values.to_vec();
        let mut as_clear = 0;
        for _ in 0..permutations {
            stretches.iter().for_each(|stretch| shuffle(&mut shuffled[stretch.clone()], &mut rng));
            let q = best(&shuffled, &stretches).map_or(0.0, |division| division.q);
            as_clear += usize::from(q >= division.q * (1.0 - ROUNDING));
            // The rest cannot make it significant.
            if share(as_clear, permutations) > FALSE_ALARMS {
                return found;
            }
        }
        let at = found.partition_point(|earlier| earlier.at < division.at);
        found.insert(at, ChangePoint { at: division.at, p: share(as_clear, permutations) });
    }
}

/// Returns the p-value of a permutation test: the order that was found counts as one of the permutations.
fn share(as_clear: usize, permutations: usize) -> f64 {
    (as_clear + 1) as f64 / (permutations + 1) as f64
}

/// Returns the stretches between change points, of a series of this length.
fn stretches(length: usize, found: &[ChangePoint]) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(found.iter().map(|one| one.at));
    let ends = found.iter().map(|one| one.at).chain([length]);
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// A division of a stretch.
#[derive(Clone, Copy, Debug)]
struct Division {
    at: usize,
    /// The statistic of its two parts: the greater, the more they differ.
    q: f64,
}

/// Returns the clearest division of any stretch, the first of several; `None` where all are too short.
fn best(values: &[f64], stretches: &[Range<usize>]) -> Option<Division> {
    let each = stretches.iter().filter_map(|stretch| {
        let division = divide(&values[stretch.clone()])?;
        Some(Division { at: stretch.start + division.at, ..division })
    });
    each.reduce(|best, other| if other.q > best.q { other } else { best })
}

/// Returns the clearest division of a stretch: of all places at which a second part may begin, and at which it may end
/// before the stretch does, so that a change there and back again hides neither.
fn divide(values: &[f64]) -> Option<Division> {
    let mut best: Option<Division> = None;
    // The sums of the distances within the values up to the end, from each place on; from the first on, of all ends.
    let mut within = vec![0.0; values.len()];
    let mut from_first = vec![0.0];
    for end in 1..=values.len() {
        let last = values[end - 1];
        let mut distances = 0.0;
        for at in (0..end - 1).rev() {
            distances += (values[at] - last).abs();
            within[at] += distances;
        }
        from_first.push(within[0]);
        for at in LEAST_STRETCH..(end + 1).saturating_sub(LEAST_STRETCH) {
            let (before, after) = (from_first[at], within[at]);
            let q = statistic((at, end - at), before, after, within[0] - before - after);
            if best.is_none_or(|best| q > best.q) {
                best = Some(Division { at, q });
            }
        }
    }
    best
}

/// Returns the scaled sample measure of divergence of two parts, of at least two values each, from the sums of the
/// distances within them and between them.
fn statistic((before, after): (usize, usize), within_before: f64, within_after: f64, between: f64) -> f64 {
    let (m, n) = (before as f64, after as f64);
    let pairs = |count: f64| count * (count - 1.0) / 2.0;
    let divergence = 2.0 * between / (m * n) - within_before / pairs(m) - within_after / pairs(n);
    m * n / (m + n) * divergence
}

/// Puts values into a random order (Fisher and Yates).
fn shuffle(values: &mut [f64], rng: &mut Xoshiro256PlusPlus) {
    for last in (1..values.len()).rev() {
        // The product's upper half is below `last + 1`, as evenly as 64 bits allow.
        let place = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        values.swap(last, place as usize);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    // proptest has another of that name.
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Normal values with a fixed seed.
    struct Random(Xoshiro256PlusPlus);

    impl Random {
        fn new(seed: u64) -> Self {
            Self(Xoshiro256PlusPlus::seed_from_u64(seed))
        }

        fn uniform(&mut self) -> f64 {
            (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
        }

        fn values(&mut self, count: usize, mean: f64) -> Vec<f64> {
            (0..count).map(|_| mean + self.normal()).collect()
        }
    }

    /// Returns the clearest division by the definition of the statistic.
    fn by_definition(values: &[f64]) -> Option<(usize, f64)> {
        let mean_distance = |one: &[f64], other: &[f64]| {
            let all = one.iter().flat_map(|a| other.iter().map(move |b| (a - b).abs()));
            all.sum::<f64>() / (one.len() * other.len()) as f64
        };
        // Of a part with itself: pairs of different values, each counted twice, so that n(n - 1) of n² count.
        let within = |part: &[f64]| mean_distance(part, part) * part.len() as f64 / (part.len() - 1) as f64;
        let q = |at: usize, end: usize| {
            let (before, after) = values[..end].split_at(at);
            let (m, n) = (before.len() as f64, after.len() as f64);
            m * n / (m + n) * (2.0 * mean_distance(before, after) - within(before) - within(after))
        };
        let ends = 2 * LEAST_STRETCH..=values.len();
        let all = ends.flat_map(|end| (LEAST_STRETCH..=end - LEAST_STRETCH).map(move |at| (at, end)));
        all.map(|(at, end)| (at, q(at, end))).reduce(|best, other| if other.1 > best.1 { other } else { best })
    }

    fn places(values: &[f64]) -> Vec<usize> {
        find(values).iter().map(|one| one.at).collect()
    }

    #[test]
    fn equal_values_have_no_change_at_the_stated_rate() {
        const SERIES: u64 = 300;
        let with_a_change = |length: usize, of: fn(&mut Random) -> f64| {
            let changed = (0..SERIES).filter(|seed| {
                let mut random = Random::new(*seed);
                let values: Vec<f64> = (0..length).map(|_| of(&mut random)).collect();
                !search(&values, 199).is_empty()
            });
            changed.count() as f64 / SERIES as f64
        };
        // Three standard errors of a share of 5% in so many series are 3.8%. The second distribution has a long tail.
        for share in [
            with_a_change(12, Random::normal),
            with_a_change(30, Random::normal),
            with_a_change(30, |random| random.normal().exp()),
        ] {
            assert!((share - FALSE_ALARMS).abs() < 0.038, "{share}");
        }
    }

    #[test]
    fn a_shift_is_found_at_its_place() {
        for (before, after, sigmas, least) in [(20, 20, 3.0, 49), (30, 5, 4.0, 49), (8, 8, 6.0, 50), (20, 20, 1.5, 40)]
        {
            let found = (0..50).filter(|seed| {
                let mut random = Random::new(*seed);
                let values = [random.values(before, 10.0), random.values(after, 10.0 + sigmas)].concat();
                let near = |one: &ChangePoint| one.at.abs_diff(before) <= 1 + usize::from(sigmas < 2.0) * 3;
                search(&values, 199).iter().any(near)
            });
            let found = found.count();
            assert!(found >= least, "{before} and {after} values, {sigmas} standard deviations apart: {found} of 50");
        }
    }

    #[test]
    fn changes_there_and_back_are_both_found() {
        let mut random = Random::new(7);
        let values = [random.values(15, 0.0), random.values(12, 5.0), random.values(15, 0.0)].concat();
        assert_eq!(places(&values), [15, 27]);
        // Beyond doubt: both are found although the values before and after are the same.
        assert!(find(&values).iter().all(|one| one.p <= 0.005), "{:?}", find(&values));
        // A single value that is far off is no change: a stretch has three at least.
        let mut alone = random.values(30, 0.0);
        alone[15] = 40.0;
        assert_eq!(find(&alone), []);
    }

    #[test]
    fn short_and_constant_series_have_no_change() {
        for values in [&[][..], &[1.0], &[1.0, 1.0, 1.0, 9.0, 9.0], &[5.0; 40]] {
            assert_eq!(find(values), [], "{values:?}");
        }
        // Three values before and three after are too few to be no chance; four and four are enough.
        assert_eq!(find(&[1.0, 1.1, 1.2, 9.0, 9.1, 9.2]), []);
        assert_eq!(places(&[1.0, 1.1, 1.2, 1.3, 9.0, 9.1, 9.2, 9.3]), [4]);
        let steps: Vec<f64> = [[1.0; 10], [2.0; 10], [4.0; 10]].concat();
        assert_eq!(places(&steps), [10, 20]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_clearest_division_is_that_of_the_definition(values in prop::collection::vec(0.0..100.0_f64, 0..40)) {
            match (divide(&values), by_definition(&values)) {
                (None, None) => prop_assert!(values.len() < 2 * LEAST_STRETCH),
                (Some(fast), Some((at, q))) => {
                    prop_assert_eq!(fast.at, at);
                    prop_assert!((fast.q - q).abs() < 1e-9 * q.abs().max(1.0), "{} {}", fast.q, q);
                }
                (fast, slow) => prop_assert!(false, "{:?} {:?}", fast, slow),
            }
        }

        #[test]
        fn the_unit_of_the_values_does_not_matter(
            seed in 0..1_000_u64, shift in -4.0..4.0_f64, scale in prop::sample::select(vec![-3.0, 1e-3, 0.7, 1e4]),
            offset in -100.0..100.0_f64
        ) {
            let mut random = Random::new(seed);
            let values = [random.values(14, 0.0), random.values(14, shift)].concat();
            let scaled: Vec<f64> = values.iter().map(|value| scale * value + offset * scale.abs()).collect();
            prop_assert_eq!(search(&values, 99), search(&scaled, 99));
        }

        #[test]
        fn change_points_leave_stretches_of_enough_values(values in prop::collection::vec(0..3_u8, 0..60)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let found = search(&values, 99);
            prop_assert!(stretches(values.len(), &found).iter().all(|one| found.is_empty() || one.len() >= LEAST_STRETCH));
            prop_assert!(found.iter().all(|one| one.p > 0.0 && one.p <= FALSE_ALARMS));
            prop_assert_eq!(search(&values, 99), found);
        }
    }
}
