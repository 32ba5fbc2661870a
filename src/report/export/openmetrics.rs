//! A run in the text format of OpenMetrics 1.0.
//!
//! Only kinds of families are used that the text format of Prometheus before it has too: a reader of that one, such as
//! the node exporter's collector of files or a Pushgateway, refuses a page with a state set or an info.

use std::fmt::{self, Write as _};
use std::time::UNIX_EPOCH;

use super::{measures, measures_of_step};
use crate::error::Result;
use crate::measure::Distribution;
use crate::summary::facts::{ArrivalCounts, DistributionFacts, ThresholdFacts, Unit};
use crate::summary::{Summary, Verdict};

/// The units at the end of names.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];
/// The bounds of buckets, in seconds.
const BOUNDS_S: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The kind of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyKind {
    /// A value as it is now.
    Gauge,
    /// A count that only rises; its samples are written with `_total`.
    Counter,
    /// Quantiles, sum and count.
    Summary,
    /// Counts up to bounds, sum and count.
    Histogram,
}

/// A page of families, each with its samples.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// A family that is being written: its head comes with its first sample, so that no family is empty.
pub(crate) struct Family<'p> {
    page: &'p mut Exposition,
    name: &'p str,
    kind: FamilyKind,
    help: &'p str,
    has_head: bool,
}

impl Exposition {
    /// Begins a family. A name that ends in the name of a unit declares it.
    pub(crate) fn family<'p>(&'p mut self, kind: FamilyKind, name: &'p str, help: &'p str) -> Family<'p> {
        Family { page: self, name, kind, help, has_head: false }
    }

    /// Ends the page, and returns its text.
    pub(crate) fn finish(self) -> String {
        self.text + "# EOF\n"
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let suffix = if self.kind == FamilyKind::Counter { "_total" } else { "" };
        self.line(suffix, labels, None, value);
    }

    /// Adds quantiles, 0 to 1, those that are known, with sum and count.
    pub(crate) fn quantiles(
        &mut self,
        labels: &[(&str, &str)],
        quantiles: impl IntoIterator<Item = (f64, f64)>,
        sum: f64,
        count: u64,
    ) {
        for (quantile, value) in quantiles {
            self.line("", labels, Some(("quantile", quantile)), value);
        }
        self.sum_and_count(labels, sum, count);
    }

    /// Adds buckets, each with its inclusive bound and the count of all samples up to it, with sum and count.
    pub(crate) fn buckets(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl IntoIterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        for (bound, below) in buckets.into_iter().chain([(f64::INFINITY, count)]) {
            self.line("_bucket", labels, Some(("le", bound)), below as f64);
        }
        self.sum_and_count(labels, sum, count);
    }

    fn sum_and_count(&mut self, labels: &[(&str, &str)], sum: f64, count: u64) {
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<(&str, f64)>, value: f64) {
        if !self.has_head {
            self.has_head = true;
            self.head();
        }
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let bound = bound.map(|(name, value)| format!("{name}=\"{}\"", Bound(value)));
        let labels = labels.chain(bound).collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(self.page.text, "{}{suffix}{labels} {}", self.name, Number(value));
    }

    fn head(&mut self) {
        let (text, name) = (&mut self.page.text, self.name);
        let kind = match self.kind {
            FamilyKind::Gauge => "gauge",
            FamilyKind::Counter => "counter",
            FamilyKind::Summary => "summary",
            FamilyKind::Histogram => "histogram",
        };
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if let Some(unit) = UNITS.iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {}", escaped(self.help));
    }
}

/// Escapes the value of a label, or a help text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A sample's value.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => f.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => f.write_str("-Inf"),
            value => value.fmt(f),
        }
    }
}

/// A bound or a quantile, which is text to a reader: always with a decimal point, as the specification wants it.
struct Bound(f64);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { Number(self.0).fmt(f) }
    }
}

