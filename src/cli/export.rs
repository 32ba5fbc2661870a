//! `certctl-bench export`: exports a run to a format of another tool.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::collector::{self, Endpoint};
use crate::baseline::source;
use crate::error::{Error, Result};
use crate::files;
use crate::report::export::{csv, hgrm, hlog, junit, k6, openmetrics, otlp};
use crate::terminal::{self, out};

/// The measure that is exported where none is named.
const MEASURE: &str = "response";

/// Flags of `certctl-bench export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "docs/FORMATS.md has the units of each format, and the tools that read it.\n\
                        The exit code does not depend on the verdict of the run.\n\
                        Exit codes: 0 done, 1 could not write or send, 2 usage, 5 a summary of another schema.")]
pub struct ExportFlags {
    /// The run: a summary.json, or a folder that holds one, such as target/certctl-bench/agent_storm.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Format of the export.
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// Write it to this file instead of standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint")]
    output: Option<PathBuf>,
    /// Of otlp: send it to a collector's receiver of OTLP over HTTP instead, such as http://127.0.0.1:4318.
    #[arg(long, value_name = "URL")]
    endpoint: Option<Endpoint>,
    /// Of hgrm: the measure, such as service, schedule_lag or first_byte [default: response].
    #[arg(long, value_name = "NAME")]
    measure: Option<String>,
    /// Of hgrm: the workload, of a run with several.
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Of hgrm: the step, instead of all together.
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
}

/// A format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One distribution, as HdrHistogram's percentiles, in milliseconds.
    Hgrm,
    /// Response times second by second, as HdrHistogram's interval log.
    Hlog,
    /// Counts and response times second by second, as comma-separated values.
    Csv,
    /// Everything that was counted, as OpenMetrics.
    #[value(name = "openmetrics")]
    OpenMetrics,
    /// The figures that k6's --summary-export has.
    K6Summary,
    /// The verdict, as JUnit's XML: a test case for each threshold.
    Junit,
    /// Counts, distributions and thresholds for an OpenTelemetry collector: a request of OTLP, in protobuf.
    Otlp,
}

/// Reads the run and writes the export.
///
/// # Errors
/// If the run cannot be read, has not what was chosen, or the export cannot be written.
pub fn run(flags: &ExportFlags) -> Result<()> {
    for (name, value) in [("measure", &flags.measure), ("workload", &flags.workload), ("step", &flags.step)] {
        if value.is_some() && flags.format != ExportFormat::Hgrm {
            return Err(Error::usage(format!("--{name} applies only to --format hgrm"))
                .with_hint(format!("leave --{name} out: the other formats have all of the run")));
        }
    }
    if flags.endpoint.is_some() && flags.format != ExportFormat::Otlp {
        return Err(Error::usage("--endpoint applies only to --format otlp")
            .with_hint("leave it out: the other formats are written to --output, or to standard output"));
    }
    if let Some(file) = &flags.output {
        files::refuse_input(file, std::slice::from_ref(&flags.run))?;
    }
    let summary = source::summary(&flags.run)?;
    let rendered = match flags.format {
        ExportFormat::Hgrm => {
            let measure = flags.measure.as_deref().unwrap_or(MEASURE);
            let choice = hgrm::Choice { measure, workload: flags.workload.as_deref(), step: flags.step.as_deref() };
            hgrm::render(&summary, choice)?
        }
        ExportFormat::Otlp => {
            let request = otlp::render(&summary)?;
            return match (&flags.endpoint, &flags.output) {
                (Some(endpoint), _) => collector::send(endpoint, &request),
                (None, Some(file)) => files::write(file, request),
                (None, None) => {
                    terminal::print_bytes(&request);
                    Ok(())
                }
            };
        }
        ExportFormat::Hlog => hlog::render(&summary)?,
        ExportFormat::Csv => csv::render(&summary),
        ExportFormat::OpenMetrics => openmetrics::render(&summary)?,
        ExportFormat::K6Summary => k6::render(&summary)?,
        ExportFormat::Junit => junit::render(&summary),
    };
    match &flags.output {
        Some(file) => files::write(file, rendered),
        None => {
            out!("{rendered}");
            Ok(())
        }
    }
}
