//! The bench program, from its front door: arguments and environment in; exit code, output and files out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, read_to_string};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use certctl_bench::provision::postgres::BIN_VARIABLE;
use certctl_bench::summary::{Summary, consistency};
use rustix::process::Signal;
use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;

use super::peer::{Peer, TOKEN};
use super::process::{Process, descendants, heed_hangups, send, until};
use super::reference::Reference;
use super::turn::Turn;

/// The longest run in a test; a longer one fails.
const LONGEST_RUN: Duration = Duration::from_secs(300);

/// Bounds that a run on a slow machine keeps, for tests that are not about them.
const WIDE_BOUNDS: [(&str, &str); 3] = [("MAX_OTHER_CPU", "100%"), ("MAX_LAG", "100s"), ("TIMEOUT", "120s")];

/// Returns the program of a bench target. Cargo gives tests the paths of the package's binaries, but not of its
/// benches.
pub fn program(target: &str) -> PathBuf {
    static PROGRAMS: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // A test that failed while it held the lock left the map intact.
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    programs.entry(target.to_owned()).or_insert_with(|| build(target)).clone()
}

fn build(target: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // TARGET/PROFILE/deps/this
    let folder = this.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().and_then(OsStr::to_str).unwrap() {
        "debug" => "dev",
        name => name,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    // Variables that cargo set for this package are left out: build scripts that watch them would run again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["build", "--bench", target, "--message-format", "json", "--profile", profile, "--target-dir"])
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo build --bench {target}: {}", output.status);
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut programs = messages.filter(|message| message["target"]["name"] == target);
    programs.find_map(|message| Some(message["executable"].as_str()?.into())).expect("cargo names the program")
}

/// Returns the command without this environment's settings, old names and those of libpq among them: no test loads a
/// system that happens to be named there. The environment still selects the PostgreSQL that tests start.
pub fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_setting =
            ["CERTCTL_", "GITHUB_", "PG"].iter().any(|start| text.starts_with(start)) || text.ends_with("_TARGET_URL");
        if is_setting && text != BIN_VARIABLE {
            command.env_remove(name);
        }
    }
    command
}

/// A command line of the bench program.
pub struct Bench {
    pub command: Command,
    /// Its results, and its output.
    folder: TempDir,
    /// True for a smoke run, which takes nothing from the environment.
    is_smoke: bool,
}

impl Bench {
    /// Returns `agent_storm` with these arguments, separated by spaces, and none of this environment's settings.
    pub fn new(arguments: &str) -> Self {
        Self::named("agent_storm", arguments)
    }

    /// Returns any bench target, like [`Bench::new`].
    pub fn named(target: &str, arguments: &str) -> Self {
        Self::of(&program(target), arguments)
    }

    /// Returns a copy of the program, like [`Bench::new`].
    pub fn of(program: &Path, arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = clean(Command::new(program));
        // The speed of this machine, and other load on it, decide no test but those of that very judgement.
        for (name, value) in WIDE_BOUNDS {
            command.env(format!("CERTCTL_BENCH_{name}"), value);
        }
        // Runs of tests have no place among those that were made here.
        command.env("CERTCTL_BENCH_HISTORY", "none");
        // Nor does any test need a warm-up of five seconds.
        command.env("CERTCTL_BENCH_WARM_UP", "500ms");
        heed_hangups(&mut command);
        command.args(arguments.split_whitespace()).env("CERTCTL_BENCH_OUTPUT", folder.path().join("results"));
        command.env("CRITERION_HOME", folder.path().join("criterion")).stdin(Stdio::null());
        command.stdout(File::create(folder.path().join("stdout")).unwrap());
        command.stderr(File::create(folder.path().join("stderr")).unwrap());
        Self { command, folder, is_smoke: false }
    }

    /// Returns the sustained workload alone, measured, at a peer.
    pub fn at(peer: &Peer, arguments: &str) -> Self {
        Self::at_base(&peer.base(), &peer.ca_file(), arguments)
    }

