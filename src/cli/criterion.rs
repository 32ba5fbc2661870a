//! Criterion's own flags, with the meaning that they have there: they are parsed here, and applied to its builder. Its
//! own parser gets those that the builder lacks.

use std::time::Duration;

use clap::{Args, ValueEnum};
use criterion::Criterion;

use crate::error::Error;
use crate::terminal::errln;

/// Flags of Criterion 0.8. Its own parser accepts no others, so that this one has to know them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Criterion")]
pub struct CriterionFlags {
    /// Run only benchmarks whose id matches this regular expression.
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,
    /// With FILTER: match the whole id, literally.
    #[arg(long)]
    pub exact: bool,
    /// List the benchmarks and run none.
    #[arg(long)]
    pub list: bool,
    /// Run each benchmark once, without measuring.
    #[arg(long)]
    pub test: bool,
    /// Set by cargo bench; without it each benchmark runs once.
    #[arg(long, hide = true)]
    pub bench: bool,
    /// Save the results under this name, the loop's and the workload's.
    #[arg(short, long, value_name = "NAME")]
    pub save_baseline: Option<String>,
    /// Save nothing.
    #[arg(long)]
    pub discard_baseline: bool,
    /// Compare with the results saved under this name.
    #[arg(short, long, value_name = "NAME", conflicts_with = "save_baseline")]
    pub baseline: Option<String>,
    /// Like --baseline, without failing where there are none.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["save_baseline", "baseline"])]
    pub baseline_lenient: Option<String>,
    /// Load saved results instead of measuring.
    #[arg(long, value_name = "NAME")]
    pub load_baseline: Option<String>,
    /// Samples of the loop.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(10..))]
    sample_size: Option<u32>,
    /// Seconds that the loop warms up.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    warm_up_time: Option<Duration>,
    /// Seconds that the loop measures.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    measurement_time: Option<Duration>,
    /// Resamples of the bootstrap.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    nresamples: Option<u32>,
    /// Changes below this share are noise: 0.05 [default: the loop's 0.01, the workload's 0.05].
    #[arg(long, value_name = "SHARE", value_parser = super::compare::share)]
    pub noise_threshold: Option<f64>,
    /// Confidence level of the intervals.
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    confidence_level: Option<f64>,
    /// Significance level of comparisons.
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    significance_level: Option<f64>,
    /// Let the loop stop as soon as its result is significant.
    #[arg(long)]
    quick: bool,
    /// Iterate for so many seconds, for a profiler; runs the loop alone.
    #[arg(long, value_name = "SECONDS", value_parser = profile_seconds)]
    pub profile_time: Option<Duration>,
    /// No plots.
    #[arg(short, long)]
    noplot: bool,
    /// Program that draws the plots [default: gnuplot where it is installed].
    #[arg(long, value_enum, value_name = "NAME")]
    plotting_backend: Option<PlottingBackend>,
    /// Format of the loop's results.
    #[arg(long, value_name = "FORMAT", value_parser = ["criterion", "bencher"])]
    output_format: Option<String>,
    /// Taken and ignored: a list has one format.
    #[arg(long, hide = true, value_parser = ["pretty", "terse"])]
    format: Option<String>,
    /// Colours in the loop's results.
    #[arg(short, long, value_name = "WHEN", value_parser = ["auto", "always", "never"])]
    color: Option<String>,
    /// Print more of the loop's statistics.
    #[arg(short, long)]
    verbose: bool,
    /// Print only the loop's results.
    #[arg(long)]
    quiet: bool,
    /// Taken and ignored, as Criterion does.
    #[arg(long, hide = true)]
    nocapture: bool,
    /// Taken and ignored, as Criterion does.
    #[arg(long, hide = true)]
    show_output: bool,
    /// Taken and ignored, as Criterion does.
    #[arg(long, hide = true)]
    include_ignored: bool,
    /// Runs nothing, as in Criterion.
    #[arg(long, hide = true)]
    pub ignored: bool,
}

/// A program that draws Criterion's plots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlottingBackend {
    /// gnuplot, which must be installed.
    Gnuplot,
    /// The crate plotters.
    Plotters,
}

impl From<PlottingBackend> for criterion::PlottingBackend {
    fn from(backend: PlottingBackend) -> Self {
        match backend {
            PlottingBackend::Gnuplot => Self::Gnuplot,
            PlottingBackend::Plotters => Self::Plotters,
        }
    }
}

