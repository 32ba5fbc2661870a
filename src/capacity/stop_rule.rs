//! The length of a point, and the rule that ends one before it drowns the system.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::load::plan::{Model, Plan};
use crate::load::schedule::Pattern;
use crate::measure::Quantile;
use crate::measure::threshold::Threshold;
use crate::run::Workload;

/// Samples beyond those that a quantile needs, as a share of them: a few arrivals fail, and random ones come short.
const SPARE_SAMPLES: f64 = 0.1;
/// Arrivals beyond the bound on those in flight, in standard deviations of their number: random arrivals come in
/// bursts.
const SPARE_DEVIATIONS: f64 = 4.0;

/// Returns the rate of a workload's arrivals, per second.
///
/// # Errors
/// If it has none that can be varied: its users wait for answers, or its clients have their own schedule.
pub fn rate_per_s(workload: &Workload) -> Result<f64> {
    match &workload.plan.model {
        Model::Closed { .. } => Err(Error::usage(format!(
            "{}: its users wait for their answers, so that the system sets its pace, and no rate can be raised",
            workload.name
        ))
        .with_hint("search with an open workload")),
        Model::Open { pattern: Pattern::Fleet(_), .. } => Err(Error::usage(format!(
            "{}: its agents have their own schedule, so that its rate cannot be varied",
            workload.name
        ))
        .with_hint("search with a workload that has a rate: --fleet contract")),
        Model::Open { pattern, .. } if pattern.curve().is_some() => Err(Error::usage(format!(
            "{}: its rate varies over the window, and a search needs one rate for each point",
            workload.name
        ))
        .with_hint("leave out the rate profile")),
        Model::Open { pattern, clients, .. } => Ok(pattern.per_second(*clients)),
    }
}

/// Returns the part of a plan's arrivals that a threshold is about, 0 to 1: steps take turns, and a journey has all of
/// its own.
fn part(threshold: Threshold, plan: &Plan) -> f64 {
    match threshold {
        Threshold::Step(..) => 1.0 / plan.steps.max(1) as f64,
        _ => 1.0,
    }
}

/// Returns the quantile of a response time that a threshold bounds, and the bound.
fn bounded(threshold: Threshold) -> Option<(Quantile, Duration)> {
    match threshold {
        Threshold::Response(quantile, limit) | Threshold::Step(_, quantile, limit) => Some((quantile, limit)),
        Threshold::Errors(_) | Threshold::Faults(_) | Threshold::Opening(_) => None,
    }
}

/// Returns the time in which every threshold of a workload has its samples at `per_s`, in seconds.
pub fn sampling_s(workload: &Workload, per_s: f64) -> f64 {
    let seconds = workload.thresholds.iter().map(|threshold| {
        let samples = threshold.samples_needed() as f64 * (1.0 + SPARE_SAMPLES);
        samples / (per_s * part(*threshold, &workload.plan))
    });
    seconds.fold(0.0, f64::max)
}

/// Returns the shortest window in which every threshold of a workload has its samples at `per_s`, in whole seconds.
pub fn window(workload: &Workload, per_s: f64) -> Duration {
    Duration::from_secs(sampling_s(workload, per_s).ceil() as u64)
}

/// Returns the number of arrivals in flight at which a point of these workloads ends: so many that a threshold is
/// breached whatever follows.
///
/// Within a bound T there are λ·T arrivals, so that of more in flight some are older than T; a quantile q is breached
/// once (1 − q)·λ·window of them are. So λ·(T + (1 − q)·window) in flight are a breach for certain, whichever request
/// is answered first. A workload without a bound on its response time has its timeout as T, and q = 1. So has one of
/// journeys with bounds on steps alone: those in flight may all be in a step that has none.
pub fn most_in_flight<'w>(workloads: impl IntoIterator<Item = &'w Workload>) -> Result<u64> {
    let mut all = 0.0;
    for workload in workloads {
        let (per_s, plan) = (rate_per_s(workload)?, &workload.plan);
        let bound = |threshold: &Threshold| {
            let (quantile, limit) = bounded(*threshold)?;
            let beyond = (1.0 - quantile.fraction()) * plan.window.as_secs_f64();
            Some(per_s * part(*threshold, plan) * (limit.as_secs_f64() + beyond))
        };
        let least = |of: &dyn Fn(&Threshold) -> bool| {
            workload.thresholds.iter().filter(|one| of(one)).filter_map(bound).fold(f64::INFINITY, f64::min)
        };
        let of_step = |name: &'static str| move |one: &Threshold| matches!(one, Threshold::Step(of, ..) if *of == name);
        let mut names: Vec<_> = workload.thresholds.iter().filter_map(step).collect();
        names.sort_unstable();
        names.dedup();
        let by_timeout = per_s * plan.timeout.as_secs_f64();
        let of_steps = match plan.steps {
            // Its steps do not share the arrivals: there is one, or they follow one another.
            ..=1 => by_timeout,
            steps => {
                let unbounded = by_timeout * steps.saturating_sub(names.len()) as f64 / steps as f64;
                names.iter().map(|name| least(&of_step(name))).sum::<f64>() + unbounded
            }
        };
        let of_all = least(&|one| matches!(one, Threshold::Response(..)));
        let bound = of_all.min(of_steps);
        all += bound + SPARE_DEVIATIONS * bound.sqrt();
    }
    Ok(all.ceil() as u64 + 1)
}

