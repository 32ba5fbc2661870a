//! A distribution as the percentile distribution of HdrHistogram, in milliseconds: the text that its Java class
//! `AbstractHistogram` prints (`outputPercentileDistribution`), with five ticks in each half distance to 100%.

use std::fmt::Write as _;

use super::{measures, measures_of_step};
use crate::error::{Error, Result};
use crate::foreign;
use crate::measure::Distribution;
use crate::summary::facts::DistributionFacts;
use crate::summary::{Summary, WorkloadResults};

/// The rows up to 50%, again up to 75%, and so on.
const TICKS_PER_HALF_DISTANCE: f64 = 5.0;
const NS_PER_MS: f64 = 1e6;

/// The choice of a distribution of a run.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The measure, as in `response`.
    pub measure: &'a str,
    /// The workload; may be left out where there is one.
    pub workload: Option<&'a str>,
    /// The step; all steps together where it is left out.
    pub step: Option<&'a str>,
}

/// Renders the chosen distribution.
///
/// # Errors
/// If the run does not have it (a usage error that names those it has), or it is damaged.
pub fn render(summary: &Summary, choice: Choice<'_>) -> Result<String> {
    Ok(text(&chosen(summary, choice)?.distribution()?))
}

fn chosen<'s>(summary: &'s Summary, choice: Choice<'_>) -> Result<&'s DistributionFacts> {
    let results = workload(summary, choice.workload)?;
    let measures = match choice.step {
        None => measures(results),
        Some(name) => {
            let found = results.steps.iter().find(|step| step.name == name);
            measures_of_step(found.ok_or_else(|| {
                let names = results.steps.iter().map(|step| &*step.name);
                absent("the workload has no step", name, names, "leave --step out: it has none")
            })?)
        }
    };
    let found = measures.iter().find(|(name, _)| *name == choice.measure);
    found.map(|(_, facts)| *facts).ok_or_else(|| {
        let names = measures.iter().map(|(name, _)| *name);
        absent("the run has no samples of", choice.measure, names, "measure again: it has none of anything")
    })
}

fn workload<'s>(summary: &'s Summary, name: Option<&str>) -> Result<&'s WorkloadResults> {
    let names: Vec<&str> = summary.measured().map(|(plan, _)| &*plan.name).collect();
    let nothing = "measure again: the run measured nothing";
    match (name, &names[..]) {
        (Some(name), _) => {
            let found = summary.measured_named(name).map(|(_, results)| results);
            found.ok_or_else(|| absent("the run has no workload", name, names.iter().copied(), nothing))
        }
        (None, [] | [_]) => {
            let only = summary.measured().next().map(|(_, results)| results);
            only.ok_or_else(|| Error::invalid("the run has no workload that was measured").with_hint(nothing))
        }
        (None, several) => Err(Error::usage(format!("the run has {} workloads", several.len()))
            .with_hint(format!("choose one with --workload: {}", several.join(", ")))),
    }
}

/// Returns the error that there is nothing of this name, with the names that there are.
fn absent<'n>(lack: &str, name: &str, others: impl Iterator<Item = &'n str>, without: &str) -> Error {
    let others: Vec<&str> = others.collect();
    let hint = if others.is_empty() { without.to_owned() } else { format!("give one of {}", others.join(", ")) };
    Error::usage(format!("{lack} {}", foreign::line(name))).with_hint(hint)
}

/// A row: the percentile that it stands for, the value up to which so many samples lie, and their number.
struct Row {
    percentile: f64,
    value_ns: u64,
    count: u64,
}

fn text(samples: &Distribution) -> String {
    let (layout, ms) = (samples.layout(), |ns: f64| ns / NS_PER_MS);
    let digits = layout.digits;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for Row { percentile, value_ns, count } in rows(samples) {
        let (value, share) = (ms(value_ns as f64), percentile / 100.0);
        let _ = write!(text, "{value:12.digits$} {share:.12} {count:10}");
        // The last row has no end of that scale.
        let _ = if percentile < 100.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - share)) } else { writeln!(text) };
    }
    let figures = [samples.mean_ns(), samples.deviation_ns(), samples.max_ns().map(|ns| ns as f64)];
    let [mean, deviation, max] = figures.map(|ns| ms(ns.unwrap_or_default()));
    let _ = writeln!(text, "#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]");
    let _ = writeln!(text, "#[Max     = {max:12.digits$}, Total count    = {:12}]", samples.count());
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", layout.buckets, layout.sub_buckets);
    text
}

/// Returns the rows. Levels are percents, since all of them are exact in binary, as shares are not: at a level that the
/// samples meet exactly, a rounded one would pick the next value.
fn rows(samples: &Distribution) -> Vec<Row> {
    let total = samples.count();
    let (mut rows, mut count, mut level) = (Vec::new(), 0, 0.0);
    for (value_ns, more) in samples.recorded_ns() {
        count += more;
        while 100.0 * count as f64 / total as f64 >= level {
            rows.push(Row { percentile: level, value_ns, count });
            level += 100.0 / ticks(level);
            if count == total {
                rows.push(Row { percentile: 100.0, value_ns, count });
                break;
            }
        }
    }
    rows
}

/// Returns the number of ticks between 0 and 100% at a level: twice as many each time that the distance to 100% halves.
fn ticks(level: f64) -> f64 {
    let halvings = ((100.0 / (100.0 - level)).ln() / 2_f64.ln()).floor();
    TICKS_PER_HALF_DISTANCE * (halvings + 1.0).exp2()
}
