//! Tables and pictures in documents, made of committed baselines, between markers:
//!
//! ```text
//! <!-- splice: latency baselines/ENVIRONMENT -->
//! this text is replaced
//! <!-- splice: end -->
//! ```
//!
//! `latency`, `counts` and `phases` make a table of baselines, or of all in a folder; `picture FILE.svg` draws their
//! phases into a file beside the document. Paths of baselines are relative to the working folder.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::escape::markdown;
use super::markdown::table;
use super::plot::phases::{self, Bar, Stack};
use super::table::Table;
use crate::baseline::environment::Environment;
use crate::baseline::file::MeasureLine;
use crate::baseline::measure::MeasureKind;
use crate::baseline::statistics::median;
use crate::baseline::{Baseline, source};
use crate::error::{Context as _, Error, Result};
use crate::system::SystemKind;

const OPENING: &str = "<!-- splice: ";
const CLOSING: &str = " -->";
const END: &str = "<!-- splice: end -->";
/// The width at which GitHub shows a page.
const PICTURE_WIDTH: i32 = 760;

/// The phases of a connection: their names in measures, and their names for people.
const PHASES: [(&str, &str); 6] = [
    ("dial", "TCP connect"),
    ("tls_hello", "TLS, to its answer"),
    ("tls_finish", "TLS, the rest"),
    ("send", "send"),
    ("first_byte", "first byte"),
    ("receive", "receive"),
];

/// A document with its tables renewed.
#[derive(Debug, PartialEq, Eq)]
pub struct Spliced {
    /// Its whole text.
    pub text: String,
    /// Its pictures, each with its path.
    pub pictures: Vec<(PathBuf, String)>,
}

/// Reports whether a document has a marker.
pub fn is_marked(text: &str) -> bool {
    text.lines().any(|line| line.starts_with(OPENING))
}

/// Renews the text between the markers of `document`. Paths of baselines are relative to the working folder.
///
/// # Errors
/// If a marker is unknown, has no end, or names no baseline: a usage error with document and line.
pub fn splice(document: &Path, text: &str) -> Result<Spliced> {
    let mut spliced = Spliced { text: String::new(), pictures: Vec::new() };
    let mut lines = text.split_inclusive('\n').enumerate();
    while let Some((index, line)) = lines.next() {
        spliced.text.push_str(line);
        let Some(order) = line.trim_end().strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(CLOSING)) else {
            continue;
        };
        let wrong = |why: &str| {
            Error::usage(format!("{} line {}: {why}", document.display(), index + 1)).with_hint(
                "write `<!-- splice: latency|counts|phases BASELINE... -->` or `… picture FILE.svg BASELINE... \
                       -->`, and `<!-- splice: end -->` below",
            )
        };
        if line.trim_end() == END {
            return Err(wrong("this end marker has no start marker before it"));
        }
        let end = lines.find(|(_, line)| line.trim_end() == END || line.starts_with(OPENING));
        let Some((_, end)) = end.filter(|(_, end)| end.trim_end() == END) else {
            return Err(wrong("this marker has no end marker"));
        };
        let mut words = order.split_whitespace();
        let what = words.next().unwrap_or_default();
        let picture = if what == "picture" { words.next() } else { None };
        let baselines = load(words).map_err(|error| wrong(error.what()))?;
        if baselines.is_empty() {
            return Err(wrong("no baseline is named or found"));
        }
        let from = spliced.text.len();
        match (what, picture) {
            ("latency", _) => spliced.text.push_str(&latency(&baselines)),
            ("counts", _) => spliced.text.push_str(&counts(&baselines)),
            ("phases", _) => spliced.text.push_str(&phase_table(&baselines)),
            ("picture", Some(file)) if file.ends_with(".svg") && !file.contains(['/', '\\', '(', ')']) => {
                let (title, drawn) = draw(&baselines)?;
                let _ = writeln!(spliced.text, "![{title}]({file})");
                spliced.pictures.push((document.with_file_name(file), drawn));
            }
            _ => return Err(wrong(&format!("`{order}` is not a known kind of table or picture"))),
        }
        if line.ends_with("\r\n") {
            let made = spliced.text.split_off(from).replace('\n', "\r\n");
            spliced.text.push_str(&made);
        }
        spliced.text.push_str(end);
    }
    Ok(spliced)
}

