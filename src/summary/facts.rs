//! The measured parts of a summary, as data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::measure::generator::GeneratorUse;
use crate::measure::observation::{self, Observation};
use crate::measure::recorder::Handshakes;
use crate::measure::segment::Segment;
use crate::measure::spread::ByteSpread;
use crate::measure::threshold::{Checked, Threshold};
use crate::measure::timeline::Second;
use crate::measure::validity::Work;
use crate::measure::{Distribution, Measurement, Outcome, Quantile, Tally};

/// The counts of a workload's arrivals.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ArrivalCounts {
    /// In the warm-up, not measured.
    pub warm_up: u64,
    /// Put into the window by the schedule.
    pub scheduled: u64,
    /// Those among them that were sent.
    pub started: u64,
    /// Those among them that were sent later than `max_lag_ms`.
    pub late: u64,
    /// Those among the late that had to wait for a connection.
    pub late_for_connection: u64,
    /// Scheduled and never sent.
    pub unsent: u64,
    /// Those among the late and the unsent that the generator caused.
    pub by_generator: u64,
    /// Those among the late and the unsent that waited for a connection and would have done so at a system that answers
    /// as it usually did: more connections would have spared them.
    pub by_too_few_connections: u64,
    /// Sent after the window, while other workloads were measured; not measured.
    pub later: u64,
    /// Measured seconds; fewer than planned in a partial run.
    pub measured_s: f64,
    /// True if the run was stopped before its window ended.
    pub partial: bool,
}

/// The count of one outcome.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OutcomeCount {
    /// The outcome.
    pub outcome: Outcome,
    /// The number of its occurrences.
    pub count: u64,
    /// The detail of its first occurrence, where it is not the right answer.
    pub example: Option<String>,
}

/// An observation of the answers that is neither a latency nor an error. Of the four figures, those that apply are
/// present.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ObservationFacts {
    /// The name of what was observed.
    pub name: Cow<'static, str>,
    /// The number of its occurrences.
    pub count: Option<u64>,
    /// The total of which `count` is a part.
    pub of: Option<u64>,
    /// Its duration, in seconds; absent too if it never occurred.
    pub duration_s: Option<f64>,
    /// Its rate, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_s: Option<f64>,
    /// The time for which it was awaited in vain, in seconds, where that is a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_within_s: Option<f64>,
}

/// One step of a scenario.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StepFacts {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Requests that the schedule put into the window, or that users sent; of journeys, those that came to it.
    pub scheduled: u64,
    /// The outcomes of those that were sent.
    pub outcomes: Vec<OutcomeCount>,
    /// Response time of right answers, from the intended start.
    pub response: DistributionFacts,
    /// Service time of right answers, from the actual start.
    pub service: DistributionFacts,
    /// The part of the response time that is the system's for certain; see [`Latency::certain`].
    #[serde(default)]
    pub certain: DistributionFacts,
}

/// One kind of side effect, as claimed and as counted.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkCount {
    /// Its name.
    pub name: Cow<'static, str>,
    /// The number that the answers claimed.
    pub claimed: u64,
    /// The number that was found.
    pub found: u64,
    /// The place where they were counted.
    pub source: Cow<'static, str>,
}

/// Latencies of right answers, except `schedule_lag` (all requests that were sent) and `failed_response`.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Latency {
    /// From the intended start.
    pub response: DistributionFacts,
    /// From the actual start.
    pub service: DistributionFacts,
    /// The generator's own part of the service time, at most: the time in which it worked on the request, or had not
    /// read an answer that may have come.
    #[serde(default)]
    pub own_part: DistributionFacts,
    /// The part of the response time that is the system's for certain: without the own part, without absences of the
    /// generator, and only the service time where the start was late. What the system took lies between this and
    /// `response`, in every quantile. Fewer than those where so many absences were in one answer's time that some are
    /// forgotten.
    #[serde(default)]
    pub certain: DistributionFacts,
    /// From the intended to the actual start; in a closed workload, the lag of the generator's timer.
    pub schedule_lag: DistributionFacts,
    /// Phase: TCP connect, of requests that opened a connection.
    pub dial: DistributionFacts,
    /// Phase: TLS handshake up to the first byte of the peer's answer, of requests that opened a connection.
    pub tls_hello: DistributionFacts,
    /// Phase: the rest of the TLS handshake.
    pub tls_finish: DistributionFacts,
    /// Phase: sending the request.
    pub send: DistributionFacts,
    /// Phase: waiting for the first byte.
    pub first_byte: DistributionFacts,
    /// Phase: receiving the rest.
    pub receive: DistributionFacts,
    /// Response time of everything but right answers.
    pub failed_response: DistributionFacts,
}

