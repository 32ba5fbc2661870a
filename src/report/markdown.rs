//! Runs as Markdown, for a pull request's comment and a job's summary: verdicts first, then a table, details folded.

use std::fmt::Write as _;

use super::escape::{html, markdown};
use super::runs::{LoadedRun, ScenarioRuns};
use super::table::{Cell, Table};
use super::{evidence, headline, machine_use, tables};

/// Renders a whole report.
pub fn report(groups: &[ScenarioRuns]) -> String {
    let mut text = String::new();
    for group in groups {
        text.push_str(&section(group));
    }
    text
}

/// Renders a scenario: its verdicts, a table of its results, and the details folded.
fn section(group: &ScenarioRuns) -> String {
    let mut text = format!("### {}\n\n", markdown(&group.scenario));
    for run in &group.runs {
        text.push_str(&verdict(run));
    }
    for difference in group.differences() {
        let _ = writeln!(text, "The runs differ: {}.\n", markdown(&difference));
    }
    text.push_str(&table(&tables::overview(group)));
    for sheet in group.runs.iter().flat_map(tables::segments_of) {
        let _ = writeln!(text, "**{}**\n", markdown(&sheet.title));
        text.push_str(&table(&sheet));
    }
    for run in &group.runs {
        let label = if run.label.is_empty() { String::new() } else { format!("{}: ", run.label) };
        for used in &run.summary.machine_use {
            let statements = machine_use::statements(used).join("; ");
            let _ = writeln!(text, "{label}machine use {}\n", markdown(&statements));
        }
    }
    for run in &group.runs {
        text.push_str(&details(run));
    }
    text
}

/// Renders a run's verdict in a line, and the reasons for which it is invalid or doubtful.
fn verdict(run: &LoadedRun) -> String {
    let summary = &run.summary;
    let label = if run.label.is_empty() { String::new() } else { format!("{}: ", run.label) };
    let mut text = format!("{label}**{}**: {}\n", headline::word(summary), markdown(&headline::meaning(summary)));
    if let Some(retries) = headline::retries(summary) {
        let _ = writeln!(text, "- {}", markdown(&retries));
    }
    for reason in &summary.invalid {
        let _ = writeln!(text, "- {}", markdown(reason));
    }
    for reason in summary.doubtful() {
        let _ = writeln!(text, "- doubtful: {}", markdown(reason));
    }
    text + "\n"
}

/// Renders a table.
pub(crate) fn table(sheet: &Table) -> String {
    let header = sheet.header.iter().map(|column| markdown(column)).collect::<Vec<_>>();
    let rules = (0..header.len()).map(|column| if column < sheet.words { "---" } else { "---:" });
    let mut text = format!("| {} |\n|{}|\n", header.join(" | "), rules.collect::<Vec<_>>().join("|"));
    for row in &sheet.rows {
        let cells = row.iter().map(cell).collect::<Vec<_>>();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text + "\n"
}

fn cell(cell: &Cell) -> String {
    let text = markdown(&cell.text);
    if cell.alarming { format!("**{text}**") } else { text }
}

/// Renders everything else about a run, folded.
fn details(run: &LoadedRun) -> String {
    let summary = &run.summary;
    let whose = if run.label.is_empty() { String::new() } else { format!(" of {}", run.label) };
    let mut text = format!("<details><summary>Machine, system and all figures{whose}</summary>\n\n");
    let _ = writeln!(text, "{}\n", markdown(&summary.about.title));
    for sheet in tables::details(summary) {
        let _ = writeln!(text, "**{}**\n", markdown(&sheet.title));
        text.push_str(&table(&sheet));
    }
    for evidence in &summary.evidence {
        let lines = evidence::lines(evidence);
        if !lines.is_empty() {
            let _ = writeln!(text, "**Evidence of the system's side**\n\n<pre>\n{}</pre>\n", preformatted(&lines));
        }
    }
    text + "</details>\n\n"
}

/// Escapes lines for a block of HTML and drops empty ones, each of which would end the block.
fn preformatted(lines: &str) -> String {
    lines.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{}\n", html(line.trim_end()))).collect()
}