/// Reads all baselines of these files and folders; those of a folder in the order of their names.
fn load<'w>(words: impl Iterator<Item = &'w str>) -> Result<Vec<Baseline>> {
    let mut files = Vec::new();
    for word in words {
        let path = PathBuf::from(word);
        if path.is_dir() {
            let entries = fs::read_dir(&path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
            let entries = entries.context(|| format!("reading the folder {}", path.display()))?;
            let mut inside: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
            inside.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path);
        }
    }
    files.iter().map(|file| source::baseline(file)).collect()
}

/// A workload of a baseline.
#[derive(Clone, Copy)]
struct BaselineWorkload<'b> {
    baseline: &'b Baseline,
    name: &'b str,
}

impl<'b> BaselineWorkload<'b> {
    fn all(baselines: &'b [Baseline]) -> impl Iterator<Item = Self> {
        baselines.iter().flat_map(|baseline| {
            let names = baseline.measures.keys().filter_map(|measure| measure.strip_suffix("/response_p50_us"));
            // A step's name holds another slash.
            names.filter(|name| !name.contains('/')).map(move |name| Self { baseline, name })
        })
    }

    /// Returns all workloads, those of one daemon side by side, in the order of baselines.
    fn by_daemon(baselines: &'b [Baseline]) -> Vec<Self> {
        let mut all: Vec<Self> = Self::all(baselines).collect();
        all.sort_by_key(|workload| workload.name);
        all
    }

    fn line(self, measure: &str) -> Option<&'b MeasureLine> {
        self.baseline.measures.get(&format!("{}/{measure}", self.name))
    }

    /// Returns the median over the runs of a measure, such as one in microseconds.
    fn us(self, measure: &str) -> Option<f64> {
        self.line(measure).and_then(middle)
    }

    fn properties(self, what: &str) -> Option<&'b str> {
        self.baseline.workload.properties.get(&format!("{}/{what}", self.name)).map(String::as_str)
    }

    /// Describes the load: its rate, or its users.
    fn load(self) -> String {
        match (self.properties("rate_per_s"), self.properties("connections")) {
            (Some(rate), _) => {
                let rate: f64 = rate.parse().unwrap_or_default();
                if rate < 10.0 { format!("{:.0}/min", rate * 60.0) } else { format!("{rate:.0}/s") }
            }
            (None, Some(users)) => format!("{users} users"),
            (None, None) => "–".to_owned(),
        }
    }

    /// Returns the daemon, and the handshakes that are offered to it: the part of the title after the semicolon.
    fn daemon(self) -> [String; 2] {
        let offer = self.properties("title").and_then(|title| title.split_once("; ")).map_or("–", |(_, offer)| offer);
        [self.name.trim_end_matches("_handshake").to_owned(), offer.replace(" TLS handshakes", "")]
    }
}

/// Returns the median of the runs that have enough samples.
fn middle(line: &MeasureLine) -> Option<f64> {
    let values: Vec<f64> = line.values.iter().flatten().copied().collect();
    (!values.is_empty()).then(|| median(&values))
}

fn latency(baselines: &[Baseline]) -> String {
    let header = ["workload", "load", "p50", "p95", "p99", "runs differ by (p50)", "answers/s", "errors"];
    let rows = BaselineWorkload::all(baselines).map(|workload| {
        let spread = workload.line("response_p50_us").and_then(MeasureLine::spread);
        let spread = spread.map(|spread| format!("{:.0}%", spread * 100.0));
        let answers = workload.us("answers_per_s").map(|per_s| format!("{per_s:.0}"));
        let errors = workload.us("error_share").map(|share| format!("{:.3}%", share * 100.0));
        let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| ms(workload.us(&format!("response_{name}_us"))));
        let text = [Some(workload.name.to_owned()), Some(workload.load())];
        text.into_iter().chain([Some(p50), Some(p95), Some(p99), spread, answers, errors]).map(or_dash).collect()
    });
    self::rows(header, rows) + &caption(baselines, "Response times in ms, medians of runs")
}

