//! A verdict in a job of GitHub Actions: as an annotation, and its report in the summary of the job.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::baseline::{Comparison, Judgement};
use crate::capacity::Capacity;
use crate::duet::Duet;
use crate::duet::verdict::DuetVerdict;
use crate::error::{Context, Error, Result};
use crate::exit_code;
use crate::files;
use crate::foreign;
use crate::report::result_files::PICTURE;
use crate::report::{capacity, comparison_markdown, comparison_text, duet, headline, job_summary, picture, runs};
use crate::summary::Summary;
use crate::summary::verdict::Verdict;
use crate::terminal::github::Annotation;
use crate::terminal::{self, errln};

/// Names the file of a step's summary.
const VARIABLE: &str = "GITHUB_STEP_SUMMARY";
/// The size of a step's summary beyond which GitHub shows nothing of it.
const MOST_BYTES: u64 = 1024 * 1024;

/// Annotates the verdict of a run if it fails the job, and appends the report of the results in `folder` to the job's
/// summary. A smoke run has none.
pub(super) fn of_run(summary: &Summary, folder: &Path, smoke: bool) {
    if matches!(summary.verdict, Verdict::Breached | Verdict::Invalid) {
        let title = format!("{}: {}", summary.about.scenario, headline::word(summary));
        annotate(Annotation::Error, &title, [headline::meaning(summary)].iter().chain(&summary.invalid));
    }
    if !smoke {
        sum_up(|| report(folder));
    }
}

/// Annotates the verdict of a duet if it fails the job or decides nothing, and appends its report to the job's summary.
pub(super) fn of_duet(duet: &Duet) {
    if let Some(kind) = kind(duet.exit_code, duet.verdict == DuetVerdict::Indistinct) {
        let title = format!("duet of {}: {}", duet.scenario, duet.verdict);
        annotate(kind, &title, [duet::meaning(duet)].iter().chain(&duet.invalid).chain(&duet.missing));
    }
    sum_up(|| Ok(duet::markdown(duet)));
}

/// Does the same for a comparison.
pub(super) fn of_comparison(comparison: &Comparison) {
    if let Some(kind) = kind(comparison.exit_code, comparison.verdict == Judgement::Indistinct) {
        let title = format!("comparison of {}: {}", comparison.scenario, comparison.verdict);
        let reasons = comparison_text::reasons(comparison);
        annotate(kind, &title, [comparison_text::meaning(comparison)].iter().chain(&reasons));
    }
    sum_up(|| Ok(comparison_markdown::section(comparison)));
}

/// Does the same for a search for the capacity.
pub(super) fn of_capacity(capacity: &Capacity) {
    if let Some(kind) = kind(capacity.exit_code, false) {
        let title = format!("capacity of {}", capacity.scenario);
        annotate(kind, &title, [capacity::answer(capacity)].iter().chain(&capacity::first_limit(capacity)));
    }
    sum_up(|| Ok(capacity::markdown(capacity)));
}

/// Returns the kind of a verdict's annotation: an error where it fails the job, and a warning where it decides nothing.
fn kind(exit_code: u8, is_undecided: bool) -> Option<Annotation> {
    match exit_code {
        exit_code::PASS => is_undecided.then_some(Annotation::Warning),
        _ => Some(Annotation::Error),
    }
}

/// Annotates a verdict, a line for each reason.
pub(super) fn annotate<'r>(kind: Annotation, title: &str, reasons: impl Iterator<Item = &'r String>) {
    let text = reasons.map(String::as_str).collect::<Vec<_>>().join("\n");
    terminal::annotate(kind, &shown(title), &shown(&text));
}

fn shown(text: &str) -> String {
    foreign::visible_lines(&foreign::redact(text)).into_owned()
}

/// Appends a report, which is made where it is wanted, to the job's summary. What cannot be written is a warning: no
/// verdict depends on it.
fn sum_up(report: impl FnOnce() -> Result<String>) {
    let Some(file) = std::env::var_os(VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from) else { return };
    if let Err(error) = report().and_then(|text| append(&file, &foreign::redact(&text))) {
        errln!("warning: {}", shown(&error.to_string()));
    }
}

/// Draws the picture of the results in `folder`, and returns their report.
fn report(folder: &Path) -> Result<String> {
    let groups = runs::load_all(&[folder.to_path_buf()])?;
    let path = folder.join(PICTURE);
    let mut drawn = None;
    for group in &groups {
        if let Some(svg) = picture::svg(group)? {
            files::write(&path, foreign::redact(&svg).as_bytes())?;
            drawn = Some(files::shown(&path));
        }
    }
    Ok(job_summary::markdown_of(&groups, drawn.as_deref()))
}

/// Appends to a job's summary, which may have parts of others.
fn append(file: &Path, text: &str) -> Result<()> {
    let what = || format!("appending to the job's summary ({VARIABLE}) {}", files::shown(file));
    let before = match fs::metadata(file) {
        Ok(found) if !found.is_file() => return Err(Error::usage(format!("{}: it is no file", what()))),
        found => found.map_or(0, |found| found.len()),
    };
    if before + text.len() as u64 > MOST_BYTES {
        return Err(Error::new(format!("{}: it would exceed 1 MiB, and GitHub would show nothing", what()))
            .with_hint("give each run a step of its own; its report is in summary.txt all the same"));
    }
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_summary_is_appended_to_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("summary.md");
        append(&file, "a\n").unwrap();
        append(&file, "b\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\nb\n");
        let error = append(&file, &"c".repeat(1024 * 1024)).unwrap_err().to_string();
        assert!(error.contains("it would exceed 1 MiB") && error.contains("\nhint: "), "{error}");
        assert!(append(folder.path(), "a").unwrap_err().what().contains("it is no file"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "a\nb\n");
    }
}