fn step(threshold: &Threshold) -> Option<&'static str> {
    match threshold {
        Threshold::Step(name, ..) => Some(name),
        _ => None,
    }
}

/// Returns the strictest bound on a response time of these workloads; `None` if there is none.
pub fn strictest<'w>(workloads: impl IntoIterator<Item = &'w Workload>) -> Option<Duration> {
    let thresholds = workloads.into_iter().flat_map(|workload| &workload.thresholds);
    thresholds.filter_map(|threshold| bounded(*threshold)).map(|(_, limit)| limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::dispatcher::Affinity;
    use crate::load::plan::Opening;
    use crate::load::rate::Rate;

    fn workload(per_s: u64, steps: usize, thresholds: Vec<Threshold>) -> Workload {
        let pattern = Pattern::Constant(Rate::per_second(per_s));
        let plan = Plan {
            model: Model::Open { pattern, clients: 1, affinity: Affinity::Any },
            steps,
            starts_after: Duration::ZERO,
            goes_on: Duration::ZERO,
            warm_up: Duration::ZERO,
            window: Duration::from_secs(20),
            connections: 1,
            further: 0,
            opening: Opening::ByFirstRequest,
            timeout: Duration::from_secs(10),
            max_lag: Duration::from_millis(10),
            rng_seed: 1,
            part: None,
        };
        Workload { name: "w", plan, thresholds }
    }

    fn response(quantile: Quantile, ms: u64) -> Threshold {
        Threshold::Response(quantile, Duration::from_millis(ms))
    }

    #[test]
    fn a_window_has_ten_samples_beyond_each_quantile() {
        let of = |per_s, steps, thresholds| window(&workload(per_s, steps, thresholds), per_s as f64).as_secs();
        // 1,000 and a tenth at 100/s; a step that is every fourth arrival takes four times as long.
        assert_eq!(of(100, 1, vec![response(Quantile::P95, 500), response(Quantile::P99, 1_000)]), 11);
        let step = Threshold::Step("s", Quantile::P95, Duration::from_millis(300));
        assert_eq!(of(100, 4, vec![step]), 9);
        assert_eq!(of(100, 1, Vec::new()), 0);
    }

    #[test]
    fn a_point_ends_only_once_its_breach_is_certain() {
        let most = |thresholds| most_in_flight([&workload(100, 1, thresholds)]).unwrap();
        // 100/s × (1 s + 1% of 20 s) and four standard deviations; p95 below 500 ms allows 5% of 20 s.
        assert_eq!(most(vec![response(Quantile::P99, 1_000)]), 120 + 44 + 1);
        assert_eq!(most(vec![response(Quantile::P99, 1_000), response(Quantile::P95, 500)]), 120 + 44 + 1);
        assert_eq!(most(Vec::new()), 1_000 + 127 + 1);
        // One of two steps has a bound: 50/s × (0.3 s + 5% of 20 s), and the other the timeout.
        let step = Threshold::Step("s", Quantile::P95, Duration::from_millis(300));
        let two = most_in_flight([&workload(100, 2, vec![step])]).unwrap();
        assert_eq!(two, (65.0 + 500.0 + 4.0 * 565_f64.sqrt()).ceil() as u64 + 1);
        // Journeys may be in a step without a bound, up to the timeout; a bound on all of a journey counts.
        assert_eq!(most(vec![step]), 1_000 + 127 + 1);
        assert_eq!(most(vec![step, response(Quantile::P99, 1_000)]), 120 + 44 + 1);
    }

    #[test]
    fn workloads_without_a_rate_are_refused_by_name() {
        let mut users = workload(1, 1, Vec::new());
        users.plan.model = Model::Closed { think: Duration::ZERO, rounds: None };
        assert!(rate_per_s(&users).unwrap_err().to_string().contains("w: its users wait for their answers"));
    }
}
