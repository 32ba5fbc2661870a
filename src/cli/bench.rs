//! The main of a bench target: prepares the target, runs loop and workload, checks the work, reports and judges.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::flags::{BenchFlags, Mode, Where};
use super::{exit, request_loop};
use crate::error::{Context, Error, Result};
use crate::load::limits;
use crate::load::open::Plan;
use crate::load::progress::Progress;
use crate::measure::validity::{self, Invalid, Work};
use crate::measure::{Measurement, Outcome};
use crate::report::live::Live;
use crate::report::summary::{About, Results};
use crate::report::{Summary, Verdict, text};
use crate::run::open_workload;
use crate::scenario::Scenario;
use crate::scenario::agent_storm::{AgentStorm, Books, PERMISSION};
use crate::scenario::need::Need;
use crate::target::preflight::{self, Findings};
use crate::target::{Target, reference, seed};
use crate::wire::tls::Trust;

/// Runs the bench target `agent_storm`. `reference` is the reference server's program.
pub fn main(reference: &str) -> ExitCode {
    if let Some(code) = request_loop::run_if_handed_over() {
        return code;
    }
    let flags = match BenchFlags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing can be done about a terminal that takes no help text.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    match bench(flags, Path::new(reference)) {
        Ok(Some(verdict)) => ExitCode::from(verdict.exit_code()),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => exit::fail(&error),
    }
}

/// What the command line comes to.
struct Wanted {
    run_loop: bool,
    run_workload: bool,
    smoke: bool,
}

impl Wanted {
    fn of(flags: &BenchFlags) -> Result<Self> {
        let wants = |id: &str| {
            flags.criterion.wants(id).map_err(|error| {
                Error::usage(format!("the filter is no regular expression: {error}")).mend("quote it, or add --exact")
            })
        };
        let (loop_wanted, workload_wanted) = (wants(LOOP_ID)?, wants(WORKLOAD_ID)?);
        let loop_alone = flags.criterion.profile_time.is_some() || flags.criterion.load_baseline.is_some();
        Ok(Self {
            run_loop: loop_wanted && flags.mode != Mode::Sustained,
            run_workload: workload_wanted && flags.mode != Mode::Loop && !loop_alone,
            smoke: flags.criterion.test || !flags.criterion.bench,
        })
    }
}

/// The ids that filters match and `--list` shows.
const LOOP_ID: &str = "agent_storm/heartbeat";
const WORKLOAD_ID: &str = "agent_storm/sustained";

fn bench(mut flags: BenchFlags, reference: &Path) -> Result<Option<Verdict>> {
    let wanted = Wanted::of(&flags)?;
    let ids = [(LOOP_ID, wanted.run_loop), (WORKLOAD_ID, wanted.run_workload)];
    if flags.criterion.list {
        ids.iter().filter(|(_, listed)| *listed).for_each(|(id, _)| println!("{id}: benchmark"));
        return Ok(None);
    }
    if !wanted.run_loop && !wanted.run_workload {
        return Ok(None);
    }
    if wanted.smoke {
        flags.load.smoke();
    }
    let (plan, agents) = flags.load.plan()?;
    let place = flags.target.clone().resolve()?;
    let folder = output_folder(flags.output, wanted.smoke)?;
    limits::allow_connections(plan.connections)?;
    let stop = stop_on_signals()?;
    let (target, findings) = prepare(place, reference, agents)?;
    stopped(&stop)?;

    if wanted.run_loop {
        println!("Criterion loop: one connection, one heartbeat per iteration");
        request_loop::run_apart(&target, &findings.dialer, agents, &flags.criterion.to_arguments())?;
        stopped(&stop)?;
    }
    if !wanted.run_workload {
        return Ok(None);
    }
    let storm = Rc::new(AgentStorm::new(agents, &target.base.host_header(), target.token.reveal()));
    let about = About::new(&*storm, &target, &plan, agents);
    print!("{}", text::heading(&about));
    let workload = Workload { scenario: storm, target: &target, findings: &findings, plan: &plan, stop };
    let summary = workload.run(about, wanted.smoke)?;
    let saved = save(&summary, &folder);
    print!("\n{}", text::results(&summary));
    saved?;
    println!("{:<12} {}", "written", folder.join("summary.{json,txt}").display());
    Ok(Some(summary.verdict))
}

/// The first SIGINT or SIGTERM sets the flag, and a second one ends the process at once: whatever was started dies
/// with it.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let code = 128 + signal;
        signal_hook::flag::register_conditional_shutdown(signal, code, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context(|| "watching for signals".to_owned())?;
    }
    Ok(stop)
}

fn stopped(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Error::new("stopped before anything was measured")) } else { Ok(()) }
}

/// Starts the target, or finds the running one, and looks it over.
fn prepare(place: Where, reference: &Path, agents: u64) -> Result<(Target, Findings)> {
    let mut target = match place {
        Where::Running(target) => *target,
        Where::Reference(store) => reference::start(reference, &store, agents, &mut |line| eprintln!("{line}"))?,
    };
    if matches!(target.trust, Trust::Insecure) {
        eprintln!("WARNING: --insecure: the server's certificate is not verified; anyone may be answering");
    }
    let findings = preflight::inspect(&target, &[Need::Permission(PERMISSION), Need::Agent(1), Need::Agent(agents)])?;
    target.system.answered(&findings.version);
    Ok((target, findings))
}

