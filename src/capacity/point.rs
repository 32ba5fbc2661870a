//! A point: what was measured at one rate.

use serde::{Deserialize, Serialize};

use super::search::PointVerdict;
use crate::summary::facts::ThresholdFacts;
use crate::summary::{Summary, Verdict};

/// The part of the processors that is idle below which they were nearly all in use.
const NEARLY_ALL: f64 = 0.1;

/// One point of the curve.
#[derive(Debug, Deserialize, Serialize)]
pub struct MeasuredPoint {
    /// Its place, counted from 1.
    pub number: usize,
    /// The rate of the arrivals of the first workload, per second.
    pub rate_per_s: f64,
    /// The verdict.
    pub verdict: PointVerdict,
    /// The reasons for which it is invalid, or the breaches that no threshold states.
    pub reasons: Vec<String>,
    /// True if it is invalid for reasons of the generator and its machine alone.
    pub by_generator: bool,
    /// The reason for which it ended early, if it did.
    pub ended_early: Option<String>,
    /// The planned window, in seconds.
    pub window_s: f64,
    /// The figures of the first workload; absent where nothing was measured.
    pub figures: Option<PointFigures>,
    /// Every threshold beside its measured value.
    pub thresholds: Vec<ThresholdFacts>,
    /// The use of processors; absent where the window never began.
    pub cpu: Option<PointCpu>,
    /// The backends of the database that waited for a lock; absent where the database is not known.
    pub lock_waits: Option<LockWaits>,
}

/// The figures of a point.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct PointFigures {
    /// Measured seconds.
    pub measured_s: f64,
    /// Right answers per second.
    pub achieved_per_s: f64,
    /// The share of scheduled arrivals without the right answer, 0 to 1.
    pub error_share: Option<f64>,
    /// Response time of right answers, in microseconds; absent where fewer than ten samples lie beyond.
    pub p50_us: Option<f64>,
    /// See `p50_us`.
    pub p95_us: Option<f64>,
    /// See `p50_us`.
    pub p99_us: Option<f64>,
    /// The share of the window in which the generator's sending thread was on a CPU, 0 to 1.
    pub generator_busy_share: f64,
}

/// Processors in use within the window of a point.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct PointCpu {
    /// The processors of the machine on which generator and system may run.
    pub cpus: u32,
    /// Those that the system used; absent if it is not visible.
    pub system: Option<f64>,
    /// Those that PostgreSQL used; absent if it is not visible.
    pub postgresql: Option<f64>,
    /// Those that the generator used.
    pub generator: f64,
    /// Those that other processes and the host used.
    pub others: f64,
    /// Those that nothing used.
    pub idle: f64,
}

/// Backends that waited for a lock, of samples once a second.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct LockWaits {
    /// The mean of the samples.
    pub mean: f64,
    /// The highest sample.
    pub max: u64,
    /// The number of samples.
    pub samples: u64,
}

impl MeasuredPoint {
    /// Makes the point `number`, at a rate of which a run has this summary.
    pub fn of(number: usize, rate_per_s: f64, summary: &Summary) -> Self {
        let measured = summary.measured().next();
        let figures = measured.map(|(_, results)| {
            let right = results.latency.response.count as f64;
            let measured_s = results.arrivals.measured_s;
            PointFigures {
                measured_s,
                achieved_per_s: if measured_s > 0.0 { right / measured_s } else { 0.0 },
                error_share: results.error_share,
                p50_us: results.latency.response.p50_us,
                p95_us: results.latency.response.p95_us,
                p99_us: results.latency.response.p99_us,
                generator_busy_share: summary.generator.busy_share,
            }
        });
        let verdict = match summary.verdict {
            Verdict::Pass => PointVerdict::Within,
            Verdict::Breached => PointVerdict::Breached,
            Verdict::Invalid | Verdict::Smoke => PointVerdict::Invalid,
        };
        let reasons = if verdict == PointVerdict::Invalid { &summary.invalid } else { &summary.breaches };
        let windows = summary.evidence.iter().filter_map(|evidence| evidence.window.as_ref());
        let lock_waits = windows.map(|window| {
            let gauge = window.activity.backends.get("waiting_lock").copied().unwrap_or_default();
            LockWaits { mean: gauge.mean, max: gauge.max, samples: window.activity.samples }
        });
        let cpu = summary.machine_use.first().map(|used| PointCpu {
            cpus: used.cpus,
            system: used.mean.system,
            postgresql: used.mean.postgresql,
            generator: used.mean.generator,
            others: used.mean.others + used.mean.steal,
            idle: used.mean.idle,
        });
        Self {
            number,
            rate_per_s,
            verdict,
            reasons: reasons.clone(),
            by_generator: summary.repeatable,
            ended_early: summary.ended_early.clone(),
            window_s: summary.plans().next().map_or(0.0, |plan| plan.window_s),
            figures,
            thresholds: summary.thresholds.clone(),
            cpu,
            lock_waits: lock_waits.into_iter().next(),
        }
    }

    /// Makes the point `number` at a rate for which no load can be planned.
    pub fn unplanned(number: usize, rate_per_s: f64, why: String) -> Self {
        Self {
            number,
            rate_per_s,
            verdict: PointVerdict::Unplanned,
            reasons: vec![why],
            by_generator: false,
            ended_early: None,
            window_s: 0.0,
            figures: None,
            thresholds: Vec::new(),
            cpu: None,
            lock_waits: None,
        }
    }

    /// Describes what stood beside the thresholds in the window: the use of processors, and waits for locks.
    pub fn observations(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(cpu) = &self.cpu {
            let used = |name: &str, cpus: Option<f64>| {
                cpus.map_or_else(|| format!("{name} not visible"), |cpus| format!("{name} {cpus:.2}"))
            };
            found.push(format!(
                "processors in use, of {}: {}, {}, {}, {}",
                cpu.cpus,
                used("system", cpu.system),
                used("PostgreSQL", cpu.postgresql),
                used("generator", Some(cpu.generator)),
                used("others", Some(cpu.others)),
            ));
            if cpu.idle < NEARLY_ALL * f64::from(cpu.cpus) {
                found.push(format!("the machine's processors were nearly all in use: {:.2} were idle", cpu.idle));
            }
        }
        if let Some(figures) = &self.figures {
            found.push(format!(
                "the generator's sending thread was on a processor for {:.0}% of the window",
                figures.generator_busy_share * 100.0
            ));
        }
        found.push(match &self.lock_waits {
            None => "waits for locks are not known: no database was given".to_owned(),
            Some(LockWaits { samples: 0, .. }) => "waits for locks are not known: no sample was taken".to_owned(),
            Some(LockWaits { max: 0, samples, .. }) => format!("no backend waited for a lock in {samples} samples"),
            Some(LockWaits { mean, max, samples }) => {
                format!("backends that waited for a lock: {mean:.1} on average, {max} at most, in {samples} samples")
            }
        });
        found
    }
}
