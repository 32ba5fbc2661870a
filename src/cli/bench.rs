//! The main function of a bench target: prepares the system, runs loops and workloads, checks side effects, reports and
//! judges.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory as _, FromArgMatches as _};

use super::bench_load::BenchLoad;
use super::common_flags::{BenchFlags, EnvironmentUse, LoadFlags, Mode, variable};
use super::invocation::{Invocation, beside};
use super::prepare::SystemChoice;
use super::processes::{self, Crew};
use super::saved::Saved;
use super::session::Session;
use super::signals::{self, Signals};
use super::{exit, github_job, remote, request_loop};
use crate::capacity::translation::{ArrivalMeaning, ArrivalUnit};
use crate::error::{Context, Error, Result};
use crate::exit_code;
use crate::files::{self, FolderLock};
use crate::live::Live;
use crate::live::server::LiveListener;
use crate::load::cut::Cut;
use crate::load::limits::allow_threads;
use crate::load::rate::Rate;
use crate::measure::threshold::Threshold;
use crate::provision::network;
use crate::report::colour::Palette;
use crate::report::{result_files, text};
use crate::run::{Binding, BoundWorkload, PlannedWorkload, Workload, sockets};
use crate::scenario::Scenario;
use crate::scenario::need::Need;
use crate::summary::plan::PlanFacts;
use crate::summary::{self, About, Summary};
use crate::system::reference::PROGRAM as REFERENCE;
use crate::system::{CheckedCertctl, System};
use crate::terminal::{errln, out, outln};

/// The choice of the system under test of a bench target.
pub type ChoiceOf<B> = <<B as Bench>::System as SystemArgs>::Choice;
/// The system under test of a bench target.
pub type SystemOf<B> = <ChoiceOf<B> as SystemChoice>::System;
/// Planned workloads: those of a group run side by side, one group after another.
pub type Groups<S> = Vec<Vec<PlannedWorkload<S>>>;

/// A bench target: its own flags, and the workloads that they plan.
pub trait Bench: Args + Clone + Debug {
    /// The flags that name the system under test.
    type System: SystemArgs;

    /// The name of the bench target and of its results.
    const NAME: &'static str;
    /// Its description, in a sentence.
    const ABOUT: &'static str;
    /// The seeds whose rows it needs.
    const SEEDS: &'static [&'static str];
    /// The server of this repository that is started where no system is named.
    const SERVER: &'static str = REFERENCE;

    /// Cuts the workload down to what a second or two can hold.
    fn smoke(&mut self);

    /// Returns the conditions that the system must meet, beside the rows that `load` wants.
    fn needs(&self, load: &LoadFlags) -> Vec<Need>;

    /// Returns the steps that run as Criterion loops.
    fn loops(&self) -> &'static [&'static str];

    /// Plans the workloads.
    ///
    /// # Errors
    /// If the flags contradict one another.
    fn groups(&self, load: &LoadFlags) -> Result<Groups<SystemOf<Self>>>;

    /// Returns the bound on errors over all workloads together.
    fn error_floor(&self) -> Threshold;

    /// Reports whether thresholds apply.
    fn is_judged(&self) -> bool {
        true
    }

    /// Returns the flags that mean nothing beside the others: clap's id of each, and what it is for instead.
    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Returns the flag that sets the number of connections, and the connections that each unit of it takes.
    fn sized(&self) -> (&'static str, u64) {
        ("--connections", 1)
    }

    /// Pools connections, unless flags say otherwise: a duet opens all of them before each block.
    fn pool(&mut self) {}

    /// Returns the rate that a search for the capacity varies: that of the first workload, where there are several;
    /// `None` where the workload is open once a rate is given.
    ///
    /// # Errors
    /// If it has none. The error names the fix.
    fn rate(&self) -> Result<Option<Rate>> {
        Err(Error::usage(format!("{}: no one rate decides its load, so that no capacity can be searched", Self::NAME))
            .with_hint("search with another bench target: certctl-bench capacity --help"))
    }

    /// Sets that rate. Those of further workloads keep their proportion to it.
    fn set_rate(&mut self, _rate: Rate) {}

    /// Returns the event that an arrival of the first workload stands for.
    fn unit(&self) -> ArrivalUnit {
        ArrivalUnit::new("arrivals", ArrivalMeaning::Other)
    }

    /// Returns the arrivals for each sample of the rarest step that has a threshold: more than 1 where some journeys
    /// leave it out.
    fn arrivals_for_a_sample(&self) -> f64 {
        1.0
    }

    /// Returns the interval at which the system's certificates are replaced under load, if they are.
    fn rotates_every(&self) -> Option<Duration> {
        None
    }

    /// Returns the reason for which its load cannot be split between processes, if it cannot.
    fn unsplit(&self) -> Option<&'static str> {
        None
    }

    /// Adjusts the choice of a system to these flags: leaves out the parts that they do not load.
    fn adjust(&self, _choice: &mut ChoiceOf<Self>) {}

    /// Returns a remark about the workloads at their system, for people.
    fn remark(&self, _system: &SystemOf<Self>, _workloads: &[&Workload]) -> Option<String> {
        None
    }
}