/// The lag of the generator's own timer, which ticks every 20 ms. Answers that arrive while the generator is busy with
/// others, starved of a CPU or stopped are read as late as that.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TimerFacts {
    /// The lag of its ticks in the window.
    pub lag: DistributionFacts,
    /// The number of ticks that came later than `max_lag_ms`.
    pub late: u64,
    /// The total absence of the generator at those ticks, in seconds.
    pub away_s: f64,
    /// The longest absence at once, in seconds.
    pub longest_away_s: f64,
}

impl TimerFacts {
    pub(super) fn of(measurement: &Measurement) -> Self {
        let timer = &measurement.timer;
        Self {
            lag: DistributionFacts::of(&timer.lag),
            late: timer.late,
            away_s: timer.total.as_secs_f64(),
            longest_away_s: timer.longest.as_secs_f64(),
        }
    }
}

/// Connections and their handshakes.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HandshakeFacts {
    /// The outcomes of connections that were tried and not opened.
    pub failed: Vec<OutcomeCount>,
    /// The duration of each attempt, TCP and TLS together, whatever its result.
    pub tried: DistributionFacts,
    /// TCP connect.
    pub dial: DistributionFacts,
    /// TLS handshake.
    pub tls: DistributionFacts,
    /// The kinds of handshake, with their counts.
    pub kinds: Vec<HandshakeKindCount>,
    /// The number that were full and should have been resumed, or the other way round.
    pub undeclared: u64,
    /// Bytes that each handshake read, to its end; absent without any.
    pub read_bytes: Option<SpreadFacts>,
    /// Bytes that each handshake wrote.
    pub written_bytes: Option<SpreadFacts>,
}

/// Least, most and mean of a number of bytes.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SpreadFacts {
    /// The least.
    pub min: u64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The most.
    pub max: u64,
}

/// One kind of handshake.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HandshakeKindCount {
    /// `full`, `hello-retry` or `resumed`.
    pub kind: Cow<'static, str>,
    /// As in `TLS1.3`.
    pub version: Cow<'static, str>,
    /// The cipher suite.
    pub suite: Cow<'static, str>,
    /// The key exchange group.
    pub group: Cow<'static, str>,
    /// The key of the peer's certificate.
    pub key: Cow<'static, str>,
    /// The number of certificates in its chain.
    pub chain_length: u8,
    /// The protocol agreed on by ALPN, or `-`.
    pub alpn: Cow<'static, str>,
    /// The number of its occurrences.
    pub count: u64,
}

/// A distribution of durations.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DistributionFacts {
    /// The number of samples.
    pub count: u64,
    /// The shortest, in microseconds.
    pub min_us: Option<f64>,
    /// The arithmetic mean, in microseconds.
    pub mean_us: Option<f64>,
    /// Quantiles in microseconds; absent where fewer than ten samples lie beyond.
    pub p50_us: Option<f64>,
    /// See `p50_us`.
    pub p90_us: Option<f64>,
    /// See `p50_us`.
    pub p95_us: Option<f64>,
    /// See `p50_us`.
    pub p99_us: Option<f64>,
    /// See `p50_us`.
    pub p99_9_us: Option<f64>,
    /// The longest, in microseconds.
    pub max_us: Option<f64>,
    /// All samples, in nanoseconds: an HDR histogram, V2 deflate, base64.
    pub hdr_ns: Option<String>,
}