fn counts(baselines: &[Baseline]) -> String {
    let rows = baselines.iter().flat_map(|baseline| {
        let is_count = |line: &MeasureLine| matches!(line.kind, MeasureKind::Exact | MeasureKind::Shown);
        let counts = baseline.measures.iter().filter(move |(_, line)| is_count(line));
        counts.map(|(name, line)| {
            let value = middle(line).map(|value| format!("{value:.3}"));
            let tolerance = line.tolerance.map(|share| format!("{}%", (share * 1e6).round() / 1e4));
            let tolerance = tolerance.unwrap_or_else(|| "not judged".to_owned());
            vec![baseline.scenario.clone(), name.clone(), or_dash(value), tolerance]
        })
    });
    self::rows(["scenario", "measure", "median", "tolerance"], rows) + &caption(baselines, "Counts")
}

fn phase_table(baselines: &[Baseline]) -> String {
    let header = ["daemon", "handshakes", "all: p50", "p95"];
    let header = header.into_iter().chain(PHASES.iter().map(|(_, name)| *name)).chain(["bytes"]);
    let rows = BaselineWorkload::by_daemon(baselines).into_iter().map(|workload| {
        let us = |measure: &str| or_dash(workload.us(measure).map(|us| format!("{us:.0}")));
        let bytes = ["read", "written"].map(|way| workload.us(&format!("reopening_{way}_bytes_per_handshake")));
        let bytes = bytes.map(|bytes| or_dash(bytes.map(|bytes| format!("{bytes:.0}")))).join(" + ");
        let phases = PHASES.iter().map(|(measure, _)| us(&format!("{measure}_p50_us")));
        let all = [us("response_p50_us"), us("response_p95_us")];
        workload.daemon().into_iter().chain(all).chain(phases).chain([bytes]).collect()
    });
    self::rows(header, rows) + &caption(baselines, "Times in µs, medians of runs' quantiles; bytes read + written")
}

/// Draws the picture, and returns its title with it.
fn draw(baselines: &[Baseline]) -> Result<(&'static str, String)> {
    let title = "Where a connection's time went (each phase's median, and their sum)";
    let bars = BaselineWorkload::by_daemon(baselines).into_iter().map(|workload| {
        let segment = |(measure, name): &(&str, &str)| {
            workload.us(&format!("{measure}_p50_us")).map(|us| ((*name).to_owned(), us))
        };
        Bar { label: workload.daemon().join(", "), segments: PHASES.iter().filter_map(segment).collect() }
    });
    let bars: Vec<Bar> = bars.filter(|bar| !bar.segments.is_empty()).collect();
    if bars.is_empty() {
        return Err(Error::usage("none of these baselines has phases").with_hint("name baselines of connector_tier"));
    }
    Ok((title, phases::file(&Stack { title, bars: &bars }, PICTURE_WIDTH)))
}

/// Renders a table whose first two columns are words.
fn rows<'h>(header: impl IntoIterator<Item = &'h str>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let header = header.into_iter().map(|column| column.to_owned().into()).collect();
    let rows = rows.map(|row| row.into_iter().map(Into::into).collect()).collect();
    format!("\n{}", table(&Table { title: String::new(), header, words: 2, rows }))
}

/// Describes the runs, days and machines of the figures.
fn caption(baselines: &[Baseline], what: &str) -> String {
    let sorted = |of: fn(&Baseline) -> String| baselines.iter().map(of).collect::<BTreeSet<_>>();
    let runs = sorted(|baseline| format!("{} runs", baseline.runs.len()));
    let days = sorted(|baseline| {
        let last = baseline.runs.iter().map(|run| run.finished_at.as_str()).max().unwrap_or_default();
        last.split('T').next().unwrap_or_default().to_owned()
    });
    let places = sorted(|baseline| place(&baseline.environment));
    let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" and ");
    format!("{what}: {} each, {}. {}.\n\n", list(runs), list(days), markdown(&list(places)))
}

fn place(environment: &Environment) -> String {
    let Environment { cpu_model, cores, memory_gib, virtualisation, .. } = environment;
    let machine = if virtualisation == "none" { "no virtual machine" } else { virtualisation };
    let system = match environment.system_kind {
        SystemKind::Reference => {
            format!("reference server {} on {}", environment.system_version, environment.system_store)
        }
        SystemKind::Connectors => environment.system_version.clone(),
        kind => format!("{kind} {}", environment.system_version),
    };
    format!("{cpu_model}, {cores} cores, {memory_gib} GiB, {machine}; {system}")
}

fn ms(us: Option<f64>) -> String {
    or_dash(us.map(|us| if us < 10_000.0 { format!("{:.2}", us / 1e3) } else { format!("{:.1}", us / 1e3) }))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}
