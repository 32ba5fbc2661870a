//! A session: the workloads of a bench target at a prepared system, from the first count of its rows to the verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::processes::Crew;
use crate::clock::Moment;
use crate::database::{self as db, DatabaseClient};
use crate::error::{Error, Result};
use crate::evidence::meter::MachineMeter;
use crate::evidence::metrics::{self, Metrics};
use crate::evidence::{DatabaseWitness, Evidence};
use crate::live::Live;
use crate::load::cut::{Cut, Ended};
use crate::load::run::Control;
use crate::load::shard::Shard;
use crate::measure::breach::Breach;
use crate::measure::machine_use::{CpuBound, MachineUse};
use crate::measure::threshold::{Checked, Threshold};
use crate::measure::validity::{self, Invalid, Work};
use crate::measure::{Measurement, Outcome, observation};
use crate::run::{self, BoundWorkload};
use crate::scenario::Scenario;
use crate::scenario::audit::{AuditCheck, AuditRows};
use crate::shard::merge::MergedShards;
use crate::summary::plan::PlanFacts;
use crate::summary::shards::ShardFacts;
use crate::summary::{About, Results, Summary, Verdict, WorkloadPart};
use crate::system::System;
use crate::system::rotator::Rotator;
use crate::system::side_effects::{Measured, SideEffects};
use crate::terminal::errln;
use crate::wire::FaultKind;

/// The longest wait for the audit row of the suite's own reading of certctl's metrics. Without it evidence is off by a
/// statement.
const SETTLE_PATIENCE: Duration = Duration::from_secs(3);

/// The workloads of a bench target at a prepared system.
pub struct Session<'a> {
    /// The system under test.
    pub system: &'a dyn System,
    /// The workloads: those of a group run side by side, one group after another.
    pub groups: &'a [Vec<BoundWorkload>],
    /// The shards of this process: a generator thread for each.
    pub shards: Vec<Shard>,
    /// The bound on errors over all; without one only validity is judged.
    pub floor: Option<Threshold>,
    /// True for a smoke run, which only shows that everything works.
    pub smoke: bool,
    /// The largest share of the CPU that others may take.
    pub max_other_cpu: CpuBound,
    /// The interval at which certificates are replaced meanwhile.
    pub rotates_every: Option<Duration>,
    /// Ends the session early once set.
    pub stop: Arc<AtomicBool>,
    /// Limits at which the session ends early.
    pub cut: Cut,
    /// The processes that play the load, if this one does not.
    pub crew: Option<Crew<'a>>,
    /// Saves the measurements before the database is queried about them, which may take long or never end.
    pub keep: &'a dyn Fn(&Summary),
    /// The view of the run, if it has one.
    pub live: Option<&'a Live>,
}

