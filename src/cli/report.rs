//! `certctl-bench report`: reports the results of runs as text, Markdown or HTML.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::error::Result;
use crate::files;
use crate::report::colour::Palette;
use crate::report::runs::{self, ScenarioRuns};
use crate::report::{html, markdown, text};
use crate::terminal::out;

/// Flags of `certctl-bench report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Runs of one scenario are overlaid: the first is the base, the second the head.\n\
                        The exit code does not depend on the verdicts of the runs.\n\
                        Exit codes: 0 done, 1 could not write, 2 usage, 5 a summary of another schema.")]
pub struct ReportFlags {
    /// The runs: summary.json files, or folders that hold one, such as target/certctl-bench/agent_storm.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Form of the report: for a terminal, for a pull request's comment, or as one file with figures.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE", required_if_eq("format", "html"))]
    output: Option<PathBuf>,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The text that the run itself printed.
    Text,
    /// Verdict, table, and details folded.
    Markdown,
    /// One file with figures, which loads nothing.
    Html,
}

/// Reads the runs and writes the report.
///
/// # Errors
/// If a run cannot be read, or the report cannot be written.
pub fn run(flags: ReportFlags) -> Result<()> {
    if let Some(file) = &flags.output {
        files::refuse_input(file, &flags.runs)?;
    }
    let groups = runs::load_all(&flags.runs)?;
    let rendered = match flags.format {
        Format::Text => plain(&groups),
        Format::Markdown => markdown::report(&groups),
        Format::Html => html::report(&groups)?,
    };
    match &flags.output {
        Some(file) => files::write(file, rendered),
        None if flags.format == Format::Text => {
            out!("{}", text::coloured(&rendered, Palette::of(&std::io::stdout())));
            Ok(())
        }
        None => {
            out!("{rendered}");
            Ok(())
        }
    }
}

fn plain(groups: &[ScenarioRuns]) -> String {
    let runs = groups.iter().flat_map(|group| &group.runs);
    let each = runs.map(|run| {
        let label = if run.label.is_empty() { String::new() } else { format!("{}: {}\n", run.label, run.file) };
        label + &text::heading(&run.summary.about, run.summary.plans()) + "\n" + &text::results(&run.summary)
    });
    each.collect::<Vec<_>>().join("\n")
}
