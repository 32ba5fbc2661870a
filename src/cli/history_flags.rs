//! The flag that names the history of runs.

use std::path::{Path, PathBuf};

use clap::Args;

use super::bench;
use crate::error::{Error, Result};
use crate::files;
use crate::history::History;
use crate::history::store::short;
use crate::summary::Summary;
use crate::terminal::{errln, outln};

/// The name of the history in the folder of results.
const NAME: &str = "runs.sqlite";
/// The word that stands for no history.
const NONE: &str = "none";

/// The flag that names the history of runs.
#[derive(Args, Clone, Debug)]
pub struct HistoryFlags {
    /// File in which runs are kept, or none [default: target/certctl-bench/runs.sqlite].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_HISTORY", global = true)]
    history: Option<PathBuf>,
}

impl HistoryFlags {
    /// Keeps a run, unless no run is to be kept. A history that cannot be written is a warning: the results are in their
    /// folder already.
    pub(super) fn keep(&self, summary: &Summary) {
        let added = match self.file() {
            Ok(None) => return,
            Ok(Some(file)) => {
                let added = History::create(&file).and_then(|mut history| history.add(summary));
                added.map(|(id, _)| (id, file))
            }
            Err(error) => Err(error),
        };
        match added {
            Ok((id, file)) => outln!("{:<12} {} in {}", "kept", short(&id), files::shown(&file)),
            Err(error) => errln!("warning: this run is not kept in the history: {error}"),
        }
    }

    /// Returns the file, which is to be there for a verb.
    ///
    /// # Errors
    /// If no history is kept.
    pub(super) fn wanted(&self) -> Result<PathBuf> {
        self.file()?.ok_or_else(|| {
            Error::usage(format!("there is no history of runs: --history, or CERTCTL_BENCH_HISTORY, is {NONE}"))
                .with_hint("name its file with --history")
        })
    }

    fn file(&self) -> Result<Option<PathBuf>> {
        match &self.history {
            Some(file) if file == Path::new(NONE) => Ok(None),
            Some(file) => Ok(Some(file.clone())),
            None => bench::results().map(|folder| Some(folder.join(NAME))),
        }
    }
}
