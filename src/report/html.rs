//! Runs as one HTML file, which loads and runs nothing, and reads in light and dark, on paper and on a phone.

use std::fmt::Write as _;

use super::escape::html;
use super::plot::chart::{Axis, Band, Chart};
use super::plot::figure::{Shapes, Size};
use super::plot::ink::{self, Ink, Stroke};
use super::plot::intervals::{self as interval_plot, IntervalRow};
use super::plot::machine;
use super::plot::percentiles::{self, Curve};
use super::plot::phases::{self, Stack};
use super::plot::seconds::{self, Course};
use super::plot::waits;
use super::runs::{LoadedRun, ScenarioRuns};
use super::table::Table;
use super::{bars, evidence, headline, tables};
use crate::baseline::compare;
use crate::error::Result;
use crate::measure::machine_use::MachineUse;
use crate::summary::plan::{LoadModel, PlanFacts};
use crate::summary::verdict::Verdict;
use crate::summary::{Summary, WorkloadResults};

/// The two sizes of a figure: the page shows the one that fits.
pub(super) const WIDE: Size = Size { width: 960, height: 340 };
const NARROW: Size = Size { width: 400, height: 300 };
/// The height of the charts below the latencies.
pub(super) const LOW: i32 = 200;

/// A page while it is written.
pub struct Page(String);

/// The policies of a page: nothing is loaded and no script runs, or, of a live one, only those of its own server.
const STILL: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const LIVE: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'self'; connect-src 'self'";

impl Page {
    /// Begins a page with this title, which is its heading too.
    pub fn new(title: &str) -> Self {
        Self::with_policy(title, STILL)
    }

    /// Begins a page that a script of the same server keeps up to date.
    pub fn live(title: &str) -> Self {
        Self::with_policy(title, LIVE)
    }

    fn with_policy(title: &str, policy: &str) -> Self {
        let title = html(title);
        Self(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\"/>\n\
             <link rel=\"icon\" href=\"data:,\"/>\n\
             <title>{title} – certctl-bench</title>\n<style>\n{}{}{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
            ink::variables(),
            ink::style(),
            include_str!("page.css")
        ))
    }

    /// Adds a part, which is HTML.
    pub fn add(&mut self, part: &str) {
        self.0.push_str(part);
    }

    /// Ends the page.
    pub fn end(self) -> String {
        self.0 + "</main>\n</body>\n</html>\n"
    }
}

/// Renders a whole report, in the order of a reader's questions: the verdict; what was slow, and when; where the time
/// went; who used the machine; what the database did; and a comparison.
///
/// # Errors
/// If a run's histograms are damaged (a usage error), or a figure cannot be drawn.
pub fn report(groups: &[ScenarioRuns]) -> Result<String> {
    whole(groups, None)
}

/// Renders the report of a run that has just ended, compared with the run before it, if there was one.
///
/// # Errors
/// As of [`report`].
pub fn of_run(run: LoadedRun, before: Option<&Summary>) -> Result<String> {
    let scenario = run.summary.about.scenario.to_string();
    whole(&[ScenarioRuns { scenario, runs: vec![run] }], before)
}

fn whole(groups: &[ScenarioRuns], before: Option<&Summary>) -> Result<String> {
    let names: Vec<_> = groups.iter().map(|group| group.scenario.as_str()).collect();
    let mut page = Page::new(&names.join(", "));
    for group in groups {
        for run in &group.runs {
            page.add(&verdict(group, run, groups.len() > 1));
        }
    }
    if groups.len() > 1 {
        let links = (0..)
            .zip(groups)
            .map(|(at, group): (usize, _)| format!("<a href=\"#s{at}\">{}</a>", html(&group.scenario)));
        page.add(&format!("<nav aria-label=\"Scenarios\">{}</nav>\n", links.collect::<Vec<_>>().join(" ")));
    }
    for (at, group) in groups.iter().enumerate() {
        page.add(&section(at, group, groups.len() == 1, before)?);
    }
    Ok(page.end())
}

fn verdict(group: &ScenarioRuns, run: &LoadedRun, several: bool) -> String {
    let summary = &run.summary;
    let class = match summary.verdict {
        Verdict::Pass => "good",
        Verdict::Breached | Verdict::Invalid => "bad",
        Verdict::Smoke => "plain",
    };
    let mut whose = if several { html(&group.scenario) } else { String::new() };
    if !run.label.is_empty() {
        let _ = write!(whose, "{}{}", if whose.is_empty() { "" } else { ", " }, html(&run.label));
    }
    let whose = if whose.is_empty() { whose } else { format!("{whose}: ") };
    let doubtful = summary.doubtful().map(|reason| format!("doubtful: {reason}"));
    let reasons = summary.invalid.iter().cloned().chain(doubtful).chain(headline::retries(summary));
    let word = format!("{whose}<strong>{}</strong>", headline::word(summary));
    boxed(class, &word, &headline::meaning(summary), reasons)
}

