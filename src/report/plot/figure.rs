//! The common parts of all figures: a canvas finer than a pixel, and a name for readers who do not see them.

use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, TextStyle};

use super::ink::{Ink, classed, style};
use crate::report::escape;

/// Points of the canvas per pixel: plotters draws at whole points only.
const GRAIN: i32 = 4;
/// The size of letters, in pixels.
pub const LETTERS: i32 = 12;

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

impl Size {
    pub(super) fn canvas(self) -> (u32, u32) {
        (px(self.width).unsigned_abs(), px(self.height).unsigned_abs())
    }
}

/// Converts pixels into points of the canvas.
pub(super) fn px(pixels: i32) -> i32 {
    pixels * GRAIN
}

/// Returns the style of words in this ink, drawn with this corner at the given point.
pub(super) fn words<'a>(ink: Ink, across: HPos, along: VPos) -> TextStyle<'a> {
    // plotters divides by this factor again.
    let size = f64::from(px(LETTERS)) * 1.24;
    TextStyle {
        font: ("sans-serif", size).into_font(),
        color: ink.words().to_backend_color(),
        pos: Pos::new(across, along),
    }
}

/// Estimates the width of words, in pixels, since the reader's font is not known.
pub(super) fn width_of(words: &str) -> i32 {
    (words.chars().count() as f64 * f64::from(LETTERS) * 0.6).ceil() as i32
}

/// Turns plotters' drawing into a part of a page that has [`super::ink::style`].
pub(super) fn embedded(drawn: &str, size: Size, name: &Name<'_>) -> String {
    let head = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" font-family=\"system-ui, sans-serif\">\n",
        px(size.width),
        px(size.height),
        id = name.id
    );
    head + &body(drawn, name)
}

/// Turns plotters' drawing into a file of its own, with paper.
pub(super) fn standalone(drawn: &str, size: Size, name: &Name<'_>) -> String {
    let (width, height) = (px(size.width), px(size.height));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"{id}-t {id}-d\" font-family=\"system-ui, sans-serif\">\n<style>\n{}</style>\n\
         <rect class=\"f-paper\" width=\"{width}\" height=\"{height}\" rx=\"{}\"/>\n{}",
        size.width,
        size.height,
        style(),
        px(6),
        body(drawn, name),
        id = name.id
    )
}

fn body(drawn: &str, name: &Name<'_>) -> String {
    let within = drawn.split_once('>').map_or("", |(_, within)| within.trim_start());
    format!(
        "<title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n{}",
        escape::html(name.title),
        escape::html(name.description),
        classed(within),
        id = name.id
    )
}
