//! A delay of requests, exact to some 20 µs: a defect of known size, to be found by whoever compares two servers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certctl_bench::clock::Moment;

use crate::timer::Timer;

/// The part of a delay that is spent on a CPU, as by slow code: a task that waits for a timer is woken some time after
/// it, and a processor that falls asleep in between makes others' requests slower or faster.
const AWAKE: Duration = Duration::from_millis(1);

/// A delay, and the requests that it is for.
pub struct Delay {
    wait: Duration,
    /// The share of requests, 0 to 1: each that completes another whole one is delayed.
    share: f64,
    requests: AtomicU64,
}

impl Delay {
    /// Makes a delay of this share of requests, 0 to 1.
    pub fn new(wait: Duration, share: f64) -> Self {
        Self { wait, share, requests: AtomicU64::new(0) }
    }

    /// Delays the calling request, if it is one of those. Tokio's own timer has a resolution of a millisecond.
    pub async fn pass(&self) {
        if self.wait.is_zero() {
            return;
        }
        let now = Moment::now();
        let due = now + self.wait;
        let before = self.requests.fetch_add(1, Ordering::Relaxed) as f64;
        if (before * self.share).floor() == ((before + 1.0) * self.share).floor() {
            return;
        }
        if self.wait > AWAKE
            && let Ok(timer) = Timer::new()
        {
            // It fails for no valid moment; then all of the delay is spent on a CPU.
            let _ = timer.sleep_until(now + (self.wait - AWAKE)).await;
        }
        while Moment::now() < due {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_of_requests_is_delayed_and_never_too_little() {
        let wait = Duration::from_millis(2);
        let delay = Delay::new(wait, 0.25);
        let mut delayed = Vec::new();
        for request in 0..12 {
            let began = Moment::now();
            delay.pass().await;
            if Moment::now() - began >= wait {
                delayed.push(request);
            }
        }
        for due in [3, 7, 11] {
            assert!(delayed.contains(&due), "{delayed:?}");
        }
        Delay::new(Duration::ZERO, 1.0).pass().await;
    }
}
