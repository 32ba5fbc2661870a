//! The merge of the parts of a run: every shard exactly once, all of one run. A pure fold, one part at a time, so that
//! memory does not grow with the size of parts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::clocks::{self, ShardClock};
use super::part::{PartEnd, PartWorkload, ShardPart};
use crate::clock::WallTime;
use crate::error::{Error, Result};
use crate::load::cut::Ended;
use crate::measure::machine_use::MachineUse;
use crate::measure::validity::{Invalid, ShardFault};
use crate::measure::{Measurement, Quantile};
use crate::scenario::acme::Paths;
use crate::summary::About;
use crate::summary::shards::{OneShard, ShardFacts};

/// The most indexes of missing shards, and of other faults, that are named.
const MOST_NAMED: usize = 20;

/// The merge so far.
#[derive(Debug, Default)]
pub struct Merger {
    first: Option<First>,
    /// The name of the part of each shard.
    names: BTreeMap<u64, String>,
    workloads: Vec<MergedWorkload>,
    shards: BTreeMap<u64, OneShard>,
    clocks: BTreeMap<u64, ShardClock>,
    machine_use: Option<MachineUse>,
    reasons: Vec<Invalid>,
    /// The shards that were stopped.
    stopped: Vec<Invalid>,
    ended: Option<Ended>,
    faults: Vec<String>,
}

/// The properties that all parts of a run have in common, as the first of them states them.
#[derive(Debug)]
struct First {
    name: String,
    identity: Identity,
    count: u64,
    about: About,
    flags: Vec<String>,
    acme: Option<Paths>,
    start_ns: u64,
}

