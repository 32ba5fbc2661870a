//! Phases as stacked bars, one bar below the other.

use std::io;

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{PathElement, Rectangle};
use plotters::style::text_anchor::{HPos, VPos};

use super::figure::{Name, Size, embedded, px, standalone, width_of, words};
use super::ink::{Ink, Stroke};
use super::ticks;
use crate::error::{Context as _, Result};

const MARGIN: i32 = 12;
const LINE: i32 = 20;
const BAR: i32 = 24;
/// The distance from a bar's label to the next one's.
const ROW: i32 = LINE + BAR + 12;
/// The height of the marks below.
const FOOT: i32 = 28;

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its label.
    pub label: String,
    /// Its phases in order, each with its duration in microseconds.
    pub segments: Vec<(String, f64)>,
}

/// Bars under one title.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// Their title, in a few words, such as "Phases of a connection, means".
    pub title: &'a str,
    /// The bars, from top to bottom.
    pub bars: &'a [Bar],
}

type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<io::Error>>;
type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Bar {
    fn total(&self) -> f64 {
        self.segments.iter().map(|(_, us)| us.max(0.0)).sum()
    }
}

/// Draws a file of its own, on paper that follows the reader's light or dark mode, so that it reads in a Markdown page
/// too.
///
/// # Errors
/// If plotters fails.
pub fn file(stack: &Stack<'_>, width: i32) -> Result<String> {
    draw(stack, width, "phases", true)
}

/// Draws a part of a page that has [`super::ink::style`]; `id` is unique there.
///
/// # Errors
/// If plotters fails.
pub fn part(stack: &Stack<'_>, width: i32, id: &str) -> Result<String> {
    draw(stack, width, id, false)
}

fn draw(stack: &Stack<'_>, width: i32, id: &str, alone: bool) -> Result<String> {
    let layout = Layout::new(stack, width, alone);
    let size = Size { width, height: layout.height() };
    let mut drawn = String::new();
    layout.draw(&mut drawn, size).context(|| format!("drawing {}", stack.title))?;
    let description = description(stack);
    let name = Name { id, title: stack.title, description: &description };
    Ok(if alone { standalone(&drawn, size, &name) } else { embedded(&drawn, size, &name) })
}

fn description(stack: &Stack<'_>) -> String {
    let each = stack.bars.iter().map(|bar| {
        let phases = bar.segments.iter().map(|(name, us)| format!("{name} {}", ticks::duration(*us)));
        let phases = phases.collect::<Vec<_>>().join(", ");
        format!("{}: {phases}; together {}.", bar.label, ticks::duration(bar.total()))
    });
    each.collect::<Vec<_>>().join(" ")
}

/// The places of all parts of a figure.
struct Layout<'a> {
    stack: &'a Stack<'a>,
    width: i32,
    /// True if the title is drawn too.
    titled: bool,
    /// Phases in the order in which they first appear, each with the place of its name.
    legend: Vec<(&'a str, i32, i32)>,
    /// The top of the bars.
    top: i32,
    /// The end of the scale, in microseconds: the longest bar, and above zero.
    most_us: f64,
}

