//! A run of several processes on this machine: this one prepares the system, counts side effects and judges, and its
//! shards, processes of the same program, play the load (`--generator-processes`).
//!
//! A shard reads its order from standard input. It writes a line to standard output once its connections are open,
//! reads the common start, and leaves its part in a folder. The end of its standard input ends it.

use std::fmt;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::bench::{self, Bench, ChoiceOf};
use super::exit;
use super::hand_over::HandOver;
use super::invocation::Invocation;
use super::prepare::SystemChoice as _;
use super::shard::{Meeting, ShardPlace, play};
use crate::clock::{Moment, WallTime};
use crate::error::{Context, Error, Result};
use crate::foreign;
use crate::load::cut::Ended;
use crate::load::limits::{SPARE, Sockets, spawn};
use crate::load::plan::{Opening, Plan};
use crate::load::ports::Ports;
use crate::load::progress::{Progress, ProgressCounts, Stage};
use crate::load::run::Control;
use crate::load::shard::{MOST_SHARDS, Shard};
use crate::provision::child::{Child, Spec};
use crate::run::BoundWorkload;
use crate::shard::clocks::ShardClock;
use crate::shard::merge::{MergedShards, Merger};
use crate::shard::part::{self, PartEnd, ShardPart};
use crate::system::CheckedCertctl;
use crate::terminal::outln;
use crate::wire::source;

/// Says that a bench target has started this process as a shard. The order is no part of it, since it holds the token,
/// and may be longer than a variable.
const VARIABLE: &str = "CERTCTL_BENCH_SHARD";
/// The line of a shard whose connections are open.
const READY: &str = "ready";
/// The line of a shard that ends the whole run, by a limit of it.
const CUT: &str = "cut";
/// The line to a shard that is to end.
const STOP: &str = "stop";
/// The time between the agreement on a start and the start, and more of it for each shard that has to hear of it.
const LEAD: Duration = Duration::from_millis(100);
const LEAD_EACH: Duration = Duration::from_millis(2);
/// The interval at which this process looks for lines and ends of its shards.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The interval at which a shard reports its progress.
const REPORT_EVERY: Duration = Duration::from_millis(250);
/// The longest time that a shard may take to start, and to open its connections beyond what their rate implies.
const READY_PATIENCE: Duration = Duration::from_secs(90);
/// The longest time that a shard may take to end after its last request may have ended.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// The longest time that a stopped shard may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The number of generator processes that a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessCount {
    /// As few as the limit of file descriptors allows.
    Auto,
    /// So many.
    Fixed(u64),
}

impl FromStr for ProcessCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(count)) if (1..=MOST_SHARDS).contains(&count) => Ok(Self::Fixed(count)),
            _ => Err(format!("`{text}`: give auto, or a number from 1 to {MOST_SHARDS}")),
        }
    }
}

impl fmt::Display for ProcessCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(count) => count.fmt(f),
        }
    }
}

impl ProcessCount {
    /// Returns the number of processes for a run that needs these sockets. `unsplit` is the reason for which the
    /// workloads need one process, if they do.
    ///
    /// # Errors
    /// If the user wants several and the workloads need one (kind `Usage`).
    pub(super) fn of(self, sockets: Sockets, unsplit: Option<&str>) -> Result<u64> {
        match (self, unsplit) {
            (Self::Fixed(count @ 2..), Some(why)) => {
                Err(Error::usage(format!("--generator-processes {count}: {why}")).with_hint("leave it out"))
            }
            (Self::Fixed(count), _) => Ok(count),
            // With one process, the limit is reported.
            (Self::Auto, Some(_)) => Ok(1),
            (Self::Auto, None) => {
                let descriptors = getrlimit(Resource::Nofile).maximum;
                // On loopback each process has an address of its own, with all ports.
                let ports = Ports::of_this_machine().map(|ports| ports.count() + SPARE);
                Ok(fewest(sockets, descriptors.into_iter().chain(ports).min()))
            }
        }
    }
}

/// Returns the fewest processes whose share of these sockets fits into a limit of descriptors for each; 1 if no number
/// does.
fn fewest(sockets: Sockets, limit: Option<u64>) -> u64 {
    let Some(room) = limit.map(|limit| limit.saturating_sub(SPARE)).filter(|room| *room > 0) else { return 1 };
    let wanted = (sockets.connections + sockets.closing) as u64;
    let mut count = wanted.div_ceil(room).max(1);
    // Both shares are rounded up.
    while count < MOST_SHARDS && sockets.of_each(count).descriptors() as u64 > room + SPARE {
        count += 1;
    }
    if sockets.of_each(count).descriptors() as u64 <= room + SPARE { count } else { 1 }
}

