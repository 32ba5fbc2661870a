//! Latency by percentile, as HdrHistogram plots it: the further to the right, the rarer.

use super::chart::{Axis, Chart, Polyline, Scale};
use super::ink::{Ink, Stroke};
use super::ticks;
use crate::measure::Distribution;
use crate::measure::distribution::SAMPLES_BEYOND;

/// Points of a line per decade of rarity.
const POINTS_PER_DECADE: u32 = 32;

/// One distribution.
pub struct Curve<'a> {
    /// Its label in the legend.
    pub label: String,
    /// Its colour.
    pub ink: Ink,
    /// Its stroke.
    pub stroke: Stroke,
    /// The durations.
    pub distribution: &'a Distribution,
}

/// Draws curves over one another; `None` if none has a sample.
pub fn chart(title: &str, curves: &[Curve<'_>]) -> Option<Chart> {
    let curves: Vec<_> = curves.iter().filter(|curve| curve.distribution.count() > 0).collect();
    let most = curves.iter().map(|curve| curve.distribution.count()).max()? as f64;
    let lines: Vec<Polyline> = curves.iter().rev().flat_map(|curve| lines(curve)).collect();
    let heights = lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, us)| *us));
    let (from, to) = ticks::log_range(heights);
    let end = most.max(10.0);
    let labelled = |us: &f64| (*us, ticks::duration(*us));
    Some(Chart {
        title: title.to_owned(),
        description: description(&curves),
        x: Axis {
            title: "percentile".to_owned(),
            scale: Scale::Log,
            from: 1.0,
            to: end,
            ticks: ticks::percentile_ticks(end).into_iter().map(|tick| (tick, ticks::percentile(tick))).collect(),
        },
        y: Axis {
            title: "latency (log)".to_owned(),
            scale: Scale::Log,
            from,
            to,
            ticks: ticks::log_ticks(from, to, 9).iter().map(labelled).collect(),
        },
        bands: Vec::new(),
        areas: Vec::new(),
        lines,
    })
}

fn description(curves: &[&Curve<'_>]) -> String {
    let each = curves.iter().map(|curve| {
        let of = |fraction| ticks::duration(curve.distribution.value_ns(fraction) as f64 / 1e3);
        let (count, longest) = (curve.distribution.count(), of(1.0));
        format!("{}: {count} samples, half within {}, the longest {longest}.", curve.label, of(0.5))
    });
    each.collect::<Vec<_>>().join(" ")
}

/// Returns the curve as far as enough samples lie beyond, and a faint line for the rest.
fn lines(curve: &Curve<'_>) -> [Polyline; 2] {
    let count = curve.distribution.count() as f64;
    let known_to = count / SAMPLES_BEYOND as f64;
    let at = |beyond: f64| (beyond, (curve.distribution.value_ns(1.0 - 1.0 / beyond) as f64 / 1e3).max(1e-3));
    let steps = (count.log10() * f64::from(POINTS_PER_DECADE)).floor() as u32;
    let points = (0..=steps).map(|step| 10f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE)));
    let (mut known, mut rest): (Vec<f64>, Vec<f64>) = points.partition(|beyond| *beyond <= known_to);
    if known_to >= 1.0 {
        known.push(known_to);
        rest.insert(0, known_to);
    }
    rest.push(count);
    let line = |label, stroke, beyond: Vec<f64>| Polyline {
        label,
        ink: curve.ink,
        stroke,
        width: 2,
        parts: vec![beyond.into_iter().map(at).collect()],
    };
    [line(Some(curve.label.clone()), curve.stroke, known), line(None, Stroke::Dotted, rest)]
}
