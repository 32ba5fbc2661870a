//! The measures of a run: their names, kinds, and values in a summary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, Known};
use crate::measure::Quantile;
use crate::seed::DEAD_ROWS;
use crate::summary::facts::{DistributionFacts, HandshakeFacts, HandshakeKindCount, ObservationFacts};
use crate::summary::plan::{ConnectionUse, LoadModel, PlanFacts};
use crate::summary::{Summary, WorkloadResults, WorkloadSummary};
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
    /// A count that is shown and not judged: of the generator's own making, or of a certificate's size.
    Shown,
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
    /// Its value, in the unit at the end of its name; `None` where the run has too few samples, or wrote whole pages.
    pub value: Option<f64>,
    /// The difference up to which there is none: of an exact measure, as a share of the base; of a share, as it is.
    pub tolerance: f64,
}

/// The end of the name of the one exact measure that a run may leave open, as it wrote whole pages.
pub const WAL_BYTES: &str = "wal_bytes_per_answer";

/// The readings of a run, by name.
pub type Readings = BTreeMap<String, MeasureValue>;

/// The quantiles that are compared.
const QUANTILES: [Quantile; 3] = [Quantile::P50, Quantile::P95, Quantile::P99];
/// Two counts per answer that differ by less are the same: the remainder of a division.
const FLOAT_NOISE: f64 = 1e-6;
/// The tolerance for certctl's background loops, which query the database a fixed number of times a minute, whatever
/// the load.
const BACKGROUND: f64 = 0.005;
/// The tolerance for WAL, which depends a little on what else a page holds: index splits, pages pruned on the way.
const WAL_VARIES: f64 = 0.02;
/// The whole pages per right answer from which bytes of WAL say more about checkpoints than about answers.
pub const WHOLE_PAGES: f64 = 0.001;
/// The tolerance where arrivals begin journeys: the polls, nonces and accounts that these take depend a little on time.
const JOURNEYS_VARY: f64 = 0.02;
/// The handshakes from which their times are compared. Fewer are over within some 20 ms, and tell more about what the
/// machine did at that moment.
const ENOUGH_HANDSHAKES: u64 = 30;
/// The tolerance where certificates are revoked under load: which of two answers under way fills the cache that the other
/// then misses depends on time.
const CACHES_VARY: f64 = 0.02;
/// The tolerance for round trips: a peer may decline to resume now and then, as a run allows it to.
const DECLINED: f64 = 0.01;
/// The difference of error shares up to which there is none: the bound that scenarios set on errors.
pub const SHARE_FLOOR: f64 = 0.001;
/// The standard errors of a share of so many arrivals up to which a difference may be chance.
pub const SHARE_ERRORS: f64 = 3.0;
/// The observed durations that are compared. Of the others, one is the longest of many and one is in whole seconds: in
/// these, two runs of the same thing differ by any factor.
const COMPARED_DURATIONS: [&str; 2] = ["time to recovered", DRAINED];
/// The beginning of the observations of a run in which certificates are revoked under load.
const REVOKED: &str = "until every ";
/// The observation of a run that ends once its work is done.
const DRAINED: &str = "time until drained";

/// Reads the measures of `summary`.
pub fn read(summary: &Summary) -> Readings {
    let mut readings = Readings::new();
    for (plan, results) in summary.measured() {
        of_workload(&mut readings, results, plan);
    }
    let generator = &summary.generator;
    if let (Some(allocations), true) = (generator.allocations, generator.requests > 0) {
        let each = allocations as f64 / generator.requests as f64;
        readings.insert("generator/allocations_per_request".to_owned(), shown(each));
    }
    let groups = summary.evidence.len();
    for (index, evidence) in summary.evidence.iter().enumerate() {
        let name = if groups > 1 { format!("database/group_{}", index + 1) } else { "database".into() };
        // Workloads that run one after another are a group each.
        let all = &summary.workloads[..];
        let workloads = if groups > 1 { all.get(index..=index).unwrap_or_default() } else { all };
        of_evidence(&mut readings, &name, evidence, workloads, summary.about.system.kind);
    }
    readings
}

/// Returns the reasons for which the database's counts of a run are not to be trusted.
pub fn doubts(summary: &Summary) -> Vec<String> {
    let counted = summary.evidence.iter().filter(|evidence| matches!(evidence.statements, Some(Known::Yes(_))));
    counted.flat_map(doubtful).cloned().collect()
}

