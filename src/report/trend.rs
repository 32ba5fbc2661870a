//! The trend of a measure as text and as one HTML file: the changes first, then the runs.

use std::fmt::Write as _;

use super::escape::html as escape;
use super::history::{commit, minute, place};
use super::html::{Page, figure, table as html_table, verdict_box};
use super::plot::{ticks, trend as plot};
use super::table::{Cell, Table};
use super::text::fitted;
use crate::baseline::Judgement;
use crate::baseline::measure::MeasureKind;
use crate::baseline::statistics::FALSE_ALARMS;
use crate::history::change_points::{LEAST_STRETCH, MOST_VALUES};
use crate::history::store::short;
use crate::history::trend::{Trend, TrendChange, TrendRun};

/// The heights of the chart, wide and narrow.
const HEIGHTS: (i32, i32) = (340, 300);
/// The characters of a line of the small plot.
const PLOT_COLUMNS: usize = 80;
/// The heights of a run in the small plot; one that does not count; the mark of a change.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NOT_COUNTED: char = '×';
const CHANGE: char = '│';
/// The most runs that do not count of which the reason is given as text.
const REASONS: usize = 5;

/// Renders a trend as text.
pub fn text(trend: &Trend) -> String {
    let rows = facts(trend).into_iter().map(|(word, line)| format!("{word:<12} {line}\n"));
    let mut text = fitted(&rows.collect::<String>());
    let plot = sparkline(trend);
    if !plot.is_empty() {
        let _ = writeln!(text, "\n{plot}");
    }
    if !trend.changes.is_empty() {
        let _ = writeln!(text, "\n{}", changes(trend));
        for line in systems(trend) {
            let _ = writeln!(text, "{line}");
        }
    }
    text + &fitted(&format!("\n{:<12} {}\n{:<12} {}\n", "changes", conclusion(trend), "", method()))
}

/// Renders a trend as one HTML file, with a figure.
pub fn html(trend: &Trend) -> String {
    let mut page = Page::new(&format!("trend of {}", trend.scenario));
    let class = match trend.changes.last().map(|change| change.verdict) {
        Some(Judgement::Regressed) => "bad",
        Some(Judgement::Improved) => "good",
        _ => "plain",
    };
    let lines = facts(trend).into_iter().map(|(word, line)| {
        let separator = if word.is_empty() { "" } else { ": " };
        format!("{word}{separator}{line}")
    });
    page.add(&verdict_box(class, "Changes", &conclusion(trend), lines));
    if !trend.changes.is_empty() {
        page.add(&html_table(&changes(trend)));
        let systems = systems(trend).into_iter().map(|line| format!("<li>{}</li>", escape(&line)));
        let systems: String = systems.collect();
        if !systems.is_empty() {
            page.add(&format!("<ul>{systems}</ul>\n"));
        }
    }
    let name = |place: usize| commit(&trend.runs[place].kept);
    if let Some(chart) = plot::chart(trend, |one| value(trend, one), name, &conclusion(trend)) {
        page.add(&figure("trend", &[(chart, HEIGHTS.0, HEIGHTS.1)], &[], &format!("{}.", method())));
    }
    page.add(&html_table(&runs(trend)));
    page.end()
}

/// Returns the lines before the changes, each with its kind.
fn facts(trend: &Trend) -> Vec<(&'static str, String)> {
    let (first, last) = (&trend.runs[0], &trend.runs[trend.runs.len() - 1]);
    let span = match trend.runs.len() {
        1 => format!("1 run, of {}", minute(&last.kept)),
        count => format!("{count} runs, {} to {}", minute(&first.kept), minute(&last.kept)),
    };
    let mut lines =
        vec![("trend", format!("{} of {}: {span} (UTC)", trend.measure, trend.scenario)), ("place", place(&last.kept))];
    for other in &trend.others {
        let runs = counted(other.runs, "run");
        let why = other.differences.join("; ");
        lines.push(("left out", format!("{runs} of series {}, which differ in {why}", other.number)));
    }
    for why in &trend.unread {
        lines.push(("left out", why.clone()));
    }
    let void: Vec<&TrendRun> = trend.runs.iter().filter(|run| run.left_out.is_some()).collect();
    for run in void.iter().take(REASONS) {
        let why = run.left_out.as_deref().unwrap_or_default();
        lines.push(("not counted", format!("{}: {why}", short(&run.kept.id))));
    }
    if void.len() > REASONS {
        lines.push(("", format!("and {} more", void.len() - REASONS)));
    }
    if trend.runs.len() - void.len() > MOST_VALUES {
        lines.push(("not counted", format!("runs before the newest {MOST_VALUES} of those that could be")));
    }
    lines
}

