//! `certctl-bench shard`: plays one shard of a run that several machines load a system with.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::parser::ValueSource;

use super::agent_storm_flags::AgentStormFlags;
use super::bench::{self, Bench, SystemArgs as _, SystemOf};
use super::bench_load;
use super::common_flags::{BenchFlags, EnvironmentUse};
use super::prepare::SystemChoice as _;
use super::registry;
use super::remote;
use super::signals::Signals;
use crate::baseline::workload::{WorkloadIdentity, short_hash};
use crate::clock::{Moment, WallTime};
use crate::error::{Error, Result};
use crate::evidence::meter::MachineMeter;
use crate::exit_code;
use crate::files;
use crate::load::cut::Cut;
use crate::load::plan::{Opening, Plan};
use crate::load::run::Control;
use crate::load::shard::Shard;
use crate::load::start_line::StartLine;
use crate::load::threads::GeneratorThreads;
use crate::measure::validity;
use crate::run::{self, BoundWorkload, RunPart, sockets};
use crate::shard::clocks::{ClockPeer, MeasuredOffset, ShardClock};
use crate::shard::part::{self, PART_VERSION, PartEnd, PartWorkload, ShardPart};
use crate::summary::About;
use crate::summary::plan::PlanFacts;
use crate::system::{Addresses, System as _};
use crate::terminal::{errln, outln};

/// The time before the start at which connections are open, beyond what their rate implies.
const AHEAD: Duration = Duration::from_secs(30);
/// The interval at which a wait looks for a signal.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The flags of a bench target without effect on a shard, by clap's ids.
const REFUSED: [&str; 5] = ["output", "baselines", "add_run", "generator_processes", "mode"];

/// Flags of `certctl-bench shard`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Flags of the bench target follow after `--`: certctl-bench shard … -- --target https://certctl:8443\n\
                  Exit codes: 0 the part is written, 1 could not run, 2 usage, 5 the shard was late or stopped."
)]
pub struct ShardFlags {
    /// The bench target.
    #[arg(long, value_name = "NAME", default_value = AgentStormFlags::NAME, env = "CERTCTL_BENCH_NAME")]
    pub(super) bench: String,
    /// The shard's index, from 0.
    #[arg(long, env = "JOB_COMPLETION_INDEX")]
    index: u64,
    /// The number of shards.
    #[arg(long, env = "CERTCTL_BENCH_SHARD_COUNT")]
    count: u64,
    /// The common start of the load, the same for every shard: 2026-05-01T12:00:00Z.
    #[arg(long, value_name = "TIME", env = "CERTCTL_BENCH_START")]
    start: WallTime,
    /// The folder of the parts, which all machines share or whose files are brought together later.
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_PARTS")]
    parts: PathBuf,
    /// A name of the run, the same for every shard and for no other run [default: made of start, count and load].
    #[arg(long, value_name = "ID", env = "CERTCTL_BENCH_RUN_ID")]
    run_id: Option<String>,
    /// Measure the difference between this machine's clock and that of shard 0, which listens there.
    #[arg(long, value_name = "HOST:PORT", env = "CERTCTL_BENCH_CLOCK_PEER")]
    clock_peer: Option<String>,
    /// Flags of the bench target.
    #[arg(last = true, value_name = "FLAGS")]
    load: Vec<String>,
}

/// Plays a shard, and writes its part. Returns the exit code.
///
/// # Errors
/// If it cannot run.
pub fn run(flags: ShardFlags) -> Result<u8> {
    registry::named(&flags.bench)?.shard(flags)
}

