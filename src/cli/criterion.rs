//! Criterion's own flags, with the meaning that they have there: they are parsed here, and passed on to the loop.

use clap::Args;

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
    #[arg(long, value_name = "COUNT")]
    sample_size: Option<usize>,
    /// Seconds that the loop warms up.
    #[arg(long, value_name = "SECONDS")]
    warm_up_time: Option<f64>,
    /// Seconds that the loop measures.
    #[arg(long, value_name = "SECONDS")]
    measurement_time: Option<f64>,
    /// Resamples of the bootstrap.
    #[arg(long, value_name = "COUNT")]
    nresamples: Option<usize>,
    /// Changes below this share are noise: 0.05 [default: the loop's 0.01, the workload's 0.05].
    #[arg(long, value_name = "SHARE", value_parser = super::compare::share)]
    pub noise_threshold: Option<f64>,
    /// Confidence level of the intervals.
    #[arg(long, value_name = "LEVEL")]
    confidence_level: Option<f64>,
    /// Significance level of comparisons.
    #[arg(long, value_name = "LEVEL")]
    significance_level: Option<f64>,
    /// Let the loop stop as soon as its result is significant.
    #[arg(long)]
    quick: bool,
    /// Iterate for so many seconds, for a profiler; runs the loop alone.
    #[arg(long, value_name = "SECONDS")]
    pub profile_time: Option<f64>,
    /// No plots.
    #[arg(short, long)]
    noplot: bool,
    /// gnuplot or plotters.
    #[arg(long, value_name = "NAME")]
    plotting_backend: Option<String>,
    /// criterion or bencher.
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<String>,
    /// pretty or terse, for --list.
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// auto, always or never.
    #[arg(short, long, value_name = "WHEN")]
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

impl CriterionFlags {
    /// Returns the command line for Criterion's own parser. The filter is left out: the caller has applied it.
    pub fn to_arguments(&self) -> Vec<String> {
        let switches = [
            ("--test", self.test),
            ("--bench", self.bench),
            ("--discard-baseline", self.discard_baseline),
            ("--quick", self.quick),
            ("--noplot", self.noplot),
            ("--verbose", self.verbose),
            ("--quiet", self.quiet),
        ];
        let values = [
            ("--save-baseline", self.save_baseline.clone()),
            ("--baseline", self.baseline.clone()),
            ("--baseline-lenient", self.baseline_lenient.clone()),
            ("--load-baseline", self.load_baseline.clone()),
            ("--sample-size", text(self.sample_size)),
            ("--warm-up-time", text(self.warm_up_time)),
            ("--measurement-time", text(self.measurement_time)),
            ("--nresamples", text(self.nresamples)),
            ("--noise-threshold", text(self.noise_threshold)),
            ("--confidence-level", text(self.confidence_level)),
            ("--significance-level", text(self.significance_level)),
            ("--profile-time", text(self.profile_time)),
            ("--plotting-backend", self.plotting_backend.clone()),
            ("--output-format", self.output_format.clone()),
            ("--format", self.format.clone()),
            ("--color", self.color.clone()),
        ];
        let switches = switches.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
        let values = values.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?])).flatten();
        switches.chain(values).collect()
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
}

fn text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}