/// The order of a shard.
#[derive(Deserialize, Serialize)]
struct ShardOrder {
    certctl: HandOver,
    run_id: String,
    shard: Shard,
    parts: PathBuf,
    flags: Vec<String>,
    /// The source address of its connections to loopback, where it needs one of its own.
    source: Option<Ipv4Addr>,
}

/// The processes that play the load of a run.
pub(super) struct Crew<'a> {
    /// The start of the bench target.
    pub(super) invocation: &'a Invocation,
    /// The number of processes.
    pub(super) count: u64,
    /// The system that they load.
    pub(super) certctl: &'a CheckedCertctl,
    /// The id of the run.
    pub(super) run_id: String,
    /// The folder of the parts.
    pub(super) parts: PathBuf,
    /// True if one address has too few ports for all.
    pub(super) has_sources: bool,
}

/// One of them.
struct Member {
    child: Child,
    name: String,
    is_ready: bool,
    /// True if it ends the whole run.
    is_cut: bool,
    counts: ProgressCounts,
    is_over: bool,
    /// The way in which it ended, if that was not its duty.
    fault: Option<String>,
}

impl Crew<'_> {
    /// Plays the load of a group of workloads, and returns the results of all shards, with the moment of the start. A
    /// shard that failed is named among the reasons for an invalid run.
    ///
    /// # Errors
    /// If a shard cannot be started, or fails before the load.
    pub(super) fn play(&self, group: &[BoundWorkload], control: &Control) -> Result<(MergedShards, Moment)> {
        part::clear(&self.parts)?;
        let mut members = (0..self.count).map(|index| self.start(index)).collect::<Result<Vec<_>>>()?;
        let plans = || group.iter().map(|bound| &bound.workload.plan);
        let opening = plans().map(opening).max().unwrap_or_default() + READY_PATIENCE;
        let are_ready = gather(&mut members, control, opening)?;
        let start = Moment::now() + LEAD + LEAD_EACH * self.count as u32;
        let wall = WallTime::at(start);
        if are_ready {
            for member in &mut members {
                member.tell(&format!("start {} {}", start.as_ns(), wall.as_ns()));
            }
            let last = plans().map(longest).max().unwrap_or_default() + END_PATIENCE;
            supervise(&mut members, control, plans, start, last)?;
        } else {
            end(&mut members, control)?;
        }
        let mut merger = Merger::default();
        for index in 0..self.count {
            let name = part::file_name(index);
            let path = self.parts.join(&name);
            match ShardPart::read(&path) {
                Ok(part) => merger.add(&name, part),
                // A missing one is named as the shard's.
                Err(_) if !path.exists() => {}
                Err(error) => merger.refuse(&name, &error),
            }
        }
        let fault = |index: u64| members[index as usize].fault.clone().unwrap_or_else(|| "it left no part".to_owned());
        let merged = merger.finish_with_gaps(&self.run_id, self.count, wall, fault);
        if merged.workloads.is_empty() && control.stop.load(Ordering::Relaxed) {
            return Err(Error::new("stopped before the load began: nothing was measured"));
        }
        Ok((merged, start))
    }

    fn start(&self, index: u64) -> Result<Member> {
        let shard = Shard::new(index, self.count).ok_or_else(|| Error::new("starting a shard: there is none"))?;
        let order = ShardOrder {
            certctl: HandOver::of(self.certctl),
            run_id: self.run_id.clone(),
            shard,
            parts: self.parts.clone(),
            flags: self.invocation.texts()?,
            source: self.has_sources.then(|| source_of(index)),
        };
        let order = serde_json::to_string(&order).context(|| "encoding the order of a shard".to_owned())?;
        let mut command = self.invocation.again()?;
        command.env(VARIABLE, "on standard input");
        let name = shard.to_string();
        let mut child = Child::spawn(&name, command, Spec::default())?;
        // One that has ended already is noted as such.
        let _ = child.write_line(&order);
        let counts = ProgressCounts::default();
        Ok(Member { child, name, is_ready: false, is_cut: false, counts, is_over: false, fault: None })
    }
}

impl Member {
    /// Reads its lines, and notes its end. Returns true if it has reported progress.
    fn look(&mut self) -> Result<bool> {
        let mut is_news = false;
        // Before the lines: those of one that has ended are complete.
        let status = if self.is_over { None } else { self.child.exited()? };
        while let Some(line) = self.child.line() {
            match serde_json::from_str(&line) {
                Ok(counts) => (self.counts, is_news) = (counts, true),
                Err(_) => {
                    self.is_ready |= line == READY;
                    self.is_cut |= line == CUT;
                }
            }
        }
        if let Some(status) = status {
            self.is_over = true;
            if !status.success() {
                self.fail("it ended before its load did");
            }
        }
        Ok(is_news)
    }

