//! Files that are there whole or not at all.

use std::fs;
use std::path::Path;

use crate::error::{Context as _, Result};

/// Writes `text` to the file `path`: beside it first, then in its place, so that neither a full disk nor a kill leaves
/// half a file, or costs the one that was there.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    fs::write(&part, text).and_then(|()| fs::rename(&part, path)).context(|| format!("writing {}", path.display()))
}
