//! Runs as one picture: an SVG file that needs nothing else, and reads in light and dark.

use super::html::{self, LOW, WIDE};
use super::plot::chart::Chart;
use super::plot::figure::{Anchor, LETTERS, Name, Shapes, Size, width_of};
use super::plot::ink::Ink;
use super::plot::seconds;
use super::runs::ScenarioRuns;
use crate::error::Result;

/// The distance between the parts, in pixels.
const GAP: f64 = 12.0;
/// The height of a line of words.
const LINE: f64 = 20.0;
/// The length of a line's sample in a legend, and the distance from it to its label.
const SAMPLE: f64 = 28.0;

/// Draws the latencies and the course of each workload, from top to bottom; `None` if nothing was measured.
///
/// # Errors
/// If a run's histograms are damaged (a usage error).
pub fn svg(group: &ScenarioRuns) -> Result<Option<String>> {
    let mut shapes = Shapes::default();
    let mut top = GAP;
    let mut described = Vec::new();
    for (place, workload) in group.workloads().into_iter().enumerate() {
        let courses = html::courses(group, workload);
        let charts = [
            (html::percentile_chart(group, workload)?, WIDE.height),
            (seconds::latency("Latency over time", &courses), WIDE.height),
            (seconds::rate("Rate over time", &courses), LOW),
        ];
        for (chart, height) in charts.into_iter().filter_map(|(chart, height)| Some((chart?, height))) {
            let title = format!("{workload}: {}", chart.title);
            shapes.words(&title, (GAP, top), Anchor::TopLeft, Ink::Text);
            top = legend(&mut shapes, &chart, top + LINE);
            let size = Size { height, ..WIDE };
            shapes.place((0.0, top), size, &chart.svg(size, &format!("p{place}-{}", described.len())));
            top += f64::from(height) + GAP;
            described.push(format!("{title}. {}", chart.description));
        }
    }
    let title = group.scenario.clone();
    let (size, description) = (Size { width: WIDE.width, height: top.ceil() as i32 }, described.join(" "));
    let name = Name { id: "picture", title: &title, description: &description };
    Ok((!described.is_empty()).then(|| shapes.standalone(size, &name)))
}

/// Draws the legend of a chart, its most important line first, and returns the place below it.
fn legend(shapes: &mut Shapes, chart: &Chart, mut top: f64) -> f64 {
    let mut left = GAP;
    for (line, label) in chart.lines.iter().rev().filter_map(|line| Some((line, line.label.as_ref()?))) {
        let width = SAMPLE * 1.25 + f64::from(width_of(label));
        if left > GAP && left + width > f64::from(WIDE.width) - GAP {
            (left, top) = (GAP, top + LINE);
        }
        let middle = top + f64::from(LETTERS) / 2.0;
        shapes.line([(left, middle), (left + SAMPLE, middle)], line.ink, line.stroke, line.width);
        shapes.words(label, (left + SAMPLE * 1.25, top), Anchor::TopLeft, Ink::Muted);
        left += width + GAP;
    }
    top + LINE
}