/// Renders a run that has finished.
///
/// # Errors
/// If a histogram is damaged.
pub fn render(summary: &Summary) -> Result<String> {
    let mut page = Exposition::default();
    run(&mut page, summary);
    counts(&mut page, summary);
    latencies(&mut page, summary)?;
    thresholds(&mut page, summary);
    Ok(page.finish())
}

/// The families of the run as a whole.
fn run(page: &mut Exposition, summary: &Summary) {
    let (about, generator) = (&summary.about, &summary.generator);
    let scenario = ("scenario", &*about.scenario);
    let mut labels = vec![
        scenario,
        ("system", about.system.kind.label()),
        ("system_version", &about.system.version),
        ("suite_version", &summary.suite_version),
    ];
    labels.extend(summary.run_id.as_deref().map(|id| ("run_id", id)));
    page.family(FamilyKind::Gauge, "certctl_bench_run_info", "The run, always 1.").sample(&labels, 1.0);
    let help = "The verdict of the run: 1 for the one that it is, 0 for the others.";
    let mut verdicts = page.family(FamilyKind::Gauge, "certctl_bench_run_verdict", help);
    for (verdict, name) in [
        (Verdict::Pass, "pass"),
        (Verdict::Breached, "breached"),
        (Verdict::Invalid, "invalid"),
        (Verdict::Smoke, "smoke"),
    ] {
        verdicts.sample(&[scenario, ("verdict", name)], f64::from(u8::from(summary.verdict == verdict)));
    }
    let finished = humantime::parse_rfc3339(&summary.finished_at).ok();
    if let Some(since) = finished.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
        let help = "The time at which the run finished, since 1970.";
        page.family(FamilyKind::Gauge, "certctl_bench_run_finished_timestamp_seconds", help)
            .sample(&[scenario], since.as_secs_f64());
    }
    if let Some(share) = summary.error_share {
        let help = "The share of scheduled arrivals of all workloads without the right answer.";
        page.family(FamilyKind::Gauge, "certctl_bench_run_errors_ratio", help).sample(&[scenario], share);
    }
    let help = "The share of the window in which the generator's busiest thread was on a CPU.";
    page.family(FamilyKind::Gauge, "certctl_bench_generator_busy_ratio", help)
        .sample(&[scenario], generator.busy_share);
    let help = "The CPU time of the generator within the window.";
    page.family(FamilyKind::Counter, "certctl_bench_generator_cpu_seconds", help)
        .sample(&[scenario], generator.window_cpu_s);
    let help = "The highest resident memory of the generator.";
    page.family(FamilyKind::Gauge, "certctl_bench_generator_peak_memory_bytes", help)
        .sample(&[scenario], generator.peak_rss_bytes as f64);
}

