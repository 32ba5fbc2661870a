//! A measure over the runs of a series, with its changes.

use super::chart::{Axis, Chart, Polyline, Scale};
use super::ink::{Ink, Stroke};
use super::ticks;
use crate::history::trend::Trend;

/// The widths of a line, and of the mark of a run.
const LINE: i32 = 2;
const MARK: i32 = 3;
/// The most runs that are named.
const MOST_TICKS: usize = 12;
/// The least half of the vertical axis, as a share of the median: less would make noise look like a change.
const LEAST_REACH: f64 = 0.1;
/// The room above and below the values, as a share of what they span.
const ROOM: f64 = 0.08;

/// Draws a trend; `None` where no run has a value. `value` writes a value with its unit, and `name` names a run.
pub fn chart(
    trend: &Trend,
    value: impl Fn(f64) -> String,
    name: impl Fn(usize) -> String,
    description: &str,
) -> Option<Chart> {
    let points = |counts: bool| -> Vec<(f64, f64)> {
        let runs = trend.runs.iter().enumerate().filter(|(_, run)| run.left_out.is_none() == counts);
        runs.filter_map(|(place, run)| Some((number(place), run.value?))).collect()
    };
    let (counted, left_out) = (points(true), points(false));
    // Runs that mean nothing do not stretch the axis, unless they are all there are.
    let shown = if counted.is_empty() { &left_out } else { &counted };
    let (from, to) = range(shown.iter().map(|(_, value)| *value))?;
    let within = |points: Vec<(f64, f64)>| -> Vec<Vec<(f64, f64)>> {
        points.into_iter().map(|(at, value)| vec![(at, value.clamp(from, to))]).collect()
    };
    let last = number(trend.runs.len() - 1);
    let step = trend.runs.len().div_ceil(MOST_TICKS);
    let y_ticks = ticks::linear_ticks(from, to, 8).into_iter().map(|tick| (tick, value(tick)));
    let mut lines = Vec::new();
    if !left_out.is_empty() {
        let label = Some("a run that does not count".to_owned());
        lines.push(Polyline { label, ink: Ink::Muted, stroke: Stroke::Dotted, width: MARK, parts: within(left_out) });
    }
    lines.push(Polyline { label: None, ink: Ink::Run(0), stroke: Stroke::Solid, width: MARK, parts: within(counted) });
    let changes = trend.changes.iter().map(|change| {
        let at = f64::midpoint(number(change.between.0), number(change.between.1));
        vec![(at, from), (at, to)]
    });
    let changes: Vec<_> = changes.collect();
    if !changes.is_empty() {
        let label = Some("change point".to_owned());
        lines.push(Polyline { label, ink: Ink::Run(1), stroke: Stroke::Dashed, width: LINE, parts: changes });
    }
    let stretches = trend
        .stretches()
        .into_iter()
        .map(|(start, end, median)| vec![(number(start) - 0.4, median), (number(end) + 0.4, median)]);
    let label = Some("a run, and the median between changes".to_owned());
    lines.push(Polyline { label, ink: Ink::Run(0), stroke: Stroke::Solid, width: LINE, parts: stretches.collect() });
    Some(Chart {
        title: format!("{} by run", trend.measure),
        description: description.to_owned(),
        x: Axis {
            title: "runs, the oldest first, by commit".to_owned(),
            scale: Scale::Linear,
            from: 0.5,
            to: last + 0.5,
            ticks: (0..trend.runs.len()).step_by(step).map(|place| (number(place), name(place))).collect(),
        },
        y: Axis { title: trend.measure.clone(), scale: Scale::Linear, from, to, ticks: y_ticks.collect() },
        bands: Vec::new(),
        areas: Vec::new(),
        lines,
    })
}

/// Returns the number of the run at a place, from 1 on.
fn number(place: usize) -> f64 {
    (place + 1) as f64
}

/// Returns the ends of an axis that shows all values; `None` without any.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
    if least > most {
        return None;
    }
    let middle = f64::midpoint(least, most);
    let reach = ((most - least) * (0.5 + ROOM)).max(LEAST_REACH * middle.abs());
    // A measure that is zero in all runs has an axis too.
    let reach = if reach == 0.0 { 1.0 } else { reach };
    Some(((middle - reach).max(0.0), middle + reach))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_shows_all_values_and_no_noise() {
        let ends = |values: &[f64]| range(values.iter().copied());
        assert_eq!((ends(&[]), ends(&[0.0])), (None, Some((0.0, 1.0))));
        let (from, to) = ends(&[100.0, 100.2]).unwrap();
        assert!((from - 90.09).abs() < 1e-6 && (to - 110.11).abs() < 1e-6, "{from} {to}");
        let (from, to) = ends(&[1.0, 3.0]).unwrap();
        assert!(from > 0.8 && from < 1.0 && to > 3.0 && to < 3.2, "{from} {to}");
    }
}
