//! A run as the summary that `k6 run --summary-export` writes. Times are in milliseconds.
//!
//! A metric of k6 is not always what the suite measures; docs/FORMATS.md has the differences. What the suite does not
//! know is left out, such as the bytes of answers.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::measure::{Distribution, Outcome};
use crate::summary::facts::{DistributionFacts, OutcomeCount, ThresholdFacts, Unit};
use crate::summary::plan::{LoadModel, PlanFacts};
use crate::summary::{Summary, WorkloadResults};

/// The id of k6's root group: the MD5 of its path, which is empty.
const ROOT: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// The metrics by name, each with its figures.
#[derive(Default)]
struct Metrics(Map<String, Value>);

/// Renders a run.
///
/// # Errors
/// If a histogram is damaged, or a figure cannot be written as JSON.
pub fn render(summary: &Summary) -> Result<String> {
    let mut metrics = Metrics::default();
    for (plan, results) in summary.measured() {
        metrics.of_workload(&tag(summary, &plan.name), plan, results);
    }
    metrics.of_run(summary)?;
    for threshold in &summary.thresholds {
        metrics.threshold(summary, threshold);
    }
    let root = json!({ "name": "", "path": "", "id": ROOT, "groups": {}, "checks": {} });
    let whole = json!({ "metrics": metrics.0, "root_group": root });
    Ok(format!("{whole:#}\n"))
}

/// Returns the tag that certctl's scripts for k6 gave a workload: that of its daemon, or its name; the run's if there is
/// no other.
fn tag(summary: &Summary, workload: &str) -> String {
    match workload.strip_suffix("_handshake") {
        Some(daemon) => format!("target_type:{daemon}"),
        None if summary.workloads.len() == 1 => format!("scenario:{}", summary.about.scenario),
        None => format!("scenario:{workload}"),
    }
}

/// Names a metric's part of one workload.
fn tagged(metric: &str, tag: &str) -> String {
    format!("{metric}{{{tag}}}")
}

/// Names the metric of a workload's response time: an arrival that begins a journey is an iteration, every other one a
/// request.
fn duration(results: &WorkloadResults) -> &'static str {
    if results.began_journeys() { "iteration_duration" } else { "http_req_duration" }
}

/// Names the metric of a step's response time, as certctl's scripts for k6 did for ACME.
fn of_step(tag: &str, step: &str, results: &WorkloadResults) -> String {
    match (tag.starts_with("scenario:acme_"), step) {
        // Their one request for renewal information had the id of no certificate.
        (true, "renewal_info_unknown") => "acme_renewal_info_duration".to_owned(),
        (true, _) => format!("acme_{step}_duration"),
        (false, _) if results.began_journeys() => format!("group_duration{{{tag},group:::{step}}}"),
        (false, _) => format!("http_req_duration{{{tag},name:{step}}}"),
    }
}