/// The properties by which a part is known to be of a run: the name of each, and its value.
type Identity = [(&'static str, String); 9];

/// A workload of all shards together.
#[derive(Debug)]
pub struct MergedWorkload {
    /// Its name.
    pub name: String,
    /// Its measurement.
    pub measurement: Measurement,
    /// The notes of its scenario in each shard.
    pub notes: Vec<Value>,
}

/// A run whose parts were merged.
#[derive(Debug)]
pub struct MergedRun {
    /// The id of the run.
    pub run_id: String,
    /// The fingerprint of its workloads.
    pub fingerprint: String,
    /// The run, with the machine of its first part.
    pub about: About,
    /// The flags of the load.
    pub flags: Vec<String>,
    /// The paths of the ACME server, where the run has one.
    pub acme: Option<Paths>,
    /// The results.
    pub merged: MergedShards,
}

/// The results of the shards of a run, merged.
#[derive(Debug)]
pub struct MergedShards {
    /// The workloads, in the order in which they were planned; none where the load of no shard began.
    pub workloads: Vec<MergedWorkload>,
    /// The use of all machines, where shards have observed it.
    pub machine_use: Option<MachineUse>,
    /// The shards, for the summary.
    pub facts: ShardFacts,
    /// The reasons of single shards for which the run is invalid.
    pub reasons: Vec<Invalid>,
    /// The limit that ended the run early, if one did.
    pub ended: Option<Ended>,
}

impl Merger {
    /// Adds a part, which `name` names in messages. One that does not belong to the others is noted as a fault.
    pub fn add(&mut self, name: &str, part: ShardPart) {
        let identity = identity(&part);
        let index = part.shard.index();
        if let Some(first) = &self.first {
            for ((what, of_first), (_, own)) in first.identity.iter().zip(&identity) {
                // A shard that was ended before that knows no start.
                if of_first != own && !of_first.is_empty() && !own.is_empty() {
                    self.faults.push(format!("{name}: its {what} is {own}, that of {} is {of_first}", first.name));
                    return;
                }
            }
        }
        if let Some(other) = self.names.insert(index, name.to_owned()) {
            self.faults.push(format!("{name}: it is {} again, which {other} is too", part.shard));
            return;
        }
        let ShardPart { shard, about, flags, acme, start_ns, clock, workloads, machine_use, own_faults, ended, .. } =
            part;
        self.shards.insert(index, one_shard(index, &workloads));
        self.clocks.insert(index, clock);
        if let Err(error) = self.merge(workloads) {
            self.faults.push(format!("{name}: {}", error.what()));
        }
        if let Some(used) = machine_use {
            match &mut self.machine_use {
                Some(all) => all.merge(&used),
                all => *all = Some(used),
            }
        }
        let fault = |fault| Invalid::Shard { index, count: shard.count(), fault };
        self.reasons.extend(own_faults.into_iter().map(|why| fault(ShardFault::Own(why))));
        match ended {
            PartEnd::Complete => {}
            PartEnd::Stopped => self.stopped.push(fault(ShardFault::Ended("it was stopped before its end".to_owned()))),
            PartEnd::Late(by) => self.reasons.push(fault(ShardFault::Late(by))),
            PartEnd::Cut(ended) => {
                self.ended.get_or_insert(ended);
            }
        }
        let name = name.to_owned();
        self.first.get_or_insert(First { name, identity, count: shard.count(), about, flags, acme, start_ns });
    }

    /// Notes a part that cannot be read.
    pub fn refuse(&mut self, name: &str, why: &Error) {
        self.faults.push(format!("{name}: {}", why.what()));
    }

    /// Returns the run, all of whose shards have to be there.
    ///
    /// # Errors
    /// Of the kind `Invalid`, if a part is missing, cannot be read, is there twice or is of another run; the error
    /// names each.
    pub fn finish(mut self) -> Result<MergedRun> {
        let Some(first) = self.first.take() else {
            let why = if self.faults.is_empty() { "there is none".to_owned() } else { named(&self.faults) };
            return Err(Error::invalid(format!("merging parts: {why}"))
                .with_hint("name the folder to which the shards wrote their parts"));
        };
        let missing = self.missing(first.count);
        if !missing.is_empty() {
            let list: Vec<String> = missing.iter().map(u64::to_string).collect();
            let (shards, are) = if list.len() == 1 { ("shard", "is") } else { ("shards", "are") };
            let count = first.count;
            self.faults.push(format!("{shards} {} of {count} (counted from 0) {are} missing", named_with(&list, ", ")));
        }
        if !self.faults.is_empty() {
            let text = format!("merging parts: {}", named(&self.faults));
            return Err(Error::invalid(text).with_hint(
                "give every part of one run, each once; a shard whose part is missing says why in its log",
            ));
        }
        let [run_id, fingerprint] = ["run id", "workload fingerprint"].map(|wanted| {
            let found = first.identity.iter().find(|(what, _)| *what == wanted);
            found.map_or_else(String::new, |(_, value)| value.clone())
        });
        let First { about, flags, acme, start_ns, .. } = first;
        let merged = self.into_shards(run_id.clone(), WallTime::from_ns(start_ns));
        Ok(MergedRun { run_id, fingerprint, about, flags, acme, merged })
    }

    /// Returns the results of those shards that came back, with a reason for an invalid run for each of the other ones,
    /// which `why` gives. Faults of parts are reasons too.
    pub fn finish_with_gaps(
        mut self,
        run_id: &str,
        count: u64,
        start: WallTime,
        mut why: impl FnMut(u64) -> String,
    ) -> MergedShards {
        for index in self.missing(count) {
            self.reasons.push(Invalid::Shard { index, count, fault: ShardFault::Ended(why(index)) });
        }
        let faults = std::mem::take(&mut self.faults);
        self.reasons.extend(faults.into_iter().map(Invalid::Parts));
        self.into_shards(run_id.to_owned(), start)
    }

    fn into_shards(mut self, run_id: String, start: WallTime) -> MergedShards {
        // Where a limit ended the run, that is why the others were stopped.
        if self.ended.is_none() {
            self.reasons.append(&mut self.stopped);
        }
        let clocks = clocks::agreement(self.clocks.values());
        let shards = self.shards.into_values().collect();
        MergedShards {
            workloads: self.workloads,
            machine_use: self.machine_use,
            facts: ShardFacts { run_id, start: start.to_string(), clocks, shards },
            reasons: self.reasons,
            ended: self.ended,
        }
    }

    fn missing(&self, count: u64) -> Vec<u64> {
        (0..count).filter(|index| !self.names.contains_key(index)).collect()
    }

    fn merge(&mut self, workloads: Vec<PartWorkload>) -> Result<()> {
        if self.workloads.is_empty() {
            self.workloads = workloads
                .into_iter()
                .map(|PartWorkload { name, measurement, notes }| MergedWorkload {
                    name,
                    measurement,
                    notes: vec![notes],
                })
                .collect();
            return Ok(());
        }
        for (all, one) in self.workloads.iter_mut().zip(workloads) {
            if all.name != one.name {
                return Err(Error::invalid(format!("its workload {} stands where {} is due", one.name, all.name)));
            }
            all.measurement.merge(&one.measurement)?;
            all.notes.push(one.notes);
        }
        Ok(())
    }
}

fn one_shard(index: u64, workloads: &[PartWorkload]) -> OneShard {
    let measurements = || workloads.iter().map(|one| &one.measurement);
    let generator = measurements().next().map(|one| &one.generator);
    let lag = measurements().filter_map(|one| one.lag.quantile_ns(Quantile::P99)).max();
    OneShard {
        index,
        scheduled: measurements().map(|one| one.scheduled).sum(),
        started: measurements().map(|one| one.started).sum(),
        busy_share: generator.map_or(0.0, |generator| generator.busy_share()),
        lag_p99_us: lag.map(|ns| ns as f64 / 1e3),
        peak_rss_bytes: generator.map_or(0, |generator| generator.peak_rss_bytes()),
    }
}

fn identity(part: &ShardPart) -> Identity {
    [
        ("run id", part.run_id.clone()),
        ("bench target", part.about.scenario.to_string()),
        ("number of shards", part.shard.count().to_string()),
        ("number of threads", part.threads.to_string()),
        ("workload fingerprint", part.fingerprint.clone()),
        ("suite version", part.suite_version.clone()),
        ("commit of the suite", part.about.machine.commit.clone()),
        ("system", part.about.system.base_url.clone()),
        ("start", if part.start_ns == 0 { String::new() } else { part.start().to_string() }),
    ]
}

fn named(faults: &[String]) -> String {
    named_with(faults, "; ")
}

fn named_with(all: &[String], between: &str) -> String {
    let list = all.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(between);
    match all.len().checked_sub(MOST_NAMED) {
        None | Some(0) => list,
        Some(more) => format!("{list}{between}and {more} more"),
    }
}
