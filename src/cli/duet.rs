//! `certctl-bench duet`: two systems at once, under paired arrivals of one generator.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};

use super::acme_flags::{AcmeBurstFlags, AcmeFlowFlags};
use super::agent_storm_flags::AgentStormFlags;
use super::api_tier_flags::ApiTierFlags;
use super::bench::{self, Bench, Groups};
use super::bulk_renewal_flags::BulkRenewalFlags;
use super::common_flags::{CertctlFlags, EnvironmentUse, LoadFlags};
use super::compare::share;
use super::prepare::{self, sizes};
use super::remote;
use super::session::{Observed, Observer};
use super::signals::Signals;
use crate::database as db;
use crate::duet::block::{Block, SideWork, WorkloadBlock, pair_statements};
use crate::duet::verdict::{self, DuetVerdict, Settings};
use crate::duet::{Duet, SCHEMA_VERSION, Sides};
use crate::error::{Context, Error, Result};
use crate::evidence::Evidence;
use crate::evidence::meter::MachineMeter;
use crate::files;
use crate::load::cut::Cut;
use crate::load::plan::{DuetSide, Model};
use crate::load::run::Control;
use crate::measure::Measurement;
use crate::measure::machine::Machine;
use crate::measure::machine_use::MachineUse;
use crate::measure::validity::{self, Invalid};
use crate::provision::network;
use crate::report::duet as report;
use crate::report::live::Live;
use crate::run::{self, BoundWorkload, PlannedWorkload, sockets};
use crate::scenario::need::Need;
use crate::summary::plan::PlanFacts;
use crate::system::base_url::BaseUrl;
use crate::system::certctl_binary::{BinaryChoice, ChosenSettings, PreparedCertctl};
use crate::system::reference::{self, ReferenceStart, StoreChoice};
use crate::system::{Certctl, CheckedCertctl, System as _, Token};
use crate::terminal::{errln, out, outln};
use crate::wire::tls::Trust;

/// The measured window of a block, unless another is given.
const WINDOW: Duration = Duration::from_secs(25);
/// The load before it.
const WARM_UP: Duration = Duration::from_secs(3);
/// The most blocks that are repeated because this machine or the generator was at fault.
const MOST_REPEATED: usize = 3;
/// The share of the CPU left free that others must take to be mentioned.
const OTHERS_MENTIONED: f64 = 0.25;

/// Flags of `certctl-bench duet`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A side is a certctl-server binary, a certctl-reference program, or the URL of a running certctl.\n\
                  Flags of the bench target follow after `--`: certctl-bench duet --base A --head B -- --rate 100/s\n\
                  Exit codes: 0 nothing regressed, 1 could not run, 2 usage, 4 regressed, 5 nothing may be concluded."
)]
pub struct DuetFlags {
    /// The system before a change.
    #[arg(long, value_name = "PROGRAM|URL")]
    base: String,
    /// The system after it.
    #[arg(long, value_name = "PROGRAM|URL")]
    head: String,
    /// The bench target.
    #[arg(long, value_name = "NAME", default_value = AgentStormFlags::NAME)]
    bench: String,
    /// Number of blocks: both systems are restarted before each. A multiple of four balances ports and order of start.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=100))]
    blocks: u16,
    /// Smallest change of a response time that counts as one: 2%, 0.5%.
    #[arg(long, value_name = "SHARE", default_value = "2%", value_parser = share)]
    threshold: f64,
    /// Probability with which two equal systems may be told apart.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = alpha)]
    alpha: f64,
    /// Setting of a base that is started, such as CERTCTL_LOG_LEVEL=info. Can be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    base_env: Vec<String>,
    /// The same for the head.
    #[arg(long, value_name = "NAME=VALUE")]
    head_env: Vec<String>,
    /// Folder of a certctl-server base's migrations and demo seed [default: `migrations` in the binary's folder or one
    /// of the three above it].
    #[arg(long, value_name = "FOLDER")]
    base_migrations: Option<PathBuf>,
    /// The same for the head.
    #[arg(long, value_name = "FOLDER")]
    head_migrations: Option<PathBuf>,
    /// Leave certctl-server sides in this machine's network, instead of one with nothing but loopback.
    #[arg(long, env = "CERTCTL_BENCH_SHARE_NETWORK")]
    share_network: bool,
    /// PostgreSQL URL of a running base, to count its work.
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_BASE_DATABASE", hide_env_values = true)]
    base_database: Option<String>,
    /// The same for the head.
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_HEAD_DATABASE", hide_env_values = true)]
    head_database: Option<String>,
    /// The API key of running systems.
    #[arg(long, value_name = "KEY", env = "CERTCTL_BENCH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The CAs that signed the certificates of running systems, PEM [default: the system's].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate of running systems.
    #[arg(long, env = "CERTCTL_BENCH_INSECURE", conflicts_with = "ca_file")]
    insecure: bool,
    /// Load systems that are not on this machine's loopback.
    #[arg(long, env = "CERTCTL_BENCH_ALLOW_REMOTE")]
    allow_remote: bool,
    /// Folder of the results [default: target/certctl-bench/duet].
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    output: Option<PathBuf>,
    /// Write the result as Markdown too, for a pull request.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Flags of the bench target.
    #[arg(last = true, value_name = "FLAGS")]
    load: Vec<String>,
}