impl Session<'_> {
    /// Runs everything and returns the summary.
    ///
    /// # Errors
    /// If the first group cannot start; later failures are part of the summary, not errors.
    pub fn run(self, about: About) -> Result<Summary> {
        // Once it is set, no wait for a database goes on.
        db::heed(&self.stop);
        let done = self.run_groups(&about, &self.stop)?;
        Ok(self.sum_up(about, done))
    }

    /// Returns the summary of the groups that ran.
    fn sum_up(&self, about: About, done: GroupResults) -> Summary {
        let GroupResults { parts, mut invalid, mut breaches, evidence, machine_use, shards } = done;
        let ended = self.cut.ended();
        breaches.extend(match ended.clone() {
            Some(Ended::Errors { share, limit }) => Some(Breach::Drowned { share, within: limit.within }),
            Some(Ended::InFlight { in_flight, most }) => Some(Breach::Overrun { in_flight, most }),
            Some(Ended::NotOpened { opened, wanted, why }) => Some(Breach::NotOpened { opened, wanted, why }),
            Some(Ended::Requests(_)) | None => None,
        });
        if self.floor.is_none() && parts.iter().any(|part| part.measurement.response.count() > 0) {
            // Where nothing is judged, a workload without an answer is a finding, not a reason for an invalid run.
            invalid.retain(|reason| *reason != Invalid::NothingMeasured);
        }
        let checked = self.check(&parts);
        // A run that was ended because the system fell behind is not short of samples for want of time.
        if self.load_began() && !matches!(ended, Some(Ended::InFlight { .. })) {
            invalid.extend(validity::unjudged(&checked, self.cut.for_more()));
        }
        invalid.extend(match (self.smoke, self.floor) {
            (true, _) => broken(&parts, |outcome| outcome != Outcome::Ok),
            (false, None) => broken(&parts, is_no_finding),
            (false, Some(_)) => None,
        });
        // A smoke run is too short to be judged by thresholds.
        let judged = if self.smoke { &[][..] } else { &checked[..] };
        let verdict = match Verdict::of(&breaches, &invalid, judged) {
            _ if self.smoke && breaches.is_empty() && works(&invalid) => Verdict::Smoke,
            verdict => verdict,
        };
        let invalid = if verdict == Verdict::Smoke { Vec::new() } else { invalid };
        let (parts, checked, breaches, invalid) = (&parts, &checked, &breaches, &invalid);
        let plans = self.groups.iter().flatten().map(PlanFacts::of_workload).collect();
        let results = Results { parts, checked, breaches, invalid, verdict, ended, evidence, machine_use, shards };
        Summary::new(about, plans, results)
    }

    /// Runs one group after another. If a later group cannot start, the results of the earlier ones are kept.
    fn run_groups(&self, about: &About, stop: &Arc<AtomicBool>) -> Result<GroupResults> {
        let mut all = GroupResults::default();
        for group in self.groups {
            match self.run_group(group, &all, about, stop) {
                Ok(done) => all.add(done),
                Err(error) if all.parts.is_empty() => return Err(error),
                Err(error) => {
                    let workload = group.first().map_or("", |bound| bound.workload.name);
                    all.invalid.push(Invalid::NotRun { workload, why: error.to_string().replace('\n', ";") });
                    return Ok(all);
                }
            }
            if stop.load(Ordering::Relaxed) || self.cut.is_over() {
                break;
            }
        }
        // If the run was stopped between two groups, no measurement is marked as partial.
        let left_out = self.groups.iter().flatten().nth(all.parts.len()).map(|bound| bound.workload.name);
        match (left_out, self.cut.ended()) {
            (Some(workload), Some(ended)) => {
                all.invalid.push(Invalid::NotRun { workload, why: format!("the run was ended {ended}") });
            }
            (Some(_), None) if !all.invalid.contains(&Invalid::Partial) => all.invalid.push(Invalid::Partial),
            _ => {}
        }
        Ok(all)
    }

    fn run_group(
        &self,
        group: &[BoundWorkload],
        earlier: &GroupResults,
        about: &About,
        stop: &Arc<AtomicBool>,
    ) -> Result<GroupResults> {
        let control = Control { stop: stop.clone(), cut: self.cut.clone(), ..Control::default() };
        let observer = Observer::begin(self.system, group, &control)?;
        let rotator = self.rotator(&control)?;
        let meter = MachineMeter::start(self.system.addresses(), control.progress.clone())?;
        let Played { measurements, reasons, shards } = self.measure(group, &control)?;
        let machine_use = meter.finish();
        drop(rotator);
        let mut machine = self.judge_machine(group, machine_use);
        machine.invalid.extend(reasons);
        for used in machine.machine_use.iter_mut().filter(|_| shards.is_some()) {
            // This process only follows the others.
            used.measuring_thread = shards.iter().flat_map(|all| &all.shards).map(|one| one.busy_share).sum();
        }
        machine.shards = shards;
        let ended = self.system.certctl().and_then(|checked| checked.certctl.ended());
        machine.invalid.extend(ended.map(|error| Invalid::Ended(error.to_string().replace('\n', "; "))));
        if database(self.system).is_some() {
            self.keep(group, &measurements, &machine, earlier, about);
        }
        let GroupResults { mut invalid, machine_use, shards, .. } = machine;
        let Observed { work, evidence, uncounted } = observer.finish(group, &measurements);
        invalid.extend(uncounted);
        let mut done = self.judge(group, measurements, work);
        done.invalid.splice(..0, invalid);
        done.evidence.extend(evidence);
        done.machine_use.extend(machine_use);
        done.shards = shards;
        Ok(done)
    }

    /// Returns the summary of a run whose shards were played elsewhere, at a system that is not there any more.
    ///
    /// # Errors
    /// If the shards have not played these workloads.
    pub fn of_shards(self, about: About, group: &[BoundWorkload], shards: MergedShards) -> Result<Summary> {
        let control = Control { cut: self.cut.clone(), ..Control::default() };
        let machine_use = shards.machine_use.clone();
        // Any moment: times of notes count from it.
        let Played { measurements, reasons, shards } = take_in(group, shards, Moment::now(), &control)?;
        let work = vec![Vec::new(); group.len()];
        let mut done = self.judge(group, measurements, work);
        done.invalid.splice(..0, reasons);
        // Each shard has judged its own machine.
        done.machine_use.extend(machine_use);
        done.shards = shards;
        Ok(self.sum_up(about, done))
    }

    /// Returns the machine use while a group was measured, and the reasons in it for which the run is invalid.
    fn judge_machine(&self, group: &[BoundWorkload], machine_use: Option<MachineUse>) -> GroupResults {
        let mut done = GroupResults { machine_use: Vec::from_iter(machine_use), ..GroupResults::default() };
        for machine in &mut done.machine_use {
            machine.workloads = group.iter().map(|bound| bound.workload.name.to_owned()).collect();
            done.invalid.extend(machine.judge(self.max_other_cpu));
        }
        done
    }

    /// Saves the measurements of a group, and of those before it, as a run whose side effects are not checked yet.
    fn keep(
        &self,
        group: &[BoundWorkload],
        measurements: &[Measurement],
        machine: &GroupResults,
        earlier: &GroupResults,
        about: &About,
    ) {
        let mut done = GroupResults {
            parts: earlier.parts.clone(),
            invalid: [&earlier.invalid[..], &machine.invalid].concat(),
            breaches: earlier.breaches.clone(),
            evidence: Vec::new(),
            machine_use: [&earlier.machine_use[..], &machine.machine_use].concat(),
            shards: machine.shards.clone(),
        };
        done.add(self.judge(group, measurements.to_vec(), vec![Vec::new(); group.len()]));
        let why = "the run ended before the database had answered";
        done.invalid.push(Invalid::WorkUncounted(why.to_owned()));
        (self.keep)(&self.sum_up(about.clone(), done));
    }

    /// True if the load of the last group began: its connections could be opened.
    fn load_began(&self) -> bool {
        !matches!(self.cut.ended(), Some(Ended::NotOpened { .. }))
    }

    /// Judges the workloads of a group. No measurement is judged if the load did not begin.
    fn judge(&self, group: &[BoundWorkload], measurements: Vec<Measurement>, work: Vec<Vec<Work>>) -> GroupResults {
        let mut done = GroupResults::default();
        for ((bound, measurement), work) in group.iter().zip(measurements).zip(work) {
            let observations = bound.scenario.observations(&measurement);
            if self.load_began() {
                let decisive_span = bound.scenario.decisive_span();
                done.invalid.extend(validity::judge(
                    &measurement,
                    &work,
                    bound.workload.plan.punctuality(),
                    decisive_span,
                ));
                let missing = observations.iter().filter(|one| one.value == observation::Value::Never);
                done.invalid.extend(missing.map(|one| Invalid::Never { what: one.name, hint: self.cut.for_more() }));
            }
            done.breaches.extend(bound.scenario.broken_rules());
            done.parts.push(WorkloadPart { measurement, work, observations });
        }
        done
    }

    /// Starts replacing certificates, where that is wanted, until the result is dropped.
    fn rotator(&self, control: &Control) -> Result<Option<Rotator>> {
        self.rotates_every.map_or(Ok(None), |every| self.system.rotate(every, &control.progress))
    }

    fn measure(&self, group: &[BoundWorkload], control: &Control) -> Result<Played> {
        let workloads = group.iter().map(|bound| &bound.workload);
        let _watching = self.live.map(|live| live.watch(control.progress.clone(), workloads));
        match &self.crew {
            None => {
                Ok(Played { measurements: run::run(group, &self.shards, control)?, reasons: Vec::new(), shards: None })
            }
            Some(crew) => {
                let (shards, start) = crew.play(group, control)?;
                take_in(group, shards, start, control)
            }
        }
    }

    /// Checks every threshold against the measurements.
    fn check(&self, parts: &[WorkloadPart]) -> Vec<Checked> {
        let Some(floor) = self.floor else { return Vec::new() };
        let workloads = self.groups.iter().flatten().map(|bound| &bound.workload);
        let mut checked = Vec::new();
        for (part, workload) in parts.iter().zip(workloads) {
            for threshold in &workload.thresholds {
                let one = threshold.check(&part.measurement);
                checked.push(if parts.len() > 1 { one.of(workload.name) } else { one });
            }
        }
        let all = || parts.iter().map(|part| &part.measurement);
        checked.push(floor.check_over(all()));
        if all().any(|measurement| measurement.opening.failed.total() > 0) {
            checked.push(Threshold::Opening(floor.limit()).check_over(all()));
        }
        checked
    }
}