/// Resources that the generator used.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GeneratorFacts {
    /// CPU time of the process within the window, in seconds.
    pub window_cpu_s: f64,
    /// The share of the window in which the generator's thread was on a CPU, 0 to 1: of several the busiest one.
    pub busy_share: f64,
    /// CPU time of the process while connections were opened, in seconds.
    pub opening_cpu_s: f64,
    /// The duration of that opening, in seconds.
    pub opening_s: f64,
    /// Resident memory at the end of the window, in bytes.
    pub rss_bytes: u64,
    /// The highest resident memory of the process, in bytes.
    pub peak_rss_bytes: u64,
    /// Resident memory that connections and window added, per connection, in bytes.
    pub rss_per_connection_bytes: Option<u64>,
    /// The number of memory allocations by the generator's thread within the window; absent where they are not counted.
    pub allocations: Option<u64>,
    /// The number of requests that ended within the window: of all workloads, those of a warm-up included.
    pub requests: u64,
    /// The kernel's scheduling of the generator's thread.
    pub scheduling: Cow<'static, str>,
    /// The number of its threads, each of which has a shard of the load.
    #[serde(default = "one")]
    pub threads: u64,
    /// The TLS library.
    pub tls: Cow<'static, str>,
}

/// The number of threads of runs from before there could be several.
fn one() -> u64 {
    1
}

/// The unit of a threshold's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// A share of the arrivals, 0 to 1.
    Share,
}

/// A threshold beside its measured value.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ThresholdFacts {
    /// The workload that it bounds; absent where it bounds all together, or there is only one.
    pub workload: Option<Cow<'static, str>>,
    /// The step that it bounds; absent where it bounds all steps together.
    pub step: Option<Cow<'static, str>>,
    /// The quantile that it bounds, as in `p95`; absent where it bounds a share.
    pub quantile: Option<String>,
    /// The name of the bounded measure.
    pub name: String,
    /// The unit of its figures.
    pub unit: Unit,
    /// The bound: the measure stays below it.
    pub limit: f64,
    /// The measured value; absent without enough samples.
    pub measured: Option<f64>,
    /// True if `measured` is the longest sample, which the quantile does not exceed (with a confidence of 95%): there
    /// are too few samples for the quantile itself.
    pub by_maximum: bool,
    /// True if the bound was kept; absent where the samples cannot decide.
    pub passed: Option<bool>,
    /// True if so many samples were beyond the limit by the system's own doing that it cannot be chance, with a
    /// confidence of 99.9%: the breach stands whatever else is wrong with the run.
    pub certain: bool,
    /// The number of such samples.
    pub beyond: u64,
    /// The number of all samples.
    pub of: u64,
}

/// The old harness's figures for a daemon, in its units, but from the intended start and handshake included. As there,
/// quantiles are stated however few samples lie beyond: [`Latency`] has only those with enough samples.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectorFacts {
    /// Response time of right answers in milliseconds, by nearest rank; absent without any.
    pub p50: Option<f64>,
    /// See `p50`.
    pub p95: Option<f64>,
    /// See `p50`.
    pub p99: Option<f64>,
    /// The longest, in milliseconds.
    pub max: Option<f64>,
    /// The mean, in milliseconds.
    pub avg: Option<f64>,
    /// The share of arrivals without the right answer, 0 to 1.
    pub error_rate: Option<f64>,
    /// Arrivals that were sent.
    pub iterations: u64,
}

impl ConnectorFacts {
    pub(super) fn of(measurement: &Measurement) -> Self {
        let response = &measurement.response;
        let ms = |ns: u64| ns as f64 / 1e6;
        let rank = |quantile: Quantile| (response.count() > 0).then(|| ms(response.value_ns(quantile.fraction())));
        Self {
            p50: rank(Quantile::P50),
            p95: rank(Quantile::P95),
            p99: rank(Quantile::P99),
            max: response.max_ns().map(ms),
            avg: response.mean_ns().map(|ns| (ns / 10.0).round() / 1e5),
            error_rate: measurement.error_share(),
            iterations: measurement.started,
        }
    }
}

