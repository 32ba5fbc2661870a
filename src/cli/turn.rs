//! A bench command that this process runs: a run of a new baseline.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::baseline::source;
use crate::error::{Context, Error, Result};
use crate::exit_code;
use crate::provision::child::{Child, Spec};
use crate::{database, files, foreign};

/// The interval at which the end of a run is checked for; long, since the check shares the machine with the run.
const LOOK: Duration = Duration::from_millis(100);
/// The longest time for a stopped command to drain its requests and write its results.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// Flags whose values are secret.
const SECRET_FLAGS: [&str; 2] = ["--token", "--database"];
/// Ends of the names of variables whose values are secret.
const SECRET_ENDS: [&str; 4] = ["TOKEN", "DATABASE", "DATABASE_URL", "PASSWORD"];
/// libpq's variable with the name of a database, which is not secret.
const NAME_OF_DATABASE: &str = "PGDATABASE";
/// Beginnings of the names of variables that a bench command reads.
const OUR_VARIABLES: [&str; 2] = ["CERTCTL_", "PG"];
/// The replacement of secrets in a log.
const REDACTED: &str = "[not shown]";

/// A bench command.
pub struct Contender {
    /// The flag that named it.
    pub label: &'static str,
    program: String,
    arguments: Vec<String>,
}

/// The result of a run.
pub enum Ran {
    /// It can be compared.
    Fit {
        /// `pass` or `breached`: a run that breaches a threshold can be compared too.
        verdict: String,
        /// The time from start to end, the parts that are not measured included.
        took: Duration,
    },
    /// It is invalid for reasons of the generator or its machine alone, which the text states: another run may take its
    /// place. A run that the system spoilt is an error instead, since repeating it would keep the runs in which it did
    /// not.
    Ours(String),
}

impl Contender {
    /// Splits a command into words, as a shell does. No message repeats the command: it may hold a key.
    ///
    /// # Errors
    /// If it holds no word, a quote is open, or it begins with something that only a shell understands.
    pub fn parse(label: &'static str, command: &str) -> Result<Self> {
        let mut words = shlex::split(command)
            .ok_or_else(|| Error::usage(format!("the command of --{label} has an unclosed quote")))?
            .into_iter();
        let program = words.next().ok_or_else(|| {
            Error::usage(format!("the command of --{label} is empty")).with_hint("give the words to run")
        })?;
        let variable = program.split_once('=').map(|(name, _)| name);
        if variable.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')) {
            return Err(Error::usage(format!(
                "the command of --{label} begins with a variable, but runs without a shell"
            ))
            .with_hint("put `env` before it"));
        }
        Ok(Self { label, program, arguments: words.collect() })
    }

    /// Runs it once, with a new folder for its output.
    ///
    /// # Errors
    /// If it cannot be started, does not understand its own arguments, measures nothing that can be compared for a reason
    /// that is not ours, or this process is stopped.
    pub fn run(&self, folder: &Path, limit: Duration, stop: &AtomicBool) -> Result<Ran> {
        let label = self.label;
        fs::create_dir_all(folder).context(|| format!("making the folder {}", folder.display()))?;
        let log = folder.join("log");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("CERTCTL_BENCH_OUTPUT", folder);
        let spec = Spec { log: Some(log.clone()), log_stdout: true, ..Spec::default() };
        let started = Instant::now();
        let mut child = Child::spawn(label, command, spec)?;
        let guard = Guard::over(child.pid())?;
        let ended = self.wait(&mut child, started, limit, stop);
        guard.dismiss()?;
        // The log may hold the command: a build tool repeats one that failed.
        self.redact(&log)?;
        let Some(status) = ended? else {
            return Err(Error::new(format!("{label} took longer than {limit:?}; its output is in {}", log.display()))
                .with_hint("raise --longest-run, or shorten the run"));
        };
        if stop.load(Ordering::Relaxed) {
            return Err(Error::invalid(format!("stopped while {label} ran; its output is in {}", folder.display())));
        }
        let took = started.elapsed();
        match judge(label, folder, status)? {
            FoundSummary::Fit { verdict } => Ok(Ran::Fit { verdict, took }),
            FoundSummary::Ours(why) => Ok(Ran::Ours(why)),
            FoundSummary::Invalid(why) => Err(Error::invalid(format!("the run of {label} is invalid: {why}"))
                .with_hint(format!(
                    "the reason is not one of the generator or this machine, so the run is not repeated; its output is \
                     in {}",
                    folder.display()
                ))),
            FoundSummary::Nothing if status.code() == Some(exit_code::USAGE.into()) => Err(Error::usage(format!(
                "the command of --{label} is wrong: {}",
                child.failure("it refused its arguments").what()
            ))),
            FoundSummary::Nothing => Err(child
                .failure("it wrote no summary.json of a run")
                .with_hint("try the command by itself; it must not contain --output")),
        }
    }
}

