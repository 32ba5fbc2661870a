//! Tables of a report as data, for Markdown and HTML alike.

use serde_json::Value;

use super::plot::ticks;
use super::runs::{LoadedRun, ScenarioRuns};
use super::table::{Cell, Table};
use super::{machine_use, text};
use crate::measure::Outcome;
use crate::summary::facts::{DistributionFacts, HandshakeFacts, OutcomeCount, StepFacts, ThresholdFacts, Unit};
use crate::summary::plan::PlanFacts;
use crate::summary::{Summary, WorkloadResults};

/// The thresholds of a row, for people.
struct LimitCells {
    limits: String,
    kept: Cell,
}

/// Builds the table of results: a row for each workload and step of each run.
pub fn overview(group: &ScenarioRuns) -> Table {
    let header = ["", "arrivals", "errors", "p50 ms", "p95 ms", "p99 ms", "threshold", "kept"];
    let mut sheet = Table::new("Response times", 1, &header);
    let labelled = group.runs.len() > 1;
    if labelled {
        sheet.header.insert(1, "run".into());
        sheet.words = 2;
    }
    let mut add = |name: &str, run: &LoadedRun, cells: [Cell; 7]| {
        let label = labelled.then(|| Cell::from(run.label.as_str()));
        sheet.rows.push([name.into()].into_iter().chain(label).chain(cells).collect());
    };
    for name in group.workloads() {
        let found = group.runs.iter().filter_map(|run| Some((run, run.summary.measured_named(name)?.1)));
        let found: Vec<_> = found.collect();
        for (run, results) in &found {
            add(name, run, workload_cells(&run.summary, name, results));
        }
        let mut steps: Vec<&str> = Vec::new();
        for step in found.iter().flat_map(|(_, results)| &results.steps) {
            if !steps.contains(&&*step.name) {
                steps.push(&step.name);
            }
        }
        for step in steps {
            for (run, results) in &found {
                if let Some(facts) = results.steps.iter().find(|one| one.name == step) {
                    add(&format!("– {step}"), run, step_cells(&run.summary, name, facts));
                }
            }
        }
    }
    for run in group.runs.iter().filter(|run| run.summary.measured().count() > 1) {
        add("all together", run, all_cells(&run.summary));
    }
    sheet
}

fn workload_cells(summary: &Summary, name: &str, results: &WorkloadResults) -> [Cell; 7] {
    let bound = bound(summary, |threshold| about(summary, threshold) == (Some(name), None));
    let errors = errors(results.error_share, &results.outcomes, results.arrivals.scheduled);
    row(results.arrivals.scheduled, errors, &results.latency.response, bound)
}

fn step_cells(summary: &Summary, workload: &str, step: &StepFacts) -> [Cell; 7] {
    let bound = bound(summary, |threshold| about(summary, threshold) == (Some(workload), Some(&step.name)));
    let ok = step.outcomes.iter().find(|entry| entry.outcome == Outcome::Ok).map_or(0, |entry| entry.count);
    let share = (step.scheduled > 0).then(|| step.scheduled.saturating_sub(ok) as f64 / step.scheduled as f64);
    row(step.scheduled, errors(share, &step.outcomes, step.scheduled), &step.response, bound)
}

fn all_cells(summary: &Summary) -> [Cell; 7] {
    let bound = bound(summary, |threshold| about(summary, threshold) == (None, None));
    let scheduled = summary.measured().map(|(_, results)| results.arrivals.scheduled).sum();
    let none = DistributionFacts::default();
    row(scheduled, share(summary.error_share), &none, bound)
}

fn row(arrivals: u64, errors: String, response: &DistributionFacts, bound: LimitCells) -> [Cell; 7] {
    [
        arrivals.to_string().into(),
        errors.into(),
        ms(response.p50_us).into(),
        ms(response.p95_us).into(),
        ms(response.p99_us).into(),
        bound.limits.into(),
        bound.kept,
    ]
}