impl DuetFlags {
    /// Moves this process into a network of its own, where a certctl-server is to be started. Call it before any thread
    /// is started.
    ///
    /// # Errors
    /// If the kernel refuses it, or a program cannot be read.
    pub fn enter_network(&self) -> Result<()> {
        let starts = |side: &str, flag| Ok::<_, Error>(!is_url(side) && !is_reference(Path::new(side), flag)?);
        if !self.share_network && (starts(&self.base, "base")? || starts(&self.head, "head")?) {
            network::enter_loopback()?;
        }
        Ok(())
    }
}

/// Runs the duet, and prints a table and a verdict. Returns the exit code.
///
/// # Errors
/// If the first block cannot run.
pub fn run(flags: DuetFlags) -> Result<u8> {
    match &*flags.bench {
        AcmeBurstFlags::NAME => duet::<AcmeBurstFlags>(flags),
        AcmeFlowFlags::NAME => duet::<AcmeFlowFlags>(flags),
        AgentStormFlags::NAME => duet::<AgentStormFlags>(flags),
        ApiTierFlags::NAME => duet::<ApiTierFlags>(flags),
        BulkRenewalFlags::NAME => duet::<BulkRenewalFlags>(flags),
        other => {
            let names = [
                AcmeBurstFlags::NAME,
                AcmeFlowFlags::NAME,
                AgentStormFlags::NAME,
                ApiTierFlags::NAME,
                BulkRenewalFlags::NAME,
            ];
            Err(Error::usage(format!("--bench {other}: no bench target of that name loads a certctl"))
                .with_hint(format!("give one of {}", names.join(", "))))
        }
    }
}

/// The flags after `--`.
#[derive(Clone, Debug, Parser)]
#[command(args_override_self = true)]
struct BenchLoad<B: Bench> {
    #[command(flatten, next_help_heading = "Workload")]
    bench: B,
    #[command(flatten)]
    load: LoadFlags,
}

impl<B: Bench<System = CertctlFlags>> BenchLoad<B> {
    fn parse(flags: &[String]) -> Result<Self> {
        let words = std::iter::once("certctl-bench duet --").chain(flags.iter().map(String::as_str));
        let command = Self::command().no_binary_name(false).about(B::ABOUT);
        let refused = |error: clap::Error| match error.use_stderr() {
            true => {
                let text = error.to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                Error::usage(format!("the flags after `--`: {}", text.lines().next().unwrap_or_default()))
                    .with_hint(format!("see cargo bench --bench {} -- --help", B::NAME))
            }
            false => Error::usage(error.to_string()),
        };
        let matches = command.try_get_matches_from(words).map_err(refused)?;
        let mut parsed = Self::from_arg_matches(&matches).map_err(refused)?;
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if let Some((id, what_for)) = parsed.bench.ignored().into_iter().find(|(id, _)| given(id)) {
            return Err(Error::usage(format!("--{} {what_for}: leave it out", id.replace('_', "-"))));
        }
        parsed.load.duration.get_or_insert(WINDOW);
        parsed.load.warm_up.get_or_insert(WARM_UP);
        parsed.bench.pool();
        Ok(parsed)
    }

