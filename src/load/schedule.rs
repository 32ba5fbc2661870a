//! Arrival schedules: the intended start and the client of each request. Pure and seeded; the same plan gives the same
//! schedule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::arrival::PlannedRequest;
use super::plan::DuetPart;
use super::rate::Rate;

/// The distribution of arrivals over time.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Evenly: one every 1/rate. Clients and steps take turns.
    Constant(Rate),
    /// As a Poisson process: independent, exponentially distributed gaps, as from a large population. Clients and steps
    /// take turns.
    Poisson(Rate),
    /// One in each slot of 1/rate, at a random time within it: any span has as many as with even spacing, to within
    /// two, in no fixed phase to anything else. Clients and steps take turns.
    Jittered(Rate),
    /// Each client at its own times.
    Fleet(FleetSchedule),
}

/// A fleet whose clients each send requests periodically.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSchedule {
    /// The periodic requests of each client.
    pub streams: Vec<Stream>,
    /// The jitter: each period is longer or shorter by up to this share of it, 0 to 1, drawn anew each time.
    pub jitter: f64,
    /// The return of the fleet: each client's first request comes at a random time within a span. Without it, the fleet
    /// has been running for long.
    pub restart: Option<Restart>,
}

/// One kind of request of a fleet's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The step of the scenario.
    pub step: usize,
    /// The mean time between two requests.
    pub period: Duration,
}

/// The return of a fleet, all of its clients within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The span.
    pub within: Duration,
    /// The step of each client's first request. It also stands for the first request of the first stream.
    pub step: usize,
}

impl Pattern {
    /// Returns the mean arrivals per second with this number of clients.
    pub fn per_second(&self, clients: u64) -> f64 {
        match self {
            Self::Constant(rate) | Self::Poisson(rate) | Self::Jittered(rate) => rate.per_second_f64(),
            Self::Fleet(fleet) => {
                let of_one: f64 = fleet.streams.iter().map(|stream| 1.0 / stream.period.as_secs_f64()).sum();
                of_one * clients as f64
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(_) => f.write_str("constant"),
            Self::Poisson(_) => f.write_str("poisson"),
            Self::Jittered(_) => f.write_str("jittered"),
            Self::Fleet(FleetSchedule { restart: None, .. }) => f.write_str("fleet"),
            Self::Fleet(FleetSchedule { restart: Some(restart), .. }) => {
                write!(f, "fleet, back within {}", humantime::format_duration(restart.within))
            }
        }
    }
}

/// The intended starts of an open workload, in nanoseconds after its beginning, never decreasing.
#[derive(Clone, Debug)]
pub struct Schedule {
    source: Source,
    clients: u64,
    steps: u64,
    end_ns: u64,
    seq: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Constant(Rate),
    Poisson { mean_ns: f64, rng: Xoshiro256PlusPlus, at_ns: f64 },
    Jittered { rate: Rate, rng: Xoshiro256PlusPlus },
    Fleet(Merge),
}

impl Schedule {
    /// Makes the schedule of arrivals of `pattern` over `span`, of `clients` with `steps` kinds of request. `seed`
    /// matters for random patterns only.
    pub fn new(pattern: &Pattern, clients: u64, steps: usize, span: Duration, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let source = match pattern {
            Pattern::Constant(rate) => Source::Constant(*rate),
            Pattern::Poisson(rate) => Source::Poisson { mean_ns: 1e9 / rate.per_second_f64(), rng, at_ns: 0.0 },
            Pattern::Jittered(rate) => Source::Jittered { rate: *rate, rng },
            Pattern::Fleet(fleet) => Source::Fleet(Merge::new(fleet, clients, rng)),
        };
        Self { source, clients: clients.max(1), steps: steps.max(1) as u64, end_ns: span.as_nanos() as u64, seq: 0 }
    }

    /// Returns the request with this number where clients and steps take turns.
    fn turn(&self, seq: u64) -> PlannedRequest {
        PlannedRequest { seq, client: seq % self.clients, step: (seq % self.steps) as usize }
    }
}

impl Iterator for Schedule {
    type Item = (u64, PlannedRequest);

