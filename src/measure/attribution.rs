//! Attribution of late starts: a replay of a workload as it would have gone with a system that never takes longer than
//! usual.
//!
//! An arrival that waits for a connection may wait for one of two reasons: the system holds every connection, as it
//! does while it stalls, or there are fewer connections than the rate needs with any system. The two look alike in the
//! lag. A counterfactual separates them: each connection gets the same requests in the same order, but none of them
//! takes longer than usual, and the generator behaves as it did. An arrival that would have started late all the same
//! is charged to the generator's side; one that would have started in time was late because the system held the
//! connections.
//!
//! The usual time is the median service time of the run's right answers, which is known at its end only. So the replay
//! runs for a ladder of usual times at once, and the lowest rung that is not below the median counts.

use serde::{Deserialize, Serialize};

use super::distribution::{Distribution, Quantile};
use crate::clock::Moment;

/// The number of rungs: usual times of 1 ms, twice that, and so on, to 65 s.
const RUNGS: usize = 17;
const FIRST_RUNG_NS: u64 = 1_000_000;

/// A replay of a workload while it runs. Takes some ten nanoseconds a request, and allocates nothing.
#[derive(Clone, Debug)]
pub struct Attribution {
    bound_ns: u64,
    /// The moment at which each connection would be free again, by rung, in nanoseconds.
    free_ns: Vec<[u64; RUNGS]>,
    /// The connection to which the next arrival that was never sent is assigned, if any connection would have done.
    next: usize,
    delays: AttributedDelays,
}

/// Delays on the generator's side, for each usual time that the system may turn out to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributedDelays {
    /// Delays of a generator that was behind its schedule.
    pub generator: Delays,
    /// Delays of a pool with too few connections for the rate, by rung.
    pool: [Delays; RUNGS],
}

/// The numbers of arrivals that did not start when they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// Those that started later than the bound.
    pub late: u64,
    /// Those that never started.
    pub unsent: u64,
    /// Those that started later than the bound and timed out: less than the timeout was left for the system.
    pub timed_out: u64,
}

/// Delays that were caused on the generator's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OurDelays {
    /// Delays of a generator that was behind its schedule.
    pub generator: Delays,
    /// Delays of a pool with too few connections for the rate.
    pub pool: Delays,
}

/// The moments of an arrival's start.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The intended start.
    pub intended: Moment,
    /// The moment at which the generator handed it in.
    pub handed: Moment,
    /// True if no connection was free for it at that moment.
    pub waited: bool,
    /// The actual start.
    pub actual: Moment,
}

impl Delays {
    fn add(&mut self, timed_out: bool) {
        self.late += 1;
        self.timed_out += u64::from(timed_out);
    }

    fn merge(&mut self, other: &Self) {
        self.late += other.late;
        self.unsent += other.unsent;
        self.timed_out += other.timed_out;
    }
}

#[cfg(test)]
impl From<OurDelays> for AttributedDelays {
    /// Makes delays that are the same for each usual time.
    fn from(OurDelays { generator, pool }: OurDelays) -> Self {
        Self { generator, pool: [pool; RUNGS] }
    }
}

impl AttributedDelays {
    /// Adds the delays at other connections.
    pub fn merge(&mut self, other: &Self) {
        self.generator.merge(&other.generator);
        self.pool.iter_mut().zip(&other.pool).for_each(|(one, other)| one.merge(other));
    }

    /// Returns the delays that were caused on the generator's side, with a system that usually takes as long as the
    /// median of `service`. Without a sample the system is assumed to be quick: it is only known that it did not
    /// answer.
    pub fn ours(&self, service: &Distribution) -> OurDelays {
        let median_ns = service.value_ns(Quantile::P50.fraction());
        let rung = (0..RUNGS).find(|rung| usual_ns(*rung) >= median_ns).unwrap_or(RUNGS - 1);
        OurDelays { generator: self.generator, pool: self.pool[rung] }
    }
}