/// The counts of each workload.
fn counts(page: &mut Exposition, summary: &Summary) {
    let scenario = ("scenario", &*summary.about.scenario);
    let workload = |name| [scenario, ("workload", name)];
    let mut measured =
        page.family(FamilyKind::Gauge, "certctl_bench_measured_seconds", "The measured length of the window.");
    for (plan, results) in summary.measured() {
        measured.sample(&workload(&plan.name), results.arrivals.measured_s);
    }
    for (name, help, of) in [
        (
            "certctl_bench_arrivals_scheduled",
            "Arrivals that the schedule put into the window.",
            (|counts| counts.scheduled) as fn(&ArrivalCounts) -> u64,
        ),
        ("certctl_bench_arrivals_started", "Arrivals that were sent.", |counts| counts.started),
        ("certctl_bench_arrivals_late", "Arrivals that were sent late.", |counts| counts.late),
        ("certctl_bench_arrivals_unsent", "Arrivals that were never sent.", |counts| counts.unsent),
    ] {
        let mut family = page.family(FamilyKind::Counter, name, help);
        for (plan, results) in summary.measured() {
            family.sample(&workload(&plan.name), of(&results.arrivals) as f64);
        }
    }
    let mut outcomes =
        page.family(FamilyKind::Counter, "certctl_bench_outcomes", "Outcomes of the arrivals that were sent.");
    for (plan, results) in summary.measured() {
        for one in &results.outcomes {
            let outcome = one.outcome.to_string();
            outcomes.sample(&[scenario, ("workload", &plan.name), ("outcome", &outcome)], one.count as f64);
        }
    }
    let mut outcomes =
        page.family(FamilyKind::Counter, "certctl_bench_step_outcomes", "Outcomes of the requests of a step.");
    for (plan, results) in summary.measured() {
        for step in &results.steps {
            for one in &step.outcomes {
                let outcome = one.outcome.to_string();
                let labels = [scenario, ("workload", &plan.name), ("step", &step.name), ("outcome", &outcome)];
                outcomes.sample(&labels, one.count as f64);
            }
        }
    }
    let mut errors = page.family(
        FamilyKind::Gauge,
        "certctl_bench_errors_ratio",
        "The share of scheduled arrivals without the right answer.",
    );
    for (plan, results) in summary.measured() {
        if let Some(share) = results.error_share {
            errors.sample(&workload(&plan.name), share);
        }
    }
    for (name, help, is_found) in [
        ("certctl_bench_work_claimed", "Side effects that right answers claimed.", false),
        ("certctl_bench_work_found", "Side effects that were counted in the system.", true),
    ] {
        let mut family = page.family(FamilyKind::Counter, name, help);
        for (plan, results) in summary.measured() {
            for work in &results.work {
                let count = if is_found { work.found } else { work.claimed };
                let labels = [scenario, ("workload", &plan.name), ("work", &work.name), ("source", &work.source)];
                family.sample(&labels, count as f64);
            }
        }
    }
}

/// The distributions of each workload and step.
fn latencies(page: &mut Exposition, summary: &Summary) -> Result<()> {
    let scenario = ("scenario", &*summary.about.scenario);
    let help = "Durations of a workload, by measure; a quantile with fewer than ten samples beyond it is left out.";
    let mut family = page.family(FamilyKind::Summary, "certctl_bench_latency_seconds", help);
    for (plan, results) in summary.measured() {
        for (measure, facts) in measures(results) {
            add_quantiles(&mut family, &[scenario, ("workload", &plan.name), ("measure", measure)], facts)?;
        }
    }
    let help = "Durations of a step, by measure; a quantile with fewer than ten samples beyond it is left out.";
    let mut family = page.family(FamilyKind::Summary, "certctl_bench_step_latency_seconds", help);
    for (plan, results) in summary.measured() {
        for step in &results.steps {
            for (measure, facts) in measures_of_step(step) {
                let labels = [scenario, ("workload", &plan.name), ("step", &step.name), ("measure", measure)];
                add_quantiles(&mut family, &labels, facts)?;
            }
        }
    }
    let help = "Response time of right answers; bounds are exact to within 0.1%.";
    let mut family = page.family(FamilyKind::Histogram, "certctl_bench_response_seconds", help);
    for (plan, results) in summary.measured() {
        let samples = results.latency.response.distribution()?;
        let up_to = |bound_s: f64| samples.count() - samples.count_above((bound_s * 1e9) as u64);
        let buckets = BOUNDS_S.map(|bound_s| (bound_s, up_to(bound_s)));
        family.buckets(&[scenario, ("workload", &plan.name)], buckets, sum_s(&samples), samples.count());
    }
    Ok(())
}

fn add_quantiles(family: &mut Family<'_>, labels: &[(&str, &str)], facts: &DistributionFacts) -> Result<()> {
    let stated =
        [(0.5, facts.p50_us), (0.9, facts.p90_us), (0.95, facts.p95_us), (0.99, facts.p99_us), (0.999, facts.p99_9_us)];
    let quantiles = stated.into_iter().filter_map(|(quantile, us)| Some((quantile, seconds(us? * 1e3))));
    family.quantiles(labels, quantiles, sum_s(&facts.distribution()?), facts.count);
    Ok(())
}

