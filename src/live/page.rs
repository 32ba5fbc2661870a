//! The page that shows a run while it goes on, and the parts of it that change each second.

use std::collections::BTreeMap;

use super::second::{LiveSecond, QUANTILES, SPAN_S};
use super::view::View;
use crate::load::progress::Stage;
use crate::report::escape::html;
use crate::report::html::{self as pages, Page};
use crate::report::machine_use::owners;
use crate::report::plot::chart::{Area, Axis, Band, Chart, Polyline, Scale};
use crate::report::plot::ink::{Ink, Stroke};
use crate::report::plot::machine::INKS;
use crate::report::plot::ticks;
use crate::report::table::{Cell, Table};

/// The script that puts in the parts as they come.
pub const SCRIPT: &str = include_str!("page.js");
/// The heights of charts.
const HIGH: i32 = 300;
const LOW: i32 = 200;
/// The number of seconds in the table.
const ROWS: usize = 30;
/// The interval in which the sentence for screen readers changes, in seconds.
const ANNOUNCE_EVERY: usize = 15;
/// The ids of the charts with the names of their regions, from top to bottom.
const CHARTS: [(&str, &str); 6] = [
    ("latency", "Response time"),
    ("rate", "Answers and errors"),
    ("errors", "Errors so far"),
    ("lag", "Schedule lag"),
    ("machine", "Use of the machine"),
    ("database", "Backends of the database"),
];
/// The backgrounds of charts.
const GROUNDS: [(Ink, &str); 2] =
    [(Ink::WarmUp, "not measured: opening, warm-up"), (Ink::Drain, "not measured: drain")];

/// Renders the page, with what is known so far.
pub fn whole(view: &View) -> String {
    let mut page = Page::live(&view.scenario);
    page.add(&format!("<p class=\"about\">{}</p>\n", html(&view.title)));
    let parts = parts(view);
    let part = |id: &str| parts.get(id).map_or("", String::as_str);
    let status = html(&sentence(view));
    page.add(&format!("<p id=\"status\" role=\"status\" class=\"verdict plain\">{status}</p>\n"));
    page.add(&format!("<dl id=\"figures\" class=\"figures\">{}</dl>\n", part("figures")));
    for (id, name) in CHARTS {
        page.add(&format!("<section id=\"{id}\" aria-label=\"{name}\">{}</section>\n", part(id)));
    }
    page.add(&format!(
        "<details><summary>The last {ROWS} seconds as a table</summary>\n<div class=\"scroll\" tabindex=\"0\" \
         role=\"region\" aria-label=\"The last seconds\"><table id=\"seconds\">{}</table></div></details>\n",
        part("seconds")
    ));
    page.add("<script src=\"page.js\"></script>\n");
    page.end()
}

/// Renders the parts that change, by the ids of their places: HTML each.
pub fn parts(view: &View) -> BTreeMap<&'static str, String> {
    let mut parts = BTreeMap::from([("figures", figures(view)), ("seconds", pages::inner_table(&table(view)))]);
    let is_due = view.shown % ANNOUNCE_EVERY == 1 || view.seconds.is_empty();
    let changes = |at: usize| Some(view.seconds.get(at)?.stage);
    let (last, before) = (view.seconds.len().checked_sub(1), view.seconds.len().checked_sub(2));
    if is_due || last.and_then(changes) != before.and_then(changes) {
        parts.insert("status", html(&sentence(view)));
    }
    let charts = [latency(view), rate(view), errors(view), lag(view), machine(view), database(view)];
    for ((id, _), (chart, note)) in CHARTS.iter().zip(charts) {
        let height = if *id == "latency" { HIGH } else { LOW };
        let drawn = chart.map(|chart| {
            let is_there = |(ink, _): &(Ink, &str)| chart.bands.iter().any(|band| band.ink == *ink);
            let grounds: Vec<_> = GROUNDS.into_iter().filter(is_there).collect();
            pages::figure(&format!("{id}-"), &[(chart, height, height)], &grounds, note)
        });
        parts.insert(id, drawn.unwrap_or_default());
    }
    parts
}