impl<'a> Layout<'a> {
    fn new(stack: &'a Stack<'a>, width: i32, titled: bool) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in stack.bars.iter().flat_map(|bar| &bar.segments) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let (mut x, mut y) = (MARGIN, MARGIN + if titled { LINE + 4 } else { 0 });
        let legend = names.into_iter().map(|name| {
            let wide = 18 + width_of(name) + 14;
            if x > MARGIN && x + wide > width - MARGIN {
                (x, y) = (MARGIN, y + LINE);
            }
            let at = (name, x, y);
            x += wide;
            at
        });
        let legend = legend.collect();
        let longest = stack.bars.iter().map(Bar::total).fold(0.0, f64::max);
        Self { stack, width, titled, legend, top: y + LINE + 10, most_us: longest.max(1e-3) }
    }

    fn height(&self) -> i32 {
        self.top + ROW * i32::try_from(self.stack.bars.len()).unwrap_or(i32::MAX / ROW - 100) + FOOT
    }

    /// Returns the place of a duration in microseconds.
    fn x(&self, us: f64) -> i32 {
        let span = f64::from(px(self.width - 2 * MARGIN));
        px(MARGIN) + (span * us / self.most_us).round() as i32
    }

    fn draw(&self, drawn: &mut String, size: Size) -> Drawn {
        let root = SVGBackend::with_string(drawn, size.canvas()).into_drawing_area();
        if self.titled {
            let style = words(Ink::Text, HPos::Left, VPos::Top);
            root.draw_text(self.stack.title, &style, (px(MARGIN), px(MARGIN)))?;
        }
        for (name, x, y) in &self.legend {
            let swatch = [(px(*x), px(y + 2)), (px(x + 12), px(y + 14))];
            root.draw(&Rectangle::new(swatch, self.ink(name).fill()))?;
            root.draw_text(name, &words(Ink::Muted, HPos::Left, VPos::Center), (px(x + 18), px(y + 8)))?;
        }
        self.scale(&root)?;
        let tops = (0..).map(|row| self.top + row * ROW);
        for (bar, y) in self.stack.bars.iter().zip(tops) {
            self.bar(&root, bar, y)?;
        }
        root.present()
    }

    fn ink(&self, phase: &str) -> Ink {
        Ink::Phase(self.legend.iter().position(|(name, ..)| *name == phase).unwrap_or_default())
    }

    fn scale(&self, root: &Root<'_>) -> Drawn {
        let bottom = self.height() - FOOT;
        let most = (self.width / 90).unsigned_abs() as usize;
        for tick in ticks::linear_ticks(0.0, self.most_us, most) {
            let (x, label) = (self.x(tick), ticks::duration(tick));
            let line = vec![(x, px(self.top)), (x, px(bottom))];
            root.draw(&PathElement::new(line, Ink::Grid.line(Stroke::Solid, px(1))))?;
            let half = px(width_of(&label)) / 2;
            let x = x.clamp(px(4) + half, px(self.width - 4) - half);
            let label = if tick == 0.0 { "0" } else { &label };
            root.draw_text(label, &words(Ink::Muted, HPos::Center, VPos::Top), (x, px(bottom + 6)))?;
        }
        Ok(())
    }

    fn bar(&self, root: &Root<'_>, bar: &Bar, y: i32) -> Drawn {
        let total = ticks::duration(bar.total());
        // Words cover the lines of the scale.
        let ground = [(px(MARGIN) - px(2), px(y)), (px(MARGIN + width_of(&bar.label)), px(y + LINE - 2))];
        root.draw(&Rectangle::new(ground, Ink::Paper.fill()))?;
        root.draw_text(&bar.label, &words(Ink::Text, HPos::Left, VPos::Center), (px(MARGIN), px(y + LINE / 2)))?;
        let end = px(self.width - MARGIN);
        let ground = [(end - px(width_of(&total) + 4), px(y)), (end + px(2), px(y + LINE - 2))];
        root.draw(&Rectangle::new(ground, Ink::Paper.fill()))?;
        root.draw_text(&total, &words(Ink::Text, HPos::Right, VPos::Center), (end, px(y + LINE / 2)))?;
        let (top, bottom) = (px(y + LINE), px(y + LINE + BAR));
        let mut from = 0.0;
        for (name, us) in &bar.segments {
            let (left, right) = (self.x(from), self.x(from + us.max(0.0)));
            from += us.max(0.0);
            root.draw(&Rectangle::new([(left, top), (right, bottom)], self.ink(name).fill()))?;
            let label = ticks::duration(*us);
            if right - left > px(width_of(&label) + 4) {
                let at = ((left + right) / 2, (top + bottom) / 2);
                root.draw_text(&label, &words(Ink::OnPhase, HPos::Center, VPos::Center), at)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, segments: &[(&str, f64)]) -> Bar {
        Bar { label: label.to_owned(), segments: segments.iter().map(|(name, us)| ((*name).to_owned(), *us)).collect() }
    }

    #[test]
    fn segments_stack_and_the_longest_bar_fills_the_width() {
        let bars = [
            bar("nginx", &[("TCP connect", 100.0), ("send", 50.0), ("first byte", 250.0)]),
            bar("<f5>", &[("TCP connect", 100.0), ("first byte", 700.0)]),
        ];
        let stack = Stack { title: "Phases", bars: &bars };
        let layout = Layout::new(&stack, 424, true);
        assert_eq!((layout.x(0.0), layout.x(800.0)), (px(12), px(412)));
        assert_eq!((layout.x(100.0), layout.x(400.0)), (px(62), px(212)));
        let svg = file(&stack, 424).unwrap();
        // A phase has its colour wherever it is: twice, and once in the legend.
        let of = |phase: usize| svg.matches(&format!("class=\"f-phase-{phase}\"")).count();
        assert_eq!([of(0), of(1), of(2)], [3, 2, 3]);
        assert!(
            svg.contains("&lt;f5&gt;: TCP connect 100 µs, first byte 700 µs; together 800 µs.")
                && !svg.contains("<f5>")
        );
        assert!(svg.contains("prefers-color-scheme:dark") && svg.contains("class=\"f-paper\""));
    }

    #[test]
    fn an_empty_chart_is_drawn() {
        for bars in [&[][..], &[bar("none", &[])], &[bar("zero", &[("send", 0.0)])]] {
            assert!(part(&Stack { title: "t", bars }, 300, "x").unwrap().ends_with("</svg>\n"));
        }
    }
}
