//! `certctl-bench duet`: two systems at once, under paired arrivals of one generator.

mod player;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::acme_flags::{AcmeBurstFlags, AcmeFlowFlags};
use super::agent_storm_flags::AgentStormFlags;
use super::api_tier_flags::ApiTierFlags;
use super::bench::{self, Bench, Groups};
use super::bench_load::{BenchLoad, Played, play};
use super::bulk_renewal_flags::BulkRenewalFlags;
use super::common_flags::{AccessFlags, CertctlFlags};
use super::compare::{share, threshold};
use super::exit;
use super::github_job;
use super::live_flags::LiveFlags;
use super::prepare::announce_insecure;
use super::remote;
use super::signals::Signals;
use crate::duet::verdict::{DuetVerdict, Settings};
use crate::duet::{Duet, SCHEMA_VERSION, Sides};
use crate::error::{Error, Result};
use crate::files;
use crate::live::Live;
use crate::live::server::LiveListener;
use crate::load::cut::Cut;
use crate::load::plan::{DuetPart, DuetSide, Model};
use crate::measure::machine::Machine;
use crate::provision::{network, port};
use crate::report::duet as report;
use crate::run::{PlannedWorkload, sockets};
use crate::system::CheckedCertctl;
use crate::terminal::{out, outln};
use player::{Player, is_reference, is_url};
use stage::Stage;

/// The measured window of a block, unless another is given.
const WINDOW: Duration = Duration::from_secs(13);
/// The load before it.
const WARM_UP: Duration = Duration::from_secs(2);
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
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=100))]
    blocks: u16,
    /// Least change of a response time that counts: 1%, 0.5%.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = threshold)]
    threshold: f64,
    /// Probability with which a duet of two equal systems may end as `regressed` for a response time.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = alpha)]
    alpha: f64,
    /// Setting of a base that is started, such as CERTCTL_LOG_LEVEL=info. Can be given several times; in the
    /// environment, one a line.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "CERTCTL_BENCH_BASE_ENV",
        hide_env_values = true,
        value_delimiter = '\n'
    )]
    base_env: Vec<String>,
    /// The same for the head.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "CERTCTL_BENCH_HEAD_ENV",
        hide_env_values = true,
        value_delimiter = '\n'
    )]
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
    #[command(flatten)]
    access: AccessFlags,
    /// Load systems that are not on this machine's loopback.
    #[arg(long, env = "CERTCTL_BENCH_ALLOW_REMOTE")]
    allow_remote: bool,
    /// Folder of the results [default: target/certctl-bench/duet].
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    output: Option<PathBuf>,
    /// Write the result as Markdown too, for a pull request.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The view of the duet while it goes on.
    #[command(flatten)]
    pub live: LiveFlags,
    /// Flags of the bench target.
    #[arg(last = true, value_name = "FLAGS")]
    load: Vec<String>,
}

impl DuetFlags {
    /// Refuses flags without effect on the command line that these were parsed from: the access to running systems where
    /// both sides are started, and the network of a certctl-server where none is. The environment may have them: it is
    /// set for many runs.
    ///
    /// # Errors
    /// If such a flag is there, or a program cannot be read.
    pub fn check(&self, command_line: &ArgMatches) -> Result<()> {
        let is_given = |id: &&str| command_line.value_source(id) == Some(ValueSource::CommandLine);
        let mut access = ["token", "ca_file", "insecure", "allow_foreign_rows", "allow_remote"].into_iter();
        match access.find(is_given).filter(|_| !is_url(&self.base) && !is_url(&self.head)) {
            Some(id) => Err(Error::usage(format!(
                "--{} applies only to systems that run already, and both sides are to be started",
                id.replace('_', "-")
            ))
            .with_hint("leave it out, or give two URLs")),
            None if is_given(&"share_network") && !self.starts_certctl()? => {
                Err(Error::usage("--share-network applies only to a certctl-server").with_hint("leave it out"))
            }
            None => Ok(()),
        }
    }

