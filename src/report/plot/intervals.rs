//! Changes from base to head, each with its interval beside the change that would count, one below the other on one
//! axis.

use super::figure::{Anchor, Name, Point, Shapes, Size, width_of};
use super::ink::{Ink, Stroke};
use super::ticks;

const MARGIN: i32 = 12;
const LINE: i32 = 20;
/// The height of an interval, and the distance to the next label.
const BAR: i32 = 18;
const GAP: i32 = 10;
/// The height of the marks and the title below.
const FOOT: i32 = 46;
/// Half the length of the ends of an interval, and the radius of an estimate.
const CAP: f64 = 5.0;
const DOT: i32 = 4;
/// The room between a label and the outcome on the same line.
const BETWEEN: i32 = 12;
/// The least that the axis shows on either side: less would make noise look like a change.
const LEAST: f64 = 0.02;
/// The most that it shows, unless the changes that count are larger: beyond it an arrow leads on, so that one change does
/// not hide what counts of all others.
const MOST: f64 = 0.4;
const MOST_LIMITS: f64 = 4.0;

/// One change.
#[derive(Clone, Debug)]
pub struct IntervalRow {
    /// Its name.
    pub label: String,
    /// Its verdict and its size, in a few words: the colour says nothing that these do not.
    pub outcome: String,
    /// Its colour.
    pub ink: Ink,
    /// The estimate, as a share of the base: 0.1 is 10% more.
    pub estimate: f64,
    /// The lower and the upper end of the interval; `None` of what has none, such as a count.
    pub interval: Option<(f64, f64)>,
    /// The change that counts, either way; `None` where nothing is judged.
    pub limit: Option<f64>,
}

/// Draws a part of a page that has [`super::ink::style`]; `id` is unique there.
pub fn part(title: &str, rows: &[IntervalRow], width: i32, id: &str) -> String {
    let layout = Layout::new(rows, width);
    let description: Vec<String> = rows.iter().map(described).collect();
    let name = Name { id, title, description: &description.join(" ") };
    layout.draw().embedded(Size { width, height: layout.height() }, &name)
}

/// Formats a change.
pub fn percent(change: f64) -> String {
    // Of zero the sign is that of more: -0.0% would be read as less.
    format!("{:+.1}%", (change * 1e3).round() / 10.0 + 0.0)
}

fn described(row: &IntervalRow) -> String {
    let interval =
        row.interval.map(|(low, high)| format!(", between {} and {}", percent(low), percent(high))).unwrap_or_default();
    let limit = row.limit.map(|limit| format!("; ±{}% count", ticks::digits(limit * 100.0))).unwrap_or_default();
    format!("{}: {}{interval}{limit}.", row.label, row.outcome)
}

/// The places of all parts of a figure.
struct Layout<'a> {
    rows: &'a [IntervalRow],
    width: i32,
    /// The lines of words above each interval: two where a label leaves no room for the outcome.
    lines: i32,
    /// The ends of the axis.
    from: f64,
    to: f64,
}

impl<'a> Layout<'a> {
    fn new(rows: &'a [IntervalRow], width: i32) -> Self {
        let fits = |row: &IntervalRow| width_of(&row.label) + BETWEEN + width_of(&row.outcome) <= width - 2 * MARGIN;
        let lines = if rows.iter().all(fits) { 1 } else { 2 };
        let (from, to) = ends(rows);
        Self { rows, width, lines, from, to }
    }

    fn row_height(&self) -> i32 {
        self.lines * LINE + BAR + GAP
    }

    /// Returns the bottom of the rows.
    fn bottom(&self) -> i32 {
        MARGIN + self.row_height() * i32::try_from(self.rows.len()).unwrap_or(i32::MAX / self.row_height() - 1)
    }

    fn height(&self) -> i32 {
        self.bottom() + FOOT
    }

    /// Returns the place of a change, or of the end of the axis that it lies beyond.
    fn x(&self, change: f64) -> f64 {
        let (left, right) = (f64::from(MARGIN), f64::from(self.width - MARGIN));
        left + (change.clamp(self.from, self.to) - self.from) / (self.to - self.from) * (right - left)
    }

    fn shows(&self, change: f64) -> bool {
        (self.from..=self.to).contains(&change)
    }

