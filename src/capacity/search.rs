//! The search for the highest rate that holds: from the points so far follows the next rate, or the conclusion. Pure:
//! it knows no clock and no socket.
//!
//! Rates rise by a factor until one is breached (or fall until one holds), and the bracket is then bisected on a
//! logarithmic scale. A point is a vote on its rate: one vote steers the search, and only two votes with a majority
//! confirm a rate, so that no single point decides. docs/CAPACITY.md states the rules, with the reasons.

use serde::{Deserialize, Serialize};

/// The number of points that confirm a rate, if they are the majority there.
pub const CONFIRMATIONS: usize = 2;
/// The number of invalid points at a rate that is not confirmed, after which it counts as one that cannot be measured.
pub const MOST_INVALID: usize = 3;

/// The bounds of a search. Rates are arrivals per second.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct SearchSettings {
    /// The first rate.
    pub from_per_s: f64,
    /// The factor between the rates of the first part of the search, above 1.
    pub factor: f64,
    /// The width of the bracket at which the search ends, as a share of its lower end: 0.05 is 5%.
    pub precision: f64,
    /// The lowest rate that is tried.
    pub floor_per_s: f64,
    /// The highest rate that is tried.
    pub ceiling_per_s: f64,
    /// The largest number of points.
    pub most_points: usize,
}

/// The verdict on one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PointVerdict {
    /// Every threshold was kept.
    Within,
    /// A threshold was breached.
    Breached,
    /// The point says nothing about the system.
    Invalid,
    /// The load cannot be sent at this rate, as where seeded rows do not suffice; nothing was measured.
    Unplanned,
}

/// A point, as the search sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Its rate.
    pub rate_per_s: f64,
    /// Its verdict.
    pub verdict: PointVerdict,
}

/// The conclusion of a search.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Conclusion {
    /// The capacity lies between two confirmed rates, no farther apart than the precision.
    Between {
        /// The highest rate that held.
        held_per_s: f64,
        /// The lowest above it that was breached.
        breached_per_s: f64,
    },
    /// The highest rate that may be tried held.
    AtLeast {
        /// That rate.
        held_per_s: f64,
    },
    /// The lowest rate that may be tried was breached.
    Below {
        /// That rate.
        breached_per_s: f64,
    },
    /// Beyond a rate nothing can be measured: the limit found is not the system's.
    Unmeasurable {
        /// The highest rate that held, confirmed; absent if none did.
        held_per_s: Option<f64>,
        /// The lowest rate that could not be measured.
        at_per_s: f64,
    },
    /// The search ended before it had an answer.
    Unfinished {
        /// The highest rate that held so far, confirmed or not.
        held_per_s: Option<f64>,
        /// The lowest rate above it that did not, confirmed or not.
        not_held_per_s: Option<f64>,
    },
}

/// The next step of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SearchStep {
    /// Measure a point at this rate, per second.
    Measure(f64),
    /// End.
    Done(Conclusion),
}

/// The standing of a rate after its points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Held,
    Breached,
    /// It cannot be measured.
    Blocked,
    /// As many points speak for it as against it.
    Open,
}

/// The points at one rate.
#[derive(Clone, Copy, Debug)]
struct Votes {
    rate_per_s: f64,
    within: usize,
    breached: usize,
    invalid: usize,
    unplanned: bool,
}

impl Votes {
    fn is_confirmed(&self) -> bool {
        self.within != self.breached && self.within.max(self.breached) >= CONFIRMATIONS
    }

    fn standing(&self) -> Standing {
        if !self.is_confirmed() && (self.unplanned || self.invalid >= MOST_INVALID) {
            return Standing::Blocked;
        }
        match self.within.cmp(&self.breached) {
            std::cmp::Ordering::Greater => Standing::Held,
            std::cmp::Ordering::Less => Standing::Breached,
            std::cmp::Ordering::Equal => Standing::Open,
        }
    }
}

