//! Baselines saved by name on this machine, as Criterion has them: `NAME/SCENARIO/RUN/summary.json`. None of them is
//! committed.
//!
//! As in Criterion, saving under a name replaces the runs saved under it, unless the new run is to be added to them.

use std::fs;
use std::path::{Path, PathBuf};

use super::side::Side;
use super::source;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::summary::Summary;

/// The most runs under a name; further ones are refused.
const MOST_RUNS: usize = 100;

/// The treatment of runs that were saved under the name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They are removed, as Criterion does.
    Nothing,
    /// They stay, and the baseline has one run more.
    Earlier,
}

/// Refuses a text that cannot be a baseline's name.
///
/// # Errors
/// If `name` cannot be one.
pub fn check_name(name: &str) -> Result<()> {
    place(name, Path::new(""), "scenario").map(|_| ())
}

/// Reports whether runs of `scenario` are saved under `name`, in `folder`.
///
/// # Errors
/// If the name cannot be one, or the folder cannot be read.
pub fn exists(name: &str, folder: &Path, scenario: &str) -> Result<bool> {
    Ok(!saved(&place(name, folder, scenario)?)?.is_empty())
}

/// Saves a run under `name`, in `folder`.
///
/// # Errors
/// If the name cannot be one, the run is unfit for a baseline, or files cannot be written.
pub fn save(name: &str, folder: &Path, summary: &Summary, keep: Keep) -> Result<PathBuf> {
    let place = place(name, folder, &summary.about.scenario)?;
    let kept = if keep == Keep::Earlier { saved(&place)? } else { Vec::new() };
    let staged = place.with_file_name(format!(".{}-part", summary.about.scenario));
    fs::create_dir_all(&staged).context(|| format!("making the folder {}", staged.display()))?;
    files::write(&staged.join("summary.json"), &summary.to_json()?)?;
    // One run that is unfit, or of another workload or environment, would spoil all of them.
    fits(&kept, &staged).inspect_err(|_| drop(fs::remove_dir_all(&staged)))?;
    if kept.is_empty() && place.exists() {
        fs::remove_dir_all(&place).context(|| format!("removing the baseline in {}", place.display()))?;
    }
    let run = place.join(kept.last().map_or(1, |(number, _)| number + 1).to_string());
    fs::create_dir_all(&place)
        .and_then(|()| fs::rename(&staged, &run))
        .context(|| format!("moving the run to {}", run.display()))?;
    Ok(run)
}

/// Refuses a new run that is of another workload or environment than the others.
fn fits(others: &[(u32, PathBuf)], new: &Path) -> Result<()> {
    let others: Vec<PathBuf> = others.iter().map(|(_, path)| path.clone()).collect();
    let mut runs = source::summaries(&others)?;
    runs.extend(source::summaries(&[new.to_owned()])?.into_iter().map(|(_, run)| ("this run".to_owned(), run)));
    Side::of(&runs).map(drop)
}

/// Refuses a further run of `scenario` where the baseline `name` in `folder` is full.
///
/// # Errors
/// If it is full, or cannot be read.
pub fn check_room(name: &str, folder: &Path, scenario: &str) -> Result<()> {
    if saved(&place(name, folder, scenario)?)?.len() < MOST_RUNS {
        return Ok(());
    }
    Err(Error::usage(format!("the baseline {name} has {MOST_RUNS} runs already")).with_hint("save under a new name"))
}

/// Loads the runs of `scenario` saved under `name`, in `folder`.
///
/// # Errors
/// If there are none, or they cannot be read.
pub fn load(name: &str, folder: &Path, scenario: &str) -> Result<Side> {
    let place = place(name, folder, scenario)?;
    let runs: Vec<PathBuf> = saved(&place)?.into_iter().map(|(_, path)| path).collect();
    if runs.is_empty() {
        return Err(Error::usage(format!("no baseline of {scenario} is saved as {name} in {}", folder.display()))
            .with_hint(format!("save one first: cargo bench --bench {scenario} -- --save-baseline {name}")));
    }
    source::side(&runs)
}

/// Returns the folder of the runs of a name. A name is that of one folder, and cannot lead out of it.
fn place(name: &str, folder: &Path, scenario: &str) -> Result<PathBuf> {
    let is_plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 100
            && !text.starts_with('.')
            && text.chars().all(|letter| letter.is_alphanumeric() || "-_.+ ".contains(letter))
    };
    if !is_plain(name) || !is_plain(scenario) {
        return Err(Error::usage(format!("`{name}` is not a valid name of a baseline"))
            .with_hint("use letters, digits, hyphens, underscores and dots"));
    }
    Ok(folder.join(name).join(scenario))
}

/// Returns the numbered folders of runs, in order.
fn saved(place: &Path) -> Result<Vec<(u32, PathBuf)>> {
    if !place.exists() {
        return Ok(Vec::new());
    }
    let reading = || format!("reading the folder {}", place.display());
    let mut runs = Vec::new();
    for entry in fs::read_dir(place).context(reading)? {
        let path = entry.context(reading)?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        runs.extend(number.map(|number: u32| (number, path)));
    }
    runs.sort();
    Ok(runs)
}
