//! The summary's text is part of the front door: golden tests.

use certctl_bench::measure::{Measurement, Outcome};
use certctl_bench::report::text;
use certctl_bench::summary::facts::HandshakeKindCount;
use certctl_bench::wire::FaultKind;

use crate::common::made_up::{measurement, summary};

/// Returns the text of a run of `measurement` that found `found` of 2,000 rows.
fn rendered(measurement: Measurement, found: u64) -> String {
    let summary = summary(measurement, found);
    // The padding of table cells is removed: a reader does not see it.
    let text = text::heading(&summary.about, summary.plans()) + &text::results(&summary);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn a_passing_run_is_reported() {
    insta::assert_snapshot!(rendered(measurement(|_| Outcome::Ok), 2_000));
}

#[test]
fn a_run_with_errors_is_breached() {
    let outcome = |index: u64| match index {
        0..10 => Outcome::Failed(500),
        10..13 => Outcome::Broken(FaultKind::Closed),
        _ => Outcome::Ok,
    };
    insta::assert_snapshot!(rendered(measurement(outcome), 2_000));
}

#[test]
fn a_run_with_missing_side_effects_is_invalid() {
    insta::assert_snapshot!(rendered(measurement(|_| Outcome::Ok), 1_999));
}

#[test]
fn retried_handshakes_are_named_beside_the_verdict() {
    let mut summary = summary(measurement(|_| Outcome::Ok), 2_000);
    let kind = |kind: &str, count| HandshakeKindCount {
        kind: kind.to_owned().into(),
        version: "TLS1.3".into(),
        suite: "TLS13_AES_256_GCM_SHA384".into(),
        group: "secp256r1".into(),
        key: "ecdsa-p256".into(),
        chain_length: 1,
        alpn: "http/1.1".into(),
        count,
    };
    summary.workloads[0].results.as_mut().unwrap().opening.kinds = vec![kind("full", 3)];
    assert!(!text::results(&summary).contains("retried"));
    summary.workloads[0].results.as_mut().unwrap().opening.kinds = vec![kind("full", 3), kind("hello-retry", 5)];
    let text = text::results(&summary);
    let (_, after) = text.split_once("verdict ").unwrap();
    assert!(after.contains("5 of 8 handshakes were retried"), "{text}");
}