/// Renders a verdict, its meaning, and the lines that belong to it; the class is `good`, `bad` or `plain`.
pub(super) fn verdict_box(class: &str, word: &str, meaning: &str, lines: impl Iterator<Item = String>) -> String {
    boxed(class, &format!("<strong>{}</strong>", html(word)), meaning, lines)
}

fn boxed(class: &str, word: &str, meaning: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.map(|line| format!("<li>{}</li>", html(&line))).collect();
    let lines = if lines.is_empty() { lines } else { format!("<ul>{lines}</ul>") };
    format!("<div class=\"verdict {class}\"><p>{word}: {}</p>{lines}</div>\n", html(meaning))
}

fn section(at: usize, group: &ScenarioRuns, alone: bool, before: Option<&Summary>) -> Result<String> {
    let heading = if alone { "Results".to_owned() } else { html(&group.scenario) };
    let mut text = format!("<section id=\"s{at}\">\n<h2>{heading}</h2>\n");
    for run in &group.runs {
        let about = &run.summary.about;
        let label = if run.label.is_empty() { String::new() } else { format!("<b>{}</b>: ", html(&run.label)) };
        let system = super::text::system(&about.system);
        let machine = format!("{} × {}", about.machine.cores, about.machine.cpu_model);
        let _ =
            writeln!(text, "<p class=\"about\">{label}{}</p>", html(&format!("{} – {system}; {machine}", about.title)));
    }
    text.push_str("<h3>What was slow, and when</h3>\n");
    text.push_str(&table(&tables::overview(group)));
    group.runs.iter().flat_map(tables::segments_of).for_each(|sheet| text.push_str(&table(&sheet)));
    for (place, workload) in group.workloads().into_iter().enumerate() {
        text.push_str(&figures(&format!("s{at}w{place}"), group, workload)?);
    }
    let each = |of: fn(&str, &LoadedRun) -> String| {
        let runs = group.runs.iter().enumerate();
        runs.map(|(place, run)| of(&format!("s{at}r{place}"), run)).collect::<String>()
    };
    for (question, answer) in [
        ("Where the time went", phases_of(at, group)),
        ("Who used the machine", each(machine_use)),
        ("What the database did", each(database)),
        ("Compared with", compared(group, before)),
    ] {
        if !answer.is_empty() {
            let _ = write!(text, "<h3>{question}</h3>\n{answer}");
        }
    }
    group.runs.iter().for_each(|run| text.push_str(&details(run)));
    text.push_str("</section>\n");
    Ok(text)
}

/// Renders the phases of requests and of connections.
fn phases_of(at: usize, group: &ScenarioRuns) -> String {
    let mut text = String::new();
    for (place, stacked) in bars::of(group).iter().enumerate() {
        let stack = Stack { title: stacked.title, bars: &stacked.bars };
        let draw = |width, id: &str| phases::part(&stack, width, id);
        text.push_str(&drawn(&format!("s{at}b{place}"), stack.title, "", draw));
    }
    text
}

/// Returns a title after the label of its run.
fn titled(run: &LoadedRun, title: &str) -> String {
    if run.label.is_empty() { title.to_owned() } else { format!("{}: {title}", run.label) }
}

/// The time of workloads that ran side by side: the axis and the background of the first one's latencies, and the second
/// on that axis at which the windows began to be observed.
struct GroupTime {
    x: Axis,
    bands: Vec<Band>,
    window_at: f64,
}

/// Returns the time of the workloads that used the machine so.
fn time_of(run: &LoadedRun, used: &MachineUse) -> Option<GroupTime> {
    let is_of = |plan: &PlanFacts| used.workloads.iter().any(|name| *name == plan.name);
    let (plan, results) = run.summary.measured().find(|(plan, _)| is_of(plan))?;
    let course = Course { label: "", ink: Ink::Run(0), results, warm_up_s: plan.warm_up_s };
    let Chart { x, bands, .. } = seconds::latency("", &[course])?;
    // What is observed begins with the first of the windows that lie side by side.
    let began = |plan: &PlanFacts| plan.starts_after_s + plan.warm_up_s;
    let first = run.summary.plans().filter(|plan| is_of(plan)).map(began).fold(f64::INFINITY, f64::min);
    Some(GroupTime { x, bands, window_at: first - began(plan) })
}