/// Draws runs as bars, with the changes between them; empty where no run counts.
fn sparkline(trend: &Trend) -> String {
    let counted = trend.counted();
    let values = || counted.iter().map(|(_, value)| *value);
    let (least, most) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), one| (a.min(one), b.max(one)));
    if counted.is_empty() {
        return String::new();
    }
    let mut bars = Vec::new();
    for (place, run) in trend.runs.iter().enumerate() {
        if trend.changes.iter().any(|change| change.between.1 == place) {
            bars.push(CHANGE);
        }
        bars.push(match run.value.filter(|_| run.left_out.is_none()) {
            None => NOT_COUNTED,
            Some(_) if least == most => BARS[0],
            Some(value) => {
                let height = (value - least) / (most - least) * BARS.len() as f64;
                // Runs before those that the search takes may lie outside.
                BARS[(height.max(0.0) as usize).min(BARS.len() - 1)]
            }
        });
    }
    let lines = bars.chunks(PLOT_COLUMNS).map(|line| format!("{:<12} {}\n", "", line.iter().collect::<String>()));
    let mut plot: String = lines.collect();
    let [low, high] = [least, most].map(|one| value(trend, one));
    let _ = write!(plot, "{:<12} {} {low} to {} {high}", "", BARS[0], BARS[BARS.len() - 1]);
    let is_void = trend.runs.iter().any(|run| run.left_out.is_some());
    plot.push_str(if trend.changes.is_empty() { "" } else { "; │ a change point" });
    plot.push_str(if is_void { "; × a run that does not count" } else { "" });
    plot
}

/// Returns the changes as a table.
fn changes(trend: &Trend) -> Table {
    let header = ["first run after", "commits", "before", "after", "change", "95% interval", "p", "verdict"];
    let mut table = Table::new("Changes", 2, &header);
    for one in &trend.changes {
        let [before, after] = ends(trend, one).map(|run| &run.kept);
        let percent = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |share| change(trend, share));
        let interval = one
            .interval
            .map_or_else(|| "–".to_owned(), |(low, high)| format!("{} … {}", change(trend, low), change(trend, high)));
        let row = [
            minute(after),
            format!("{} → {}", commit(before), commit(after)),
            value(trend, one.median_before),
            value(trend, one.median_after),
            percent(one.change),
            interval,
            format!("{:.3}", one.p),
        ];
        let verdict = Cell { text: one.verdict.to_string(), alarming: one.verdict == Judgement::Regressed };
        table.rows.push(row.map(Cell::from).into_iter().chain([verdict]).collect());
    }
    table
}

/// Returns the changes with which the system's version changed too, a line each.
fn systems(trend: &Trend) -> Vec<String> {
    let each = trend.changes.iter().filter_map(|one| {
        let [before, after] = ends(trend, one).map(|run| &run.kept);
        (before.system != after.system).then(|| format!("{}: {} → {}", minute(after), before.system, after.system))
    });
    each.collect()
}

fn ends<'t>(trend: &'t Trend, change: &TrendChange) -> [&'t TrendRun; 2] {
    [&trend.runs[change.between.0], &trend.runs[change.between.1]]
}

/// Returns all runs as a table, the newest first.
fn runs(trend: &Trend) -> Table {
    let header = ["run", "ended (UTC)", "verdict", "commit", "system", "", "value"];
    let mut table = Table::new(format!("Runs: {}", trend.measure), 6, &header);
    for run in trend.runs.iter().rev() {
        let kept = &run.kept;
        let row = [
            short(&kept.id).to_owned(),
            minute(kept),
            kept.verdict.label().to_owned(),
            commit(kept),
            kept.system.clone(),
            run.left_out.as_ref().map_or_else(String::new, |why| format!("not counted: {why}")),
            run.value.map_or_else(|| "–".to_owned(), |one| value(trend, one)),
        ];
        table.rows.push(row.map(Cell::from).into());
    }
    table
}

fn conclusion(trend: &Trend) -> String {
    let of = counted(trend.counted().len(), "run");
    match trend.changes.last() {
        None => format!("none among {of}"),
        Some(last) => {
            let after = commit(&ends(trend, last)[1].kept);
            let by = last.change.map_or_else(String::new, |share| format!(" by {}", change(trend, share)));
            let count = counted(trend.changes.len(), "change point");
            format!("{count} among {of}; the last at {after}: {}{by}", last.verdict)
        }
    }
}

/// Describes the search.
fn method() -> String {
    format!(
        "E-divisive means (ICPE 2020): {LEAST_STRETCH} runs or more a side, eight in all; a change in {:.0}% of \
         series without one",
        FALSE_ALARMS * 100.0
    )
}

/// Writes a value with the unit that the measure's name ends in.
fn value(trend: &Trend, value: f64) -> String {
    let ends_in = |unit: &str| trend.measure.ends_with(unit);
    if trend.kind == MeasureKind::Share {
        format!("{}%", ticks::digits(value * 100.0))
    } else if ends_in("_us") {
        ticks::duration(value)
    } else if ends_in("_s") && !ends_in("_per_s") {
        ticks::duration(value * 1e6)
    } else {
        ticks::digits(value)
    }
}

fn change(trend: &Trend, change: f64) -> String {
    let unit = if trend.kind == MeasureKind::Share { " pp" } else { "%" };
    format!("{:+.1}{unit}", change * 100.0)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