/// One second of the warm-up or of the measured window, by intended start.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SecondFacts {
    /// Its number, from 0.
    pub second: usize,
    /// Arrivals sent.
    pub started: u64,
    /// Right answers among them.
    pub ok: u64,
    /// Response time in microseconds, to within 1%; absent where fewer than ten samples lie beyond.
    pub p50_us: Option<u64>,
    /// See `p50_us`.
    pub p95_us: Option<u64>,
    /// See `p50_us`.
    pub max_us: Option<u64>,
    /// All response times of the second, in microseconds: an HDR histogram, V2 deflate, base64.
    pub hdr_us: String,
}

/// A part of the window between whose ends the planned rate changes evenly, or not at all; by intended start.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SegmentFacts {
    /// Its beginning, in seconds of the window.
    pub begin_s: f64,
    /// Its planned end, in seconds of the window.
    pub end_s: f64,
    /// Its measured seconds: fewer than planned where the run ended in it, and 0 where the run ended before it.
    pub measured_s: f64,
    /// The planned arrivals per second at its beginning.
    pub from_per_s: f64,
    /// The planned arrivals per second at its end.
    pub to_per_s: f64,
    /// Arrivals that the schedule put into it.
    pub scheduled: u64,
    /// Those among them that were sent.
    pub started: u64,
    /// Arrivals without the right answer, unsent ones included.
    pub errors: u64,
    /// Right answers to its arrivals, per measured second of it; absent where nothing was measured.
    pub achieved_per_s: Option<f64>,
    /// Response time of right answers, from the intended start.
    pub response: DistributionFacts,
}

/// Returns the segments of a workload whose rate varies.
pub(super) fn segments(measurement: &Measurement) -> Vec<SegmentFacts> {
    let facts = measurement.segments.iter().map(|one| {
        let Segment { begin, end, from_per_s, to_per_s } = one.segment;
        let measured_s = measurement.window.min(end).saturating_sub(begin).as_secs_f64();
        let right = one.response.count();
        SegmentFacts {
            begin_s: begin.as_secs_f64(),
            end_s: end.as_secs_f64(),
            measured_s,
            from_per_s,
            to_per_s,
            scheduled: one.scheduled,
            started: one.started,
            errors: one.scheduled - right,
            achieved_per_s: (measured_s > 0.0).then(|| right as f64 / measured_s),
            response: DistributionFacts::of(&one.response),
        }
    });
    facts.collect()
}

impl ArrivalCounts {
    pub(super) fn of(measurement: &Measurement) -> Self {
        let ours = measurement.ours();
        Self {
            warm_up: measurement.warm_up_arrivals,
            scheduled: measurement.scheduled,
            started: measurement.started,
            late: measurement.late,
            late_for_connection: measurement.late_for_connection,
            unsent: measurement.unsent(),
            by_generator: ours.generator.late + ours.generator.unsent,
            by_too_few_connections: ours.pool.late + ours.pool.unsent,
            later: measurement.later_arrivals,
            measured_s: measurement.window.as_secs_f64(),
            partial: measurement.partial,
        }
    }
}

pub(super) fn outcomes(outcomes: &Tally<Outcome>, example: impl Fn(Outcome) -> Option<String>) -> Vec<OutcomeCount> {
    let counts = outcomes.sorted().into_iter();
    counts.map(|(outcome, count)| OutcomeCount { outcome, count, example: example(outcome) }).collect()
}

pub(super) fn example_of(measurement: &Measurement, outcome: Outcome) -> Option<String> {
    measurement.examples.iter().find(|(known, _)| *known == outcome).map(|(_, detail)| detail.clone())
}

/// Returns the steps if there are several: a single one is the whole workload.
pub(super) fn steps(measurement: &Measurement) -> Vec<StepFacts> {
    let several = measurement.steps.len() > 1;
    let facts = measurement.steps.iter().filter(|_| several).map(|step| StepFacts {
        name: step.name.into(),
        scheduled: step.scheduled,
        outcomes: outcomes(&step.outcomes, |_| None),
        response: DistributionFacts::of(&step.response),
        service: DistributionFacts::of(&step.service),
        certain: DistributionFacts::of(&step.certain),
    });
    facts.collect()
}