/// Returns the votes on each rate, in the order of the rates.
fn votes(tried: &[Tried]) -> Vec<Votes> {
    let mut all: Vec<Votes> = Vec::new();
    for point in tried {
        let rate_per_s = point.rate_per_s;
        let at = all.iter().position(|one| one.rate_per_s == rate_per_s).unwrap_or_else(|| {
            all.push(Votes { rate_per_s, within: 0, breached: 0, invalid: 0, unplanned: false });
            all.len() - 1
        });
        match point.verdict {
            PointVerdict::Within => all[at].within += 1,
            PointVerdict::Breached => all[at].breached += 1,
            PointVerdict::Invalid => all[at].invalid += 1,
            PointVerdict::Unplanned => all[at].unplanned = true,
        }
    }
    all.sort_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s));
    all
}

/// Returns the lowest rate that did not hold, and the highest below it that did.
fn bracket(votes: &[Votes]) -> (Option<&Votes>, Option<&Votes>) {
    let is_above = |one: &&Votes| matches!(one.standing(), Standing::Breached | Standing::Blocked);
    let above = votes.iter().find(is_above);
    let below = votes.iter().take_while(|one| !is_above(one)).filter(|one| one.standing() == Standing::Held).last();
    (below, above)
}

/// Returns the bracket of a search that ends now, before its conclusion.
pub fn unfinished(tried: &[Tried]) -> Conclusion {
    let votes = votes(tried);
    let (below, above) = bracket(&votes);
    Conclusion::Unfinished {
        held_per_s: below.map(|one| one.rate_per_s),
        not_held_per_s: above.map(|one| one.rate_per_s),
    }
}

/// Returns the next step after these points, in the order in which they were measured.
pub fn next(settings: &SearchSettings, tried: &[Tried]) -> SearchStep {
    let votes = votes(tried);
    let step = wanted(settings, &votes);
    match step {
        SearchStep::Measure(_) if tried.len() >= settings.most_points => SearchStep::Done(unfinished(tried)),
        step => step,
    }
}

fn wanted(settings: &SearchSettings, votes: &[Votes]) -> SearchStep {
    use SearchStep::{Done, Measure};
    if let Some(open) = votes.iter().find(|one| one.standing() == Standing::Open) {
        return Measure(open.rate_per_s);
    }
    let unconfirmed = |one: &Votes| !one.is_confirmed() && one.standing() != Standing::Blocked;
    match bracket(votes) {
        (None, None) => Measure(settings.from_per_s),
        (Some(below), None) if below.rate_per_s < settings.ceiling_per_s => {
            Measure(rounded(below.rate_per_s * settings.factor).min(settings.ceiling_per_s))
        }
        (Some(below), None) if unconfirmed(below) => Measure(below.rate_per_s),
        (Some(below), None) => Done(Conclusion::AtLeast { held_per_s: below.rate_per_s }),
        (None, Some(above)) if above.rate_per_s > settings.floor_per_s => {
            Measure(rounded(above.rate_per_s / settings.factor).max(settings.floor_per_s))
        }
        (None, Some(above)) if unconfirmed(above) => Measure(above.rate_per_s),
        (None, Some(above)) => Done(match above.standing() {
            Standing::Blocked => Conclusion::Unmeasurable { held_per_s: None, at_per_s: above.rate_per_s },
            _ => Conclusion::Below { breached_per_s: above.rate_per_s },
        }),
        (Some(below), Some(above)) => {
            let (held_per_s, not_held_per_s) = (below.rate_per_s, above.rate_per_s);
            let middle = rounded((held_per_s * not_held_per_s).sqrt());
            let is_wide = not_held_per_s > held_per_s * (1.0 + settings.precision);
            if is_wide && held_per_s < middle && middle < not_held_per_s {
                return Measure(middle);
            }
            // The lower end first: if it does not hold, its upper end is of no interest.
            if let Some(one) = [below, above].into_iter().find(|one| unconfirmed(one)) {
                return Measure(one.rate_per_s);
            }
            Done(match above.standing() {
                Standing::Blocked => {
                    Conclusion::Unmeasurable { held_per_s: Some(held_per_s), at_per_s: not_held_per_s }
                }
                _ => Conclusion::Between { held_per_s, breached_per_s: not_held_per_s },
            })
        }
    }
}