fn machine_use(id: &str, run: &LoadedRun) -> String {
    let mut text = String::new();
    for (place, used) in run.summary.machine_use.iter().enumerate() {
        let Some(GroupTime { x, bands, window_at }) = time_of(run, used) else { continue };
        if let Some(drawn) = machine::chart(&titled(run, "Use of the machine"), used, &x, &bands, window_at) {
            let note = drawn.description.clone();
            text.push_str(&figure(&format!("{id}m{place}"), &[(drawn, LOW, LOW)], &[], &note));
        }
    }
    text
}

fn database(id: &str, run: &LoadedRun) -> String {
    let mut text = String::new();
    for (place, evidence) in run.summary.evidence.iter().enumerate() {
        let time = run.summary.machine_use.get(place).and_then(|used| time_of(run, used));
        if let (Some(window), Some(GroupTime { x, bands, window_at })) = (&evidence.window, time) {
            let title = titled(run, "Active backends of the database");
            if let Some(drawn) = waits::chart(&title, &window.activity.timeline, &x, &bands, window_at) {
                let note = "Sampled each second: shorter waits are missed.";
                text.push_str(&figure(&format!("{id}d{place}"), &[(drawn, LOW, LOW)], &[], note));
            }
        }
        let lines = evidence::lines(evidence);
        if !lines.is_empty() {
            let name = html(&titled(run, "evidence of the system's side"));
            let _ = writeln!(
                text,
                "<pre class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{name}\">{}</pre>",
                html(&lines)
            );
        }
    }
    text
}

/// Compares two runs of a group, or its only run with the one before it; empty without another.
fn compared(group: &ScenarioRuns, before: Option<&Summary>) -> String {
    let mut text = String::new();
    for difference in group.differences() {
        let _ = writeln!(text, "<p class=\"note\">The runs differ: {}.</p>", html(&difference));
    }
    let (base, head) = match (&group.runs[..], before) {
        ([head], Some(before)) => (before, &head.summary),
        ([base, head], _) => (&base.summary, &head.summary),
        _ => return text,
    };
    let named = |summary: &Summary| {
        format!("that of {}, commit {}", html(&summary.finished_at), html(&summary.about.machine.commit))
    };
    let _ = writeln!(text, "<p class=\"about\">The base is {}; the head {}.</p>", named(base), named(head));
    match compare::of_runs(base, head) {
        Ok(comparison) => {
            let _ = writeln!(text, "<p><strong>{}</strong></p>", html(&comparison.verdict.to_string()));
            for why in comparison.incomparable.iter().chain(&comparison.missing).chain(&comparison.notes) {
                let _ = writeln!(text, "<p class=\"note\">{}</p>", html(why));
            }
            if !comparison.measures.is_empty() {
                text.push_str(&table(&comparison.table()));
            }
        }
        Err(why) => {
            let _ = writeln!(text, "<p class=\"note\">Not compared: {}.</p>", html(why.what()));
        }
    }
    text
}

/// Returns the runs that measured a workload, each with its place in the group.
fn found<'g>(
    group: &'g ScenarioRuns,
    workload: &'g str,
) -> impl Iterator<Item = (usize, &'g LoadedRun, &'g WorkloadResults, &'g PlanFacts)> {
    group.runs.iter().enumerate().filter_map(move |(place, run)| {
        let (plan, results) = run.summary.measured_named(workload)?;
        Some((place, run, results, plan))
    })
}

/// Draws the latencies of a workload by percentile; `None` where nothing was answered.
pub(super) fn percentile_chart(group: &ScenarioRuns, workload: &str) -> Result<Option<Chart>> {
    let mut distributions = Vec::new();
    for (place, run, results, plan) in found(group, workload) {
        let named = |what: &str| if run.label.is_empty() { what.to_owned() } else { format!("{}: {what}", run.label) };
        let response = run.distribution(&results.latency.response)?;
        distributions.push((named("response time"), place, Stroke::Solid, response));
        // In a closed workload both times are the same.
        if plan.model != LoadModel::Closed {
            let service = run.distribution(&results.latency.service)?;
            distributions.push((named("service time"), place, Stroke::Dashed, service));
        }
    }
    let curves = distributions.iter().map(|(label, place, stroke, distribution)| Curve {
        label: label.clone(),
        ink: Ink::Run(*place),
        stroke: *stroke,
        distribution,
    });
    Ok(percentiles::chart("Latency by percentile", &curves.collect::<Vec<_>>()))
}

