//! `certctl-bench bless --command` from its front door, with commands that only pretend to measure.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::process::{descendants, heed_hangups, send, until};
use crate::common::runs::Made;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// More runs than any test makes.
const MOST_RUNS: u64 = 16;
/// The script of a command that measures: it leaves the summary of its turn.
const MEASURE: &str = r#"cp "$here/made-$turn/summary.json" "$CERTCTL_BENCH_OUTPUT""#;

/// A folder with a made summary for every turn, the command, and the number of its runs.
struct Sitting {
    folder: TempDir,
}

impl Sitting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for number in 1..=MOST_RUNS {
            Made { number, ..Made::default() }.save(&folder.path().join(format!("made-{number}")));
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command: a shell script that notes its turn and then runs `script`.
    fn command(&self, script: &str) -> String {
        let path = self.path("measure.sh");
        let head = format!("here='{}'\necho turn >> \"$here/turns\"\n", self.folder.path().display());
        let turn = "turn=$(($(wc -l < \"$here/turns\")))\necho to stdout; echo to stderr >&2\n";
        fs::write(&path, format!("{head}{turn}{script}\n")).unwrap();
        format!("sh '{}'", path.display())
    }

    fn start(&self, command: &str, arguments: &[&str]) -> Child {
        let mut bless = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
        bless.args(["bless", "--command", command, "--output", "made.json", "--results", "out"]).args(arguments);
        bless.current_dir(&self.folder).env("CERTCTL_TOKEN", "inherited-geheim").stdin(Stdio::null());
        bless.stdout(fs::File::create(self.path("stdout")).unwrap());
        bless.stderr(fs::File::create(self.path("stderr")).unwrap());
        heed_hangups(&mut bless);
        bless.spawn().unwrap()
    }

