//! Colours that follow the reader's light or dark mode: plotters draws with placeholders, and CSS classes take their
//! place.

use std::fmt::Write as _;

use plotters::style::{Color as _, RGBColor, ShapeStyle};

/// The number of runs that have a colour of their own.
pub const RUNS: usize = 4;
/// The number of phases that have a colour of their own.
pub const PHASES: usize = 7;

/// The thing that is drawn, which decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Words that matter.
    Text,
    /// Words that explain, such as an axis's labels.
    Muted,
    /// Lines that guide the eye.
    Grid,
    /// The background of a figure.
    Paper,
    /// The background of the warm-up.
    WarmUp,
    /// The background of a second in which the system stalled.
    Stall,
    /// The first run (0) and those drawn over it; beyond [`RUNS`] the colours begin anew.
    Run(usize),
    /// A phase, by its place; beyond [`PHASES`] the colours begin anew.
    Phase(usize),
    /// Words on a phase.
    OnPhase,
}

/// The stroke of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Without a gap.
    Solid,
    /// In dashes.
    Dashed,
    /// In dots, and faint.
    Dotted,
}

impl Ink {
    /// Returns all inks.
    pub fn all() -> impl Iterator<Item = Self> {
        let fixed =
            [Self::Text, Self::Muted, Self::Grid, Self::Paper, Self::WarmUp, Self::Stall, Self::OnPhase].into_iter();
        fixed.chain((0..RUNS).map(Self::Run)).chain((0..PHASES).map(Self::Phase))
    }

    /// Returns its name in CSS.
    pub fn name(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Muted => "muted".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Paper => "paper".to_owned(),
            Self::WarmUp => "warm-up".to_owned(),
            Self::Stall => "stall".to_owned(),
            Self::OnPhase => "on-phase".to_owned(),
            Self::Run(index) => format!("run-{}", index % RUNS),
            Self::Phase(index) => format!("phase-{}", index % PHASES),
        }
    }

    /// Returns its colours on light and on dark paper. Phases can be distinguished with impaired colour vision too
    /// (after Okabe and Ito).
    fn colours(self) -> [&'static str; 2] {
        match self {
            Self::Text => ["#1f2328", "#e6edf3"],
            Self::Muted => ["#59636e", "#9da7b3"],
            Self::Grid => ["#d8dee4", "#30363d"],
            Self::Paper => ["#ffffff", "#0d1117"],
            Self::WarmUp => ["#eaeef2", "#21262d"],
            Self::Stall => ["#ffd8d3", "#5d1f1a"],
            Self::OnPhase => ["#0b1620", "#0b1620"],
            Self::Run(index) => {
                [["#0a5fc2", "#58a6ff"], ["#bc4c00", "#f0883e"], ["#7a3fd0", "#bc8cff"], ["#1a7f37", "#3fb950"]]
                    [index % RUNS]
            }
            Self::Phase(index) => [
                ["#56b4e9", "#56b4e9"],
                ["#e69f00", "#e69f00"],
                ["#f5d76e", "#f5d76e"],
                ["#7fd1ae", "#7fd1ae"],
                ["#cc9ad0", "#cc9ad0"],
                ["#e58b5e", "#e58b5e"],
                ["#b3bdc7", "#b3bdc7"],
            ][index % PHASES],
        }
    }

    fn placeholder(self, stroke: Stroke) -> RGBColor {
        let index = Self::all().position(|ink| ink.name() == self.name()).unwrap_or_default();
        RGBColor(stroke as u8, 0, index as u8)
    }

    /// Returns the style of filled shapes.
    pub fn fill(self) -> ShapeStyle {
        self.placeholder(Stroke::Solid).filled()
    }

    /// Returns the colour of words.
    pub(super) fn words(self) -> RGBColor {
        self.placeholder(Stroke::Solid)
    }

    /// Returns the style of lines of this width.
    pub fn line(self, stroke: Stroke, width: i32) -> ShapeStyle {
        self.placeholder(stroke).stroke_width(width.unsigned_abs())
    }
}

/// Returns the class that belongs to a placeholder on this property (`fill` or `stroke`).
fn class(property: &str, hex: &str) -> Option<String> {
    let [stroke, _, index] = [0, 2, 4].map(|at| u8::from_str_radix(hex.get(at..at + 2).unwrap_or(""), 16).ok());
    let name = Ink::all().nth(usize::from(index?))?.name();
    let dash =
        [Stroke::Solid, Stroke::Dashed, Stroke::Dotted].into_iter().find(|one| *one as u8 == stroke.unwrap_or(0));
    Some(match (property, dash) {
        ("stroke", Some(Stroke::Dashed)) => format!("s-{name} dashed"),
        ("stroke", Some(Stroke::Dotted)) => format!("s-{name} dotted"),
        ("stroke", _) => format!("s-{name}"),
        _ => format!("f-{name}"),
    })
}

/// Replaces the placeholders in plotters' drawing with classes.
pub(super) fn classed(svg: &str) -> String {
    const VALUE: &str = "=\"#";
    let mut told = String::with_capacity(svg.len());
    let mut rest = svg;
    // Quotes within words are escaped, so that only attributes match.
    while let Some((before, after)) = rest.split_once(VALUE) {
        let (kept, property) = before.rsplit_once(' ').unwrap_or(("", before));
        let (hex, tail) = after.split_once('"').unwrap_or((after, ""));
        match class(property, hex) {
            Some(class) => write!(told, "{kept} class=\"{class}\""),
            None => write!(told, "{kept} {property}{VALUE}{hex}\""),
        }
        .ok();
        rest = tail;
    }
    told.push_str(rest);
    told.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "")
}

/// Returns the CSS of drawings: each class in light and in dark.
pub fn style() -> String {
    let rules = |mode: usize| {
        let each = Ink::all().map(|ink| {
            let (name, colour) = (ink.name(), ink.colours()[mode]);
            format!(".f-{name}{{fill:{colour}}}.s-{name}{{stroke:{colour}}}")
        });
        each.collect::<String>()
    };
    format!("{}\n@media (prefers-color-scheme:dark){{{}}}\n", rules(0), rules(1))
}

/// Returns the CSS of pages: each colour as a variable, in light and in dark.
pub fn variables() -> String {
    let rules = |mode: usize| {
        let each = Ink::all().map(|ink| format!("--{}:{};", ink.name(), ink.colours()[mode]));
        each.collect::<String>()
    };
    format!(":root{{{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n", rules(0), rules(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_has_a_unique_placeholder_and_name() {
        let mut seen = std::collections::HashSet::new();
        for ink in Ink::all() {
            let RGBColor(stroke, _, index) = ink.placeholder(Stroke::Dashed);
            let hex = format!("{stroke:02X}00{index:02X}");
            assert_eq!(class("stroke", &hex), Some(format!("s-{} dashed", ink.name())));
            assert_eq!(class("fill", &hex), Some(format!("f-{}", ink.name())));
            assert!(seen.insert(ink.name()), "{ink:?}");
        }
    }

    #[test]
    fn placeholders_become_classes_and_nothing_else_changes() {
        let svg = "<rect opacity=\"1\" fill=\"#000000\" stroke=\"none\"/><text x=\"1\">=&quot;#000000</text>";
        assert_eq!(classed(svg), "<rect class=\"f-text\" stroke=\"none\"/><text x=\"1\">=&quot;#000000</text>");
        assert_eq!(classed("<a fill=\"#0000FF\"/>"), "<a fill=\"#0000FF\"/>");
    }
}
