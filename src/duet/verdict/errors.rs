//! The judgement of errors: arrivals without the right answer, of which a difference is to be no accident.

use super::{DuetVerdict, Judged, Settings};
use crate::baseline::statistics::NORMAL_95;
use crate::duet::Sides;
use crate::duet::block::{Answers, WorkloadBlock};
use crate::duet::estimate::holm;
use crate::load::plan::DuetSide;
use crate::measure::binomial;

/// The share of arrivals by which errors must grow to count, beside being no accident.
const LEAST_ERRORS: f64 = 0.001;
/// The share of all arrivals from which errors of one block alone are too many to be passed over.
const LARGE_BURST: f64 = 0.01;

/// The errors of a workload, block by block.
pub(super) struct Errors {
    of: String,
    blocks: Vec<Sides<Wrong>>,
}

/// Arrivals, and those that did not get the right answer.
#[derive(Clone, Copy, Default)]
struct Wrong {
    arrivals: u64,
    wrong: u64,
}

impl Errors {
    /// Gathers the errors of a workload.
    pub(super) fn of(blocks: &[&WorkloadBlock]) -> Self {
        let wrong = |one: Answers| Wrong { arrivals: one.scheduled, wrong: one.scheduled - one.right };
        Self {
            of: blocks.first().map(|one| one.name.clone()).unwrap_or_default(),
            blocks: blocks.iter().map(|one| one.answers.map(wrong)).collect(),
        }
    }

    fn all(&self) -> Sides<Wrong> {
        sum(self.blocks.iter())
    }

    /// Reports whether the errors of a side grew by what counts, and by no accident: in all blocks, as `p` says, and also
    /// without the block that has most of the growth, since errors come in bursts.
    fn grew(&self, side: DuetSide, p: f64, alpha: f64) -> bool {
        let excess = |one: &Sides<Wrong>| one.of(side).wrong as i64 - one.of(side.other()).wrong as i64;
        let worst = (0..self.blocks.len()).max_by_key(|index| excess(&self.blocks[*index]));
        let others = self.blocks.iter().enumerate().filter(|(index, _)| Some(*index) != worst).map(|(_, one)| one);
        let others = sum(others);
        let counts = |errors: &Sides<Wrong>| growth(errors, side) > LEAST_ERRORS;
        p <= alpha && counts(&self.all()) && by_chance(&others, side) <= alpha && counts(&others)
    }
}

fn sum<'a>(blocks: impl Iterator<Item = &'a Sides<Wrong>>) -> Sides<Wrong> {
    let add =
        |one: Wrong, other: Wrong| Wrong { arrivals: one.arrivals + other.arrivals, wrong: one.wrong + other.wrong };
    blocks.fold(Sides::default(), |all, one| Sides { base: add(all.base, one.base), head: add(all.head, one.head) })
}

fn share(of: Wrong) -> Option<f64> {
    (of.arrivals > 0).then(|| of.wrong as f64 / of.arrivals as f64)
}

/// Returns the share of errors of a side less that of the other.
fn growth(errors: &Sides<Wrong>, side: DuetSide) -> f64 {
    share(*errors.of(side)).unwrap_or_default() - share(*errors.of(side.other())).unwrap_or_default()
}

/// Returns the probability that a side has so many of all errors by chance: given their sum, each falls on a side in
/// proportion to its arrivals (Przyborowski and Wilenski, Biometrika 1940).
fn by_chance(errors: &Sides<Wrong>, side: DuetSide) -> f64 {
    let Sides { base, head } = errors;
    let arrivals = (base.arrivals + head.arrivals).max(1) as f64;
    binomial::at_least(errors.of(side).wrong, base.wrong + head.wrong, errors.of(side).arrivals as f64 / arrivals)
}

/// Returns the upper bound of the growth of the head's share, with a confidence of 95% (Agresti and Caffo, The American
/// Statistician 2000).
fn most_growth(errors: &Sides<Wrong>) -> f64 {
    let of = |one: Wrong| {
        let arrivals = one.arrivals as f64 + 2.0;
        let share = (one.wrong as f64 + 1.0) / arrivals;
        (share, share * (1.0 - share) / arrivals)
    };
    let ((base, base_variance), (head, head_variance)) = (of(errors.base), of(errors.head));
    head - base + NORMAL_95 * (base_variance + head_variance).sqrt()
}

