//! The curve of a search for the capacity: response time, errors, processors and waits for locks over the rate.

use super::chart::{Axis, Band, Chart, Polyline, Scale};
use super::ink::{Ink, Stroke};
use super::ticks;
use crate::capacity::Capacity;
use crate::capacity::point::{MeasuredPoint, PointFigures};
use crate::capacity::search::{Conclusion, PointVerdict};
use crate::summary::facts::{ThresholdFacts, Unit};

/// The widths of a line, and of the mark of a single point.
const LINE: i32 = 2;
const MARK: i32 = 3;

/// Builds the charts, which share their first axis; none without a valid point.
pub fn charts(capacity: &Capacity) -> Vec<Chart> {
    let valid = |point: &&MeasuredPoint| matches!(point.verdict, PointVerdict::Within | PointVerdict::Breached);
    let mut points: Vec<&MeasuredPoint> = capacity.points.iter().filter(valid).collect();
    points.sort_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s));
    let Some(most) = points.last().map(|point| point.rate_per_s) else { return Vec::new() };
    let to = most * 1.05;
    let x = Axis {
        title: format!("{} per second", capacity.unit.plural),
        scale: Scale::Linear,
        from: 0.0,
        to,
        ticks: labelled(ticks::linear_ticks(0.0, to, 10)),
    };
    let bands: Vec<Band> = band(&capacity.conclusion, to).into_iter().collect();
    let chart = |title: &str, y: Axis, lines: Vec<Polyline>| Chart {
        title: title.to_owned(),
        description: format!("{} valid points, from {} to {most} per second.", points.len(), points[0].rate_per_s),
        x: x.clone(),
        y,
        bands: bands.clone(),
        areas: Vec::new(),
        lines,
    };
    let figure =
        |of: fn(&PointFigures) -> Option<f64>| move |point: &MeasuredPoint| point.figures.as_ref().and_then(of);

    let mut times = line("p99", Ink::Run(1), &points, figure(|one| one.p99_us));
    times.extend(line("p95", Ink::Run(2), &points, figure(|one| one.p95_us)));
    times.extend(line("p50", Ink::Run(0), &points, figure(|one| one.p50_us)));
    // The lines are those of the first workload.
    let first = capacity.plans.first().map(|plan| &plan.name);
    let is_drawn = |threshold: &&ThresholdFacts| threshold.workload.is_none() || threshold.workload.as_ref() == first;
    let limits = points[0].thresholds.iter().filter(is_drawn).filter_map(|threshold| limit(threshold, to));
    let mut drawn: Vec<Polyline> = limits.collect();
    drawn.extend(times);
    let (least_us, most_us) = ticks::log_range(heights(&drawn));
    let time = Axis {
        title: "response time (log)".to_owned(),
        scale: Scale::Log,
        from: least_us,
        to: most_us,
        ticks: ticks::log_ticks(least_us, most_us, 8).iter().map(|us| (*us, ticks::duration(*us))).collect(),
    };
    let mut errors: Vec<Polyline> = points[0]
        .thresholds
        .iter()
        .filter(|one| one.bounds_errors())
        .map(|threshold| share_limit(threshold, to))
        .collect();
    errors.extend(line("errors", Ink::Run(1), &points, figure(|one| one.error_share.map(|share| share * 100.0))));
    let mut charts = vec![
        chart("Response time by rate", time, drawn),
        chart("Errors by rate", linear("errors, % of arrivals", &errors, 1.0), errors),
    ];
    if let Some(cpus) = points.iter().find_map(|point| Some(f64::from(point.cpu?.cpus))) {
        let mut lines = line("others", Ink::Run(2), &points, |point| Some(point.cpu?.others));
        lines.extend(line("generator", Ink::Run(1), &points, |point| Some(point.cpu?.generator)));
        lines.extend(line("PostgreSQL", Ink::Run(3), &points, |point| point.cpu?.postgresql));
        lines.extend(line("system", Ink::Run(0), &points, |point| point.cpu?.system));
        let axis = Axis { to: cpus, ticks: labelled(ticks::linear_ticks(0.0, cpus, 5)), ..linear("", &[], 1.0) };
        charts.push(chart("Processors by rate", Axis { title: "processors in use".to_owned(), ..axis }, lines));
    }
    let waits = line("backends that waited for a lock", Ink::Run(0), &points, |point| Some(point.lock_waits?.mean));
    if !waits.is_empty() {
        charts.push(chart("Waits for locks by rate", linear("backends waiting", &waits, 1.0), waits));
    }
    charts
}