    fn fail(&mut self, why: &str) {
        let failure = self.child.failure(why);
        let what = failure.what();
        let what = what.strip_prefix(&format!("{}: ", self.name)).unwrap_or(what);
        self.fault.get_or_insert(foreign::visible(&what.replace('\n', " "), usize::MAX));
    }

    fn tell(&mut self, line: &str) {
        // One that has ended is noted as such.
        let _ = self.child.write_line(line);
    }

    /// Ends it at once.
    fn kill(&mut self, why: &str) {
        self.fail(why);
        self.is_over = true;
        // One that hangs in the kernel is left to it.
        let _ = self.child.stop(Duration::ZERO);
    }
}

/// Returns the source address of a shard: 127.0.0.2 is that of the first.
fn source_of(index: u64) -> Ipv4Addr {
    // There are at most a few thousand shards.
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 2).to_bits() + index as u32)
}

/// Returns the time in which the connections of a plan are opened.
fn opening(plan: &Plan) -> Duration {
    match plan.opening {
        Opening::Before(rate) => Duration::from_nanos(rate.offset_ns(plan.connections as u64)) + plan.timeout * 4,
        Opening::ByFirstRequest => Duration::ZERO,
    }
}

/// Returns the time from the start until the last request of a plan has ended.
fn longest(plan: &Plan) -> Duration {
    plan.end() + plan.goes_on + plan.timeout * 2
}

