//! A duet as text and as Markdown: the verdict first, then one table.

use std::fmt::Write as _;

use super::escape::markdown as escape;
use super::markdown::table as markdown_table;
use super::table::{Cell, Table};
use crate::duet::block::{Block, StatementPair};
use crate::duet::verdict::{DuetVerdict, Judged, tolerance};
use crate::duet::{Duet, Sides};
use crate::system::SystemDescription;

/// The least calls or shared blocks per right answer that a difference is a share of: a background loop has fewer.
const LEAST: f64 = 0.1;
/// The most statements that are listed.
const MOST_STATEMENTS: usize = 12;

/// Describes a block in a line.
pub fn block_line(block: &Block, of: usize) -> String {
    let workloads = block.workloads.iter().map(|workload| {
        let answers = &workload.answers;
        let p50 = match (answers.base.p50_us, answers.head.p50_us) {
            (Some(base), Some(head)) => format!("p50 {:.3} and {:.3} ms", base / 1e3, head / 1e3),
            _ => "too few right answers".to_owned(),
        };
        // The mean of seconds, which the quotient of the two is not.
        let change = workload.logarithms.get("response_p50_us");
        let change = change.map(|one| format!(", second by second {}", percent(one.exp_m1())));
        format!("{} {p50}{}", workload.name, change.unwrap_or_default())
    });
    format!("{:<12} {}", format!("block {}/{of}", block.number), workloads.collect::<Vec<_>>().join("; "))
}

/// Renders a duet as text.
pub fn text(duet: &Duet) -> String {
    let mut text = format!("{:<12} {}: {}\n", "verdict", duet.verdict, meaning(duet));
    for (word, line) in remarks(duet) {
        let _ = writeln!(text, "{word:<12} {line}");
    }
    for (side, described) in systems(duet) {
        let _ = writeln!(text, "{side:<12} {described}");
    }
    let _ = writeln!(text, "\n{}", measures(&duet.measures));
    let statements = statements(&duet.statements);
    if !statements.rows.is_empty() {
        let _ = writeln!(text, "\n{}\n{statements}", statements.title);
    }
    text
}

/// Renders a duet as a section of Markdown.
pub fn markdown(duet: &Duet) -> String {
    let mut text = format!("### {}: {}\n\n{}\n\n", escape(duet.scenario), duet.verdict, escape(&meaning(duet)));
    for (word, line) in remarks(duet) {
        let _ = writeln!(text, "- {word}: {}", escape(line));
    }
    let _ = writeln!(text, "\n{}", markdown_table(&measures(&duet.measures)));
    let statements = statements(&duet.statements);
    if !statements.rows.is_empty() {
        let _ = writeln!(
            text,
            "<details><summary>{}</summary>\n\n{}\n</details>\n",
            escape(&statements.title),
            markdown_table(&statements)
        );
    }
    for (side, described) in systems(duet) {
        let _ = writeln!(text, "{side}: {}  ", escape(&described));
    }
    text
}

/// Returns what is said beside the verdict, each line with its kind.
fn remarks(duet: &Duet) -> impl Iterator<Item = (&'static str, &String)> {
    let kinds =
        [("invalid", &duet.invalid), ("missing", &duet.missing), ("repeated", &duet.repeated), ("note", &duet.notes)];
    kinds.into_iter().flat_map(|(word, lines)| lines.iter().map(move |line| (word, line)))
}

/// Returns the meaning of the verdict in a sentence.
fn meaning(duet: &Duet) -> String {
    let with = |verdict| -> Vec<String> {
        let such = duet.measures.iter().filter(|one| one.verdict == Some(verdict));
        such.map(|one| match one.change {
            Some(change) => format!("{} {} by {}", one.of, one.measure, percent(change)),
            None => format!("{} {}", one.of, one.measure),
        })
        .collect()
    };
    let blocks = duet.blocks.len();
    let bound = percent(duet.settings.threshold);
    match duet.verdict {
        DuetVerdict::Regressed => format!("the head is worse: {}", with(DuetVerdict::Regressed).join(", ")),
        DuetVerdict::Improved => format!("the head is better: {}", with(DuetVerdict::Improved).join(", ")),
        DuetVerdict::Unchanged => format!("in {blocks} blocks nothing differs by as much as would count ({bound})"),
        DuetVerdict::Indistinct => {
            format!(
                "no difference found, but {blocks} blocks cannot rule one out for {}",
                with(DuetVerdict::Indistinct).join(", ")
            )
        }
        DuetVerdict::Invalid => "nothing may be concluded".to_owned(),
    }
}

