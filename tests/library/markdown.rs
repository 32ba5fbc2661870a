//! A report as Markdown, as a pull request shows it: golden tests.

use certctl_bench::measure::Outcome;
use certctl_bench::report::markdown;
use certctl_bench::wire::FaultKind;

use crate::common::made_up::{group, measurement, stalled, summary};

#[test]
fn a_passing_run_is_reported() {
    let summary = summary(measurement(|_| Outcome::Ok), 2_000);
    insta::assert_snapshot!(markdown::report(&[group([("", summary)])]));
}

#[test]
fn base_and_a_breached_head_are_reported() {
    let broken = |index: u64| if index < 10 { Outcome::Broken(FaultKind::Closed) } else { Outcome::Ok };
    let base = summary(measurement(|_| Outcome::Ok), 2_000);
    let mut head = summary(measurement(broken), 2_000);
    head.about.machine.cores = 4;
    let text = markdown::report(&[group([("base", base), ("head", head)])]);
    insta::assert_snapshot!(text.split("<details>").next().unwrap());
}

#[test]
fn an_invalid_run_states_its_reason_first() {
    let summary = summary(measurement(|_| Outcome::Ok), 1_999);
    let text = markdown::report(&[group([("", summary)])]);
    insta::assert_snapshot!(text.split("<details>").next().unwrap());
}

#[test]
fn foreign_text_neither_formats_nor_mentions() {
    let mut summary = summary(stalled(1), 2_000);
    let hostile = "<img src=x onerror=y>|`**@someone [a](b)\n| x |";
    summary.about.system.version = hostile.to_owned();
    summary.about.machine.cpu_model = hostile.to_owned();
    summary.workloads[0].results.as_mut().unwrap().outcomes[0].example = Some(hostile.to_owned());
    summary.invalid.push(hostile.to_owned());
    let text = markdown::report(&[group([("", summary)])]);
    assert!(!text.contains("<img") && !text.contains("@someone") && !text.contains("[a](b)"), "{text}");
    // A cell stays a cell: each row has as many as the header and the rule of its table.
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let lines: Vec<&str> = text.lines().collect();
    for table in lines.split(|line| !line.starts_with('|')).filter(|table| !table.is_empty()) {
        assert!(table.iter().all(|line| bars(line) == bars(table[1])), "{table:#?}");
    }
}
