//! The files of the seeds, and the tables that they write to.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use super::{EMBEDDED, SeedSource};
use crate::error::{Error, Result};

/// The largest file that is read; certctl's seeds have some kilobytes.
const LARGEST_BYTES: u64 = 64 << 20;

/// Reads the seeds of `source`: file name and text, in the order in which they are applied.
pub(super) fn read(source: &SeedSource) -> Result<Vec<(String, String)>> {
    let folder = match source {
        SeedSource::Embedded => return Ok(EMBEDDED.map(|(name, sql)| (name.to_owned(), sql.to_owned())).to_vec()),
        SeedSource::Folder(folder) => folder,
    };
    let unreadable = |what: &Path, error: std::io::Error| {
        Error::usage(format!("reading seeds from {}: {error}", what.display()))
            .with_hint("name a folder that holds *.sql files")
    };
    let mut files = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(|error| unreadable(folder, error))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    if files.is_empty() {
        return Err(unreadable(folder, std::io::Error::other("it holds no *.sql file")));
    }
    let named = |path: PathBuf| {
        let sql = crate::files::read_text(&path, LARGEST_BYTES).map_err(|error| unreadable(&path, error))?;
        Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), sql))
    };
    files.into_iter().map(named).collect()
}

/// Returns the tables that the seeds write to, each once, in order. A seed that ends its transaction is an error.
pub(super) fn tables_written(seeds: &[(String, String)]) -> Result<Vec<String>> {
    // Each pattern is a constant that the tests compile.
    static COMMENT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?s)--[^\n]*|/\*.*?\*/").expect("a constant pattern"));
    static TRANSACTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:^|;)\s*(?:begin|start|commit|end|rollback|abort)\b[^;]*(?:;|$)")
            .expect("a constant pattern")
    });
    static WRITE: LazyLock<Regex> = LazyLock::new(|| {
        let verbs = r"insert\s+into|delete\s+from|merge\s+into|truncate(?:\s+table)?|(?:^|;)\s*update";
        Regex::new(&format!(r"(?i)(?:{verbs})\s+(?:only\s+)?([a-z_][a-z0-9_.]*)")).expect("a constant pattern")
    });
    let mut tables = Vec::new();
    for (name, sql) in seeds {
        let sql = COMMENT.replace_all(sql, " ");
        if let Some(found) = TRANSACTION.find(&sql) {
            let statement = found.as_str().trim_matches([';', ' ', '\n', '\t', '\r']);
            return Err(Error::usage(format!(
                "the seed {name} contains `{statement}`, but runs in a transaction of this suite"
            ))
            .with_hint("remove that statement"));
        }
        for write in WRITE.captures_iter(&sql) {
            let table = write[1].to_lowercase();
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
    }
    Ok(tables)
}