impl Attribution {
    /// Makes a replay for this number of connections; a start more than `bound_ns` after the intended one is late.
    pub fn new(connections: usize, bound_ns: u64) -> Self {
        Self { bound_ns, free_ns: vec![[0; RUNGS]; connections.max(1)], next: 0, delays: AttributedDelays::default() }
    }

    /// Records an arrival that was sent on a connection and took `service_ns` from there, or timed out after it; those
    /// of a connection come in the order in which they were sent. Returns true if it was late because of the generator.
    pub fn started(
        &mut self,
        connection: usize,
        start: Start,
        service_ns: u64,
        timed_out: bool,
        measured: bool,
    ) -> bool {
        let Start { intended, handed, waited, actual } = start;
        let late = actual.ns_since(intended) > self.bound_ns;
        let by_generator = late && (!waited || handed.ns_since(intended) > self.bound_ns);
        if measured && by_generator {
            self.delays.generator.add(timed_out);
        }
        let index = connection % self.free_ns.len();
        for (rung, free_ns) in self.free_ns[index].iter_mut().enumerate() {
            let start_ns = if waited { handed.as_ns().max(*free_ns) } else { actual.as_ns() };
            let late_anyway = late && start_ns.saturating_sub(intended.as_ns()) > self.bound_ns;
            if measured && late_anyway && !by_generator {
                self.delays.pool[rung].add(timed_out);
            }
            *free_ns = (*free_ns).max(start_ns + service_ns.min(usual_ns(rung)));
        }
        by_generator
    }

    /// Records an arrival that was never sent, on the connection that it waited for, or on any.
    pub fn unsent(&mut self, connection: Option<usize>, intended: Moment, handed: Moment, measured: bool) {
        let index = connection.unwrap_or(self.next) % self.free_ns.len();
        if connection.is_none() {
            self.next = index + 1;
        }
        let by_generator = handed.ns_since(intended) > self.bound_ns;
        self.delays.generator.unsent += u64::from(measured && by_generator);
        for (rung, free_ns) in self.free_ns[index].iter_mut().enumerate() {
            let start_ns = handed.as_ns().max(*free_ns);
            let late_anyway = start_ns.saturating_sub(intended.as_ns()) > self.bound_ns;
            self.delays.pool[rung].unsent += u64::from(measured && late_anyway && !by_generator);
            *free_ns = start_ns + usual_ns(rung);
        }
    }

    /// Returns the delays so far.
    pub fn delays(&self) -> AttributedDelays {
        self.delays
    }
}