    /// Returns the sustained workload alone, measured, at a reference server that runs already.
    pub fn at_reference(reference: &Reference, arguments: &str) -> Self {
        Self::at_base(&reference.base(), &reference.ca_file(), arguments)
    }

    /// Returns the sustained workload alone, measured, at the system at `base`.
    pub fn at_base(base: &str, ca_file: &Path, arguments: &str) -> Self {
        Self::new(arguments).measured().towards(base, ca_file)
    }

    /// Selects the sustained workload alone, measured.
    pub fn measured(mut self) -> Self {
        self.command.args(["--bench", "--mode", "sustained"]);
        self
    }

    /// Selects the sustained workload alone, cut down to a second or two, as `cargo test` runs it.
    pub fn smoke(mut self) -> Self {
        self.is_smoke = true;
        // It takes none of these from the environment.
        self.command.args(["--mode", "sustained"]);
        for (name, value) in WIDE_BOUNDS {
            self.command.args([&format!("--{}", name.to_lowercase().replace('_', "-")), value]);
        }
        self
    }

    /// Sends the load to a peer.
    pub fn towards_peer(self, peer: &Peer) -> Self {
        self.towards(&peer.base(), &peer.ca_file())
    }

    /// Sends the load to a reference server that runs already.
    pub fn towards_reference(self, reference: &Reference) -> Self {
        self.towards(&reference.base(), &reference.ca_file())
    }

    /// Sends the load to the system at `base`.
    pub fn towards(mut self, base: &str, ca_file: &Path) -> Self {
        if self.is_smoke {
            self.command.args(["--target", base, "--token", TOKEN, "--ca-file"]).arg(ca_file);
        } else {
            self.command.env("CERTCTL_BASE", base).env("CERTCTL_TOKEN", TOKEN).env("CERTCTL_CA_FILE", ca_file);
        }
        self
    }