/// Describes the run at this moment.
fn sentence(view: &View) -> String {
    let Some(now) = view.seconds.back() else { return "The run is being prepared.".to_owned() };
    let (ok, errors) = view.so_far();
    format!(
        "{}: {} answers per second, p99 {}, {errors} of {} not right so far.",
        capitalized(now.stage.label()),
        ticks::digits(now.answers_per_s),
        time(now.response_us[2]),
        ok + errors
    )
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

fn time(us: Option<f64>) -> String {
    us.map_or_else(|| "–".to_owned(), ticks::duration)
}

/// Returns the seconds that the current stage has lasted, and those that it is planned to last.
fn in_stage(view: &View, now: &LiveSecond) -> String {
    let since_s = now.at_s - view.stage_at_s;
    let planned = match now.stage {
        Stage::WarmUp => view.extent.warm_up,
        Stage::Measuring => view.extent.window,
        Stage::Opening | Stage::Draining => return format!("{since_s:.0} s"),
    };
    format!("{since_s:.0} of {:.0} s", planned.as_secs_f64())
}

fn figures(view: &View) -> String {
    let Some(now) = view.seconds.back() else { return String::new() };
    let (_, errors) = view.so_far();
    let connections = match now.stage {
        Stage::Opening => format!("{} of {}", now.counts.connections, view.extent.connections),
        _ => now.counts.open.to_string(),
    };
    let [p50, p95, p99] = now.response_us.map(time);
    let pairs = [
        (now.stage.label(), in_stage(view, now), false),
        ("answers per second", ticks::digits(now.answers_per_s), false),
        ("errors", errors.to_string(), errors > 0),
        ("p50", p50, false),
        ("p95", p95, false),
        ("p99", p99, false),
        ("lag p99", time(now.lag_p99_us), false),
        ("connections", connections, false),
    ];
    let each = pairs.iter().map(|(name, value, alarming)| {
        let class = if *alarming { " class=\"bad\"" } else { "" };
        format!("<div><dt>{name}</dt><dd{class}>{}</dd></div>", html(value))
    });
    each.collect()
}

fn table(view: &View) -> Table {
    let header = ["second", "stage", "answers/s", "errors/s", "p50", "p95", "p99", "slowest", "lag p99", "connections"];
    let mut sheet = Table::new("", 2, &header);
    for second in view.seconds.iter().rev().take(ROWS) {
        let [p50, p95, p99] = second.response_us.map(time);
        let errors = Cell { text: ticks::digits(second.errors_per_s), alarming: second.errors_per_s > 0.0 };
        let words = [format!("{:.0}", second.at_s), second.stage.label().to_owned()].map(Cell::from);
        let rest = [p50, p95, p99, time(second.slowest_us), time(second.lag_p99_us), second.counts.open.to_string()];
        let answers = Cell::from(ticks::digits(second.answers_per_s));
        sheet.rows.push(words.into_iter().chain([answers, errors]).chain(rest.map(Cell::from)).collect());
    }
    sheet
}

/// Returns the axis of time, which covers the kept seconds.
fn seconds_axis(view: &View) -> Option<Axis> {
    let (first, last) = (view.seconds.front()?, view.seconds.back()?);
    let from = (first.at_s - 1.0).max(0.0);
    let to = last.at_s.max(from + 10.0);
    let ticks = ticks::linear_ticks(from, to, 10).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    Some(Axis { title: "seconds".to_owned(), scale: Scale::Linear, from, to, ticks })
}

fn bands(view: &View) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let mut from = view.seconds.front().map_or(0.0, |second| (second.at_s - 1.0).max(0.0));
    for second in &view.seconds {
        let to = second.at_s;
        let ground = match second.stage {
            Stage::Opening => Some((Ink::WarmUp, "opening")),
            Stage::WarmUp => Some((Ink::WarmUp, "warm-up")),
            Stage::Measuring => None,
            Stage::Draining => Some((Ink::Drain, "drain")),
        };
        if let Some((ink, name)) = ground {
            match bands.last_mut() {
                Some(band) if band.to == from && band.name == name => band.to = to,
                _ => bands.push(Band { from, to, ink, name }),
            }
        }
        from = to;
    }
    bands
}