    /// Plans the workloads of one side.
    fn groups(&self, side: DuetSide) -> Result<Groups<CheckedCertctl>> {
        let mut groups = self.bench.groups(&self.load)?;
        for PlannedWorkload { workload, .. } in groups.iter_mut().flatten() {
            if matches!(workload.plan.model, Model::Closed { .. }) {
                return Err(Error::usage(format!(
                    "{}: its users wait for their answers, so that its arrivals cannot be paired",
                    workload.name
                ))
                .with_hint("give a rate after `--`: -- --rate 300/s"));
            }
            workload.plan.side = Some(side);
        }
        Ok(groups)
    }
}

fn duet<B: Bench<System = CertctlFlags>>(flags: DuetFlags) -> Result<u8> {
    let load = BenchLoad::<B>::parse(&flags.load)?;
    let groups = Sides::try_make(|side| load.groups(side))?;
    let mut players = Sides::try_make(|side| Player::of(&flags, side))?;
    if players.base.is_running() != players.head.is_running() {
        return Err(Error::usage("one side runs already, and the other is to be started: their lives would differ")
            .with_hint("give two programs, or two URLs"));
    }
    let all = || groups.base.iter().chain(&groups.head).flatten().map(|planned| &planned.workload);
    let widest = groups.base.iter().zip(&groups.head);
    let widest = widest.map(|(base, head)| sockets(base.iter().chain(head).map(|planned| &planned.workload)));
    widest.max_by_key(|sockets| sockets.descriptors()).unwrap_or_default().allow(load.bench.sized())?;
    let mut destinations = Vec::new();
    for side in DuetSide::BOTH {
        destinations.extend(players.of_mut(side).destinations()?);
    }
    let (folder, _claim) = bench::output_folder(flags.output.clone(), "duet", false)?;
    let file = folder.join("duet.json");
    files::forget(&file)?;
    let signals = Signals::watch()?;
    remote::clear(&destinations, flags.allow_remote, B::NAME, all())?;
    let settings = Settings { threshold: flags.threshold, alpha: flags.alpha, blocks: usize::from(flags.blocks) };
    let mut stage = Stage {
        load: &load,
        players,
        needs: load.bench.needs(&load.load),
        ports: free_ports()?,
        stop: Arc::new(AtomicBool::new(false)),
        cut: Cut::new(load.load.limits()),
        reasons: Vec::new(),
        result: Duet {
            schema_version: SCHEMA_VERSION,
            scenario: B::NAME,
            finished_at: String::new(),
            verdict: DuetVerdict::Invalid,
            exit_code: DuetVerdict::Invalid.exit_code(),
            invalid: Vec::new(),
            notes: Vec::new(),
            settings,
            systems: None,
            machine: Machine::this(),
            plans: Vec::new(),
            measures: Vec::new(),
            statements: Vec::new(),
            repeated: Vec::new(),
            blocks: Vec::new(),
        },
    };
    if (&flags.base, &flags.base_env) == (&flags.head, &flags.head_env) {
        stage.result.notes.push("both sides are the same: only chance can tell them apart".to_owned());
    }
    stage.announce();
    stage.play(&signals, &file)?;
    let duet = stage.result;
    let text = report::text(&duet);
    out!("\n{text}");
    files::write(&folder.join("duet.txt"), &text)?;
    outln!("{:<12} {}", "written", files::shown(&folder.join("duet.{json,txt}")));
    if let Some(path) = &flags.markdown {
        files::write(path, report::markdown(&duet))?;
    }
    Ok(duet.exit_code)
}

/// The state of a duet while it runs.
struct Stage<'a, B: Bench> {
    load: &'a BenchLoad<B>,
    players: Sides<Player>,
    needs: Vec<Need>,
    /// The ports that the two sides take in turn.
    ports: [u16; 2],
    stop: Arc<AtomicBool>,
    cut: Cut,
    /// The reasons so far for which nothing may be concluded.
    reasons: Vec<String>,
    result: Duet,
}

/// The result of an attempt at a block.
struct Attempt {
    block: Block,
    /// The reasons for which it says nothing about the systems: this machine or the generator was at fault.
    ours: Vec<String>,
    /// The reasons for which nothing may be concluded from the duet.
    fatal: Vec<String>,
    notes: Vec<String>,
}