    /// Runs it to its end, asserts this exit code, and returns its standard output and error.
    #[track_caller]
    fn exits(&self, code: i32, command: &str, arguments: &[&str]) -> String {
        let status = self.start(command, arguments).wait().unwrap();
        let text = format!("{}\n{}", self.read("stderr"), self.read("stdout"));
        assert_eq!(status.code(), Some(code), "{text}");
        text
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn turns(&self) -> usize {
        self.read("turns").lines().count()
    }
}

/// Returns a script that leaves the summary of an invalid run, and ends as such a run does.
fn invalid(why: &str, is_ours: bool) -> String {
    let repeatable = if is_ours { r#","repeatable":true"# } else { "" };
    let summary = format!(r#"{{"verdict":"invalid","invalid":["{why}"]{repeatable},"workloads":[]}}"#);
    format!("{{ echo '{summary}' > \"$CERTCTL_BENCH_OUTPUT/summary.json\"; exit 5; }}")
}

#[test]
fn one_command_makes_a_baseline() {
    let sitting = Sitting::new();
    let output = sitting.exits(0, &sitting.command(MEASURE), &[]);
    assert!(output.contains("5 runs of agent_storm") && output.contains("repeated     0 of 5 runs"), "{output}");
    assert!(output.contains("in agent_storm/response_p50_us"), "how much runs differ is told: {output}");
    assert_eq!(sitting.turns(), 5);
    let baseline: Value = serde_json::from_str(&sitting.read("made.json")).unwrap();
    assert_eq!(baseline["runs"].as_array().unwrap().len(), 5);
    assert!(sitting.path("out/run-05/summary.json").exists());
    let mut log: Vec<String> = sitting.read("out/run-05/log").lines().map(str::to_owned).collect();
    log.sort();
    assert_eq!(log, ["to stderr", "to stdout"]);

    for (arguments, message) in [(&["--times", "4"][..], "4 is not in 5..=50"), (&["some/run"], "cannot be used with")]
    {
        let output = sitting.exits(2, &sitting.command(MEASURE), arguments);
        assert!(output.contains(message), "{output}");
    }
}

#[test]
fn a_run_is_repeated_for_a_reason_of_ours_and_reported() {
    let sitting = Sitting::new();
    let script = format!("[ $turn = 3 ] && {}\n{MEASURE}", invalid("others took 80% of the machine", true));
    let output = sitting.exits(0, &sitting.command(&script), &[]);
    assert!(
        output.contains("repeated     1 of 5 runs, each for a reason of the generator or this machine\n")
            && output.contains("run 3: others took 80% of the machine"),
        "{output}"
    );
    assert_eq!(sitting.turns(), 6);
}

#[test]
fn a_run_that_the_server_spoilt_is_not_repeated() {
    let sitting = Sitting::new();
    let stalled = invalid("agents whose row shows their last accepted heartbeat: answers claim 9, SQL shows 8", false);
    let output = sitting.exits(5, &sitting.command(&format!("[ $turn = 3 ] && {stalled}\n{MEASURE}")), &[]);
    assert!(output.contains("error: the run of command is invalid: agents whose row"), "{output}");
    assert!(output.contains("so the run is not repeated"), "{output}");
    assert_eq!(sitting.turns(), 3);
    assert!(!sitting.path("made.json").exists());
}

#[test]
fn runs_that_stay_invalid_make_no_baseline() {
    let sitting = Sitting::new();
    let output = sitting.exits(5, &sitting.command(&invalid("too late", true)), &[]);
    assert!(output.contains("error: 3 attempts were all invalid, the last of run 1: too late"), "{output}");
    assert_eq!(sitting.turns(), 3);
}

#[test]
fn a_breached_threshold_does_not_prevent_a_baseline() {
    let sitting = Sitting::new();
    let breach = r#"s/"verdict": "pass"/"verdict": "breached"/; s/"breaches": \[\]/"breaches": ["x"]/; s/"exit_code": 0/"exit_code": 3/"#;
    let script = format!("{MEASURE}\nsed -i '{breach}' \"$CERTCTL_BENCH_OUTPUT/summary.json\"; exit 3");
    let output = sitting.exits(0, &sitting.command(&script), &[]);
    assert!(output.contains("5 of them breach a threshold"), "{output}");
}

#[test]
fn an_exit_code_that_contradicts_the_summary_is_invalid() {
    let sitting = Sitting::new();
    for code in [1, 3, 101, 137] {
        let output = sitting.exits(5, &sitting.command(&format!("{MEASURE}; exit {code}")), &[]);
        let message =
            format!("error: the run of command is invalid: its summary says pass, but it ended with exit code {code}");
        assert!(output.contains(&message), "{output}");
        fs::remove_file(sitting.path("turns")).unwrap();
    }
}

#[test]
fn a_command_that_cannot_run_is_reported_with_its_stderr() {
    let sitting = Sitting::new();
    let output = sitting.exits(1, &sitting.command("echo there is no disk >&2; exit 1"), &[]);
    assert_eq!(sitting.turns(), 1);
    assert!(output.contains("error: command: it wrote no summary.json of a run"), "{output}");
    assert!(output.contains("exit status: 1") && output.contains("there is no disk"), "{output}");
}

#[test]
fn a_command_with_wrong_arguments_is_a_usage_error() {
    let sitting = Sitting::new();
    sitting.exits(2, &sitting.command("exit 2"), &[]);
    let output = sitting.exits(2, &sitting.command(r#"mkdir "$CERTCTL_BENCH_OUTPUT/smoke""#), &[]);
    assert!(output.contains("--bench"), "{output}");
    assert_eq!(sitting.turns(), 2);
}

#[test]
fn an_unusable_command_is_refused() {
    let sitting = Sitting::new();
    for (command, code, message) in [
        ("", 2, "the command of --command is empty"),
        ("cargo 'bench", 2, "the command of --command has an unclosed quote"),
        ("TOKEN=geheim cargo bench", 2, "the command of --command begins with a variable"),
        ("no-such-program geheim", 1, "starting command (no-such-program)"),
    ] {
        let output = sitting.exits(code, command, &[]);
        assert!(output.contains(message) && !output.contains("geheim"), "{command}: {output}");
    }
}

#[test]
fn a_secret_in_a_command_is_not_shown() {
    let sitting = Sitting::new();
    let script =
        sitting.command(&format!("echo \"$0 $* geheim $PGPASSWORD $CERTCTL_TOKEN of $PGDATABASE 5\" >&2\n{MEASURE}"));
    let command = format!(
        "env CERTCTL_BENCH_DATABASE=postgres://u:geheim@h/d PGPASSWORD=geheim4 PGDATABASE=certctl \
         CERTCTL_DATABASE_MAX_CONNS=5 {script} --token geheim2 --token=geheim3"
    );
    sitting.exits(0, &command, &[]);
    let log = sitting.read("out/run-01/log");
    assert!(log.contains("--token [not shown] --token=[not shown]") && !log.contains("geheim"), "{log}");
    // A value that is no secret stays, though DATABASE is in its name.
    assert!(log.contains(" of certctl 5\n"), "{log}");
    // Nor is a secret shown where the run fails.
    let failing = sitting.command("echo \"cannot run: $*\" >&2; exit 1");
    let output = sitting.exits(1, &format!("{failing} --token geheim"), &[]);
    assert!(output.contains("cannot run: --token [not shown]") && !output.contains("geheim"), "{output}");
}

#[test]
fn a_hanging_run_is_ended() {
    let sitting = Sitting::new();
    let command = sitting.command("exec sleep 1000");
    let output = sitting.exits(1, &command, &["--longest-run", "2s"]);
    assert!(output.contains("command took longer than 2s"), "{output}");
    assert!(sitting.turns() <= 1, "it is not repeated: it may be the system that hangs");
}

/// Returns a script that writes a partial result some time after it is interrupted.
fn interruptible(sitting: &Sitting) -> PathBuf {
    let path = sitting.path("interruptible.sh");
    let trap = r#"trap 'kill $!; sleep 0.3; echo partial > "$CERTCTL_BENCH_OUTPUT/summary.json"; exit 5' INT"#;
    fs::write(&path, format!("{trap}\nsleep 1000 &\ntouch '{}'\nwait\n", sitting.path("at-work").display())).unwrap();
    path
}

/// Starts `script`, interrupts it once its fifth run works, and asserts that all of it ends and the old baseline stays.
fn interrupt(script: impl Fn(&Sitting) -> String, signal: Signal) {
    let sitting = Sitting::new();
    fs::write(sitting.path("made.json"), "the old one\n").unwrap();
    let last = format!("if [ $turn = 5 ]; then {}; exit; fi", script(&sitting));
    let mut child = sitting.start(&sitting.command(&format!("{last}; {MEASURE}")), &["--times", "6"]);
    until("the fifth run works", || {
        assert!(child.try_wait().unwrap().is_none(), "ended early: {}", sitting.read("stderr"));
        sitting.path("at-work").exists()
    });
    let started = descendants(child.id());
    assert!(!started.is_empty());
    // The child was not reaped, so the number is still its own.
    send(child.id(), signal);
    assert_eq!(child.wait().unwrap().code(), Some(5), "{}", sitting.read("stderr"));
    assert_eq!(started.iter().filter(|process| process.runs()).count(), 0, "{started:?}");
    assert_eq!(sitting.read("out/run-05/summary.json"), "partial\n");
    assert!(sitting.read("stderr").contains("stopped while command ran"), "{}", sitting.read("stderr"));
    assert_eq!((sitting.read("made.json").as_str(), sitting.turns()), ("the old one\n", 5));
    let names = fs::read_dir(sitting.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains(".part")), "{}", sitting.read("stderr"));
}

#[test]
fn an_interrupted_bless_keeps_the_old_baseline() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        interrupt(|sitting| format!("exec sh {}", interruptible(sitting).display()), signal);
    }
}

#[test]
fn a_child_of_an_ended_build_tool_may_write_its_results() {
    // A shell starts background commands with SIGINT ignored.
    interrupt(
        |sitting| format!("env --default-signal=INT sh {} & wait", interruptible(sitting).display()),
        Signal::INT,
    );
}

/// The processes that a build tool has started do not end with it.
#[test]
fn a_killed_bless_leaves_no_command_behind() {
    let sitting = Sitting::new();
    let script = format!("sleep 1000 & touch '{}'; wait", sitting.path("at-work").display());
    let mut child = sitting.start(&sitting.command(&script), &[]);
    until("the command works", || sitting.path("at-work").exists());
    let started = descendants(child.id());
    assert!(started.iter().any(|process| process.name == "sleep"), "{started:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    until("all that was started is gone", || !started.iter().any(|process| process.runs()));
}