/// Flags that name the system under test.
pub trait SystemArgs: Args + Clone + Debug {
    /// The flags that name a system or its database: clap's id, and the old harness's variable where there is one.
    const NAMES: &'static [(&'static str, Option<&'static str>)];

    /// The choice that these flags make.
    type Choice: SystemChoice;

    /// Resolves flags together with the old harness's variables, where those count.
    ///
    /// # Errors
    /// If one of them is wrong.
    fn resolve(self, environment: EnvironmentUse) -> Result<Self::Choice>;

    /// Reports whether the run is to reach no network but loopback.
    fn wants_loopback_alone(&self) -> bool {
        false
    }

    /// Returns the flags that mean nothing with this system, in the form of [`Bench::ignored`].
    fn ignored(&self, _environment: EnvironmentUse) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}

/// Runs the bench target `B` as its own program. `program` is the server of this repository that is started where no
/// system is named.
pub fn main<B: Bench>(program: &str) -> ExitCode {
    play::<B>(&Invocation::of_cargo(B::NAME), Path::new(program))
}

/// Runs the bench target `B` as a part of a program that has the servers of this repository beside it.
pub(super) fn play_installed<B: Bench>(invocation: Invocation) -> ExitCode {
    match beside(B::SERVER) {
        Ok(program) => play::<B>(&invocation, &program),
        Err(error) => exit::fail(&error),
    }
}

fn play<B: Bench>(invocation: &Invocation, program: &Path) -> ExitCode {
    signals::reset();
    if let Some(code) = request_loop::run_if_handed_over::<B>().or_else(processes::play_if_ordered::<B>) {
        return code;
    }
    let flags = match parse_as::<B>(invocation.arguments(), invocation.bin_name()) {
        Ok((flags, _)) => flags,
        Err(error) => return exit::usage(&error),
    };
    // Who looks at the run is in this network, whatever network the run enters.
    let listeners = if flags.criterion.list { Ok(Vec::new()) } else { flags.live.bind() };
    // Before any thread is started: it would stay in the old network.
    let network = match flags.system.wants_loopback_alone() && !flags.criterion.list {
        true => network::enter_loopback(),
        false => Ok(()),
    };
    let ready = network.and_then(|()| allow_threads()).and(listeners);
    match ready.and_then(|listeners| bench(flags, invocation, program, listeners)) {
        Ok(code) => exit::done(code),
        Err(error) => exit::fail(&error),
    }
}

/// The flags that a smoke run takes from the environment, by clap's ids: they name the folder of results, or have the
/// server that it starts keep its rows in memory. All other flags have to be on its command line.
const SMOKE_VARIABLES: [&str; 2] = ["output", "in_memory"];

/// Parses a command line, which begins with the program's name.
pub(super) fn parse<B: Bench>(arguments: Vec<std::ffi::OsString>) -> Result<BenchFlags<B>, clap::Error> {
    parse_matches(arguments).map(|(flags, _)| flags)
}

/// Does the same, and returns the flags of the load as words too.
pub(super) fn parse_load<B: Bench>(
    arguments: Vec<std::ffi::OsString>,
) -> Result<(BenchFlags<B>, Vec<String>), clap::Error> {
    parse_matches(arguments).map(|(flags, matches)| (flags, load_words::<B>(&matches)))
}

/// Returns the flags that size the load as words, wherever they come from: they plan the same load on any machine.
pub(super) fn load_words<B: Bench>(matches: &ArgMatches) -> Vec<String> {
    let mut words = Vec::new();
    let given = [Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)];
    let command = BenchLoad::<B>::command();
    let args = command.get_arguments().filter_map(|arg| Some((arg, arg.get_long()?)));
    for (arg, long) in args.filter(|(arg, _)| given.contains(&matches.value_source(arg.get_id().as_str()))) {
        let id = arg.get_id().as_str();
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            words.extend(matches.get_flag(id).then(|| format!("--{long}")));
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten();
        words.extend(values.map(|value| format!("--{long}={}", value.to_string_lossy())));
    }
    words
}

