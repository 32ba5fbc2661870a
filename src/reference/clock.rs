//! Timestamps as certctl writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970, zero for a clock set before it.
pub fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// RFC 3339 in UTC with six digits of microseconds: what the audit chain hashes.
pub fn rfc3339_micros(time: SystemTime) -> String {
    let micros = since_epoch(time).subsec_micros();
    format!("{}.{micros:06}Z", whole_seconds(time))
}

/// RFC 3339 in UTC without trailing zeros in the fraction: what the API answers.
pub fn rfc3339(time: SystemTime) -> String {
    let nanos = since_epoch(time).subsec_nanos();
    if nanos == 0 {
        return format!("{}Z", whole_seconds(time));
    }
    let fraction = format!("{nanos:09}");
    format!("{}.{}Z", whole_seconds(time), fraction.trim_end_matches('0'))
}

fn whole_seconds(time: SystemTime) -> String {
    let seconds = since_epoch(time).as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let in_day = seconds % 86_400;
    let (hour, minute, second) = (in_day / 3_600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin on 1 March.
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_leap_days() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_782_399, 0)), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(at(951_782_400, 120_000_000)), "2000-02-29T00:00:00.12Z");
        assert_eq!(rfc3339_micros(at(1_795_462_971, 527_639_123)), "2026-11-23T19:42:51.527639Z");
    }
}
