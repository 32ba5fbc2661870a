//! The blocks of a duet: both systems started, loaded side by side, and stopped, again and again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::player::Player;
use super::{WARM_UP, WINDOW};
use crate::cli::bench::{self, Bench};
use crate::cli::bench_load::BenchLoad;
use crate::cli::common_flags::CertctlFlags;
use crate::cli::prepare;
use crate::cli::session::{Observed, Observer};
use crate::cli::signals::Signals;
use crate::database as db;
use crate::duet::block::{Block, COSTS, SideWork, WorkloadBlock, pair_statements};
use crate::duet::{Duet, Sides, verdict};
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::evidence::meter::MachineMeter;
use crate::files;
use crate::live::Live;
use crate::load::cut::Cut;
use crate::load::plan::DuetSide;
use crate::load::run::Control;
use crate::load::shard::Shard;
use crate::measure::Measurement;
use crate::measure::machine_use::MachineUse;
use crate::measure::validity::{self, Invalid};
use crate::provision::port::{self, is_port_conflict};
use crate::report::duet as report;
use crate::run::{self, BoundWorkload};
use crate::scenario::need::Need;
use crate::summary::plan::PlanFacts;
use crate::system::{CheckedCertctl, System as _};
use crate::terminal::{errln, outln};

/// The time that the start and the end of both systems took, more or less, on 2 cores.
const START: Duration = Duration::from_secs(6);
/// The most blocks that are repeated because the generator was at fault, or a port was taken.
const MOST_REPEATED: usize = 3;
/// The share of all processors that others must take to be mentioned.
const OTHERS_MENTIONED: f64 = 0.25;

/// The state of a duet while it runs.
pub(super) struct Stage<'a, B: Bench> {
    pub(super) load: &'a BenchLoad<B>,
    pub(super) players: Sides<Player>,
    pub(super) needs: Vec<Need>,
    /// The ports that the two sides take in turn.
    pub(super) ports: [u16; 2],
    /// Ends the duet once set; `None` before the first block.
    pub(super) stop: Option<Arc<AtomicBool>>,
    pub(super) cut: Cut,
    /// The view of each block.
    pub(super) live: Live,
    /// The reasons so far for which nothing may be concluded.
    pub(super) reasons: Vec<String>,
    pub(super) result: Duet,
}

/// The result of an attempt at a block.
struct Attempt {
    block: Block,
    /// The reasons for which it says nothing about the speed of the systems: the generator was at fault.
    ours: Vec<String>,
    /// The reasons for which nothing may be concluded from the duet.
    fatal: Vec<String>,
    notes: Vec<String>,
}

impl Attempt {
    /// Returns the reason to play the block again, unless that would hide what was found out about a system.
    fn void(&self) -> Option<&str> {
        self.ours.first().filter(|_| self.fatal.is_empty()).map(String::as_str)
    }
}

