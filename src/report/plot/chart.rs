//! Charts of lines over two axes.

use super::figure::{Anchor, Name, Point, Shapes, Size, width_of};
use super::ink::{Ink, Stroke};

/// Room around the lines, in pixels, for marks and titles.
const LEFT: i32 = 60;
const RIGHT: i32 = 24;
const TOP: i32 = 34;
const BOTTOM: i32 = 44;

/// The mapping of values to an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Values as they are.
    Linear,
    /// Logarithms of values, which are positive.
    Log,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its title, unit included where its marks have none.
    pub title: String,
    /// Its mapping of values.
    pub scale: Scale,
    /// Its lower end.
    pub from: f64,
    /// Its upper end, above `from`.
    pub to: f64,
    /// Its marks, ascending, with their labels.
    pub ticks: Vec<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Polyline {
    /// Its label in the legend; `None` for the continuation of another line.
    pub label: Option<String>,
    /// Its colour.
    pub ink: Ink,
    /// Its stroke.
    pub stroke: Stroke,
    /// Its width, in pixels.
    pub width: i32,
    /// Its points; the parts are not connected with one another.
    pub parts: Vec<Vec<(f64, f64)>>,
}

/// The area between two lines.
#[derive(Clone, Debug)]
pub struct Area {
    /// Its label in the legend.
    pub label: String,
    /// Its colour.
    pub ink: Ink,
    /// Its points: the place on the first axis, and the lower and the upper end on the second.
    pub points: Vec<(f64, f64, f64)>,
}

/// A band of the background, over the full height.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    /// Its start on the first axis.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// Its colour.
    pub ink: Ink,
    /// Its name, which stands above it where there is room; empty where the legend is enough.
    pub name: &'static str,
}

/// A figure of lines.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Its title, in a few words.
    pub title: String,
    /// Its description, for readers who do not see it.
    pub description: String,
    /// The horizontal axis, from left to right.
    pub x: Axis,
    /// The vertical axis, from bottom to top.
    pub y: Axis,
    /// The bands in the background.
    pub bands: Vec<Band>,
    /// The areas on the background, the first one lowest.
    pub areas: Vec<Area>,
    /// The lines, the most important last, so that it lies on top.
    pub lines: Vec<Polyline>,
}

impl Axis {
    fn map(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    /// Returns the place of a value between the ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let (from, to) = (self.map(self.from), self.map(self.to));
        (self.map(value) - from) / (to - from)
    }
}

/// The rectangle between the axes, in pixels.
struct Plane<'c> {
    chart: &'c Chart,
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Plane<'_> {
    fn x(&self, value: f64) -> f64 {
        self.left + self.chart.x.share(value) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.chart.y.share(value) * (self.bottom - self.top)
    }

    fn at(&self, (x, y): (f64, f64)) -> Point {
        (self.x(x), self.y(y))
    }
}

impl Chart {
    /// Draws it for a page that has [`super::ink::style`]; `id` is unique there.
    pub fn svg(&self, size: Size, id: &str) -> String {
        let (right, bottom) = (f64::from(size.width - RIGHT), f64::from(size.height - BOTTOM));
        let plane = Plane { chart: self, left: f64::from(LEFT), top: f64::from(TOP), right, bottom };
        let mut shapes = Shapes::default();
        for band in &self.bands {
            let (from, to) = (plane.x(band.from).max(plane.left), plane.x(band.to).min(plane.right));
            if from < to {
                shapes.rectangle((from, plane.top), (to, plane.bottom), band.ink);
                if band.ink == Ink::Drain {
                    shapes.hatch((from, plane.top), (to, plane.bottom));
                }
            }
        }
        for area in &self.areas {
            let upper = area.points.iter().map(|(at, _, high)| plane.at((*at, *high)));
            let lower = area.points.iter().rev().map(|(at, low, _)| plane.at((*at, *low)));
            shapes.polygon(upper.chain(lower), area.ink);
        }
        self.axes(&plane, &mut shapes, size);
        for band in self.bands.iter().filter(|band| !band.name.is_empty()) {
            let (from, to) = (plane.x(band.from).max(plane.left), plane.x(band.to).min(plane.right));
            if to - from >= f64::from(width_of(band.name)) {
                shapes.words(band.name, (f64::midpoint(from, to), plane.top - 8.0), Anchor::Middle, Ink::Muted);
            }
        }
        for line in &self.lines {
            for part in &line.parts {
                match part[..] {
                    // A line of one point would not be seen.
                    [only] => shapes.circle(plane.at(only), line.width, line.ink),
                    _ => {
                        shapes.line(part.iter().map(|point| plane.at(*point)), line.ink, line.stroke, line.width);
                    }
                }
            }
        }
        shapes.embedded(size, &Name { id, title: &self.title, description: &self.description })
    }

    fn axes(&self, plane: &Plane<'_>, shapes: &mut Shapes, size: Size) {
        let mut guide = |from: Point, to: Point| shapes.line([from, to], Ink::Grid, Stroke::Solid, 1);
        for (tick, _) in &self.x.ticks {
            guide((plane.x(*tick), plane.bottom), (plane.x(*tick), plane.top));
        }
        for (tick, _) in &self.y.ticks {
            guide((plane.left, plane.y(*tick)), (plane.right, plane.y(*tick)));
        }
        // The first axis's marks need room side by side.
        let mut free_from = f64::NEG_INFINITY;
        for (tick, label) in &self.x.ticks {
            let (x, half) = (plane.x(*tick), f64::from(width_of(label)) / 2.0);
            if x - half >= free_from {
                shapes.words(label, (x, plane.bottom + 7.0), Anchor::Top, Ink::Muted);
                free_from = x + half + 4.0;
            }
        }
        for (tick, label) in &self.y.ticks {
            shapes.words(label, (plane.left - 7.0, plane.y(*tick)), Anchor::Right, Ink::Muted);
        }
        shapes.words(&self.y.title, (4.0, 2.0), Anchor::TopLeft, Ink::Text);
        shapes.words(&self.x.title, (plane.right, f64::from(size.height - 4)), Anchor::BottomRight, Ink::Text);
    }
}
