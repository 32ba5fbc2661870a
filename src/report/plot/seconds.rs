//! Latency and rate second by second, with the warm-up and stalls in the background.

use super::chart::{Axis, Band, Chart, Polyline, Scale};
use super::ink::{Ink, Stroke};
use super::ticks;
use crate::summary::WorkloadResults;
use crate::summary::facts::SecondFacts;

/// A second stalled if its slowest right answer took this many times the usual slowest one.
const STALL_FACTOR: u64 = 10;
/// A slowest answer below this is no stall, in microseconds.
const STALL_US: u64 = 100_000;

/// The course of one run.
pub struct Course<'a> {
    /// Its name; empty where it is the only one.
    pub label: &'a str,
    /// Its colour.
    pub ink: Ink,
    /// Its measured results.
    pub results: &'a WorkloadResults,
    /// Planned seconds of its warm-up.
    pub warm_up_s: f64,
}

/// Consecutive seconds in which the system stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The first one; the window's first is 0, the warm-up's are negative.
    pub first: i64,
    /// The last one.
    pub last: i64,
    /// The slowest right answer in them, in microseconds; `None` if none came.
    pub slowest_us: Option<u64>,
}

/// One second of a run.
#[derive(Clone, Copy)]
struct PlottedSecond<'a> {
    /// Its start, in seconds from that of the window.
    at: i64,
    /// The share of it that lay within the run, above 0 and up to 1.
    covered: f64,
    facts: &'a SecondFacts,
}

impl<'a> Course<'a> {
    fn seconds(&self) -> Vec<PlottedSecond<'a>> {
        let (before, window) = (&self.results.warm_up_timeline, &self.results.timeline);
        let share = |length_s: f64, count: usize| match length_s - count.saturating_sub(1) as f64 {
            share if share > 0.0 && share < 1.0 => share,
            _ => 1.0,
        };
        let first = share(self.warm_up_s, before.len());
        let last = share(self.results.arrivals.measured_s, window.len());
        let warm_up = (-(before.len() as i64)..).zip(before).enumerate().map(|(index, (at, facts))| {
            let covered = if index == 0 { first } else { 1.0 };
            PlottedSecond { at, covered, facts }
        });
        let measured = (0..).zip(window).map(|(at, facts): (i64, _)| {
            let covered = if at + 1 == window.len() as i64 { last } else { 1.0 };
            PlottedSecond { at, covered, facts }
        });
        warm_up.chain(measured).collect()
    }

    fn named(&self, what: &str) -> String {
        if self.label.is_empty() { what.to_owned() } else { format!("{}: {what}", self.label) }
    }

    /// Returns the stalls of the window, judged against what was usual in it.
    pub fn stalls(&self) -> Vec<Stall> {
        let window = &self.results.timeline;
        let mut slowest: Vec<u64> = window.iter().filter_map(|second| second.max_us).collect();
        slowest.sort_unstable();
        let usual = slowest.get(slowest.len() / 2).copied().unwrap_or_default();
        let bound = usual.saturating_mul(STALL_FACTOR).max(STALL_US);
        let mut stalls: Vec<Stall> = Vec::new();
        for (at, second) in (0..).zip(window) {
            let unanswered = second.ok == 0 && second.started > 0;
            if !unanswered && second.max_us.is_none_or(|us| us < bound) {
                continue;
            }
            match stalls.last_mut() {
                Some(stall) if stall.last + 1 == at => {
                    stall.last = at;
                    stall.slowest_us = stall.slowest_us.max(second.max_us);
                }
                _ => stalls.push(Stall { first: at, last: at, slowest_us: second.max_us }),
            }
        }
        stalls
    }
}

/// Builds the chart of latency over time; `None` without a second to draw.
pub fn latency(title: &str, courses: &[Course<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for course in courses.iter().rev() {
        let seconds = course.seconds();
        let mut add = |what: &str, stroke, width, of: fn(&SecondFacts) -> Option<u64>| {
            let us = |second: &PlottedSecond<'_>| Some((of(second.facts)?.max(1)) as f64);
            let parts = parts(&seconds, us);
            if !parts.is_empty() {
                lines.push(Polyline { label: Some(course.named(what)), ink: course.ink, stroke, width, parts });
            }
        };
        add("slowest", Stroke::Dotted, 2, |second| second.max_us);
        add("p95", Stroke::Dashed, 2, |second| second.p95_us);
        add("p50", Stroke::Solid, 2, |second| second.p50_us);
    }
    let (from, to) = ticks::log_range(lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, us)| *us)));
    let labelled = |us: &f64| (*us, ticks::duration(*us));
    let y = Axis {
        title: "response time (log)".to_owned(),
        scale: Scale::Log,
        from,
        to,
        ticks: ticks::log_ticks(from, to, 8).iter().map(labelled).collect(),
    };
    Some(Chart {
        title: title.to_owned(),
        description: described(courses),
        x: time(courses)?,
        y,
        bands: bands(courses),
        areas: Vec::new(),
        lines,
    })
}

