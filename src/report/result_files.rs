//! The files of a run's results.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::runs::LoadedRun;
use super::{html, text};
use crate::baseline::source;
use crate::error::{Context as _, Result};
use crate::files;
use crate::summary::Summary;

/// The picture of a run, which one in a job of GitHub Actions draws.
pub const PICTURE: &str = "summary.svg";
/// The report of a run.
const REPORT: &str = "report.html";
/// The summary of the run before it.
const BEFORE: &str = "previous-summary.json";

/// Writes `summary.json` and `summary.txt` into `folder`.
///
/// # Errors
/// If a file cannot be written.
pub fn save(summary: &Summary, folder: &Path) -> Result<()> {
    let text = text::heading(&summary.about, summary.plans()) + "\n" + &text::results(summary);
    for (name, content) in [("summary.json", summary.to_json()?), ("summary.txt", text)] {
        files::write(&folder.join(name), &content)?;
    }
    Ok(())
}

/// Renames the results of an earlier run in `folder`, so that they are not taken for those of a run that could not start,
/// or that has no such file.
///
/// # Errors
/// If one cannot be renamed.
pub fn set_aside(folder: &Path) -> Result<()> {
    for name in ["summary.json", "summary.txt", REPORT, PICTURE] {
        let (file, aside) = (folder.join(name), folder.join(format!("previous-{name}")));
        match fs::rename(&file, &aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).context(|| format!("moving {} to {}", file.display(), aside.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the report of a run into `folder`, beside its summary; returns its path, and the page. It compares the run with
/// the one that was [set aside](set_aside) there, if there is one.
///
/// # Errors
/// If the file cannot be written, or a figure cannot be drawn.
pub fn save_report(summary: Summary, folder: &Path) -> Result<(PathBuf, String)> {
    let file = folder.join(REPORT);
    // One that cannot be read, or is of another version, is no run to compare with.
    let before = source::summaries(&[folder.join(BEFORE)]).ok().and_then(|mut runs| runs.pop());
    let run = LoadedRun { label: String::new(), file: files::shown(&file).to_string(), summary };
    let page = html::of_run(run, before.as_ref().map(|(_, summary)| summary))?;
    files::write(&file, &page)?;
    Ok((file, page))
}
