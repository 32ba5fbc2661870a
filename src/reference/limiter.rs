//! The rate limiter: a token bucket per client address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const TOKENS_PER_SECOND: f64 = 50.0;
const BURST: f64 = 100.0;
/// Beyond this many addresses, full buckets are forgotten: a new bucket starts full, so nothing is lost.
const MAX_BUCKETS: usize = 10_000;

/// Token buckets with certctl's default rate and burst.
#[derive(Default)]
pub struct Limiter {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    refilled: Instant,
}

impl Limiter {
    /// Takes a token from the address's bucket; false when there is none.
    pub fn allow(&self, address: IpAddr, now: Instant) -> bool {
        // A poisoned table is still a table of numbers: no update leaves it half done.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| bucket.refill(now) < BURST);
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: BURST, refilled: now });
        let allowed = bucket.refill(now) >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

impl Bucket {
    fn refill(&mut self, now: Instant) -> f64 {
        let elapsed_s = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed_s * TOKENS_PER_SECOND).min(BURST);
        self.refilled = now;
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn the_limiter_allows_a_burst_then_refills() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let taken = (0..150).filter(|_| limiter.allow(address, start)).count();
        assert_eq!(taken, 100);
        let later = start + Duration::from_millis(210);
        assert_eq!((0..50).filter(|_| limiter.allow(address, later)).count(), 10);
    }
}