/// Returns the courses of a workload's runs.
pub(super) fn courses<'g>(group: &'g ScenarioRuns, workload: &'g str) -> Vec<Course<'g>> {
    let course = |(place, run, results, plan): (usize, &'g LoadedRun, _, &PlanFacts)| Course {
        label: &run.label,
        ink: Ink::Run(place),
        results,
        warm_up_s: plan.warm_up_s,
    };
    found(group, workload).map(course).collect()
}

fn figures(id: &str, group: &ScenarioRuns, workload: &str) -> Result<String> {
    let mut text = String::new();
    if group.workloads().len() > 1 {
        let _ = writeln!(text, "<h4>{}</h4>", html(workload));
    }
    if let Some(chart) = percentile_chart(group, workload)? {
        let note = "Dotted: fewer than ten samples lie beyond.";
        text.push_str(&figure(&format!("{id}p"), &[(chart, WIDE.height, NARROW.height)], &[], note));
    }
    let courses = courses(group, workload);
    let latency = seconds::latency("Latency over time", &courses);
    let rate = seconds::rate("Rate over time", &courses);
    if let (Some(latency), Some(rate)) = (latency, rate) {
        let mut grounds = Vec::new();
        if latency.bands.iter().any(|band| band.ink == Ink::WarmUp && band.from < band.to) {
            grounds.push((Ink::WarmUp, "warm-up, not measured"));
        }
        if latency.bands.iter().any(|band| band.ink == Ink::Stall) {
            grounds.push((Ink::Stall, "stalled: slowest answer ten times the usual, or none"));
        }
        let waited = found(group, workload).flat_map(|(_, run, results, plan)| waits_of(run, results, plan));
        let note = std::iter::once(latency.description.clone()).chain(waited).collect::<Vec<_>>().join(" ");
        let limits = error_limits(group);
        let errors = seconds::errors("Errors over time", &courses, &limits);
        let below = [Some(rate), errors].into_iter().flatten().map(|chart| (chart, LOW, LOW));
        let charts: Vec<_> = std::iter::once((latency, WIDE.height, NARROW.height)).chain(below).collect();
        text.push_str(&figure(&format!("{id}t"), &charts, &grounds, &note));
    }
    Ok(text)
}

/// Returns the bounds on errors of a group's runs, each once: the label of its line, and the share.
fn error_limits(group: &ScenarioRuns) -> Vec<(String, f64)> {
    let mut limits: Vec<(String, f64)> = Vec::new();
    let together = if group.workloads().len() > 1 { " of all together" } else { "" };
    for threshold in group.runs.iter().flat_map(|run| &run.summary.thresholds).filter(|one| one.bounds_errors()) {
        let label = format!("limit of {}{together} ({})", threshold.title(), tables::limit(threshold));
        if limits.iter().all(|(known, _)| *known != label) {
            limits.push((label, threshold.limit));
        }
    }
    limits
}

/// Describes, for each stall of a workload, what PostgreSQL was waiting for.
fn waits_of(run: &LoadedRun, results: &WorkloadResults, plan: &PlanFacts) -> Vec<String> {
    let mut groups = run.summary.machine_use.iter().zip(&run.summary.evidence);
    let Some((used, evidence)) = groups.find(|(used, _)| used.workloads.iter().any(|name| *name == plan.name)) else {
        return Vec::new();
    };
    let course = Course { label: "", ink: Ink::Run(0), results, warm_up_s: plan.warm_up_s };
    let began = |plan: &PlanFacts| plan.starts_after_s + plan.warm_up_s;
    let plans = run.summary.plans().filter(|plan| used.workloads.iter().any(|name| *name == plan.name));
    let window_at = plans.map(began).fold(f64::INFINITY, f64::min) - began(plan);
    let samples = evidence.window.iter().flat_map(|window| &window.activity.timeline).collect::<Vec<_>>();
    let stalls = course.stalls();
    stalls.iter().filter_map(|stall| waits::during(stall, &samples, window_at)).collect()
}

fn twice(wide: &str, narrow: &str) -> String {
    format!("<div class=\"wide\">{wide}</div>\n<div class=\"narrow\">{narrow}</div>\n")
}

/// Renders a figure that is drawn for a width and under an id.
fn drawn(id: &str, caption: &str, note: &str, draw: impl Fn(i32, &str) -> String) -> String {
    let both = twice(&draw(WIDE.width, &format!("{id}-w")), &draw(NARROW.width, &format!("{id}-n")));
    let note = if note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>\n", html(note)) };
    format!("<figure>\n<figcaption>{}</figcaption>\n{both}{note}</figure>\n", html(caption))
}

