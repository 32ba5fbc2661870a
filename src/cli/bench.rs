//! The main of a bench target: prepares the target, runs loops and workloads, checks the work, reports and judges.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _};

use super::flags::{BenchFlags, Environment, LoadFlags, Mode, Where, variable};
use super::place::Place;
use super::saved::Saved;
use super::session::Session;
use super::signals::{self, Signals};
use super::{exit, remote, request_loop};
use crate::error::{Context, Error, Result};
use crate::files::{self, Claim};
use crate::load::cut::Cut;
use crate::load::limits::allow_threads;
use crate::load::plan::Plan;
use crate::measure::threshold::Threshold;
use crate::report::summary::About;
use crate::report::{Summary, text};
use crate::run::{Peer, Workload, sockets};
use crate::scenario::Scenario;
use crate::scenario::acme::Paths;
use crate::scenario::need::Need;
use crate::target::connectors::Connectors;
use crate::terminal::{errln, out, outln};

/// What makes a bench target: its own flags, and what they ask for.
pub trait Bench: Args + Clone + Debug {
    /// The flags that say where the load goes.
    type Target: TargetArgs;

    /// The name of target and results.
    const NAME: &'static str;
    /// What it does, in a sentence.
    const ABOUT: &'static str;
    /// The seeds whose rows it needs.
    const SEEDS: &'static [&'static str];

    /// Cuts the workload down to what a second or two can hold.
    fn smoke(&mut self);

    /// What must hold at the target.
    fn needs(&self) -> Vec<Need>;

    /// The steps that run as Criterion loops.
    fn loops(&self) -> &'static [&'static str];

    /// The workloads: those of a group run side by side, one group after another.
    ///
    /// # Errors
    /// If the flags contradict one another.
    fn groups(&self, load: &LoadFlags, site: &Site<'_>) -> Result<Vec<Vec<Workload>>>;

    /// The bound on errors over all workloads together.
    fn error_floor(&self) -> Threshold;

    /// Whether thresholds apply.
    fn is_judged(&self) -> bool {
        true
    }

    /// Flags that mean nothing beside the others, by clap's ids, and what they are for instead.
    fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// The flag that says how many connections there are, and how many each of it comes to.
    fn sized(&self) -> (&'static str, u64) {
        ("--connections", 1)
    }

    /// How often certificates are replaced at what is asked, while it is asked.
    fn rotates_every(&self) -> Option<Duration> {
        None
    }

    /// The target, without the parts of it that these flags do not ask.
    fn narrow(&self, place: Where) -> Where {
        place
    }
}

/// Flags that say where the load goes.
pub trait TargetArgs: Args + Clone + Debug {
    /// The flags that name a system or its database: clap's id, and the old harness's variable where there is one.
    const NAMES: &'static [(&'static str, Option<&'static str>)];

    /// Understands flags together with the old harness's variables, where those count.
    ///
    /// # Errors
    /// If one of them is wrong.
    fn resolve(self, environment: Environment) -> Result<Where>;

    /// Flags that mean nothing for where the load goes, as [`Bench::ignored`] has them.
    fn ignored(&self, _environment: Environment) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}

/// What a workload must know of its target.
#[derive(Clone, Default)]
pub struct Site<'a> {
    /// The Host header.
    pub host: &'a str,
    /// The API key.
    pub token: &'a str,
    /// The ACME server's paths, where one was needed and found.
    pub acme: Option<Paths>,
    /// Whether ACME requests leave audit rows, as they do in certctl as built.
    pub acme_is_audited: bool,
    /// Who is asked.
    pub peer: Option<Rc<Peer>>,
    /// The daemons behind connectors, where they are asked.
    pub connectors: Option<&'a Connectors>,
}

impl Site<'_> {
    /// A workload that asks whom all workloads here ask.
    pub fn workload(&self, scenario: Rc<dyn Scenario>, plan: Plan) -> Workload {
        Workload { scenario, plan, peer: self.peer.clone() }
    }
}

/// Runs the bench target `B`. `program` is the server of ours that is started where none is named.
pub fn main<B: Bench>(program: &str) -> ExitCode {
    signals::reset();
    if let Some(code) = request_loop::run_if_handed_over::<B>() {
        return code;
    }
    let flags = match parse::<B>(std::env::args_os().collect()) {
        Ok(flags) => flags,
        Err(error) => return exit::said(&error),
    };
    match allow_threads().and_then(|()| bench(flags, Path::new(program))) {
        Ok(code) => exit::done(code),
        Err(error) => exit::fail(&error),
    }
}