/// Does the same as [`parse`], and returns clap's matches too.
pub(super) fn parse_matches<B: Bench>(
    arguments: Vec<std::ffi::OsString>,
) -> Result<(BenchFlags<B>, ArgMatches), clap::Error> {
    parse_as(arguments, &format!("cargo bench --bench {} --", B::NAME))
}

/// Returns the command line of the bench target `B`.
pub(super) fn command<B: Bench>() -> clap::Command {
    BenchFlags::<B>::command().name(B::NAME).about(B::ABOUT)
}

/// Does the same as [`parse_matches`], for a user who writes `bin_name` before the flags.
fn parse_as<B: Bench>(
    arguments: Vec<std::ffi::OsString>,
    bin_name: &str,
) -> Result<(BenchFlags<B>, ArgMatches), clap::Error> {
    let command = command::<B>().bin_name(bin_name);
    // `cargo test` never loads a system that happens to be in the environment.
    let kept = |id: &str| SMOKE_VARIABLES.contains(&id);
    let closed = command.clone().mut_args(|arg| if kept(arg.get_id().as_str()) { arg } else { arg.env(None::<&str>) });
    let smoke = closed.clone().try_get_matches_from(&arguments).and_then(|matches| {
        let is_smoke = BenchFlags::<B>::from_arg_matches(&matches)?.is_smoke();
        Ok(is_smoke.then_some(matches))
    });
    let (mut command, matches) = match smoke {
        Ok(Some(matches)) => (closed, matches),
        _ => (command.clone(), command.try_get_matches_from(arguments)?),
    };
    let flags = BenchFlags::<B>::from_arg_matches(&matches)?;
    // Refused on the command line alone: an environment is set for many runs, a command line for one.
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let environment = if flags.is_smoke() { EnvironmentUse::Ignored } else { EnvironmentUse::Counts };
    let mut ignored = flags.bench.ignored().into_iter().chain(flags.system.ignored(environment));
    match ignored.find(|(id, _)| given(id)) {
        Some((id, what_for)) => {
            let message = format!("--{} {what_for}: leave it out", id.replace('_', "-"));
            Err(command.error(clap::error::ErrorKind::ArgumentConflict, message))
        }
        None => Ok((flags, matches)),
    }
}

/// The parts of a run that the command line selects.
struct SelectedParts {
    /// Steps whose loops are to run.
    loops: Vec<&'static str>,
    workload: bool,
    smoke: bool,
}

impl SelectedParts {
    fn of<B: Bench>(flags: &BenchFlags<B>) -> Result<Self> {
        let wants = |id: &str| {
            flags.criterion.wants(id).map_err(|error| {
                Error::usage(format!("the filter is not a regular expression: {error}"))
                    .with_hint("quote it, or add --exact")
            })
        };
        let mut loops = Vec::new();
        for step in flags.bench.loops() {
            if wants(&loop_id::<B>(step))? && flags.mode != Mode::Sustained {
                loops.push(*step);
            }
        }
        let loop_alone = flags.criterion.profile_time.is_some() || flags.criterion.load_baseline.is_some();
        Ok(Self {
            loops,
            workload: wants(&workload_id::<B>())? && flags.mode != Mode::Loop && !loop_alone,
            smoke: flags.is_smoke(),
        })
    }

    fn ids<B: Bench>(&self) -> Vec<String> {
        let loops = self.loops.iter().map(|step| loop_id::<B>(step));
        loops.chain(self.workload.then(workload_id::<B>)).collect()
    }
}

/// The id of a loop: filters match it, and `--list` shows it.
fn loop_id<B: Bench>(step: &str) -> String {
    format!("{}/{step}", B::NAME)
}

fn workload_id<B: Bench>() -> String {
    format!("{}/sustained", B::NAME)
}

