//! Timestamps as certctl writes and reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize as _, Deserializer, Serializer, de};

const NANOS_PER_SECOND: u32 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// The seconds from the start of the year 1 to 1970.
const YEAR_1_SECONDS_BEFORE_1970: u64 = 62_135_596_800;

/// Returns the time since 1970, zero for a clock set before it.
pub fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time that Go calls zero, which certctl stores where none is given.
pub fn year_1() -> SystemTime {
    UNIX_EPOCH - Duration::from_secs(YEAR_1_SECONDS_BEFORE_1970)
}

/// Formats a time as RFC 3339 in UTC with six digits of microseconds, as the audit chain hashes it.
pub fn rfc3339_micros(time: SystemTime) -> String {
    let (seconds, nanos) = split(time);
    format!("{}.{:06}Z", whole_seconds(seconds), nanos / 1_000)
}

/// Formats a time as RFC 3339 in UTC without trailing zeros in the fraction, as the API answers.
pub fn rfc3339(time: SystemTime) -> String {
    let (seconds, nanos) = split(time);
    if nanos == 0 {
        return format!("{}Z", whole_seconds(seconds));
    }
    let fraction = format!("{nanos:09}");
    format!("{}.{}Z", whole_seconds(seconds), fraction.trim_end_matches('0'))
}

/// Parses RFC 3339, with any offset from UTC; digits beyond nanoseconds are cut off.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once('T')?;
    let (time, zone) = rest.split_at(rest.find(['Z', '+', '-'])?);
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let days = days_since_epoch(year, month, day);
    if civil_date(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let nanos = match fraction {
        None => 0,
        Some(digits) if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) => return None,
        Some(digits) => format!("{digits:0<9}")[..9].parse().ok()?,
    };
    let seconds = days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second - offset(zone)?;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    time?.checked_add(Duration::from_nanos(nanos))
}

/// Returns the seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
    let seconds = hours * 3_600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if zone.starts_with('-') { -seconds } else { seconds })
}

/// Parses numbers of these many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(separator);
    for (number, width) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == width && part.bytes().all(|digit| digit.is_ascii_digit()));
        *number = part?.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Returns the whole seconds since 1970, and the nanoseconds after them.
fn split(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs().cast_signed(), since.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = -before.as_secs().cast_signed();
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds - 1, NANOS_PER_SECOND - nanos),
            }
        }
    }
}

fn whole_seconds(seconds: i64) -> String {
    let (year, month, day) = civil_date(seconds.div_euclid(SECONDS_PER_DAY));
    let in_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (in_day / 3_600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Returns the Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin on 1 March.
fn civil_date(days_since_epoch: i64) -> (i64, i64, i64) {
    let days = days_since_epoch + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (400 * era + year_of_era + i64::from(month <= 2), month, day)
}

/// Returns the day of a Gregorian date, the inverse of `civil_date`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let march_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes a timestamp as JSON.
pub fn serialize<S: Serializer>(time: &SystemTime, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&rfc3339(*time))
}

/// Writes a timestamp that may be missing as JSON.
pub fn serialize_optional<S: Serializer>(time: &Option<SystemTime>, out: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serialize(time, out),
        None => out.serialize_none(),
    }
}

/// Reads a timestamp that may be missing from JSON.
pub fn deserialize_optional<'de, D: Deserializer<'de>>(decoder: D) -> Result<Option<SystemTime>, D::Error> {
    let Some(text) = Option::<String>::deserialize(decoder)? else { return Ok(None) };
    parse_rfc3339(&text).map(Some).ok_or_else(|| de::Error::custom("not RFC 3339"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_around_leap_days_are_formatted() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_782_399, 0)), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(at(951_782_400, 120_000_000)), "2000-02-29T00:00:00.12Z");
        assert_eq!(rfc3339_micros(at(1_795_462_971, 527_639_123)), "2026-11-23T19:42:51.527639Z");
        assert_eq!(rfc3339(year_1()), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_nanos(1)), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn written_timestamps_and_offsets_are_parsed() {
        for text in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z", "2000-02-29T12:00:00.000000001Z"] {
            assert_eq!(parse_rfc3339(text).map(rfc3339).as_deref(), Some(text));
        }
        for (text, utc) in [
            ("2026-03-01T00:30:00+01:00", "2026-02-28T23:30:00Z"),
            ("2026-02-28T22:00:00.25-02:30", "2026-03-01T00:30:00.25Z"),
        ] {
            assert_eq!(parse_rfc3339(text).map(rfc3339).as_deref(), Some(utc));
        }
        for text in [
            "",
            "2026-03-01",
            "2026-03-01T00:00:00",
            "2026-02-29T00:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T00:00:00.Z",
            "2026-03-01T00:00:00+1:00",
            "2026-03-01T00:00:00Zz",
            "26-03-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
