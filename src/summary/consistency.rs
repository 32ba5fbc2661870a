//! Consistency of summaries that may come from elsewhere: one that contradicts itself proves nothing.

use std::collections::HashSet;

use serde::Deserialize as _;
use serde_json::Value;

use super::facts::{DistributionFacts, ThresholdFacts};
use super::verdict::Verdict;
use super::{Summary, WorkloadResults, WorkloadSummary};
use crate::evidence::{Evidence, Statements};
use crate::measure::{Distribution, Outcome};

/// The exit code of a run whose results could not be written to their folder.
const ELSEWHERE: u8 = 1;
/// The largest plausible figure of a run: nanoseconds of eleven days, bytes of a petabyte.
pub const LARGEST: f64 = 1e15;
/// Histograms keep values to within a thousandth, and means are rounded to a hundredth of a microsecond.
const RESOLUTION: f64 = 1e-3;
const ROUNDED_US: f64 = 0.02;
/// Shares are written to their last digit.
const SHARE_DIGITS: f64 = 1e-9;
/// Times are whole nanoseconds, and sums of a few hundred are right to well within a microsecond.
const SAME_TIME_S: f64 = 1e-6;
/// Fields that are not measured: a user or a server may set them to any value.
const GIVEN: [&str; 2] = ["rng_seed", "settings"];

/// Checks all figures and distributions of a summary before it is deserialised.
///
/// # Errors
/// If a figure or a distribution cannot be right; the message names the field and the fault.
pub fn figures(value: &Value) -> Result<(), String> {
    walk(value, &mut String::new())
}

