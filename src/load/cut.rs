//! The early end of a run by its own limits: after a number of requests, at a share of errors or a number of arrivals
//! in flight that shows an overloaded system, or because a connection cannot be opened.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::progress::Progress;
use super::shard::Shard;
use crate::clock::Moment;
use crate::event_loop::sleep_until;

/// The interval between checks of the errors.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The smallest number of requests from which a share is computed.
const MIN_REQUESTS: u64 = 10;

/// A share of errors within a span of time, as in `50%/10s`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct ErrorLimit {
    /// The share, above 0 and up to 1.
    pub share: f64,
    /// The span: the share is of the requests that end within it.
    pub within: Duration,
}

/// The reason for which a run ended early.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Ended {
    /// A connection could not be opened before the load.
    NotOpened {
        /// The number of connections opened.
        opened: u64,
        /// The number of connections wanted.
        wanted: u64,
        /// The fault of the next connection, with a hint.
        why: String,
    },
    /// The run had sent as many requests as it may.
    Requests(u64),
    /// More arrivals were in flight than the run may have.
    InFlight {
        /// The number of arrivals that were neither answered nor given up.
        in_flight: u64,
        /// The largest number that the run may have.
        most: u64,
    },
    /// The share of failed requests reached the limit.
    Errors {
        /// The share, 0 to 1.
        share: f64,
        /// The limit.
        limit: ErrorLimit,
    },
}

/// The limits of one run, and the one that was reached, if any. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    limits: RunLimits,
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    /// True once everything that the run is to measure is over.
    finished: Arc<AtomicBool>,
    ended: Arc<Mutex<Option<Ended>>>,
}

/// The limits that end a run early; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunLimits {
    /// The largest number of requests that the run may send.
    pub requests: Option<u64>,
    /// The share of them that may fail.
    pub errors: Option<ErrorLimit>,
    /// The largest number of arrivals that may be in flight at once, those that wait for a connection included.
    pub in_flight: Option<u64>,
}

impl RunLimits {
    /// Returns the limits of one of the processes that share a run: the requests are dealt out beforehand, so that all
    /// together send exactly as many as the run may. The arrivals in flight are too, rounded up.
    #[must_use]
    pub fn of(self, shard: Shard) -> Self {
        Self {
            requests: self.requests.map(|all| shard.size_of(all)),
            in_flight: self.in_flight.map(|all| all.div_ceil(shard.count())),
            ..self
        }
    }
}

impl Cut {
    /// Makes a cut with these limits.
    pub fn new(limits: RunLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Counts a request that is to be sent; returns `false` if it may not be.
    pub fn may_send(&self) -> bool {
        if self.limits.requests.is_none() && self.limits.in_flight.is_none() {
            // Nothing depends on the count, for which threads would have to wait for each other.
            return true;
        }
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        let Some(most) = self.limits.requests.filter(|most| sent >= *most) else { return true };
        self.end(Ended::Requests(most));
        false
    }

    /// Returns the flag that would let the run get more answers, as a hint.
    pub fn for_more(&self) -> &'static str {
        match self.ended() {
            Some(Ended::Requests(_)) => "raise --max-requests",
            None if self.is_finished() => "raise --certificates or --agents",
            _ => "lengthen --duration",
        }
    }

    /// Returns the reason for which the run ended early, if it did.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if the run is to send no more requests.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Checks a run's errors, and its arrivals in flight, from its start until a limit is reached; returns at once if
    /// there is no such limit.
    pub async fn watch(&self, progress: &Progress, start: Moment) {
        let RunLimits { errors, in_flight, .. } = self.limits;
        if errors.is_none() && in_flight.is_none() {
            return;
        }
        let mut recent = errors.map(|limit| (limit, Recent::new(limit)));
        let mut due = start;
        while !self.is_over() {
            let (ok, failed) = progress.answered();
            if let Some((limit, recent)) = &mut recent
                && let Some(share) = recent.share(ok, failed - progress.exhausted())
                && share >= limit.share
            {
                self.end(Ended::Errors { share, limit: *limit });
            }
            let sent = self.sent.load(Ordering::Relaxed);
            let under_way = sent.saturating_sub(ok + failed + progress.unsent());
            if let Some(most) = in_flight.filter(|most| under_way > *most) {
                self.end(Ended::InFlight { in_flight: under_way, most });
            }
            // On the grid of the timer that measures the generator's lag: one look at all sockets serves both.
            while due <= Moment::now() {
                due = due + LOOK_EVERY;
            }
            sleep_until(due).await;
        }
    }