/// Returns the background of the rates that did not hold.
fn band(conclusion: &Conclusion, to: f64) -> Option<Band> {
    let (from, ink) = match conclusion {
        Conclusion::Between { breached_per_s, .. } | Conclusion::Below { breached_per_s } => {
            (*breached_per_s, Ink::Stall)
        }
        Conclusion::Unmeasurable { .. } | Conclusion::AtLeast { .. } | Conclusion::Unfinished { .. } => return None,
    };
    Some(Band { from, to, ink, name: "" })
}

/// Returns a line through the middle value at each rate, and a mark for each point; nothing without a value.
fn line(
    label: &str,
    ink: Ink,
    points: &[&MeasuredPoint],
    value: impl Fn(&MeasuredPoint) -> Option<f64>,
) -> Vec<Polyline> {
    let known: Vec<(f64, f64)> =
        points.iter().filter_map(|point| Some((point.rate_per_s, value(point)?.max(0.0)))).collect();
    if known.is_empty() {
        return Vec::new();
    }
    let middles = known.chunk_by(|a, b| a.0 == b.0).map(|same| {
        let mut values: Vec<f64> = same.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        (same[0].0, values[values.len() / 2])
    });
    let through = vec![middles.collect()];
    let marks = known.iter().map(|point| vec![*point]).collect();
    vec![
        Polyline { label: None, ink, stroke: Stroke::Solid, width: MARK, parts: marks },
        Polyline { label: Some(label.to_owned()), ink, stroke: Stroke::Solid, width: LINE, parts: through },
    ]
}

/// Returns the line of a bound on the response time of all steps.
fn limit(threshold: &ThresholdFacts, to: f64) -> Option<Polyline> {
    let is_drawn = threshold.unit == Unit::Ms && threshold.step.is_none();
    let quantile = threshold.quantile.as_deref().filter(|_| is_drawn)?;
    let ink = match quantile {
        "p99" => Ink::Run(1),
        "p95" => Ink::Run(2),
        _ => Ink::Run(0),
    };
    let us = threshold.limit * 1e3;
    let label = Some(format!("bound of {}", threshold.title()));
    Some(Polyline { label, ink, stroke: Stroke::Dotted, width: LINE, parts: vec![vec![(0.0, us), (to, us)]] })
}

/// Returns the line of a bound on errors.
fn share_limit(threshold: &ThresholdFacts, to: f64) -> Polyline {
    let percent = threshold.limit * 100.0;
    let label = Some(format!("bound of {}", threshold.title()));
    let parts = vec![vec![(0.0, percent), (to, percent)]];
    Polyline { label, ink: Ink::Run(1), stroke: Stroke::Dotted, width: LINE, parts }
}

fn heights(lines: &[Polyline]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, height)| *height))
}

/// Returns a linear axis that shows all of these lines, and `least` at least.
fn linear(title: &str, lines: &[Polyline], least: f64) -> Axis {
    let to = heights(lines).fold(least, f64::max) * 1.1;
    let ticks = labelled(ticks::linear_ticks(0.0, to, 5));
    Axis { title: title.to_owned(), scale: Scale::Linear, from: 0.0, to, ticks }
}

fn labelled(ticks: Vec<f64>) -> Vec<(f64, String)> {
    ticks.into_iter().map(|tick| (tick, ticks::digits(tick))).collect()
}
