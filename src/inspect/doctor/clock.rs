//! The check of certctl's clock against this machine's and its database's.

use std::time::{Duration, SystemTime};

use super::{Finding, Report};
use crate::database::DatabaseClient;
use crate::error::{Context, Result};
use crate::load::runtime::runtime;
use crate::system::Certctl;
use crate::system::probe::Probe;
use crate::wire::Dialer;

/// HTTP dates are cut to the second: the real time is up to this much later.
const GRAIN: Duration = Duration::from_secs(1);
/// The error of a heartbeat's age that is tolerated: certctl stamps the heartbeat by its clock, and the database's
/// clock measures the age.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Compares the server's clock with this machine's; returns `None` if its answer has no `Date`.
pub async fn ours(probe: &mut Probe<'_>) -> Option<Finding> {
    let before = SystemTime::now();
    let theirs = time_of(probe).await?;
    Some(match off(theirs, before, SystemTime::now()) {
        Some(by) => Finding::warn(
            format!("the server's clock is {by} this machine's"),
            "synchronise both clocks by NTP: figures and logs are matched by time",
        ),
        None => Finding::ok("the server's clock and this machine's agree within 2 s"),
    })
}

/// Compares the server's clock with its database's, if its answer has a `Date`.
pub fn examine(certctl: &Certctl, dialer: Dialer, database: &mut DatabaseClient, report: Report<'_>) -> Result<()> {
    let mut now = || -> Result<SystemTime> {
        let row = database.query_one("SELECT clock_timestamp()", &[]);
        Ok(row.context(|| "reading the database's clock".to_owned())?.get(0))
    };
    let before = now()?;
    let Some(theirs) = runtime()?.block_on(time_of(&mut Probe::new(certctl, dialer))) else { return Ok(()) };
    report(match off(theirs, before, now()?) {
        Some(by) => Finding::fail(
            format!("certctl's clock is {by} its database's: agent_storm would not find its heartbeats"),
            "synchronise both clocks by NTP",
        ),
        None => Finding::ok("certctl's clock and its database's agree within 2 s"),
    });
    Ok(())
}

/// Returns the `Date` of the server's answer, cut to the second.
async fn time_of(probe: &mut Probe<'_>) -> Option<SystemTime> {
    let answer = probe.get("/health").await.ok()?;
    httpdate::parse_http_date(answer.date.as_deref()?).ok()
}

/// Returns the least error of a clock that showed `reading` between `before` and `after` of another clock.
fn off(reading: SystemTime, before: SystemTime, after: SystemTime) -> Option<String> {
    let ahead = reading.duration_since(after).unwrap_or_default();
    let behind = before.duration_since(reading + GRAIN).unwrap_or_default();
    match () {
        () if ahead > TOLERANCE => Some(format!("{} s ahead of", ahead.as_secs())),
        () if behind > TOLERANCE => Some(format!("{} s behind", behind.as_secs())),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certain_clock_difference_is_reported() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        let off = |reading, before, after| off(at(reading), at(before), at(after));
        assert_eq!([off(10.0, 10.9, 10.95), off(10.0, 11.9, 11.99), off(12.0, 11.1, 11.2)], [None, None, None]);
        assert_eq!(off(10.0, 12.1, 12.2).as_deref(), Some("1 s behind"));
        assert_eq!(off(14.0, 10.5, 10.6).as_deref(), Some("3 s ahead of"));
    }
}