/// The flags that a smoke run takes from the environment, by clap's ids: they say where results go, and that nothing but
/// a server of ours is wanted. All else has to be on its command line.
const SMOKE_VARIABLES: [&str; 3] = ["output", "baselines", "in_memory"];

/// Reads a command line, the program's name first.
pub(super) fn parse<B: Bench>(arguments: Vec<std::ffi::OsString>) -> Result<BenchFlags<B>, clap::Error> {
    let bin_name = format!("cargo bench --bench {} --", B::NAME);
    let command = BenchFlags::<B>::command().name(B::NAME).bin_name(bin_name).about(B::ABOUT);
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
    // An environment is set for many runs, a command line for one.
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let environment = if flags.is_smoke() { Environment::Ignored } else { Environment::Counts };
    let mut ignored = flags.bench.ignored().into_iter().chain(flags.target.ignored(environment));
    match ignored.find(|(id, _)| given(id)) {
        Some((id, what_for)) => {
            let message = format!("--{} {what_for}: leave it out", id.replace('_', "-"));
            Err(command.error(clap::error::ErrorKind::ArgumentConflict, message))
        }
        None => Ok(flags),
    }
}

/// What the command line comes to.
struct Wanted {
    /// Steps whose loops are to run.
    loops: Vec<&'static str>,
    workload: bool,
    smoke: bool,
}

