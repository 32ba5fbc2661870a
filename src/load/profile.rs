//! Rate profiles: arrival rates that change over the measured window, and the exact times of their arrivals.
//!
//! The arrivals of a varying rate are those of the rate 1 on another scale of time: an arrival at u there is due here
//! when the integral of the rate has reached u. Evenly spaced arrivals become arrivals that always have the rate of the
//! moment, and a Poisson process becomes the inhomogeneous one of this rate (Daley and Vere-Jones, "An Introduction to
//! the Theory of Point Processes", volume I, 2nd edition, 2003, section 7.4; Devroye, "Non-Uniform Random Variate
//! Generation", 1986, VI.1.3).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::rate::{COMMON_PERIOD_NS, Rate};
use crate::foreign;
use crate::measure::segment::Segment;

/// The most steps of a profile.
pub const MOST_STEPS: usize = 100;
/// The most points of a profile from a file: two for each of a hundred steps. Each segment has a histogram.
pub const MOST_POINTS: usize = 200;
/// The number of segments that a ramp is cut into.
const RAMP_SEGMENTS: u128 = 5;
/// The longest profile: no window is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
const FORMS: &str = "write ramp:FROM-TO, step:RATE,RATE,…, spike:BASE,PEAK@AT+FOR or file:PATH, as in \
                     ramp:10/s-100/s or spike:10/s,100/s@20s+5s";

/// A rate that changes over the window, before the window's length is known.
#[derive(Clone, Debug, PartialEq)]
pub enum RateProfile {
    /// From one rate to another, evenly over the whole window.
    Ramp {
        /// The rate at the beginning.
        from: Rate,
        /// The rate at the end.
        to: Rate,
    },
    /// One rate after another, each for an equal part of the window.
    Steps(Vec<Rate>),
    /// One rate for a while, and another before and after.
    Spike {
        /// The rate before and after.
        base: Rate,
        /// The rate in between.
        peak: Rate,
        /// The beginning of the peak, from that of the window.
        at: Duration,
        /// The length of the peak.
        lasts: Duration,
    },
    /// Rates at given times, between which the rate changes linearly; the last one is held.
    Points(Vec<RatePoint>),
}

/// A rate at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePoint {
    /// The time, from the beginning of the window.
    pub at: Duration,
    /// The rate.
    pub rate: Rate,
}

