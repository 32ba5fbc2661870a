//! Renewal information: the certificate that an id means, and the time at which it should be renewed.

use std::time::{Duration, SystemTime};

use certctl_bench::servers::hex;

use crate::base64url;

const DAY: Duration = Duration::from_secs(86_400);

/// A serial number in certctl's form: lower-case hexadecimal digits without zeros in front.
#[derive(Debug, PartialEq, Eq)]
pub struct SerialNumber(String);

impl SerialNumber {
    /// Returns the serial number in an id of the form KEY.SERIAL; `None` when the id is malformed.
    pub fn of_certificate_id(id: &str) -> Option<Self> {
        let (key, serial) = id.split_once('.')?;
        let decode = |part| base64url::decode(part).filter(|bytes| !bytes.is_empty());
        let (_, serial) = (decode(key)?, decode(serial)?);
        Some(Self::of_bytes(&serial))
    }

    /// Returns the serial number of these bytes, the highest first.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let digits = hex(bytes);
        let digits = digits.trim_start_matches('0');
        Self(if digits.is_empty() { "0".to_owned() } else { digits.to_owned() })
    }

    /// Returns the digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

/// The time in which a renewal is suggested.
#[derive(Debug, PartialEq, Eq)]
pub struct Window {
    pub start: SystemTime,
    pub end: SystemTime,
}

impl Window {
    /// Returns the first half of the policy's days before expiry; without a policy, the first two thirds of the last
    /// third of the validity. Never in the past.
    pub fn of(not_before: SystemTime, not_after: SystemTime, policy_days: Option<i32>, now: SystemTime) -> Self {
        if now > not_after {
            return Self { start: now, end: now + DAY };
        }
        let days = policy_days.and_then(|days| u32::try_from(days).ok()).filter(|days| *days > 0);
        let (before_start, before_end) = match (days, not_after.duration_since(not_before)) {
            (Some(days), _) => (DAY * days, DAY * days / 2),
            (None, Ok(validity)) if !validity.is_zero() => (validity / 3, validity / 9),
            (None, _) => return Self { start: not_after - DAY, end: not_after },
        };
        let start = (not_after - before_start).max(now);
        Self { start, end: (not_after - before_end).max(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_ids_are_two_base64url_parts() {
        let hex = |id| SerialNumber::of_certificate_id(id).map(|serial| serial.hex().to_owned());
        assert_eq!(hex("aaaa.bbbb").as_deref(), Some("6db6db"));
        assert_eq!(hex("aa.AAEC").as_deref(), Some("102"));
        assert_eq!(hex("aaaa.AAAA").as_deref(), Some("0"));
        for malformed in ["aaaa", "a.b.c", ".bbbb", "aaaa.", "a!.bbb", "aaaa.bbb=", "aaaa.bb+b"] {
            assert_eq!(hex(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn window_follows_policy_validity_and_now() {
        let start = SystemTime::UNIX_EPOCH;
        let day = |day: u32| start + DAY * day;
        let window = |policy, now| {
            let Window { start, end } = Window::of(day(0), day(90), policy, day(now));
            (start, end)
        };
        assert_eq!(window(Some(30), 0), (day(60), day(75)));
        assert_eq!(window(Some(30), 70), (day(70), day(75)));
        assert_eq!(window(Some(30), 80), (day(80), day(80)));
        assert_eq!(window(None, 0), (day(60), day(80)));
        assert_eq!(window(Some(0), 0), (day(60), day(80)));
        assert_eq!(window(Some(30), 91), (day(91), day(92)));
    }
}
