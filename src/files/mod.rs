//! Files that a user names or reads: each is written whole or not at all, and read within bounds of size and time.

mod folder;
pub mod json;
mod read;
mod write;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub use folder::{FolderLock, claim, probe};
pub use read::{read, read_text};
pub use write::{check, write};

use crate::error::{Error, Result};

/// Returns the path as it may be printed: on one line, without control characters, bytes that are not UTF-8 replaced.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if letter.is_control() { text.extend(letter.escape_default()) } else { text.push(letter) }
    }
    text
}

/// Removes an earlier run's regular file `path`, and checks that a new one can be written there, before anything is
/// measured.
///
/// # Errors
/// If it cannot be written.
pub fn forget(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => return Ok(()),
        // Emptied first: a file behind a link, or one that cannot be removed, must not keep its old content.
        _ => write(path, "")?,
    }
    // A link stays: the new file goes to where it leads.
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Refuses an output that is also an input: writing it would destroy measurements.
///
/// # Errors
/// Of the kind `Usage`, if it is.
pub fn refuse_input(output: &Path, inputs: &[PathBuf]) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().filter(|found| found.is_file()).map(|f| (f.dev(), f.ino()));
    let Some(written) = identity(output) else { return Ok(()) };
    for input in inputs {
        let file = if input.is_dir() { input.join("summary.json") } else { input.clone() };
        if identity(&file) == Some(written) {
            return Err(Error::usage(format!(
                "{} is both an input and an output: it would be overwritten",
                shown(output)
            ))
            .with_hint("name another file for the output"));
        }
    }
    Ok(())
}