    fn next(&mut self) -> Option<Self::Item> {
        let seq = self.seq;
        let in_turn = self.turn(seq);
        let turn = |at_ns| (at_ns, in_turn);
        let (at_ns, planned) = match &mut self.source {
            Source::Constant(rate) => turn(rate.offset_ns(seq)),
            Source::Poisson { mean_ns, rng, at_ns } => {
                *at_ns += exponential(rng) * *mean_ns;
                turn(*at_ns as u64)
            }
            Source::Jittered { rate, rng } => {
                let slot = rate.offset_ns(seq)..rate.offset_ns(seq + 1);
                let at_ns = slot.start + uniform(rng, (slot.end - slot.start) as f64) as u64;
                // The last slot may end after the span: its arrival is moved into the span.
                turn(if slot.start < self.end_ns { at_ns.min(self.end_ns - 1) } else { at_ns })
            }
            Source::Fleet(merge) => {
                let due = merge.next()?;
                (due.at_ns, PlannedRequest { seq, client: due.client, step: due.step })
            }
        };
        self.seq += 1;
        (at_ns < self.end_ns).then_some((at_ns, planned))
    }
}

/// The arrivals of one part of a duet. Two successive arrivals of a schedule are a pair: the same request on both sides,
/// on one at the earlier time and on the other at the later, as a coin decides. So both sides together have the
/// schedule's rate.
#[derive(Clone, Debug)]
pub struct Paired {
    inner: Schedule,
    part: DuetPart,
    coin: Xoshiro256PlusPlus,
    pairs: u64,
}

impl Paired {
    /// Makes the arrivals of `part`. `seed` is the same for both.
    pub fn new(inner: Schedule, part: DuetPart, seed: u64) -> Self {
        // Not the sequence that the schedule itself draws from.
        Self { inner, part, coin: Xoshiro256PlusPlus::seed_from_u64(!seed), pairs: 0 }
    }
}

impl Iterator for Paired {
    type Item = (u64, PlannedRequest);

    fn next(&mut self) -> Option<Self::Item> {
        // An arrival without a partner is left out.
        let ((early_ns, planned), (late_ns, _)) = (self.inner.next()?, self.inner.next()?);
        let first = if self.coin.next_u64() >> 63 == 0 { DuetPart::Heads } else { DuetPart::Tails };
        let at_ns = if first == self.part { early_ns } else { late_ns };
        let seq = self.pairs;
        self.pairs += 1;
        let planned = match self.inner.source {
            // Its clients have their own times.
            Source::Fleet(_) => PlannedRequest { seq, ..planned },
            _ => self.inner.turn(seq),
        };
        Some((at_ns, planned))
    }
}

/// The streams of all clients of a fleet, in order of time.
#[derive(Clone, Debug)]
struct Merge {
    fleet: FleetSchedule,
    rng: Xoshiro256PlusPlus,
    /// One entry per client and stream.
    due: BinaryHeap<Reverse<Due>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ns: u64,
    client: u64,
    step: usize,
    /// The stream that continues after it.
    stream: usize,
}

impl Merge {
    fn new(fleet: &FleetSchedule, clients: u64, mut rng: Xoshiro256PlusPlus) -> Self {
        let mut due = BinaryHeap::with_capacity(clients as usize * fleet.streams.len());
        for client in 0..clients {
            let back_ns = fleet.restart.map(|restart| uniform(&mut rng, restart.within.as_nanos() as f64));
            for (index, stream) in fleet.streams.iter().enumerate() {
                let phase_ns = uniform(&mut rng, stream.period.as_nanos() as f64);
                let (at_ns, step) = match (fleet.restart, back_ns, index) {
                    (Some(restart), Some(back_ns), 0) => (back_ns, restart.step),
                    (_, Some(back_ns), _) => (back_ns + phase_ns, stream.step),
                    _ => (phase_ns, stream.step),
                };
                due.push(Reverse(Due { at_ns: at_ns as u64, client, step, stream: index }));
            }
        }
        Self { fleet: fleet.clone(), rng, due }
    }

    fn next(&mut self) -> Option<Due> {
        let Reverse(due) = self.due.pop()?;
        let stream = self.fleet.streams[due.stream];
        let share = 1.0 + self.fleet.jitter * (uniform(&mut self.rng, 2.0) - 1.0);
        let period_ns = (stream.period.as_nanos() as f64 * share) as u64;
        self.due.push(Reverse(Due { at_ns: due.at_ns + period_ns.max(1), step: stream.step, ..due }));
        Some(due)
    }
}

/// Draws a number from [0, `below`).
fn uniform(rng: &mut Xoshiro256PlusPlus, below: f64) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * below
}

