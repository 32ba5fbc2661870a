//! `certctl-bench compare`: two sides, measure by measure, and a verdict.

use std::path::PathBuf;

use clap::Args;

use super::github_job;
use crate::baseline::compare::{self, CompareOptions};
use crate::baseline::{Side, source};
use crate::error::{Error, Result};
use crate::files;
use crate::report::{comparison_html, comparison_markdown};
use crate::terminal::{out, outln};

/// Flags of `certctl-bench compare`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A side is a baseline file, or the summary.json of one or more runs (or the folders that hold them).\n\
                  Exit codes: 0 nothing regressed, 1 could not run, 2 usage, 4 regressed, 5 a run is invalid, evidence \
                  is missing, or the sides are incomparable.",
    override_usage = "certctl-bench compare [OPTIONS] BASE HEAD\n       \
                      certctl-bench compare [OPTIONS] --base FILE... --head FILE..."
)]
pub struct CompareFlags {
    /// The base to compare with, and the head to compare.
    #[arg(value_names = ["BASE", "HEAD"], num_args = 2, conflicts_with_all = ["base", "head"])]
    sides: Vec<PathBuf>,
    /// The runs to compare with, or a baseline.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "head")]
    base: Vec<PathBuf>,
    /// The runs to compare.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "base")]
    head: Vec<PathBuf>,
    #[command(flatten)]
    comparison: ComparisonFlags,
}

/// Flags of a comparison, whatever its sides come from.
#[derive(Args, Clone, Debug)]
pub struct ComparisonFlags {
    /// Least change of a latency that counts: 5%, 0.5%.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = threshold, env = "CERTCTL_BENCH_THRESHOLD")]
    threshold: f64,
    /// Compare only counts, such as SQL calls per right answer, which are comparable between machines.
    #[arg(long)]
    counts: bool,
    /// Write the comparison as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it as Markdown too, for a pull request's comment.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write it to this file as HTML, with a figure, too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Compares, and prints a table and a verdict.
///
/// # Errors
/// If a file cannot be read, is neither a summary nor a baseline, or is unfit.
pub fn run(flags: CompareFlags) -> Result<u8> {
    let (base, head) = match &flags.sides[..] {
        [base, head] => (vec![base.clone()], vec![head.clone()]),
        _ if flags.base.is_empty() => {
            return Err(Error::usage("the sides to compare are not given")
                .with_hint("give BASE and HEAD, or --base and --head"));
        }
        _ => (flags.base.clone(), flags.head.clone()),
    };
    let written = [&flags.comparison.json, &flags.comparison.markdown, &flags.comparison.html];
    for path in written.into_iter().flatten() {
        files::refuse_input(path, &[&base[..], &head[..]].concat())?;
    }
    flags.comparison.compare(&source::side(&base)?, &source::side(&head)?)
}

impl ComparisonFlags {
    /// Compares two sides, prints a table and a verdict, and returns its exit code.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn compare(&self, base: &Side, head: &Side) -> Result<u8> {
        let options = CompareOptions { threshold: self.threshold, counts_only: self.counts };
        let comparison = compare::run(base, head, options);
        out!("{comparison}");
        if let Some(path) = &self.json {
            comparison.save(path)?;
        }
        if let Some(path) = &self.markdown {
            files::write(path, comparison_markdown::section(&comparison))?;
        }
        if let Some(path) = &self.html {
            files::write(path, comparison_html::page(&comparison))?;
            outln!("{:<12} {}", "written", files::shown(path));
        }
        github_job::of_comparison(&comparison);
        Ok(comparison.exit_code)
    }
}

/// Parses a share: `5%` or `0.05`, from 0% to 1000%.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    let share = number.trim().parse::<f64>().map_err(|_| "write it as 5% or 0.05".to_owned())? * scale;
    if (0.0..=10.0).contains(&share) { Ok(share) } else { Err("must be from 0% to 1000%".to_owned()) }
}

/// Parses a share of which 1 or more needs the sign: a `2` may be meant for 2%.
pub fn threshold(text: &str) -> Result<f64, String> {
    match share(text)? {
        share if share >= 1.0 && !text.ends_with('%') => {
            Err(format!("write it with %, as {text}% or {}%", share * 100.0))
        }
        share => Ok(share),
    }
}
