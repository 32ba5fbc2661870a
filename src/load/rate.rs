//! Arrival rates as people write them: `167/s`, `100/m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Events per period, kept exact so that a schedule does not drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    events: u64,
    period_ns: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

/// The period to which all rates can be brought exactly: 3.6 million seconds, a multiple of an hour with three
/// decimals.
pub const COMMON_PERIOD_NS: u64 = 3_600_000 * SECOND_NS;

/// The largest rate: no generator on one machine comes near it, so that a larger figure is a typing error.
const MAX_PER_SECOND: f64 = 1_000_000.0;

impl Rate {
    /// Makes a rate of `events` per second.
    ///
    /// # Panics
    /// If `events` is 0: a rate of 0 has no schedule.
    pub const fn per_second(events: u64) -> Self {
        assert!(events > 0, "a rate of 0 has no schedule");
        Self { events, period_ns: SECOND_NS }
    }

    /// Makes a rate of `events` per minute.
    ///
    /// # Panics
    /// If `events` is 0: a rate of 0 has no schedule.
    pub const fn per_minute(events: u64) -> Self {
        assert!(events > 0, "a rate of 0 has no schedule");
        Self { events, period_ns: 60 * SECOND_NS }
    }

    /// Returns a rate given in events per second, exact to a thousandth of an event; `None` if it is not above 0 by as
    /// much, or above the largest rate.
    pub fn of_per_second(per_s: f64) -> Option<Self> {
        let events = (per_s * 1e3).round();
        let is_possible = events >= 1.0 && per_s <= MAX_PER_SECOND;
        is_possible.then_some(Self { events: events as u64, period_ns: 1_000 * SECOND_NS })
    }

    /// Returns the rate in events per second.
    pub fn per_second_f64(self) -> f64 {
        self.events as f64 * SECOND_NS as f64 / self.period_ns as f64
    }

    /// Returns the events in [`COMMON_PERIOD_NS`], at most 3.6 · 10¹²; exact.
    pub fn in_common_period(self) -> u64 {
        self.events * (COMMON_PERIOD_NS / self.period_ns)
    }

    /// Returns the start of event `index` of an even schedule, in nanoseconds after event 0.
    pub fn offset_ns(self, index: u64) -> u64 {
        (u128::from(index) * u128::from(self.period_ns) / u128::from(self.events)) as u64
    }

    /// Returns the number of events of an even schedule that start within `span`, event 0 at its beginning.
    pub fn count_within(self, span: Duration) -> u64 {
        let scaled = span.as_nanos() * u128::from(self.events);
        scaled.div_ceil(u128::from(self.period_ns)) as u64
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let period_ns = match unit {
            "s" | "sec" | "second" => SECOND_NS,
            "m" | "min" | "minute" => 60 * SECOND_NS,
            "h" | "hour" => 3_600 * SECOND_NS,
            _ => return Err(format!("`{text}`: the unit after / is s, m or h, as in 167/s or 100/m")),
        };
        let (digits, scale) = match number.split_once('.') {
            Some((whole, fraction)) if fraction.len() <= 3 => {
                (format!("{whole}{fraction}"), 10u64.pow(fraction.len() as u32))
            }
            _ => (number.to_owned(), 1),
        };
        let events: u64 = match digits.parse() {
            Ok(events) if digits.bytes().all(|b| b.is_ascii_digit()) => events,
            _ => return Err(format!("`{text}`: write a rate as 167/s, 2.5/s or 100/m")),
        };
        let rate = Self { events, period_ns: period_ns * scale };
        if events == 0 || rate.per_second_f64() > MAX_PER_SECOND {
            return Err(format!("`{text}`: a rate must be above 0 and at most 1,000,000/s"));
        }
        Ok(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.per_second_f64() {
            per_second if per_second >= 1.0 => (per_second, "s"),
            per_second if per_second * 60.0 >= 1.0 => (per_second * 60.0, "m"),
            per_second => (per_second * 3_600.0, "h"),
        };
        let rounded = (count * 1_000.0).round() / 1_000.0;
        write!(f, "{rounded}/{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_parsed() {
        for (text, per_second) in [("167/s", 167.0), ("167", 167.0), ("100/m", 100.0 / 60.0), ("2.5/s", 2.5)] {
            assert_eq!(text.parse::<Rate>().unwrap().per_second_f64(), per_second, "{text}");
        }
        for text in ["", "/s", "0/s", "-1/s", "1/x", "1e9/s", "+5/s", "2000000/s", "1.2345/s", "1.5.5/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_rate_is_whole_in_the_common_period() {
        for (text, events) in [("0.001/h", 1), ("1/h", 1_000), ("2.5/m", 150_000), ("1000000/s", 3_600_000_000_000)] {
            assert_eq!(text.parse::<Rate>().unwrap().in_common_period(), events, "{text}");
        }
    }

    #[test]
    fn rates_are_made_of_numbers() {
        for (per_s, text) in [(167.0, "167/s"), (0.5, "30/m"), (12.345, "12.345/s")] {
            assert_eq!(Rate::of_per_second(per_s).unwrap().to_string(), text);
        }
        assert_eq!([0.0, -1.0, 0.000_1, f64::NAN, 2e6].map(Rate::of_per_second), [None; 5]);
    }

    #[test]
    fn a_constant_schedule_does_not_drift() {
        let rate: Rate = "167/s".parse().unwrap();
        assert_eq!(rate.offset_ns(167 * 3_600), 3_600 * SECOND_NS);
        assert_eq!(rate.count_within(Duration::from_secs(30)), 5_010);
        assert_eq!("100/m".parse::<Rate>().unwrap().count_within(Duration::from_secs(60)), 100);
    }

    #[test]
    fn a_printed_rate_parses_to_itself() {
        for text in ["167/s", "100/m", "2.5/s", "30/h"] {
            let rate: Rate = text.parse().unwrap();
            let again: Rate = rate.to_string().parse().unwrap();
            assert!((again.per_second_f64() / rate.per_second_f64() - 1.0).abs() < 1e-3, "{text} -> {rate}");
        }
    }
}
