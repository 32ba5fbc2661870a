//! Timestamps as certctl writes and reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize as _, Deserializer, Serializer, de};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::formatting::Formattable;
use time::macros::format_description;

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
    const MICROS: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    formatted(time, &MICROS)
}

/// Formats a time as RFC 3339 in UTC to the second, as ACME answers.
pub fn rfc3339_seconds(time: SystemTime) -> String {
    const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    formatted(time, &SECONDS)
}

/// Formats a time as RFC 3339 in UTC without trailing zeros in the fraction, as the API answers.
pub fn rfc3339(time: SystemTime) -> String {
    formatted(time, &Rfc3339)
}

/// Formats a time of the years 0 to 9999; others have no form, and become empty.
fn formatted(time: SystemTime, format: &(impl Formattable + ?Sized)) -> String {
    OffsetDateTime::from(time).format(format).unwrap_or_default()
}

/// Parses RFC 3339, with any offset from UTC; digits beyond nanoseconds are cut off.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
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
