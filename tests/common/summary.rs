//! The contents of a summary.json.

use certctl_bench::summary::Summary;
use serde_json::Value;

/// Returns the results of the first workload.
pub fn results(summary: &Value) -> &Value {
    &summary["workloads"][0]["results"]
}

/// Returns the count of an outcome in the first workload.
pub fn outcome(summary: &Value, name: &str) -> u64 {
    outcome_of(results(summary), name)
}

/// Returns the count of an outcome in a workload, or in a step of one.
pub fn outcome_of(results: &Value, name: &str) -> u64 {
    let outcomes = results["outcomes"].as_array().unwrap();
    outcomes.iter().find(|entry| entry["outcome"] == name).map_or(0, |entry| entry["count"].as_u64().unwrap())
}

/// Returns the workloads that were run: the name and the results of each.
pub fn measured(summary: &Value) -> Vec<(&str, &Value)> {
    let workloads = summary["workloads"].as_array().unwrap().iter().filter(|one| one["results"] != Value::Null);
    workloads.map(|one| (one["plan"]["name"].as_str().unwrap(), &one["results"])).collect()
}

/// Returns the observation of a workload whose name begins so.
pub fn observed<'a>(results: &'a Value, name: &str) -> &'a Value {
    let observations = results["observations"].as_array().unwrap();
    let found = observations.iter().find(|one| one["name"].as_str().unwrap().starts_with(name));
    found.unwrap_or_else(|| panic!("nothing observed as {name:?}: {observations:?}"))
}

/// Returns the only threshold of a run that has this name.
#[track_caller]
pub fn threshold<'a>(summary: &'a Value, name: &str) -> &'a Value {
    only_threshold(summary, name, |one| one["name"] == name)
}

/// Returns the only threshold of one of a run's workloads that has this name.
#[track_caller]
pub fn threshold_of<'a>(summary: &'a Value, workload: &str, name: &str) -> &'a Value {
    only_threshold(summary, name, |one| one["workload"] == workload && one["name"] == name)
}

#[track_caller]
fn only_threshold<'a>(summary: &'a Value, name: &str, is_wanted: impl Fn(&Value) -> bool) -> &'a Value {
    let thresholds = summary["thresholds"].as_array().unwrap();
    let found: Vec<&Value> = thresholds.iter().filter(|one| is_wanted(one)).collect();
    assert_eq!(found.len(), 1, "{name:?} in {thresholds:?}");
    found[0]
}

/// Asserts that a workload's side effects were looked for, by SQL, and found: these many of each kind.
#[track_caller]
pub fn assert_work(results: &Value, kinds: &[(&str, u64)]) {
    assert_work_by("SQL", results, kinds);
}

/// Asserts that a workload's side effects were looked for there, and found: these many of each kind.
#[track_caller]
pub fn assert_work_by(source: &str, results: &Value, kinds: &[(&str, u64)]) {
    let work = results["work"].as_array().unwrap();
    let reported: Vec<_> =
        work.iter().map(|one| (one["name"].as_str().unwrap(), one["found"].as_u64().unwrap())).collect();
    assert_eq!(reported, kinds);
    for one in work {
        assert_eq!((&one["claimed"], &one["source"]), (&one["found"], &source.into()));
    }
}

/// Asserts that the database counted so many statements for so many arrivals, to the last one.
#[track_caller]
pub fn assert_calls(summary: &Value, calls: u64, arrivals: u64) {
    let evidence = &summary["evidence"][0];
    assert_eq!(evidence["problems"], Value::Array(Vec::new()));
    let statements = &evidence["statements"];
    assert_eq!(
        (&statements["total"]["calls"], &evidence["arrivals"]),
        (&calls.into(), &arrivals.into()),
        "{evidence:#}"
    );
    let each = calls as f64 / arrivals as f64;
    assert_eq!(statements["per_arrival"]["calls"].as_f64(), Some(each));
}

/// Asserts that a summary keeps to its schema: it holds what the types hold, from which the schema is generated, and
/// nothing else.
#[track_caller]
pub fn assert_schema(summary: &Value) {
    let typed: Summary = serde_json::from_value(summary.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&typed).unwrap(), summary);
}

/// Returns the reasons for which a run is invalid, a line each.
pub fn reasons(summary: &Value) -> String {
    let reasons: Vec<&str> = summary["invalid"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    reasons.join("\n")
}

/// Asserts that a run is invalid for no other reason than that it was too short for some quantiles.
#[track_caller]
pub fn assert_only_too_short(summary: &Value) {
    let reasons = reasons(summary);
    assert!(reasons.lines().all(|line| line.contains("right answers, this run has")), "{reasons}");
}