/// Returns the workload and the step that a threshold bounds; no workload where it bounds several together, as one on
/// errors does.
fn about<'s>(summary: &'s Summary, threshold: &'s ThresholdFacts) -> (Option<&'s str>, Option<&'s str>) {
    let mut names = summary.measured().map(|(plan, _)| &*plan.name);
    let workload = match &threshold.workload {
        Some(workload) => names.find(|name| name == workload),
        None => names.next().filter(|_| names.next().is_none()),
    };
    (workload, threshold.step.as_deref())
}

fn bound(summary: &Summary, mut belongs: impl FnMut(&ThresholdFacts) -> bool) -> LimitCells {
    let ours: Vec<_> = summary.thresholds.iter().filter(|threshold| belongs(threshold)).collect();
    let limits = ours.iter().map(|threshold| {
        let name = threshold.quantile.as_ref().unwrap_or(&threshold.name);
        format!("{name} < {}", limit(threshold))
    });
    let limits = limits.collect::<Vec<_>>().join(", ");
    let kept = if ours.is_empty() {
        "".into()
    } else if ours.iter().any(|threshold| threshold.passed == Some(false)) {
        Cell { text: "breached".to_owned(), alarming: true }
    } else if ours.iter().any(|threshold| threshold.passed.is_none()) {
        Cell { text: "too few samples".to_owned(), alarming: true }
    } else {
        "kept".into()
    };
    LimitCells { limits, kept }
}

/// Returns a threshold's limit, which its measure stays below, with its unit.
pub fn limit(threshold: &ThresholdFacts) -> String {
    valued(threshold, threshold.limit)
}

/// Returns a threshold's measured value, with its unit.
pub fn measured(threshold: &ThresholdFacts) -> String {
    let most = if threshold.by_maximum { "max " } else { "" };
    if threshold.measured.is_none() && threshold.certain {
        return format!("{} of {} beyond", threshold.beyond, threshold.of);
    }
    threshold.measured.map_or_else(|| "–".to_owned(), |measured| format!("{most}{}", valued(threshold, measured)))
}

fn valued(threshold: &ThresholdFacts, value: f64) -> String {
    match threshold.unit {
        Unit::Share => format!("{}%", ticks::digits(value * 100.0)),
        Unit::Ms => format!("{} ms", (value * 1e3).round() / 1e3),
    }
}

fn ms(us: Option<f64>) -> String {
    us.map_or_else(|| "–".to_owned(), |us| format!("{:.3}", us / 1e3))
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.3}%", share * 100.0))
}

fn errors(of_all: Option<f64>, outcomes: &[OutcomeCount], scheduled: u64) -> String {
    let wrong: Vec<_> = outcomes.iter().filter(|entry| entry.outcome != Outcome::Ok && entry.count > 0).collect();
    let sent: u64 = outcomes.iter().map(|entry| entry.count).sum();
    let mut parts: Vec<String> = wrong.iter().map(|entry| format!("{} {}", entry.count, entry.outcome)).collect();
    let unsent = scheduled.saturating_sub(sent);
    if unsent > 0 {
        parts.push(format!("{unsent} unsent"));
    }
    if parts.is_empty() { share(of_all) } else { format!("{} ({})", share(of_all), parts.join(", ")) }
}

/// Builds the tables of everything else about a run.
pub fn details(summary: &Summary) -> Vec<Table> {
    let mut sheets = vec![environment(summary), workloads(summary)];
    if !summary.thresholds.is_empty() {
        sheets.push(thresholds(&summary.thresholds));
    }
    for (plan, results) in summary.measured() {
        sheets.push(distributions(results, plan));
        sheets.push(counts(results, plan, summary));
        sheets.push(handshakes(results, plan));
    }
    let mut settings = Vec::new();
    for (key, value) in &summary.about.system.settings {
        flatten(key, value, &mut settings);
    }
    sheets.push(Table::pairs("Settings of the system", settings));
    for used in &summary.machine_use {
        let rows = machine_use::owners(&used.mean).into_iter().chain([("idle", Some(used.mean.idle))]);
        let rows = rows.filter_map(|(name, cpus)| Some((name.to_owned(), ticks::digits(cpus?))));
        let statements = machine_use::statements(used).into_iter().skip(1).map(|text| (String::new(), text));
        let who = [("the system under test is", &used.system_is), ("PostgreSQL is", &used.postgresql_is)];
        let who = who.into_iter().map(|(name, text)| (name.to_owned(), text.clone()));
        let title = format!("Use of the machine, in processors of {}, while {}", used.cpus, used.workloads.join(", "));
        sheets.push(Table::pairs(title, rows.chain(statements).chain(who)));
    }
    sheets.retain(|sheet| !sheet.rows.is_empty());
    sheets
}

