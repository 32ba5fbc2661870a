//! A comparison as Markdown, for a pull request's comment and a job's summary: the verdict first, then the changes, and
//! everything else folded.

use std::fmt::Write as _;

use super::comparison_text::meaning;
use super::escape::markdown;
use super::markdown::table as sheet_table;
use super::table::{Cell, Table};
use crate::baseline::compare::{Compared, Comparison};
use crate::baseline::judgement::Judgement;

/// Renders a comparison as a section of its own.
pub fn section(comparison: &Comparison) -> String {
    let mut text = format!("### {}: {}\n\n", markdown(&comparison.scenario), comparison.verdict);
    let (base, head) = (comparison.base_runs, comparison.head_runs);
    let bold = if comparison.verdict == Judgement::Regressed { "**" } else { "" };
    let _ = writeln!(text, "{bold}{}{bold}; {base} × base and {head} × head.\n", meaning(comparison));
    for why in &comparison.incomparable {
        let _ = writeln!(text, "- incomparable: {}", markdown(why));
    }
    for why in &comparison.missing {
        let _ = writeln!(text, "- missing: {}", markdown(why));
    }
    for note in &comparison.notes {
        let _ = writeln!(text, "- differs: {}", markdown(note));
    }
    let order = [Judgement::Regressed, Judgement::Missing, Judgement::Improved];
    let place = |one: &&Compared| order.iter().position(|verdict| *verdict == one.verdict);
    let (mut changes, rest): (Vec<_>, Vec<_>) = comparison.measures.iter().partition(|one| place(one).is_some());
    changes.sort_by_key(place);
    if !changes.is_empty() {
        text.push_str(&table(&changes));
    }
    if !rest.is_empty() {
        let more = if changes.is_empty() { "" } else { " more" };
        let _ = writeln!(text, "\n<details><summary>{}{more} measures</summary>", rest.len());
        let _ = writeln!(text, "{}\n</details>", table(&rest));
    }
    text.push('\n');
    text
}

fn table(measures: &[&Compared]) -> String {
    let header = ["measure", "verdict", "base", "head", "change", "interval", "tolerance"];
    let rows = measures.iter().map(|one| {
        let interval = one.change_low.zip(one.change_high);
        let reason = one.reason.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let verdict = Cell { text: format!("{}{reason}", one.verdict), alarming: one.verdict == Judgement::Regressed };
        let figures = [
            one.base.map(|value| one.value(value)),
            one.head.map(|value| one.value(value)),
            one.change.map(|change| one.change(change)),
            interval.map(|(low, high)| format!("{} … {}", one.change(low), one.change(high))),
            one.tolerance.map(|tolerance| one.tolerance_text(tolerance)),
        ];
        let figures = figures.into_iter().map(|figure| figure.unwrap_or_else(|| "–".to_owned()).into());
        [one.name.as_str().into(), verdict].into_iter().chain(figures).collect()
    });
    let header = header.map(Into::into).to_vec();
    format!("\n{}", sheet_table(&Table { title: String::new(), header, words: 2, rows: rows.collect() }))
}
