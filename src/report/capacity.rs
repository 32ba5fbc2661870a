//! The search for a capacity as lines while it runs, and as text, Markdown and HTML: the answer first, then the curve.

use std::fmt::Write as _;

use super::escape::{html as escape_html, markdown as escape};
use super::html::{Page, figure, table as html_table, verdict_box};
use super::markdown::table as markdown_table;
use super::plot::ink::Ink;
use super::plot::{rates, ticks};
use super::table::{Cell, Table};
use super::{tables, text};
use crate::capacity::Capacity;
use crate::capacity::point::MeasuredPoint;
use crate::capacity::search::{Conclusion, PointVerdict};
use crate::summary::facts::ThresholdFacts;

/// The heights of the first chart, and of those below, wide and narrow.
const HIGH: (i32, i32) = (340, 300);
const LOW: (i32, i32) = (200, 200);
/// The columns of the table of points, with their widths in a terminal.
const COLUMNS: [(&str, usize); 12] = [
    ("point", 5),
    ("verdict", 11),
    ("rate/s", 9),
    ("right/s", 9),
    ("p50", 8),
    ("p95", 8),
    ("p99", 8),
    ("errors", 8),
    ("system", 7),
    ("PostgreSQL", 10),
    ("generator", 9),
    ("lock waits", 10),
];
/// The columns that hold words.
const WORDS: usize = 2;

/// Returns the head of the rows that are printed while the search runs.
pub fn head() -> String {
    line(COLUMNS.map(|(name, _)| name.to_owned()))
}

/// Describes a point in a row, and in further lines its breaches, and why it is invalid or ended early.
pub fn row(point: &MeasuredPoint) -> String {
    let mut text = line(cells(point));
    for reason in remarks(point) {
        let _ = write!(text, "\n{:>5}  {reason}", "");
    }
    text
}

fn line(cells: [String; COLUMNS.len()]) -> String {
    let padded = cells.iter().zip(COLUMNS).enumerate().map(|(column, (cell, (_, width)))| match column < WORDS {
        true => format!("{cell:<width$}"),
        false => format!("{cell:>width$}"),
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

fn cells(point: &MeasuredPoint) -> [String; COLUMNS.len()] {
    let none = || "–".to_owned();
    let time = |us: Option<f64>| us.map_or_else(none, ticks::duration);
    let cpus = |cpus: Option<f64>| cpus.map_or_else(none, |cpus| format!("{cpus:.2}"));
    let (figures, cpu) = (point.figures.as_ref(), point.cpu.as_ref());
    [
        point.number.to_string(),
        word(point.verdict).to_owned(),
        point.rate_per_s.to_string(),
        figures.map_or_else(none, |figures| format!("{:.1}", figures.achieved_per_s)),
        time(figures.and_then(|figures| figures.p50_us)),
        time(figures.and_then(|figures| figures.p95_us)),
        time(figures.and_then(|figures| figures.p99_us)),
        figures.and_then(|figures| figures.error_share).map_or_else(none, |share| format!("{:.3}%", share * 100.0)),
        cpus(cpu.and_then(|cpu| cpu.system)),
        cpus(cpu.and_then(|cpu| cpu.postgresql)),
        cpus(cpu.map(|cpu| cpu.generator)),
        point.lock_waits.map_or_else(none, |waits| format!("{:.1}", waits.mean)),
    ]
}

fn word(verdict: PointVerdict) -> &'static str {
    match verdict {
        PointVerdict::Within => "within",
        PointVerdict::Breached => "breached",
        PointVerdict::Invalid => "invalid",
        PointVerdict::Unplanned => "not planned",
    }
}

fn remarks(point: &MeasuredPoint) -> Vec<String> {
    let ended = point.ended_early.iter().map(|why| format!("ended early {why}"));
    let is_void = matches!(point.verdict, PointVerdict::Invalid | PointVerdict::Unplanned);
    let broken: Vec<_> = point.thresholds.iter().filter(|one| !is_void && one.passed == Some(false)).collect();
    let broken = (!broken.is_empty()).then(|| format!("breached: {}", breaches(broken).join("; ")));
    ended.chain(broken).chain(point.reasons.iter().filter(|_| is_void).cloned()).collect()
}

/// Describes thresholds that were breached.
fn breaches<'t>(thresholds: impl IntoIterator<Item = &'t ThresholdFacts>) -> Vec<String> {
    let described = thresholds.into_iter().map(|threshold| {
        let (measured, limit) = (tables::measured(threshold), tables::limit(threshold));
        format!("{} {measured}, limit {limit}", threshold.title())
    });
    described.collect()
}

/// Returns the answer in a sentence.
pub fn answer(capacity: &Capacity) -> String {
    let unit = &capacity.unit.plural;
    let why = capacity.why.as_deref().unwrap_or("no reason is known");
    match &capacity.conclusion {
        Conclusion::Between { held_per_s, breached_per_s } => format!(
            "{held_per_s} {unit} per second: that rate kept every threshold, and {breached_per_s} breached one, each \
             confirmed by two points ({:.1}% apart)",
            (breached_per_s / held_per_s - 1.0) * 100.0
        ),
        Conclusion::AtLeast { held_per_s } => {
            format!("at least {held_per_s} {unit} per second: the highest rate to try kept every threshold, twice")
        }
        Conclusion::Below { breached_per_s } => {
            format!("below {breached_per_s} {unit} per second: the lowest rate to try breached a threshold, twice")
        }
        Conclusion::Unmeasurable { held_per_s, at_per_s } => {
            let held = held_per_s.map_or_else(
                || "no rate could be confirmed".to_owned(),
                |per_s| format!("{per_s} {unit} per second kept every threshold, twice"),
            );
            let limit = match capacity.void_at(*at_per_s).is_some_and(|point| point.by_generator) {
                true => format!("at {at_per_s} the generator, not the system, was the limit"),
                false => format!("at {at_per_s} nothing could be judged"),
            };
            format!("not found: {held}, and {limit}: {why}")
        }
        Conclusion::Unfinished { held_per_s, not_held_per_s } => {
            let shown = |per_s: &Option<f64>| per_s.map_or_else(|| "none".to_owned(), |per_s| per_s.to_string());
            format!(
                "not found: {why}. Highest rate that held so far: {}; lowest that did not: {} (perhaps not confirmed)",
                shown(held_per_s),
                shown(not_held_per_s)
            )
        }
    }
}

/// Returns what is said beside the answer, each line with its kind.
fn beside(capacity: &Capacity) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for one in &capacity.translations {
        let count = grouped(one.count);
        lines.push(("that is", format!("{count} {} ({}); {}", one.of, one.formula, one.provided)));
    }
    if let Some(first) = &capacity.first_limit {
        lines.extend(first_limit(capacity).map(|limit| ("first limit", limit)));
        let beside = first.beside.iter().map(|line| ("beside it", line.clone()));
        lines.extend(beside);
        lines
            .push(("", "beside it means in the same window: an observation, which does not show the cause".to_owned()));
    }
    lines.extend(capacity.notes.iter().map(|note| ("note", note.clone())));
    lines
}