    /// Ends the schedules because everything that the run is to measure is over: arrivals that are due by then are
    /// sent, and the run is not ended early.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    /// Returns true if the schedules are to end.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// Ends the run; the first reason counts.
    pub fn end(&self, why: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The counts of the last checks, right answers and failures, as many as the limit's span takes.
struct Recent {
    looks: VecDeque<(u64, u64)>,
    span: usize,
}

impl Recent {
    fn new(limit: ErrorLimit) -> Self {
        let span = limit.within.as_nanos().div_ceil(LOOK_EVERY.as_nanos()).max(1) as usize;
        Self { looks: VecDeque::with_capacity(span + 1), span }
    }

    /// Returns the share of failures within the span that ends now; `None` before a whole span has passed, or if it has
    /// too few requests.
    fn share(&mut self, ok: u64, failed: u64) -> Option<f64> {
        self.looks.push_back((ok, failed));
        if self.looks.len() <= self.span {
            return None;
        }
        let (ok_before, failed_before) = self.looks.pop_front()?;
        let (ok, failed) = (ok - ok_before, failed.saturating_sub(failed_before));
        (ok + failed >= MIN_REQUESTS).then(|| failed as f64 / (ok + failed) as f64)
    }
}

impl FromStr for ErrorLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}`: write it as 50%/10s, a share of errors and a period");
        let (share, within) = text.split_once('/').ok_or_else(form)?;
        let percent: f64 = share.trim().strip_suffix('%').and_then(|share| share.parse().ok()).ok_or_else(form)?;
        let within = humantime::parse_duration(within.trim()).map_err(|error| format!("{}: {error}", form()))?;
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(format!("`{share}`: a share of errors must be above 0% and at most 100%"));
        }
        if !(LOOK_EVERY..=Duration::from_secs(3_600)).contains(&within) {
            return Err(format!("`{text}`: the period must be from 100ms to 1h"));
        }
        Ok(Self { share: percent / 100.0, within })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The breach states the rest.
            Self::NotOpened { opened, wanted, .. } => {
                write!(f, "before the load, with {opened} of {wanted} connections opened")
            }
            Self::Requests(most) => write!(f, "after {most} requests, the limit of --max-requests"),
            Self::InFlight { in_flight, most } => {
                write!(f, "with {in_flight} arrivals in flight, above the bound of {most}")
            }
            Self::Errors { share, limit } => write!(
                f,
                "by --abort-on-errors: {:.1}% of the requests that ended within {} failed",
                share * 100.0,
                humantime::format_duration(limit.within)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::{EventLoop, sleep};
    use crate::measure::Outcome;

    #[test]
    fn error_limits_are_parsed() {
        let limit = |text: &str| text.parse::<ErrorLimit>();
        assert_eq!(limit("50%/10s"), Ok(ErrorLimit { share: 0.5, within: Duration::from_secs(10) }));
        assert_eq!(limit("0.5% / 1m"), Ok(ErrorLimit { share: 0.005, within: Duration::from_secs(60) }));
        for wrong in ["", "50%", "50/10s", "0%/10s", "-1%/10s", "101%/10s", "NaN%/10s", "50%/", "50%/1ms", "50%/2days"]
        {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_error_share_covers_a_whole_span() {
        let mut recent = Recent::new(ErrorLimit { share: 0.5, within: Duration::from_millis(300) });
        let shares: Vec<_> = [(0, 0), (90, 10), (90, 60), (90, 110), (190, 110), (290, 110), (295, 111), (296, 111)]
            .map(|(ok, failed)| recent.share(ok, failed))
            .into();
        // The time of three checks passes first; the last span has ended seven requests, which are too few.
        assert_eq!(shares[..3], [None; 3]);
        assert_eq!(shares[3..6], [Some(110.0 / 200.0), Some(0.5), Some(0.2)]);
        assert_eq!(shares[6], Some(1.0 / 206.0));
        assert_eq!(recent.share(296, 111), None);
    }

    #[test]
    fn the_requests_of_a_run_are_dealt_out_exactly() {
        for all in [1, 2, 3, 1_000_003] {
            let limits = RunLimits { requests: Some(all), ..RunLimits::default() };
            let dealt = (0..3).map(|index| limits.of(Shard::new(index, 3).unwrap()).requests.unwrap());
            assert_eq!(dealt.sum::<u64>(), all);
        }
    }

    #[test]
    fn too_many_arrivals_in_flight_end_a_run() {
        let limits = RunLimits { in_flight: Some(10), ..RunLimits::default() };
        let (cut, progress) = (Cut::new(limits), Progress::default());
        let watched = cut.clone();
        // Answered, failed and given up: of 14 sent, ten are under way, which is as many as may be.
        assert!((0..14).all(|_| cut.may_send()));
        [Outcome::Ok, Outcome::Ok, Outcome::Refused].into_iter().for_each(|outcome| progress.count(outcome, 1));
        progress.gave_up();
        let send = async {
            sleep(2 * LOOK_EVERY).await;
            assert!(!watched.is_over());
            assert!(watched.may_send());
        };
        EventLoop::new().unwrap().block_on(async { tokio::join!(cut.watch(&progress, Moment::now()), send) });
        assert_eq!(cut.ended(), Some(Ended::InFlight { in_flight: 11, most: 10 }));
    }

    #[test]
    fn no_more_requests_than_the_cap_are_sent() {
        let cut = Cut::new(RunLimits { requests: Some(3), ..RunLimits::default() });
        let sent = (0..10).filter(|_| cut.clone().may_send()).count();
        assert_eq!((sent, cut.ended(), cut.is_over()), (3, Some(Ended::Requests(3)), true));
        let unlimited = Cut::default();
        assert!((0..10).all(|_| unlimited.may_send()) && !unlimited.is_over());
    }
}