impl RateProfile {
    /// Parses the points of a file: on each line a second, with up to three decimals, and a rate. The first second is
    /// 0. The same second twice makes the rate jump. Empty lines are skipped, and so is everything after a `#`.
    ///
    /// # Errors
    /// If a line is anything else, or there are no points, or more than [`MOST_POINTS`]; the message names the line.
    pub fn from_lines(text: &str) -> Result<Self, String> {
        let mut points: Vec<RatePoint> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let at_line = |why: String| format!("line {number}: {why}");
            let point = point(line).map_err(at_line)?;
            match points[..] {
                [] if !point.at.is_zero() => {
                    return Err(at_line("the first point has to be at second 0".to_owned()));
                }
                [.., last] if point.at < last.at => {
                    return Err(at_line(format!("its second is before that of the point above, {}", seconds(last.at))));
                }
                [.., one, last] if one.at == point.at && last.at == point.at => {
                    return Err(at_line(format!("a third point at second {}", seconds(last.at))));
                }
                _ if points.len() == MOST_POINTS => {
                    return Err(at_line(format!("a profile has at most {MOST_POINTS} points")));
                }
                _ => points.push(point),
            }
        }
        if points.is_empty() { Err("it has no points".to_owned()) } else { Ok(Self::Points(points)) }
    }

    /// Returns the last moment that it names; the window has to be at least as long.
    pub fn reaches(&self) -> Duration {
        match self {
            Self::Ramp { .. } | Self::Steps(_) => Duration::ZERO,
            Self::Spike { at, lasts, .. } => *at + *lasts,
            Self::Points(points) => points.last().map_or(Duration::ZERO, |point| point.at),
        }
    }

    /// Brings its times forward, all by the same factor, so that a shorter `window` holds them.
    pub fn fitted_into(self, window: Duration) -> Self {
        let reaches_ns = self.reaches().as_nanos();
        if reaches_ns <= window.as_nanos() {
            return self;
        }
        let fitted = |time: Duration| nanoseconds(time.as_nanos() * window.as_nanos() / reaches_ns);
        match self {
            Self::Spike { base, peak, at, lasts } => {
                let begin = fitted(at);
                Self::Spike { base, peak, at: begin, lasts: fitted(at + lasts) - begin }
            }
            Self::Points(points) => {
                Self::Points(points.into_iter().map(|one| RatePoint { at: fitted(one.at), ..one }).collect())
            }
            other => other,
        }
    }

    /// Returns its course over a window of this length; `None` if the window does not hold its times.
    pub fn over(&self, window: Duration) -> Option<RateCurve> {
        if window.is_zero() || self.reaches() > window {
            return None;
        }
        let part = |index: u128, of: u128| nanoseconds(window.as_nanos() * index / of);
        let mut points = match self {
            Self::Ramp { from, to } => {
                vec![RatePoint { at: Duration::ZERO, rate: *from }, RatePoint { at: window, rate: *to }]
            }
            Self::Steps(rates) => {
                let count = rates.len() as u128;
                let ends = |(index, rate): (u128, &Rate)| {
                    [index, index + 1].map(|edge| RatePoint { at: part(edge, count), rate: *rate })
                };
                (0..).zip(rates).flat_map(ends).collect()
            }
            Self::Spike { base, peak, at, lasts } => {
                [(Duration::ZERO, base), (*at, base), (*at, peak), (*at + *lasts, peak), (*at + *lasts, base)]
                    .map(|(at, rate)| RatePoint { at, rate: *rate })
                    .to_vec()
            }
            Self::Points(points) => points.clone(),
        };
        let (first, last) = (points.first()?.rate, points.last()?.rate);
        points.push(RatePoint { at: window, rate: last });
        let pairs = points.windows(2).filter(|pair| pair[0].at < pair[1].at);
        let pieces: Vec<Piece> = pairs.map(|pair| Piece { begin: pair[0], end: pair[1] }).collect();
        let cuts = if matches!(self, Self::Ramp { .. }) { RAMP_SEGMENTS } else { 1 };
        let segments = pieces.iter().flat_map(|piece| piece.segments(cuts)).collect();
        Some(RateCurve { described: self.to_string(), first, last, pieces, segments })
    }
}

fn nanoseconds(ns: u128) -> Duration {
    // Times of a profile are at most a day.
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Parses a line of a file.
fn point(line: &str) -> Result<RatePoint, String> {
    let mut words = line.split_whitespace();
    let (Some(second), Some(rate), None) = (words.next(), words.next(), words.next()) else {
        return Err(format!("`{}` is not a second and a rate, as in `30 100/s`", foreign::line(line)));
    };
    let rate = foreign::line(rate).parse()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, decimals) = second.split_once('.').unwrap_or((second, "0"));
    let ms = match digits(whole) && digits(decimals) && decimals.len() <= 3 {
        true => format!("{whole}{decimals:0<3}").parse().ok(),
        false => None,
    };
    match ms.map(Duration::from_millis) {
        None => Err(format!("`{}` is not a second, as in `30` or `2.5`", foreign::line(second))),
        Some(at) if at > LONGEST => Err(format!("second {} is more than a day", foreign::line(second))),
        Some(at) => Ok(RatePoint { at, rate }),
    }
}

impl FromStr for RateProfile {
    type Err = String;

