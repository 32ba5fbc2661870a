//! A run's verdict as a JUnit report: a test case for each threshold, each broken rule, and each reason for which the
//! run is invalid.

use std::fmt::Write as _;

use crate::report::escape::html as xml;
use crate::report::tables;
use crate::summary::facts::ThresholdFacts;
use crate::summary::{Summary, Verdict};

/// The name of the test case that an invalid run does not pass.
const VALID: &str = "valid run";

/// The result of a test case, with its message.
enum CaseResult {
    Passed,
    Failed(String),
    Skipped(String),
    Error(String),
}

/// Renders the report. Only what the run proves has passed: of an invalid run, no threshold has.
pub fn render(summary: &Summary) -> String {
    let mut cases = vec![];
    for threshold in &summary.thresholds {
        cases.push((threshold.title(), of_threshold(summary, threshold)));
    }
    for breach in &summary.breaches {
        cases.push((breach.clone(), CaseResult::Failed(breach.clone())));
    }
    if summary.invalid.is_empty() {
        cases.push((VALID.to_owned(), CaseResult::Passed));
    }
    for (index, reason) in summary.invalid.iter().enumerate() {
        let name = if index == 0 { VALID.to_owned() } else { format!("{VALID} ({})", index + 1) };
        cases.push((name, CaseResult::Error(reason.clone())));
    }
    let count = |is: fn(&CaseResult) -> bool| cases.iter().filter(|(_, result)| is(result)).count();
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\"",
        cases.len(),
        count(|result| matches!(result, CaseResult::Failed(_))),
        count(|result| matches!(result, CaseResult::Error(_))),
        summary.measured().map(|(_, results)| results.arrivals.measured_s).fold(0.0, f64::max)
    );
    // The schema of Jenkins has this one for a suite only.
    let skipped = count(|result| matches!(result, CaseResult::Skipped(_)));
    let scenario = xml(&summary.about.scenario);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"certctl-bench\" {counts}>\n  \
         <testsuite name=\"{scenario}\" {counts} skipped=\"{skipped}\">\n    <properties>\n"
    );
    for (name, value) in properties(summary) {
        let _ = writeln!(text, "      <property name=\"{name}\" value=\"{}\"/>", xml(&value));
    }
    text.push_str("    </properties>\n");
    for (name, result) in &cases {
        // A threshold takes no time: that of the load is the suite's.
        let _ = write!(text, "    <testcase classname=\"{scenario}\" name=\"{}\" time=\"0\"", xml(name));
        let (element, kind, message) = match result {
            CaseResult::Passed => {
                text.push_str("/>\n");
                continue;
            }
            CaseResult::Failed(message) => ("failure", " type=\"breached\"", message),
            CaseResult::Skipped(message) => ("skipped", "", message),
            CaseResult::Error(message) => ("error", " type=\"invalid\"", message),
        };
        let _ = writeln!(text, ">\n      <{element}{kind} message=\"{}\"/>\n    </testcase>", xml(message));
    }
    text + "  </testsuite>\n</testsuites>\n"
}

/// Returns facts that tell runs apart.
fn properties(summary: &Summary) -> Vec<(&'static str, String)> {
    let system = &summary.about.system;
    let mut properties = vec![
        ("verdict", summary.verdict.to_string()),
        ("exit_code", summary.exit_code.to_string()),
        ("finished_at", summary.finished_at.clone()),
        ("system", system.kind.label().to_owned()),
        ("system_version", system.version.clone()),
        ("suite_version", summary.suite_version.to_string()),
    ];
    properties.extend(summary.run_id.clone().map(|id| ("run_id", id)));
    properties.extend(summary.ended_early.clone().map(|reason| ("ended_early", reason)));
    properties.extend(summary.doubtful().map(|reason| ("doubtful", reason.to_owned())));
    properties
}

fn of_threshold(summary: &Summary, threshold: &ThresholdFacts) -> CaseResult {
    let stands = summary.invalid.is_empty() || threshold.certain && summary.verdict == Verdict::Breached;
    let (measured, limit) = (tables::measured(threshold), tables::limit(threshold));
    match threshold.passed {
        _ if summary.verdict == Verdict::Smoke => CaseResult::Skipped(summary.verdict.to_string()),
        None => CaseResult::Skipped(format!("too few samples: {}, limit {limit}", threshold.of)),
        _ if !stands => CaseResult::Skipped("the run is invalid".to_owned()),
        Some(true) => CaseResult::Passed,
        Some(false) => CaseResult::Failed(format!("{measured}, limit {limit}")),
    }
}