    /// Reports whether a side is a certctl-server that is to be started.
    fn starts_certctl(&self) -> Result<bool> {
        let starts = |side: &str, flag| Ok::<_, Error>(!is_url(side) && !is_reference(Path::new(side), flag)?);
        Ok(starts(&self.base, "base")? || starts(&self.head, "head")?)
    }

    /// Moves this process into a network of its own, where a certctl-server is to be started. Call it before any thread
    /// is started.
    ///
    /// # Errors
    /// If the kernel refuses it, or a program cannot be read.
    pub fn enter_network(&self) -> Result<()> {
        if !self.share_network && self.starts_certctl()? {
            network::enter_loopback()?;
        }
        Ok(())
    }
}

/// The bench targets that have a duet.
const PAIRED: [Played<(DuetFlags, Vec<LiveListener>)>; 5] = [
    (AcmeBurstFlags::NAME, duet::<AcmeBurstFlags>),
    (AcmeFlowFlags::NAME, duet::<AcmeFlowFlags>),
    (AgentStormFlags::NAME, duet::<AgentStormFlags>),
    (ApiTierFlags::NAME, duet::<ApiTierFlags>),
    (BulkRenewalFlags::NAME, duet::<BulkRenewalFlags>),
];

/// Runs the duet, and prints a table and a verdict. Returns the exit code. Who looks at it does so at `listeners`.
///
/// # Errors
/// If the first block cannot run.
pub fn run(flags: DuetFlags, listeners: Vec<LiveListener>) -> Result<u8> {
    let name = flags.bench.clone();
    play(&PAIRED, &name, "a duet", (flags, listeners))
}

impl<B: Bench<System = CertctlFlags>> BenchLoad<B> {
    /// Parses the flags after the `--` of a duet.
    fn of_duet(flags: &[String]) -> Result<Self> {
        let no_effect = ("max_other_cpu", "has no effect in a duet, whose sides meet the same others");
        let one_thread = ("generator_threads", "has no effect in a duet: one thread loads both sides");
        let mut parsed = Self::parse("duet", flags, &[no_effect, one_thread])?;
        parsed.load.duration.get_or_insert(WINDOW);
        parsed.load.warm_up.get_or_insert(WARM_UP);
        parsed.bench.pool();
        Ok(parsed)
    }

    /// Plans the workloads of one side in a block. Two successive blocks have the same schedule and the same coin, with
    /// the sides exchanged.
    fn groups(&self, side: DuetSide, block: usize) -> Result<Groups<CheckedCertctl>> {
        let mut groups = self.bench.groups(&self.load)?;
        let parts = [DuetPart::Heads, DuetPart::Tails];
        let part = parts[(side as usize + block) % 2];
        for PlannedWorkload { workload, .. } in groups.iter_mut().flatten() {
            if matches!(workload.plan.model, Model::Closed { .. }) {
                return Err(Error::usage(format!(
                    "{}: its users wait for their answers, so that its arrivals cannot be paired",
                    workload.name
                ))
                .with_hint("give a rate after `--`: -- --rate 300/s"));
            }
            workload.plan.part = Some(part);
            workload.plan.rng_seed = workload.plan.rng_seed.wrapping_add((block / 2) as u64);
        }
        Ok(groups)
    }
}

