//! The report of a run as the summary of a job of GitHub Actions: Markdown, with the course of the run in blocks.
//!
//! GitHub drops `<svg>` there, and pictures of `data:` addresses: of pictures only those of `http`, `https` and files of
//! the repository are left (<https://github.com/gjtorikian/html-pipeline>, its list of what is allowed). So the picture
//! is a file beside the results.

use std::fmt::Write as _;

use super::escape::markdown;
use super::plot::ticks;
use super::runs::ScenarioRuns;
use crate::summary::WorkloadResults;
use crate::summary::facts::SecondFacts;

/// The most columns of a chart.
const COLUMNS: usize = 60;
/// The heights of a column.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Renders the report of runs, and names their picture, a file on the machine of the job, if they have one.
pub fn markdown_of(groups: &[ScenarioRuns], picture: Option<&str>) -> String {
    let mut text = super::markdown::report(groups);
    for (plan, results) in groups.iter().flat_map(|group| &group.runs).flat_map(|run| run.summary.measured()) {
        if let Some(chart) = chart(results) {
            // Nothing in the block comes from outside.
            let _ = writeln!(text, "**{}, second by second**\n\n```text\n{chart}```\n", markdown(&plan.name));
        }
    }
    if let Some(picture) = picture {
        let _ = writeln!(
            text,
            "The picture is {}: GitHub shows none here. Keep its folder as an artifact.\n",
            markdown(picture)
        );
    }
    text
}

/// Draws the window second by second, several of them a column where it is long; `None` if it has none.
fn chart(results: &WorkloadResults) -> Option<String> {
    let each = results.timeline.len().div_ceil(COLUMNS).max(1);
    let columns: Vec<&[SecondFacts]> = results.timeline.chunks(each).collect();
    let longest = |of: fn(&SecondFacts) -> Option<u64>| -> Vec<Option<f64>> {
        columns.iter().map(|seconds| Some(seconds.iter().filter_map(of).max()? as f64)).collect()
    };
    let times = [
        ("slowest", longest(|second| second.max_us)),
        ("p95", longest(|second| second.p95_us)),
        ("p50", longest(|second| second.p50_us)),
    ];
    let rates: Vec<f64> = columns
        .iter()
        .map(|seconds| seconds.iter().map(|second| second.ok).sum::<u64>() as f64 / seconds.len() as f64)
        .collect();
    let most = rates.iter().copied().fold(f64::NAN, f64::max);
    let (from, to) = ticks::log_range(times.iter().flat_map(|(_, values)| values.iter().copied().flatten()));
    let share = |us: f64| (us / from).log10() / (to / from).log10();
    let mut text = String::new();
    for (name, values) in times {
        let _ = writeln!(text, "{name:<8}{}", row(values.into_iter().map(|value| value.map(share))));
    }
    let _ = writeln!(text, "answers {}", row(rates.iter().map(|rate| Some(rate / most.max(1.0)))));
    let (from, to, most) = (ticks::duration(from), ticks::duration(to), ticks::digits(most));
    let scale = format!("each column {each} s, with the highest times in it: from {from} (▁) to {to} (█), log;");
    (!columns.is_empty()).then(|| format!("{text}{scale}\nright answers from 0/s to {most}/s\n"))
}

/// Draws shares of the full height, 0 to 1.
fn row(shares: impl Iterator<Item = Option<f64>>) -> String {
    let block = |share: f64| BLOCKS[((share * BLOCKS.len() as f64) as usize).min(BLOCKS.len() - 1)];
    shares.map(|share| share.map_or(' ', block)).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_named_only_where_there_is_one() {
        assert!(markdown_of(&[], Some("results/summary.svg")).starts_with("The picture is results/summary.svg: "));
        assert_eq!(markdown_of(&[], None), "");
    }

    #[test]
    fn a_row_has_a_block_for_each_share() {
        assert_eq!(row([Some(0.0), Some(0.5), None, Some(1.0), Some(2.0), Some(-1.0), None].into_iter()), "▁▅ ██▁");
        assert_eq!(row([None].into_iter()), "");
    }
}
