//! The verdicts of a comparison: of each measure, and in all.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit_code;

/// The verdict on a measure, or on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Better: the whole interval is beyond the threshold; of a count, beyond its tolerance.
    Improved,
    /// Worse, likewise.
    Regressed,
    /// Equivalent: any change is within the threshold; of a count, within its tolerance.
    Unchanged,
    /// The runs cannot decide.
    Indistinct,
    /// The base has it, and the head has not, or not to be trusted: never green.
    Missing,
    /// Shown, and no subject of a verdict.
    NotJudged,
    /// Different things, or different environments.
    Incomparable,
}

impl Judgement {
    /// Combines verdicts: the worst of them decides, and one improvement makes an improvement only where nothing became
    /// worse or is missing. A regression stands whatever else is missing.
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        let all: Vec<_> = all.into_iter().filter(|one| *one != Self::NotJudged).collect();
        let order = [Self::Incomparable, Self::Regressed, Self::Missing, Self::Improved, Self::Indistinct];
        order.into_iter().find(|one| all.contains(one)).unwrap_or(if all.is_empty() {
            Self::Indistinct
        } else {
            Self::Unchanged
        })
    }

    /// Returns the process's exit code: only a regression is red; what is incomparable or missing is neither red nor
    /// green.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Improved | Self::Unchanged | Self::Indistinct | Self::NotJudged => exit_code::PASS,
            Self::Regressed => exit_code::REGRESSED,
            Self::Missing | Self::Incomparable => exit_code::INVALID,
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Improved => "improved",
            Self::Regressed => "regressed",
            Self::Unchanged => "unchanged",
            Self::Indistinct => "indistinct",
            Self::Missing => "missing",
            Self::NotJudged => "not judged",
            Self::Incomparable => "incomparable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Judgement::{Improved, Incomparable, Indistinct, Missing, NotJudged, Regressed, Unchanged};
    use super::*;

    #[test]
    fn the_worst_verdict_decides() {
        let of_all = |all: &[Judgement]| Judgement::of_all(all.iter().copied());
        assert_eq!(of_all(&[Unchanged, Regressed, Improved]), Regressed);
        assert_eq!(of_all(&[Regressed, Incomparable]), Incomparable);
        assert_eq!(of_all(&[Unchanged, Improved, Indistinct]), Improved);
        assert_eq!(of_all(&[Unchanged, Indistinct]), Indistinct);
        assert_eq!(of_all(&[Unchanged, Unchanged, NotJudged]), Unchanged);
        assert_eq!(of_all(&[Improved, Missing, Indistinct]), Missing);
        assert_eq!(of_all(&[Regressed, Missing]), Regressed);
        assert_eq!(of_all(&[]), Indistinct);
        let codes = [Improved, Unchanged, Indistinct, Regressed, Missing, Incomparable].map(Judgement::exit_code);
        assert_eq!(codes, [0, 0, 0, 4, 5, 5]);
    }
}