impl Wanted {
    fn of<B: Bench>(flags: &BenchFlags<B>) -> Result<Self> {
        let wants = |id: &str| {
            flags.criterion.wants(id).map_err(|error| {
                Error::usage(format!("the filter is no regular expression: {error}")).mend("quote it, or add --exact")
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

/// The ids that filters match and `--list` shows.
fn loop_id<B: Bench>(step: &str) -> String {
    format!("{}/{step}", B::NAME)
}

fn workload_id<B: Bench>() -> String {
    format!("{}/sustained", B::NAME)
}

fn bench<B: Bench>(mut flags: BenchFlags<B>, program: &Path) -> Result<u8> {
    let wanted = Wanted::of(&flags)?;
    let ids = wanted.ids::<B>();
    if flags.criterion.list {
        ids.iter().for_each(|id| outln!("{id}: benchmark"));
        return Ok(0);
    }
    if ids.is_empty() {
        return Ok(0);
    }
    flags.apply_smoke();
    // Before anything is started: what the flags ask for must be possible.
    let groups = flags.bench.groups(&flags.load, &Site::default())?;
    let sockets = groups.iter().map(|group| sockets(group)).max_by_key(|sockets| sockets.descriptors());
    let environment = if wanted.smoke { Environment::Ignored } else { Environment::Counts };
    if let Some(names) = ignored_names::<B>().filter(|_| wanted.smoke) {
        errln!("{names} not used: a smoke run loads what it starts itself, or what its command line names");
    }
    let mut place = flags.bench.narrow(flags.target.clone().resolve(environment)?);
    let (folder, _claim) = output_folder(flags.output.clone(), B::NAME, wanted.smoke)?;
    if wanted.workload {
        set_aside(&folder)?;
    }
    let saved = match wanted.workload && !wanted.smoke {
        true => Saved::of(&flags.criterion, baselines(flags.baselines.clone())?, B::NAME, flags.keep())?,
        false => Saved::Neither,
    };
    sockets.unwrap_or_default().allow(flags.bench.sized())?;
    let signals = Signals::watch()?;
    remote::clear(&mut place, flags.allow_remote, B::NAME, &groups)?;
    let place = Place::prepare(place, program, &flags.bench.needs())?;

    if let Place::Certctl { target, findings } = &place
        && !wanted.loops.is_empty()
    {
        outln!("Criterion: one connection, one request per iteration");
        let loops = (B::NAME, &wanted.loops[..]);
        request_loop::run_apart((target, findings), loops, &flags.criterion, &results()?)?;
    }
    if !wanted.workload {
        return Ok(0);
    }
    let host = place.host();
    let groups = flags.bench.groups(&flags.load, &place.site(&host)?)?;
    let about = About::new(B::NAME, B::ABOUT, place.facts(), groups.iter().flatten());
    out!("{}", text::heading(&about));
    let floor = flags.bench.is_judged().then(|| flags.bench.error_floor());
    let rotates_every = flags.bench.rotates_every();
    // What could not be kept now is tried again at the end, and fails there.
    let keep = |summary: &Summary| {
        if summary.save(&folder).is_ok() {
            signals.kept();
        }
    };
    let cut = Cut::new(flags.load.limits());
    let session = Session {
        place: &place,
        groups: &groups,
        floor,
        smoke: wanted.smoke,
        max_other_cpu: flags.load.max_other_cpu,
        rotates_every,
        cut,
        signals: &signals,
        keep: &keep,
    };
    let mut summary = session.run(about)?;
    let written = summary.save(&folder);
    signals.kept();
    if let Err(unwritten) = written {
        return Err(rescue(&mut summary, &unwritten));
    }
    out!("\n{}", text::results(&summary));
    outln!("{:<12} {}", "written", files::shown(&folder.join("summary.{json,txt}")));
    saved.finish(&summary, &folder)
}

/// Keeps the results of a run whose folder does not take them: in a folder for temporary files, or else on standard
/// output. Gives the error that the run ends with.
fn rescue(summary: &mut Summary, unwritten: &Error) -> Error {
    summary.exit_code = exit::COULD_NOT_RUN;
    let name = format!("certctl-bench-{}-{}", summary.about.scenario, summary.finished_at.replace(':', ""));
    let folder = std::env::temp_dir().join(name);
    let rescued = std::fs::create_dir(&folder).is_ok() && summary.save(&folder).is_ok();
    out!("\n{}", text::results(summary));
    let place = if rescued {
        outln!("{:<12} {}", "written", files::shown(&folder.join("summary.{json,txt}")));
        format!("in {}", files::shown(&folder))
    } else {
        // What of it was written is worth nothing; it may not be there at all.
        let _ = std::fs::remove_dir_all(&folder);
        outln!("\n{}", serde_json::to_string(summary).unwrap_or_default());
        "on standard output, the last line, as summary.json".to_owned()
    };
    let error = Error::new(format!("{}; the results are {place}", unwritten.what()));
    match unwritten.mending() {
        Some(mend) => error.mend(mend),
        None => error,
    }
}

/// The variables that are set and name a system, as a list for people.
fn ignored_names<B: Bench>() -> Option<String> {
    let command = BenchFlags::<B>::command();
    let variables = B::Target::NAMES.iter().flat_map(|(id, old)| {
        let flag = command.get_arguments().find(|arg| arg.get_id() == id);
        let new = flag.and_then(|arg| arg.get_env()).map(|name| name.to_string_lossy().into_owned());
        new.into_iter().chain(old.map(str::to_owned))
    });
    let set: Vec<String> = variables.filter(|name| variable(name).is_some()).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

/// Moves the results of an earlier run out of the way, so that nobody takes them for those of a run that could not start.
fn set_aside(folder: &Path) -> Result<()> {
    for name in ["summary.json", "summary.txt"] {
        let (file, aside) = (folder.join(name), folder.join(format!("previous-{name}")));
        match std::fs::rename(&file, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("moving {} to {}", file.display(), aside.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `target/certctl-bench/NAME`, which is this run's alone until the claim is dropped; smoke runs have a folder of their
/// own in it, so that they overwrite nothing.
pub(super) fn output_folder(chosen: Option<PathBuf>, name: &str, smoke: bool) -> Result<(PathBuf, Claim)> {
    let folder = match chosen {
        Some(folder) => folder,
        None => results()?.join(name),
    };
    let folder = if smoke { folder.join("smoke") } else { folder };
    let claim = files::claim(&folder)?;
    Ok((folder, claim))
}

/// `target/certctl-bench/baselines`.
fn baselines(chosen: Option<PathBuf>) -> Result<PathBuf> {
    Ok(match chosen {
        Some(folder) => folder,
        None => results()?.join("baselines"),
    })
}

/// `target/certctl-bench`.
fn results() -> Result<PathBuf> {
    let program = std::env::current_exe().context(|| "finding this program".to_owned())?;
    // target/PROFILE/deps/PROGRAM
    let build = program.ancestors().nth(3).unwrap_or(Path::new("target"));
    Ok(build.join("certctl-bench"))
}