impl<B: Bench<System = CertctlFlags>> Stage<'_, B> {
    pub(super) fn announce(&self) {
        let span = self.load.load.duration.unwrap_or(WINDOW) + self.load.load.warm_up.unwrap_or(WARM_UP);
        let blocks = self.result.settings.blocks as u32;
        outln!("{:<12} {} against {}", "duet", self.players.base.shown(), self.players.head.shown());
        outln!(
            "{:<12} {blocks} of {} s, with a start of both before each: about {:.1} minutes",
            "blocks",
            span.as_secs(),
            ((span + START) * blocks).as_secs_f64() / 60.0
        );
    }

    /// Plays every block, and judges after each; whatever was measured by then is in `file`.
    pub(super) fn play(&mut self, signals: &Signals, file: &Path) -> Result<()> {
        let wanted = self.result.settings.blocks;
        while self.result.blocks.len() < wanted {
            let number = self.result.blocks.len() + 1;
            let attempt = match self.attempt(number, signals) {
                Ok(attempt) => attempt,
                Err(error) if is_port_conflict(error.what()) && self.result.repeated.len() < MOST_REPEATED => {
                    // Nobody holds the ports between two blocks.
                    self.result.repeated.push(format!("block {number}: another process had taken a port"));
                    self.ports = port::free_pair()?;
                    continue;
                }
                Err(error) if self.result.blocks.is_empty() => return Err(error),
                Err(error) => {
                    self.reasons.push(format!("block {number} could not run: {error}").replace('\n', "; "));
                    break;
                }
            };
            if let Some(why) = attempt.void().filter(|_| !self.is_over()) {
                errln!("block {number} is void: {why}");
                self.result.repeated.push(format!("block {number}: {}", attempt.ours.join("; ")));
                let notes = attempt.notes.iter().map(|note| format!("block {number}, void: {note}"));
                self.result.notes.extend(notes);
                if self.result.repeated.len() > MOST_REPEATED {
                    self.reasons.push(format!("more than {MOST_REPEATED} blocks were void, the last because {why}"));
                    break;
                }
                continue;
            }
            let Attempt { block, ours, fatal, notes } = attempt;
            let is_fatal = !fatal.is_empty();
            if self.result.blocks.is_empty() && !block.work.base.per_answer.contains_key(COSTS[0]) {
                let what = "SQL, WAL and shared blocks are not counted: no database of the systems is known";
                self.result.notes.push(what.to_owned());
            }
            self.reasons.extend(fatal.into_iter().chain(ours));
            if self.is_over() {
                break;
            }
            let whole_pages = DuetSide::BOTH.into_iter().filter(|side| block.work.of(*side).has_whole_pages());
            let whole_pages = whole_pages.map(|side| {
                format!("block {number}: its bytes of WAL are not compared: the {} wrote whole pages", side.label())
            });
            for note in notes.into_iter().chain(whole_pages) {
                if !self.result.notes.contains(&note) {
                    self.result.notes.push(note);
                }
            }
            outln!("{}", report::block_line(&block, wanted));
            self.result.blocks.push(block);
            self.judge();
            // What cannot be saved now is saved again at the end, where a failure is an error.
            let _ = files::write(file, self.json());
            if is_fatal {
                break;
            }
        }
        if self.is_over() {
            let why = match self.cut.ended() {
                Some(ended) => format!("the duet was ended {ended}"),
                None => "the duet was stopped".to_owned(),
            };
            self.reasons.push(why);
        }
        self.judge();
        Ok(())
    }

    /// Returns the result so far as JSON.
    pub(super) fn json(&self) -> String {
        // It has no map whose keys are not text.
        serde_json::to_string_pretty(&self.result).unwrap_or_default()
    }

    fn is_over(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) || self.cut.is_over()
    }

    /// Judges the blocks so far.
    fn judge(&mut self) {
        let result = &mut self.result;
        let (measures, missing) = verdict::judge(&result.blocks, &result.settings);
        result.invalid.clone_from(&self.reasons);
        if result.blocks.len() < result.settings.blocks {
            result.invalid.push(format!("{} of {} blocks were played", result.blocks.len(), result.settings.blocks));
        }
        result.verdict = verdict::overall(&measures, !result.invalid.is_empty(), !missing.is_empty());
        result.missing = missing;
        result.exit_code = result.verdict.exit_code();
        result.measures = measures;
        result.statements = pair_statements(&result.blocks);
        result.finished_at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    }

    /// Starts both systems, loads them, and stops them.
    fn attempt(&mut self, number: usize, signals: &Signals) -> Result<Attempt> {
        let index = number - 1;
        let order =
            if index.is_multiple_of(2) { [DuetSide::Base, DuetSide::Head] } else { [DuetSide::Head, DuetSide::Base] };
        let [first, second] = self.ports;
        let ports = if (index / 2).is_multiple_of(2) {
            Sides { base: first, head: second }
        } else {
            Sides { base: second, head: first }
        };
        let mut started = Sides::<Option<CheckedCertctl>>::default();
        for side in order {
            let certctl = self.players.of_mut(side).start(*ports.of(side), &self.needs)?;
            *started.of_mut(side) = Some(prepare::check(certctl, &self.needs)?);
        }
        let Sides { base: Some(base), head: Some(head) } = started else {
            return Err(Error::new("starting a block: a side is missing"));
        };
        let systems = Sides { base, head };
        let stop = match &self.stop {
            Some(stop) => stop.clone(),
            None => {
                let stop = signals.measuring()?;
                db::heed(&stop);
                self.stop.insert(stop).clone()
            }
        };
        let mut attempt = Attempt {
            block: Block {
                number,
                first: order[0].label(),
                ports: if self.players.base.is_running() { Sides::default() } else { ports },
                workloads: Vec::new(),
                work: Sides::default(),
                others: None,
            },
            ours: Vec::new(),
            fatal: Vec::new(),
            notes: Vec::new(),
        };
        self.result.systems = Some(systems.as_ref().map(|system| system.describe()));
        let groups = Sides::try_make(|side| bench::bind(self.load.groups(side, index)?, systems.of(side)))?;
        self.result.plans = groups.base.iter().flatten().map(PlanFacts::of_workload).collect();
        let mut gathered = Sides::<Gathered>::default();
        for (base, head) in groups.base.into_iter().zip(groups.head) {
            let group = Sides { base, head };
            self.play_group(&systems, &group, order, &stop, &mut gathered, &mut attempt)?;
            if self.is_over() {
                break;
            }
        }
        attempt.block.work = gathered
            .map(|one| SideWork::of(&one.measurements.iter().collect::<Vec<_>>(), &one.evidence, &one.machine_use));
        for side in DuetSide::BOTH {
            let certctl = &systems.of(side).certctl;
            let ended = certctl.ended().map(|error| error.to_string().replace('\n', "; "));
            let at_work = certctl.system.still_at_work();
            let at_work = at_work.then(|| "it was loaded before the work of its start had ended".to_owned());
            attempt.fatal.extend(ended.into_iter().chain(at_work).map(|why| format!("{}: {why}", side.label())));
            let problems = &attempt.block.work.of(side).problems;
            attempt.fatal.extend(problems.iter().map(|problem| format!("{}: {problem}", side.label())));
        }
        Ok(attempt)
    }

    /// Loads both systems with one group of workloads each, side by side.
    fn play_group(
        &self,
        systems: &Sides<CheckedCertctl>,
        group: &Sides<Vec<BoundWorkload>>,
        order: [DuetSide; 2],
        stop: &Arc<AtomicBool>,
        gathered: &mut Sides<Gathered>,
        attempt: &mut Attempt,
    ) -> Result<()> {
        let control = Control { stop: stop.clone(), cut: self.cut.clone(), ..Control::default() };
        let mut observers = Sides::<Option<Observer<'_>>>::default();
        for side in order {
            *observers.of_mut(side) = Some(Observer::begin(systems.of(side), group.of(side), &control)?);
        }
        let meters =
            Sides::try_make(|side| MachineMeter::start(systems.of(side).addresses(), control.progress.clone()))?;
        let workloads: Vec<BoundWorkload> = order.into_iter().flat_map(|side| group.of(side).clone()).collect();
        let mut measurements = {
            let _watching = self.live.watch(control.progress.clone(), workloads.iter().map(|bound| &bound.workload));
            run::run(&workloads, &[Shard::WHOLE], &control)?
        };
        let second = measurements.split_off(group.of(order[0]).len());
        let mut of_sides = Sides::<Vec<Measurement>>::default();
        *of_sides.of_mut(order[0]) = measurements;
        *of_sides.of_mut(order[1]) = second;
        let mut machine_use = meters.map(MachineMeter::finish);
        if let Sides { base: Some(base), head: Some(head) } = &mut machine_use
            && base.postgresql_is == head.postgresql_is
        {
            // Of a PostgreSQL that both have, neither has a share of its own.
            (base.mean.postgresql, head.mean.postgresql) = (None, None);
        }
        // In the order of the beginning: each is then observed for as long.
        for side in order {
            let (measurements, group) = (of_sides.of(side), group.of(side));
            let Some(observer) = observers.of_mut(side).take() else { continue };
            let Observed { work, evidence, uncounted } = observer.finish(group, measurements);
            attempt.fatal.extend(uncounted.map(|why| format!("{}: {why}", side.label())));
            for ((bound, measurement), work) in group.iter().zip(measurements).zip(&work) {
                let punctuality = bound.workload.plan.punctuality();
                for why in validity::judge(measurement, work, punctuality, bound.scenario.decisive_span()) {
                    let reason = format!("{}: {}: {why}", side.label(), bound.workload.name);
                    match why {
                        // Errors and missing answers are measures.
                        Invalid::NothingMeasured | Invalid::Partial => {}
                        why if why.is_ours() => attempt.ours.push(reason),
                        // A wait for a connection is part of the response time.
                        Invalid::Lag { .. } | Invalid::Unsent { .. } => attempt.notes.push(reason),
                        _ => attempt.fatal.push(reason),
                    }
                }
                let broken = bound.scenario.broken_rules();
                attempt.fatal.extend(broken.iter().map(|rule| format!("{}: {rule}", side.label())));
                let example = measurement.examples.first();
                attempt
                    .notes
                    .extend(example.map(|(outcome, detail)| format!("{}: first {outcome}: {detail}", side.label())));
            }
            let gathered = gathered.of_mut(side);
            gathered.evidence.extend(evidence);
            gathered.machine_use.push(machine_use.of(side).clone());
        }
        if let Some(used) = &machine_use.base {
            // A head that runs already is among the base's others; one that was started is among the generator's
            // children.
            let head = machine_use.head.as_ref().filter(|_| self.players.head.is_running());
            let head = head.map(|one| one.mean.system.unwrap_or_default() + one.mean.postgresql.unwrap_or_default());
            let others = (used.mean.others + used.mean.steal - head.unwrap_or_default()).max(0.0);
            attempt.block.others = Some(attempt.block.others.map_or(others, |most| most.max(others)));
            if others > OTHERS_MENTIONED * f64::from(used.cpus) {
                let number = attempt.block.number;
                attempt.notes.push(format!("block {number}: other processes and the host took {others:.1} processors"));
            }
        }
        for (index, bound) in group.base.iter().enumerate() {
            let both = Sides { base: &of_sides.base[index], head: &of_sides.head[index] };
            attempt.block.workloads.push(WorkloadBlock::of(bound.workload.name, both));
        }
        for side in DuetSide::BOTH {
            gathered.of_mut(side).measurements.append(of_sides.of_mut(side));
        }
        Ok(())
    }
}

/// The observations of one side in a block.
#[derive(Default)]
struct Gathered {
    measurements: Vec<Measurement>,
    evidence: Vec<Evidence>,
    machine_use: Vec<Option<MachineUse>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_not_repeated_where_that_would_hide_a_finding() {
        let attempt = |ours: &[&str], fatal: &[&str]| {
            let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let (ports, work) = (Sides::default(), Sides::default());
            let block = Block { number: 1, first: "base", ports, workloads: Vec::new(), work, others: None };
            Attempt { block, ours: owned(ours), fatal: owned(fatal), notes: Vec::new() }
        };
        assert_eq!(attempt(&["late"], &[]).void(), Some("late"));
        assert_eq!(attempt(&["late"], &["audit rows are missing"]).void(), None);
        assert_eq!(attempt(&[], &["audit rows are missing"]).void(), None);
        assert_eq!(attempt(&[], &[]).void(), None);
    }
}
