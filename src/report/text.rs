//! The summary of a run for people: `summary.txt`, and what the terminal shows.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::evidence;
use super::facts::{DistributionFacts, HandshakeFacts, ObservationFacts, OutcomeCount, ThresholdFacts};
use super::plan::PlanFacts;
use super::summary::{About, Summary, WorkloadResults};
use super::verdict::Verdict;
use crate::measure::observation::show;

/// The rows that say what a run is about to do, or did: target, workload and machine.
pub fn heading(about: &About) -> String {
    let (target, machine) = (&about.target, &about.machine);
    let system = match &*target.kind {
        "reference" => format!("reference server {} ({}), not certctl", target.version, target.behaviour),
        kind => format!("{kind} {}", target.version),
    };
    let mut text = format!("{}: {}\n", about.scenario, about.title);
    row(&mut text, "target", &format!("{system} at {}", target.base_url));
    // Of the settings, those without which a figure of writes says nothing.
    let durability = ["fsync", "synchronous_commit"]
        .into_iter()
        .filter_map(|key| target.settings.get(key)?.as_str().map(|value| format!(", {key} {value}")))
        .collect::<String>();
    row(&mut text, "", &format!("store {}{durability}; {}", target.store, target.trust));
    for plan in &about.workloads {
        let several = about.workloads.len() > 1;
        let name = if several { format!("{}: ", plan.name) } else { String::new() };
        row(&mut text, "workload", &format!("{name}{}", workload(plan)));
    }
    row(
        &mut text,
        "machine",
        &format!(
            "{} × {}, {:.1} GiB, Linux {}, {}",
            machine.cores,
            machine.cpu_model,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.kernel,
            machine.rustc
        ),
    );
    text
}

fn workload(plan: &PlanFacts) -> String {
    let who = match (&*plan.model, &*plan.affinity) {
        ("closed", _) => {
            let users = if plan.clients == 1 { "user" } else { "users" };
            format!("{} {users}, think time {} s", plan.clients, plan.think_s.unwrap_or_default())
        }
        (_, "own") => format!("{} connections, one per agent", plan.connections),
        _ => format!("{} pooled connections", plan.connections),
    };
    let rate = match (&plan.arrivals, plan.rate_per_s) {
        (Some(arrivals), Some(rate)) => format!(" {arrivals} {}/s,", (rate * 1e3).round() / 1e3),
        _ => String::new(),
    };
    let delay =
        if plan.starts_after_s > 0.0 { format!("starts after {} s, ", plan.starts_after_s) } else { String::new() };
    format!(
        "{},{rate} {who}, {delay}warm-up {} s, window {} s, rng seed {}",
        plan.model, plan.warm_up_s, plan.window_s, plan.rng_seed
    )
}

/// Everything below the heading: counts, distributions, thresholds and verdict.
pub fn results(summary: &Summary) -> String {
    let mut text = String::new();
    for (results, plan) in summary.results.iter().zip(&summary.about.workloads) {
        if summary.results.len() > 1 {
            let _ = writeln!(text, "{}: {}", plan.name, plan.title);
        }
        counts(&mut text, results);
        text.push('\n');
        let _ = writeln!(text, "{}", distributions(results, plan.model == "closed"));
        text.push('\n');
        handshakes(&mut text, "handshakes", &results.opening);
        if results.reopening.tls.count > 0 {
            handshakes(&mut text, "reconnects", &results.reopening);
        }
        if summary.results.len() > 1 {
            text.push('\n');
        }
    }
    generator(&mut text, summary);
    if let [evidence] = &summary.evidence[..] {
        let _ = write!(text, "\n{}", evidence::lines(evidence));
    }
    if !summary.thresholds.is_empty() {
        let _ = writeln!(text, "\n{}", thresholds(&summary.thresholds));
    }
    text.push('\n');
    for reason in &summary.invalid {
        row(&mut text, "invalid", reason);
    }
    row(&mut text, "verdict", &format!("{} (exit {})", summary.verdict, summary.exit_code));
    if summary.verdict == Verdict::Smoke {
        row(&mut text, "", "cargo bench measures; this only shows that every part works");
    }
    text
}

fn row(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key:<12} {value}");
}

