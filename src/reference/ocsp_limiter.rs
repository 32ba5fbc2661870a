//! The limit on OCSP requests: so many in the minute before, for each client address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// The most addresses, as in certctl; the one that has been silent for longest is forgotten.
const MAX_ADDRESSES: usize = 50_000;

/// The times of the requests within the last minute, by address.
pub struct OcspLimiter {
    most: NonZeroUsize,
    requests: Mutex<HashMap<IpAddr, VecDeque<Instant>>>,
}

impl OcspLimiter {
    /// Returns a limiter to so many requests a minute.
    pub fn new(most: NonZeroUsize) -> Self {
        Self { most, requests: Mutex::default() }
    }

    /// Counts a request, unless the address has made its last one.
    pub fn allow(&self, address: IpAddr, now: Instant) -> bool {
        // A poisoned table is still a table of times: no update leaves it half done.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= MAX_ADDRESSES && !requests.contains_key(&address) {
            let silent = requests.iter().min_by_key(|(_, times)| times.back().copied()).map(|(address, _)| *address);
            silent.map(|address| requests.remove(&address));
        }
        let times = requests.entry(address).or_default();
        while times.front().is_some_and(|time| now.saturating_duration_since(*time) >= WINDOW) {
            times.pop_front();
        }
        let allowed = times.len() < self.most.get();
        if allowed {
            times.push_back(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn requests_beyond_the_limit_wait_for_the_window() {
        let limiter = OcspLimiter::new(NonZeroUsize::new(3).expect("not zero"));
        let (start, address) = (Instant::now(), IpAddr::from(Ipv4Addr::LOCALHOST));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 1, 2, 3].map(|second| limiter.allow(address, at(second))), [true, true, true, false]);
        assert!(limiter.allow(IpAddr::from([10, 0, 0, 1]), at(3)));
        assert_eq!([59, 60, 60, 61].map(|second| limiter.allow(address, at(second))), [false, true, false, true]);
    }
}