/// Draws a number from the exponential distribution of mean 1, by inversion (Devroye, "Non-Uniform Random Variate
/// Generation", 1986, II.2.1).
fn exponential(rng: &mut Xoshiro256PlusPlus) -> f64 {
    // Moved into (0, 1] so that the logarithm is finite.
    -(1.0 - uniform(rng, 1.0)).ln()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn rates() -> impl Strategy<Value = Rate> {
        (1u64..20_000, prop::sample::select(vec!["s", "m"]))
            .prop_map(|(events, unit)| format!("{events}/{unit}").parse().unwrap())
    }

    fn schedule(pattern: &Pattern, span_ms: u64, seed: u64) -> Vec<u64> {
        Schedule::new(pattern, 1, 1, Duration::from_millis(span_ms), seed).map(|(at_ns, _)| at_ns).collect()
    }

    fn fleet(restart: Option<Restart>) -> Pattern {
        let stream = |step, seconds| Stream { step, period: Duration::from_secs(seconds) };
        Pattern::Fleet(FleetSchedule { streams: vec![stream(0, 60), stream(1, 30)], jitter: 0.1, restart })
    }

    /// Returns the times of each client's requests of each step, in nanoseconds.
    fn by_client(pattern: &Pattern, clients: u64, span_s: u64, seed: u64) -> HashMap<(u64, usize), Vec<u64>> {
        let mut times: HashMap<_, Vec<u64>> = HashMap::new();
        for (at_ns, planned) in Schedule::new(pattern, clients, 3, Duration::from_secs(span_s), seed) {
            times.entry((planned.client, planned.step)).or_default().push(at_ns);
        }
        times
    }

    proptest! {
        #[test]
        fn constant_arrivals_hold_the_rate_in_any_window(rate in rates(), span_ms in 1u64..20_000, from_ms in 0u64..10_000) {
            let starts = schedule(&Pattern::Constant(rate), span_ms, 0);
            prop_assert_eq!(starts.len() as u64, rate.count_within(Duration::from_millis(span_ms)));

            let (from_ns, to_ns) = (from_ms * 1_000_000, (from_ms + 1_000) * 1_000_000);
            if to_ns <= span_ms * 1_000_000 {
                let count = starts.iter().filter(|at| (from_ns..to_ns).contains(at)).count() as f64;
                prop_assert!((count - rate.per_second_f64()).abs() <= 1.0, "{} in a second of {}", count, rate);
            }
        }

        #[test]
        fn jittered_arrivals_have_a_random_phase_in_each_slot(per_s in 1u64..2_000, seed: u64) {
            let rate = Rate::per_second(per_s);
            let starts = schedule(&Pattern::Jittered(rate), 60_000, seed);
            prop_assert_eq!(starts.len() as u64, 60 * per_s);
            let phases = (0..).zip(&starts).map(|(slot, at)| {
                let (from, to) = (rate.offset_ns(slot), rate.offset_ns(slot + 1));
                assert!((from..to).contains(at), "{at} in {from}..{to}");
                (at - from) as f64 / (to - from) as f64
            });
            let phases: Vec<f64> = phases.collect();
            // The mean of n uniform draws is within six standard deviations of a half.
            let (n, mean) = (phases.len() as f64, phases.iter().sum::<f64>() / phases.len() as f64);
            prop_assert!((mean - 0.5).abs() < 6.0 * (1.0 / 12.0 / n).sqrt(), "{}", mean);
        }

        #[test]
        fn starts_are_monotone_and_inside_the_span(rate in rates(), span_ms in 1u64..5_000, seed: u64, kind in 0..5) {
            let restart = Restart { within: Duration::from_secs(1), step: 2 };
            let pattern = match kind {
                4 => Pattern::Jittered(rate),
                0 => Pattern::Constant(rate),
                1 => Pattern::Poisson(rate),
                2 => fleet(None),
                _ => fleet(Some(restart)),
            };
            let starts: Vec<_> =
                Schedule::new(&pattern, 500, 1, Duration::from_millis(span_ms), seed).map(|(at_ns, _)| at_ns).collect();
            prop_assert!(starts.is_sorted());
            prop_assert!(starts.iter().all(|at| *at < span_ms * 1_000_000));
        }

        #[test]
        fn the_same_seed_gives_the_same_schedule(rate in rates(), seed: u64) {
            for (pattern, span_ms) in [(Pattern::Poisson(rate), 5_000), (fleet(None), 90_000)] {
                let [one, two, other] = [seed, seed, !seed].map(|seed| schedule(&pattern, span_ms, seed));
                prop_assert_eq!(&one, &two);
                prop_assert!(one != other || one.is_empty());
            }
        }

        #[test]
        fn poisson_arrivals_have_the_rate_and_the_variance(seed: u64) {
            let starts = schedule(&Pattern::Poisson(Rate::per_second(1_000)), 20_000, seed);
            // The standard deviation of a Poisson count is its root: six of them give one false alarm in 500 million.
            prop_assert!((starts.len() as f64 - 20_000.0).abs() < 6.0 * 20_000f64.sqrt(), "{}", starts.len());
            let gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            prop_assert!((variance.sqrt() / mean - 1.0).abs() < 0.1, "coefficient of variation {}", variance.sqrt() / mean);
        }

        #[test]
        fn each_client_of_a_fleet_keeps_its_periods_within_the_jitter(seed: u64) {
            for ((client, step), times) in by_client(&fleet(None), 50, 600, seed) {
                let period_ns = if step == 0 { 60e9 } else { 30e9 };
                prop_assert!(times[0] as f64 <= period_ns, "client {} begins at {}", client, times[0]);
                for pair in times.windows(2) {
                    let share = (pair[1] - pair[0]) as f64 / period_ns;
                    prop_assert!((0.899..1.101).contains(&share), "client {}, step {}: {}", client, step, share);
                }
            }
        }

        #[test]
        fn a_restarted_fleet_returns_in_time_and_is_periodic(seed: u64) {
            let within = Duration::from_secs(5);
            let times = by_client(&fleet(Some(Restart { within, step: 2 })), 200, 75, seed);
            for client in 0..200 {
                let back = &times[&(client, 2)];
                prop_assert_eq!(back.len(), 1);
                prop_assert!(back[0] < 5_000_000_000, "client {} is back at {}", client, back[0]);
                let first_poll = times[&(client, 1)][0];
                prop_assert!((back[0]..back[0] + 30_000_000_000).contains(&first_poll));
                let heartbeat = times[&(client, 0)][0] - back[0];
                prop_assert!((54_000_000_000..66_000_000_000).contains(&heartbeat), "{}", heartbeat);
            }
        }
    }

    #[test]
    fn a_fleet_has_its_stated_rate() {
        let pattern = fleet(None);
        let count = Schedule::new(&pattern, 5_000, 2, Duration::from_secs(300), 1).count() as f64;
        assert_eq!(pattern.per_second(5_000), 250.0);
        // The counts of a renewal process whose periods vary by 10% at most are far more even than those of Poisson.
        assert!((count / 300.0 / 250.0 - 1.0).abs() < 0.01, "{count}");
    }

    #[test]
    fn arrivals_rotate_over_clients_and_steps() {
        let pattern = Pattern::Constant(Rate::per_second(10));
        let planned: Vec<_> =
            Schedule::new(&pattern, 3, 2, Duration::from_secs(1), 1).map(|(_, planned)| planned).collect();
        assert_eq!(planned[7], PlannedRequest { seq: 7, client: 1, step: 1 });
        assert_eq!(planned.len(), 10);
    }

    #[test]
    fn of_each_pair_a_coin_decides_which_side_comes_first() {
        let streams = vec![Stream { step: 1, period: Duration::from_secs(5) }];
        let fleet = FleetSchedule { streams, jitter: 0.1, restart: None };
        let rate = Rate::per_second(167);
        for pattern in [Pattern::Constant(rate), Pattern::Poisson(rate), Pattern::Jittered(rate), Pattern::Fleet(fleet)]
        {
            let schedule = Schedule::new(&pattern, 700, 2, Duration::from_secs(20), 4);
            let of = |part| Paired::new(schedule.clone(), part, 4).collect::<Vec<_>>();
            let (base, head) = (of(DuetPart::Heads), of(DuetPart::Tails));
            let all: Vec<_> = schedule.clone().collect();
            assert_eq!([base.len(), head.len()], [all.len() / 2; 2]);
            assert!(base.is_sorted_by_key(|(at_ns, _)| *at_ns) && head.is_sorted_by_key(|(at_ns, _)| *at_ns));
            let (mut base_first, mut steps) = (0, [0_usize; 2]);
            for (pair, (base, head)) in all.chunks_exact(2).zip(base.iter().zip(&head)) {
                assert_eq!(base.1, head.1, "the same request");
                let times = [base.0, head.0];
                assert!([[pair[0].0, pair[1].0], [pair[1].0, pair[0].0]].contains(&times), "{times:?}");
                base_first += u64::from(times[0] == pair[0].0);
                steps[base.1.step] += 1;
            }
            // Of 1,400 to 1,700 draws, half within eight standard deviations.
            assert!((530..=1_000).contains(&base_first), "{base_first}");
            let expected = if matches!(pattern, Pattern::Fleet(_)) { 0 } else { base.len() / 2 };
            assert!(steps[0].abs_diff(expected) <= 1, "{steps:?}");
        }
    }
}
