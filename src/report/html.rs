//! Runs as one HTML file, which loads and runs nothing, and reads in light and dark, on paper and on a phone.

use std::fmt::Write as _;

use super::escape::html;
use super::plot::chart::Chart;
use super::plot::figure::Size;
use super::plot::ink::{self, Ink, Stroke};
use super::plot::machine;
use super::plot::percentiles::{self, Curve};
use super::plot::phases::{self, Stack};
use super::plot::seconds::{self, Course};
use super::runs::{LoadedRun, ScenarioRuns};
use super::table::Table;
use super::{bars, evidence, headline, tables};
use crate::error::Result;
use crate::summary::plan::{LoadModel, PlanFacts};
use crate::summary::verdict::Verdict;

/// The two sizes of a figure: the page shows the one that fits.
const WIDE: Size = Size { width: 960, height: 340 };
const NARROW: Size = Size { width: 400, height: 300 };
/// The height of the charts below the latencies.
const LOW: i32 = 200;

/// Renders a whole report.
///
/// # Errors
/// If a run's histograms are damaged (a usage error), or a figure cannot be drawn.
pub fn report(groups: &[ScenarioRuns]) -> Result<String> {
    let names: Vec<_> = groups.iter().map(|group| html(&group.scenario)).collect();
    let title = names.join(", ");
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"/>\n\
         <link rel=\"icon\" href=\"data:,\"/>\n\
         <title>{title} – certctl-bench</title>\n<style>\n{}{}{}</style>\n</head>\n<body>\n<main>\n",
        ink::variables(),
        ink::style(),
        include_str!("page.css")
    );
    let _ = writeln!(page, "<h1>{title}</h1>");
    for group in groups {
        for run in &group.runs {
            page.push_str(&verdict(group, run, groups.len() > 1));
        }
    }
    if groups.len() > 1 {
        let links = (0..)
            .zip(groups)
            .map(|(at, group): (usize, _)| format!("<a href=\"#s{at}\">{}</a>", html(&group.scenario)));
        let _ = writeln!(page, "<nav aria-label=\"Scenarios\">{}</nav>", links.collect::<Vec<_>>().join(" "));
    }
    for (at, group) in groups.iter().enumerate() {
        page.push_str(&section(at, group, groups.len() == 1)?);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    Ok(page)
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
    let mut text = format!(
        "<div class=\"verdict {class}\"><p>{whose}<strong>{}</strong>: {}</p>",
        headline::word(summary),
        html(&headline::meaning(summary))
    );
    let doubtful = summary.doubtful().map(|reason| format!("doubtful: {reason}"));
    let reasons: Vec<_> = summary.invalid.iter().cloned().chain(doubtful).chain(headline::retries(summary)).collect();
    if !reasons.is_empty() {
        let reasons = reasons.iter().map(|reason| format!("<li>{}</li>", html(reason)));
        let _ = write!(text, "<ul>{}</ul>", reasons.collect::<String>());
    }
    text + "</div>\n"
}

fn section(at: usize, group: &ScenarioRuns, alone: bool) -> Result<String> {
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
    for difference in group.differences() {
        let _ = writeln!(text, "<p class=\"note\">The runs differ: {}.</p>", html(&difference));
    }
    text.push_str(&table(&tables::overview(group)));
    group.runs.iter().flat_map(tables::segments_of).for_each(|sheet| text.push_str(&table(&sheet)));
    for (place, workload) in group.workloads().into_iter().enumerate() {
        text.push_str(&figures(&format!("s{at}w{place}"), group, workload)?);
    }
    for (place, stacked) in bars::of(group).iter().enumerate() {
        let stack = Stack { title: stacked.title, bars: &stacked.bars };
        let wide = phases::part(&stack, WIDE.width, &format!("s{at}b{place}-w"));
        let narrow = phases::part(&stack, NARROW.width, &format!("s{at}b{place}-n"));
        let caption = html(stack.title);
        let _ = writeln!(text, "<figure>\n<figcaption>{caption}</figcaption>\n{}</figure>", twice(&wide, &narrow));
    }
    for run in &group.runs {
        text.push_str(&details(run));
    }
    text.push_str("</section>\n");
    Ok(text)
}

