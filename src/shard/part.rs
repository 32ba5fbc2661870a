//! The part of a run that one shard played, as a file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clocks::ShardClock;
use crate::clock::WallTime;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::load::cut::Ended;
use crate::load::shard::Shard;
use crate::measure::Measurement;
use crate::measure::machine_use::MachineUse;
use crate::scenario::acme::Paths;
use crate::summary::About;

/// The version of the format: raised whenever a reader of the last version could misread this one.
pub const PART_VERSION: u32 = 1;
/// The most bytes of a part. Those of a second are a few kilobytes, so that this is a run of a day.
const LARGEST_BYTES: u64 = 512 << 20;
/// The beginning and the end of a part's file name.
const NAME: (&str, &str) = ("part-", ".json");

/// The part of a run that one shard played.
#[derive(Debug, Deserialize, Serialize)]
pub struct ShardPart {
    /// The version of the format.
    pub part_version: u32,
    /// The suite's version.
    pub suite_version: String,
    /// The id of the run, which all of its parts have.
    pub run_id: String,
    /// The shard.
    pub shard: Shard,
    /// The fingerprint of the run's workloads.
    pub fingerprint: String,
    /// The number of generator threads of each shard: connections and arrivals are dealt out to all threads of a run.
    pub threads: u64,
    /// The flags of the load, which plan the same workloads again.
    pub flags: Vec<String>,
    /// The run: bench target, system, and this shard's machine, with the suite's commit.
    pub about: About,
    /// The paths of the ACME server, where the run has one.
    pub acme: Option<Paths>,
    /// The common start, in nanoseconds since 1970.
    pub start_ns: u64,
    /// The clock of the machine.
    pub clock: ShardClock,
    /// The workloads, in the order in which they were planned; none where the load did not begin.
    pub workloads: Vec<PartWorkload>,
    /// The use of the machine, where this shard has observed it.
    pub machine_use: Option<MachineUse>,
    /// The reasons of this generator or its machine for which the part is invalid by itself.
    pub own_faults: Vec<String>,
    /// The way in which it ended.
    pub ended: PartEnd,
}

/// A shard's part of a workload.
#[derive(Debug, Deserialize, Serialize)]
pub struct PartWorkload {
    /// The workload's name.
    pub name: String,
    /// The measurement.
    pub measurement: Measurement,
    /// The notes of the scenario.
    pub notes: Value,
}

/// The way in which a shard ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartEnd {
    /// By the end of its load.
    Complete,
    /// By a signal, or since another shard had ended.
    Stopped,
    /// Before its load began: it was not ready until so long after the start.
    Late(Duration),
    /// By a limit of the run.
    Cut(Ended),
}

impl ShardPart {
    /// Writes it into `folder`, whole or not at all, and returns the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(file_name(self.shard.index()));
        let json = serde_json::to_string(self).context(|| format!("writing the part of {}", self.shard))?;
        files::write(&path, json + "\n")?;
        Ok(path)
    }

    /// Reads a part.
    ///
    /// # Errors
    /// If it cannot be read, was cut off, or is none of this version; the error names the reason, not the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_text(path, LARGEST_BYTES).map_err(|error| Error::new(error.to_string()))?;
        let head = files::json::head(&text).map_err(|error| damaged(&error))?;
        if head.part_version != Some(PART_VERSION.into()) {
            let version = head.part_version.map_or("none".to_owned(), |version| version.to_string());
            return Err(Error::invalid(format!("its part_version is {version}, not {PART_VERSION}")));
        }
        let part: Self = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        for workload in &part.workloads {
            workload.measurement.check().map_err(|error| Error::invalid(format!("{}: {error}", workload.name)))?;
        }
        Ok(part)
    }

    /// Returns the common start.
    pub fn start(&self) -> WallTime {
        WallTime::from_ns(self.start_ns)
    }
}

fn damaged(error: &serde_json::Error) -> Error {
    let how = if error.is_eof() { "it was cut off" } else { "it is no part" };
    Error::invalid(format!("{how}: {error}"))
}

/// Removes the part that shard `index` of an earlier run has left in `folder`, if there is one.
///
/// # Errors
/// If it cannot be removed.
pub fn forget(folder: &Path, index: u64) -> Result<()> {
    let path = folder.join(file_name(index));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(|| format!("removing {}", files::shown(&path)))
        }
        _ => Ok(()),
    }
}

/// Returns the name of the file of shard `index`.
pub fn file_name(index: u64) -> String {
    let (beginning, end) = NAME;
    format!("{beginning}{index:05}{end}")
}

/// Returns the files of parts that `paths` name: each a file, or a folder with all of its parts, in the order of their
/// names.
///
/// # Errors
/// If a folder cannot be read.
pub fn files_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let reading = || format!("reading the folder {}", files::shown(path));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).context(reading)? {
            let path = entry.context(reading)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(NAME.0) && name.ends_with(NAME.1) {
                inside.push(path);
            }
        }
        inside.sort();
        found.extend(inside);
    }
    Ok(found)
}

/// Removes the parts of earlier runs from `folder`, and makes it if it is missing.
///
/// # Errors
/// If it cannot be made, or a part not be removed.
pub fn clear(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).context(|| format!("making the folder {}", files::shown(folder)))?;
    for path in files_of(&[folder.to_owned()])? {
        std::fs::remove_file(&path).context(|| format!("removing {}", files::shown(&path)))?;
    }
    Ok(())
}