/// Plays a shard of the bench target `B`.
pub(super) fn run_for<B: Bench>(flags: ShardFlags) -> Result<u8> {
    let shard = Shard::new(flags.index, flags.count).ok_or_else(|| {
        Error::usage(format!("there is no shard {} of {}", flags.index, flags.count))
            .with_hint("indexes count from 0: give --index below --count")
    })?;
    let words = [B::NAME, "--bench", "--mode", "sustained"].map(str::to_owned).into_iter().chain(flags.load.clone());
    let parsed = bench::parse_matches::<B>(words.map(Into::into).collect());
    let (own, matches) = parsed.map_err(|error| bench_load::wrong(&error, B::NAME))?;
    let given = |id: &&str| *id != "mode" && matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(id) = REFUSED.iter().find(|id| given(id)) {
        return Err(
            Error::usage(format!("--{} has no effect on a shard", id.replace('_', "-"))).with_hint("leave it out")
        );
    }
    if let Some(why) = own.bench.unsplit() {
        return Err(Error::usage(format!("{}: {why}", B::NAME)));
    }
    let planned = own.bench.groups(&own.load)?;
    let workloads = || planned.iter().flatten().map(|planned| &planned.workload);
    sockets(workloads()).of_each(flags.count).allow(own.bench.sized())?;
    let mut choice = own.system.clone().resolve(EnvironmentUse::Counts)?;
    own.bench.adjust(&mut choice);
    choice.is_for_shards()?;
    files::probe(&flags.parts)?;
    part::forget(&flags.parts, shard.index())?;
    let signals = Signals::watch()?;
    remote::clear(&choice.destinations()?, own.allow_remote, B::NAME, workloads())?;
    let needs = [own.bench.needs(&own.load), own.load.needs()].concat();
    // Nothing is started.
    let system = choice.prepare(std::path::Path::new(B::NAME), &needs)?;
    let stop = signals.measuring()?;
    let (clock, _peer) = read_clock(&flags, shard, &stop)?;
    let start = corrected(flags.start, clock.measured).moment();
    let opening = workloads().map(|workload| opening(&workload.plan, shard)).max().unwrap_or_default();
    wait_until(start, opening + AHEAD, &stop)?;
    let place = ShardPlace {
        run_id: flags.run_id,
        shard,
        parts: flags.parts,
        meeting: Meeting::at(start, flags.start, own.load.max_lag),
        clock,
        observes: true,
        words: bench::load_words::<B>(&matches),
    };
    let ended = play(&own, &system, place, Control { stop, ..Control::default() })?;
    signals.kept();
    Ok(match ended {
        PartEnd::Complete | PartEnd::Cut(_) => exit_code::PASS,
        PartEnd::Stopped => exit_code::INVALID,
        PartEnd::Late(by) => {
            errln!(
                "error: {shard} was ready {:.3} s after the common start, and sent nothing\n\
                 hint: give a later --start, or start the shard earlier",
                by.as_secs_f64()
            );
            exit_code::INVALID
        }
    })
}

/// Reads the clock of this machine, and measures its difference to that of shard 0 if there is a peer. Shard 0 is the
/// peer itself until the second result is dropped.
fn read_clock(flags: &ShardFlags, shard: Shard, stop: &AtomicBool) -> Result<(ShardClock, Option<ClockPeer>)> {
    let clock = ShardClock::of_this_machine();
    let Some(name) = &flags.clock_peer else { return Ok((clock, None)) };
    let last = Instant::now() + (flags.start.moment() - Moment::now());
    let address = resolve(name, last, stop)?;
    if shard.index() == 0 {
        return Ok((clock, Some(ClockPeer::start(address)?)));
    }
    let measured = MeasuredOffset::measure(address, last, stop)?;
    Ok((ShardClock { measured: Some(measured), ..clock }, None))
}

