//! The outcome of an arrival.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::FaultKind;

/// The outcome of one arrival. A failure of the network or of the peer is data, not an error of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The right answer.
    Ok,
    /// 429, or its counterpart in a protocol within HTTP, such as OCSP's: a rate limiter refused.
    Refused,
    /// A status other than the one that the scenario wants, even if it means success.
    Failed(u16),
    /// The wanted status with a wrong answer: HTML where JSON was due, or the work not done.
    Wrong,
    /// No complete answer.
    Broken(FaultKind),
    /// No complete answer within the request's timeout.
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Refused => f.write_str("refused (429)"),
            Self::Failed(status) => write!(f, "failed ({status})"),
            Self::Wrong => f.write_str("wrong answer"),
            Self::Broken(kind) => write!(f, "broken ({})", kind.label()),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let within = |start: &str| text.strip_prefix(start)?.strip_suffix(')');
        let plain = [Self::Ok, Self::Refused, Self::Wrong, Self::TimedOut];
        let failed = || within("failed (")?.parse().ok().map(Self::Failed);
        let broken = || within("broken (").and_then(FaultKind::of_label).map(Self::Broken);
        let found = plain.into_iter().find(|one| one.to_string() == text).or_else(failed).or_else(broken);
        found.ok_or_else(|| format!("{text:?} is not an outcome"))
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Outcome {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Outcome".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pattern = r"^(ok|refused \(429\)|failed \(\d+\)|wrong answer|broken \(.+\)|timed out)$";
        schemars::json_schema!({ "type": "string", "pattern": pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_read_as_it_is_written() {
        let kinds = FaultKind::ALL.map(Outcome::Broken);
        let plain = [Outcome::Ok, Outcome::Refused, Outcome::Failed(502), Outcome::Wrong, Outcome::TimedOut];
        for outcome in plain.into_iter().chain(kinds) {
            assert_eq!(outcome.to_string().parse(), Ok(outcome));
        }
        assert!("failed (x)".parse::<Outcome>().is_err() && "broken (odd)".parse::<Outcome>().is_err());
    }
}