fn usual_ns(rung: usize) -> u64 {
    FIRST_RUNG_NS << rung
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND_NS: u64 = 10_000_000;

    fn ms(ms: u64) -> Moment {
        Moment::from_ns(ms * 1_000_000)
    }

    /// A pool of connections through which arrivals run, due every `every_ms`: the connection that is free first takes
    /// the first that waits, and those that wait for longer than `patience_ms` are given up. `service_ms` returns the
    /// time that a request takes when sent at a moment; `handed_ms` the moment at which the generator hands in an
    /// arrival due at a moment.
    struct Pool {
        connections: usize,
        every_ms: u64,
        arrivals: u64,
        patience_ms: u64,
    }

    impl Pool {
        fn run(&self, service_ms: impl Fn(u64) -> u64, handed_ms: impl Fn(u64) -> u64) -> (Delays, OurDelays) {
            let mut attribution = Attribution::new(self.connections, BOUND_NS);
            let (mut free_ms, mut service, mut all) =
                (vec![0; self.connections], Distribution::default(), Delays::default());
            for arrival in 0..self.arrivals {
                let due = arrival * self.every_ms;
                let handed = handed_ms(due);
                let (connection, free) = free_ms.iter().copied().enumerate().min_by_key(|(_, free)| *free).unwrap();
                let actual = handed.max(free);
                if actual - due > self.patience_ms {
                    attribution.unsent(None, ms(due), ms(handed), true);
                    all.unsent += 1;
                    continue;
                }
                let took = service_ms(actual);
                free_ms[connection] = actual + took;
                if took < self.patience_ms {
                    service.record(took * 1_000_000);
                }
                let timed_out = actual + took - due > self.patience_ms;
                if actual - due > BOUND_NS / 1_000_000 {
                    all.add(timed_out);
                }
                let start = Start { intended: ms(due), handed: ms(handed), waited: free > handed, actual: ms(actual) };
                attribution.started(connection, start, took * 1_000_000, timed_out, true);
            }
            (all, attribution.delays().ours(&service))
        }
    }

    /// 200/s over 20 connections, for 20 s.
    const TWENTY: Pool = Pool { connections: 20, every_ms: 5, arrivals: 4_000, patience_ms: 10_000 };

    /// Returns the service time, in milliseconds, of a system that answers within 1 ms, but is frozen for 2 s from 9 s
    /// on.
    fn frozen(at_ms: u64) -> u64 {
        if (9_000..11_000).contains(&at_ms) { 11_000 - at_ms } else { 1 }
    }

    #[test]
    fn delays_of_a_frozen_system_are_attributed_to_it() {
        let (all, ours) = TWENTY.run(frozen, |due| due);
        // 400 are due in the freeze: 20 are in flight, and the last of the other 380 wait for no more than the bound.
        assert!((370..400).contains(&all.late), "{all:?}");
        assert_eq!(ours, OurDelays::default());

        let (all, ours) = Pool { patience_ms: 1_000, ..TWENTY }.run(frozen, |due| due);
        assert!(all.unsent > 100, "{all:?}");
        assert_eq!(ours, OurDelays::default());
    }

    #[test]
    fn delays_of_a_small_pool_are_attributed_to_it() {
        // 300 ms each at 200/s keep 60 connections busy.
        let (all, ours) = TWENTY.run(|_| 300, |due| due);
        assert!(all.late > 1_000 && all.unsent > 1_000 && all.timed_out > 10, "{all:?}");
        assert_eq!((ours.pool, ours.generator), (all, Delays::default()));
        let (all, ours) = Pool { connections: 61, ..TWENTY }.run(|_| 300, |due| due);
        assert_eq!((all, ours), (Delays::default(), OurDelays::default()));
    }

    #[test]
    fn delays_of_an_absent_generator_are_attributed_to_it() {
        // The generator is away for 2 s, and then hands in the arrivals that were due meanwhile.
        let back = |due| if (9_000..11_000).contains(&due) { 11_000 } else { due };
        let (all, ours) = TWENTY.run(|_| 1, back);
        // 398 were handed in late; the next few wait behind them, as they would with any system.
        assert!((398..=406).contains(&all.late), "{all:?}");
        assert_eq!((ours.generator.late, ours.generator.late + ours.pool.late), (398, all.late));
        // Both at once: no arrival that the generator handed in late is charged to the system.
        let (all, ours) = TWENTY.run(frozen, |due| if (10_000..11_000).contains(&due) { 11_000 } else { due });
        assert_eq!(ours.generator.late, 198);
        assert!(all.late > 198 + 150 && ours.pool.late < 10, "{all:?} {ours:?}");
    }

    #[test]
    fn unsent_arrivals_are_attributed_to_a_silent_system() {
        let (all, ours) = Pool { patience_ms: 1_000, ..TWENTY }.run(|_| 3_600_000, |due| due);
        assert_eq!((all.unsent, ours), (3_980, OurDelays::default()));
    }

    proptest! {
        /// The generator and the pool are never charged with more delays than there were, nor with any if all start in
        /// time.
        #[test]
        fn attributed_delays_never_exceed_all_delays(connections in 1usize..40, service in 1u64..500, freeze in 0u64..3_000) {
            let pool = Pool { connections, every_ms: 5, arrivals: 2_000, patience_ms: 2_000 };
            let slow = |at| if (4_000..4_000 + freeze).contains(&at) { 4_000 + freeze - at + service } else { service };
            let (all, ours) = pool.run(slow, |due| due);
            prop_assert_eq!(ours.generator, Delays::default());
            prop_assert!(ours.pool.late <= all.late && ours.pool.unsent <= all.unsent);
        }
    }
}
