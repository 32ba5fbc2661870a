//! Phases as stacked bars, one bar below the other.

use super::figure::{Anchor, Name, Shapes, Size, width_of};
use super::ink::{Ink, Stroke};
use super::ticks;

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

impl Bar {
    fn total(&self) -> f64 {
        self.segments.iter().map(|(_, us)| us.max(0.0)).sum()
    }
}

/// Draws a file of its own, on paper that follows the reader's light or dark mode, so that it reads in a Markdown page
/// too.
pub fn file(stack: &Stack<'_>, width: i32) -> String {
    draw(stack, width, "phases", true)
}

/// Draws a part of a page that has [`super::ink::style`]; `id` is unique there.
pub fn part(stack: &Stack<'_>, width: i32, id: &str) -> String {
    draw(stack, width, id, false)
}

fn draw(stack: &Stack<'_>, width: i32, id: &str, alone: bool) -> String {
    let layout = Layout::new(stack, width, alone);
    let size = Size { width, height: layout.height() };
    let shapes = layout.draw();
    let description = description(stack);
    let name = Name { id, title: stack.title, description: &description };
    if alone { shapes.standalone(size, &name) } else { shapes.embedded(size, &name) }
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

    /// Returns the place of a duration in microseconds, in pixels from the left.
    fn x(&self, us: f64) -> f64 {
        f64::from(MARGIN) + f64::from(self.width - 2 * MARGIN) * us / self.most_us
    }

    fn draw(&self) -> Shapes {
        let mut shapes = Shapes::default();
        if self.titled {
            let corner = (f64::from(MARGIN), f64::from(MARGIN));
            shapes.words(self.stack.title, corner, Anchor::TopLeft, Ink::Text);
        }
        for (name, x, y) in &self.legend {
            let (x, y) = (f64::from(*x), f64::from(*y));
            shapes.rectangle((x, y + 2.0), (x + 12.0, y + 14.0), self.ink(name));
            shapes.words(name, (x + 18.0, y + 8.0), Anchor::Left, Ink::Muted);
        }
        self.scale(&mut shapes);
        let tops = (0..).map(|row| self.top + row * ROW);
        for (bar, y) in self.stack.bars.iter().zip(tops) {
            self.bar(&mut shapes, bar, f64::from(y));
        }
        shapes
    }

    fn ink(&self, phase: &str) -> Ink {
        Ink::Phase(self.legend.iter().position(|(name, ..)| *name == phase).unwrap_or_default())
    }

    fn scale(&self, shapes: &mut Shapes) {
        let (top, bottom) = (f64::from(self.top), f64::from(self.height() - FOOT));
        let most = (self.width / 90).unsigned_abs() as usize;
        for tick in ticks::linear_ticks(0.0, self.most_us, most) {
            let (x, label) = (self.x(tick), ticks::duration(tick));
            shapes.line([(x, top), (x, bottom)], Ink::Grid, Stroke::Solid, 1);
            let half = f64::from(width_of(&label)) / 2.0;
            let x = x.max(4.0 + half).min(f64::from(self.width - 4) - half);
            let label = if tick == 0.0 { "0" } else { &label };
            shapes.words(label, (x, bottom + 6.0), Anchor::Top, Ink::Muted);
        }
    }

    fn bar(&self, shapes: &mut Shapes, bar: &Bar, y: f64) {
        let total = ticks::duration(bar.total());
        let (left, right) = (f64::from(MARGIN), f64::from(self.width - MARGIN));
        let (line, room) = (f64::from(LINE), |words: &str| f64::from(width_of(words)));
        // Words cover the lines of the scale.
        shapes.rectangle((left - 2.0, y), (left + room(&bar.label), y + line - 2.0), Ink::Paper);
        shapes.words(&bar.label, (left, y + line / 2.0), Anchor::Left, Ink::Text);
        shapes.rectangle((right - room(&total) - 4.0, y), (right + 2.0, y + line - 2.0), Ink::Paper);
        shapes.words(&total, (right, y + line / 2.0), Anchor::Right, Ink::Text);
        let (top, bottom) = (y + line, y + line + f64::from(BAR));
        let mut from = 0.0;
        for (name, us) in &bar.segments {
            let (left, right) = (self.x(from), self.x(from + us.max(0.0)));
            from += us.max(0.0);
            shapes.rectangle((left, top), (right, bottom), self.ink(name));
            let label = ticks::duration(*us);
            if right - left > room(&label) + 4.0 {
                let at = (f64::midpoint(left, right), f64::midpoint(top, bottom));
                shapes.words(&label, at, Anchor::Middle, Ink::OnPhase);
            }
        }
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
        assert_eq!((layout.x(0.0), layout.x(800.0)), (12.0, 412.0));
        assert_eq!((layout.x(100.0), layout.x(400.0)), (62.0, 212.0));
        let svg = file(&stack, 424);
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
            assert!(part(&Stack { title: "t", bars }, 300, "x").ends_with("</svg>\n"));
        }
    }
}
