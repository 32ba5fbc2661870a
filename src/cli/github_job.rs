//! A run in a job of GitHub Actions: its verdict as an annotation, and its report in the summary of the job.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::files;
use crate::foreign;
use crate::report::result_files::PICTURE;
use crate::report::{headline, job_summary, picture, runs};
use crate::summary::Summary;
use crate::summary::verdict::Verdict;
use crate::terminal::{self, errln};

/// Names the file of a step's summary.
const VARIABLE: &str = "GITHUB_STEP_SUMMARY";
/// The size of a step's summary beyond which GitHub shows nothing of it.
const MOST_BYTES: u64 = 1024 * 1024;

/// Annotates a verdict that fails the job, and appends the report of the results in `folder` to the job's summary. A
/// smoke run has none. What cannot be written is a warning: the verdict does not depend on it.
pub(super) fn conclude(summary: &Summary, folder: &Path, smoke: bool) {
    if matches!(summary.verdict, Verdict::Breached | Verdict::Invalid) {
        let title = format!("{}: {}", summary.about.scenario, headline::word(summary));
        let reasons = [headline::meaning(summary)].into_iter().chain(summary.invalid.iter().cloned());
        let text = reasons.collect::<Vec<_>>().join("\n");
        terminal::annotate(&shown(&title), &shown(&text));
    }
    let file = std::env::var_os(VARIABLE).filter(|file| !file.is_empty() && !smoke);
    if let Some(file) = file.map(PathBuf::from)
        && let Err(error) = report(folder, &file)
    {
        errln!("warning: {}", shown(&error.to_string()));
    }
}

fn shown(text: &str) -> String {
    foreign::visible_lines(&foreign::redact(text)).into_owned()
}

/// Draws the picture of the results in `folder`, and appends their report to `file`.
fn report(folder: &Path, file: &Path) -> Result<()> {
    let groups = runs::load_all(&[folder.to_path_buf()])?;
    let path = folder.join(PICTURE);
    let mut drawn = None;
    for group in &groups {
        if let Some(svg) = picture::svg(group)? {
            files::write(&path, foreign::redact(&svg).as_bytes())?;
            drawn = Some(files::shown(&path));
        }
    }
    let text = job_summary::markdown_of(&groups, drawn.as_deref());
    append(file, &foreign::redact(&text))
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
