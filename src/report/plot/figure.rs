//! What every figure has: a canvas finer than a pixel, and a name for those who do not see it.

use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, TextStyle};

use super::ink::{Ink, classed, style};
use crate::report::escape;

/// plotters draws at whole points; so many of them are a pixel.
const GRAIN: i32 = 4;
/// Letters, in pixels.
pub const LETTERS: i32 = 12;

/// How large a figure is, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// From left to right.
    pub width: i32,
    /// From top to bottom.
    pub height: i32,
}

/// What a figure is called.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// Unique in its page.
    pub id: &'a str,
    /// What it shows, in a few words.
    pub title: &'a str,
    /// What is to be seen in it, in a sentence or two.
    pub description: &'a str,
}

impl Size {
    pub(super) fn canvas(self) -> (u32, u32) {
        (px(self.width).unsigned_abs(), px(self.height).unsigned_abs())
    }
}

/// So many pixels, in points of the canvas.
pub(super) fn px(pixels: i32) -> i32 {
    pixels * GRAIN
}

/// Words in this ink, of which this corner is put where they are drawn.
pub(super) fn words<'a>(ink: Ink, across: HPos, along: VPos) -> TextStyle<'a> {
    // plotters divides by this again.
    let size = f64::from(px(LETTERS)) * 1.24;
    TextStyle {
        font: ("sans-serif", size).into_font(),
        color: ink.words().to_backend_color(),
        pos: Pos::new(across, along),
    }
}

/// About how wide some words are, in pixels: nobody knows the reader's font.
pub(super) fn width_of(words: &str) -> i32 {
    (words.chars().count() as f64 * f64::from(LETTERS) * 0.6).ceil() as i32
}

/// Turns what plotters has drawn into a part of a page that has [`super::ink::style`].
pub(super) fn embedded(drawn: &str, size: Size, name: &Name<'_>) -> String {
    let head = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" font-family=\"system-ui, sans-serif\">\n",
        px(size.width),
        px(size.height),
        id = name.id
    );
    head + &body(drawn, name)
}

/// Turns what plotters has drawn into a file of its own, with paper.
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