fn bench<B: Bench>(
    mut flags: BenchFlags<B>,
    invocation: &Invocation,
    program: &Path,
    listeners: Vec<LiveListener>,
) -> Result<u8> {
    let wanted = SelectedParts::of(&flags)?;
    let ids = wanted.ids::<B>();
    if flags.criterion.list {
        ids.iter().for_each(|id| outln!("{id}: benchmark"));
        return Ok(0);
    }
    if ids.is_empty() {
        return flags.criterion.nothing_matches(B::NAME).map(|()| 0);
    }
    flags.apply_smoke();
    let planned = flags.bench.groups(&flags.load)?;
    let of_group = |group: &Vec<PlannedWorkload<_>>| sockets(group.iter().map(|planned| &planned.workload));
    let sockets = planned.iter().map(of_group).max_by_key(|sockets| sockets.descriptors());
    let environment = if wanted.smoke { EnvironmentUse::Ignored } else { EnvironmentUse::Counts };
    if let Some(names) = ignored_names::<B>().filter(|_| wanted.smoke) {
        errln!("{names} ignored: a smoke run uses a system that it starts itself, or that its command line names");
    }
    let mut choice = flags.system.clone().resolve(environment)?;
    flags.bench.adjust(&mut choice);
    let (folder, _claim) = output_folder(flags.output.clone(), B::NAME, wanted.smoke)?;
    if wanted.workload {
        result_files::set_aside(&folder)?;
    }
    let saved = match wanted.workload && !wanted.smoke {
        true => Saved::of(&flags.criterion, baselines(flags.baselines.clone())?, B::NAME, flags.keep())?,
        false => Saved::Neither,
    };
    let sockets = sockets.unwrap_or_default().with_threads(flags.load.most_threads());
    let processes = flags.generator_processes.of(sockets, flags.bench.unsplit())?;
    sockets.of_each(processes).allow(flags.bench.sized())?;
    let signals = Signals::watch()?;
    let workloads = planned.iter().flatten().map(|planned| &planned.workload);
    let destinations = choice.destinations()?;
    if remote::leaves(&destinations) {
        // Beyond loopback, all processes have one address.
        sockets.allow_ports(flags.bench.sized())?;
    }
    remote::clear(&destinations, flags.allow_remote, B::NAME, workloads)?;
    let system = choice.prepare(program, &[flags.bench.needs(&flags.load), flags.load.needs()].concat())?;

    if let Some(certctl) = system.certctl().filter(|_| !wanted.loops.is_empty()) {
        outln!("Criterion: one connection, one request per iteration");
        let loops = (B::NAME, &wanted.loops[..]);
        request_loop::run_apart(invocation, certctl, loops, &flags.criterion, &results()?)?;
    }
    if !wanted.workload {
        if !listeners.is_empty() {
            errln!("warning: --dashboard and --metrics show the workload, which is not part of this run");
        }
        return Ok(0);
    }
    let groups = bind(planned, &system)?;
    let shards = flags.load.shards(&groups, &system.addresses())?;
    let workloads: Vec<&Workload> = groups.iter().flatten().map(|bound| &bound.workload).collect();
    if let Some(remark) = flags.bench.remark(&system, &workloads) {
        errln!("{remark}");
    }
    let about = About::new(B::NAME, B::ABOUT, system.describe(), groups.iter().flatten());
    let plans: Vec<_> = groups.iter().flatten().map(PlanFacts::of_workload).collect();
    out!("{}", text::heading(&about, plans.iter()));
    flags.live.announce(&listeners)?;
    let floor = flags.bench.is_judged().then(|| flags.bench.error_floor());
    let live = Live::start(B::NAME, &about.title, floor, listeners)?;
    let rotates_every = flags.bench.rotates_every();
    // A summary that cannot be saved now is saved again at the end, where a failure is an error.
    let keep = |summary: &Summary| {
        if result_files::save(summary, &folder).is_ok() {
            signals.kept();
        }
    };
    let cut = Cut::new(flags.load.limits());
    let crew = system.certctl().filter(|_| processes > 1).map(|certctl| Crew {
        invocation,
        count: processes,
        certctl,
        run_id: summary::new_run_id().unwrap_or_default(),
        has_sources: sockets.allow_ports(flags.bench.sized()).is_err(),
        parts: folder.join("parts"),
    });
    let session = Session {
        system: &system,
        groups: &groups,
        shards,
        floor,
        smoke: wanted.smoke,
        max_other_cpu: flags.load.max_other_cpu,
        rotates_every,
        cut,
        stop: signals.measuring()?,
        crew,
        keep: &keep,
        live: Some(&live),
    };
    let mut summary = session.run(about)?;
    let written = result_files::save(&summary, &folder);
    signals.kept();
    if let Err(unwritten) = written {
        return Err(rescue(&mut summary, &unwritten));
    }
    out!("\n{}", text::coloured(&text::results(&summary), Palette::of(&std::io::stdout())));
    outln!("{:<12} {}", "written", files::shown(&folder.join("summary.{json,txt}")));
    if !wanted.smoke {
        flags.history.keep(&summary);
    }
    github_job::of_run(&summary, &folder, wanted.smoke);
    let finished = saved.finish(&summary, &folder);
    let report = result_files::save_report(summary, &folder).map(|(file, page)| {
        live.end(page);
        flags.live.show(&file);
        file
    });
    exit::last_line(report, &folder.join("summary.json"));
    finished
}