/// Returns a line through the known values of consecutive seconds.
fn line(view: &View, label: &str, ink: Ink, stroke: Stroke, of: impl Fn(&LiveSecond) -> Option<f64>) -> Polyline {
    let points: Vec<_> = view.seconds.iter().map(|second| Some((second.at_s, of(second)?))).collect();
    let parts = points.split(Option::is_none).map(|run| run.iter().flatten().copied().collect::<Vec<_>>());
    let parts = parts.filter(|part| !part.is_empty()).collect();
    Polyline { label: Some(label.to_owned()), ink, stroke, width: 2, parts }
}

fn chart(view: &View, title: &str, y: Axis, areas: Vec<Area>, lines: Vec<Polyline>) -> Option<Chart> {
    if areas.is_empty() && lines.iter().all(|line| line.parts.is_empty()) {
        return None;
    }
    let description = sentence(view);
    Some(Chart { title: title.to_owned(), description, x: seconds_axis(view)?, y, bands: bands(view), areas, lines })
}

/// Returns a linear axis from 0 to the greatest of the lines' values.
fn linear(title: &str, lines: &[Polyline], least: f64) -> Axis {
    let values = lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, value)| *value));
    let to = values.fold(least, f64::max) * 1.1;
    let ticks = ticks::linear_ticks(0.0, to, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    Axis { title: title.to_owned(), scale: Scale::Linear, from: 0.0, to, ticks }
}

/// Returns a logarithmic axis of times that shows all lines.
fn logarithmic(title: &str, lines: &[Polyline]) -> Axis {
    let values = lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, us)| *us));
    let (from, to) = ticks::log_range(values);
    let ticks = ticks::log_ticks(from, to, 8).into_iter().map(|us| (us, ticks::duration(us))).collect();
    Axis { title: title.to_owned(), scale: Scale::Log, from, to, ticks }
}

