//! What a run comes to, and the exit code that says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::measure::threshold::Checked;
use crate::measure::validity::Invalid;

/// What a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Valid, and every threshold kept.
    Pass,
    /// Valid, and a threshold breached.
    Breached,
    /// Worth nothing, whatever the latencies.
    Invalid,
    /// A smoke run: it shows that everything works and judges nothing.
    Smoke,
}

impl Verdict {
    /// Judges a run. Being invalid outranks a breach.
    pub fn of(invalid: &[Invalid], checked: &[Checked]) -> Self {
        if !invalid.is_empty() {
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