/// Rounds a rate to four digits, or to a thousandth where that is less: rates are written, and compared, as people do.
pub fn rounded(per_s: f64) -> f64 {
    let digits = 3 - per_s.log10().floor() as i32;
    let scale = 10_f64.powi(digits.clamp(0, 3));
    (per_s * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(from_per_s: f64) -> SearchSettings {
        SearchSettings {
            from_per_s,
            factor: 1.5,
            precision: 0.05,
            floor_per_s: rounded(from_per_s / 100.0),
            ceiling_per_s: 1e6,
            most_points: 60,
        }
    }

    /// Runs a search at a system whose points have these verdicts: by their number and rate.
    fn search(
        settings: &SearchSettings,
        mut judge: impl FnMut(usize, f64) -> PointVerdict,
    ) -> (Conclusion, Vec<Tried>) {
        let mut tried = Vec::new();
        loop {
            match next(settings, &tried) {
                SearchStep::Measure(rate_per_s) => {
                    assert!((settings.floor_per_s..=settings.ceiling_per_s).contains(&rate_per_s), "{rate_per_s}");
                    let verdict = judge(tried.len(), rate_per_s);
                    tried.push(Tried { rate_per_s, verdict });
                    assert!(tried.len() <= settings.most_points, "{tried:?}");
                }
                SearchStep::Done(conclusion) => return (conclusion, tried),
            }
        }
    }

    fn at(capacity: f64) -> impl Fn(f64) -> PointVerdict {
        move |rate| if rate <= capacity { PointVerdict::Within } else { PointVerdict::Breached }
    }

    fn count(tried: &[Tried], rate: f64, verdict: PointVerdict) -> usize {
        tried.iter().filter(|one| one.rate_per_s == rate && one.verdict == verdict).count()
    }

    fn confirmed(conclusion: Conclusion, capacity: f64, tried: &[Tried]) {
        let Conclusion::Between { held_per_s, breached_per_s } = conclusion else {
            panic!("{conclusion:?}: {tried:?}")
        };
        assert!(held_per_s <= capacity && capacity < breached_per_s, "{conclusion:?} of {capacity}");
        assert!(breached_per_s <= held_per_s * 1.05, "{conclusion:?}");
        assert!(count(tried, held_per_s, PointVerdict::Within) >= 2, "{tried:?}");
        assert!(count(tried, breached_per_s, PointVerdict::Breached) >= 2, "{tried:?}");
    }

    proptest! {
        #[test]
        fn the_answer_is_within_the_precision(from in 1.0..2_000.0_f64, ratio in 0.02..200.0_f64) {
            let from = rounded(from);
            let capacity = from * ratio;
            let (conclusion, tried) = search(&settings(from), |_, rate| at(capacity)(rate));
            confirmed(conclusion, capacity, &tried);
        }

        #[test]
        fn one_flaky_point_does_not_decide(from in 1.0..2_000.0_f64, ratio in 0.02..50.0_f64, flaky in 0..25_usize) {
            let from = rounded(from);
            let capacity = from * ratio;
            let (conclusion, tried) = search(&settings(from), |number, rate| match (number == flaky, at(capacity)(rate)) {
                (false, verdict) => verdict,
                (true, PointVerdict::Within) => PointVerdict::Breached,
                (true, _) => PointVerdict::Within,
            });
            confirmed(conclusion, capacity, &tried);
        }

        #[test]
        fn invalid_points_never_become_the_capacity(limit in 1.0..20_000.0_f64, capacity in 1.0..20_000.0_f64) {
            // Above its limit the generator measures nothing.
            let judge = |_, rate| if rate > limit { PointVerdict::Invalid } else { at(capacity)(rate) };
            let (conclusion, tried) = search(&settings(100.0), judge);
            match conclusion {
                Conclusion::Between { .. } => confirmed(conclusion, capacity, &tried),
                Conclusion::Unmeasurable { held_per_s: Some(held), at_per_s } => {
                    prop_assert!(held <= limit && limit < at_per_s && held <= capacity);
                    prop_assert!(at_per_s <= held * 1.05);
                    prop_assert!(count(&tried, held, PointVerdict::Within) >= 2);
                    prop_assert_eq!(count(&tried, at_per_s, PointVerdict::Invalid), MOST_INVALID);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_verdicts_exceed_the_number_of_points(codes in prop::collection::vec(0..4_u8, 200), most in 1..40_usize) {
            // `search` asserts the bounds on points and rates.
            let verdicts =
                [PointVerdict::Within, PointVerdict::Breached, PointVerdict::Invalid, PointVerdict::Unplanned];
            let bounds = SearchSettings { most_points: most, ..settings(100.0) };
            let (conclusion, tried) = search(&bounds, |number, _| verdicts[usize::from(codes[number])]);
            if let Conclusion::Between { held_per_s, breached_per_s } = conclusion {
                prop_assert!(count(&tried, held_per_s, PointVerdict::Within) >= CONFIRMATIONS);
                prop_assert!(count(&tried, breached_per_s, PointVerdict::Breached) >= CONFIRMATIONS);
            }
        }
    }

    #[test]
    fn a_rate_that_cannot_be_planned_is_tried_once() {
        let judge = |_, rate| if rate > 300.0 { PointVerdict::Unplanned } else { PointVerdict::Within };
        let (conclusion, tried) = search(&settings(100.0), judge);
        let Conclusion::Unmeasurable { held_per_s: Some(held), at_per_s } = conclusion else {
            panic!("{conclusion:?}")
        };
        assert!(held <= 300.0 && 300.0 < at_per_s && at_per_s <= held * 1.05, "{conclusion:?}");
        assert_eq!(count(&tried, at_per_s, PointVerdict::Unplanned), 1);
    }

    #[test]
    fn floor_and_ceiling_end_the_search() {
        let bounds = SearchSettings { floor_per_s: 50.0, ceiling_per_s: 200.0, ..settings(100.0) };
        let (conclusion, tried) = search(&bounds, |_, _| PointVerdict::Within);
        assert_eq!(conclusion, Conclusion::AtLeast { held_per_s: 200.0 });
        assert_eq!(tried.iter().map(|one| one.rate_per_s).collect::<Vec<_>>(), [100.0, 150.0, 200.0, 200.0]);
        let (conclusion, tried) = search(&bounds, |_, _| PointVerdict::Breached);
        assert_eq!(conclusion, Conclusion::Below { breached_per_s: 50.0 });
        assert_eq!(tried.iter().map(|one| one.rate_per_s).collect::<Vec<_>>(), [100.0, 66.67, 50.0, 50.0]);
        let (conclusion, _) = search(&bounds, |_, _| PointVerdict::Invalid);
        assert_eq!(conclusion, Conclusion::Unmeasurable { held_per_s: None, at_per_s: 50.0 });
    }

    #[test]
    fn a_search_without_points_left_has_a_bracket_at_most() {
        let bounds = SearchSettings { most_points: 3, ..settings(100.0) };
        let (conclusion, _) = search(&bounds, |_, rate| at(160.0)(rate));
        assert_eq!(conclusion, Conclusion::Unfinished { held_per_s: Some(150.0), not_held_per_s: Some(225.0) });
    }

    #[test]
    fn rates_are_rounded_to_four_digits() {
        let rates = [0.123_456, 12.345_6, 167.26, 1_234.56, 98_765.4];
        assert_eq!(rates.map(rounded), [0.123, 12.35, 167.3, 1_235.0, 98_765.0]);
    }
}