fn duet<B: Bench<System = CertctlFlags>>((flags, listeners): (DuetFlags, Vec<LiveListener>)) -> Result<u8> {
    let load = BenchLoad::<B>::of_duet(&flags.load)?;
    let groups = Sides::try_make(|side| load.groups(side, 0))?;
    let is_reference = |side: &str, flag| is_reference(Path::new(side), flag);
    let are_programs = !is_url(&flags.base) && !is_url(&flags.head);
    if are_programs && is_reference(&flags.base, "base")? != is_reference(&flags.head, "head")? {
        return Err(Error::usage("one side is a certctl-server, the other a reference server: they are not compared")
            .with_hint("give two builds of the same program"));
    }
    let mut players = Sides::try_make(|side| Player::of(&flags, side))?;
    if players.base.is_running() != players.head.is_running() {
        return Err(Error::usage("one side runs already, and the other is to be started: their lives would differ")
            .with_hint("give two programs, or two URLs"));
    }
    if let (Player::Running(base), Player::Running(head)) = (&players.base, &players.head) {
        let shared = match () {
            () if base.base == head.base => Some(format!("both sides are {}", base.base)),
            () if base.database.is_some() && base.database == head.database => {
                Some("--base-database and --head-database are the same".to_owned())
            }
            () => None,
        };
        if let Some(shared) = shared {
            return Err(Error::usage(format!("{shared}: each side would have the other's load too"))
                .with_hint("give two that run side by side, each with a database of its own"));
        }
        announce_insecure(&base.trust);
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
    let page = folder.join("report.html");
    for old in [Some(&file), Some(&folder.join("duet.txt")), Some(&page), flags.markdown.as_ref()].into_iter().flatten()
    {
        files::forget(old)?;
    }
    let signals = Signals::watch()?;
    remote::clear(&destinations, flags.allow_remote, B::NAME, all())?;
    flags.live.announce(&listeners)?;
    let about = format!("{} Two systems side by side, block after block.", B::ABOUT);
    let live = Live::start(B::NAME, &about, None, listeners)?;
    let settings = Settings { threshold: flags.threshold, alpha: flags.alpha, blocks: usize::from(flags.blocks) };
    let mut stage = Stage {
        load: &load,
        players,
        needs: [load.bench.needs(&load.load), load.load.needs()].concat(),
        ports: port::free_pair()?,
        stop: None,
        cut: Cut::new(load.load.limits()),
        live,
        reasons: Vec::new(),
        result: Duet {
            schema_version: SCHEMA_VERSION,
            scenario: B::NAME,
            finished_at: String::new(),
            verdict: DuetVerdict::Invalid,
            exit_code: DuetVerdict::Invalid.exit_code(),
            invalid: Vec::new(),
            missing: Vec::new(),
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
    let of_base = (&flags.base, &flags.base_env, &flags.base_migrations);
    if of_base == (&flags.head, &flags.head_env, &flags.head_migrations) {
        stage.result.notes.push("both sides are the same: only chance can tell them apart".to_owned());
    }
    stage.announce();
    stage.play(&signals, &file)?;
    let json = stage.json();
    let Stage { result: duet, live, .. } = stage;
    let text = report::text(&duet);
    // Before files are written: a full disk costs nothing that was measured.
    out!("\n{text}");
    files::write(&file, json)?;
    files::write(&folder.join("duet.txt"), &text)?;
    signals.kept();
    outln!("{:<12} {}", "written", files::shown(&folder.join("duet.{json,txt}")));
    if let Some(path) = &flags.markdown {
        files::write(path, report::markdown(&duet))?;
    }
    github_job::of_duet(&duet);
    let html = report::html(&duet);
    let report = files::write(&page, &html).map(|()| {
        live.end(html);
        flags.live.show(&page);
        page
    });
    exit::last_line(report, &file);
    Ok(duet.exit_code)
}

fn alpha(text: &str) -> Result<f64, String> {
    let alpha = share(text)?;
    if alpha > 0.0 && alpha <= 0.5 { Ok(alpha) } else { Err("must be above 0% and at most 50%".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_blocks_exchange_the_halves_of_one_schedule() {
        let load = BenchLoad::<AgentStormFlags>::of_duet(&[]).unwrap();
        let of = |side, block| {
            let groups = load.groups(side, block).unwrap();
            let plan = &groups[0][0].workload.plan;
            (plan.part.unwrap(), plan.rng_seed)
        };
        let blocks =
            [0, 1, 2, 3].map(|block| Sides { base: of(DuetSide::Base, block), head: of(DuetSide::Head, block) });
        let first = blocks[0].base.1;
        for (index, Sides { base, head }) in blocks.into_iter().enumerate() {
            let halves = [DuetPart::Heads, DuetPart::Tails];
            let [one, other] = if index % 2 == 0 { halves } else { [halves[1], halves[0]] };
            assert_eq!((base.0, head.0), (one, other), "block {index}");
            assert_eq!((base.1, head.1), (first + index as u64 / 2, first + index as u64 / 2), "block {index}");
        }
    }
}