/// Describes the limit that was met first.
pub fn first_limit(capacity: &Capacity) -> Option<String> {
    let first = capacity.first_limit.as_ref()?;
    let all = [breaches(&first.thresholds), first.breaches.clone()].concat();
    Some(format!("at {}/s (point {}): {}", first.rate_per_s, first.point, all.join("; ")))
}

/// Writes a number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group).into_owned()).collect::<Vec<_>>().join(",")
}

/// Returns the points as a table.
fn points(capacity: &Capacity) -> Table {
    let header = COLUMNS.map(|(name, _)| name);
    let mut table = Table::new("Points, in the order of their measurement", WORDS, &header);
    for point in &capacity.points {
        let alarming = point.verdict != PointVerdict::Within;
        let cells = cells(point).into_iter().enumerate();
        table.rows.push(cells.map(|(column, text)| Cell { text, alarming: alarming && column == 1 }).collect());
    }
    table
}

/// Renders a capacity as text.
pub fn text(capacity: &Capacity) -> String {
    let mut text = format!("{:<12} {}\n", "capacity", answer(capacity));
    for (word, line) in beside(capacity) {
        let _ = writeln!(text, "{word:<12} {line}");
    }
    let _ = writeln!(text, "\n{}", points(capacity));
    for point in &capacity.points {
        for remark in remarks(point) {
            let _ = writeln!(text, "point {}: {remark}", point.number);
        }
    }
    text
}

/// Renders a capacity as a section of Markdown.
pub fn markdown(capacity: &Capacity) -> String {
    let mut text = format!("### Capacity, {}\n\n{}\n\n", escape(&capacity.scenario), escape(&answer(capacity)));
    for (word, line) in beside(capacity) {
        let separator = if word.is_empty() { "" } else { ": " };
        let _ = writeln!(text, "- {word}{separator}{}", escape(&line));
    }
    let _ = writeln!(text, "\n{}", markdown_table(&points(capacity)));
    for point in &capacity.points {
        for remark in remarks(point) {
            let _ = writeln!(text, "- point {}: {}", point.number, escape(&remark));
        }
    }
    text
}

/// Renders a capacity as one HTML file, with the curve.
pub fn html(capacity: &Capacity) -> String {
    let mut page = Page::new(&format!("capacity of {}", capacity.scenario));
    let class = match capacity.conclusion {
        Conclusion::Between { .. } | Conclusion::AtLeast { .. } => "good",
        _ => "bad",
    };
    let lines = beside(capacity).into_iter().map(|(word, line)| {
        let separator = if word.is_empty() { "" } else { ": " };
        format!("{word}{separator}{line}")
    });
    page.add(&verdict_box(class, "Capacity", &answer(capacity), lines));
    let machine = format!("{} × {}", capacity.machine.cores, capacity.machine.cpu_model);
    let plans = capacity.plans.iter().map(|plan| plan.title.clone()).collect::<Vec<_>>().join("; ");
    let about = format!("{plans} – {}; {machine}", text::system(&capacity.system));
    page.add(&format!("<p class=\"about\">{}</p>\n", escape_html(&about)));
    let charts = rates::charts(capacity).into_iter().enumerate().map(|(place, chart)| {
        let (wide, narrow) = if place == 0 { HIGH } else { LOW };
        (chart, wide, narrow)
    });
    let charts: Vec<_> = charts.collect();
    if let Some((first, ..)) = charts.first() {
        let grounds: &[_] =
            if first.bands.is_empty() { &[] } else { &[(Ink::Stall, "breached, confirmed by two points")] };
        let note = "Lines go through the middle value at each rate; each valid point has a mark. Invalid points are not \
                    drawn.";
        page.add(&figure("rates", &charts, grounds, note));
    }
    page.add(&html_table(&points(capacity)));
    let remarks = capacity.points.iter().flat_map(|point| {
        remarks(point).into_iter().map(|remark| format!("<li>point {}: {}</li>", point.number, escape_html(&remark)))
    });
    let remarks: String = remarks.collect();
    if !remarks.is_empty() {
        page.add(&format!("<ul>{remarks}</ul>\n"));
    }
    page.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        assert_eq!([0, 999, 1_000, 81_216_000].map(grouped), ["0", "999", "1,000", "81,216,000"]);
    }
}