impl<B: Bench<System = CertctlFlags>> Stage<'_, B> {
    fn announce(&self) {
        let span = self.load.load.duration.unwrap_or(WINDOW) + self.load.load.warm_up.unwrap_or(WARM_UP);
        let blocks = self.result.settings.blocks as u32;
        outln!("{:<12} {} against {}", "duet", self.players.base.shown(), self.players.head.shown());
        outln!(
            "{:<12} {blocks} of {} s, with a start of both before each: about {:.0} minutes",
            "blocks",
            span.as_secs(),
            ((span + Duration::from_secs(5)) * blocks).as_secs_f64() / 60.0
        );
    }

    /// Plays every block, and judges after each; whatever was measured by then is in `file`.
    fn play(&mut self, signals: &Signals, file: &Path) -> Result<()> {
        let wanted = self.result.settings.blocks;
        while self.result.blocks.len() < wanted {
            let number = self.result.blocks.len() + 1;
            let attempt = match self.attempt(number, signals) {
                Ok(attempt) => attempt,
                Err(error) if self.result.blocks.is_empty() => return Err(error),
                Err(error) => {
                    self.reasons.push(format!("block {number} could not run: {error}").replace('\n', "; "));
                    break;
                }
            };
            let Attempt { block, ours, fatal, notes } = attempt;
            if let Some(why) = ours.first().filter(|_| !self.is_over()) {
                errln!("block {number} is void: {why}");
                self.result.repeated.push(format!("block {number}: {}", ours.join("; ")));
                if self.result.repeated.len() > MOST_REPEATED {
                    self.reasons.push(format!("more than {MOST_REPEATED} blocks were void, the last because {why}"));
                    break;
                }
                continue;
            }
            let is_fatal = !fatal.is_empty();
            self.reasons.extend(fatal);
            for note in notes {
                if !self.result.notes.contains(&note) {
                    self.result.notes.push(note);
                }
            }
            if self.is_over() {
                break;
            }
            outln!("{}", report::block_line(&block, wanted));
            self.result.blocks.push(block);
            self.judge();
            files::write(file, serde_json::to_string_pretty(&self.result).unwrap_or_default())?;
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
        files::write(file, serde_json::to_string_pretty(&self.result).unwrap_or_default())?;
        signals.kept();
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cut.is_over()
    }

    /// Judges the blocks so far.
    fn judge(&mut self) {
        let result = &mut self.result;
        let (measures, invalid) = verdict::judge(&result.blocks, &result.settings);
        result.invalid = [&self.reasons[..], &invalid].concat();
        if result.blocks.len() < result.settings.blocks {
            result.invalid.push(format!("{} of {} blocks were played", result.blocks.len(), result.settings.blocks));
        }
        result.verdict = verdict::overall(&measures, !result.invalid.is_empty());
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
        if self.result.blocks.is_empty() {
            self.stop = signals.measuring().or_else(|error| match number {
                1 if self.result.repeated.is_empty() => Err(error),
                _ => Ok(self.stop.clone()),
            })?;
            db::heed(&self.stop);
        }
        let mut attempt = Attempt {
            block: Block {
                number,
                first: order[0].label(),
                ports: if self.players.base.is_running() { Sides::default() } else { ports },
                workloads: Vec::new(),
                work: Sides::default(),
            },
            ours: Vec::new(),
            fatal: Vec::new(),
            notes: Vec::new(),
        };
        self.result.systems = Some(systems.as_ref().map(|system| system.describe()));
        let groups = Sides::try_make(|side| bench::bind(self.load.groups(side)?, systems.of(side)))?;
        self.result.plans = groups.base.iter().flatten().map(PlanFacts::of_workload).collect();
        let mut gathered = Sides::<Gathered>::default();
        for (base, head) in groups.base.into_iter().zip(groups.head) {
            let group = Sides { base, head };
            self.play_group(&systems, &group, order, &mut gathered, &mut attempt)?;
            if self.is_over() {
                break;
            }
        }
        attempt.block.work = gathered
            .map(|one| SideWork::of(&one.measurements.iter().collect::<Vec<_>>(), &one.evidence, &one.machine_use));
        for side in DuetSide::BOTH {
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
        gathered: &mut Sides<Gathered>,
        attempt: &mut Attempt,
    ) -> Result<()> {
        let control = Control { progress: Arc::default(), stop: self.stop.clone(), cut: self.cut.clone() };
        let mut observers = Sides::<Option<Observer<'_>>>::default();
        for side in order {
            *observers.of_mut(side) = Some(Observer::begin(systems.of(side), group.of(side), &control)?);
        }
        let meters =
            Sides::try_make(|side| MachineMeter::start(systems.of(side).addresses(), control.progress.clone()))?;
        let workloads: Vec<BoundWorkload> = order.into_iter().flat_map(|side| group.of(side).clone()).collect();
        let mut measurements = {
            let _live = Live::start(control.progress.clone(), workloads.iter().map(|bound| &bound.workload.plan));
            run::run(&workloads, &control)?
        };
        let second = measurements.split_off(group.of(order[0]).len());
        let mut of_sides = Sides::<Vec<Measurement>>::default();
        *of_sides.of_mut(order[0]) = measurements;
        *of_sides.of_mut(order[1]) = second;
        let machine_use = meters.map(MachineMeter::finish);
        for side in DuetSide::BOTH {
            let (measurements, group) = (of_sides.of(side), group.of(side));
            let Some(observer) = observers.of_mut(side).take() else { continue };
            let Observed { work, evidence, uncounted } = observer.finish(group, measurements);
            attempt.fatal.extend(uncounted.map(|why| format!("{}: {why}", side.label())));
            for ((bound, measurement), work) in group.iter().zip(measurements).zip(&work) {
                let punctuality = bound.workload.plan.punctuality();
                for why in validity::judge(measurement, work, punctuality, bound.scenario.decisive_span()) {
                    let reason = format!("{}: {}: {why}", side.label(), bound.workload.name);
                    match why {
                        Invalid::Work(_) => attempt.fatal.push(reason),
                        // Errors and missing answers are measures.
                        Invalid::NothingMeasured | Invalid::Partial => {}
                        _ => attempt.ours.push(reason),
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
        let share = machine_use.base.as_ref().map(|one| one.mean.others + one.mean.steal).unwrap_or_default();
        let head = machine_use.head.as_ref().and_then(|one| one.mean.system.zip(one.mean.postgresql));
        // The head is among the base's others.
        let others = share - head.map_or(0.0, |(system, postgresql)| system + postgresql);
        let cpus = machine_use.base.as_ref().map_or(1.0, |one| f64::from(one.cpus));
        if others > OTHERS_MENTIONED * cpus {
            let number = attempt.block.number;
            attempt.notes.push(format!("block {number}: other processes and the host took {others:.1} processors"));
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

/// What was observed of one side in a block.
#[derive(Default)]
struct Gathered {
    measurements: Vec<Measurement>,
    evidence: Vec<Evidence>,
    machine_use: Vec<Option<MachineUse>>,
}

/// One side of a duet.
enum Player {
    /// A certctl that runs already.
    Running(Box<Running>),
    /// A reference server, which is started for each block.
    Reference {
        /// The program.
        program: PathBuf,
        /// Its SHA-256, in hexadecimal digits.
        sha256: String,
        /// Variables of its environment.
        environment: Vec<(String, String)>,
    },
    /// A certctl-server, which is started for each block.
    Certctl {
        /// The program.
        choice: BinaryChoice,
        /// Its database, once it is prepared.
        prepared: Option<Box<PreparedCertctl>>,
    },
}

/// A certctl that runs already.
struct Running {
    base: BaseUrl,
    trust: Trust,
    token: Token,
    database: Option<String>,
}

impl Player {
    fn of(flags: &DuetFlags, side: DuetSide) -> Result<Self> {
        let (name, environment, database, migrations) = match side {
            DuetSide::Base => (&flags.base, &flags.base_env, &flags.base_database, &flags.base_migrations),
            DuetSide::Head => (&flags.head, &flags.head_env, &flags.head_database, &flags.head_migrations),
        };
        let flag = side.label();
        if is_url(name) {
            if !environment.is_empty() {
                return Err(Error::usage(format!("--{flag}-env does not apply to a running system: {name}"))
                    .with_hint("set the variable where it is started"));
            }
            let base: BaseUrl = name.parse().map_err(|error| Error::usage(format!("--{flag}: {error}")))?;
            let trust = match &flags.ca_file {
                _ if flags.insecure => Trust::Insecure,
                Some(file) => Trust::from_file(file)?,
                None => Trust::System,
            };
            let token = flags.token.clone().or_else(|| EnvironmentUse::Counts.variable("CERTCTL_TOKEN"));
            let token = token.ok_or_else(|| {
                Error::usage("the API key of the running systems is not given").with_hint("give --token")
            })?;
            let running = Running { base, trust, token: Token::new(token), database: database.clone() };
            return Ok(Self::Running(Box::new(running)));
        }
        if database.is_some() {
            return Err(Error::usage(format!("--{flag}-database applies only to a running system"))
                .with_hint("leave it out: a program that is started gets a PostgreSQL of its own"));
        }
        let program = PathBuf::from(name);
        if is_reference(&program, flag)? {
            if migrations.is_some() {
                return Err(Error::usage(format!("--{flag}-migrations applies only to a certctl-server")));
            }
            let environment = environment.iter().map(|one| assignment(one, flag)).collect::<Result<_>>()?;
            let sha256 = Sha256::digest(read(&program, flag)?).iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(Self::Reference { program, sha256, environment });
        }
        let settings = ChosenSettings::new(environment)?;
        let (migrations, shares_network) = (migrations.clone(), flags.share_network);
        Ok(Self::Certctl { choice: BinaryChoice { program, migrations, settings, shares_network }, prepared: None })
    }

    fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    fn shown(&self) -> String {
        match self {
            Self::Running(running) => running.base.to_string(),
            Self::Reference { program, .. } => files::shown(program),
            Self::Certctl { choice, .. } => files::shown(&choice.program),
        }
    }

    fn destinations(&mut self) -> Result<Vec<remote::Destination>> {
        match self {
            Self::Running(running) => {
                let mut found = vec![remote::server(&mut running.base)?];
                found.extend(running.database.as_deref().map(remote::database).transpose()?);
                Ok(found)
            }
            Self::Reference { .. } | Self::Certctl { .. } => Ok(Vec::new()),
        }
    }

    /// Starts it; what was started before must be gone.
    fn start(&mut self, port: u16, needs: &[Need]) -> Result<Certctl> {
        match self {
            Self::Running(running) => {
                let Running { base, trust, token, database } = &**running;
                Ok(Certctl::external(base.clone(), trust.clone(), token.clone(), database.clone()))
            }
            Self::Reference { program, sha256, environment } => {
                let start = ReferenceStart {
                    sizes: sizes(needs),
                    port,
                    environment,
                    ..ReferenceStart::new(program, StoreChoice::Auto)
                };
                let mut certctl = reference::start(&start, &mut |_| {})?;
                certctl.system.binary_sha256 = Some(sha256.clone());
                Ok(certctl)
            }
            Self::Certctl { choice, prepared } => {
                let prepared = match prepared {
                    Some(prepared) => prepared,
                    none => none.insert(Box::new(PreparedCertctl::new(choice.clone(), &mut |line| errln!("{line}"))?)),
                };
                prepared.start(sizes(needs), port, &mut |_| {})
            }
        }
    }
}

fn is_url(side: &str) -> bool {
    side.contains("://")
}

/// Reports whether a program is a certctl-reference: it names the variable that holds its key.
fn is_reference(program: &Path, flag: &str) -> Result<bool> {
    let mark = Regex::new("CERTCTL_REFERENCE_TOKEN").context(|| "making a pattern".to_owned())?;
    Ok(mark.is_match(&read(program, flag)?))
}

fn read(program: &Path, flag: &str) -> Result<Vec<u8>> {
    std::fs::read(program).map_err(|error| {
        Error::usage(format!("--{flag} {}: {error}", program.display()))
            .with_hint("give a program, or a URL that begins with https://")
    })
}

/// Finds two ports that are free now.
fn free_ports() -> Result<[u16; 2]> {
    let finding = || "finding a free port".to_owned();
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(finding);
    // Both at once, so that they differ.
    let (first, second) = (listen()?, listen()?);
    let port = |listener: &TcpListener| Ok(listener.local_addr().context(finding)?.port());
    Ok([port(&first)?, port(&second)?])
}

fn alpha(text: &str) -> Result<f64, String> {
    let alpha = share(text)?;
    if alpha > 0.0 && alpha <= 0.5 { Ok(alpha) } else { Err("must be above 0% and at most 50%".to_owned()) }
}

fn assignment(text: &str, flag: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("--{flag}-env needs NAME=VALUE"))),
    }
}