fn figures(id: &str, group: &ScenarioRuns, workload: &str) -> Result<String> {
    let mut text = String::new();
    if group.workloads().len() > 1 {
        let _ = writeln!(text, "<h3>{}</h3>", html(workload));
    }
    let found = || {
        group.runs.iter().enumerate().filter_map(|(place, run)| {
            let (plan, results) = run.summary.measured_named(workload)?;
            Some((place, run, results, plan))
        })
    };
    let mut distributions = Vec::new();
    for (place, run, results, plan) in found() {
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
    if let Some(chart) = percentiles::chart("Latency by percentile", &curves.collect::<Vec<_>>()) {
        let note = "Dotted: fewer than ten samples lie beyond.";
        text.push_str(&figure(&format!("{id}p"), &[(chart, WIDE.height, NARROW.height)], &[], note));
    }
    let courses: Vec<_> = found()
        .map(|(place, run, results, plan)| Course {
            label: &run.label,
            ink: Ink::Run(place),
            results,
            warm_up_s: plan.warm_up_s,
        })
        .collect();
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
        let note = latency.description.clone();
        let below: Vec<_> = found()
            .filter_map(|(_, run, _, plan)| {
                let used =
                    run.summary.machine_use.iter().find(|used| used.workloads.iter().any(|name| name == workload))?;
                let plans = run.summary.plans().filter(|plan| used.workloads.contains(&plan.name.to_string()));
                // The machine's window begins with the first of the windows that lie side by side.
                let began = |plan: &PlanFacts| plan.starts_after_s + plan.warm_up_s;
                let first = plans.map(began).fold(f64::INFINITY, f64::min);
                let title = if run.label.is_empty() {
                    "Use of the machine".to_owned()
                } else {
                    format!("{}: use of the machine", run.label)
                };
                machine::chart(&title, used, &latency.x, &latency.bands, first - began(plan))
            })
            .collect();
        let mut charts = vec![(latency, WIDE.height, NARROW.height), (rate, LOW, LOW)];
        charts.extend(below.into_iter().map(|chart| (chart, LOW, LOW)));
        text.push_str(&figure(&format!("{id}t"), &charts, &grounds, &note));
    }
    Ok(text)
}

fn twice(wide: &str, narrow: &str) -> String {
    format!("<div class=\"wide\">{wide}</div>\n<div class=\"narrow\">{narrow}</div>\n")
}

/// Renders charts under one caption, each with its legend and its heights; `grounds` stand in the first legend.
fn figure(id: &str, charts: &[(Chart, i32, i32)], grounds: &[(Ink, &str)], note: &str) -> String {
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
        let drawn = format!("<rect class=\"f-{}\" width=\"28\" height=\"12\"/>", ink.name());
        format!("<li>{}{}</li>", swatch(drawn), html(what))
    });
    format!("<ul class=\"legend\">{}</ul>\n", lines.chain(grounds).collect::<String>())
}

/// Renders a table that scrolls by itself where it is too wide.
pub fn table(sheet: &Table) -> String {
    let side = |column: usize| if column < sheet.words { "" } else { " class=\"n\"" };
    let mut text = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption>\n",
        html(&sheet.title)
    );
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
    text + "</tbody></table></div>\n"
}

fn details(run: &LoadedRun) -> String {
    let whose = if run.label.is_empty() { String::new() } else { format!(" of {}", html(&run.label)) };
    let mut text = format!("<details><summary>Machine, system and all figures{whose}</summary>\n");
    for sheet in tables::details(&run.summary) {
        text.push_str(&table(&sheet));
    }
    for evidence in &run.summary.evidence {
        let lines = evidence::lines(evidence);
        if !lines.is_empty() {
            let _ = writeln!(
                text,
                "<h3>Evidence of the system's side</h3>\n<pre class=\"scroll\" tabindex=\"0\">{}</pre>",
                html(&lines)
            );
        }
    }
    text + "</details>\n"
}