impl ObservationFacts {
    pub(super) fn of(observation: &Observation) -> Self {
        let name = observation.name.into();
        let facts = Self { name, count: None, of: None, duration_s: None, per_s: None, not_within_s: None };
        match observation.value {
            observation::Value::Count(count) => Self { count: Some(count), ..facts },
            observation::Value::Share { count, of } => Self { count: Some(count), of: Some(of), ..facts },
            observation::Value::Duration(span) => Self { duration_s: Some(span.as_secs_f64()), ..facts },
            observation::Value::PerSecond(per_s) => Self { per_s: Some(per_s), ..facts },
            observation::Value::Never => facts,
            observation::Value::NotWithin(span) => Self { not_within_s: Some(span.as_secs_f64()), ..facts },
        }
    }
}

impl WorkCount {
    pub(super) fn of(work: &Work) -> Self {
        Self { name: work.name.into(), claimed: work.claimed, found: work.found, source: work.source.into() }
    }
}

impl StepFacts {
    /// Returns its distributions, by the names of [`WorkloadResults::distributions`](super::WorkloadResults::distributions).
    pub fn distributions(&self) -> [(&'static str, &DistributionFacts); 3] {
        [("response", &self.response), ("service", &self.service), ("certain", &self.certain)]
    }
}

impl Latency {
    /// Returns the phases of an exchange by name, in their order.
    pub fn phases(&self) -> [(&'static str, &DistributionFacts); 6] {
        [
            ("dial", &self.dial),
            ("tls_hello", &self.tls_hello),
            ("tls_finish", &self.tls_finish),
            ("send", &self.send),
            ("first_byte", &self.first_byte),
            ("receive", &self.receive),
        ]
    }

    /// Returns the most that the generator may have added to the p95 of the response time, and that p95, both in
    /// microseconds; `None` if either is not known.
    pub fn own_of_p95_us(&self) -> Option<(f64, f64)> {
        let (response_us, certain_us) = (self.response.p95_us?, self.certain.p95_us?);
        (self.certain.count == self.response.count).then(|| ((response_us - certain_us).max(0.0), response_us))
    }

    pub(super) fn of(measurement: &Measurement) -> Self {
        let phases = &measurement.phases;
        Self {
            response: DistributionFacts::of(&measurement.response),
            service: DistributionFacts::of(&measurement.service),
            own_part: DistributionFacts::of(&measurement.own_part),
            certain: DistributionFacts::of(&measurement.certain),
            schedule_lag: DistributionFacts::of(&measurement.lag),
            dial: DistributionFacts::of(&phases.dial),
            tls_hello: DistributionFacts::of(&phases.hello),
            tls_finish: DistributionFacts::of(&phases.finish),
            send: DistributionFacts::of(&phases.send),
            first_byte: DistributionFacts::of(&phases.first_byte),
            receive: DistributionFacts::of(&phases.receive),
            failed_response: DistributionFacts::of(&measurement.failed_response),
        }
    }
}

impl HandshakeFacts {
    pub(super) fn of(handshakes: &Handshakes) -> Self {
        let kinds = handshakes.kinds.sorted().into_iter().map(|(handshake, count)| HandshakeKindCount {
            kind: handshake.kind.label().into(),
            version: handshake.version.into(),
            suite: handshake.suite.into(),
            group: handshake.group.into(),
            key: handshake.key.into(),
            chain_length: handshake.chain_length,
            alpn: handshake.alpn.into(),
            count,
        });
        Self {
            failed: outcomes(&handshakes.failed, |_| None),
            tried: DistributionFacts::of(&handshakes.tried),
            dial: DistributionFacts::of(&handshakes.dial),
            tls: DistributionFacts::of(&handshakes.tls),
            kinds: kinds.collect(),
            undeclared: handshakes.undeclared,
            read_bytes: SpreadFacts::of(&handshakes.read_bytes),
            written_bytes: SpreadFacts::of(&handshakes.written_bytes),
        }
    }
}

impl SpreadFacts {
    fn of(spread: &ByteSpread) -> Option<Self> {
        let ((min, max), mean) = (spread.range()?, spread.mean()?);
        Some(Self { min, mean: (mean * 10.0).round() / 10.0, max })
    }
}

impl DistributionFacts {
    /// Reads its histogram; empty where there is none.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn distribution(&self) -> Result<Distribution> {
        self.hdr_ns.as_deref().map_or_else(|| Ok(Distribution::default()), Distribution::from_base64)
    }

