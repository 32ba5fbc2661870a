//! `cargo bench --bench handshake`: raw TLS handshakes as Criterion loops, and the counts that are the same in every
//! run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

use super::criterion::CriterionFlags;
use super::invocation::Invocation;
use super::registry::Playable;
use super::shield::Shield;
use super::{bench, exit, signals};
use crate::clock::thread_cpu_ns;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::handshake::against;
use crate::handshake::counts::{HANDSHAKES, HandshakeCounts, SMOKE_HANDSHAKES};
use crate::handshake::keyring::{Keyring, Parties};
use crate::handshake::loopback::{RunningServer, Visitor};
use crate::handshake::matrix::Case;
use crate::handshake::pipe::{Pipe, unmetered};
use crate::handshake::selection::{Loop, MeasuredSide, Scope};
use crate::handshake::servers::{Server, Started};
use crate::handshake::throughput::HandshakeThreads;
use crate::load::limits::allow_threads;
use crate::provision::daemon::{self, Daemon};
use crate::system::base_url::BaseUrl;
use crate::terminal::{errln, out, outln};
use crate::wire::tls::Trust;

const NAME: &str = "handshake";
/// The longest time for a peer on this machine to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// The variable that holds the whole command line while Criterion reads the process's.
const VARIABLE: &str = "CERTCTL_BENCH_HANDSHAKE";

const ABOUT: &str = "Raw TLS handshakes: in memory, over loopback and on several cores.";
/// The bench target as a part of `certctl-bench`.
pub(super) const PLAYABLE: Playable = Playable { name: NAME, about: ABOUT, play, command };

/// The command line of the bench target.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    about = ABOUT,
    after_help = "Exit codes: 0 pass, 1 could not run or a handshake differed from its id, 2 usage.",
    args_override_self = true
)]
struct HandshakeFlags {
    /// Part of the matrix that runs [default: default; with a filter full].
    #[arg(long, value_enum, env = "CERTCTL_BENCH_MATRIX")]
    matrix: Option<Scope>,
    /// Measure handshakes with a server that runs already as well: https://host:port. Ids call it `peer`.
    #[arg(long, value_name = "URL", env = "CERTCTL_BENCH_PEER")]
    peer: Option<String>,
    /// The CA that signed the peer's certificate, PEM [default: the system's].
    #[arg(long, value_name = "FILE", env = "CERTCTL_BENCH_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Compare the CPU time of full handshakes with other clients', turn by turn, and run no loop.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CLIENTS")]
    against: Vec<against::Rival>,
    /// Folder of the results.
    #[arg(long, value_name = "FOLDER", env = "CERTCTL_BENCH_OUTPUT")]
    output: Option<PathBuf>,
    /// Criterion's own flags.
    #[command(flatten)]
    criterion: CriterionFlags,
}

impl HandshakeFlags {
    /// True for a smoke run, which only shows that everything works: with `--test`, or without `--bench`, as
    /// `cargo test` runs bench targets.
    fn is_smoke(&self) -> bool {
        self.criterion.test || !self.criterion.bench
    }

    /// Returns every server to shake hands with.
    fn servers(&self) -> Result<Vec<Server>> {
        let mut servers = vec![Server::Own];
        for daemon in Daemon::ALL {
            match daemon::find(daemon)? {
                Ok(installation) => servers.push(Server::Daemon(installation)),
                Err(skipped) => errln!("{skipped}"),
            }
        }
        if let Some(url) = &self.peer {
            let base: BaseUrl =
                url.parse().map_err(|error| Error::usage(format!("peer (--peer, CERTCTL_BENCH_PEER): {error}")))?;
            let trust = match &self.ca_file {
                Some(file) => Trust::from_file(file)?,
                None => Trust::System,
            };
            let here: Vec<_> = base.addresses()?.into_iter().filter(|address| address.ip().is_loopback()).collect();
            // A name may have several addresses, and a server may listen on one of them.
            let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, CONNECT_PATIENCE).is_ok();
            let address = *here.iter().find(answers).or(here.first()).ok_or_else(|| {
                Error::usage(format!("peer {base} is not on this machine")).with_hint("give an address on loopback")
            })?;
            servers.push(Server::Running(RunningServer {
                label: "peer".to_owned(),
                address,
                trust,
                name: base.server_name()?,
            }));
        }
        Ok(servers)
    }
}

/// Runs the bench target.
///
/// Criterion reads the process's command line itself and accepts no flags but its own. So the program replaces itself
/// by itself, with the flags that Criterion knows as arguments, and all of them in a variable.
pub fn main() -> ExitCode {
    play(Invocation::of_cargo(NAME))
}