impl Contender {
    /// Waits for the end of a run; `None` if it was ended for taking too long. A stopped run has a status as well.
    fn wait(
        &self,
        child: &mut Child,
        started: Instant,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = child.exited()? {
                return Ok(Some(status));
            }
            let is_late = started.elapsed() > limit;
            if is_late || stop.load(Ordering::Relaxed) {
                child.stop_group(Signal::INT, STOP_GRACE)?;
                if is_late {
                    return Ok(None);
                }
            }
            thread::sleep(LOOK);
        }
    }

    /// Removes the command's secrets from its log.
    fn redact(&self, log: &Path) -> Result<()> {
        let reading = || format!("reading {}", log.display());
        let secrets = self.secrets();
        let bytes = fs::read(log).context(reading)?;
        let text = String::from_utf8_lossy(&bytes);
        let redacted = secrets.iter().fold(text.clone().into_owned(), |text, secret| text.replace(secret, REDACTED));
        for secret in &secrets {
            match secret.contains("://") || secret.contains("password=") {
                true => database::keep_passwords(secret),
                false => foreign::keep_secret(secret, REDACTED),
            }
        }
        let redacted = foreign::redact(&redacted);
        if redacted == text { Ok(()) } else { files::write(log, redacted.as_bytes()) }
    }

    /// Returns the values of secret flags and variables, those that the command inherits among them.
    fn secrets(&self) -> Vec<String> {
        let is_secret = |name: &str| name != NAME_OF_DATABASE && SECRET_ENDS.iter().any(|end| name.ends_with(end));
        let follows = self.arguments.windows(2).filter(|pair| SECRET_FLAGS.contains(&&*pair[0]));
        let follows = follows.map(|pair| pair[1].clone());
        let joined = self.arguments.iter().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            (is_secret(name) || SECRET_FLAGS.contains(&name)).then(|| value.to_owned())
        });
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let ours = variables.filter(|(name, _)| OUR_VARIABLES.iter().any(|start| name.starts_with(start)));
        let inherited = ours.filter(|(name, _)| is_secret(name)).filter_map(|(_, value)| value.into_string().ok());
        follows.chain(joined).chain(inherited).filter(|secret| secret.len() >= foreign::LEAST_SECRET_BYTES).collect()
    }
}

/// A process that kills a command's group if this process ends without dismissing it: the processes that a build tool
/// has started do not end with the tool.
struct Guard(Child);

impl Guard {
    const SCRIPT: &str = r#"trap '' HUP INT TERM; read -r word; [ "$word" = over ] || kill -s KILL -- "-$1""#;

    fn over(group: u32) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", Self::SCRIPT, "certctl-bench-guard", &group.to_string()]).current_dir("/");
        let spec = Spec { death_signal: None, ..Spec::default() };
        Child::spawn("the guard of a command", command, spec).map(Self)
    }

    /// Ends the guard: the command has ended, and its group's number may be another's from now on.
    fn dismiss(mut self) -> Result<()> {
        self.0.write_line("over")
    }
}

/// The summary that a run left.
enum FoundSummary {
    /// One that can be compared.
    Fit { verdict: String },
    /// One that cannot, for reasons of the generator or its machine alone.
    Ours(String),
    /// One that cannot, for another reason.
    Invalid(String),
    /// None.
    Nothing,
}

/// Reads the summary of a run, and checks that the run ended as it says: one that failed after its summary was written,
/// or that left the summary of another, did not measure that. A failure may have any exit code: a build tool in between
/// has its own.
fn judge(label: &str, folder: &Path, status: ExitStatus) -> Result<FoundSummary> {
    if folder.join("smoke").exists() {
        return Err(Error::usage(format!("the command of --{label} makes a smoke run, which measures nothing"))
            .with_hint("start it by `cargo bench`, or give the program --bench"));
    }
    let Ok(text) = files::read_text(&folder.join("summary.json"), source::LARGEST_BYTES) else {
        return Ok(FoundSummary::Nothing);
    };
    if let Some(signal) = status.signal() {
        return Ok(FoundSummary::Invalid(format!("signal {signal} ended it")));
    }
    // Read as plain JSON: the comparison checks whether this version supports the summary.
    let summary: Value = serde_json::from_str(&text).unwrap_or_default();
    let verdict = summary["verdict"].as_str().unwrap_or("no verdict");
    let reasons = summary["invalid"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    if !["pass", "breached"].contains(&verdict) || !reasons.is_empty() {
        let reasons = if reasons.is_empty() { verdict.to_owned() } else { reasons };
        let is_ours = summary["repeatable"] == true;
        return Ok(if is_ours { FoundSummary::Ours(reasons) } else { FoundSummary::Invalid(reasons) });
    }
    let partial = |workload: &Value| workload["results"]["arrivals"]["partial"] == true;
    if summary["workloads"].as_array().into_iter().flatten().any(partial) {
        return Ok(FoundSummary::Invalid("it was stopped before its end".to_owned()));
    }
    let ended = status.code().unwrap_or_default();
    let is_consistent = if verdict == "pass" { ended == 0 } else { (1..=128).contains(&ended) };
    if !is_consistent {
        return Ok(FoundSummary::Invalid(format!("its summary says {verdict}, but it ended with exit code {ended}")));
    }
    Ok(FoundSummary::Fit { verdict: verdict.to_owned() })
}
