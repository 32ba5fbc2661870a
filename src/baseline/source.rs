//! Reading the files that hold the sides of a comparison.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file::Baseline;
use super::side::Side;
use crate::error::{Error, Result};
use crate::files::{self, json, json::Head};
use crate::foreign;
use crate::summary::{SCHEMA_VERSION, Summary, consistency};
use crate::system::base_url;

/// The largest file that is read, since files are read whole. An hour's summary has some megabytes, and no run is
/// longer than a day.
pub const LARGEST_BYTES: u64 = 128 << 20;

/// The content of a file.
enum Content {
    Run(Box<Summary>),
    Baseline(Box<Baseline>),
}

/// Reads a side: one baseline file, or the summaries of one or more runs, each given by its file or by its folder.
///
/// # Errors
/// If a file cannot be read, is neither, or does not belong with the others.
pub fn side(paths: &[PathBuf]) -> Result<Side> {
    let mut runs = Vec::new();
    for path in paths {
        match read(path)? {
            Content::Run(summary) => runs.push((files::shown(path), *summary)),
            Content::Baseline(baseline) if paths.len() == 1 => return Ok(baseline.into_side()),
            Content::Baseline(_) => {
                return Err(Error::usage(format!(
                    "{} is a baseline, which cannot be combined with other files",
                    files::shown(path)
                ))
                .with_hint("give either one baseline or summaries of runs"));
            }
        }
    }
    Side::of(&runs)
}

/// Reads a baseline's file.
///
/// # Errors
/// If it cannot be read, or is no baseline.
pub fn baseline(path: &Path) -> Result<Baseline> {
    match read(path)? {
        Content::Baseline(baseline) => Ok(*baseline),
        Content::Run(_) => Err(Error::usage(format!("{} is a run's summary, not a baseline", files::shown(path)))
            .with_hint("make one with `certctl-bench bless`")),
    }
}

/// Reads the summaries of runs, each with its name.
///
/// # Errors
/// If one cannot be read, or is no summary.
pub fn summaries(paths: &[PathBuf]) -> Result<Vec<(String, Summary)>> {
    paths.iter().map(|path| Ok((files::shown(path), summary(path)?))).collect()
}

/// Reads the summary of a run.
///
/// # Errors
/// If it cannot be read, or is no summary.
pub fn summary(path: &Path) -> Result<Summary> {
    match read(path)? {
        Content::Run(summary) => Ok(*summary),
        Content::Baseline(_) => Err(Error::usage(format!("{} is a baseline, not a run's summary", files::shown(path)))
            .with_hint("give the summary.json of runs")),
    }
}

/// Reads the text of a run's summary; `name` identifies it in errors.
///
/// # Errors
/// If it is none, of another schema, or contradicts itself.
pub fn summary_of(name: &str, text: &str) -> Result<Summary> {
    let head = json::head(text).map_err(|error| unread(name, &error.to_string()))?;
    run(name, text, &head)
}

fn read(path: &Path) -> Result<Content> {
    let file = if path.is_dir() { path.join("summary.json") } else { path.to_owned() };
    let name = files::shown(&file);
    let text = files::read_text(&file, LARGEST_BYTES).map_err(|error| unread(&name, &error.to_string()))?;
    let head = json::head(&text).map_err(|error| unread(&name, &error.to_string()))?;
    if head.has_measures && head.has_blocks {
        return Err(Error::usage(format!("{name} is the result of a duet, which holds both of its sides"))
            .with_hint("its verdict is in it, and in the report that `duet` prints"));
    }
    if head.has_measures {
        return Baseline::parse(&name, &text).map(|baseline| Content::Baseline(Box::new(baseline)));
    }
    run(&name, &text, &head).map(|summary| Content::Run(Box::new(summary)))
}

fn unread(name: &str, why: &str) -> Error {
    Error::usage(format!("reading {name}: {why}"))
        .with_hint("give a summary.json, a folder that holds one, or a baseline")
}

fn run(name: &str, text: &str, head: &Head) -> Result<Summary> {
    match head.schema_version {
        Some(version) if version == u64::from(SCHEMA_VERSION) => {}
        Some(version) if version > u64::from(SCHEMA_VERSION) => {
            return Err(Error::invalid(format!(
                "{name} has summary schema {version}, which is newer than this suite: it reads {SCHEMA_VERSION}"
            ))
            .with_hint("read it with the version of the suite that wrote it, or a later one"));
        }
        Some(version) => {
            return Err(Error::invalid(format!(
                "{name} has summary schema {version}; this version of the suite reads {SCHEMA_VERSION}"
            ))
            .with_hint("measure again with this version of the suite"));
        }
        None => return Err(unread(name, "it is neither a run's summary nor a baseline")),
    }
    // Anyone may have written it.
    let mut value: Value = serde_json::from_str(text).map_err(|error| unread(name, &error.to_string()))?;
    foreign::make_visible(&mut value);
    let damaged = |why: String| {
        Error::usage(format!("{name} is damaged: {why}")).with_hint("give an unedited summary.json of a run")
    };
    consistency::figures(&value).map_err(damaged)?;
    let mut summary: Summary = serde_json::from_value(value).map_err(|error| unread(name, &error.to_string()))?;
    consistency::fields(&summary).map_err(damaged)?;
    // Summaries of this suite have no password there, but this one may be of other origin.
    summary.about.system.base_url = base_url::redact(&summary.about.system.base_url);
    Ok(summary)
}