/// Waits until all are ready; returns false if one has ended before that, or the run is to stop.
///
/// # Errors
/// If one fails before its load, or is not ready within `patience`.
fn gather(members: &mut [Member], control: &Control, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        look(members, &control.progress)?;
        if let Some(failed) = members.iter().find(|member| member.fault.is_some()) {
            let error = Error::new(format!("{}: {}", failed.name, failed.fault.as_deref().unwrap_or_default()));
            end(members, control)?;
            return Err(error);
        }
        if control.stop.load(Ordering::Relaxed) || members.iter().any(|member| member.is_over) {
            return Ok(false);
        }
        match members.iter_mut().find(|member| !member.is_ready) {
            None => return Ok(true),
            Some(late) if Instant::now() >= deadline => {
                let why = format!("it was not ready within {} s", patience.as_secs());
                let error = late.child.failure(&why).with_hint("lower --connections, or raise --connect-rate");
                end(members, control)?;
                return Err(error);
            }
            Some(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Follows the load until all have ended: one that does not within `last` of the start is ended. If one fails, all are:
/// the run is invalid.
fn supervise<'p, P: Iterator<Item = &'p Plan>>(
    members: &mut [Member],
    control: &Control,
    plans: impl Fn() -> P,
    start: Moment,
    last: Duration,
) -> Result<()> {
    let begin = plans().map(|plan| plan.starts_after + plan.warm_up).min().unwrap_or_default();
    let over = plans().map(Plan::end).max().unwrap_or_default();
    while members.iter().any(|member| !member.is_over) {
        look(members, &control.progress)?;
        let now = Moment::now();
        for (stage, from) in [(Stage::WarmUp, Duration::ZERO), (Stage::Measuring, begin), (Stage::Draining, over)] {
            if now >= start + from {
                control.progress.enter(stage);
            }
        }
        let ends_run = |member: &Member| member.is_cut || member.fault.is_some();
        if control.stop.load(Ordering::Relaxed) || members.iter().any(ends_run) {
            return end(members, control);
        }
        if now >= start + last {
            let late = members.iter_mut().filter(|member| !member.is_over);
            late.for_each(|member| member.kill(&format!("it had not ended {} s after the start", last.as_secs())));
        }
        thread::sleep(LOOK_EVERY);
    }
    control.progress.enter(Stage::Draining);
    Ok(())
}

/// Ends all, each of which leaves what it has measured.
fn end(members: &mut [Member], control: &Control) -> Result<()> {
    control.progress.enter(Stage::Draining);
    members.iter_mut().filter(|member| !member.is_over).for_each(|member| member.tell(STOP));
    let deadline = Instant::now() + STOP_PATIENCE;
    while members.iter().any(|member| !member.is_over) {
        look(members, &control.progress)?;
        if Instant::now() >= deadline {
            let late = members.iter_mut().filter(|member| !member.is_over);
            late.for_each(|member| member.kill(&format!("it did not stop within {} s", STOP_PATIENCE.as_secs())));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn look(members: &mut [Member], progress: &Progress) -> Result<()> {
    let mut is_news = false;
    for member in members.iter_mut() {
        is_news |= member.look()?;
    }
    if !is_news {
        return Ok(());
    }
    let mut all = ProgressCounts::default();
    members.iter().for_each(|member| all.add(&member.counts));
    progress.show(&all);
    Ok(())
}

/// Plays a shard and returns its exit code, if this process was started to do that.
pub(super) fn play_if_ordered<B: Bench>() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let reading = || "reading the order of a shard".to_owned();
    let order = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context(reading)?;
        serde_json::from_str(&line).context(reading)
    };
    Some(match order().and_then(play_order::<B>) {
        Ok(()) => exit::done(0),
        Err(error) => exit::fail(&error),
    })
}

fn play_order<B: Bench>(order: ShardOrder) -> Result<()> {
    let ShardOrder { certctl, run_id, shard, parts, flags, source } = order;
    source.into_iter().for_each(source::set);
    let certctl = certctl.take()?;
    let arguments = flags.into_iter().map(Into::into).collect();
    let (mut flags, words) = bench::parse_load::<B>(arguments).context(|| format!("reading {VARIABLE}"))?;
    flags.apply_smoke();
    let system = ChoiceOf::<B>::handed_over(certctl);
    let system = system.ok_or_else(|| Error::new(format!("{} is not played by several processes", B::NAME)))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (announce, announced) = mpsc::channel();
    let stopping = stop.clone();
    spawn("orders", move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match start_of(&line) {
                // One that is not waited for is too late, which is noted.
                Some(start) => drop(announce.send(start)),
                None => stopping.store(line == STOP, Ordering::Relaxed),
            }
        }
        stopping.store(true, Ordering::Relaxed);
    })?;
    let progress = Arc::new(Progress::default());
    let shown = progress.clone();
    spawn("progress", move || {
        let mut last = ProgressCounts::default();
        loop {
            thread::sleep(REPORT_EVERY);
            let counts = shown.counts();
            if counts != last {
                // It has no key that is not text.
                outln!("{}", serde_json::to_string(&counts).unwrap_or_default());
                last = counts;
            }
        }
    })?;
    let place = ShardPlace {
        run_id: Some(run_id),
        shard,
        parts,
        meeting: Meeting::announced(announced, || outln!("{READY}"), flags.load.max_lag),
        clock: ShardClock::of_this_machine(),
        observes: false,
        words,
    };
    let ended = play(&flags, &system, place, Control { stop, progress, ..Control::default() })?;
    // The limit on requests is each shard's own.
    if matches!(&ended, PartEnd::Cut(why) if !matches!(why, Ended::Requests(_))) {
        outln!("{CUT}");
    }
    Ok(())
}

/// Parses the line that announces the common start: its moment, and the wall clock's time of it.
fn start_of(line: &str) -> Option<(Moment, WallTime)> {
    let (moment, wall) = line.strip_prefix("start ")?.split_once(' ')?;
    Some((Moment::from_ns(moment.parse().ok()?), WallTime::from_ns(wall.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_of_processes_are_parsed() {
        let parsed = |text: &str| text.parse::<ProcessCount>().ok();
        assert_eq!([parsed("auto"), parsed("3")], [Some(ProcessCount::Auto), Some(ProcessCount::Fixed(3))]);
        assert_eq!([parsed(""), parsed("0"), parsed("-1"), parsed("4097"), parsed("many")], [None; 5]);
    }

    #[test]
    fn a_descriptor_limit_decides_on_the_processes() {
        let agents = |connections, closing| Sockets { connections, closing, ..Sockets::default() };
        let of = |sockets, limit| fewest(sockets, Some(limit));
        assert_eq!([of(agents(5_000, 0), 20_000), of(agents(19_936, 0), 20_000)], [1, 1]);
        assert_eq!([of(agents(19_937, 0), 20_000), of(agents(50_000, 0), 20_000)], [2, 3]);
        assert_eq!(of(agents(50_000, 1_024), 1_024), 54);
        // No number of processes fits.
        assert_eq!([of(agents(50_000, 0), 64), of(agents(50_000, 0), 20)], [1, 1]);
        assert_eq!(fewest(agents(50_000, 0), None), 1);
    }

    proptest! {
        #[test]
        fn the_share_of_each_process_fits(
            connections in 1_usize..200_000,
            closing in 0_usize..2_000,
            limit in 65_u64..70_000,
        ) {
            let sockets = Sockets { connections, closing, ..Sockets::default() };
            let count = fewest(sockets, Some(limit));
            let fits = |count| sockets.of_each(count).descriptors() as u64 <= limit;
            prop_assert!(fits(count) || count == 1 && !fits(MOST_SHARDS));
            prop_assert!(count == 1 || !fits(count - 1));
        }
    }

    #[test]
    fn an_announcement_of_the_start_is_parsed() {
        assert_eq!(start_of("start 12 34"), Some((Moment::from_ns(12), WallTime::from_ns(34))));
        assert_eq!([start_of("start 12"), start_of("start x 3"), start_of("stop")], [None; 3]);
    }
}