/// Builds the chart of rates over time; `None` without a second to draw.
pub fn rate(title: &str, courses: &[Course<'_>]) -> Option<Chart> {
    let mut lines = Vec::new();
    for course in courses.iter().rev() {
        let seconds = course.seconds();
        let mut add = |what: &str, stroke, of: fn(&SecondFacts) -> u64| {
            let parts = parts(&seconds, |second| Some(of(second.facts) as f64 / second.covered));
            lines.push(Polyline { label: Some(course.named(what)), ink: course.ink, stroke, width: 2, parts });
        };
        add("started", Stroke::Dashed, |second| second.started);
        add("right answers", Stroke::Solid, |second| second.ok);
    }
    let most = lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, rate)| *rate)).fold(1.0, f64::max);
    let to = most * 1.1;
    let ticks = ticks::linear_ticks(0.0, to, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    Some(Chart {
        title: title.to_owned(),
        description: described(courses),
        x: time(courses)?,
        y: Axis { title: "arrivals per second".to_owned(), scale: Scale::Linear, from: 0.0, to, ticks },
        bands: bands(courses),
        areas: Vec::new(),
        lines,
    })
}

/// Builds the chart of the share of errors over time, beside these bounds on it, each with its label; `None` without a
/// bound, or a second to draw.
pub fn errors(title: &str, courses: &[Course<'_>], limits: &[(String, f64)]) -> Option<Chart> {
    if limits.is_empty() {
        return None;
    }
    let x = time(courses)?;
    let mut lines = Vec::new();
    for (label, limit) in limits {
        let parts = vec![vec![(x.from, limit * 100.0), (x.to, limit * 100.0)]];
        let label = Some(label.clone());
        lines.push(Polyline { label, ink: Ink::Text, stroke: Stroke::Dashed, width: 1, parts });
    }
    for course in courses.iter().rev() {
        let share = |second: &PlottedSecond<'_>| {
            let SecondFacts { started, ok, .. } = second.facts;
            (*started > 0).then(|| started.saturating_sub(*ok) as f64 / *started as f64 * 100.0)
        };
        let (label, parts) = (Some(course.named("errors")), parts(&course.seconds(), share));
        lines.push(Polyline { label, ink: course.ink, stroke: Stroke::Solid, width: 2, parts });
    }
    let to = lines.iter().flat_map(|line| line.parts.iter().flatten().map(|(_, share)| *share)).fold(0.0, f64::max);
    let to = if to > 0.0 { to * 1.1 } else { 1.0 };
    let ticks = ticks::linear_ticks(0.0, to, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    Some(Chart {
        title: title.to_owned(),
        description: described(courses),
        x,
        y: Axis { title: "errors, % of arrivals".to_owned(), scale: Scale::Linear, from: 0.0, to, ticks },
        bands: bands(courses),
        areas: Vec::new(),
        lines,
    })
}

/// Returns lines through the known values of consecutive seconds.
fn parts(seconds: &[PlottedSecond<'_>], value: impl Fn(&PlottedSecond<'_>) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    let points = seconds.iter().map(|second| Some((second.at as f64 + 0.5, value(second)?))).collect::<Vec<_>>();
    let runs = points.split(Option::is_none).map(|run| run.iter().copied().flatten().collect::<Vec<_>>());
    runs.filter(|run| !run.is_empty()).collect()
}

fn time(courses: &[Course<'_>]) -> Option<Axis> {
    let seconds: Vec<i64> =
        courses.iter().flat_map(|course| course.seconds().into_iter().map(|second| second.at)).collect();
    let (from, to) = (*seconds.iter().min()? as f64, *seconds.iter().max()? as f64 + 1.0);
    let ticks = ticks::linear_ticks(from, to, 10).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    let title = if from < 0.0 { "seconds, from the end of the warm-up" } else { "seconds" };
    Some(Axis { title: title.to_owned(), scale: Scale::Linear, from, to, ticks })
}

fn bands(courses: &[Course<'_>]) -> Vec<Band> {
    let stalls = courses.iter().flat_map(Course::stalls);
    let mut bands: Vec<Band> = stalls
        .map(|stall| Band { from: stall.first as f64, to: (stall.last + 1) as f64, ink: Ink::Stall, name: "" })
        .collect();
    let warm_up = courses.iter().map(|course| course.results.warm_up_timeline.len()).max().unwrap_or(0);
    bands.push(Band { from: -(warm_up as f64), to: 0.0, ink: Ink::WarmUp, name: "warm-up" });
    bands
}

fn described(courses: &[Course<'_>]) -> String {
    let each = courses.iter().map(|course| {
        let label = course.named(&format!("{} s measured", ticks::digits(course.results.arrivals.measured_s)));
        format!("{label}; {}.", stalls(&course.stalls()))
    });
    each.collect::<Vec<_>>().join(" ")
}

/// Describes stalls in words.
pub fn stalls(stalls: &[Stall]) -> String {
    /// The number of stalls that are described; further ones are counted.
    const MAX_DESCRIBED: usize = 4;
    let each = stalls.iter().take(MAX_DESCRIBED).map(|stall| {
        let when = match stall {
            Stall { first, last, .. } if first == last => format!("second {first}"),
            Stall { first, last, .. } => format!("seconds {first} to {last}"),
        };
        let slowest = stall.slowest_us.map_or("no answer".to_owned(), |us| ticks::duration(us as f64));
        format!("{when} ({slowest})")
    });
    let each = each.collect::<Vec<_>>().join(", ");
    match stalls.len() {
        0 => "no second stalled".to_owned(),
        count if count > MAX_DESCRIBED => format!("stalled in {each} and {} times more", count - MAX_DESCRIBED),
        _ => format!("stalled in {each}"),
    }
}
