//! The common parts of all figures: shapes and words in SVG, and a name for readers who do not see them.

use std::fmt::Write as _;

use super::ink::{Ink, Stroke, style};
use crate::report::escape;

/// The size of letters, in pixels.
pub const LETTERS: i32 = 12;

/// A place in a figure, in pixels from its top left corner.
pub(in crate::report) type Point = (f64, f64);

/// The size of a figure, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// From left to right.
    pub width: i32,
    /// From top to bottom.
    pub height: i32,
}

/// The name of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// Unique in its page.
    pub id: &'a str,
    /// Its title, in a few words.
    pub title: &'a str,
    /// Its description, in a sentence or two.
    pub description: &'a str,
}

/// The part of a line of words that lies at its point.
#[derive(Clone, Copy, Debug)]
pub(in crate::report) enum Anchor {
    /// The middle of its left side.
    Left,
    /// The middle of its right side.
    Right,
    /// Its middle.
    Middle,
    /// The middle of its top.
    Top,
    /// Its top left corner.
    TopLeft,
    /// Its bottom right corner.
    BottomRight,
}

impl Anchor {
    /// Returns the value of `text-anchor`, and the way from the point down to the base line, in pixels.
    fn placing(self) -> (&'static str, f64) {
        let letters = f64::from(LETTERS);
        // Letters reach about 0.8 of their size above the base line, and 0.2 below it.
        let (top, middle, bottom) = (0.8 * letters, 0.35 * letters, -0.2 * letters);
        match self {
            Self::Left => ("start", middle),
            Self::Right => ("end", middle),
            Self::Middle => ("middle", middle),
            Self::Top => ("middle", top),
            Self::TopLeft => ("start", top),
            Self::BottomRight => ("end", bottom),
        }
    }
}

/// The shapes of a figure, the first one lowest.
#[derive(Debug, Default)]
pub(in crate::report) struct Shapes(String);

impl Shapes {
    /// Adds a filled rectangle with these opposite corners.
    pub fn rectangle(&mut self, (left, top): Point, (right, bottom): Point, ink: Ink) {
        let (width, height) = (number(right - left), number(bottom - top));
        let (left, top) = (number(left), number(top));
        self.add(format_args!(
            "<rect class=\"f-{}\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>",
            ink.name()
        ));
    }

    /// Adds a filled polygon.
    pub fn polygon(&mut self, points: impl IntoIterator<Item = Point>, ink: Ink) {
        self.add(format_args!("<polygon class=\"f-{}\" points=\"{}\"/>", ink.name(), list(points)));
    }

    /// Adds a filled circle.
    pub fn circle(&mut self, (x, y): Point, radius: i32, ink: Ink) {
        let (x, y) = (number(x), number(y));
        self.add(format_args!("<circle class=\"f-{}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>", ink.name()));
    }

    /// Adds a line through these points, this many pixels wide.
    pub fn line(&mut self, points: impl IntoIterator<Item = Point>, ink: Ink, stroke: Stroke, width: i32) {
        self.add(format_args!(
            "<polyline class=\"{}\" fill=\"none\" stroke-width=\"{width}\" points=\"{}\"/>",
            stroke.class(ink),
            list(points)
        ));
    }

    /// Adds upright lines between these opposite corners: a ground that differs from another without its colour.
    pub fn hatch(&mut self, (left, top): Point, (right, bottom): Point) {
        const APART: f64 = 4.0;
        let lines = ((right - left) / APART) as usize;
        for x in (0..=lines).map(|line| left + line as f64 * APART) {
            self.line([(x, top), (x, bottom)], Ink::Hatch, Stroke::Solid, 1);
        }
    }

    /// Adds words on one line.
    pub fn words(&mut self, words: &str, (x, y): Point, anchor: Anchor, ink: Ink) {
        let (anchor, down) = anchor.placing();
        self.add(format_args!(
            "<text class=\"f-{}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"{LETTERS}\">{}</text>",
            ink.name(),
            number(x),
            number(y + down),
            escape::html(words)
        ));
    }

    /// Adds a whole figure of this size, which was [`embedded`](Self::embedded), with its top left corner here.
    pub fn place(&mut self, (left, top): Point, Size { width, height }: Size, figure: &str) {
        let figure = figure.strip_prefix("<svg ").unwrap_or(figure);
        let (left, top) = (number(left), number(top));
        self.add(format_args!(
            "<svg x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" {}",
            figure.trim_end()
        ));
    }

    /// Returns them as elements of a figure.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    /// Renders a part of a page that has [`super::ink::style`].
    pub fn embedded(&self, size: Size, name: &Name<'_>) -> String {
        let Size { width, height } = size;
        format!("<svg viewBox=\"0 0 {width} {height}\" {}", self.within(name))
    }

    /// Renders a file of its own, with paper.
    pub fn standalone(&self, size: Size, name: &Name<'_>) -> String {
        let Size { width, height } = size;
        let paper = format!("<rect class=\"f-paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n");
        let within = Self(format!("<style>\n{}</style>\n{paper}{}", style(), self.0)).within(name);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" {within}"
        )
    }

    fn within(&self, Name { id, title, description }: &Name<'_>) -> String {
        format!(
            "role=\"img\" aria-labelledby=\"{id}-t {id}-d\" font-family=\"system-ui, sans-serif\">\n\
             <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n{}</svg>\n",
            escape::html(title),
            escape::html(description),
            self.0
        )
    }
}

/// Estimates the width of words, in pixels, since the reader's font is not known.
pub(in crate::report) fn width_of(words: &str) -> i32 {
    (words.chars().count() as f64 * f64::from(LETTERS) * 0.6).ceil() as i32
}

fn list(points: impl IntoIterator<Item = Point>) -> String {
    points.into_iter().map(|(x, y)| format!("{},{}", number(x), number(y))).collect::<Vec<_>>().join(" ")
}

/// Rounds to a quarter of a pixel: no reader sees more, and a file stays small.
fn number(pixels: f64) -> f64 {
    (pixels * 4.0).round() / 4.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_rendered_with_their_classes() {
        let mut shapes = Shapes::default();
        shapes.rectangle((1.0, 2.0), (4.1, 6.0), Ink::Grid);
        shapes.line([(0.0, 0.3), (7.0, 0.0)], Ink::Run(1), Stroke::Dashed, 2);
        shapes.words("<p50>", (3.0, 4.0), Anchor::TopLeft, Ink::Text);
        let name = Name { id: "a", title: "T & U", description: "d" };
        assert_eq!(
            shapes.embedded(Size { width: 10, height: 20 }, &name),
            "<svg viewBox=\"0 0 10 20\" role=\"img\" aria-labelledby=\"a-t a-d\" font-family=\"system-ui, sans-serif\">\n\
             <title id=\"a-t\">T &amp; U</title>\n<desc id=\"a-d\">d</desc>\n\
             <rect class=\"f-grid\" x=\"1\" y=\"2\" width=\"3\" height=\"4\"/>\n\
             <polyline class=\"s-run-1 dashed\" fill=\"none\" stroke-width=\"2\" points=\"0,0.25 7,0\"/>\n\
             <text class=\"f-text\" x=\"3\" y=\"13.5\" text-anchor=\"start\" font-size=\"12\">&lt;p50&gt;</text>\n</svg>\n"
        );
    }
}