fn walk(value: &Value, path: &mut String) -> Result<(), String> {
    let length = path.len();
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() > LARGEST) => {
            return Err(format!("{path}: no figure of a run is as large as {:e}", number.as_f64().unwrap_or_default()));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item, path)?;
                path.truncate(length);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| !GIVEN.contains(&name.as_str())) {
                path.push_str(if length == 0 { "" } else { "." });
                path.push_str(name);
                walk(field, path)?;
                path.truncate(length);
            }
            if fields.contains_key("hdr_ns")
                && let Ok(facts) = DistributionFacts::deserialize(value)
            {
                distribution(&facts).map_err(|why| format!("{path}.{why}"))?;
            } else if let Some(Value::String(hdr)) = fields.get("hdr_us") {
                Distribution::from_base64(hdr).map_err(|error| format!("{path}.hdr_us: {}", error.what()))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Checks that quantiles rise, and that all figures are those of the histogram.
fn distribution(facts: &DistributionFacts) -> Result<(), String> {
    let mut last = ("0", 0.0);
    for (name, us) in figures_of(facts) {
        let Some(us) = us else { continue };
        if facts.count == 0 {
            return Err(format!("{name}: it is {us}, without a sample"));
        }
        if us < last.1 {
            return Err(format!("{name}: it is {us}, less than {} of {}", last.0, last.1));
        }
        last = (name, us);
    }
    let Some(hdr) = &facts.hdr_ns else { return Ok(()) };
    let samples = Distribution::from_base64(hdr).map_err(|error| format!("hdr_ns: {}", error.what()))?;
    let held = DistributionFacts::of(&samples);
    if held.count != facts.count {
        return Err(format!("hdr_ns: it holds {} samples, not the {} of count", held.count, facts.count));
    }
    // The mean is checked apart: it has no place in the order of the quantiles.
    let means = [("mean_us", facts.mean_us, held.mean_us)];
    let pairs =
        figures_of(facts).into_iter().zip(figures_of(&held)).map(|((name, stated), (_, held))| (name, stated, held));
    for (name, stated, held) in pairs.chain(means) {
        if let (Some(stated), Some(held)) = (stated, held)
            && (stated - held).abs() > held * RESOLUTION + ROUNDED_US
        {
            return Err(format!("{name}: it is {stated}, but hdr_ns holds {held}"));
        }
    }
    Ok(())
}

/// Returns minimum, quantiles and maximum, in rising order.
fn figures_of(facts: &DistributionFacts) -> [(&'static str, Option<f64>); 7] {
    [
        ("min_us", facts.min_us),
        ("p50_us", facts.p50_us),
        ("p90_us", facts.p90_us),
        ("p95_us", facts.p95_us),
        ("p99_us", facts.p99_us),
        ("p99_9_us", facts.p99_9_us),
        ("max_us", facts.max_us),
    ]
}

/// Checks that the fields of a summary agree with one another.
///
/// # Errors
/// If two fields disagree; the message names the field and the fault.
pub fn fields(summary: &Summary) -> Result<(), String> {
    if summary.run_id.as_deref() == Some("") {
        return Err("run_id: it is empty".to_owned());
    }
    if humantime::parse_rfc3339(&summary.finished_at).is_err() {
        return Err(format!("finished_at: {:?} is not a time", summary.finished_at));
    }
    let mut names = HashSet::new();
    for (index, one) in summary.workloads.iter().enumerate() {
        if !names.insert(&one.plan.name) {
            return Err(format!("workloads[{index}].plan.name: {} stands there twice", one.plan.name));
        }
        if let Some(one) = &one.results {
            results(one).map_err(|why| format!("workloads[{index}].results.{why}"))?;
        }
        segments(one).map_err(|why| format!("workloads[{index}].results.segments{why}"))?;
    }
    let scheduled = sum(summary.measured().map(|(_, results)| results.arrivals.scheduled));
    share(summary.error_share, sum(summary.measured().map(|(_, results)| right(results))), scheduled)?;
    let groups = summary.evidence.len();
    for (index, one) in summary.evidence.iter().enumerate() {
        // Workloads that run one after another have evidence each.
        let all = &summary.workloads[..];
        let workloads = if groups > 1 { all.get(index..=index).unwrap_or_default() } else { all };
        evidence(one, workloads).map_err(|why| format!("evidence[{index}].{why}"))?;
    }
    for (index, threshold) in summary.thresholds.iter().enumerate() {
        self::threshold(threshold).map_err(|why| format!("thresholds[{index}].{why}"))?;
    }
    verdict(summary)
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Counts the arrivals that got the right answer.
fn right(results: &WorkloadResults) -> u64 {
    sum(results.outcomes.iter().filter(|one| one.outcome == Outcome::Ok).map(|one| one.count))
}

fn results(results: &WorkloadResults) -> Result<(), String> {
    let (arrivals, latency) = (&results.arrivals, &results.latency);
    // Unsent arrivals were scheduled too, even in a run that ended early.
    if arrivals.started.saturating_add(arrivals.unsent) != arrivals.scheduled {
        let (scheduled, started, unsent) = (arrivals.scheduled, arrivals.started, arrivals.unsent);
        return Err(format!("arrivals: of {scheduled} scheduled, {started} were started and {unsent} unsent"));
    }
    let outcomes = sum(results.outcomes.iter().map(|one| one.count));
    if outcomes != arrivals.started {
        return Err(format!("outcomes: they are {outcomes}, of {} arrivals started", arrivals.started));
    }
    share(results.error_share, right(results), arrivals.scheduled)?;
    let of = [
        ("response", &latency.response, right(results)),
        ("service", &latency.service, right(results)),
        ("failed_response", &latency.failed_response, outcomes - right(results)),
        // Older summaries have none.
        ("own_part", &latency.own_part, if latency.own_part.count == 0 { 0 } else { right(results) }),
    ];
    if latency.certain.count > right(results) {
        let (certain, right) = (latency.certain.count, right(results));
        return Err(format!("latency.certain.count: it is {certain}, of {right} right answers"));
    }
    match of.into_iter().find(|(_, facts, count)| facts.count != *count) {
        Some((name, facts, count)) => {
            Err(format!("latency.{name}.count: it is {}, but {count} outcomes are of that class", facts.count))
        }
        None => Ok(()),
    }
}

/// Checks that the segments of a rate profile cover the window, and add up to the whole.
fn segments(workload: &WorkloadSummary) -> Result<(), String> {
    let (plan, Some(results)) = (&workload.plan, &workload.results) else { return Ok(()) };
    let segments = &results.segments;
    if segments.is_empty() != plan.rate_profile.is_none() {
        let profile = plan.rate_profile.as_deref().unwrap_or("none");
        return Err(format!(": there are {}, and the rate profile is {profile}", segments.len()));
    }
    let mut end_s = 0.0;
    for (index, one) in segments.iter().enumerate() {
        let right = one.response.count;
        if !same_time(one.begin_s, end_s) || one.end_s < one.begin_s {
            return Err(format!("[{index}]: from {} to {} s, after one up to {end_s} s", one.begin_s, one.end_s));
        }
        if one.started > one.scheduled || right > one.started || one.errors != one.scheduled - right {
            let (scheduled, started, errors) = (one.scheduled, one.started, one.errors);
            return Err(format!(
                "[{index}]: of {scheduled} scheduled, {started} were started, {right} answered right and {errors} not"
            ));
        }
        let achieved_per_s = (one.measured_s > 0.0).then(|| right as f64 / one.measured_s);
        let agree = match (one.achieved_per_s, achieved_per_s) {
            (Some(stated), Some(held)) => (stated - held).abs() <= held * SHARE_DIGITS,
            (stated, held) => stated == held,
        };
        if !agree {
            return Err(format!("[{index}].achieved_per_s: it is not {right} in {} s", one.measured_s));
        }
        end_s = one.end_s;
    }
    let Some(last) = segments.last() else { return Ok(()) };
    if !same_time(last.end_s, plan.window_s) {
        return Err(format!(": they end at {} s, the window at {} s", last.end_s, plan.window_s));
    }
    let measured_s = segments.iter().map(|one| one.measured_s).sum();
    if !same_time(measured_s, results.arrivals.measured_s) {
        return Err(format!(": they have {measured_s} s, of {} s measured", results.arrivals.measured_s));
    }
    for (name, parts, whole) in [
        ("scheduled", sum(segments.iter().map(|one| one.scheduled)), results.arrivals.scheduled),
        ("started", sum(segments.iter().map(|one| one.started)), results.arrivals.started),
        ("response.count", sum(segments.iter().map(|one| one.response.count)), results.latency.response.count),
    ] {
        if parts != whole {
            return Err(format!(".{name}: together it is {parts}, of {whole}"));
        }
    }
    Ok(())
}

/// Reports whether two times, in seconds, are the same but for their last digits.
fn same_time(one: f64, other: f64) -> bool {
    (one - other).abs() <= SAME_TIME_S
}

fn evidence(evidence: &Evidence, workloads: &[WorkloadSummary]) -> Result<(), String> {
    let arrivals = workloads.iter().map(|one| one.results.as_ref().map(|results| &results.arrivals));
    let sent: Option<Vec<u64>> =
        arrivals.map(|one| one.map(|one| sum([one.warm_up, one.started, one.later].into_iter()))).collect();
    if let Some(sent) = sent.map(|sent| sum(sent.into_iter()))
        && sent != evidence.arrivals
    {
        return Err(format!("arrivals: they are {}, but {sent} were sent", evidence.arrivals));
    }
    let statements = evidence.statements.as_ref().and_then(|known| known.yes());
    statements.map_or(Ok(()), |one| self::statements(one, evidence.arrivals).map_err(|why| format!("statements.{why}")))
}

fn statements(statements: &Statements, arrivals: u64) -> Result<(), String> {
    let total = &statements.total;
    let listed = statements.most_called.iter().map(|one| &one.cost);
    for (name, total, listed) in [
        ("calls", total.calls, sum(listed.clone().map(|cost| cost.calls))),
        ("rows", total.rows, sum(listed.clone().map(|cost| cost.rows))),
        ("wal_records", total.wal_records, sum(listed.clone().map(|cost| cost.wal_records))),
        ("wal_bytes", total.wal_bytes, sum(listed.map(|cost| cost.wal_bytes))),
    ] {
        if listed > total {
            return Err(format!("total.{name}: it is {total}, but those of most_called are {listed}"));
        }
    }
    let Some(each) = &statements.per_arrival else { return Ok(()) };
    for (name, each, total) in [
        ("calls", each.calls, total.calls),
        ("rows", each.rows, total.rows),
        ("wal_bytes", each.wal_bytes, total.wal_bytes),
    ] {
        let held = total as f64 / arrivals.max(1) as f64;
        if (each - held).abs() > held * SHARE_DIGITS {
            return Err(format!("per_arrival.{name}: it is {each}, but total and arrivals give {held}"));
        }
    }
    Ok(())
}

fn share(stated: Option<f64>, right: u64, scheduled: u64) -> Result<(), String> {
    let held = (scheduled > 0).then(|| scheduled.saturating_sub(right) as f64 / scheduled as f64);
    let agree = match (stated, held) {
        (Some(stated), Some(held)) => (stated - held).abs() <= SHARE_DIGITS,
        (None, None) => true,
        _ => false,
    };
    let shown = |share: Option<f64>| share.map_or("null".to_owned(), |share| share.to_string());
    if agree { Ok(()) } else { Err(format!("error_share: it is {}, but outcomes give {}", shown(stated), shown(held))) }
}

fn threshold(threshold: &ThresholdFacts) -> Result<(), String> {
    if threshold.limit < 0.0 {
        return Err(format!("limit: it is {}", threshold.limit));
    }
    match (threshold.passed, threshold.measured) {
        (Some(_), None) if !threshold.certain => Err("passed: nothing was measured".to_owned()),
        (Some(true), Some(measured)) if measured > threshold.limit => {
            Err(format!("passed: {measured} is not below {}", threshold.limit))
        }
        (Some(false), Some(measured)) if !threshold.certain && measured < threshold.limit => {
            Err(format!("passed: {measured} is below {}", threshold.limit))
        }
        _ => Ok(()),
    }
}

fn verdict(summary: &Summary) -> Result<(), String> {
    let breached = summary.thresholds.iter().any(|threshold| threshold.passed == Some(false));
    match summary.verdict {
        verdict if ![verdict.exit_code(), ELSEWHERE].contains(&summary.exit_code) => Err(format!(
            "exit_code: it is {}, but that of the verdict {verdict} is {}",
            summary.exit_code,
            verdict.exit_code()
        )),
        Verdict::Pass if !summary.invalid.is_empty() => Err("verdict: it is pass, but invalid has reasons".to_owned()),
        Verdict::Pass if breached || !summary.breaches.is_empty() => {
            Err("verdict: it is pass, but a threshold was breached".to_owned())
        }
        Verdict::Pass | Verdict::Breached | Verdict::Smoke if summary.repeatable => {
            Err("repeatable: the run is not invalid".to_owned())
        }
        Verdict::Invalid if summary.invalid.is_empty() => Err("invalid: the verdict has no reason".to_owned()),
        _ => Ok(()),
    }
}
