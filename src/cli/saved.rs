//! Baselines saved by name: `--save-baseline` and `--baseline` for the workload, as Criterion has them for the loop.

use std::path::{Path, PathBuf};

use super::criterion::CriterionFlags;
use super::github_job;
use crate::baseline::compare::{self, CompareOptions};
use crate::baseline::local::{self, Keep};
use crate::baseline::{Comparison, Judgement, Side, source};
use crate::error::Result;
use crate::exit_code;
use crate::files;
use crate::summary::{Summary, Verdict};
use crate::terminal::{errln, out, outln};

/// The use of a run beyond its summary.
pub enum Saved {
    /// None.
    Neither,
    /// It is saved under a name.
    Save { name: String, folder: PathBuf, keep: Keep },
    /// It is compared with what is saved under a name.
    Compare { name: String, base: Box<Side>, options: CompareOptions },
}

impl Saved {
    /// Resolves the flags, and reads the baseline: a missing one is reported before anything is measured.
    ///
    /// # Errors
    /// If the baseline is missing, or cannot be read.
    pub fn of(flags: &CriterionFlags, folder: PathBuf, scenario: &str, keep: Keep) -> Result<Self> {
        if let Some(name) = flags.save_baseline.clone().filter(|_| !flags.discard_baseline) {
            local::check_name(&name)?;
            if keep == Keep::Earlier {
                local::check_room(&name, &folder, scenario)?;
            }
            files::probe(&folder)?;
            return Ok(Self::Save { name, folder, keep });
        }
        let (name, lenient) = match (&flags.baseline, &flags.baseline_lenient) {
            (Some(name), _) => (name, false),
            (None, Some(name)) => (name, true),
            (None, None) => return Ok(Self::Neither),
        };
        if lenient && !local::exists(name, &folder, scenario)? {
            errln!("no baseline of {scenario} is saved as {name}: nothing is compared");
            return Ok(Self::Neither);
        }
        let base = Box::new(local::load(name, &folder, scenario)?);
        let threshold = flags.noise_threshold.unwrap_or(CompareOptions::default().threshold);
        Ok(Self::Compare {
            name: name.clone(),
            base,
            options: CompareOptions { threshold, ..CompareOptions::default() },
        })
    }

    /// Saves or compares the run in `folder`, prints the result, and returns the exit code of both together.
    ///
    /// # Errors
    /// If the run is unfit for it, or files cannot be written.
    pub fn finish(self, summary: &Summary, folder: &Path) -> Result<u8> {
        let (verdict, file) = (summary.verdict, folder.join("comparison.json"));
        // A comparison of an earlier run must not be taken for one of this run.
        files::forget(&file)?;
        match self {
            Self::Neither => Ok(verdict.exit_code()),
            Self::Save { name, folder, keep } => {
                let run = local::save(&name, &folder, summary, keep)?;
                outln!("{:<12} as {name}: {}", "saved", run.display());
                Ok(verdict.exit_code())
            }
            // An invalid or incomplete run is not compared.
            Self::Compare { .. }
                if verdict == Verdict::Invalid || !summary.invalid.is_empty() || summary.ended_early.is_some() =>
            {
                Ok(verdict.exit_code())
            }
            Self::Compare { name, base, options } => {
                let comparison = compare::run(&base, &source::side(&[folder.to_owned()])?, options);
                out!("\nagainst the baseline {name}\n{comparison}");
                comparison.save(&file)?;
                github_job::of_comparison(&comparison);
                Ok(both(verdict, &comparison))
            }
        }
    }
}

/// Returns the exit code of both: what is incomparable outranks a breach, and a breach a regression and what is missing.
fn both(verdict: Verdict, comparison: &Comparison) -> u8 {
    match (verdict.exit_code(), comparison.verdict) {
        (_, Judgement::Incomparable) => exit_code::INVALID,
        (exit_code::PASS, _) => comparison.exit_code,
        (judged, _) => judged,
    }
}