/// Looks up the peer, whose name may not be known before it has started, until `last`.
fn resolve(name: &str, last: Instant, stop: &AtomicBool) -> Result<SocketAddr> {
    loop {
        let found = name.to_socket_addrs().map(|mut found| found.next());
        let why = match found {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= last || stop.load(Ordering::Relaxed) {
            return Err(Error::usage(format!("--clock-peer {name}: {why}"))
                .with_hint("give a host that resolves, and a port: shards-0.shards:7700"));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Returns the time at which this machine's clock shows the start by the clock of shard 0.
fn corrected(start: WallTime, measured: Option<MeasuredOffset>) -> WallTime {
    let offset_ns = measured.map_or(0, |measured| measured.offset_ns);
    WallTime::from_ns(start.as_ns().saturating_add_signed(offset_ns.saturating_neg()))
}

/// Returns the time in which a shard opens its connections.
fn opening(plan: &Plan, shard: Shard) -> Duration {
    match plan.opening {
        // The last connection of all may be this shard's.
        Opening::Before(rate) => Duration::from_nanos(rate.offset_ns(plan.connections as u64)),
        Opening::ByFirstRequest => Duration::from_millis(shard.count()),
    }
}

/// Waits until so long before the start.
///
/// # Errors
/// If a signal comes before that.
fn wait_until(start: Moment, ahead: Duration, stop: &AtomicBool) -> Result<()> {
    let left = (start - Moment::now()).saturating_sub(ahead);
    if left > LOOK_EVERY {
        errln!("waiting {:.0} s, then connections are opened", left.as_secs_f64());
    }
    let end = Instant::now() + left;
    while Instant::now() < end {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::new("stopped before anything was measured"));
        }
        thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// The place of a shard in a run.
pub(super) struct ShardPlace {
    /// The id of the run; `None` to make it of start, number of shards and load.
    pub(super) run_id: Option<String>,
    /// The shard.
    pub(super) shard: Shard,
    /// The folder of the parts.
    pub(super) parts: PathBuf,
    /// The agreement on the start.
    pub(super) meeting: Meeting,
    /// The clock of this machine.
    pub(super) clock: ShardClock,
    /// True if this shard observes the machine, which no other process does for it.
    pub(super) observes: bool,
    /// The flags of the load.
    pub(super) words: Vec<String>,
}

/// Returns the number of generator threads of a shard: as many as are given, or its part of those that the whole load
/// takes.
fn threads<B: Bench>(
    flags: &BenchFlags<B>,
    groups: &[Vec<BoundWorkload>],
    addresses: &Addresses,
    shard: Shard,
) -> Result<u64> {
    let all = flags.load.shards(groups, addresses)?.len() as u64;
    Ok(match flags.load.generator_threads {
        GeneratorThreads::Count(_) => all,
        GeneratorThreads::Auto => all.div_ceil(shard.count()),
    })
}

/// Plays a shard of a bench target's load at a system, and writes its part.
///
/// # Errors
/// If the load cannot begin, for a reason other than lateness, or the part cannot be written.
pub(super) fn play<B: Bench>(
    flags: &BenchFlags<B>,
    system: &SystemOf<B>,
    place: ShardPlace,
    control: Control,
) -> Result<PartEnd> {
    let ShardPlace { run_id, shard, parts, meeting, clock, observes, words } = place;
    let groups = bench::bind(flags.bench.groups(&flags.load)?, system)?;
    let [group] = &groups[..] else {
        return Err(Error::usage(format!(
            "{}: its workloads run one after another, and have no common start",
            B::NAME
        )));
    };
    let plans: Vec<PlanFacts> = group.iter().map(PlanFacts::of_workload).collect();
    let fingerprint = WorkloadIdentity::of_plans(B::NAME, plans.iter()).fingerprint;
    let about = About::new(B::NAME, B::ABOUT, system.describe(), group.iter());
    let addresses = system.addresses();
    let threads = threads(flags, &groups, &addresses, shard)?;
    let shards = shard.threads(threads).ok_or_else(|| {
        Error::usage(format!("{shard}: its {threads} threads are more than a run may have, with those of all others"))
            .with_hint("lower --generator-threads")
    })?;
    let meeting = Arc::new(meeting);
    let control = Control { cut: Cut::new(flags.load.limits().of(shard)), ..control };
    let (agrees, with) = (meeting.clone(), control.clone());
    let start_line = StartLine::agreed(shards.len(), Box::new(move || agrees.agree(&with)));
    let meter = observes.then(|| MachineMeter::start(addresses.clone(), control.progress.clone())).transpose()?;
    let measured = run::run_part(group, &shards, &start_line, &control);
    let machine_use = meter.and_then(MachineMeter::finish);
    let mut own_faults = Vec::new();
    let machine_use = machine_use.map(|mut used| {
        used.workloads = group.iter().map(|bound| bound.workload.name.to_owned()).collect();
        own_faults.extend(used.judge(flags.load.max_other_cpu).iter().map(ToString::to_string));
        used
    });
    let nothing = || RunPart { measurements: Vec::new(), notes: Vec::new() };
    let (played, ended) = match (measured, meeting.late.get(), control.cut.ended()) {
        (Err(_), Some(by), _) => (nothing(), PartEnd::Late(*by)),
        (Err(_), None, _) if control.stop.load(Ordering::Relaxed) => (nothing(), PartEnd::Stopped),
        (played, _, Some(ended)) => (played?, PartEnd::Cut(ended)),
        (played, _, None) => {
            let played = played?;
            let is_partial = played.measurements.iter().any(|measurement| measurement.partial);
            (played, if is_partial { PartEnd::Stopped } else { PartEnd::Complete })
        }
    };
    let start = meeting.agreed();
    let mut workloads = Vec::with_capacity(group.len());
    for (bound, (measurement, notes)) in group.iter().zip(played.measurements.into_iter().zip(played.notes)) {
        let judged = validity::judge(&measurement, &[], bound.workload.plan.punctuality(), None);
        let own = judged.iter().filter(|reason| reason.is_ours());
        own_faults.extend(own.map(|reason| format!("{}: {reason}", bound.workload.name)));
        workloads.push(PartWorkload { name: bound.workload.name.to_owned(), measurement, notes });
    }
    let part = ShardPart {
        part_version: PART_VERSION,
        suite_version: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: run_id.unwrap_or_else(|| short_hash(&format!("{start} {} {fingerprint}", shard.count()))),
        shard,
        fingerprint,
        threads,
        flags: words,
        about,
        acme: system.certctl().and_then(|checked| checked.acme.clone()),
        start_ns: start.as_ns(),
        clock,
        workloads,
        machine_use,
        own_faults,
        ended: ended.clone(),
    };
    let path = part.write(&parts)?;
    if observes {
        outln!("{:<12} {}", "written", files::shown(&path));
    }
    Ok(ended)
}

/// The agreement of a shard with the others on the start.
pub(super) struct Meeting {
    way: Way,
    /// The longest time by which this shard may be late.
    bound: Duration,
    late: OnceLock<Duration>,
    start: OnceLock<WallTime>,
}

/// The way in which a shard learns of the start.
enum Way {
    /// It is known.
    At(Moment, WallTime),
    /// Another process announces it, once this one has reported that it is ready.
    Announced(Mutex<Receiver<(Moment, WallTime)>>, fn()),
}

impl Meeting {
    /// Begins at this moment, which is `wall` by the clock of shard 0, unless it is past by more than `bound` then.
    pub(super) fn at(start: Moment, wall: WallTime, bound: Duration) -> Self {
        Self::by(Way::At(start, wall), bound)
    }

    /// Begins when another process announces it, after `ready` has reported to that one that this one is ready.
    pub(super) fn announced(announced: Receiver<(Moment, WallTime)>, ready: fn(), bound: Duration) -> Self {
        Self::by(Way::Announced(Mutex::new(announced), ready), bound)
    }

    fn by(way: Way, bound: Duration) -> Self {
        Self { way, bound, late: OnceLock::new(), start: OnceLock::new() }
    }

    /// Returns the start; where there was no agreement, the beginning of time.
    fn agreed(&self) -> WallTime {
        match &self.way {
            Way::At(_, wall) => *wall,
            Way::Announced(..) => self.start.get().copied().unwrap_or(WallTime::from_ns(0)),
        }
    }

    /// Waits for the start, and returns it.
    ///
    /// # Errors
    /// If the run is stopped before, or the start has passed.
    fn agree(&self, control: &Control) -> Result<Moment> {
        if control.is_cut() {
            // A load that cannot begin needs no start.
            return Ok(Moment::now());
        }
        let stopped = || Error::new("stopped before the common start: nothing was measured");
        let (start, wall) = match &self.way {
            Way::At(start, wall) => (*start, *wall),
            Way::Announced(announced, ready) => {
                ready();
                let announced = announced.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    match announced.recv_timeout(LOOK_EVERY) {
                        Ok(start) => break start,
                        Err(RecvTimeoutError::Timeout) if !control.stop.load(Ordering::Relaxed) => {}
                        Err(_) => return Err(stopped()),
                    }
                }
            }
        };
        // It is agreed on once.
        let _ = self.start.set(wall);
        let late = Moment::now() - start;
        if late > self.bound {
            let _ = self.late.set(late);
            return Err(Error::invalid("the common start has passed"));
        }
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_was_stopped_before_it_agreed_knows_its_start() {
        let wall = WallTime::from_ns(1_000_000_007);
        let meeting = Meeting::at(Moment::now(), wall, Duration::ZERO);
        assert_eq!(meeting.agreed(), wall);
        assert!(meeting.agree(&Control::default()).is_ok() || meeting.late.get().is_some());
        assert_eq!(meeting.agreed(), wall);
    }
}
