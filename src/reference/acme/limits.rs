//! The limits of ACME requests: token buckets that fill within an hour, and the orders that an account may have open.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hyper::StatusCode;

use super::problem::{Kind, Problem};

const HOUR_S: f64 = 3_600.0;
/// certctl's defaults.
const KEY_CHANGES_PER_HOUR: u32 = 5;
const RESPONSES_PER_HOUR: u32 = 60;
/// Beyond this many buckets, those of more than an hour ago are forgotten, which are full as new ones are; if that does
/// not help, all are. certctl keeps all.
const MAX_BUCKETS: usize = 100_000;

/// A limited action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// By account.
    NewOrder,
    /// By account.
    KeyChange,
    /// By challenge.
    ChallengeResponse,
}

/// The limits and what was used of them.
pub struct Limits {
    /// No limit for 0.
    orders_per_hour: u32,
    /// No limit for 0.
    concurrent_orders: u32,
    buckets: Mutex<HashMap<(Action, String), Bucket>>,
}

struct Bucket {
    tokens: f64,
    refilled: Instant,
}

impl Limits {
    /// Returns limits of which nothing is used; 0 is none.
    pub fn new(orders_per_hour: u32, concurrent_orders: u32) -> Self {
        Self { orders_per_hour, concurrent_orders, buckets: Mutex::default() }
    }

    /// Returns the most orders that an account may have open.
    pub fn concurrent_orders(&self) -> Option<u64> {
        (self.concurrent_orders > 0).then_some(self.concurrent_orders.into())
    }

    /// Counts an action of this account or challenge.
    ///
    /// # Errors
    /// If there were too many within the last hour.
    pub fn take(&self, action: Action, id: &str) -> Result<(), Problem> {
        if self.allow(action, id, Instant::now()) {
            return Ok(());
        }
        Err(rate_limited("request rate limit exceeded; retry later"))
    }

    fn allow(&self, action: Action, id: &str, now: Instant) -> bool {
        let per_hour = f64::from(match action {
            Action::NewOrder => self.orders_per_hour,
            Action::KeyChange => KEY_CHANGES_PER_HOUR,
            Action::ChallengeResponse => RESPONSES_PER_HOUR,
        });
        if per_hour == 0.0 {
            return true;
        }
        // A poisoned table is still a table of numbers: no update leaves it half done.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.refilled).as_secs_f64() < HOUR_S);
        }
        if buckets.len() >= MAX_BUCKETS {
            buckets.clear();
        }
        let full = Bucket { tokens: per_hour, refilled: now };
        let bucket = buckets.entry((action, id.to_owned())).or_insert(full);
        let elapsed_s = now.saturating_duration_since(bucket.refilled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed_s * per_hour / HOUR_S).min(per_hour);
        bucket.refilled = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

/// Returns the problem of too many requests, which certctl sends without a Retry-After.
pub fn rate_limited(detail: &str) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, Kind::RateLimited, detail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_hours_actions_are_allowed_at_once_and_then_refill() {
        let (limits, start) = (Limits::new(100, 5), Instant::now());
        let count = |action, id: &str, now| (0..150).filter(|_| limits.allow(action, id, now)).count();
        assert_eq!(count(Action::NewOrder, "a", start), 100);
        assert_eq!(count(Action::NewOrder, "b", start), 100);
        assert_eq!(count(Action::KeyChange, "a", start), 5);
        assert_eq!(count(Action::NewOrder, "a", start + Duration::from_secs(361)), 10);
        assert_eq!((0..1_000).filter(|_| Limits::new(0, 0).allow(Action::NewOrder, "a", start)).count(), 1_000);
        assert_eq!(Limits::new(0, 0).concurrent_orders(), None);
    }
}