/// Returns the problems of evidence that make all of its counts doubtful.
fn doubtful(evidence: &Evidence) -> impl Iterator<Item = &String> {
    // The waits of sessions affect no count, and dead rows affect WAL, but no count of statements.
    let harmless = ["pg_stat_activity", DEAD_ROWS];
    evidence.problems.iter().filter(move |problem| !harmless.iter().any(|start| problem.starts_with(start)))
}

fn of_workload(readings: &mut Readings, results: &WorkloadResults, plan: &PlanFacts) {
    let name = &plan.name;
    let closed = plan.model == LoadModel::Closed;
    distribution(readings, &format!("{name}/response"), &results.latency.response);
    // A user has no intended start but the actual one, so that both times are the same.
    if !closed {
        distribution(readings, &format!("{name}/service"), &results.latency.service);
    }
    if plan.affinity == ConnectionUse::PerArrival {
        for (phase, facts) in results.latency.phases() {
            readings.insert(format!("{name}/{phase}_p50_us"), timed(facts.p50_us, Better::Lower));
        }
    }
    for step in &results.steps {
        distribution(readings, &format!("{name}/{}/response", step.name), &step.response);
    }
    // Where connections are kept, those of the window are losses, of which a better head has fewer or none.
    let reopening = (plan.affinity == ConnectionUse::PerArrival).then_some(("reopening", &results.reopening));
    for (label, handshakes) in [("opening", &results.opening)].into_iter().chain(reopening) {
        if handshakes.tls.count > 0 {
            if handshakes.tls.count >= ENOUGH_HANDSHAKES {
                distribution(readings, &format!("{name}/{label}_tls"), &handshakes.tls);
            }
            of_handshakes(readings, &format!("{name}/{label}"), handshakes);
        }
    }
    for observation in &results.observations {
        let short = short_name(observation);
        if let (Some(duration_s), true) = (observation.duration_s, COMPARED_DURATIONS.contains(&short)) {
            readings.insert(format!("{name}/{}_s", short.replace(' ', "_")), timed(Some(duration_s), Better::Lower));
        }
    }
    if closed && results.arrivals.measured_s > 0.0 {
        // Without it the latencies of a closed workload say nothing.
        let per_s = results.latency.response.count as f64 / results.arrivals.measured_s;
        readings.insert(format!("{name}/answers_per_s"), timed(Some(per_s), Better::Higher));
    }
    if let Some(share) = results.error_share {
        readings.insert(format!("{name}/error_share"), errors(share, results.arrivals.scheduled));
    }
}

/// Returns the name of an observation, without its definition.
fn short_name(observation: &ObservationFacts) -> &str {
    observation.name.split(',').next().unwrap_or_default()
}

