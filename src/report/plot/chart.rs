//! Charts of lines over two axes.

use std::io;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, VPos};

use super::figure::{Name, Size, embedded, px, width_of, words};
use super::ink::{Ink, Stroke};
use crate::error::{Context as _, Result};

/// Room around the lines, in pixels, for marks and titles.
const LEFT: i32 = 60;
const RIGHT: i32 = 24;
const TOP: i32 = 26;
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

type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<io::Error>>;
type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'r, 'd> = ChartContext<'r, SVGBackend<'d>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Axis {
    fn map(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }

    fn ends(&self) -> (f64, f64) {
        (self.map(self.from), self.map(self.to))
    }
}

impl Chart {
    /// Draws it for a page that has [`super::ink::style`]; `id` is unique there.
    ///
    /// # Errors
    /// If plotters fails.
    pub fn svg(&self, size: Size, id: &str) -> Result<String> {
        let mut drawn = String::new();
        self.draw(&mut drawn, size).context(|| format!("drawing {}", self.title))?;
        Ok(embedded(&drawn, size, &Name { id, title: &self.title, description: &self.description }))
    }

    fn draw(&self, drawn: &mut String, size: Size) -> Drawn {
        let root = SVGBackend::with_string(drawn, size.canvas()).into_drawing_area();
        let ((left, right), (bottom, top)) = (self.x.ends(), self.y.ends());
        let mut plane = ChartBuilder::on(&root)
            .margin_left(px(LEFT))
            .margin_right(px(RIGHT))
            .margin_top(px(TOP))
            .margin_bottom(px(BOTTOM))
            .build_cartesian_2d(left..right, bottom..top)?;
        for band in &self.bands {
            let (from, to) = (self.x.map(band.from).max(left), self.x.map(band.to).min(right));
            if from < to {
                plane.draw_series([Rectangle::new([(from, bottom), (to, top)], band.ink.fill())])?;
            }
        }
        for area in &self.areas {
            let along = |of: fn(&(f64, f64, f64)) -> f64| {
                area.points.iter().map(move |point| (self.x.map(point.0), self.y.map(of(point)))).collect::<Vec<_>>()
            };
            let (upper, mut lower) = (along(|point| point.2), along(|point| point.1));
            lower.reverse();
            plane.draw_series([Polygon::new([upper, lower].concat(), area.ink.fill())])?;
        }
        self.axes(&root, &mut plane, size)?;
        for line in &self.lines {
            self.line(&mut plane, line)?;
        }
        root.present()
    }

    fn axes(&self, root: &Root<'_>, plane: &mut Plane<'_, '_>, size: Size) -> Drawn {
        let ((left, right), (bottom, top)) = (self.x.ends(), self.y.ends());
        let guide = |ends: [(f64, f64); 2]| PathElement::new(ends.to_vec(), Ink::Grid.line(Stroke::Solid, px(1)));
        let across = words(Ink::Muted, HPos::Center, VPos::Top);
        // The first axis's marks need room side by side.
        let mut free_from = i32::MIN;
        for (tick, label) in &self.x.ticks {
            let at = self.x.map(*tick);
            plane.draw_series([guide([(at, bottom), (at, top)])])?;
            let (x, y) = plane.backend_coord(&(at, bottom));
            let half = px(width_of(label)) / 2;
            if x - half >= free_from {
                root.draw_text(label, &across, (x, y + px(7)))?;
                free_from = x + half + px(4);
            }
        }
        for (tick, label) in &self.y.ticks {
            let at = self.y.map(*tick);
            plane.draw_series([guide([(left, at), (right, at)])])?;
            let (x, y) = plane.backend_coord(&(left, at));
            root.draw_text(label, &words(Ink::Muted, HPos::Right, VPos::Center), (x - px(7), y))?;
        }
        root.draw_text(&self.y.title, &words(Ink::Text, HPos::Left, VPos::Top), (px(4), px(2)))?;
        let corner = (px(size.width - RIGHT), px(size.height - 4));
        root.draw_text(&self.x.title, &words(Ink::Text, HPos::Right, VPos::Bottom), corner)
    }

    fn line(&self, plane: &mut Plane<'_, '_>, line: &Polyline) -> Drawn {
        for part in &line.parts {
            let points: Vec<_> = part.iter().map(|(x, y)| (self.x.map(*x), self.y.map(*y))).collect();
            if let [only] = points[..] {
                // A line of one point would not be seen.
                plane.draw_series([Circle::new(only, px(line.width), line.ink.fill())])?;
            } else {
                plane.draw_series([PathElement::new(points, line.ink.line(line.stroke, px(line.width)))])?;
            }
        }
        Ok(())
    }
}