fn counts(text: &mut String, results: &WorkloadResults) {
    let arrivals = &results.arrivals;
    let partial = if arrivals.partial { ", PARTIAL" } else { "" };
    row(
        text,
        "arrivals",
        &format!(
            "scheduled {}, started {}, late {}, unsent {} (in {:.1} s{partial}; warm-up {} more)",
            arrivals.scheduled, arrivals.started, arrivals.late, arrivals.unsent, arrivals.measured_s, arrivals.warm_up
        ),
    );
    row(text, "outcomes", &outcomes(&results.outcomes));
    for entry in &results.outcomes {
        if let Some(example) = &entry.example {
            row(text, "", &format!("first {}: {example}", entry.outcome));
        }
    }
    for step in results.steps.iter().filter(|step| step.outcomes.iter().any(|entry| entry.outcome != "ok")) {
        row(text, "", &format!("{}: {}", step.name, outcomes(&step.outcomes)));
    }
    for (index, work) in results.work.iter().enumerate() {
        let key = if index == 0 { "work" } else { "" };
        row(text, key, &format!("{}: {} of {} ({})", work.name, work.found, work.claimed, work.source));
    }
    if results.work.is_empty() {
        row(text, "work", "not checked: no database given (--database URL)");
    }
    for (index, observation) in results.observations.iter().enumerate() {
        row(text, if index == 0 { "observed" } else { "" }, &observed(observation));
    }
}

fn outcomes(outcomes: &[OutcomeCount]) -> String {
    let counts: Vec<String> = outcomes.iter().map(|entry| format!("{} {}", entry.outcome, entry.count)).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn observed(facts: &ObservationFacts) -> String {
    let value = match (facts.count, facts.of, facts.duration_s) {
        (Some(count), Some(of), _) => format!("{count} of {of}"),
        (Some(count), None, _) => count.to_string(),
        (None, _, Some(duration_s)) => show(Duration::from_secs_f64(duration_s)),
        (None, _, None) => "never".to_owned(),
    };
    format!("{}: {value}", facts.name)
}

fn distributions(results: &WorkloadResults, closed: bool) -> Table {
    let latency = &results.latency;
    let mut table = table(&["ms", "count", "p50", "p90", "p95", "p99", "p99.9", "max"]);
    let mut add = |name: &str, facts: &DistributionFacts, always: bool| {
        if always || facts.count > 0 {
            let quantiles = [facts.p50_us, facts.p90_us, facts.p95_us, facts.p99_us, facts.p99_9_us, facts.max_us];
            let cells = quantiles.map(|us| us.map_or_else(|| "–".to_owned(), |us| format!("{:.3}", us / 1e3)));
            table.add_row([name.to_owned(), facts.count.to_string()].into_iter().chain(cells));
        }
    };
    add("response time", &latency.response, true);
    for step in &results.steps {
        add(&format!("  {}", step.name), &step.response, true);
    }
    // A user has no intended start but the actual one.
    if !closed {
        add("service time", &latency.service, true);
    }
    add(if closed { "timer lag" } else { "schedule lag" }, &latency.schedule_lag, true);
    add("  send", &latency.send, false);
    add("  first byte", &latency.first_byte, false);
    add("  receive", &latency.receive, false);
    add("failed response", &latency.failed_response, false);
    add("TCP connect", &results.opening.dial, false);
    add("TLS handshake", &results.opening.tls, false);
    add("TCP reconnect", &results.reopening.dial, false);
    add("TLS rehandshake", &results.reopening.tls, false);
    align(&mut table);
    table
}

fn handshakes(text: &mut String, key: &str, facts: &HandshakeFacts) {
    for (index, entry) in facts.kinds.iter().enumerate() {
        let key = if index == 0 { key } else { "" };
        row(text, key, &format!("{} {} {} {} {}", entry.count, entry.kind, entry.version, entry.suite, entry.group));
    }
}

fn generator(text: &mut String, summary: &Summary) {
    let generator = &summary.generator;
    row(
        text,
        "generator",
        &format!(
            "CPU {:.2} s in the window (thread {:.1}% busy); opening {:.2} s CPU in {:.1} s; {}; {}",
            generator.window_cpu_s,
            generator.busy_share * 100.0,
            generator.opening_cpu_s,
            generator.opening_s,
            generator.scheduling,
            generator.tls
        ),
    );
    let per_connection = generator
        .rss_per_connection_bytes
        .map_or_else(String::new, |bytes| format!(", {:.1} KiB per connection", bytes as f64 / 1024.0));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (rss, peak) = (mib(generator.rss_bytes), mib(generator.peak_rss_bytes));
    row(text, "", &format!("memory {rss:.1} MiB, peak {peak:.1} MiB{per_connection}"));
}

fn thresholds(facts: &[ThresholdFacts]) -> Table {
    let mut table = table(&["threshold", "measured", "limit", ""]);
    for entry in facts {
        let value = |value: f64| match &*entry.unit {
            "share" => format!("{:.3}%", value * 100.0),
            unit => format!("{value:.3} {unit}"),
        };
        table.add_row([
            entry.name.clone(),
            entry.measured.map_or_else(|| "–".to_owned(), value),
            format!("< {}", value(entry.limit)),
            match entry.passed {
                Some(true) => "kept",
                Some(false) => "BREACHED",
                None => "too few samples",
            }
            .to_owned(),
        ]);
    }
    align(&mut table);
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table
}

fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
}