/// The load of a group, played.
struct Played {
    measurements: Vec<Measurement>,
    /// Reasons for an invalid run that no measurement shows.
    reasons: Vec<Invalid>,
    shards: Option<ShardFacts>,
}

/// Takes in what shards have played, as if it had been played here: the scenarios know all answers then. `start` is the
/// moment from which the times in their notes count.
///
/// # Errors
/// If they have not played these workloads.
fn take_in(group: &[BoundWorkload], shards: MergedShards, start: Moment, control: &Control) -> Result<Played> {
    let MergedShards { workloads, facts, reasons, ended, .. } = shards;
    if let Some(ended) = ended {
        control.cut.end(ended);
    }
    if workloads.is_empty() {
        let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        return Err(Error::invalid(why.join("; ")).with_hint("start the shards again, all for one later start"));
    }
    let mut measurements = Vec::with_capacity(group.len());
    for (index, bound) in group.iter().enumerate() {
        let name = bound.workload.name;
        let mut others = workloads.iter().skip(index);
        let Some(played) = others.next().filter(|played| played.name == name) else {
            return Err(Error::invalid(format!("the shards have not played {name}")));
        };
        for notes in &played.notes {
            bound.divisible()?.absorb(notes, start)?;
        }
        measurements.push(played.measurement.clone());
    }
    Ok(Played { measurements, reasons, shards: Some(facts) })
}

