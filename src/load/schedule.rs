//! Arrival schedules: the intended start and the client of each request. Pure and seeded; the same plan gives the same
//! schedule.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::arrival::PlannedRequest;
use super::plan::DuetPart;
use super::profile::{EVENT, RateClock, RateCurve};
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
    /// At a rate that varies: the warm-up has its first rate, the time after the window its last. Clients and steps
    /// take turns.
    Varying(ArrivalSpread, RateCurve),
    /// Each client at its own times.
    Fleet(FleetSchedule),
}

/// The spread of arrivals that come at a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArrivalSpread {
    /// One every 1/rate.
    #[default]
    Constant,
    /// As a Poisson process.
    Poisson,
    /// One in each slot of 1/rate, at a random time within it.
    Jittered,
}

impl ArrivalSpread {
    /// Returns the pattern of this spread at `rate`.
    pub fn at(self, rate: Rate) -> Pattern {
        match self {
            Self::Constant => Pattern::Constant(rate),
            Self::Poisson => Pattern::Poisson(rate),
            Self::Jittered => Pattern::Jittered(rate),
        }
    }
}

impl FromStr for ArrivalSpread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "poisson" => Ok(Self::Poisson),
            "jittered" => Ok(Self::Jittered),
            _ => Err(format!("`{text}` is not a spread of arrivals: give constant, jittered or poisson")),
        }
    }
}