    /// Parses every form but that of a file.
    fn from_str(text: &str) -> Result<Self, String> {
        let (form, rest) = text.split_once(':').ok_or(FORMS)?;
        match form {
            "ramp" => {
                let (from, to) = rest.split_once('-').ok_or("write a ramp as ramp:10/s-100/s")?;
                Ok(Self::Ramp { from: from.parse()?, to: to.parse()? })
            }
            "step" => {
                let rates = rest.split(',').map(str::parse).collect::<Result<Vec<Rate>, _>>()?;
                match rates.len() {
                    ..=MOST_STEPS => Ok(Self::Steps(rates)),
                    count => Err(format!("{count} steps are more than {MOST_STEPS}")),
                }
            }
            "spike" => {
                let parts = rest.split_once('@').and_then(|(rates, times)| {
                    let ((base, peak), (at, lasts)) = (rates.split_once(',')?, times.split_once('+')?);
                    Some((base, peak, at, lasts))
                });
                let (base, peak, at, lasts) =
                    parts.ok_or("write a spike as spike:10/s,100/s@20s+5s: of 5 s, from second 20 on")?;
                let time = |text: &str| {
                    let time = humantime::parse_duration(text).map_err(|error| format!("`{text}`: {error}"))?;
                    if time > LONGEST { Err(format!("`{text}` is more than a day")) } else { Ok(time) }
                };
                let (at, lasts) = (time(at)?, time(lasts)?);
                if lasts.is_zero() {
                    return Err("a spike lasts longer than 0".to_owned());
                }
                Ok(Self::Spike { base: base.parse()?, peak: peak.parse()?, at, lasts })
            }
            _ => Err(FORMS.to_owned()),
        }
    }
}

/// Describes it as it is written, so that two equal ones read alike; points by their number and a hash.
impl fmt::Display for RateProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ramp { from, to } => write!(f, "ramp:{from}-{to}"),
            Self::Steps(rates) => {
                let rates: Vec<String> = rates.iter().map(Rate::to_string).collect();
                write!(f, "step:{}", rates.join(","))
            }
            Self::Spike { base, peak, at, lasts } => {
                let [at, lasts] =
                    [at, lasts].map(|time| humantime::format_duration(*time).to_string().replace(' ', ""));
                write!(f, "spike:{base},{peak}@{at}+{lasts}")
            }
            Self::Points(points) => {
                let mut hash = Sha256::new();
                for point in points {
                    hash.update(point.at.as_nanos().to_be_bytes());
                    hash.update(point.rate.in_common_period().to_be_bytes());
                }
                write!(f, "file of {} points, SHA-256 ", points.len())?;
                hash.finalize()[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A stretch of time over which the rate changes linearly, or not at all. It is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    begin: RatePoint,
    end: RatePoint,
}

impl Piece {
    fn length_ns(&self) -> u64 {
        (self.end.at - self.begin.at).as_nanos() as u64
    }

    /// Cuts it into `count` equal segments.
    fn segments(self, count: u128) -> impl Iterator<Item = Segment> {
        let edge = move |index: u128| {
            let at = self.begin.at + nanoseconds(u128::from(self.length_ns()) * index / count);
            let [from, to] = [self.begin, self.end].map(|point| point.rate.per_second_f64());
            (at, from + (to - from) * index as f64 / count as f64)
        };
        (0..count).map(move |index| {
            let ((begin, from_per_s), (end, to_per_s)) = (edge(index), edge(index + 1));
            Segment { begin, end, from_per_s, to_per_s }
        })
    }
}

/// The course of a rate over a window.
#[derive(Clone, Debug, PartialEq)]
pub struct RateCurve {
    described: String,
    first: Rate,
    last: Rate,
    pieces: Vec<Piece>,
    segments: Vec<Segment>,
}

impl RateCurve {
    /// Returns its highest rate.
    pub fn peak(&self) -> Rate {
        let rates = self.pieces.iter().flat_map(|piece| [piece.begin.rate, piece.end.rate]);
        rates.max_by_key(|rate| rate.in_common_period()).unwrap_or(self.first)
    }

    /// Returns the mean rate over the window, per second.
    pub fn mean_per_second(&self) -> f64 {
        let clock = RateClock::new(self);
        let tail = clock.pieces[clock.pieces.len() - 1];
        tail.begins_at as f64 / EVENT as f64 / (tail.begin_ns as f64 / 1e9)
    }

    /// Returns its segments: the parts of the window that have results of their own.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// Describes the profile, as [`RateProfile`] does.
impl fmt::Display for RateCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.described)
    }
}

