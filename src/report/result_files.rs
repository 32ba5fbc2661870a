//! The files of a run's results.

use std::path::Path;

use super::text;
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
