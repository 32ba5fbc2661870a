//! The files of a run's results.

use std::path::Path;

use super::runs::LoadedRun;
use super::{html, text};
use crate::baseline::source;
use crate::error::Result;
use crate::files;
use crate::summary::Summary;

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

/// Writes the report of a run into `file`, and returns it. It compares the run with the one whose summary is `before`,
/// if there is one.
///
/// # Errors
/// If the file cannot be written, or a figure cannot be drawn.
pub fn save_report(summary: Summary, file: &Path, before: &Path) -> Result<String> {
    // One that cannot be read, or is of another version, is no run to compare with.
    let before = source::summaries(&[before.to_owned()]).ok().and_then(|mut runs| runs.pop());
    let run = LoadedRun { label: String::new(), file: files::shown(file).to_string(), summary };
    let report = html::of_run(run, before.as_ref().map(|(_, summary)| summary))?;
    files::write(file, &report)?;
    Ok(report)
}