type Drawn = (Option<Chart>, &'static str);

fn latency(view: &View) -> Drawn {
    let note = "Quantiles are those of the last ten seconds, each where ten samples lie beyond it, to within 3%.";
    debug_assert_eq!(SPAN_S, 10);
    let quantile = |at: usize| move |second: &LiveSecond| second.response_us[at];
    let mut lines = vec![
        line(view, "slowest of the second", Ink::Run(0), Stroke::Dotted, |second| second.slowest_us),
        line(view, &QUANTILES[2].to_string(), Ink::Run(1), Stroke::Solid, quantile(2)),
        line(view, &QUANTILES[1].to_string(), Ink::Run(2), Stroke::Dashed, quantile(1)),
        line(view, &QUANTILES[0].to_string(), Ink::Run(0), Stroke::Solid, quantile(0)),
    ];
    if lines.iter().all(|line| line.parts.is_empty()) {
        return (None, note);
    }
    let Some(x) = seconds_axis(view) else { return (None, note) };
    for limit in &view.limits {
        let us = limit.limit.as_secs_f64() * 1e6;
        let label = format!("limit of {} ({})", limit.names, ticks::duration(us));
        let parts = vec![vec![(x.from, us), (x.to, us)]];
        lines.insert(0, Polyline { label: Some(label), ink: Ink::Text, stroke: Stroke::Dashed, width: 1, parts });
    }
    let y = logarithmic("response time (log)", &lines);
    (chart(view, "Response time", y, Vec::new(), lines), note)
}

fn rate(view: &View) -> Drawn {
    let lines = vec![
        line(view, "errors", Ink::Run(1), Stroke::Dashed, |second| Some(second.errors_per_s)),
        line(view, "answers", Ink::Run(0), Stroke::Solid, |second| Some(second.answers_per_s)),
    ];
    let y = linear("per second", &lines, 1.0);
    (chart(view, "Answers and errors per second", y, Vec::new(), lines), "By the moment of the answer.")
}

/// Draws the share of errors so far beside the bound on it, where there is one.
fn errors(view: &View) -> Drawn {
    let note = "Of the arrivals that have ended, warm-up included; the bound is on those of the window.";
    let (Some(floor), Some(x)) = (view.floor, seconds_axis(view)) else { return (None, note) };
    let limit = floor.limit() * 100.0;
    let label = format!("limit of {floor} ({}%)", ticks::digits(limit));
    let parts = vec![vec![(x.from, limit), (x.to, limit)]];
    let share = |second: &LiveSecond| {
        let errors = second.counts.not_ok + second.counts.unsent;
        let ended = second.counts.ok + errors;
        (ended > 0).then(|| errors as f64 / ended as f64 * 100.0)
    };
    let lines = vec![
        Polyline { label: Some(label), ink: Ink::Text, stroke: Stroke::Dashed, width: 1, parts },
        line(view, "errors so far", Ink::Run(1), Stroke::Solid, share),
    ];
    let y = linear("errors, %", &lines, 0.0);
    (chart(view, "Errors so far", y, Vec::new(), lines), note)
}

fn lag(view: &View) -> Drawn {
    let lines = vec![line(view, "p99 of the last ten seconds", Ink::Run(0), Stroke::Solid, |second| second.lag_p99_us)];
    let y = logarithmic("schedule lag (log)", &lines);
    let note = "The delay between the intended and the actual start; of users, that of the generator's timer.";
    (chart(view, "Schedule lag", y, Vec::new(), lines), note)
}

fn machine(view: &View) -> Drawn {
    let note = "Processors, by who used them; sampled each second.";
    let Some((_, cpus)) = view.seconds.iter().rev().find_map(|second| second.machine) else { return (None, note) };
    let seconds: Vec<_> = view.seconds.iter().filter_map(|second| Some((second.at_s, second.machine?.0))).collect();
    let known = |owner: usize| seconds.iter().any(|(_, cpu)| owners(cpu)[owner].1.is_some());
    let (names, cpus) = (owners(&seconds[0].1).map(|(name, _)| name), f64::from(cpus.max(1)));
    let areas = (0..names.len()).filter(|owner| known(*owner)).map(|owner| {
        let points = seconds.iter().map(|(at_s, cpu)| {
            let parts = owners(cpu).map(|(_, used)| used.unwrap_or(0.0));
            let low: f64 = parts[..owner].iter().sum();
            (*at_s, low.min(cpus), (low + parts[owner]).min(cpus))
        });
        Area { label: names[owner].to_owned(), ink: INKS[owner], points: points.collect() }
    });
    let ticks = ticks::linear_ticks(0.0, cpus, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    let y = Axis { title: "processors".to_owned(), scale: Scale::Linear, from: 0.0, to: cpus, ticks };
    (chart(view, "Use of the machine", y, areas.collect(), Vec::new()), note)
}

fn database(view: &View) -> Drawn {
    let level = |name: &'static str| move |second: &LiveSecond| Some(*second.backends.as_ref()?.get(name)? as f64);
    let lines = vec![
        line(view, "idle in transaction", Ink::Run(2), Stroke::Dotted, level("idle_in_transaction")),
        line(view, "active", Ink::Run(0), Stroke::Solid, level("active")),
        line(view, "waiting for a lock", Ink::Run(1), Stroke::Dashed, level("waiting_lock")),
    ];
    let y = linear("backends", &lines, 1.0);
    let note = "Sampled each second in the measured window: shorter waits are missed.";
    (chart(view, "Backends of the database", y, Vec::new(), lines), note)
}
