//! The verdicts of a comparison: of each measure, and in all.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit_code;

/// The verdict on a measure, or on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Better, by more than interval, noise floor and threshold.
    Improved,
    /// Worse, by more than interval, noise floor and threshold.
    Regressed,
    /// Any difference is smaller than one that would count.
    Unchanged,
    /// The runs cannot decide.
    Indistinct,
    /// Different things, or different environments.
    Incomparable,
}

impl Judgement {
    /// Combines verdicts: the worst of them decides, and one improvement makes an improvement only where nothing became
    /// worse.
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        let all: Vec<_> = all.into_iter().collect();
        let order = [Self::Incomparable, Self::Regressed, Self::Improved, Self::Indistinct];
        order.into_iter().find(|one| all.contains(one)).unwrap_or(if all.is_empty() {
            Self::Indistinct
        } else {
            Self::Unchanged
        })
    }

    /// Returns the process's exit code: only a regression is red, and an incomparable result is neither red nor green.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Improved | Self::Unchanged | Self::Indistinct => exit_code::PASS,
            Self::Regressed => exit_code::REGRESSED,
            Self::Incomparable => exit_code::INVALID,
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
            Self::Incomparable => "incomparable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Judgement::{Improved, Incomparable, Indistinct, Regressed, Unchanged};
    use super::*;

    #[test]
    fn the_worst_verdict_decides() {
        let of_all = |all: &[Judgement]| Judgement::of_all(all.iter().copied());
        assert_eq!(of_all(&[Unchanged, Regressed, Improved]), Regressed);
        assert_eq!(of_all(&[Regressed, Incomparable]), Incomparable);
        assert_eq!(of_all(&[Unchanged, Improved, Indistinct]), Improved);
        assert_eq!(of_all(&[Unchanged, Indistinct]), Indistinct);
        assert_eq!(of_all(&[Unchanged, Unchanged]), Unchanged);
        assert_eq!(of_all(&[]), Indistinct);
        let codes = [Improved, Unchanged, Indistinct, Regressed, Incomparable].map(Judgement::exit_code);
        assert_eq!(codes, [0, 0, 0, 4, 5]);
    }
}
