//! The summary's text is part of the front door: golden tests.

mod common;

use certctl_bench::measure::{Measurement, Outcome};
use certctl_bench::report::text;
use certctl_bench::wire::FaultKind;

use common::made_up::{measurement, summary};

/// The text of a run of `measurement` that found `found` of 2,000 rows.
fn told(measurement: Measurement, found: u64) -> String {
    let summary = summary(measurement, found);
    // Cells are padded to the width of their column; the eye does not see it.
    let text = text::heading(&summary.about) + &text::results(&summary);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn a_run_that_passes() {
    insta::assert_snapshot!(told(measurement(|_| Outcome::Ok), 2_000));
}

#[test]
fn a_run_with_errors_breaches() {
    let outcome = |index: u64| match index {
        0..10 => Outcome::Failed(500),
        10..13 => Outcome::Broken(FaultKind::Closed),
        _ => Outcome::Ok,
    };
    insta::assert_snapshot!(told(measurement(outcome), 2_000));
}

#[test]
fn a_run_whose_work_is_missing_is_invalid() {
    insta::assert_snapshot!(told(measurement(|_| Outcome::Ok), 1_999));
}