    fn draw(&self) -> Shapes {
        let mut shapes = Shapes::default();
        let tops = (0..).map(|row| f64::from(MARGIN + row * self.row_height() + self.lines * LINE));
        for (row, top) in self.rows.iter().zip(tops.clone()) {
            if let Some(limit) = row.limit {
                let band = ((self.x(-limit), top), (self.x(limit), top + f64::from(BAR)));
                shapes.rectangle(band.0, band.1, Ink::WarmUp);
            }
        }
        self.axis(&mut shapes);
        for (row, top) in self.rows.iter().zip(tops) {
            self.row(&mut shapes, row, top);
        }
        shapes
    }

    fn axis(&self, shapes: &mut Shapes) {
        let (top, bottom) = (f64::from(MARGIN), f64::from(self.bottom() - GAP / 2));
        let most = (self.width / 90).unsigned_abs() as usize;
        let (mut free_from, end) = (0.0, f64::from(self.width - 8));
        for tick in ticks::linear_ticks(self.from, self.to, most) {
            let is_zero = tick.abs() < 1e-9;
            let ink = if is_zero { Ink::Muted } else { Ink::Grid };
            shapes.line([(self.x(tick), top), (self.x(tick), bottom)], ink, Stroke::Solid, 1);
            let label = match tick * 100.0 {
                _ if is_zero => "0".to_owned(),
                tick if tick > 0.0 => format!("+{}%", ticks::digits(tick)),
                tick => format!("{}%", ticks::digits(tick)),
            };
            let half = f64::from(width_of(&label)) / 2.0;
            let x = self.x(tick).max(8.0 + half).min(end - half);
            if x - half >= free_from {
                shapes.words(&label, (x, bottom + 6.0), Anchor::Top, Ink::Muted);
                free_from = x + half + 4.0;
            }
        }
        let corner = (f64::from(self.width - MARGIN), f64::from(self.height() - 4));
        shapes.words("change from base to head", corner, Anchor::BottomRight, Ink::Text);
    }

    fn row(&self, shapes: &mut Shapes, row: &IntervalRow, top: f64) {
        let (left, right) = (f64::from(MARGIN), f64::from(self.width - MARGIN));
        let line = f64::from(LINE);
        let label = shortened(&row.label, self.width - 2 * MARGIN);
        // Words cover the lines of the axis.
        let mut words = |words: &str, y: f64, from: f64, ink| {
            let to = from + f64::from(width_of(words));
            shapes.rectangle((from - 2.0, y + 1.0), (to + 2.0, y + line - 1.0), Ink::Paper);
            let (x, anchor) = if from == left { (left, Anchor::Left) } else { (right, Anchor::Right) };
            shapes.words(words, (x, y + line / 2.0), anchor, ink);
        };
        words(&label, top - f64::from(self.lines) * line, left, Ink::Text);
        words(&row.outcome, top - line, right - f64::from(width_of(&row.outcome)), row.ink);
        if let Some(limit) = row.limit {
            for edge in [-limit, limit].into_iter().filter(|edge| self.shows(*edge)) {
                let x = self.x(edge);
                shapes.line([(x, top), (x, top + f64::from(BAR))], Ink::Muted, Stroke::Dashed, 1);
            }
        }
        let middle = top + f64::from(BAR) / 2.0;
        let (low, high) = row.interval.unwrap_or((row.estimate, row.estimate));
        if row.interval.is_some() {
            shapes.line([(self.x(low), middle), (self.x(high), middle)], row.ink, Stroke::Solid, 2);
            for end in [low, high].into_iter().filter(|end| self.shows(*end)) {
                let x = self.x(end);
                shapes.line([(x, middle - CAP), (x, middle + CAP)], row.ink, Stroke::Solid, 2);
            }
        }
        if low < self.from {
            shapes.polygon(arrow((left, middle), 1.0), row.ink);
        }
        if high > self.to {
            shapes.polygon(arrow((right, middle), -1.0), row.ink);
        }
        if self.shows(row.estimate) {
            shapes.circle((self.x(row.estimate), middle), DOT, row.ink);
        }
    }
}

