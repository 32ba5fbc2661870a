//! CPU use of the machine, second by second: its owners stacked on one another.

use super::chart::{Area, Axis, Band, Chart, Scale};
use super::ink::Ink;
use super::ticks;
use crate::measure::machine_use::{MachineSample, MachineUse};
use crate::report::machine_use::{owners, statements};

/// The colours of the owners, in their order.
pub const INKS: [Ink; 6] = [Ink::Phase(0), Ink::Phase(3), Ink::Phase(1), Ink::Phase(5), Ink::Phase(6), Ink::Phase(4)];

/// Builds the chart below one whose seconds are on `x` and whose background is `bands`; `None` without a sample to
/// draw. On that axis the window of `used` begins at `window_at`.
pub fn chart(title: &str, used: &MachineUse, x: &Axis, bands: &[Band], window_at: f64) -> Option<Chart> {
    let samples: Vec<_> = used.timeline.iter().filter_map(|sample| Span::within(sample, window_at, x)).collect();
    if samples.is_empty() {
        return None;
    }
    let cpus = f64::from(used.cpus.max(1));
    let known = owners(&used.mean).into_iter().zip(INKS).enumerate().filter(|(_, ((_, mean), _))| mean.is_some());
    let areas = known.map(|(owner, ((name, _), ink))| Area {
        label: name.to_owned(),
        ink,
        points: samples.iter().flat_map(|span| span.edges(owner, cpus)).collect(),
    });
    let areas = areas.collect();
    let ticks = ticks::linear_ticks(0.0, cpus, 5).into_iter().map(|tick| (tick, ticks::digits(tick))).collect();
    Some(Chart {
        title: title.to_owned(),
        description: statements(used).join(". "),
        x: x.clone(),
        y: Axis { title: "processors in use".to_owned(), scale: Scale::Linear, from: 0.0, to: cpus, ticks },
        bands: bands.to_vec(),
        areas,
        lines: Vec::new(),
    })
}

/// A sample with its place on the axis.
struct Span<'a> {
    from: f64,
    to: f64,
    sample: &'a MachineSample,
}

impl<'a> Span<'a> {
    fn within(sample: &'a MachineSample, window_at: f64, x: &Axis) -> Option<Self> {
        let from = (window_at + sample.at_s).max(x.from);
        let to = (window_at + sample.at_s + sample.span_s).min(x.to);
        (from < to).then_some(Self { from, to, sample })
    }

    /// Returns both edges of an owner's area: the place on the first axis, and the lower and the upper end on the
    /// second.
    fn edges(&self, owner: usize, cpus: f64) -> [(f64, f64, f64); 2] {
        let parts = owners(&self.sample.cpu).map(|(_, cpus)| cpus.unwrap_or(0.0));
        let low: f64 = parts[..owner].iter().sum();
        let (low, high) = (low.min(cpus), (low + parts[owner]).min(cpus));
        [(self.from, low, high), (self.to, low, high)]
    }
}