fn play(invocation: Invocation) -> ExitCode {
    signals::reset();
    let handed_over = std::env::var(VARIABLE).ok().and_then(|text| serde_json::from_str::<Vec<String>>(&text).ok());
    let is_handed_over = handed_over.is_some();
    let arguments = match handed_over {
        Some(arguments) => arguments.into_iter().map(Into::into).collect(),
        None => invocation.arguments(),
    };
    let flags = match parse(arguments, invocation.bin_name()) {
        Ok(flags) => flags,
        Err(error) => return exit::usage(&error),
    };
    match allow_threads().and_then(|()| run(&flags, &invocation, is_handed_over)) {
        Ok(()) => exit::done(0),
        Err(error) => exit::fail(&error),
    }
}

fn command() -> clap::Command {
    HandshakeFlags::command().name(NAME)
}

fn parse(arguments: Vec<OsString>, bin_name: &str) -> Result<HandshakeFlags, clap::Error> {
    HandshakeFlags::from_arg_matches(&command().bin_name(bin_name).try_get_matches_from(arguments)?)
}

fn run(flags: &HandshakeFlags, invocation: &Invocation, is_handed_over: bool) -> Result<()> {
    let servers = flags.servers()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let labels: Vec<&str> = servers.iter().map(Server::label).collect();
    let loops = Loop::all(&labels, cores);
    let is_filtered = flags.criterion.filter.is_some();
    let loops = Loop::select(loops, cores, flags.matrix, is_filtered, |id| flags.criterion.wants(id));
    let loops = loops.map_err(|error| {
        Error::usage(format!("the filter is not a regular expression: {error}")).with_hint("quote it, or add --exact")
    })?;
    if flags.criterion.list {
        loops.iter().for_each(|one| outln!("{one}: benchmark"));
        return Ok(());
    }
    if !flags.against.is_empty() {
        return compare_with(&flags.against);
    }
    if loops.is_empty() {
        return flags.criterion.nothing_matches(NAME);
    }
    if !is_handed_over {
        return hand_over(flags, invocation);
    }
    let mut floor = Floor { keyring: Keyring::new()?, parties: BTreeMap::new() };
    // A profiler is to see the loops alone, and loading saved results runs none.
    if flags.criterion.profile_time.is_none() && flags.criterion.load_baseline.is_none() {
        count(flags, &mut floor, &loops)?;
    }
    let _shield = Shield::raise()?;
    let criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let mut criterion = flags.criterion.configure(criterion, true);
    for of_group in loops.chunk_by(|one, next| one.group() == next.group()) {
        let mut group = criterion.benchmark_group(of_group[0].group());
        let started = match &of_group[0] {
            Loop::Loopback(label, _) => servers.iter().find(|server| server.label() == label),
            _ => None,
        };
        let started = started.map(|server| server.start(&mut floor.keyring)).transpose()?;
        for one in of_group {
            measure(&mut group, one, &mut floor, started.as_ref())?;
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

fn hand_over(flags: &HandshakeFlags, invocation: &Invocation) -> Result<()> {
    let what = || "starting the loops".to_owned();
    let arguments = serde_json::to_string(&invocation.texts()?).context(what)?;
    let error = invocation.again()?.args(flags.criterion.to_arguments()).env(VARIABLE, arguments).exec();
    Err(error).context(what)
}

/// The parties of the cases, each made once.
struct Floor {
    keyring: Keyring,
    parties: BTreeMap<Case, Parties>,
}

impl Floor {
    /// Returns the parties of a case; the client has no session of the server, even if an earlier one had.
    fn parties(&mut self, case: Case) -> Result<Parties> {
        if let Some(parties) = self.parties.get(&case) {
            return Ok(parties.with_another_client());
        }
        let parties = self.keyring.parties(case)?;
        self.parties.insert(case, parties.clone());
        Ok(parties.with_another_client())
    }
}

/// Prints and writes the counts, which are the same in every run of the cases of these loops.
fn count(flags: &HandshakeFlags, floor: &mut Floor, loops: &[Loop]) -> Result<()> {
    for case in loops.iter().filter_map(Loop::case) {
        floor.parties(case)?;
    }
    if floor.parties.is_empty() {
        return Ok(());
    }
    let handshakes = if flags.is_smoke() { SMOKE_HANDSHAKES } else { HANDSHAKES };
    let counts = HandshakeCounts::of(floor.parties.values(), handshakes)?;
    let (folder, _claim) = bench::output_folder(flags.output.clone(), NAME, flags.is_smoke())?;
    let path = folder.join("counts.json");
    files::write(&path, counts.to_json()?)?;
    outln!("{}\n{:<12} {}\n", counts.to_table(), "written", files::shown(&path));
    Ok(())
}

/// Runs one loop.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    one: &Loop,
    floor: &mut Floor,
    started: Option<&Started>,
) -> Result<()> {
    let function = one.function();
    group.throughput(Throughput::Elements(1));
    match one {
        Loop::Pipe(side, case) => {
            let parties = floor.parties(*case)?;
            let pipe = RefCell::new(Pipe::default());
            pipe.borrow_mut().prime(&parties)?;
            group.bench_function(function, |bencher| {
                bencher.iter_custom(|iterations| or_exit(cpu_time(*side, &parties, &mut pipe.borrow_mut(), iterations)))
            });
        }
        Loop::Loopback(label, offer) => {
            let peer = &started.ok_or_else(|| Error::new(format!("{label} was not started")))?.peer;
            let visitor = Visitor::new(peer, *offer)?;
            match visitor.prime()? {
                Some(reason) if offer.is_default() => return Err(Error::new(format!("{one}: {reason}"))),
                Some(reason) => {
                    outln!("skipped: {one}: {reason}");
                    return Ok(());
                }
                None => {}
            }
            group.bench_function(function, |bencher| {
                bencher.iter_custom(|iterations| or_exit((0..iterations).map(|_| visitor.visit()).sum()))
            });
        }
        Loop::Throughput(threads, case) => {
            let worker_pool = HandshakeThreads::new(*threads, &floor.parties(*case)?)?;
            group.throughput(Throughput::Elements(worker_pool.batch()));
            group.bench_function(function, |bencher| bencher.iter_custom(|batches| or_exit(worker_pool.run(batches))));
        }
    }
    Ok(())
}

/// Returns the CPU time of this thread in one side's part of so many handshakes, which other load of the machine does
/// not change. Reading that clock costs half a microsecond, eight times a handshake; half of that counts for either
/// side.
fn cpu_time(side: MeasuredSide, parties: &Parties, pipe: &mut Pipe, iterations: u64) -> Result<Duration> {
    let mut ns = 0;
    match side {
        MeasuredSide::Both => {
            let start = thread_cpu_ns();
            for _ in 0..iterations {
                pipe.shake(parties, &mut unmetered)?;
            }
            ns = thread_cpu_ns() - start;
        }
        MeasuredSide::Client | MeasuredSide::Server => {
            for _ in 0..iterations {
                let shake = pipe.shake(parties, &mut thread_cpu_ns)?;
                ns += if side == MeasuredSide::Client { shake.client } else { shake.server };
            }
        }
    }
    Ok(Duration::from_nanos(ns))
}

fn or_exit(measured: Result<Duration>) -> Duration {
    measured.unwrap_or_else(|error| {
        // Criterion has no way to end a benchmark with an error.
        exit::fail_now(&error)
    })
}

/// Prints the cost of a full handshake for this client and for the others, in turns.
fn compare_with(rivals: &[against::Rival]) -> Result<()> {
    outln!("client CPU ms per 1,000 full handshakes (TLS 1.3, ECDSA P-256, X25519, new TCP connections)");
    out!("{:>10}", "this suite");
    rivals.iter().for_each(|rival| out!(" {:>16} {:>8}", rival.label(), "ratio"));
    outln!();
    let rounds = against::take_turns(&mut Keyring::new()?, rivals, against::ROUNDS, against::TURN_S, &mut |round| {
        out!("{:>10.1}", round.ours_ms);
        round.theirs_ms.iter().for_each(|theirs| out!(" {theirs:>16.1} {:>8.3}", round.ours_ms / theirs));
        outln!();
    })?;
    for (index, rival) in rivals.iter().enumerate() {
        if let Some(ratio) = against::median(&rounds, index) {
            outln!("median ratio of {} rounds, this suite to {}: {ratio:.3}", rounds.len(), rival.label());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &str) -> HandshakeFlags {
        parse([NAME].into_iter().chain(arguments.split_whitespace()).map(Into::into).collect(), NAME).unwrap()
    }

    #[test]
    fn a_peer_must_be_local_and_use_https() {
        let error = |url: &str| flags(&format!("--peer {url}")).servers().err().unwrap().to_string();
        assert!(error("http://localhost:1").contains("only HTTPS is supported"), "{}", error("http://localhost:1"));
        assert!(error("https://192.0.2.1:1").contains("is not on this machine"));
        let servers = flags("--peer https://localhost:4433").servers().unwrap();
        let ends = [servers.first(), servers.last()].map(|server| server.map(Server::label));
        assert_eq!(ends, [Some("rustls-loopback"), Some("peer")]);
    }

    #[test]
    fn a_run_without_bench_is_a_smoke_run() {
        assert!(flags("").is_smoke() && flags("--bench --test").is_smoke() && !flags("--bench").is_smoke());
    }
}