/// Renders changes from base to head with their intervals, of which `note` says more; nothing without any.
pub(super) fn intervals(rows: &[IntervalRow], note: &str) -> String {
    const TITLE: &str = "Changes from base to head";
    if rows.is_empty() {
        return String::new();
    }
    let note = format!(
        "The dot is the estimate; a change within the grey does not count; an arrow leads beyond the axis. {note}"
    );
    drawn("changes", TITLE, &note, |width, id| interval_plot::part(TITLE, rows, width, id))
}

/// Renders charts under one caption, each with its legend and its heights; `grounds` stand in the first legend.
pub fn figure(id: &str, charts: &[(Chart, i32, i32)], grounds: &[(Ink, &str)], note: &str) -> String {
    let titles: Vec<_> = charts.iter().map(|(chart, ..)| html(&chart.title)).collect();
    let mut text = format!("<figure>\n<figcaption>{}</figcaption>\n", titles.join("; "));
    for (place, (chart, wide, narrow)) in charts.iter().enumerate() {
        text.push_str(&legend(chart, if place == 0 { grounds } else { &[] }));
        let wide = chart.svg(Size { height: *wide, ..WIDE }, &format!("{id}{place}-w"));
        let narrow = chart.svg(Size { height: *narrow, ..NARROW }, &format!("{id}{place}-n"));
        text.push_str(&twice(&wide, &narrow));
    }
    let _ = writeln!(text, "<p class=\"note\">{}</p>\n</figure>", html(note));
    text
}

fn legend(chart: &Chart, grounds: &[(Ink, &str)]) -> String {
    let swatch =
        |inner: String| format!("<svg class=\"swatch\" viewBox=\"0 0 28 12\" aria-hidden=\"true\">{inner}</svg>");
    // The most important lines are drawn last and named first.
    let lines = chart.lines.iter().rev().filter_map(|line| {
        let drawn = format!(
            "<line class=\"{}\" stroke-width=\"{}\" x1=\"0\" y1=\"6\" x2=\"28\" y2=\"6\"/>",
            line.stroke.class(line.ink),
            line.width
        );
        Some(format!("<li>{}{}</li>", swatch(drawn), html(line.label.as_ref()?)))
    });
    let areas = chart.areas.iter().map(|area| (area.ink, area.label.as_str()));
    let grounds = areas.chain(grounds.iter().copied()).map(|(ink, what)| {
        let mut drawn = format!("<rect class=\"f-{}\" width=\"28\" height=\"12\"/>", ink.name());
        if ink == Ink::Drain {
            let mut lines = Shapes::default();
            lines.hatch((0.0, 0.0), (28.0, 12.0));
            drawn += lines.as_str().trim_end();
        }
        format!("<li>{}{}</li>", swatch(drawn), html(what))
    });
    format!("<ul class=\"legend\">{}</ul>\n", lines.chain(grounds).collect::<String>())
}

/// Renders a table that scrolls by itself where it is too wide.
pub fn table(sheet: &Table) -> String {
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption>\n{1}</table></div>\n",
        html(&sheet.title),
        inner_table(sheet)
    )
}

/// Renders the rows of a table, with its header.
pub fn inner_table(sheet: &Table) -> String {
    let side = |column: usize| if column < sheet.words { "" } else { " class=\"n\"" };
    let mut text = String::new();
    if sheet.header.iter().any(|column| !column.is_empty()) {
        let cells = sheet
            .header
            .iter()
            .enumerate()
            .map(|(at, column)| format!("<th scope=\"col\"{}>{}</th>", side(at), html(column)));
        let _ = writeln!(text, "<thead><tr>{}</tr></thead>", cells.collect::<String>());
    }
    text.push_str("<tbody>\n");
    for row in &sheet.rows {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let inner = if cell.alarming {
                format!("<strong class=\"bad\">{}</strong>", html(&cell.text))
            } else {
                html(&cell.text)
            };
            if at == 0 { format!("<th scope=\"row\">{inner}</th>") } else { format!("<td{}>{inner}</td>", side(at)) }
        });
        let _ = writeln!(text, "<tr>{}</tr>", cells.collect::<String>());
    }
    text + "</tbody>\n"
}

fn details(run: &LoadedRun) -> String {
    let whose = if run.label.is_empty() { String::new() } else { format!(" of {}", html(&run.label)) };
    let mut text = format!("<details><summary>Machine, system and all figures{whose}</summary>\n");
    for sheet in tables::details(&run.summary) {
        text.push_str(&table(&sheet));
    }
    text + "</details>\n"
}