/// One event, in the unit of [`RateClock`]: half an event a common period, so that the area of a trapezium is whole.
pub(super) const EVENT: u128 = 2 * COMMON_PERIOD_NS as u128;

/// The integral of a rate over time, and its inverse, in whole numbers: a day at the largest rate is less than 2⁹⁰
/// units.
#[derive(Clone, Debug)]
pub(super) struct RateClock {
    /// The rate before the first piece, in events a common period.
    first: u64,
    /// The pieces in order, the last without an end.
    pieces: Vec<ClockPiece>,
}

#[derive(Clone, Copy, Debug)]
struct ClockPiece {
    begin_ns: u64,
    /// The integral up to its beginning.
    begins_at: u128,
    length_ns: u64,
    /// The rates at beginning and end, in events a common period.
    from: u64,
    to: u64,
}

impl RateClock {
    /// Makes the clock of a rate that begins at once, and holds its last value after the window.
    pub(super) fn new(curve: &RateCurve) -> Self {
        let (mut begin_ns, mut begins_at) = (0, 0);
        let mut pieces = Vec::with_capacity(curve.pieces.len() + 2);
        for piece in &curve.pieces {
            let [from, to] = [piece.begin, piece.end].map(|point| point.rate.in_common_period());
            let length_ns = piece.length_ns();
            pieces.push(ClockPiece { begin_ns, begins_at, length_ns, from, to });
            begin_ns += length_ns;
            begins_at += u128::from(from + to) * u128::from(length_ns);
        }
        let last = curve.last.in_common_period();
        pieces.push(ClockPiece { begin_ns, begins_at, length_ns: u64::MAX, from: last, to: last });
        Self { first: curve.first.in_common_period(), pieces }
    }

    /// Puts a time before its beginning, with its first rate.
    pub(super) fn after(mut self, warm_up: Duration) -> Self {
        let length_ns = warm_up.as_nanos() as u64;
        if length_ns == 0 {
            return self;
        }
        let units = 2 * u128::from(self.first) * u128::from(length_ns);
        for piece in &mut self.pieces {
            piece.begin_ns += length_ns;
            piece.begins_at += units;
        }
        let (from, to) = (self.first, self.first);
        self.pieces.insert(0, ClockPiece { begin_ns: 0, begins_at: 0, length_ns, from, to });
        self
    }

    /// Returns the time at which the integral reaches `units`, rounded down to a nanosecond.
    pub(super) fn time_ns(&self, units: u128) -> u64 {
        // The first piece begins at 0.
        let index = self.pieces.partition_point(|piece| piece.begins_at <= units) - 1;
        let piece = self.pieces[index];
        piece.begin_ns.saturating_add(piece.offset_ns(units - piece.begins_at))
    }
}

