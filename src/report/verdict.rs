//! What a run comes to, and the exit code that says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::breach::Breach;
use crate::measure::threshold::Checked;
use crate::measure::validity::Invalid;

/// What a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Valid, and every threshold kept.
    Pass,
    /// A threshold breached: the run is valid, or the breach is clear whatever is wrong with the run.
    Breached,
    /// Worth nothing, whatever the latencies, and no breach is clear.
    Invalid,
    /// A smoke run: it shows that everything works and judges nothing.
    Smoke,
}

impl Verdict {
    /// Judges a run. What the system did for certain comes first: a breach that cannot be chance stands whatever else is
    /// wrong, unless the run measured another thing than it says. Where the generator or others may have slowed all of it,
    /// only answers that are wrong whatever they took are certain. What is left can be trusted only if the run is valid.
    pub fn of(breaches: &[Breach], invalid: &[Invalid], checked: &[Checked]) -> Self {
        let void = invalid.iter().any(Invalid::voids_breaches);
        let slowed = invalid.iter().any(Invalid::slows_all);
        let certain = breaches.iter().any(|breach| !(slowed && breach.depends_on_speed()))
            || !slowed && checked.iter().any(|checked| checked.certain);
        if certain && !void {
            Self::Breached
        } else if !invalid.is_empty() {
            Self::Invalid
        } else if checked.iter().any(|checked| checked.passed() == Some(false)) {
            Self::Breached
        } else {
            Self::Pass
        }
    }

    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass | Self::Smoke => 0,
            Self::Breached => 3,
            Self::Invalid => 5,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Breached => "threshold breached",
            Self::Invalid => "invalid",
            Self::Smoke => "smoke run, not judged",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::machine_use::Stopped;
    use crate::measure::threshold::Threshold;

    fn checked(measured: Option<f64>, certain: bool) -> Checked {
        let (threshold, by_maximum) = (Threshold::Errors(0.01), false);
        Checked { workload: None, threshold, measured, by_maximum, had: 500, beyond: 0, certain }
    }

    #[test]
    fn the_order_of_verdicts_is_as_documented() {
        let (kept, breached, clear) = (checked(Some(0.0), false), checked(Some(0.02), false), checked(Some(1.0), true));
        let rule = || Breach::Rule { what: "nonces", count: 1, of: 2 };
        let (late, void) = ([Invalid::Partial], [Invalid::Handshakes { undeclared: 1, of: 2 }]);
        let saturated = [Invalid::Saturated { busy_share: 1.0 }];
        let slowed = [Invalid::Throttled(Stopped { times: 22, stopped_s: 1.6, of_s: 30.0 })];
        let drowned = Breach::Drowned { share: 1.0, within: std::time::Duration::from_secs(10) };
        for (breaches, invalid, checked, verdict) in [
            (&[][..], &[][..], kept, Verdict::Pass),
            (&[], &[], breached, Verdict::Breached),
            (&[], &late[..], kept, Verdict::Invalid),
            (&[], &late, breached, Verdict::Invalid),
            (&[], &late, clear, Verdict::Breached),
            (&[], &void, clear, Verdict::Invalid),
            (&[], &slowed, clear, Verdict::Invalid),
            (&[drowned], &slowed, clear, Verdict::Invalid),
            (&[rule()], &slowed, kept, Verdict::Breached),
            (&[], &saturated, clear, Verdict::Invalid),
            (&[rule()], &saturated, kept, Verdict::Breached),
            (&[rule()], &[], kept, Verdict::Breached),
            (&[rule()], &late, kept, Verdict::Breached),
            (&[rule()], &void, kept, Verdict::Invalid),
        ] {
            assert_eq!(Verdict::of(breaches, invalid, &[checked]), verdict, "{breaches:?} {invalid:?} {checked:?}");
        }
    }
}
