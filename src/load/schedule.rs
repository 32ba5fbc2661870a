//! Arrival schedules: when each request is meant to start. Pure and seeded; the same plan gives the same schedule.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use super::rate::Rate;

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly: one every 1/rate.
    #[default]
    Constant,
    /// As a Poisson process: independent, exponentially distributed gaps, as a large population makes.
    Poisson,
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "poisson" => Ok(Self::Poisson),
            _ => Err(format!("`{text}`: arrivals are constant or poisson")),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        })
    }
}

/// The intended starts of an open workload, in nanoseconds after its beginning, never decreasing.
#[derive(Clone, Debug)]
pub struct Schedule {
    gaps: Gaps,
    end_ns: u64,
}

#[derive(Clone, Debug)]
enum Gaps {
    Constant { rate: Rate, index: u64 },
    Poisson { mean_ns: f64, rng: Xoshiro256PlusPlus, at_ns: f64 },
}

impl Schedule {
    /// Arrivals at `rate` over `span`. `seed` matters for [`Arrivals::Poisson`] only.
    pub fn new(arrivals: Arrivals, rate: Rate, span: Duration, seed: u64) -> Self {
        let gaps = match arrivals {
            Arrivals::Constant => Gaps::Constant { rate, index: 0 },
            Arrivals::Poisson => Gaps::Poisson {
                mean_ns: 1e9 / rate.per_second_f64(),
                rng: Xoshiro256PlusPlus::seed_from_u64(seed),
                at_ns: 0.0,
            },
        };
        Self { gaps, end_ns: span.as_nanos() as u64 }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let at_ns = match &mut self.gaps {
            Gaps::Constant { rate, index } => {
                let at_ns = rate.offset_ns(*index);
                *index += 1;
                at_ns
            }
            Gaps::Poisson { mean_ns, rng, at_ns } => {
                *at_ns += exponential(rng) * *mean_ns;
                *at_ns as u64
            }
        };
        (at_ns < self.end_ns).then_some(at_ns)
    }
}

/// A draw from the exponential distribution of mean 1, by inversion (Devroye, "Non-Uniform Random Variate
/// Generation", 1986, II.2.1).
fn exponential(rng: &mut Xoshiro256PlusPlus) -> f64 {
    // 53 random bits, moved into (0, 1] so that the logarithm is finite.
    let uniform = ((rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -uniform.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates() -> impl Strategy<Value = Rate> {
        (1u64..20_000, prop::sample::select(vec!["s", "m"]))
            .prop_map(|(events, unit)| format!("{events}/{unit}").parse().unwrap())
    }

    fn schedule(arrivals: Arrivals, rate: Rate, span_ms: u64, seed: u64) -> Vec<u64> {
        Schedule::new(arrivals, rate, Duration::from_millis(span_ms), seed).collect()
    }

    proptest! {
        #[test]
        fn constant_holds_the_count_in_any_window(rate in rates(), span_ms in 1u64..20_000, from_ms in 0u64..10_000) {
            let starts = schedule(Arrivals::Constant, rate, span_ms, 0);
            prop_assert_eq!(starts.len() as u64, rate.count_within(Duration::from_millis(span_ms)));

            let (from_ns, to_ns) = (from_ms * 1_000_000, (from_ms + 1_000) * 1_000_000);
            if to_ns <= span_ms * 1_000_000 {
                let count = starts.iter().filter(|at| (from_ns..to_ns).contains(at)).count() as f64;
                prop_assert!((count - rate.per_second_f64()).abs() <= 1.0, "{} in a second of {}", count, rate);
            }
        }

        #[test]
        fn starts_are_monotone_and_inside_the_span(
            rate in rates(), span_ms in 1u64..5_000, seed: u64, poisson: bool
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let starts = schedule(arrivals, rate, span_ms, seed);
            prop_assert!(starts.is_sorted());
            prop_assert!(starts.iter().all(|at| *at < span_ms * 1_000_000));
        }

        #[test]
        fn the_same_seed_gives_the_same_schedule(rate in rates(), seed: u64) {
            let [one, two, other] = [seed, seed, !seed].map(|seed| schedule(Arrivals::Poisson, rate, 5_000, seed));
            prop_assert_eq!(&one, &two);
            prop_assert!(one != other || one.is_empty());
        }

        #[test]
        fn poisson_has_the_rate_and_the_spread_of_poisson(seed: u64) {
            let starts = schedule(Arrivals::Poisson, Rate::per_second(1_000), 20_000, seed);
            // Standard deviation of a Poisson count is its root: 6 of them make a false alarm one in 500 million.
            prop_assert!((starts.len() as f64 - 20_000.0).abs() < 6.0 * 20_000f64.sqrt(), "{}", starts.len());
            let gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            prop_assert!((variance.sqrt() / mean - 1.0).abs() < 0.1, "coefficient of variation {}", variance.sqrt() / mean);
        }
    }
}
