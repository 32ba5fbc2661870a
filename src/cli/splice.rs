//! `certctl-bench splice`: renews the tables of documents from committed baselines.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::files;
use crate::report::splice::{is_marked, splice};
use crate::terminal::outln;

/// The largest size of a document.
const LARGEST_BYTES: u64 = 16 << 20;

/// Flags of `certctl-bench splice`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "The text between `<!-- splice: latency|counts|phases BASELINE... -->` and `<!-- splice: end \
                        -->` is replaced; `picture FILE.svg BASELINE...` draws a file beside the document. A BASELINE \
                        is a file, or a folder of them.\n\
                        Exit codes: 0 done, or with --check up to date; 1 stale, or could not write; 2 a marker or a \
                        baseline is wrong.")]
pub struct SpliceFlags {
    /// Documents [default: README.md and docs/*.md, where they have a marker].
    #[arg(value_name = "FILE")]
    documents: Vec<PathBuf>,
    /// Change nothing, and fail if anything would change.
    #[arg(long)]
    check: bool,
}

/// Renews the documents, or checks them.
///
/// # Errors
/// If a document or a baseline cannot be read, a marker is wrong, or with `--check` something is stale.
pub fn run(flags: SpliceFlags) -> Result<()> {
    let documents = if flags.documents.is_empty() { marked_documents()? } else { flags.documents };
    let mut stale = Vec::new();
    for document in &documents {
        let text = read(document)?;
        let spliced = splice(document, &text)?;
        let files = spliced.pictures.into_iter().chain([(document.clone(), spliced.text)]);
        for (path, wanted) in files {
            // A picture that is not there yet is as stale as one of other figures.
            if files::read_text(&path, LARGEST_BYTES).is_ok_and(|found| found == wanted) {
                continue;
            }
            if !flags.check {
                files::write(&path, wanted)?;
                outln!("{:<12} {}", "written", path.display());
            }
            stale.push(path.display().to_string());
        }
    }
    match (flags.check, stale.is_empty()) {
        (true, false) => Err(Error::new(format!("differs from the baselines: {}", stale.join(", ")))
            .with_hint("run `certctl-bench splice`, and commit what it writes")),
        (_, true) => {
            let plural = if documents.len() == 1 { "" } else { "s" };
            outln!("{:<12} {} document{plural}", "up to date", documents.len());
            Ok(())
        }
        (false, false) => Ok(()),
    }
}

/// Returns README.md and docs/*.md, where they have a marker.
fn marked_documents() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("docs").and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| {
        Error::usage(format!("reading the folder docs: {error}")).with_hint("run this at the top of the repository")
    })?;
    let mut documents: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    documents.insert(0, PathBuf::from("README.md"));
    let mut marked = Vec::new();
    for document in documents {
        if is_marked(&read(&document)?) {
            marked.push(document);
        }
    }
    Ok(marked)
}

fn read(document: &Path) -> Result<String> {
    files::read_text(document, LARGEST_BYTES).map_err(|error| {
        Error::usage(format!("reading {}: {error}", document.display())).with_hint("name an existing document")
    })
}
