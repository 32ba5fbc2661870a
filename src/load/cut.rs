//! The end of a run before its time, of its own accord: after so many requests, at so many errors that it drowns its
//! system, or because a connection cannot be opened.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::progress::Progress;

/// How often errors are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Of fewer requests than this no share is taken.
const TELLING_REQUESTS: u64 = 10;

/// A share of errors within a span of time, as in `50%/10s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorLimit {
    /// The share, above 0 and up to 1.
    pub share: f64,
    /// Of the requests that end within so long.
    pub within: Duration,
}

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// A connection could not be opened before the load.
    NotOpened {
        /// So many were opened.
        opened: u64,
        /// Of so many.
        wanted: u64,
        /// What became of the next.
        why: String,
    },
    /// It had sent as many requests as it may.
    Requests(u64),
    /// So large a share of its requests failed.
    Errors {
        /// The share, 0 to 1.
        share: f64,
        /// The limit.
        limit: ErrorLimit,
    },
}

/// The limits of one run, and whether one was reached. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    limits: Limits,
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    ended: Arc<Mutex<Option<Ended>>>,
}

/// What ends a run early; nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// How many requests it may send.
    pub requests: Option<u64>,
    /// How many of them may fail.
    pub errors: Option<ErrorLimit>,
}

impl Cut {
    /// With these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Counts a request that is to be sent; `false` if it may not be.
    pub fn may_send(&self) -> bool {
        let Some(most) = self.limits.requests else { return true };
        if self.sent.fetch_add(1, Ordering::Relaxed) < most {
            return true;
        }
        self.end(Ended::Requests(most));
        false
    }

    /// The flag that would let the run get more answers, as advice.
    pub fn for_more(&self) -> &'static str {
        match self.ended() {
            Some(Ended::Requests(_)) => "raise --max-requests",
            _ => "lengthen --duration",
        }
    }

    /// Why the run ended early, if it did.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the run is to send no more.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Looks at a run's errors until there are too many; returns at once where there is no limit to them.
    pub async fn watch(&self, progress: &Progress) {
        let Some(limit) = self.limits.errors else { return };
        let mut recent = Recent::new(limit);
        while !self.is_over() {
            let (ok, failed) = progress.answered();
            if let Some(share) = recent.share(ok, failed - progress.exhausted()).filter(|share| *share >= limit.share) {
                self.end(Ended::Errors { share, limit });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the run; the first reason counts.
    pub fn end(&self, why: Ended) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Counts of the last looks, as many as the limit's span takes.
struct Recent {
    looks: VecDeque<(u64, u64)>,
    span: usize,
}

impl Recent {
    fn new(limit: ErrorLimit) -> Self {
        let span = limit.within.as_nanos().div_ceil(LOOK_EVERY.as_nanos()).max(1) as usize;
        Self { looks: VecDeque::with_capacity(span + 1), span }
    }

    /// The share of failures within the span that ends now; `None` before there was a whole one, and of too few requests.
    fn share(&mut self, ok: u64, failed: u64) -> Option<f64> {
        self.looks.push_back((ok, failed));
        if self.looks.len() <= self.span {
            return None;
        }
        let (ok_before, failed_before) = self.looks.pop_front()?;
        let (ok, failed) = (ok - ok_before, failed.saturating_sub(failed_before));
        (ok + failed >= TELLING_REQUESTS).then(|| failed as f64 / (ok + failed) as f64)
    }
}

impl FromStr for ErrorLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}`: write it as 50%/10s, a share of errors and within how long");
        let (share, within) = text.split_once('/').ok_or_else(form)?;
        let percent: f64 = share.trim().strip_suffix('%').and_then(|share| share.parse().ok()).ok_or_else(form)?;
        let within = humantime::parse_duration(within.trim()).map_err(|error| format!("{}: {error}", form()))?;
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(format!("`{share}`: a share of errors is above 0% and at most 100%"));
        }
        if !(LOOK_EVERY..=Duration::from_secs(3_600)).contains(&within) {
            return Err(format!("`{text}`: errors are counted within 100ms to 1h"));
        }
        Ok(Self { share: percent / 100.0, within })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The breach says the rest.
            Self::NotOpened { opened, wanted, .. } => {
                write!(f, "before the load, with {opened} of {wanted} connections opened")
            }
            Self::Requests(most) => write!(f, "after {most} requests, as --max-requests has it"),
            Self::Errors { share, limit } => write!(
                f,
                "as --abort-on-errors has it: {:.1}% of the requests that ended within {} failed",
                share * 100.0,
                humantime::format_duration(limit.within)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_as_it_is_written() {
        let limit = |text: &str| text.parse::<ErrorLimit>();
        assert_eq!(limit("50%/10s"), Ok(ErrorLimit { share: 0.5, within: Duration::from_secs(10) }));
        assert_eq!(limit("0.5% / 1m"), Ok(ErrorLimit { share: 0.005, within: Duration::from_secs(60) }));
        for wrong in ["", "50%", "50/10s", "0%/10s", "-1%/10s", "101%/10s", "NaN%/10s", "50%/", "50%/1ms", "50%/2days"]
        {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_share_is_of_a_whole_span() {
        let mut recent = Recent::new(ErrorLimit { share: 0.5, within: Duration::from_millis(300) });
        let shares: Vec<_> = [(0, 0), (90, 10), (90, 60), (90, 110), (190, 110), (290, 110), (295, 111), (296, 111)]
            .map(|(ok, failed)| recent.share(ok, failed))
            .into();
        // Three looks' time passes first; the last span has ended six requests, which are too few.
        assert_eq!(shares[..3], [None; 3]);
        assert_eq!(shares[3..6], [Some(110.0 / 200.0), Some(0.5), Some(0.2)]);
        assert_eq!(shares[6], Some(1.0 / 206.0));
        assert_eq!(recent.share(296, 111), None);
    }

    #[test]
    fn no_more_requests_than_the_cap_are_sent() {
        let cut = Cut::new(Limits { requests: Some(3), errors: None });
        let sent = (0..10).filter(|_| cut.clone().may_send()).count();
        assert_eq!((sent, cut.ended(), cut.is_over()), (3, Some(Ended::Requests(3)), true));
        let unlimited = Cut::default();
        assert!((0..10).all(|_| unlimited.may_send()) && !unlimited.is_over());
    }
}