/// Returns the ends of an axis that shows all changes, as far as they go.
fn ends(rows: &[IntervalRow]) -> (f64, f64) {
    const ROOM: f64 = 1.05;
    let limit = rows.iter().filter_map(|row| row.limit).fold(0.0, f64::max);
    let least = LEAST.max(limit * 1.5);
    let most = MOST.max(limit * MOST_LIMITS);
    let all = || {
        rows.iter().flat_map(|row| {
            let (low, high) = row.interval.unwrap_or((row.estimate, row.estimate));
            [low, row.estimate, high]
        })
    };
    let reach = |sign: f64| (all().map(|change| sign * change).fold(least, f64::max) * ROOM).min(most);
    // Nothing changes by less than -100%.
    ((-reach(-1.0)).max(-1.0), reach(1.0))
}

/// Returns the corners of an arrow with this tip, which the rest lies behind.
fn arrow((x, y): Point, behind: f64) -> [Point; 3] {
    [(x, y), (x + behind * 9.0, y - CAP), (x + behind * 9.0, y + CAP)]
}

/// Cuts words that are wider than so many pixels.
fn shortened(words: &str, room: i32) -> String {
    if width_of(words) <= room {
        return words.to_owned();
    }
    let mut cut: String = words.to_owned();
    while width_of(&cut) >= room && cut.pop().is_some() {}
    // Narrower by a letter than the room.
    cut.pop();
    cut + "…"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(estimate: f64, interval: Option<(f64, f64)>, limit: Option<f64>) -> IntervalRow {
        let (label, outcome) = ("storm response_p50_us".to_owned(), format!("unchanged {}", percent(estimate)));
        IntervalRow { label, outcome, ink: Ink::Run(0), estimate, interval, limit }
    }

    #[test]
    fn an_axis_shows_what_counts_however_large_one_change_is() {
        let small = row(0.004, Some((-0.01, 0.018)), Some(0.01));
        let (from, to) = ends(std::slice::from_ref(&small));
        assert!((from + 0.021).abs() < 1e-9 && (to - 0.021).abs() < 1e-9, "{from} {to}");
        assert_eq!([0.1234, -0.0001, 0.0, -0.5].map(percent), ["+12.3%", "+0.0%", "+0.0%", "-50.0%"]);
        // A hundredfold is an arrow; the rest is drawn to scale.
        let rows = [small, row(100.0, Some((90.0, 110.0)), Some(0.01)), row(-0.9, None, None)];
        assert_eq!(ends(&rows), (-0.4, 0.4));
        let svg = part("Changes", &rows, 424, "x");
        assert_eq!((svg.matches("<circle").count(), svg.matches("<polygon").count()), (1, 2), "{svg}");
        assert!(svg.contains("unchanged +10000.0%, between +9000.0% and +11000.0%; ±1% count."), "{svg}");
        // Where a doubling counts, the axis shows more, and no less than nothing.
        assert_eq!(ends(&[row(100.0, None, Some(1.0))]), (-1.0, 4.0));
    }

    #[test]
    fn a_label_leaves_room_for_the_outcome() {
        let long = IntervalRow { label: "a/".repeat(60), ..row(0.0, None, None) };
        let svg = part("Changes", &[long], 400, "x");
        let label = svg.split("<text").find(|text| text.contains('…')).unwrap();
        let letters = label.split_once('>').unwrap().1.split('<').next().unwrap();
        assert!(width_of(letters) <= 376 && width_of(letters) > 360, "{letters}");
        assert!(svg.starts_with("<svg viewBox=\"0 0 400 126\""), "{svg}");
    }

    proptest! {
        #[test]
        fn every_part_lies_within_the_figure(
            changes in prop::collection::vec((-1.0..3.0_f64, 0.0..2.0_f64, 0.0..1.0_f64), 1..9), width in 300..1000_i32
        ) {
            let rows: Vec<_> = changes.iter().map(|(estimate, reach, limit)| {
                row(*estimate, Some((estimate - reach, estimate + reach)), Some(*limit))
            }).collect();
            let layout = Layout::new(&rows, width);
            prop_assert!(layout.from < 0.0 && layout.to > 0.0 && layout.from >= -1.0);
            for change in changes.iter().flat_map(|(estimate, reach, limit)| [estimate - reach, *limit, -limit]) {
                let x = layout.x(change);
                prop_assert!(f64::from(MARGIN) <= x && x <= f64::from(width - MARGIN), "{x}");
            }
            // What counts is seen.
            let most = changes.iter().map(|(.., limit)| *limit).fold(0.0, f64::max);
            prop_assert!(layout.shows(most), "{most} of {}", layout.to);
        }
    }
}