/// Counts those that were sent, and those that got the right answer.
fn sent_and_right(outcomes: &[OutcomeCount]) -> (u64, u64) {
    let right = outcomes.iter().filter(|one| one.outcome == Outcome::Ok);
    (sum(outcomes.iter().map(|one| one.count)), sum(right.map(|one| one.count)))
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Returns the iterations of a workload: the rounds of users, which end with their last step, or arrivals.
fn iterations(plan: &PlanFacts, results: &WorkloadResults) -> u64 {
    match results.steps.last() {
        Some(last) if plan.model == LoadModel::Closed && !results.began_journeys() => sent_and_right(&last.outcomes).0,
        _ => results.arrivals.started,
    }
}

impl Metrics {
    fn of_workload(&mut self, tag: &str, plan: &PlanFacts, results: &WorkloadResults) {
        self.trend(tagged(duration(results), tag), &results.latency.response);
        for step in &results.steps {
            self.trend(of_step(tag, &step.name, results), &step.response);
        }
        let (seconds, (_, right)) = (Some(results.arrivals.measured_s), sent_and_right(&results.outcomes));
        if !results.began_journeys() {
            self.counter(tagged("http_reqs", tag), results.arrivals.started, seconds);
            self.failed(tagged("http_req_failed", tag), results.arrivals.scheduled, right);
        }
        self.counter(tagged("iterations", tag), iterations(plan, results), seconds);
    }

    /// Adds the metrics of all workloads together. Rates are left out where there are several: these may have run one
    /// after another.
    fn of_run(&mut self, summary: &Summary) -> Result<()> {
        let measured: Vec<_> = summary.measured().collect();
        let seconds = if let [(_, only)] = measured[..] { Some(only.arrivals.measured_s) } else { None };
        let requests = || measured.iter().map(|(_, results)| *results).filter(|results| !results.began_journeys());
        let journeys = measured.iter().filter(|(_, results)| results.began_journeys());
        self.trend("iteration_duration", &merged(journeys.map(|(_, results)| &results.latency.response))?);
        for (metric, of) in [
            ("http_req_duration", (|results| &results.latency.response) as fn(&WorkloadResults) -> &DistributionFacts),
            ("http_req_sending", |results| &results.latency.send),
            ("http_req_waiting", |results| &results.latency.first_byte),
            ("http_req_receiving", |results| &results.latency.receive),
        ] {
            self.trend(metric, &merged(requests().map(of))?);
        }
        let (mut sent, mut right) = (0_u64, 0_u64);
        for (_, results) in &measured {
            let counts = sent_and_right(&results.outcomes);
            (sent, right) = (sent.saturating_add(counts.0), right.saturating_add(counts.1));
        }
        if requests().count() == measured.len() && !measured.is_empty() {
            self.counter("http_reqs", sent, seconds);
        }
        self.counter("iterations", sum(measured.iter().map(|(plan, results)| iterations(plan, results))), seconds);
        self.failed("http_req_failed", sum(measured.iter().map(|(_, results)| results.arrivals.scheduled)), right);
        if measured.iter().any(|(plan, _)| plan.model == LoadModel::Open) {
            let unsent = sum(measured.iter().map(|(_, results)| results.arrivals.unsent));
            self.counter("dropped_iterations", unsent, seconds);
        }
        // Each arrival has one check: that its answer is right.
        if sent > 0 {
            let value = right as f64 / sent as f64;
            self.add("checks", json!({ "passes": right, "fails": sent.saturating_sub(right), "value": value }));
        }
        Ok(())
    }

    fn add(&mut self, name: impl Into<String>, figures: Value) {
        self.0.insert(name.into(), figures);
    }

    /// Adds a distribution; quantiles with fewer than ten samples beyond are left out, and so is one without samples.
    fn trend(&mut self, name: impl Into<String>, facts: &DistributionFacts) {
        let figures = [
            ("avg", facts.mean_us),
            ("min", facts.min_us),
            ("med", facts.p50_us),
            ("max", facts.max_us),
            ("p(90)", facts.p90_us),
            ("p(95)", facts.p95_us),
            ("p(99)", facts.p99_us),
        ];
        let known: Map<_, _> =
            figures.into_iter().filter_map(|(name, us)| Some((name.to_owned(), json!(ms(us?))))).collect();
        if !known.is_empty() {
            self.add(name, known.into());
        }
    }

    fn counter(&mut self, name: impl Into<String>, count: u64, seconds: Option<f64>) {
        let mut figures = Map::from_iter([("count".to_owned(), json!(count))]);
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
            figures.insert("rate".to_owned(), json!(count as f64 / seconds));
        }
        self.add(name, figures.into());
    }

    /// Adds a share of failures. To k6 the failures have passed: they are the samples that are not zero.
    fn failed(&mut self, name: impl Into<String>, all: u64, right: u64) {
        if all > 0 {
            let failed = all.saturating_sub(right);
            let value = failed as f64 / all as f64;
            self.add(name, json!({ "passes": failed, "fails": right, "value": value }));
        }
    }

    /// Adds a threshold to its metric, by its expression: true if it was breached. One that the samples cannot decide
    /// is left out, and so is one that k6 has no metric for.
    fn threshold(&mut self, summary: &Summary, threshold: &ThresholdFacts) {
        let (Some(passed), Some((metric, expression))) = (threshold.passed, expressed(summary, threshold)) else {
            return;
        };
        let entry = self.0.entry(metric).or_insert_with(|| json!({}));
        if threshold.unit == Unit::Share && entry.as_object().is_some_and(Map::is_empty) {
            entry["value"] = json!(threshold.measured);
        }
        entry["thresholds"][expression] = json!(!passed);
    }
}

/// Returns the metric and the expression of a threshold, if k6 has them.
fn expressed(summary: &Summary, threshold: &ThresholdFacts) -> Option<(String, String)> {
    let limit = threshold.limit;
    if threshold.unit == Unit::Share {
        let metric = match &*threshold.name {
            "errors" => "http_req_failed".to_owned(),
            // A refusal is no error to it: certctl's scripts counted what the server itself broke.
            "errors but 429" => "http_req_failed{server_error:true}".to_owned(),
            _ => return None,
        };
        let metric = match &threshold.workload {
            Some(workload) if metric == "http_req_failed" => tagged(&metric, &tag(summary, workload)),
            _ => metric,
        };
        return Some((metric, format!("rate<{limit}")));
    }
    let (plan, results) = match &threshold.workload {
        Some(workload) => summary.measured_named(workload)?,
        None => summary.measured().next()?,
    };
    let tag = tag(summary, &plan.name);
    let metric = match &threshold.step {
        Some(step) => of_step(&tag, step, results),
        None => tagged(duration(results), &tag),
    };
    let quantile = threshold.quantile.as_deref()?.strip_prefix('p')?;
    Some((metric, format!("p({quantile})<{limit}")))
}

/// Returns microseconds as milliseconds, rounded to a nanosecond: more digits would be those of the division.
fn ms(us: f64) -> f64 {
    (us * 1e3).round() / 1e6
}

/// Returns the distribution of several together.
fn merged<'r>(all: impl Iterator<Item = &'r DistributionFacts>) -> Result<DistributionFacts> {
    let mut whole = Distribution::default();
    for facts in all {
        whole.merge(&facts.distribution()?)?;
    }
    Ok(DistributionFacts::of(&whole))
}