/// How much of an example is shown.
const EXAMPLE_CHARACTERS: usize = 200;

/// A scenario's workload at a target.
struct Workload<'a> {
    scenario: Rc<AgentStorm>,
    target: &'a Target,
    findings: &'a Findings,
    plan: &'a Plan,
    stop: Arc<AtomicBool>,
}

impl Workload<'_> {
    fn run(self, about: About, smoke: bool) -> Result<Summary> {
        let auditor = Auditor::open(&self.scenario, self.target, self.findings)?;
        let mut measurement = self.measure()?;
        // Examples quote answers, which may say back what they were told.
        for (_, example) in &mut measurement.examples {
            *example = self.target.token.redact(example).chars().take(EXAMPLE_CHARACTERS).collect();
        }
        // What was measured is not lost because it cannot be confirmed.
        let (work, uncounted) = match auditor.close(&self.scenario, measurement.unanswered) {
            Ok(work) => (work, None),
            Err(error) => (Vec::new(), Some(Invalid::WorkUncounted(error.to_string().replace('\n', ";")))),
        };
        let checked: Vec<_> =
            self.scenario.thresholds().into_iter().map(|threshold| threshold.check(&measurement)).collect();
        let mut invalid = validity::judge(&measurement, &checked, &work, self.plan.max_lag);
        invalid.extend(uncounted);
        let verdict = match Verdict::of(&invalid, &checked) {
            _ if smoke && works(&measurement, &invalid) => Verdict::Smoke,
            verdict => verdict,
        };
        let invalid = if verdict == Verdict::Smoke { &[] } else { &invalid[..] };
        let results = Results { measurement: &measurement, work: &work, checked: &checked, invalid, verdict };
        Ok(Summary::new(about, &results))
    }

    fn measure(&self) -> Result<Measurement> {
        let progress = Arc::new(Progress::default());
        let _live = Live::start(progress.clone(), self.plan);
        open_workload(&self.scenario, &self.findings.dialer, self.plan, progress, self.stop.clone())
    }
}

/// Whether every part of a smoke run did what it should; how fast, and how often, is not asked.
fn works(measurement: &Measurement, invalid: &[Invalid]) -> bool {
    let of_pace = |reason: &Invalid| {
        matches!(reason, Invalid::Lag { .. } | Invalid::Saturated { .. } | Invalid::TooFewSamples { .. })
    };
    measurement.outcomes.count(Outcome::Ok) == measurement.scheduled && invalid.iter().all(of_pace)
}

/// Counts the work done, where the target lets it be counted.
enum Auditor<'a> {
    Database(Box<postgres::Client>, Books),
    Memory(&'a Target, &'a Findings, reference::Counts),
    None,
}

impl<'a> Auditor<'a> {
    fn open(scenario: &AgentStorm, target: &'a Target, findings: &'a Findings) -> Result<Self> {
        Ok(match (&target.database, target.system.kind) {
            (Some(url), _) => {
                let mut database = seed::connect(url)?;
                let books = scenario.open_books(&mut database)?;
                Self::Database(Box::new(database), books)
            }
            (None, "reference") => Self::Memory(target, findings, reference::counts(target, &findings.dialer)?),
            (None, _) => Self::None,
        })
    }

    fn close(self, scenario: &AgentStorm, unanswered: u64) -> Result<Vec<Work>> {
        match self {
            Self::Database(mut database, books) => scenario.close_books(&books, unanswered, &mut database),
            Self::Memory(target, findings, before) => {
                let after = reference::counts(target, &findings.dialer)?;
                Ok(after.work_since(&before, scenario.accepted(), unanswered))
            }
            Self::None => Ok(Vec::new()),
        }
    }
}

/// `target/certctl-bench/agent_storm`; smoke runs have a folder of their own in it, so that they overwrite nothing.
fn output_folder(chosen: Option<PathBuf>, smoke: bool) -> Result<PathBuf> {
    let program = std::env::current_exe().context(|| "finding this program".to_owned())?;
    // target/PROFILE/deps/PROGRAM
    let build = program.ancestors().nth(3).unwrap_or(Path::new("target"));
    let folder = chosen.unwrap_or_else(|| build.join("certctl-bench/agent_storm"));
    let folder = if smoke { folder.join("smoke") } else { folder };
    std::fs::create_dir_all(&folder).context(|| format!("making the folder {}", folder.display()))?;
    Ok(folder)
}

fn save(summary: &Summary, folder: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(summary).context(|| "writing the summary as JSON".to_owned())?;
    let text = text::heading(&summary.about) + "\n" + &text::results(summary);
    for (name, content) in [("summary.json", json + "\n"), ("summary.txt", text)] {
        let path = folder.join(name);
        let mut file = std::fs::File::create(&path).context(|| format!("creating {}", path.display()))?;
        file.write_all(content.as_bytes()).context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
