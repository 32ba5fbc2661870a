//! The measures of a run: their names, kinds, and values in a summary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bootstrap::Seconds;
use super::histogram::Histogram;
use crate::error::Result;
use crate::evidence::Evidence;
use crate::measure::Quantile;
use crate::seed::DEAD_ROWS;
use crate::summary::facts::{DistributionFacts, HandshakeFacts, HandshakeKindCount};
use crate::summary::plan::{ConnectionUse, LoadModel, PlanFacts};
use crate::summary::{Summary, WorkloadResults};
use crate::system::SystemKind;

/// The way in which a measure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasureKind {
    /// It depends on time: two runs of the same thing differ. Changes are shares of the base.
    Timed,
    /// A share of arrivals, 0 to 1. Changes are differences.
    Share,
    /// A count that does not depend on time: the same work gives the same, on any machine, within its tolerance.
    Exact,
}

/// The direction that is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Lower is better.
    Lower,
    /// Higher is better.
    Higher,
}

/// The value of one measure in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasureValue {
    /// Its kind, which decides how it is compared.
    pub kind: MeasureKind,
    /// The direction that is better.
    pub better: Better,
    /// Its value, in the unit at the end of its name; `None` where the run has too few samples.
    pub value: Option<f64>,
    /// The error of the value, judged by this run alone: for a timed measure the standard error of its logarithm, for a
    /// share its standard error.
    pub error: Option<f64>,
    /// For an exact measure, the share of the base up to which a difference is none.
    pub tolerance: f64,
}

/// The readings of a run, by name.
pub type Readings = BTreeMap<String, MeasureValue>;

/// The quantiles that are compared.
const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P95, Quantile::P99];
/// Two counts per arrival that differ by less are the same: the remainder of a division.
const FLOAT_NOISE: f64 = 1e-6;
/// The tolerance for certctl's background loops, which query the database a fixed number of times a minute, whatever
/// the load.
const BACKGROUND: f64 = 0.005;
/// The tolerance for WAL, which depends a little on what else a page holds: index splits, pages pruned on the way.
const WAL_VARIES: f64 = 0.02;
/// The whole pages per arrival from which bytes of WAL say more about checkpoints than about arrivals.
const WHOLE_PAGES: f64 = 0.001;
/// The tolerance for bytes of a handshake: a signature of ECDSA is encoded in 70 to 72 bytes, and a handshake has a
/// few.
const SIGNATURE_BYTES: f64 = 0.01;
/// The tolerance for allocations: data that arrives in two pieces is buffered twice.
const SPLIT_READS: f64 = 0.02;
/// The tolerance for a stall of the machine, which splits data in transit: so many allocations more or less, however
/// short the run.
const STALLED_READS: f64 = 50.0;
/// The observed durations that are compared. Of the others, one is the longest of many and one is in whole seconds: in
/// these, two runs of the same thing differ by any factor.
const COMPARED_DURATIONS: [&str; 1] = ["time to recovered"];

/// Reads the measures of `summary`.
///
/// # Errors
/// If one of its histograms cannot be read.
pub fn read(summary: &Summary) -> Result<Readings> {
    let mut readings = Readings::new();
    for (plan, results) in summary.measured() {
        of_workload(&mut readings, results, plan)?;
    }
    let generator = &summary.generator;
    if let (Some(allocations), true) = (generator.allocations, generator.requests > 0) {
        let each = allocations as f64 / generator.requests as f64;
        readings.insert(
            "generator/allocations_per_request".to_owned(),
            exact(each, SPLIT_READS.max(STALLED_READS / generator.requests as f64)),
        );
    }
    let groups = summary.evidence.len();
    for (index, evidence) in summary.evidence.iter().enumerate() {
        let name = if groups > 1 { format!("database/group_{}", index + 1) } else { "database".into() };
        // Workloads that run one after another are a group each.
        let all = &summary.workloads[..];
        let plans = if groups > 1 { all.get(index..=index).unwrap_or_default() } else { all };
        let users = plans
            .iter()
            .map(|workload| &workload.plan)
            .filter(|plan| plan.model == LoadModel::Closed && plan.rounds.is_none());
        let rounds_cut_off = users.map(|plan| plan.clients).sum();
        of_evidence(&mut readings, &name, evidence, summary.about.system.kind, rounds_cut_off);
    }
    Ok(readings)
}