/// Describes both systems, each with the settings that the other does not have.
fn systems(duet: &Duet) -> Vec<(&'static str, String)> {
    let Some(systems) = &duet.systems else { return Vec::new() };
    let describe = |system: &SystemDescription, other: &SystemDescription| {
        let mut text = format!("{} {}", system.kind, system.version);
        for (of, sha256) in [("", &system.binary_sha256), ("migrations of ", &system.migrations_sha256)] {
            let _ = sha256.as_ref().map(|sha256| write!(text, ", {of}SHA-256 {sha256}"));
        }
        let _ = write!(text, ", on {}", system.store);
        let _ = network(system).map(|network| write!(text, ", network: {network}"));
        let theirs = other.certctl_settings();
        let differing = system.certctl_settings().into_iter().flatten();
        let differing = differing.filter(|(name, value)| theirs.and_then(|one| one.get(*name)) != Some(*value));
        let settings = super::text::settings(differing);
        if !settings.is_empty() {
            let _ = write!(text, ", with {settings}");
        }
        text
    };
    vec![("base", describe(&systems.base, &systems.head)), ("head", describe(&systems.head, &systems.base))]
}

fn network(system: &SystemDescription) -> Option<&str> {
    system.settings.get("network")?.as_str()
}

fn measures(measures: &[Judged]) -> Table {
    let header =
        ["of", "measure", "verdict", "base", "head", "change", "interval of 95%", "p", "found 19 times in 20 from"];
    let mut table = Table::new("", 3, &header);
    for one in measures {
        let verdict = one.verdict.map_or("(not judged)".to_owned(), |verdict| verdict.to_string());
        let alarming = one.verdict == Some(DuetVerdict::Regressed);
        let none = || "–".to_owned();
        let cells = [
            value(one, one.values.base),
            value(one, one.values.head),
            one.change.map_or_else(none, percent),
            one.interval.map_or_else(none, |[low, high]| format!("{} … {}", percent(low), percent(high))),
            one.p.map_or_else(none, probability),
            one.detectable.map_or_else(none, percent),
        ];
        let words = [one.of.as_str().into(), one.measure.into(), Cell { text: verdict, alarming }];
        table.rows.push(words.into_iter().chain(cells.map(Into::into)).collect());
    }
    table
}

/// Lists the statements that differ in calls, or in blocks of shared buffers, by more than what counts in their sum.
fn statements(pairs: &[StatementPair]) -> Table {
    let title = "statements whose calls or shared blocks per right answer differ";
    let header = ["statement", "calls, base", "head", "rows, base", "head", "shared blocks, base", "head"];
    let mut table = Table::new(title, 1, &header);
    let differs = |cost, sides: &Sides<f64>| {
        (sides.head - sides.base).abs() > tolerance(cost) * sides.base.max(sides.head).max(LEAST)
    };
    let pairs = pairs.iter();
    let pairs = pairs.filter(|pair| differs("sql_calls", &pair.calls) || differs("shared_blocks", &pair.shared_blocks));
    for pair in pairs.take(MOST_STATEMENTS) {
        let figures = [pair.calls, pair.rows, pair.shared_blocks].into_iter().flat_map(|one| [one.base, one.head]);
        let figures = figures.map(|figure| format!("{figure:.3}").into());
        table.rows.push(std::iter::once(pair.outline.as_str().into()).chain(figures).collect());
    }
    table
}

fn value(one: &Judged, value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if one.measure.ends_with("_share") => format!("{:.3}%", value * 100.0),
        Some(value) if value >= 1_000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn percent(change: f64) -> String {
    format!("{:+.1}%", change * 100.0)
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}