impl CriterionFlags {
    /// Returns the command line for Criterion's own parser: what its builder lacks. The filter is left out: the caller
    /// has applied it.
    pub fn to_arguments(&self) -> Vec<String> {
        let switches = [
            ("--test", self.test),
            ("--bench", self.bench),
            ("--discard-baseline", self.discard_baseline),
            ("--quick", self.quick),
            ("--verbose", self.verbose),
            ("--quiet", self.quiet),
        ];
        let values = [
            ("--load-baseline", &self.load_baseline),
            // Its parser takes a baseline to load only together with one to compare with.
            ("--baseline", if self.load_baseline.is_some() { &self.baseline } else { &None }),
            ("--output-format", &self.output_format),
            ("--color", &self.color),
        ];
        let switches = switches.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
        let values = values.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value.clone()?])).flatten();
        switches.chain(values).collect()
    }

    /// Applies the flags to a benchmark manager: those of [`Self::to_arguments`] from this process's command line, and
    /// the others. `strict` if a loop without results to compare with is an error.
    pub fn configure(&self, criterion: Criterion, strict: bool) -> Criterion {
        let criterion = criterion.configure_from_args();
        let count = |count: u32| count as usize;
        let criterion = set(criterion, self.sample_size.map(count), Criterion::sample_size);
        let criterion = set(criterion, self.nresamples.map(count), Criterion::nresamples);
        let criterion = set(criterion, self.warm_up_time, Criterion::warm_up_time);
        let criterion = set(criterion, self.measurement_time, Criterion::measurement_time);
        let criterion = set(criterion, self.noise_threshold, Criterion::noise_threshold);
        let criterion = set(criterion, self.confidence_level, Criterion::confidence_level);
        let criterion = set(criterion, self.significance_level, Criterion::significance_level);
        let criterion = set(criterion, self.save_baseline.clone(), Criterion::save_baseline);
        let criterion = set(criterion, self.plotting_backend.map(Into::into), Criterion::plotting_backend);
        let profile = self.profile_time.filter(|_| !self.test && self.bench);
        let criterion = set(criterion, profile.map(Some), Criterion::profile_time);
        let compared = self.baseline.clone().map(|name| (name, strict));
        let compared = compared.or_else(|| self.baseline_lenient.clone().map(|name| (name, false)));
        let criterion = set(criterion, compared, |criterion, (name, strict)| criterion.retain_baseline(name, strict));
        if self.noplot { criterion.without_plots() } else { criterion }
    }

    /// Returns true if the benchmark `id` is selected.
    ///
    /// # Errors
    /// If the filter is no regular expression.
    pub fn wants(&self, id: &str) -> Result<bool, regex::Error> {
        match &self.filter {
            _ if self.ignored => Ok(false),
            None => Ok(true),
            Some(filter) if self.exact => Ok(filter == id),
            Some(filter) => Ok(regex::Regex::new(filter)?.is_match(id)),
        }
    }

    /// Says that no benchmark of a bench target is selected. That is no failure: `cargo bench FILTER` gives the filter to
    /// every bench target.
    ///
    /// # Errors
    /// If the filter looks like a setting whose flag is missing.
    pub fn nothing_matches(&self, bench: &str) -> Result<(), Error> {
        let Some(filter) = self.filter.as_ref().filter(|_| !self.ignored) else { return Ok(()) };
        if let Some((name, _)) = filter.split_once('=') {
            return Err(Error::usage(format!("{name}=… is taken for a filter, and no benchmark has such an id"))
                .with_hint("write the flag before each value: --certctl-env A=1 --certctl-env B=2"));
        }
        errln!("{bench}: the filter matches no benchmark here; --list shows their ids");
        Ok(())
    }
}

/// Applies a value, if there is one, by a method of the builder.
fn set<T>(criterion: Criterion, value: Option<T>, apply: impl FnOnce(Criterion, T) -> Criterion) -> Criterion {
    match value {
        Some(value) => apply(criterion, value),
        None => criterion,
    }
}

/// Parses seconds, more than none.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|span| !span.is_zero()).ok_or_else(|| "write it in seconds, above 0: 2.5".to_owned())
}

/// Parses the seconds of a profile, at least one.
fn profile_seconds(text: &str) -> Result<Duration, String> {
    seconds(text).ok().filter(|span| *span >= Duration::from_secs(1)).ok_or_else(|| "must be 1 or more".to_owned())
}

/// Parses a level: above 0 and below 1.
fn level(text: &str) -> Result<f64, String> {
    let level = text.parse::<f64>().ok().filter(|level| *level > 0.0 && *level < 1.0);
    level.ok_or_else(|| "must be above 0 and below 1: 0.95".to_owned())
}