    /// Describes a distribution.
    pub fn of(distribution: &Distribution) -> Self {
        if distribution.count() == 0 {
            return Self::default();
        }
        let us = |ns: u64| ns as f64 / 1e3;
        let [p50_us, p90_us, p95_us, p99_us, p99_9_us] =
            Quantile::STATED.map(|quantile| distribution.quantile_ns(quantile).map(us));
        Self {
            count: distribution.count(),
            min_us: distribution.min_ns().map(us),
            mean_us: distribution.mean_ns().map(|ns| (ns / 10.0).round() / 100.0),
            p50_us,
            p90_us,
            p95_us,
            p99_us,
            p99_9_us,
            max_us: distribution.max_ns().map(us),
            hdr_ns: Some(distribution.to_base64()),
        }
    }
}

impl GeneratorFacts {
    pub(super) fn of(usage: &GeneratorUse) -> Self {
        Self {
            window_cpu_s: usage.window_cpu_s(),
            busy_share: usage.busy_share(),
            opening_cpu_s: usage.opening_cpu_s(),
            opening_s: usage.opening().as_secs_f64(),
            rss_bytes: usage.rss_bytes(),
            peak_rss_bytes: usage.peak_rss_bytes(),
            rss_per_connection_bytes: usage.rss_per_connection_bytes(),
            allocations: usage.allocations(),
            requests: usage.requests(),
            scheduling: usage.scheduling().into(),
            threads: usage.threads().max(1) as u64,
            tls: crate::wire::tls::PROVIDER.into(),
        }
    }
}

impl ThresholdFacts {
    /// Returns its name, after that of its workload where it bounds one of several.
    pub fn title(&self) -> String {
        self.workload.as_ref().map_or_else(|| self.name.clone(), |workload| format!("{workload}: {}", self.name))
    }

    /// Reports whether it bounds the share of arrivals that are errors.
    pub fn bounds_errors(&self) -> bool {
        self.unit == Unit::Share && self.name != Threshold::Opening(0.0).to_string()
    }

    pub(super) fn of(checked: &Checked) -> Self {
        let (unit, scale) = match checked.threshold {
            Threshold::Response(..) | Threshold::Step(..) => (Unit::Ms, 1e-6),
            Threshold::Errors(_) | Threshold::Faults(_) | Threshold::Opening(_) => (Unit::Share, 1.0),
        };
        let (step, quantile) = match checked.threshold {
            Threshold::Response(quantile, _) => (None, Some(quantile)),
            Threshold::Step(step, quantile, _) => (Some(step), Some(quantile)),
            Threshold::Errors(_) | Threshold::Faults(_) | Threshold::Opening(_) => (None, None),
        };
        Self {
            workload: checked.workload.map(Cow::from),
            step: step.map(Cow::from),
            quantile: quantile.map(|quantile| quantile.to_string()),
            name: checked.threshold.to_string(),
            unit,
            limit: checked.threshold.limit() * scale,
            measured: checked.measured.map(|measured| measured * scale),
            by_maximum: checked.by_maximum,
            passed: checked.passed(),
            certain: checked.certain,
            beyond: checked.beyond,
            of: checked.had,
        }
    }
}

pub(super) fn seconds<'s>(seconds: impl Iterator<Item = &'s Second>) -> Vec<SecondFacts> {
    let facts = seconds.enumerate().map(|(second, facts)| SecondFacts {
        second,
        started: facts.started,
        ok: facts.ok,
        p50_us: facts.response_us(Quantile::P50),
        p95_us: facts.response_us(Quantile::P95),
        max_us: facts.response_max_us(),
        hdr_us: facts.to_base64(),
    });
    facts.collect()
}
