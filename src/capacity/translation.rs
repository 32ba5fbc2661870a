//! Rates in terms of people who run a fleet: agents, and certificates.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The interval between two heartbeats of certctl's agents, in seconds.
const HEARTBEAT_S: f64 = 60.0;
/// The interval between two of their polls for work, in seconds.
const POLL_S: f64 = 30.0;
/// The lifetime of a public certificate from March 2029 on, in days (CA/Browser Forum, ballot SC-081v3).
const LIFETIME_DAYS: f64 = 47.0;
/// The part of its lifetime after which a certificate is renewed.
const RENEWED_AFTER: f64 = 2.0 / 3.0;
/// Seconds in a day.
const DAY_S: f64 = 86_400.0;

/// The event that an arrival of a scenario stands for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ArrivalUnit {
    /// Its name, in the plural.
    pub plural: Cow<'static, str>,
    /// Its meaning to people who run a fleet.
    pub meaning: ArrivalMeaning,
}

/// The meaning of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ArrivalMeaning {
    /// An agent's heartbeat.
    Heartbeat,
    /// Certificates whose renewal is asked for.
    Renewal {
        /// The number of certificates for each arrival.
        certificates: u64,
    },
    /// A certificate that is renewed, signed and deployed.
    Deployment,
    /// A certificate that is requested.
    Issuance,
    /// A certificate that an ACME client orders and gets.
    Enrolment,
    /// Nothing that a number of agents or certificates follows from.
    Other,
}

/// A rate in other terms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Translation {
    /// The number.
    pub count: u64,
    /// The things that are counted, with their habits.
    pub of: String,
    /// The calculation.
    pub formula: String,
    /// The assumption under which it holds.
    pub provided: String,
}

impl ArrivalUnit {
    /// Makes a unit.
    pub const fn new(plural: &'static str, meaning: ArrivalMeaning) -> Self {
        Self { plural: Cow::Borrowed(plural), meaning }
    }
}

/// Returns a rate of such arrivals in other terms; nothing where there is no honest translation.
pub fn translate(unit: &ArrivalUnit, per_s: f64) -> Vec<Translation> {
    match unit.meaning {
        ArrivalMeaning::Heartbeat => vec![
            Translation {
                count: (per_s * HEARTBEAT_S) as u64,
                of: "agents that heartbeat every 60 s".to_owned(),
                formula: format!("{per_s}/s × 60 s"),
                provided: "their polls for work come on top: the load had none".to_owned(),
            },
            Translation {
                count: (per_s / (1.0 / HEARTBEAT_S + 1.0 / POLL_S)) as u64,
                of: "agents that heartbeat every 60 s and poll every 30 s".to_owned(),
                formula: format!("{per_s}/s ÷ (1/60 s + 1/30 s)"),
                provided: "if a poll costs the system what a heartbeat does, which was not measured".to_owned(),
            },
        ],
        ArrivalMeaning::Renewal { certificates } => {
            vec![certificates_of(per_s, certificates, "renewals spread evenly; asked for, not signed or deployed")]
        }
        ArrivalMeaning::Deployment => {
            vec![certificates_of(per_s, 1, "renewals spread evenly, each signed and deployed as in the load")]
        }
        ArrivalMeaning::Enrolment => {
            vec![certificates_of(per_s, 1, "renewals spread evenly, each one such order up to its certificate")]
        }
        ArrivalMeaning::Issuance => {
            vec![certificates_of(per_s, 1, "renewals spread evenly, each one such request; requested, not signed")]
        }
        ArrivalMeaning::Other => Vec::new(),
    }
}

fn certificates_of(per_s: f64, each: u64, provided: &str) -> Translation {
    let between_days = LIFETIME_DAYS * RENEWED_AFTER;
    let times = if each == 1 { String::new() } else { format!(" × {each}") };
    Translation {
        count: (per_s * each as f64 * between_days * DAY_S) as u64,
        of: format!("certificates of {LIFETIME_DAYS} days, renewed after two thirds ({between_days:.1} days)"),
        formula: format!("{per_s}/s{times} × {between_days:.1} d × 86,400 s/d"),
        provided: provided.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(meaning: ArrivalMeaning, per_s: f64) -> Vec<u64> {
        translate(&ArrivalUnit::new("arrivals", meaning), per_s).into_iter().map(|one| one.count).collect()
    }

    #[test]
    fn rates_are_translated_by_hand_computed_values() {
        assert_eq!(counts(ArrivalMeaning::Heartbeat, 167.0), [10_020, 3_340]);
        // 31 1/3 days have 2,707,200 seconds.
        assert_eq!(counts(ArrivalMeaning::Renewal { certificates: 6 }, 5.0), [81_216_000]);
        for meaning in [ArrivalMeaning::Issuance, ArrivalMeaning::Deployment, ArrivalMeaning::Enrolment] {
            assert_eq!(counts(meaning, 0.5), [1_353_600]);
        }
        assert_eq!(counts(ArrivalMeaning::Other, 167.0), [0; 0]);
    }
}
