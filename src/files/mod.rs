//! Files that a user names or reads: written whole or not at all, read within bounds, and never waited for without end.

mod folder;
pub mod json;
mod read;
mod write;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub use folder::{Claim, claim, probe};
pub use read::{read, read_text};
pub use write::{check, write};

use crate::error::{Error, Result};

/// The path as it may be printed: on one line, without control characters, bytes that are no UTF-8 replaced.
pub fn shown(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if letter.is_control() { text.extend(letter.escape_default()) } else { text.push(letter) }
    }
    text
}

/// Removes what an earlier run has left in the regular file `path`, and sees that a new one can be written there: before
/// anything is measured.
///
/// # Errors
/// If it cannot be written.
pub fn forget(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => return Ok(()),
        // Written first: what a link leads to, or others hold open, is not left as it was where it cannot be removed.
        _ => write(path, "")?,
    }
    // A link stays: it says where the new one goes.
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// Refuses an output that is one of the inputs: writing it would destroy what was measured.
///
/// # Errors
/// Of usage, if it is.
pub fn refuse_input(output: &Path, inputs: &[PathBuf]) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().filter(|found| found.is_file()).map(|f| (f.dev(), f.ino()));
    let Some(written) = identity(output) else { return Ok(()) };
    for input in inputs {
        let file = if input.is_dir() { input.join("summary.json") } else { input.clone() };
        if identity(&file) == Some(written) {
            return Err(Error::usage(format!("{} is an input and an output: it would be lost", shown(output)))
                .mend("name another file for the output"));
        }
    }
    Ok(())
}
