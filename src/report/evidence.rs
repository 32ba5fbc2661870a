//! The system's evidence as text: the few lines that belong beside the latencies.

use std::fmt::Write as _;

use crate::evidence::{Evidence, Known, Statement, Window};

/// The number of statements shown.
const SHOWN_STATEMENTS: usize = 6;
/// The number of metrics shown.
const SHOWN_METRICS: usize = 12;

/// Renders the evidence in rows like the summary's; empty where there is none.
pub fn lines(evidence: &Evidence) -> String {
    let mut text = String::new();
    statements(&mut text, evidence);
    if let Some(window) = &evidence.window {
        in_window(&mut text, window);
    }
    metrics(&mut text, evidence);
    for (index, problem) in evidence.problems.iter().enumerate() {
        row(&mut text, if index == 0 { "doubtful" } else { "" }, problem);
    }
    text
}

fn row(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key:<12} {value}");
}

fn unavailable(text: &mut String, key: &str, why: &str, hint: Option<&String>) {
    row(text, key, &format!("not known: {why}"));
    if let Some(hint) = hint {
        row(text, "", &format!("hint: {hint}"));
    }
}

fn statements(text: &mut String, evidence: &Evidence) {
    let statements = match &evidence.statements {
        None => return,
        Some(Known::No { unavailable: why, hint }) => return unavailable(text, "SQL", why, hint.as_ref()),
        Some(Known::Yes(statements)) => statements,
    };
    match &statements.per_arrival {
        Some(each) => row(
            text,
            "SQL",
            &format!(
                "per arrival {:.2} calls, {:.2} rows, {:.0} bytes of WAL (of {} arrivals, warm-up included)",
                each.calls, each.rows, each.wal_bytes, evidence.arrivals
            ),
        ),
        None => row(text, "SQL", &format!("{} calls", statements.total.calls)),
    }
    for statement in statements.most_called.iter().take(SHOWN_STATEMENTS) {
        row(text, "", &most_called(statement));
    }
    if statements.different > SHOWN_STATEMENTS {
        row(text, "", &format!("and {} more", statements.different - SHOWN_STATEMENTS));
    }
}

fn most_called(statement: &Statement) -> String {
    let cost = &statement.cost;
    let mean_ms = cost.execution_ms / cost.calls as f64;
    format!("{:>8} × {mean_ms:>7.3} ms  {}", cost.calls, statement.outline)
}

fn in_window(text: &mut String, window: &Window) {
    let per_s =
        |name: &str| window.counts.get(name).map_or_else(|| "–".to_owned(), |count| format!("{:.1}", count.per_s));
    let count = |name: &str| window.counts.get(name).map_or_else(|| "–".to_owned(), |count| count.count.to_string());
    let level = |name: &str| {
        let level = window.activity.backends.get(name).copied().unwrap_or_default();
        format!("{:.1} (max {})", level.mean, level.max)
    };
    row(
        text,
        "database",
        &format!(
            "commits {}/s, rollbacks {}/s, WAL {} bytes/s; checkpoints {} timed, {} requested; deadlocks {}",
            per_s("commits"),
            per_s("rollbacks"),
            per_s("wal_bytes"),
            count("checkpoints_timed"),
            count("checkpoints_requested"),
            count("deadlocks")
        ),
    );
    row(
        text,
        "",
        &format!(
            "backends {}, active {}, waiting for a lock {} (mean of {} samples)",
            level("backends"),
            level("active"),
            level("waiting_lock"),
            window.activity.samples
        ),
    );
}

fn metrics(text: &mut String, evidence: &Evidence) {
    let changes = match &evidence.metrics {
        None => return,
        Some(Known::No { unavailable: why, hint }) => return unavailable(text, "metrics", why, hint.as_ref()),
        Some(Known::Yes(changes)) => changes,
    };
    if changes.is_empty() {
        row(text, "metrics", "none of certctl's own metrics changed");
    }
    let value = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    for (index, (name, change)) in changes.iter().take(SHOWN_METRICS).enumerate() {
        let key = if index == 0 { "metrics" } else { "" };
        row(text, key, &format!("{name} {} → {}", value(change.before), value(change.after)));
    }
    if changes.len() > SHOWN_METRICS {
        row(text, "", &format!("and {} more", changes.len() - SHOWN_METRICS));
    }
}