/// Collects a setting, and those within it.
fn flatten(key: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(inner) => inner.iter().for_each(|(name, value)| flatten(&format!("{key} {name}"), value, rows)),
        Value::String(text) => rows.push((key.to_owned(), text.clone())),
        other => rows.push((key.to_owned(), other.to_string())),
    }
}

fn environment(summary: &Summary) -> Table {
    let (described, machine, generator) = (&summary.about.system, &summary.about.machine, &summary.generator);
    let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
    let mib = |bytes: u64| ticks::digits(bytes as f64 / f64::from(1 << 20));
    let rows = [
        ("system", text::system(described)),
        ("address", described.base_url.clone()),
        ("certificate", described.trust.clone()),
        ("store", described.store.to_string()),
        ("processor", format!("{} × {}", machine.cores, machine.cpu_model)),
        ("memory", format!("{gib:.1} GiB{}", machine.limits())),
        ("virtualisation", machine.virtualisation.clone()),
        ("kernel", format!("Linux {}", machine.kernel)),
        ("compiler", machine.rustc.clone()),
        ("suite", format!("certctl-bench {}, commit {}", summary.suite_version, machine.commit)),
        ("finished", summary.finished_at.clone()),
        (
            "generator",
            format!(
                "{:.2} s of CPU in the window, {} {:.1}% busy; {}; {}",
                generator.window_cpu_s,
                match generator.threads {
                    ..=1 => "its thread".to_owned(),
                    threads => format!("the busiest of its {threads} threads"),
                },
                generator.busy_share * 100.0,
                generator.scheduling,
                generator.tls
            ),
        ),
        (
            "its memory",
            format!("{} MiB at the end, {} MiB at most", mib(generator.rss_bytes), mib(generator.peak_rss_bytes)),
        ),
    ];
    let binary = described.binary_sha256.clone().map(|sha256| ("binary's SHA-256", sha256));
    let migrations = described.migrations_sha256.clone().map(|sha256| ("migrations' SHA-256", sha256));
    let started = binary.into_iter().chain(migrations);
    Table::pairs("Environment", started.chain(rows).map(|(key, value)| (key.to_owned(), value)))
}

fn workloads(summary: &Summary) -> Table {
    Table::pairs(
        "Workloads",
        summary.plans().map(|plan| (plan.name.to_string(), format!("{}: {}", plan.title, text::workload(plan)))),
    )
}

fn thresholds(facts: &[ThresholdFacts]) -> Table {
    let mut sheet = Table::new("Thresholds", 1, &["", "measured", "limit", "kept"]);
    for threshold in facts {
        let kept = match threshold.passed {
            Some(true) => "kept".into(),
            Some(false) => Cell { text: "breached".to_owned(), alarming: true },
            None => Cell { text: "too few samples".to_owned(), alarming: true },
        };
        let limit = format!("< {}", limit(threshold));
        sheet.rows.push(vec![threshold.title().as_str().into(), measured(threshold).into(), limit.into(), kept]);
    }
    sheet
}

fn distributions(results: &WorkloadResults, plan: &PlanFacts) -> Table {
    let header = ["ms", "samples", "least", "mean", "p50", "p90", "p95", "p99", "p99.9", "most"];
    let mut sheet = Table::new(format!("Latencies of {}", plan.name), 1, &header);
    for (name, facts) in text::distribution_rows(results, plan) {
        let values = [
            facts.min_us,
            facts.mean_us,
            facts.p50_us,
            facts.p90_us,
            facts.p95_us,
            facts.p99_us,
            facts.p99_9_us,
            facts.max_us,
        ];
        let cells = [name.trim_start().to_owned(), facts.count.to_string()].into_iter().chain(values.map(ms));
        sheet.rows.push(cells.map(Cell::from).collect());
    }
    sheet
}