/// Returns the sum of all samples in seconds, to within 0.1%.
fn sum_s(samples: &Distribution) -> f64 {
    seconds(samples.mean_ns().unwrap_or_default() * samples.count() as f64)
}

/// Returns nanoseconds as seconds, rounded to a whole one: more digits would be those of the division.
fn seconds(ns: f64) -> f64 {
    ns.round() / 1e9
}

/// The thresholds beside what was measured.
fn thresholds(page: &mut Exposition, summary: &Summary) {
    let scenario = ("scenario", &*summary.about.scenario);
    let labels = |threshold: &ThresholdFacts| {
        let names = [&threshold.workload, &threshold.step].map(|name| name.as_deref().unwrap_or_default().to_owned());
        let [workload, step] = names;
        [("workload", workload), ("step", step), ("threshold", threshold.name.clone())]
    };
    let mut add = |name: &str, help: &str, of: &dyn Fn(&ThresholdFacts) -> Option<f64>| {
        let mut family = page.family(FamilyKind::Gauge, name, help);
        for threshold in &summary.thresholds {
            if let Some(value) = of(threshold) {
                let labels = labels(threshold);
                let labels = labels.iter().map(|(name, value)| (*name, &**value));
                family.sample(&[scenario].into_iter().chain(labels).collect::<Vec<_>>(), value);
            }
        }
    };
    add("certctl_bench_threshold_kept", "1 if the threshold was kept, 0 if it was breached.", &|threshold| {
        threshold.passed.map(|passed| f64::from(u8::from(passed)))
    });
    let in_seconds = |threshold: &ThresholdFacts, ms: Option<f64>| {
        ms.filter(|_| threshold.unit == Unit::Ms).map(|ms| seconds(ms * 1e6))
    };
    let ratio = |threshold: &ThresholdFacts, share: Option<f64>| share.filter(|_| threshold.unit == Unit::Share);
    let limit = "The bound, which the measure has to stay below.";
    let measured = "The measured value.";
    add("certctl_bench_threshold_limit_seconds", limit, &|one| in_seconds(one, Some(one.limit)));
    add("certctl_bench_threshold_limit_ratio", limit, &|one| ratio(one, Some(one.limit)));
    add("certctl_bench_threshold_measured_seconds", measured, &|one| in_seconds(one, one.measured));
    add("certctl_bench_threshold_measured_ratio", measured, &|one| ratio(one, one.measured));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_heads_samples_and_an_end() {
        let mut page = Exposition::default();
        page.family(FamilyKind::Gauge, "empty", "A family without samples.");
        let mut family = page.family(FamilyKind::Counter, "read_bytes", "Bytes.");
        family.sample(&[], 3.0);
        family.sample(&[("peer", "a\\b\"c\nd")], 0.5);
        page.family(FamilyKind::Summary, "time_seconds", "T.").quantiles(&[("a", "b")], [(0.5, 0.25)], 1.5, 4);
        page.family(FamilyKind::Histogram, "size", "S.").buckets(&[], [(1.0, 2)], 9.0, 3);
        let expected = "# TYPE read_bytes counter\n# UNIT read_bytes bytes\n# HELP read_bytes Bytes.\n\
                        read_bytes_total 3\nread_bytes_total{peer=\"a\\\\b\\\"c\\nd\"} 0.5\n\
                        # TYPE time_seconds summary\n# UNIT time_seconds seconds\n# HELP time_seconds T.\n\
                        time_seconds{a=\"b\",quantile=\"0.5\"} 0.25\ntime_seconds_sum{a=\"b\"} 1.5\n\
                        time_seconds_count{a=\"b\"} 4\n\
                        # TYPE size histogram\n# HELP size S.\n\
                        size_bucket{le=\"1.0\"} 2\nsize_bucket{le=\"+Inf\"} 3\nsize_sum 9\nsize_count 3\n# EOF\n";
        assert_eq!(page.finish(), expected);
    }
}
