//! A comparison as Markdown, for a pull request's comment and a job's summary: verdict first, then what changed, and
//! everything else folded.

use std::fmt::Write as _;

use super::compare::{Compared, Comparison};
use super::judgement::Judgement;

/// A comparison as a section of its own.
pub fn section(comparison: &Comparison) -> String {
    let mut text = format!("### {}: {}\n\n", code(&comparison.scenario), comparison.verdict);
    let turns = if comparison.in_turn { ", run in turn on one machine" } else { "" };
    let (base, head) = (comparison.base_runs, comparison.head_runs);
    let _ = writeln!(text, "{}; {base} × base and {head} × head{turns}.\n", meaning(comparison));
    for why in &comparison.incomparable {
        let _ = writeln!(text, "- incomparable: {}", code(why));
    }
    for note in &comparison.notes {
        let _ = writeln!(text, "- differs: {}", code(note));
    }
    let changed = |one: &&Compared| matches!(one.verdict, Judgement::Regressed | Judgement::Improved);
    let (mut told, rest): (Vec<_>, Vec<_>) = comparison.measures.iter().partition(changed);
    told.sort_by_key(|one| one.verdict == Judgement::Improved);
    if !told.is_empty() {
        text.push_str(&table(&told));
    }
    if !rest.is_empty() {
        let more = if told.is_empty() { "" } else { " more" };
        let _ = writeln!(text, "\n<details><summary>{}{more} measures</summary>", rest.len());
        let _ = writeln!(text, "{}\n</details>", table(&rest));
    }
    text.push('\n');
    text
}

/// The verdict in words.
fn meaning(comparison: &Comparison) -> String {
    let count = |verdict| comparison.measures.iter().filter(|one| one.verdict == verdict).count();
    let of = comparison.measures.len();
    match comparison.verdict {
        Judgement::Regressed => format!("**{} of {of} measures became worse**", count(Judgement::Regressed)),
        Judgement::Improved => format!("{} of {of} measures became better, none worse", count(Judgement::Improved)),
        Judgement::Unchanged => format!("none of {of} measures changed"),
        Judgement::Indistinct => {
            format!(
                "no change is seen, but the runs cannot rule one out for {} of {of} measures",
                count(Judgement::Indistinct)
            )
        }
        Judgement::Incomparable => {
            "base and head are not the same thing in the same place, so nothing is judged".to_owned()
        }
    }
}

fn table(measures: &[&Compared]) -> String {
    let mut text = "\n| measure | base | head | change | interval | noise floor | verdict |\n".to_owned();
    text.push_str("|---|---:|---:|---:|---:|---:|---|\n");
    for one in measures {
        let dash = || "–".to_owned();
        let interval = one.change_low.zip(one.change_high);
        let verdict = match one.verdict {
            Judgement::Regressed => "**regressed**".to_owned(),
            other => other.to_string(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {verdict} |",
            code(&one.name).replace('|', "\\|"),
            one.base.map_or_else(dash, |value| one.value(value)),
            one.head.map_or_else(dash, |value| one.value(value)),
            one.change.map_or_else(dash, |change| one.change(change)),
            interval.map_or_else(dash, |(low, high)| format!("{} … {}", one.change(low), one.change(high))),
            one.noise_floor.filter(|floor| *floor > 0.0).map_or_else(dash, |floor| one.floor(floor)),
        );
    }
    text
}

/// Text that a reader sees as it is, whatever it holds.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'").replace(['\n', '\r'], " "))
}