impl ClockPiece {
    /// Returns the time, from the beginning, at which the integral since then reaches `units`, rounded down. With rates
    /// a and b and the length d it is the largest t with 2at + (b − a)t²/d ≤ `units`. A floating-point root is the
    /// first guess, and whole numbers decide.
    fn offset_ns(self, units: u128) -> u64 {
        if self.from == self.to {
            return u64::try_from(units / (2 * u128::from(self.from))).unwrap_or(u64::MAX);
        }
        let (from, to, length) = (self.from as f64, self.to as f64, self.length_ns as f64);
        let discriminant = from * from + (to - from) * units as f64 / length;
        let guess = units as f64 / (from + discriminant.max(0.0).sqrt());
        // Always true at `low`, never at `high`: the next piece begins there.
        let (mut low, mut high) = (0, self.length_ns);
        let guess = (guess as u64).min(high - 1);
        let mut reach = 1;
        if self.has_at_most(guess, units) {
            low = guess;
            while high - low > reach {
                if !self.has_at_most(low + reach, units) {
                    high = low + reach;
                    break;
                }
                low += reach;
                reach *= 2;
            }
        } else {
            high = guess;
            while high > reach {
                if self.has_at_most(high - reach, units) {
                    low = high - reach;
                    break;
                }
                high -= reach;
                reach *= 2;
            }
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.has_at_most(middle, units) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Reports whether the integral from the beginning to `t` is at most `units`.
    fn has_at_most(self, t: u64, units: u128) -> bool {
        let (t, length) = (u128::from(t), u128::from(self.length_ns));
        let even = 2 * u128::from(self.from) * t;
        // |b − a|t²/d in two parts, since the square would overflow.
        let change = u128::from(self.from.abs_diff(self.to)) * t;
        let (whole, rest) = (change / length * t, change % length * t);
        if self.to > self.from {
            even + whole + rest.div_ceil(length) <= units
        } else {
            even <= units + whole + rest / length
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = LONGEST;

    fn rates() -> impl Strategy<Value = Rate> + Clone {
        let units = prop::sample::select(vec!["s", "m", "h"]);
        (1u64..20_000_000, 0..4u32, units).prop_map(|(digits, decimals, unit)| {
            let scale = 10u64.pow(decimals);
            let fraction = match decimals {
                0 => String::new(),
                _ => format!(".{:0width$}", digits % scale, width = decimals as usize),
            };
            let text = format!("{}{fraction}/{unit}", digits / scale);
            // A rate of 0, or beyond the largest.
            text.parse().unwrap_or(Rate::per_second(1_000_000))
        })
    }

    /// Returns profiles of every form, with the rates of `rates`, for a window of a minute.
    pub(in crate::load) fn profiles(rates: impl Strategy<Value = Rate> + Clone) -> impl Strategy<Value = RateProfile> {
        let two = (rates.clone(), rates.clone());
        let ramp = two.clone().prop_map(|(from, to)| RateProfile::Ramp { from, to });
        let steps = prop::collection::vec(rates.clone(), 1..8).prop_map(RateProfile::Steps);
        let ms = Duration::from_millis;
        let spike = (two, 0..40_000u64, 1..20_000u64).prop_map(move |((base, peak), at, lasts)| RateProfile::Spike {
            base,
            peak,
            at: ms(at),
            lasts: ms(lasts),
        });
        let points = prop::collection::vec((rates, 0..15_000u64), 1..8).prop_map(move |points| {
            // A gap of 0 is a jump; a third point at one second is never made.
            let mut at = 0;
            let points = points.into_iter().enumerate().map(|(index, (rate, gap_ms))| {
                at += if index == 0 { 0 } else { (gap_ms / 2).max((index % 2) as u64) };
                RatePoint { at: ms(at), rate }
            });
            RateProfile::Points(points.collect())
        });
        prop_oneof![ramp, steps, spike, points]
    }

    fn lines(text: &str) -> Result<RateProfile, String> {
        RateProfile::from_lines(text)
    }

    proptest! {
        #[test]
        fn times_are_the_exact_inverse_of_the_integral(
            (from, to) in (rates(), rates()),
            length_ns in 1u64..1 << 39,
            share in 0.0..1.0f64,
        ) {
            let [from, to] = [from, to].map(Rate::in_common_period);
            let piece = ClockPiece { begin_ns: 0, begins_at: 0, length_ns, from, to };
            // The integral times the length, which fits into 128 bits for so short a piece.
            let integral = |t: u64| {
                let [a, b, t, d] = [from, to, t, length_ns].map(i128::from);
                2 * a * t * d + (b - a) * t * t
            };
            // The units at which a nanosecond begins, and one less: there rounding decides.
            let begins = integral((length_ns as f64 * share) as u64).unsigned_abs().div_ceil(u128::from(length_ns));
            for units in [begins, begins.saturating_sub(1)] {
                let at = piece.offset_ns(units);
                let wanted = (units * u128::from(length_ns)) as i128;
                prop_assert!(at < length_ns);
                prop_assert!(integral(at) <= wanted && wanted < integral(at + 1), "{} of {}", at, length_ns);
            }
        }

        #[test]
        fn times_of_a_day_neither_overflow_nor_go_back((from, to) in (rates(), rates()), seed: u64) {
            let curve = RateProfile::Ramp { from, to }.over(DAY).unwrap();
            let clock = RateClock::new(&curve).after(DAY);
            let end = clock.pieces.last().unwrap().begins_at;
            let mut last = 0;
            for index in 0..200 {
                let units = end / 200 * index + u128::from(seed);
                let at = clock.time_ns(units);
                prop_assert!(at >= last && (units >= end || at < 2 * DAY.as_nanos() as u64));
                last = at;
            }
            prop_assert_eq!(clock.time_ns(end), 2 * DAY.as_nanos() as u64);
            prop_assert_eq!(clock.time_ns(u128::MAX), u64::MAX);
        }

        #[test]
        fn segments_cover_the_window_without_gaps(profile in profiles(rates()), window_s in 60u64..600) {
            let window = Duration::from_secs(window_s);
            let curve = profile.over(window).unwrap();
            let segments = curve.segments();
            prop_assert_eq!((segments[0].begin, segments[segments.len() - 1].end), (Duration::ZERO, window));
            prop_assert!(segments.iter().all(|one| one.begin < one.end));
            prop_assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].begin));
            // The mean is that of the trapezia.
            let area = |one: &Segment| (one.from_per_s + one.to_per_s) / 2.0 * (one.end - one.begin).as_secs_f64();
            let mean = segments.iter().map(area).sum::<f64>() / window.as_secs_f64();
            prop_assert!((curve.mean_per_second() / mean - 1.0).abs() < 1e-9);
            let peak = segments.iter().flat_map(|one| [one.from_per_s, one.to_per_s]).fold(0.0, f64::max);
            prop_assert!((curve.peak().per_second_f64() / peak - 1.0).abs() < 1e-9);
        }

        #[test]
        fn a_profile_that_is_fitted_into_a_window_fits(profile in profiles(rates()), window_ms in 1u64..60_000) {
            let window = Duration::from_millis(window_ms);
            let fitted = profile.clone().fitted_into(window);
            prop_assert!(fitted.reaches() <= window && fitted.over(window).is_some());
            prop_assert_eq!(fitted == profile, profile.over(window).is_some());
        }
    }

    #[test]
    fn a_profile_is_parsed_and_printed_alike() {
        for text in ["ramp:10/s-100/s", "step:10/s,2.5/s,1/m", "spike:10/s,100/s@1m30s+5s", "spike:1/s,2/s@0s+500ms"] {
            assert_eq!(text.parse::<RateProfile>().unwrap().to_string(), text);
        }
        assert_eq!("step:60/m,7".parse::<RateProfile>().unwrap().to_string(), "step:1/s,7/s");
    }

    #[test]
    fn a_faulty_profile_is_refused_with_its_fault() {
        for (text, fault) in [
            ("", "write ramp:FROM-TO"),
            ("sine:1/s-2/s", "write ramp:FROM-TO"),
            ("ramp:10/s", "write a ramp as"),
            ("ramp:10/s-0/s", "`0/s`: a rate must be above 0"),
            ("ramp:10/s-20/s-30/s", "`20/s-30/s`: the unit"),
            ("step:", "``: write a rate"),
            ("step:10/s,,20/s", "``: write a rate"),
            ("step:2000000/s", "at most 1,000,000/s"),
            ("spike:10/s,20/s@5s", "write a spike as"),
            ("spike:10/s@5s+5s", "write a spike as"),
            ("spike:10/s,20/s@5s+0s", "a spike lasts longer than 0"),
            ("spike:10/s,20/s@5+1s", "`5`: "),
            ("spike:10/s,20/s@25h+1s", "`25h` is more than a day"),
        ] {
            let why = text.parse::<RateProfile>().unwrap_err();
            assert!(why.contains(fault), "{text}: {why}");
        }
        let many = format!("step:{}", vec!["1/s"; MOST_STEPS + 1].join(","));
        assert_eq!(many.parse::<RateProfile>().unwrap_err(), "101 steps are more than 100");
    }

    #[test]
    fn the_points_of_a_file_are_parsed() {
        let text = "# a morning\n0 10/s\r\n\n  2.5\t600/m # jumps\n2.5 100\n86400 1/h\n";
        let point = |ms, rate: &str| RatePoint { at: Duration::from_millis(ms), rate: rate.parse().unwrap() };
        let points = [point(0, "10/s"), point(2_500, "600/m"), point(2_500, "100/s"), point(86_400_000, "1/h")];
        let parsed = lines(text).unwrap();
        assert_eq!(parsed, RateProfile::Points(points.into()));
        let shown = parsed.to_string();
        assert!(shown.starts_with("file of 4 points, SHA-256 ") && shown.len() == 26 + 16, "{shown}");
        // Layout and comments are no part of it; times and rates are.
        assert_eq!(lines("0 10/s\n2.5 10/s\n2.5 100/s\n86400 1/h").unwrap().to_string(), shown);
        assert_ne!(lines("0 10/s\n2.5 10/s\n2.5 101/s\n86400 1/h").unwrap().to_string(), shown);
    }

    #[test]
    fn a_fault_in_a_file_is_reported_with_its_line() {
        for (text, fault) in [
            ("", "it has no points"),
            ("# 0 1/s\n", "it has no points"),
            ("5 1/s", "line 1: the first point has to be at second 0"),
            ("0 1/s\n\n7", "line 3: `7` is not a second and a rate, as in `30 100/s`"),
            ("0 1/s\n7 1/s 1", "line 2: `7 1/s 1` is not a second and a rate, as in `30 100/s`"),
            ("0 1/s\n7 0/s", "line 2: `0/s`: a rate must be above 0 and at most 1,000,000/s"),
            ("0 1/s\n-7 1/s", "line 2: `-7` is not a second, as in `30` or `2.5`"),
            ("0 1/s\n1e3 1/s", "line 2: `1e3` is not a second, as in `30` or `2.5`"),
            ("0 1/s\n1.2345 1/s", "line 2: `1.2345` is not a second, as in `30` or `2.5`"),
            ("0 1/s\n. 1/s", "line 2: `.` is not a second, as in `30` or `2.5`"),
            ("0 1/s\n99999999999999999999 1/s", "line 2: `99999999999999999999` is not a second, as in `30` or `2.5`"),
            ("0 1/s\n86400.001 1/s", "line 2: second 86400.001 is more than a day"),
            ("0 1/s\n7 1/s\n6 1/s", "line 3: its second is before that of the point above, 7"),
            ("0 1/s\n7 1/s\n7 2/s\n7 3/s", "line 4: a third point at second 7"),
            ("0 1/s\n\u{1b}[2J 1/s", "line 2: `\\u{1b}[2J` is not a second, as in `30` or `2.5`"),
        ] {
            assert_eq!(lines(text), Err(fault.to_owned()), "{text:?}");
        }
        let many: String = (0..=MOST_POINTS).map(|second| format!("{second} 1/s\n")).collect();
        assert_eq!(lines(&many), Err("line 201: a profile has at most 200 points".to_owned()));
        assert!(lines(many.trim_end().rsplit_once('\n').unwrap().0).is_ok());
    }

    #[test]
    fn a_window_that_is_too_short_has_no_course() {
        for (text, window_s) in [("spike:1/s,2/s@5s+5s", 9), ("ramp:1/s-2/s", 0)] {
            let profile: RateProfile = text.parse().unwrap();
            assert_eq!(profile.over(Duration::from_secs(window_s)), None, "{text}");
        }
        assert_eq!(lines("0 1/s\n9.001 1/s").unwrap().over(Duration::from_secs(9)), None);
    }
}