impl fmt::Display for ArrivalSpread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
            Self::Jittered => "jittered",
        })
    }
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
    /// Returns the mean arrivals per second of the window with this number of clients.
    pub fn per_second(&self, clients: u64) -> f64 {
        match self {
            Self::Constant(rate) | Self::Poisson(rate) | Self::Jittered(rate) => rate.per_second_f64(),
            Self::Varying(_, curve) => curve.mean_per_second(),
            Self::Fleet(fleet) => {
                let of_one: f64 = fleet.streams.iter().map(|stream| 1.0 / stream.period.as_secs_f64()).sum();
                of_one * clients as f64
            }
        }
    }

    /// Returns its highest rate; `None` for a fleet, whose clients have their own times.
    pub fn peak(&self) -> Option<Rate> {
        match self {
            Self::Constant(rate) | Self::Poisson(rate) | Self::Jittered(rate) => Some(*rate),
            Self::Varying(_, curve) => Some(curve.peak()),
            Self::Fleet(_) => None,
        }
    }

    /// Returns the arrivals per second where they are most frequent: for bounds on capacity.
    pub fn peak_per_second(&self, clients: u64) -> f64 {
        self.peak().map_or_else(|| self.per_second(clients), Rate::per_second_f64)
    }

    /// Returns the course of its rate, if that varies.
    pub fn curve(&self) -> Option<&RateCurve> {
        if let Self::Varying(_, curve) = self { Some(curve) } else { None }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(_) => ArrivalSpread::Constant.fmt(f),
            Self::Poisson(_) => ArrivalSpread::Poisson.fmt(f),
            Self::Jittered(_) => ArrivalSpread::Jittered.fmt(f),
            Self::Varying(spread, _) => spread.fmt(f),
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
    Varying { spread: ArrivalSpread, clock: RateClock, rng: Xoshiro256PlusPlus, units: u128 },
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
            Pattern::Varying(spread, curve) => {
                Source::Varying { spread: *spread, clock: RateClock::new(curve), rng, units: 0 }
            }
            Pattern::Fleet(fleet) => Source::Fleet(Merge::new(fleet, clients, rng)),
        };
        Self { source, clients: clients.max(1), steps: steps.max(1) as u64, end_ns: span.as_nanos() as u64, seq: 0 }
    }

    /// Puts a warm-up at the beginning of the span: only after it does a rate vary that varies.
    pub fn with_warm_up(self, warm_up: Duration) -> Self {
        let source = match self.source {
            Source::Varying { spread, clock, rng, units } => {
                Source::Varying { spread, clock: clock.after(warm_up), rng, units }
            }
            other => other,
        };
        Self { source, ..self }
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
            Source::Varying { spread, clock, rng, units } => {
                // Those of the rate 1, in units of which an event has so many that rounding them down loses nothing.
                let slot = u128::from(seq) * EVENT;
                let at_ns = match spread {
                    ArrivalSpread::Constant => clock.time_ns(slot),
                    ArrivalSpread::Poisson => {
                        *units += (exponential(rng) * EVENT as f64) as u128;
                        clock.time_ns(*units)
                    }
                    ArrivalSpread::Jittered => clock.time_ns(slot + uniform(rng, EVENT as f64) as u128),
                };
                // As above.
                let ends_after = *spread == ArrivalSpread::Jittered && at_ns >= self.end_ns;
                turn(if ends_after && clock.time_ns(slot) < self.end_ns { self.end_ns - 1 } else { at_ns })
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
    use crate::load::profile::RateProfile;
    use crate::load::profile::tests::profiles;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Returns the arrivals of a rate that varies over a minute, after a warm-up of 3 s and before 4 s more.
    fn varying(spread: ArrivalSpread, profile: &RateProfile, seed: u64) -> (RateCurve, Vec<u64>) {
        let curve = profile.over(MINUTE).unwrap();
        let [warm_up, goes_on] = [3, 4].map(Duration::from_secs);
        let pattern = Pattern::Varying(spread, curve.clone());
        let schedule = Schedule::new(&pattern, 1, 1, warm_up + MINUTE + goes_on, seed).with_warm_up(warm_up);
        (curve, schedule.map(|(at_ns, _)| at_ns).collect())
    }

    /// Returns the arrivals that each part of the span should have, and those that it has: of the warm-up, the
    /// segments, and the time after the window.
    fn counts(curve: &RateCurve, starts: &[u64]) -> Vec<(f64, f64)> {
        let in_s = |from: f64, to: f64| starts.iter().filter(|at| (from..to).contains(&(**at as f64 / 1e9))).count();
        let segments = curve.segments();
        let mut parts = vec![(3.0 * segments[0].from_per_s, in_s(0.0, 3.0) as f64)];
        parts.extend(segments.iter().map(|one| {
            let (begin_s, end_s) = (one.begin.as_secs_f64(), one.end.as_secs_f64());
            let area = (one.from_per_s + one.to_per_s) / 2.0 * (end_s - begin_s);
            (area, in_s(3.0 + begin_s, 3.0 + end_s) as f64)
        }));
        parts.push((4.0 * segments[segments.len() - 1].to_per_s, in_s(63.0, 67.0) as f64));
        parts
    }

    fn moderate() -> impl Strategy<Value = Rate> + Clone {
        (1u64..200).prop_map(Rate::per_second)
    }

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
        fn a_rate_that_does_not_change_is_a_constant_one(rate in rates(), steps in 1usize..7, span_ms in 1u64..5_000) {
            let warm_up = Duration::from_millis(span_ms / 3);
            let curve = RateProfile::Steps(vec![rate; steps]).over(Duration::from_millis(span_ms)).unwrap();
            let pattern = Pattern::Varying(ArrivalSpread::Constant, curve);
            // The last second is after the window.
            let span = warm_up + Duration::from_millis(span_ms + 1_000);
            let varying = Schedule::new(&pattern, 1, 1, span, 1).with_warm_up(warm_up);
            let constant = Schedule::new(&Pattern::Constant(rate), 1, 1, span, 1);
            prop_assert!(varying.eq(constant));
        }

        #[test]
        fn every_part_of_a_varying_rate_has_its_arrivals(profile in profiles(moderate()), seed: u64) {
            for (spread, most) in [(ArrivalSpread::Constant, 1.0), (ArrivalSpread::Jittered, 2.0)] {
                let (curve, starts) = varying(spread, &profile, seed);
                // The warm-up's rate may be another than that at the beginning of the window, where it jumps.
                for (planned, found) in counts(&curve, &starts).into_iter().skip(1) {
                    prop_assert!((planned - found).abs() <= most + 1e-6, "{}: {} of {}", spread, found, planned);
                }
                prop_assert!(starts.is_sorted() && starts.last().is_none_or(|at| *at < 67_000_000_000));
            }
        }

        #[test]
        fn poisson_arrivals_of_a_varying_rate_have_its_counts(profile in profiles(moderate()), seed: u64) {
            let (curve, starts) = varying(ArrivalSpread::Poisson, &profile, seed);
            prop_assert!(starts.is_sorted());
            for (planned, found) in counts(&curve, &starts).into_iter().skip(1) {
                // Eight standard deviations, and a little for small means, whose tails are longer.
                prop_assert!((planned - found).abs() <= 8.0 * planned.sqrt() + 12.0, "{} of {}", found, planned);
            }
            let (_, again) = varying(ArrivalSpread::Poisson, &profile, seed);
            prop_assert_eq!(starts, again);
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
    fn warm_up_and_later_arrivals_have_the_rates_at_the_edges() {
        let profile: RateProfile = "spike:20/s,400/s@0s+60s".parse().unwrap();
        for spread in [ArrivalSpread::Constant, ArrivalSpread::Jittered] {
            let (curve, starts) = varying(spread, &profile, 1);
            let parts: Vec<f64> = counts(&curve, &starts).into_iter().map(|(_, found)| found).collect();
            // The spike fills the window: its base rate is left before and after.
            assert_eq!(parts, [60.0, 24_000.0, 80.0], "{spread}");
        }
    }

    #[test]
    fn arrivals_of_a_ramp_come_when_its_integral_says() {
        let profile: RateProfile = "ramp:1/s-3/s".parse().unwrap();
        let pattern = Pattern::Varying(ArrivalSpread::Constant, profile.over(Duration::from_secs(4)).unwrap());
        let starts: Vec<u64> =
            Schedule::new(&pattern, 1, 1, Duration::from_secs(4), 1).map(|(at_ns, _)| at_ns).collect();
        // t + t²/4 = n, so that t = 2(√(1 + n) − 1).
        let expected: Vec<u64> = (0..8).map(|n| (2e9 * (f64::from(1 + n).sqrt() - 1.0)) as u64).collect();
        assert_eq!(starts, expected);
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
        let curve = "ramp:67/s-267/s".parse::<RateProfile>().unwrap().over(Duration::from_secs(20)).unwrap();
        let varying = Pattern::Varying(ArrivalSpread::Poisson, curve);
        let fleet = Pattern::Fleet(fleet);
        for pattern in [Pattern::Constant(rate), Pattern::Poisson(rate), Pattern::Jittered(rate), varying, fleet] {
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
