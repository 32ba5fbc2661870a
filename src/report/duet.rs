//! A duet as text, Markdown and HTML: the verdict first, then one table, and in HTML a figure of it, the blocks, and what
//! disturbed them.

use std::fmt::Write as _;

use super::escape::{html as escape_html, markdown as escape};
use super::html::{LOW, Page, WIDE, figure, intervals, table as html_table, verdict_box};
use super::markdown::table as markdown_table;
use super::plot::ink::Ink;
use super::plot::intervals::{IntervalRow, percent};
use super::plot::{blocks as plot, ticks};
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

/// Renders a duet as one HTML file: the verdict, each measure's change with its interval, the blocks, and what disturbed
/// them.
pub fn html(duet: &Duet) -> String {
    let mut page = Page::new(&format!("duet of {}", duet.scenario));
    let class = match duet.verdict {
        DuetVerdict::Regressed | DuetVerdict::Invalid => "bad",
        DuetVerdict::Improved | DuetVerdict::Unchanged => "good",
        DuetVerdict::Indistinct => "plain",
    };
    let reasons = duet.invalid.iter().chain(&duet.missing).cloned();
    page.add(&verdict_box(class, &duet.verdict.to_string(), &meaning(duet), reasons));
    let plans = duet.plans.iter().map(|plan| plan.title.clone()).collect::<Vec<_>>().join("; ");
    let about = format!("{plans} – {} × {}", duet.machine.cores, duet.machine.cpu_model);
    let about = [("", about)].into_iter().chain(systems(duet));
    for (side, described) in about {
        let side = if side.is_empty() { String::new() } else { format!("<b>{side}</b>: ") };
        page.add(&format!("<p class=\"about\">{side}{}</p>\n", escape_html(&described)));
    }
    page.add("<h2>What differs</h2>\n");
    let rows: Vec<IntervalRow> = duet.measures.iter().filter_map(interval_row).collect();
    page.add(&intervals(&rows, "The line is the interval of 95%. Errors are shares, and in the table alone."));
    page.add(&html_table(&Table { title: "Measures".to_owned(), ..measures(&duet.measures) }));
    let statements = statements(&duet.statements);
    if !statements.rows.is_empty() {
        page.add(&html_table(&statements));
    }
    page.add("<h2>Block by block</h2>\n");
    for (place, plan) in duet.plans.iter().enumerate() {
        let changes = plot::changes(&duet.blocks, &plan.name, duet.settings.threshold);
        let charts: Vec<_> = [(changes, WIDE.height), (plot::times(&duet.blocks, &plan.name), LOW)]
            .into_iter()
            .filter_map(|(chart, height)| Some((chart?, height, height)))
            .collect();
        if !charts.is_empty() {
            if duet.plans.len() > 1 {
                page.add(&format!("<h3>{}</h3>\n", escape_html(&plan.name)));
            }
            let note = "Both systems are started anew for each block, and loaded at once.";
            page.add(&figure(&format!("b{place}"), &charts, &[], note));
        }
    }
    page.add(&format!("<details><summary>Blocks as a table</summary>\n{}</details>\n", html_table(&blocks(duet))));
    page.add("<h2>What disturbed the run</h2>\n");
    if let Some(others) = plot::others(&duet.blocks) {
        let note = "Both sides meet the same others, so that these cancel out of the change, but for chance.";
        page.add(&figure("others", &[(others, LOW, LOW)], &[], note));
    }
    let noted = duet.repeated.iter().map(|line| ("repeated: ", line)).chain(duet.notes.iter().map(|line| ("", line)));
    let noted: String = noted.map(|(word, line)| format!("<li>{word}{}</li>\n", escape_html(line))).collect();
    page.add(&if noted.is_empty() {
        "<p>Nothing was noted.</p>\n".to_owned()
    } else {
        format!("<ul>\n{noted}</ul>\n")
    });
    page.end()
}

/// Returns a measure as a row of the figure; `None` of one whose change is not known, or no share of the base.
fn interval_row(one: &Judged) -> Option<IntervalRow> {
    let estimate = one.change?;
    let verdict = one.verdict.map_or_else(|| "not judged".to_owned(), |verdict| verdict.to_string());
    let ink = match one.verdict {
        Some(DuetVerdict::Regressed) => Ink::Run(1),
        Some(DuetVerdict::Improved) => Ink::Run(3),
        Some(DuetVerdict::Unchanged) => Ink::Run(0),
        Some(DuetVerdict::Indistinct | DuetVerdict::Invalid) | None => Ink::Muted,
    };
    Some(IntervalRow {
        label: format!("{} {}", one.of, one.measure),
        outcome: format!("{verdict} {}", percent(estimate)),
        ink,
        estimate,
        interval: one.interval.map(|[low, high]| (low, high)),
        limit: one.limit,
    })
}

/// Lists the blocks, with the answers of both sides to each workload.
fn blocks(duet: &Duet) -> Table {
    let header = [
        "block",
        "started first",
        "workload",
        "p50 ms, base",
        "head",
        "change",
        "p95 ms, base",
        "head",
        "change",
        "not right, base",
        "head",
        "others, processors",
    ];
    let mut table = Table::new("Blocks", 3, &header);
    let ms = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), |us| format!("{:.3}", us / 1e3));
    for (block, workload) in duet.blocks.iter().flat_map(|block| block.workloads.iter().map(move |one| (block, one))) {
        let Sides { base, head } = &workload.answers;
        let change = |measure: &str| {
            workload.logarithms.get(measure).map_or_else(|| "–".to_owned(), |logarithm| percent(logarithm.exp_m1()))
        };
        let row = [
            block.number.to_string(),
            block.first.to_owned(),
            workload.name.clone(),
            ms(base.p50_us),
            ms(head.p50_us),
            change("response_p50_us"),
            ms(base.p95_us),
            ms(head.p95_us),
            change("response_p95_us"),
            (base.scheduled - base.right).to_string(),
            (head.scheduled - head.right).to_string(),
            block.others.map_or_else(|| "–".to_owned(), |others| format!("{others:.2}")),
        ];
        table.rows.push(row.map(Cell::from).into());
    }
    table
}

/// Returns what is said beside the verdict, each line with its kind.
fn remarks(duet: &Duet) -> impl Iterator<Item = (&'static str, &String)> {
    let kinds =
        [("invalid", &duet.invalid), ("missing", &duet.missing), ("repeated", &duet.repeated), ("note", &duet.notes)];
    kinds.into_iter().flat_map(|(word, lines)| lines.iter().map(move |line| (word, line)))
}

/// Returns the meaning of the verdict in a sentence.
pub fn meaning(duet: &Duet) -> String {
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
    let header = [
        "of",
        "measure",
        "verdict",
        "base",
        "head",
        "change",
        "interval of 95%",
        "counts from",
        "p",
        "found 19 times in 20 from",
    ];
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
            one.limit.map_or_else(none, |limit| least_change(one, limit)),
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
        Some(value) if is_share(one) => format!("{:.3}%", value * 100.0),
        Some(value) if value >= 1_000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// Formats the least change that counts.
fn least_change(one: &Judged, limit: f64) -> String {
    let unit = if is_share(one) { " pp" } else { "%" };
    format!("±{}{unit}", ticks::digits(limit * 100.0))
}

fn is_share(one: &Judged) -> bool {
    one.measure.ends_with("_share")
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}