/// The observation of a system beside a group of workloads: its side effects, its database, its own metrics.
pub(super) struct Observer<'a> {
    system: &'a dyn System,
    side_effects: Box<dyn SideEffects + 'a>,
    metrics: Result<Metrics>,
    witness: Option<DatabaseWitness>,
    warnings: Vec<String>,
    stop: Arc<AtomicBool>,
}

/// The result of [`Observer::finish`].
pub(super) struct Observed {
    /// The side effects of each workload.
    pub work: Vec<Vec<Work>>,
    /// The evidence of the database, where it is known.
    pub evidence: Option<Evidence>,
    /// The reason for which side effects could not be counted.
    pub uncounted: Option<Invalid>,
}

impl<'a> Observer<'a> {
    /// Puts back the rows that `group` changes, and begins to observe.
    ///
    /// # Errors
    /// If the database or the system does not answer.
    pub fn begin(system: &'a dyn System, group: &[BoundWorkload], control: &Control) -> Result<Self> {
        // The metrics are read once rows are put back, and the audit row of that reading is no part of the evidence.
        let scenarios: Vec<&dyn Scenario> = group.iter().map(|bound| &*bound.scenario).collect();
        let mut side_effects = system.begin_check(&scenarios, &control.stop)?;
        let warnings = warnings(&mut *side_effects);
        let reading = side_effects.database().map(expect_reading).transpose()?;
        let metrics = metrics(system, &control.stop);
        // The audit row of a reading is written after certctl answers.
        if let (Some(reading), Ok(_), Some(database)) = (reading, &metrics, side_effects.database()) {
            reading.wait_for(&[1], SETTLE_PATIENCE, database)?;
        }
        let witness = database(system).map(|url| DatabaseWitness::start(url, control.progress.clone())).transpose()?;
        Ok(Self { system, side_effects, metrics, witness, warnings, stop: control.stop.clone() })
    }

