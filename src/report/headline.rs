//! The verdict in plain words: the first lines of a report.

use super::tables;
use crate::summary::Summary;
use crate::summary::facts::ThresholdFacts;
use crate::summary::verdict::Verdict;
use crate::wire::handshake::HandshakeFlow;

/// Returns a run's verdict in a word.
pub fn word(summary: &Summary) -> &'static str {
    match summary.verdict {
        Verdict::Pass => "Pass",
        Verdict::Breached => "Threshold breached",
        Verdict::Invalid => "Invalid",
        Verdict::Smoke => "Smoke run",
    }
}

/// Returns the meaning of the verdict in a sentence.
pub fn meaning(summary: &Summary) -> String {
    match summary.verdict {
        Verdict::Pass => match summary.thresholds.len() {
            0 => "the run is valid; it has no thresholds.".to_owned(),
            1 => "the run is valid and kept its threshold.".to_owned(),
            count => format!("the run is valid and kept all {count} thresholds."),
        },
        Verdict::Breached => {
            let breached = summary.thresholds.iter().filter(|threshold| threshold.passed == Some(false));
            let clear = |threshold: &&ThresholdFacts| summary.invalid.is_empty() || threshold.certain;
            let breaches = breached.filter(clear).map(|threshold| {
                let (measured, limit) = (tables::measured(threshold), tables::limit(threshold));
                format!("{} {measured}, limit {limit}", threshold.title())
            });
            let breaches: Vec<_> = breaches.chain(summary.breaches.iter().cloned()).collect();
            format!("{}.", breaches.join("; "))
        }
        Verdict::Invalid => "the figures of this run mean nothing.".to_owned(),
        Verdict::Smoke => "every part works; nothing was judged.".to_owned(),
    }
}

/// Describes the handshakes that took another round trip; `None` if none did. An opening with them has other latencies
/// than one without (RFC 8446, section 4.1.4).
pub fn retries(summary: &Summary) -> Option<String> {
    let kinds =
        summary.measured().flat_map(|(_, results)| [&results.opening.kinds, &results.reopening.kinds]).flatten();
    let (mut retried, mut all) = (0, 0);
    for kind in kinds {
        all += kind.count;
        retried += if kind.kind == HandshakeFlow::HelloRetry.label() { kind.count } else { 0 };
    }
    (retried > 0).then(|| {
        format!(
            "{retried} of {all} handshakes were retried: the server selected another key exchange group \
             (HelloRetryRequest)"
        )
    })
}