/// Builds the table of a workload's segments; it has no rows where the rate does not vary.
pub fn segments(results: &WorkloadResults, plan: &PlanFacts) -> Table {
    let header = ["window, s", "planned/s", "scheduled", "sent", "errors", "ok/s", "p50 ms", "p95 ms", "p99 ms"];
    let mut sheet = Table::new(format!("Segments of {}", plan.name), 2, &header);
    let rounded = |number: f64| ((number * 1e3).round() / 1e3).to_string();
    for one in &results.segments {
        let (from, to) = (rounded(one.from_per_s), rounded(one.to_per_s));
        let planned = if from == to { from } else { format!("{from} to {to}") };
        let achieved = one.achieved_per_s.map_or_else(|| "–".to_owned(), |per_s| format!("{per_s:.1}"));
        let window = format!("{} to {}", rounded(one.begin_s), rounded(one.end_s));
        let counts = [one.scheduled, one.started, one.errors].map(|count| count.to_string());
        let quantiles = [one.response.p50_us, one.response.p95_us, one.response.p99_us].map(ms);
        let cells = [window, planned].into_iter().chain(counts).chain([achieved]).chain(quantiles);
        sheet.rows.push(cells.map(Cell::from).collect());
    }
    sheet
}

/// Builds the tables of the segments of a run's workloads whose rates vary.
pub fn segments_of(run: &LoadedRun) -> Vec<Table> {
    let each = run.summary.measured().map(|(plan, results)| segments(results, plan));
    let mut sheets: Vec<Table> = each.filter(|sheet| !sheet.rows.is_empty()).collect();
    for sheet in sheets.iter_mut().filter(|_| !run.label.is_empty()) {
        sheet.title = format!("{}: {}", run.label, sheet.title);
    }
    sheets
}

fn counts(results: &WorkloadResults, plan: &PlanFacts, summary: &Summary) -> Table {
    let arrivals = &results.arrivals;
    let mut rows = vec![(
        "arrivals".to_owned(),
        format!(
            "scheduled {}, started {}, {}, unsent {}, in {:.1} s{}; {} more in the warm-up",
            arrivals.scheduled,
            arrivals.started,
            plan.late(arrivals.late),
            arrivals.unsent,
            arrivals.measured_s,
            if arrivals.partial { ", stopped early" } else { "" },
            arrivals.warm_up
        ),
    )];
    for entry in &results.outcomes {
        let example = entry.example.as_ref().map_or_else(String::new, |example| format!("; the first: {example}"));
        rows.push((entry.outcome.to_string(), format!("{}{example}", entry.count)));
    }
    for work in &results.work {
        rows.push((
            work.name.to_string(),
            format!("{} found of {} claimed ({})", work.found, work.claimed, work.source),
        ));
    }
    if results.work.is_empty() {
        rows.push(("work".to_owned(), text::unchecked(summary).to_owned()));
    }
    rows.extend(results.observations.iter().map(|one| (one.name.to_string(), text::observed_value(one))));
    Table::pairs(format!("Counts of {}", plan.name), rows)
}

fn handshakes(results: &WorkloadResults, plan: &PlanFacts) -> Table {
    let header = ["when", "kind", "version", "suite", "group", "certificate", "chain", "count"];
    let mut sheet = Table::new(format!("Handshakes of {}", plan.name), 6, &header);
    let mut add = |when: &str, facts: &HandshakeFacts| {
        for entry in &facts.kinds {
            let words = [when, &entry.kind, &entry.version, &entry.suite, &entry.group, &entry.key];
            let numbers = [u64::from(entry.chain_length), entry.count].map(|number| number.to_string().into());
            sheet.rows.push(words.map(Cell::from).into_iter().chain(numbers).collect());
        }
    };
    add("before the load", &results.opening);
    add("within the window", &results.reopening);
    sheet
}