/// Judges the errors of all workloads.
pub(super) fn judge(errors: Vec<Errors>, settings: &Settings) -> Vec<Judged> {
    let all: Vec<Sides<Wrong>> = errors.iter().map(Errors::all).collect();
    let p = |side| holm(&all.iter().map(|one| by_chance(one, side)).collect::<Vec<_>>());
    let (worse, better) = (p(DuetSide::Head), p(DuetSide::Base));
    let judged = errors.iter().zip(&all).enumerate().map(|(index, (one, all))| {
        let verdict = match () {
            () if one.grew(DuetSide::Head, worse[index], settings.alpha) => DuetVerdict::Regressed,
            () if one.grew(DuetSide::Base, better[index], settings.alpha) => DuetVerdict::Improved,
            () if worse[index] <= settings.alpha && growth(all, DuetSide::Head) > LARGE_BURST => DuetVerdict::Invalid,
            () if growth(all, DuetSide::Head) <= 0.0 || most_growth(all) <= LEAST_ERRORS => DuetVerdict::Unchanged,
            () => DuetVerdict::Indistinct,
        };
        Judged {
            of: one.of.clone(),
            measure: "errors_share",
            values: all.map(share),
            change: None,
            interval: None,
            limit: Some(LEAST_ERRORS),
            detectable: None,
            p: Some(worse[index]),
            verdict: Some(verdict),
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the verdict on six blocks of so many arrivals at each side, with these errors of base and head.
    fn verdict_of(arrivals: u64, errors: [(u64, u64); 6]) -> Option<DuetVerdict> {
        let wrong = |wrong| Wrong { arrivals, wrong };
        let blocks = errors.map(|(base, head)| Sides { base: wrong(base), head: wrong(head) });
        let errors = Errors { of: "w".to_owned(), blocks: blocks.to_vec() };
        judge(vec![errors], &Settings { threshold: 0.02, alpha: 0.01, blocks: 6 })[0].verdict
    }

    #[test]
    fn a_few_more_errors_are_no_accident_only_if_they_are_many() {
        let with_errors = |base: u64, head: u64, in_blocks: u64| {
            let mut errors = [(0, 0); 6];
            errors[..in_blocks as usize].fill((base / in_blocks, head / in_blocks));
            verdict_of(5_000, errors)
        };
        assert_eq!(with_errors(0, 0, 2), Some(DuetVerdict::Unchanged));
        assert_eq!(with_errors(10, 12, 2), Some(DuetVerdict::Unchanged));
        // Significant, but one in 1,500.
        assert_eq!(with_errors(0, 20, 2), Some(DuetVerdict::Unchanged));
        assert_eq!(with_errors(10, 100, 2), Some(DuetVerdict::Regressed));
        assert_eq!(with_errors(100, 10, 2), Some(DuetVerdict::Improved));
        // One burst may be an accident; it is not called unchanged either.
        assert_eq!(with_errors(0, 100, 1), Some(DuetVerdict::Indistinct));
        let burst = [(0, 0), (0, 0), (0, 100), (0, 0), (0, 1), (0, 0)];
        assert_eq!(verdict_of(5_000, burst), Some(DuetVerdict::Indistinct));
        // A block of which most failed is never green.
        assert_eq!(with_errors(0, 3_000, 1), Some(DuetVerdict::Invalid));
        assert_eq!(with_errors(3_000, 0, 1), Some(DuetVerdict::Unchanged));
        assert_eq!(with_errors(100, 0, 1), Some(DuetVerdict::Unchanged));
    }

    #[test]
    fn errors_of_few_arrivals_are_not_called_unchanged() {
        // 6 of 510: more than one in a hundred, and yet perhaps an accident.
        assert_eq!(verdict_of(85, [(0, 1); 6]), Some(DuetVerdict::Indistinct));
    }
}