/// Binds workloads to their system, without those that are for a part that the system lacks.
pub(super) fn bind<S>(planned: Groups<S>, system: &S) -> Result<Vec<Vec<BoundWorkload>>> {
    let bind = |group: Vec<PlannedWorkload<S>>| group.into_iter().filter_map(|one| one.bind(system).transpose());
    planned.into_iter().map(|group| bind(group).collect()).collect()
}

/// Plans a workload of requests to a certctl, which `make` encodes for it.
pub(super) fn at_certctl<T: Scenario>(
    workload: Workload,
    make: impl FnOnce(&CheckedCertctl) -> Result<T> + 'static,
) -> PlannedWorkload<CheckedCertctl> {
    PlannedWorkload::new(workload, |certctl| Ok(Some(Binding::of(make(certctl)?, certctl.peer()))))
}

/// Saves the results of a run whose folder does not take them: in a folder for temporary files, or else on standard
/// output. Returns the error that the run ends with.
fn rescue(summary: &mut Summary, unwritten: &Error) -> Error {
    summary.exit_code = exit_code::COULD_NOT_RUN;
    let name = format!("certctl-bench-{}-{}", summary.about.scenario, summary.finished_at.replace(':', ""));
    let folder = std::env::temp_dir().join(name);
    let rescued = std::fs::create_dir(&folder).is_ok() && result_files::save(summary, &folder).is_ok();
    out!("\n{}", text::results(summary));
    let place = if rescued {
        outln!("{:<12} {}", "written", files::shown(&folder.join("summary.{json,txt}")));
        format!("in {}", files::shown(&folder))
    } else {
        // Results that are not complete are worth nothing; the folder may not exist at all.
        let _ = std::fs::remove_dir_all(&folder);
        outln!("\n{}", serde_json::to_string(summary).unwrap_or_default());
        "on standard output, in the last line, as summary.json".to_owned()
    };
    let error = Error::new(format!("{}; the results are {place}", unwritten.what()));
    match unwritten.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Returns the variables that are set and name a system, as a list for people.
fn ignored_names<B: Bench>() -> Option<String> {
    let command = BenchFlags::<B>::command();
    let variables = B::System::NAMES.iter().flat_map(|(id, old)| {
        let flag = command.get_arguments().find(|arg| arg.get_id() == id);
        let new = flag.and_then(|arg| arg.get_env()).map(|name| name.to_string_lossy().into_owned());
        new.into_iter().chain(old.map(str::to_owned))
    });
    let set: Vec<String> = variables.filter(|name| variable(name).is_some()).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

/// Returns the folder of the results, `target/certctl-bench/NAME` unless another is chosen, which is this run's alone
/// until the claim is dropped. Smoke runs have a folder of their own in it, so that they overwrite nothing.
pub(super) fn output_folder(chosen: Option<PathBuf>, name: &str, smoke: bool) -> Result<(PathBuf, FolderLock)> {
    let folder = match chosen {
        Some(folder) => folder,
        None => results()?.join(name),
    };
    let folder = if smoke { folder.join("smoke") } else { folder };
    let claim = files::claim(&folder)?;
    Ok((folder, claim))
}

/// Returns `target/certctl-bench/baselines`, unless another folder is chosen.
fn baselines(chosen: Option<PathBuf>) -> Result<PathBuf> {
    Ok(match chosen {
        Some(folder) => folder,
        None => results()?.join("baselines"),
    })
}

/// Returns `target/certctl-bench`: below the build's folder for a bench target that Cargo built, which is
/// `target/PROFILE/deps/PROGRAM`, and else below the working folder.
pub(super) fn results() -> Result<PathBuf> {
    let program = std::env::current_exe().context(|| "finding this program".to_owned())?;
    let is_built = program.parent().is_some_and(|folder| folder.ends_with("deps"));
    let build = program.ancestors().nth(3).filter(|_| is_built).unwrap_or(Path::new("target"));
    Ok(build.join("certctl-bench"))
}