    /// Adds these arguments, separated by spaces.
    pub fn arguments(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// Adds this database.
    pub fn database(mut self, url: &str) -> Self {
        self.command.args(["--database", url]);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn start(self) -> Running {
        let turn = Turn::take();
        self.spawn(Some(turn))
    }

    pub fn run(self) -> Finished {
        self.start().finish()
    }

    /// Starts a program that ends before any load: it needs no turn.
    pub fn start_without_load(self) -> Running {
        self.spawn(None)
    }

    /// Runs a program that ends with this exit code before any load.
    #[track_caller]
    pub fn refused(self, code: i32) -> Finished {
        self.start_without_load().finish().exits(code)
    }

    fn spawn(mut self, turn: Option<Turn>) -> Running {
        let child = self.command.spawn().unwrap();
        Running { child, folder: self.folder, turn }
    }
}

/// A running program; killed when dropped.
pub struct Running {
    child: Child,
    folder: TempDir,
    /// Dropped last.
    turn: Option<Turn>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a signal; one that ends the load ends the turn.
    pub fn signal(&mut self, signal: Signal) {
        // The child was not reaped, so the number is still its own.
        send(self.pid(), signal);
        if [Signal::INT, Signal::TERM, Signal::KILL].contains(&signal) {
            self.turn = None;
        }
    }

    /// Sends this signal and SIGTERM while the program cannot act on the first alone, and asserts that the second ends
    /// it.
    #[track_caller]
    pub fn interrupt_twice(&mut self, first: Signal) {
        for signal in [Signal::STOP, first, Signal::TERM, Signal::CONT] {
            self.signal(signal);
        }
        until("the program ends", || self.ended().is_some());
        // The kernel may deliver either of two pending signals first.
        let code = self.ended().unwrap().code();
        assert!(
            [first, Signal::TERM].map(|signal| Some(128 + signal.as_raw())).contains(&code),
            "{code:?}: {}",
            self.stderr()
        );
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn stderr(&self) -> String {
        read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    pub fn stdout(&self) -> String {
        read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    /// Waits until the measured window has begun.
    pub fn wait_until_measuring(&mut self) {
        until("the program measures", || {
            assert!(self.ended().is_none(), "ended early: {}", self.stderr());
            self.stderr().contains("measuring")
        });
    }

    /// Waits until the measurement of a run with a database is on disk; the rest of the run needs no turn.
    pub fn wait_until_measured(&mut self) {
        until("the measurement is on disk", || {
            let ended = self.ended().is_some();
            let exists = self.folder.path().join("results/summary.json").exists();
            assert!(exists || !ended, "ended early: {}", self.stderr());
            exists
        });
        self.turn = None;
    }

    /// Returns the processes that the program has started, once these are among them.
    pub fn started(&mut self, names: &[&str]) -> Vec<Process> {
        let mut found = Vec::new();
        until(&format!("the program has started {names:?}"), || {
            assert!(self.ended().is_none(), "ended early: {}", self.stderr());
            found = descendants(self.pid());
            names.iter().all(|name| found.iter().any(|process| process.name.starts_with(name)))
        });
        found
    }

    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + LONGEST_RUN;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            assert!(Instant::now() < deadline, "did not end within {LONGEST_RUN:?}: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        };
        let read = |name: &str| read_to_string(self.folder.path().join(name)).ok();
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: unfolded(&read("stdout").unwrap()),
            stderr: read("stderr").unwrap(),
            json: read("results/summary.json")
                .or_else(|| read("results/smoke/summary.json"))
                .or_else(|| read("results/duet.json"))
                .or_else(|| read("results/capacity.json")),
            text: read("results/summary.txt").or_else(|| read("results/smoke/summary.txt")).map(|text| unfolded(&text)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Joins the lines that a summary breaks to fit its columns.
fn unfolded(text: &str) -> String {
    text.replace("\n               ", " ")
}

/// The output and the files of a run.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub json: Option<String>,
    pub text: Option<String>,
}

impl Finished {
    /// Asserts the exit code; a failure shows the program's output.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "signal {:?}\n{}\n{}", self.signal, self.stderr, self.stdout);
        self
    }

    /// Asserts that the run worked. Its thresholds, its punctuality and the number of its answers depend on the
    /// machine, and are not asserted.
    #[track_caller]
    pub fn worked(self) -> Self {
        let of_pace = |reason: &Value| {
            let reason = reason.as_str().unwrap();
            [" right answers, this run has ", " ms late", " of the window: it was the bottleneck"]
                .iter()
                .any(|part| reason.contains(part))
        };
        let worked = match self.code {
            Some(0 | 3) => true,
            Some(5) => self.summary()["invalid"].as_array().unwrap().iter().all(of_pace),
            _ => false,
        };
        assert!(worked, "signal {:?}\n{}\n{}", self.signal, self.stderr, self.stdout);
        self
    }

    /// Asserts that the run is invalid; a machine may be so slow that a breach is clear all the same.
    #[track_caller]
    pub fn invalid_or_breached(self) -> Self {
        assert!(matches!(self.code, Some(3 | 5)), "signal {:?}\n{}\n{}", self.signal, self.stderr, self.stdout);
        self
    }

    /// Returns its results, after asserting that nothing in them contradicts the rest: no reader of this suite refuses
    /// a file that this suite has written.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let summary = serde_json::from_str(self.json.as_ref().expect("a summary.json")).unwrap();
        let agrees = consistency::figures(&summary)
            .and_then(|()| consistency::fields(&Summary::deserialize(&summary).map_err(|error| error.to_string())?));
        assert_eq!(agrees, Ok(()), "{}", self.stdout);
        summary
    }

    /// Returns its messages without those about waits, of which a slow machine prints any number.
    pub fn messages(&self) -> String {
        self.stderr.split_inclusive('\n').filter(|line| !line.starts_with("still waiting for ")).collect()
    }

    /// Returns all output of the program, to look for secrets in.
    pub fn everything(&self) -> [&str; 4] {
        [&self.stdout, &self.stderr, self.json.as_deref().unwrap_or(""), self.text.as_deref().unwrap_or("")]
    }
}