/// Adds the counts of handshakes, per handshake.
fn of_handshakes(readings: &mut Readings, group: &str, handshakes: &HandshakeFacts) {
    let mut add = |measure: &str, value| readings.insert(format!("{group}_{measure}_per_handshake"), value);
    for (measure, bytes) in [("read_bytes", &handshakes.read_bytes), ("written_bytes", &handshakes.written_bytes)] {
        if let Some(bytes) = bytes {
            add(measure, shown(bytes.mean));
        }
    }
    let counts = handshakes.kinds.iter().map(|kind| (round_trips(kind), kind.count));
    let (trips, all) = counts.fold((0, 0), |(trips, all), (each, count)| (trips + each * count, all + count));
    if all > 0 {
        add("round_trips", exact(trips as f64 / all as f64, DECLINED));
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

/// Returns the reading of a time or a rate; zero has no logarithm, so no value.
fn timed(value: Option<f64>, better: Better) -> MeasureValue {
    MeasureValue { kind: MeasureKind::Timed, better, value: value.filter(|value| *value > 0.0), tolerance: 0.0 }
}

/// Returns the reading of a count.
fn exact(value: f64, tolerance: f64) -> MeasureValue {
    MeasureValue { kind: MeasureKind::Exact, better: Better::Lower, value: Some(value), tolerance }
}

/// Returns the reading of a count that is not judged.
fn shown(value: f64) -> MeasureValue {
    MeasureValue { kind: MeasureKind::Shown, better: Better::Lower, value: Some(value), tolerance: 0.0 }
}

/// Returns the reading of a share of errors. Few arrivals leave more to chance, and a share of zero in n arrivals may
/// still be one of about 1/n (Agresti and Coull, 1998).
fn errors(share: f64, scheduled: u64) -> MeasureValue {
    let n = scheduled as f64;
    let likely = (share * n + 1.0) / (n + 2.0);
    let error = (likely * (1.0 - likely) / (n + 2.0)).sqrt();
    let tolerance = SHARE_FLOOR.max(SHARE_ERRORS * error);
    MeasureValue { kind: MeasureKind::Share, better: Better::Lower, value: Some(share), tolerance }
}

/// Adds the quantiles of a distribution.
fn distribution(readings: &mut Readings, name: &str, facts: &DistributionFacts) {
    for (quantile, value) in QUANTILES.into_iter().zip([facts.p50_us, facts.p95_us, facts.p99_us]) {
        readings.insert(format!("{name}_{quantile}_us"), timed(value, Better::Lower));
    }
}

/// Returns the right answers, warm-up included, of the `sent` arrivals of `workloads`. Those after the window, while
/// other workloads were measured, are not judged, and taken to be right.
fn right_answers(sent: u64, workloads: &[WorkloadSummary]) -> u64 {
    let wrong = workloads.iter().filter_map(|workload| workload.results.as_ref()).map(|results| {
        let seconds = results.warm_up_timeline.iter().chain(&results.timeline);
        seconds.map(|second| second.started.saturating_sub(second.ok)).sum::<u64>()
    });
    sent.saturating_sub(wrong.sum())
}

/// Adds the counts of the database, unless a problem makes them doubtful. The divisor is the right answers: one that
/// failed early cost less, and would make the others look cheap.
fn of_evidence(
    readings: &mut Readings,
    group: &str,
    evidence: &Evidence,
    workloads: &[WorkloadSummary],
    system: SystemKind,
) {
    let has_dead_rows = evidence.problems.iter().any(|problem| problem.starts_with(DEAD_ROWS));
    let statements = evidence.statements.as_ref().and_then(|known| known.yes());
    let answers = right_answers(evidence.arrivals, workloads);
    let (None, Some(statements), true) = (doubtful(evidence).next(), statements, answers > 0) else { return };
    let answers = answers as f64;
    let background = if system == SystemKind::Reference { FLOAT_NOISE } else { BACKGROUND };
    // A closed workload ends in the middle of its users' rounds, whose steps do not all cost the same.
    let plans = workloads.iter().map(|workload| &workload.plan);
    let users = plans.filter(|plan| plan.model == LoadModel::Closed && plan.rounds.is_none()).map(|plan| plan.clients);
    let results = || workloads.iter().filter_map(|workload| workload.results.as_ref());
    let observations = || results().flat_map(|results| &results.observations);
    let of_journeys = if results().any(WorkloadResults::began_journeys) { JOURNEYS_VARY } else { 0.0 };
    let of_caches = if observations().any(|one| one.name.starts_with(REVOKED)) { CACHES_VARY } else { 0.0 };
    let tolerance = background.max(users.sum::<u64>() as f64 / answers).max(of_journeys).max(of_caches);
    // The work of a drain is fixed, and the longer it takes, the more heartbeats there are beside it.
    let drains = observations().any(|one| short_name(one) == DRAINED);
    let exact = |value, tolerance| if drains { shown(value) } else { exact(value, tolerance) };
    let total = &statements.total;
    let mut add = |name: &str, reading| readings.insert(format!("{group}/{name}_per_answer"), reading);
    add("sql_calls", exact(total.calls as f64 / answers, tolerance));
    add("sql_rows", exact(total.rows as f64 / answers, tolerance));
    if has_dead_rows {
        return;
    }
    let tolerance = tolerance.max(WAL_VARIES);
    add("wal_records", exact(total.wal_records as f64 / answers, tolerance));
    let mut bytes = exact(total.wal_bytes as f64 / answers, tolerance);
    // A page is written as a whole the first time after a checkpoint, and when that comes depends on time.
    if total.wal_full_page_images as f64 / answers > WHOLE_PAGES {
        bytes.value = None;
    }
    add("wal_bytes", bytes);
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