fn of_workload(readings: &mut Readings, results: &WorkloadResults, plan: &PlanFacts) -> Result<()> {
    let name = &plan.name;
    let closed = plan.model == LoadModel::Closed;
    let doubt = Doubt::of(&Seconds::read(&results.timeline)?, &results.latency.response)?;
    distribution(readings, &format!("{name}/response"), &results.latency.response, Within::Timeline(&doubt))?;
    // A user has no intended start but the actual one, so that both times are the same.
    if !closed {
        distribution(readings, &format!("{name}/service"), &results.latency.service, Within::Samples(&doubt))?;
    }
    if plan.affinity == ConnectionUse::PerArrival {
        let latency = &results.latency;
        for (phase, facts) in [
            ("dial", &latency.dial),
            ("tls_hello", &latency.tls_hello),
            ("tls_finish", &latency.tls_finish),
            ("send", &latency.send),
            ("first_byte", &latency.first_byte),
            ("receive", &latency.receive),
        ] {
            let histogram = samples(facts)?;
            quantile(readings, &format!("{name}/{phase}"), facts.p50_us, 0, &histogram, &Within::Samples(&doubt));
        }
    }
    for step in &results.steps {
        let step_name = format!("{name}/{}/response", step.name);
        distribution(readings, &step_name, &step.response, Within::Samples(&doubt))?;
    }
    for (label, handshakes, doubt) in
        [("opening", &results.opening, &Doubt::NONE), ("reopening", &results.reopening, &doubt)]
    {
        if handshakes.tls.count > 0 {
            distribution(readings, &format!("{name}/{label}_tls"), &handshakes.tls, Within::Samples(doubt))?;
            of_handshakes(readings, &format!("{name}/{label}"), handshakes);
        }
    }
    for observation in &results.observations {
        let short = observation.name.split(',').next().unwrap_or_default();
        if let (Some(duration_s), true) = (observation.duration_s, COMPARED_DURATIONS.contains(&short)) {
            readings
                .insert(format!("{name}/{}_s", short.replace(' ', "_")), timed(Some(duration_s), Better::Lower, None));
        }
    }
    if closed && results.arrivals.measured_s > 0.0 {
        // Without it the latencies of a closed workload say nothing.
        let per_s = results.latency.response.count as f64 / results.arrivals.measured_s;
        readings.insert(format!("{name}/answers_per_s"), timed(Some(per_s), Better::Higher, None));
    }
    if let Some(share) = results.error_share {
        readings.insert(format!("{name}/error_share"), errors(share, results.arrivals.scheduled));
    }
    Ok(())
}

/// Adds the counts of handshakes, per handshake.
fn of_handshakes(readings: &mut Readings, group: &str, handshakes: &HandshakeFacts) {
    let mut add = |measure: &str, value, tolerance| {
        readings.insert(format!("{group}_{measure}_per_handshake"), exact(value, tolerance));
    };
    for (measure, bytes) in [("read_bytes", &handshakes.read_bytes), ("written_bytes", &handshakes.written_bytes)] {
        if let Some(bytes) = bytes {
            add(measure, bytes.mean, SIGNATURE_BYTES);
        }
    }
    let counts = handshakes.kinds.iter().map(|kind| (round_trips(kind), kind.count));
    let (trips, all) = counts.fold((0, 0), |(trips, all), (each, count)| (trips + each * count, all + count));
    if all > 0 {
        add("round_trips", trips as f64 / all as f64, FLOAT_NOISE);
    }
}

/// Returns the round trips until a request can be sent, without TCP's: RFC 8446, section 2, and RFC 5246, section 7.3.
fn round_trips(kind: &HandshakeKindCount) -> u64 {
    match (&*kind.version, &*kind.kind) {
        ("TLS1.2", "resumed") => 1,
        ("TLS1.2", _) | (_, "hello-retry") => 2,
        _ => 1,
    }
}

/// Returns the reading of a time or a rate, with the standard error of its logarithm; zero has no logarithm, so no
/// value.
fn timed(value: Option<f64>, better: Better, error: Option<f64>) -> MeasureValue {
    MeasureValue { kind: MeasureKind::Timed, better, value: value.filter(|value| *value > 0.0), error, tolerance: 0.0 }
}

/// Returns the reading of a count.
fn exact(value: f64, tolerance: f64) -> MeasureValue {
    MeasureValue { kind: MeasureKind::Exact, better: Better::Lower, value: Some(value), error: None, tolerance }
}

/// Returns the reading of a share of errors. A share of zero in n arrivals may still be one of about 1/n (Agresti and
/// Coull, 1998).
fn errors(share: f64, scheduled: u64) -> MeasureValue {
    let n = scheduled as f64;
    let likely = (share * n + 1.0) / (n + 2.0);
    let error = (likely * (1.0 - likely) / (n + 2.0)).sqrt();
    MeasureValue {
        kind: MeasureKind::Share,
        better: Better::Lower,
        value: Some(share),
        error: Some(error),
        tolerance: 0.0,
    }
}

/// The uncertainty of a workload's quantiles, by the bootstrap of its timeline.
struct Doubt {
    /// Standard errors of the logarithms of [`QUANTILES`]; `None` where the run is too short.
    errors: Option<[f64; 3]>,
    /// The ratios of these errors to those of independent samples; not below one.
    inflation: [f64; 3],
}

