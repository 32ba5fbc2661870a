//! A comparison as one HTML file: the verdict first, then a figure of the changes, and all measures as a table.

use super::comparison_text::{meaning, reasons};
use super::escape::html;
use super::html::{Page, intervals, table, verdict_box};
use super::plot::ink::Ink;
use super::plot::intervals::IntervalRow;
use super::plot::ticks;
use super::table::Table;
use crate::baseline::compare::{Compared, Comparison};
use crate::baseline::judgement::Judgement;
use crate::baseline::measure::MeasureKind;

/// The most measures in the figure; those that a verdict is about come first.
const DRAWN: usize = 40;
/// The verdicts that are seen first, and all others after them.
const FIRST: [Judgement; 3] = [Judgement::Regressed, Judgement::Improved, Judgement::Indistinct];

/// Renders a comparison.
pub fn page(comparison: &Comparison) -> String {
    let mut page = Page::new(&format!("comparison of {}", comparison.scenario));
    let class = match comparison.verdict {
        Judgement::Regressed | Judgement::Missing | Judgement::Incomparable => "bad",
        Judgement::Improved | Judgement::Unchanged => "good",
        Judgement::Indistinct | Judgement::NotJudged => "plain",
    };
    page.add(&verdict_box(
        class,
        &comparison.verdict.to_string(),
        &meaning(comparison),
        reasons(comparison).into_iter(),
    ));
    let runs = |count: usize| if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
    let (base, head) = (runs(comparison.base_runs), runs(comparison.head_runs));
    let counts = ticks::digits(comparison.threshold * 100.0);
    page.add(&format!("<p class=\"about\">Base: {base}; head: {head}. A time counts from ±{counts}% on.</p>\n"));
    for note in &comparison.notes {
        page.add(&format!("<p class=\"note\">The sides differ: {}.</p>\n", html(note)));
    }
    let mut drawn: Vec<&Compared> = comparison.measures.iter().filter(|one| is_drawn(one)).collect();
    drawn.sort_by_key(|one| FIRST.iter().position(|verdict| *verdict == one.verdict).unwrap_or(FIRST.len()));
    let left = match drawn.len().saturating_sub(DRAWN) {
        0 => String::new(),
        left => format!(" {left} more measures are in the table alone."),
    };
    let rows: Vec<IntervalRow> =
        drawn.into_iter().take(DRAWN).filter_map(|one| row(one, comparison.threshold)).collect();
    let note = format!(
        "The line is the interval of a time: 95% for all together, 90% where it is unchanged. Counts have none. Errors \
         are shares, and in the table alone.{left}"
    );
    page.add(&intervals(&rows, &note));
    if !comparison.measures.is_empty() {
        page.add(&table(&Table { title: "Measures".to_owned(), ..comparison.table() }));
    }
    page.end()
}

/// Reports whether the change of a measure is known, and a share of the base.
fn is_drawn(one: &Compared) -> bool {
    one.change.is_some() && one.kind != MeasureKind::Share
}

fn row(one: &Compared, threshold: f64) -> Option<IntervalRow> {
    let estimate = one.change?;
    Some(IntervalRow {
        label: one.name.clone(),
        outcome: format!("{} {}", one.verdict, one.change(estimate)),
        ink: match one.verdict {
            Judgement::Regressed => Ink::Run(1),
            Judgement::Improved => Ink::Run(3),
            Judgement::Unchanged => Ink::Run(0),
            Judgement::Indistinct | Judgement::Missing | Judgement::NotJudged | Judgement::Incomparable => Ink::Muted,
        },
        estimate,
        interval: one.change_low.zip(one.change_high),
        limit: match one.kind {
            MeasureKind::Timed => Some(threshold),
            MeasureKind::Exact => one.tolerance,
            MeasureKind::Shown | MeasureKind::Share => None,
        },
    })
}
