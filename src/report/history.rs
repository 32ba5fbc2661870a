//! The runs that are kept, as a list.

use std::fmt::Write as _;

use super::plot::ticks;
use super::table::Table;
use crate::error::{Context as _, Result};
use crate::history::store::{KeptRun, short};

/// The most columns of a line.
const COLUMNS: usize = 100;
/// The characters of a commit's name that are shown.
const COMMIT_CHARACTERS: usize = 8;

/// Renders runs as a table, of `all` that there are, with a line for each place.
pub fn text(runs: &[KeptRun], all: usize) -> String {
    let header = ["run", "ended (UTC)", "scenario", "verdict", "p50", "p99", "commit", "place"];
    let mut table = Table::new("", 4, &header);
    let mut places: Vec<String> = Vec::new();
    for run in runs {
        let place = place(run);
        let number = places.iter().position(|other| *other == place).unwrap_or_else(|| {
            places.push(place);
            places.len() - 1
        });
        let time = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), ticks::duration);
        let row = [
            short(&run.id).to_owned(),
            minute(run),
            cut(&run.scenario, 24),
            run.verdict.label().to_owned(),
            time(run.p50_us),
            time(run.p99_us),
            commit(run),
            (number + 1).to_string(),
        ];
        table.rows.push(row.map(Into::into).into());
    }
    let mut text = format!("{table}\n\n");
    for (number, place) in places.iter().enumerate() {
        let _ = writeln!(text, "{}", cut(&format!("{:<12} {place}", format!("place {}", number + 1)), COLUMNS));
    }
    if all > runs.len() {
        let _ = writeln!(text, "{:<12} {} of {all}: --limit shows more", "runs", runs.len());
    }
    text
}

/// Renders runs as a JSON array.
///
/// # Errors
/// If a figure cannot be written as JSON.
pub fn json(runs: &[KeptRun]) -> Result<String> {
    let json = serde_json::to_string_pretty(runs).context(|| "writing the list of runs as JSON".to_owned())?;
    Ok(json + "\n")
}

/// Names the place of a run: the system, and the machine of the generator.
pub(super) fn place(run: &KeptRun) -> String {
    format!("{}; {}", run.system, run.machine)
}

/// Returns the minute of a run's end.
pub(super) fn minute(run: &KeptRun) -> String {
    run.finished_at
        .chars()
        .take("2026-01-01T00:00".len())
        .map(|letter| if letter == 'T' { ' ' } else { letter })
        .collect()
}

/// Returns the commit's name in short, with a `+` where changes were not committed.
pub(super) fn commit(run: &KeptRun) -> String {
    let name = run.commit.split(' ').next().unwrap_or_default();
    let (name, mark) = name.strip_suffix("-dirty").map_or((name, ""), |name| (name, "+"));
    if name == "no-commit" {
        return "none".to_owned();
    }
    // `git describe` puts the commit after the name of a tag.
    let name = name.rsplit_once("-g").map_or(name, |(_, commit)| commit);
    format!("{}{mark}", name.chars().take(COMMIT_CHARACTERS).collect::<String>())
}

/// Cuts a text to so many characters.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Verdict;

    fn run(commit: &str) -> KeptRun {
        KeptRun {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            finished_at: "2026-01-02T03:04:05Z".to_owned(),
            scenario: "connector_tier".to_owned(),
            verdict: Verdict::Breached,
            p50_us: Some(12_345.0),
            p99_us: Some(999_000.0),
            commit: commit.to_owned(),
            system: "certctl v2.1.0-12-gabcdef012345".to_owned(),
            machine: "128 × A processor with a name of many words @ 2.90GHz, 512 GiB, virtual machine (QEMU)"
                .to_owned(),
        }
    }

    #[test]
    fn commits_are_shortened() {
        for (commit, shown) in [
            ("6ab31e829774", "6ab31e82"),
            ("6ab31e829774-dirty (built 2026-01-01T00:00:00Z)", "6ab31e82+"),
            ("v1.0-3-g6ab31e829774", "6ab31e82"),
            ("no-commit (built 2026-01-01T00:00:00Z)", "none"),
            ("abc", "abc"),
        ] {
            assert_eq!(super::commit(&run(commit)), shown);
        }
    }

    #[test]
    fn a_list_fits_a_hundred_columns() {
        let text = text(&[run("6ab31e829774-dirty (built x)"), run("no-commit")], 7);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("12.3 ms  999 ms") && text.contains("\nplace 1      certctl v2.1.0"), "{text}");
        assert!(text.contains("runs         2 of 7"), "{text}");
    }
}