/// The source of a distribution's uncertainty.
enum Within<'a> {
    /// Its own timeline.
    Timeline(&'a Doubt),
    /// Its samples, and the ratio that the workload's timeline shows for dependent samples.
    Samples(&'a Doubt),
}

impl Doubt {
    /// The uncertainty of independent samples.
    const NONE: Self = Self { errors: None, inflation: [1.0; 3] };

    fn of(seconds: &Seconds, response: &DistributionFacts) -> Result<Self> {
        let (Some(hdr), Some(errors)) = (&response.hdr_ns, seconds.ln_errors(QUANTILES.map(Quantile::fraction))) else {
            return Ok(Self::NONE);
        };
        let histogram = Histogram::from_base64(hdr)?;
        let inflation = std::array::from_fn(|index| match histogram.ln_error(QUANTILES[index].fraction()) {
            Some(independent) if independent > 0.0 => (errors[index] / independent).max(1.0),
            _ => 1.0,
        });
        Ok(Self { errors: Some(errors), inflation })
    }
}

fn distribution(readings: &mut Readings, name: &str, facts: &DistributionFacts, within: Within<'_>) -> Result<()> {
    let histogram = samples(facts)?;
    for (index, value) in [facts.p50_us, facts.p95_us, facts.p99_us].into_iter().enumerate() {
        quantile(readings, name, value, index, &histogram, &within);
    }
    Ok(())
}

/// Reads the samples of a distribution.
fn samples(facts: &DistributionFacts) -> Result<Histogram> {
    Ok(facts.hdr_ns.as_deref().map(Histogram::from_base64).transpose()?.unwrap_or_default())
}

/// Adds one of [`QUANTILES`], by its index.
fn quantile(
    readings: &mut Readings,
    name: &str,
    value: Option<f64>,
    index: usize,
    histogram: &Histogram,
    within: &Within<'_>,
) {
    let quantile = QUANTILES[index];
    let by_samples = |doubt: &Doubt| Some(histogram.ln_error(quantile.fraction())? * doubt.inflation[index]);
    let error = match within {
        Within::Timeline(Doubt { errors: Some(errors), .. }) => Some(errors[index]),
        Within::Timeline(doubt) | Within::Samples(doubt) => by_samples(doubt),
    };
    readings.insert(format!("{name}_{quantile}_us"), timed(value, Better::Lower, error));
}

/// Adds the counts of the database, unless a problem makes them doubtful.
fn of_evidence(readings: &mut Readings, group: &str, evidence: &Evidence, system: SystemKind, rounds_cut_off: u64) {
    // The waits of sessions affect no count, and dead rows affect WAL, but no count of statements.
    let harmless = ["pg_stat_activity", DEAD_ROWS];
    let is_harmless = |problem: &String| harmless.iter().any(|start| problem.starts_with(start));
    let is_doubtful = !evidence.problems.iter().all(is_harmless);
    let has_dead_rows = evidence.problems.iter().any(|problem| problem.starts_with(DEAD_ROWS));
    let statements = evidence.statements.as_ref().and_then(|known| known.yes());
    let (false, Some(statements), true) = (is_doubtful, statements, evidence.arrivals > 0) else { return };
    let arrivals = evidence.arrivals as f64;
    let background = if system == SystemKind::Reference { FLOAT_NOISE } else { BACKGROUND };
    // A closed workload ends in the middle of its users' rounds, whose steps do not all cost the same.
    let tolerance = background.max(rounds_cut_off as f64 / arrivals);
    let total = &statements.total;
    for (name, count, tolerance) in [
        ("sql_calls", total.calls, tolerance),
        ("sql_rows", total.rows, tolerance),
        ("wal_records", total.wal_records, tolerance.max(WAL_VARIES)),
    ] {
        if has_dead_rows && name.starts_with("wal") {
            continue;
        }
        readings.insert(format!("{group}/{name}_per_arrival"), exact(count as f64 / arrivals, tolerance));
    }
    let mut bytes = exact(total.wal_bytes as f64 / arrivals, tolerance.max(WAL_VARIES));
    if has_dead_rows {
        return;
    }
    // A page is written as a whole the first time after a checkpoint, and when that comes depends on time.
    if total.wal_full_page_images as f64 / arrivals > WHOLE_PAGES {
        bytes.value = None;
    }
    readings.insert(format!("{group}/wal_bytes_per_arrival"), bytes);
}

/// Returns the difference that is assumed between two runs of the same thing, as a standard deviation of the logarithm,
/// until runs show better: tails vary more than the middle. docs/BASELINES.md has the runs behind these values.
pub fn assumed_spread(name: &str) -> f64 {
    match name {
        _ if name.ends_with("_p50_us") => 0.04,
        _ if name.ends_with("_p95_us") => 0.06,
        _ if name.ends_with("_p99_us") => 0.08,
        _ => 0.04,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_match_the_version_and_the_kind() {
        let trips = |version: &'static str, kind: &'static str| {
            round_trips(&HandshakeKindCount {
                kind: kind.into(),
                version: version.into(),
                suite: "".into(),
                group: "".into(),
                key: "".into(),
                chain_length: 1,
                alpn: "".into(),
                count: 1,
            })
        };
        assert_eq!(["full", "hello-retry", "resumed"].map(|kind| trips("TLS1.3", kind)), [1, 2, 1]);
        assert_eq!(["full", "resumed"].map(|kind| trips("TLS1.2", kind)), [2, 1]);
    }
}
