//! The generator's own absences: stopped, or starved of a CPU, it cannot distinguish a system's delay from its own. A
//! timer on a fixed grid can, since the system has no part in it.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use crate::clock::Moment;
use crate::error::Result;

/// The interval between ticks of the generator's timer.
pub const TICK_EVERY: Duration = Duration::from_millis(20);
/// The number of absences that are kept with their times.
const REMEMBERED: usize = 32;

/// The moments at which the generator's timer woke it, compared with those at which it should have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Absences {
    /// The lag of each tick of the window, missed ticks included: an answer that came in at that moment was read that
    /// late.
    pub lag: Distribution,
    /// The number of these ticks that were later than the bound.
    pub late: u64,
    /// The time that the generator was away in all: the sum of waits for ticks that came later than the bound.
    pub total: Duration,
    /// The longest absence.
    pub longest: Duration,
    /// The ticks of the timer with the greatest share of late ones, once those of several threads are merged.
    worst: Option<Ticks>,
    /// The last absences, as a ring: once it is full, a new one replaces the oldest.
    #[serde(skip)]
    last: [(Moment, Moment); REMEMBERED],
    #[serde(skip)]
    count: usize,
    /// The moment at which the next tick is due; `None` before the first.
    #[serde(skip)]
    next: Option<Moment>,
}

/// The ticks of one thread's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticks {
    /// Those that were later than the bound.
    pub late: u64,
    /// All of them.
    pub of: u64,
}

impl Ticks {
    /// Returns the greater share of late ticks.
    fn worse(self, other: Self) -> Self {
        let [share, others] = [(self, other), (other, self)].map(|(one, by)| u128::from(one.late) * u128::from(by.of));
        if (share, self.late) >= (others, other.late) { self } else { other }
    }
}

impl Absences {
    /// Records that the tick due at `due` came at `now`, and returns the moment at which the next one is due. An
    /// absence outside `window` is kept with its times, but is in no figure.
    pub fn woke(&mut self, due: Moment, now: Moment, bound_ns: u64, window: Range<Moment>) -> Moment {
        let mut tick = due;
        while tick <= now {
            if window.contains(&tick) {
                let lag_ns = now.ns_since(tick);
                self.lag.record(lag_ns);
                self.late += u64::from(lag_ns > bound_ns);
            }
            tick = tick + TICK_EVERY;
        }
        if now.ns_since(due) > bound_ns {
            self.last[self.count % REMEMBERED] = (due, now);
            self.count += 1;
            let within = now.min(window.end) - due.max(window.start);
            self.total += within;
            self.longest = self.longest.max(within);
        }
        self.next = Some(tick);
        tick
    }

    /// Adds the ticks of another thread's timer. The times of absences are forgotten.
    ///
    /// # Errors
    /// If the distributions cannot be merged.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let worst = Some(self.worst().worse(other.worst()));
        self.lag.merge(&other.lag)?;
        let lag = std::mem::take(&mut self.lag);
        *self = Self {
            lag,
            late: self.late + other.late,
            total: self.total + other.total,
            longest: self.longest.max(other.longest),
            worst,
            ..Self::default()
        };
        Ok(())
    }

    /// Returns the ticks of the timer with the greatest share of late ones.
    pub fn worst(&self) -> Ticks {
        self.worst.unwrap_or(Ticks { late: self.late, of: self.lag.count() })
    }

    /// Returns the time that the generator was away between two moments, of which the later is about now; `None` if the
    /// absences since the earlier are no longer all kept.
    pub fn away_ns(&self, from: Moment, to: Moment, bound_ns: u64) -> Option<u64> {
        let overlap_ns = |start: Moment, end: Moment| end.min(to).ns_since(start.max(from));
        // A tick that is overdue has not been recorded yet.
        let pending_ns = self.next.filter(|next| to.ns_since(*next) > bound_ns).map_or(0, |next| overlap_ns(next, to));
        let known = &self.last[..self.count.min(REMEMBERED)];
        let Some(latest) = self.count.checked_sub(1).map(|last| known[last % REMEMBERED]) else {
            return Some(pending_ns);
        };
        if latest.1 <= from {
            return Some(pending_ns);
        }
        let oldest = known[if self.count > REMEMBERED { self.count % REMEMBERED } else { 0 }];
        if self.count > REMEMBERED && oldest.1 > from {
            return None;
        }
        Some(pending_ns + known.iter().map(|(start, end)| overlap_ns(*start, *end)).sum::<u64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND_NS: u64 = 10_000_000;

    fn ms(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    /// Returns the absences of a timer that wakes the generator at these times, in milliseconds, if a tick is due then.
    fn woken(at_ms: impl IntoIterator<Item = u64>, window_ms: Range<u64>) -> Absences {
        let (mut absences, mut due) = (Absences::default(), ms(20));
        for now in at_ms.into_iter().map(ms).filter(|now| *now >= ms(20)) {
            if now >= due {
                due = absences.woke(due, now, BOUND_NS, ms(window_ms.start)..ms(window_ms.end));
            }
        }
        absences
    }

    #[test]
    fn missed_ticks_count_as_late() {
        // 30 s in which the generator is stopped ten times for half a second, each time from a whole second on.
        let awake = (20..30_000).filter(|at| at / 1_000 >= 10 || at % 1_000 >= 500 || at % 1_000 == 0);
        let absences = woken(awake, 0..30_000);
        assert_eq!(absences.lag.count(), 1_499);
        // 24 ticks of each half second are late, those due 20 ms to 480 ms after its beginning: the tick due at its
        // beginning, which the first one does not have, is in time, and so is the tick due at its end.
        assert_eq!(absences.late, 240);
        assert_eq!((absences.longest, absences.total), (Duration::from_millis(480), Duration::from_millis(4_800)));
    }

    #[test]
    fn a_punctual_generator_has_no_absence() {
        let absences = woken(20..5_000, 0..5_000);
        assert_eq!((absences.late, absences.total), (0, Duration::ZERO));
        assert_eq!(absences.away_ns(ms(100), ms(4_999), BOUND_NS), Some(0));
    }

    #[test]
    fn overlap_with_an_absence_is_measured() {
        // Away from 1,000 ms to 3,000 ms, and from 4,980 ms to now, which no tick has shown yet.
        let absences = woken((20..1_000).chain(3_000..4_980), 0..10_000);
        let away_ms = |from, to| absences.away_ns(ms(from), ms(to), BOUND_NS).map(|ns| ns / 1_000_000);
        assert_eq!([away_ms(0, 900), away_ms(500, 2_000), away_ms(2_500, 3_500)], [Some(0), Some(1_000), Some(500)]);
        assert_eq!([away_ms(3_000, 4_985), away_ms(3_500, 6_000)], [Some(0), Some(1_020)]);
        assert_eq!(away_ms(500, 6_000), Some(3_020));
    }

    #[test]
    fn absences_outside_the_window_are_not_counted() {
        let absences = woken((20..1_000).chain(2_000..3_000), 1_500..3_000);
        assert_eq!((absences.total, absences.lag.count()), (Duration::from_millis(500), 75));
        assert_eq!(absences.away_ns(ms(900), ms(2_000), BOUND_NS), Some(1_000_000_000));
    }

    #[test]
    fn forgotten_absences_are_unknown() {
        let awake = (20..100_000).filter(|at| at % 1_000 < 900);
        let absences = woken(awake, 0..100_000);
        assert_eq!(absences.away_ns(ms(20), ms(99_890), BOUND_NS), None);
        assert_eq!(absences.away_ns(ms(98_500), ms(99_800), BOUND_NS), Some(100_000_000));
    }
}
