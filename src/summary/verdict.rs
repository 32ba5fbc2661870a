//! The verdict of a run, and its exit code.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::exit_code;
use crate::measure::breach::Breach;
use crate::measure::threshold::Checked;
use crate::measure::validity::Invalid;

/// The verdict of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Valid, and every threshold kept.
    Pass,
    /// A threshold is breached: the run is valid, or the breach is clear whatever is wrong with the run.
    Breached,
    /// The run proves nothing, whatever its latencies, and no breach is clear.
    Invalid,
    /// A smoke run: it shows that everything works and judges nothing.
    Smoke,
}

impl Verdict {
    /// Judges a run. The system's certain breaches come first: one that cannot be chance stands whatever else is wrong,
    /// unless the run measured something other than it states. Where the generator or other processes may have slowed
    /// everything, only breaches that do not depend on speed are certain; where arrivals started late on our side, only
    /// those that do not depend on their starts. All else counts only if the run is valid.
    pub fn of(breaches: &[Breach], invalid: &[Invalid], checked: &[Checked]) -> Self {
        let void = invalid.iter().any(Invalid::voids_breaches);
        let slowed = invalid.iter().any(Invalid::slows_all);
        let belated = invalid.iter().any(Invalid::delays_arrivals);
        let is_doubtful =
            |breach: &Breach| slowed && breach.depends_on_speed() || belated && breach.depends_on_starts();
        let certain = breaches.iter().any(|breach| !is_doubtful(breach))
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

    /// Returns the process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass | Self::Smoke => exit_code::PASS,
            Self::Breached => exit_code::BREACHED,
            Self::Invalid => exit_code::INVALID,
        }
    }
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Breached, Self::Invalid, Self::Smoke];

    /// Returns its word in `summary.json`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Breached => "breached",
            Self::Invalid => "invalid",
            Self::Smoke => "smoke",
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
    use crate::measure::validity::Away;

    fn checked(measured: Option<f64>, certain: bool) -> Checked {
        let (threshold, by_maximum) = (Threshold::Errors(0.01), false);
        Checked { workload: None, threshold, measured, by_maximum, had: 500, beyond: 0, certain }
    }

    #[test]
    fn the_order_of_verdicts_is_as_documented() {
        let (kept, breached, clear) = (checked(Some(0.0), false), checked(Some(0.02), false), checked(Some(1.0), true));
        let rule = || Breach::Rule { what: "nonces", count: 1, of: 2 };
        let (late, void) = ([Invalid::Partial], [Invalid::Handshakes { undeclared: 1, of: 2 }]);
        let saturated = [Invalid::Saturated { busy_share: 1.0, threads: 1 }];
        let slowed = [Invalid::Throttled(Stopped { times: 22, stopped_s: 1.6, of_s: 30.0 })];
        let unsent = [Invalid::Unsent { unsent: 9, for_connection: 9, scheduled: 90, away: Away::default() }];
        let overrun = || Breach::Overrun { in_flight: 11, most: 10 };
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
            (&[overrun()], &late, kept, Verdict::Breached),
            (&[overrun()], &slowed, kept, Verdict::Invalid),
            (&[overrun()], &unsent, kept, Verdict::Invalid),
            (&[rule()], &unsent, kept, Verdict::Breached),
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