    /// Finishes, once `group` gave these measurements. They are kept even if their side effects cannot be counted.
    pub fn finish(self, group: &[BoundWorkload], measurements: &[Measurement]) -> Observed {
        let measured = group.iter().zip(measurements).map(|(bound, measurement)| Measured {
            scenario: &*bound.scenario,
            peer: &bound.peer,
            measurement,
        });
        let (work, uncounted) = match self.side_effects.finish(&measured.collect::<Vec<_>>()) {
            Ok(work) => (work, None),
            Err(error) => {
                let why = Invalid::WorkUncounted(error.to_string().replace('\n', ";"));
                (vec![Vec::new(); group.len()], Some(why))
            }
        };
        // The side effects are complete by now, so that the system is quiet again.
        let sent = measurements.iter();
        let sent = sent.map(|one| one.warm_up_arrivals + one.started + one.later_arrivals).sum();
        let evidence = self.witness.map(|witness| {
            let mut evidence = witness.finish(sent).with_metrics(self.metrics, metrics(self.system, &self.stop));
            evidence.problems.extend(self.warnings);
            evidence
        });
        Observed { work, evidence, uncounted }
    }
}

/// Returns the URL of a system's database, where it is known.
fn database(system: &dyn System) -> Option<&str> {
    system.certctl()?.certctl.database.as_deref()
}

/// Reads certctl's own metrics, where there is other evidence to put them beside.
fn metrics(system: &dyn System, stop: &Arc<AtomicBool>) -> Result<Metrics> {
    match system.certctl() {
        Some(checked) if checked.certctl.database.is_some() => {
            metrics::read_until(stop, &checked.certctl, &checked.dialer)
        }
        _ => Ok(Metrics::default()),
    }
}

/// The results of groups of workloads.
#[derive(Default)]
struct GroupResults {
    parts: Vec<WorkloadPart>,
    invalid: Vec<Invalid>,
    breaches: Vec<Breach>,
    evidence: Vec<Evidence>,
    machine_use: Vec<MachineUse>,
    /// Those of the last group.
    shards: Option<ShardFacts>,
}

impl GroupResults {
    fn add(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.invalid.extend(other.invalid);
        self.breaches.extend(other.breaches);
        self.evidence.extend(other.evidence);
        self.machine_use.extend(other.machine_use);
        self.shards = other.shards.or(self.shards.take());
    }
}

/// Counts the outcomes that may not occur, if there are any.
fn broken(parts: &[WorkloadPart], may_not_be: impl Fn(Outcome) -> bool) -> Option<Invalid> {
    let scheduled = parts.iter().map(|part| part.measurement.scheduled).sum();
    let outcomes = parts.iter().flat_map(|part| part.measurement.outcomes.sorted());
    let unsent: u64 = parts.iter().map(|part| part.measurement.unsent_by_system()).sum();
    let wrong = unsent + outcomes.filter(|(outcome, _)| may_not_be(*outcome)).map(|(_, count)| count).sum::<u64>();
    (wrong > 0).then_some(Invalid::Broken { wrong, scheduled })
}

/// True for an outcome that shows a defect where nothing is judged. Such a run is to find the limit at which a request
/// takes too long, or certctl cuts it off; every other outcome but a right answer means that something does not work.
fn is_no_finding(outcome: Outcome) -> bool {
    use FaultKind::{Closed, Truncated};
    !matches!(outcome, Outcome::Ok | Outcome::TimedOut | Outcome::Broken(Closed | Truncated))
}

/// True if a smoke run worked; its pace and its number of samples do not matter.
fn works(invalid: &[Invalid]) -> bool {
    let of_pace = |reason: &Invalid| {
        matches!(
            reason,
            Invalid::Lag { .. }
                | Invalid::Saturated { .. }
                | Invalid::Starved(_)
                | Invalid::Throttled(_)
                | Invalid::TooFewSamples { .. }
                | Invalid::Never { .. }
        )
    };
    invalid.iter().all(of_pace)
}

/// Returns the warnings of the database while its rows were put back, and prints them.
fn warnings(side_effects: &mut dyn SideEffects) -> Vec<String> {
    let warnings = side_effects.database().map(DatabaseClient::take_warnings).unwrap_or_default();
    warnings.iter().for_each(|warning| errln!("warning: {warning}"));
    warnings
}

/// Counts the audit rows of earlier readings of certctl's metrics.
fn expect_reading(database: &mut DatabaseClient) -> Result<AuditCheck> {
    let rows = AuditRows { name: "readings of metrics", action: "api_get", path: metrics::PATH, status: 200 };
    AuditCheck::open(database, vec![rows])
}
