//! `certctl-bench relative` from its front door, with commands that only pretend to measure.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::process::{descendants, heed_hangups, send, until};
use crate::common::runs::Made;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// More runs than any test makes.
const MOST_RUNS: u64 = 24;
/// The script of a command that measures: it leaves the summary of its turn.
const MEASURE: &str = r#"cp "$here/$label-$turn/summary.json" "$CERTCTL_BENCH_OUTPUT""#;

/// A folder with made summaries of both sides for every turn, the commands, and the order of their runs.
struct Contest {
    folder: TempDir,
}

impl Contest {
    /// Returns a contest whose head takes so many times as long as the base.
    fn new(slowness: f64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for number in 1..=MOST_RUNS {
            Made { number, ..Made::default() }.save(&folder.path().join(format!("base-{number}")));
            Made { number, slowness, ..Made::default() }.save(&folder.path().join(format!("head-{number}")));
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command of one side: a shell script that notes its turn and then runs `script`.
    fn command(&self, label: &str, script: &str) -> String {
        let path = self.path(&format!("{label}.sh"));
        let here = self.folder.path().display();
        let head = format!("here='{here}' label={label}\necho $label >> \"$here/order\"\n");
        let turn = "turn=$(($(wc -l < \"$here/order\")))\necho out of $label; echo err of $label >&2\n";
        fs::write(&path, format!("{head}{turn}{script}\n")).unwrap();
        format!("sh '{}'", path.display())
    }

    fn start(&self, base: &str, head: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
        command.args(["relative", "--base", base, "--head", head, "--output"]).arg(self.path("out")).args(arguments);
        command.env_remove("CERTCTL_BENCH_THRESHOLD").env("CERTCTL_TOKEN", "inherited-geheim").stdin(Stdio::null());
        command.stdout(fs::File::create(self.path("stdout")).unwrap());
        command.stderr(fs::File::create(self.path("stderr")).unwrap());
        heed_hangups(&mut command);
        command.spawn().unwrap()
    }

    /// Runs it to its end, and asserts this exit code.
    #[track_caller]
    fn exits(&self, code: i32, base: &str, head: &str, arguments: &[&str]) {
        let status = self.start(base, head, arguments).wait().unwrap();
        assert_eq!(status.code(), Some(code), "{}\n{}", self.read("stderr"), self.read("stdout"));
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Returns the turns: `A` for the base, `B` for the head.
    fn order(&self) -> String {
        self.read("order").lines().map(|label| if label == "base" { 'A' } else { 'B' }).collect()
    }

    fn comparison(&self) -> Value {
        serde_json::from_str(&self.read("out/comparison.json")).unwrap()
    }
}

#[test]
fn one_command_makes_a_baseline() {
    let contest = Contest::new(1.0);
    let bless = |command: &str, arguments: &[&str], code: i32| {
        let program = env!("CARGO_BIN_EXE_certctl-bench");
        let output = Command::new(program)
            .args(["bless", "--command", command, "--output", "made.json"])
            .args(arguments)
            .current_dir(&contest.folder)
            .output()
            .unwrap();
        let text = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part).into_owned()).concat();
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    };
    // A run that is unfit is run again.
    let script = format!("[ $turn = 3 ] && exit 5\n{MEASURE}");
    let output = bless(&contest.command("base", &script), &[], 0);
    assert!(output.contains("run 3 of 5 … again: ") && output.contains("5 runs of agent_storm"), "{output}");
    assert_eq!(contest.order(), "AAAAAA");
    let baseline: Value = serde_json::from_str(&contest.read("made.json")).unwrap();
    assert_eq!(baseline["runs"].as_array().unwrap().len(), 5);
    assert!(contest.path("target/certctl-bench/bless/run-05/summary.json").exists());

    for (arguments, code, message) in [
        (&["--times", "4"][..], 2, "4 is not in 5..=50"),
        (&["some/run"][..], 2, "cannot be used with"),
        (&[][..], 1, "wrote no summary.json"),
    ] {
        let output = bless(&contest.command("base", "exit 1"), arguments, code);
        assert!(output.contains(message), "{output}");
    }
}

#[test]
fn both_sides_run_in_turn_and_are_compared() {
    let contest = Contest::new(1.0);
    fs::create_dir_all(contest.path("out/pair-07/base")).unwrap();
    fs::create_dir_all(contest.path("out/pair-01-unfit-1")).unwrap();
    fs::create_dir_all(contest.path("out/pair-notes")).unwrap();
    contest.exits(0, &contest.command("base", MEASURE), &contest.command("head", MEASURE), &[]);
    assert_eq!(contest.order(), "ABBABAABBA");
    let comparison = contest.comparison();
    assert_eq!((&comparison["base_runs"], &comparison["head_runs"]), (&5.into(), &5.into()));
    assert_eq!((&comparison["in_turn"], &comparison["exit_code"]), (&true.into(), &0.into()));
    assert!(contest.read("stdout").contains("base 5 runs, head 5 runs, in turn"), "{}", contest.read("stdout"));
    let progress = contest.read("stderr");
    assert!(progress.contains("run 1 of 10: base … pass, "), "{progress}");
    assert!(progress.contains("run 10 of 10: base … pass, ") && progress.lines().count() == 10, "{progress}");
    let mut log: Vec<String> = contest.read("out/pair-05/head/log").lines().map(str::to_owned).collect();
    log.sort();
    assert_eq!(log, ["err of head", "out of head"]);
    let left = ["out/pair-07", "out/pair-01-unfit-1", "out/pair-notes"].map(|name| contest.path(name).exists());
    assert_eq!(left, [false, false, true], "what an earlier comparison left goes, and nothing else");
}

#[test]
fn a_slower_head_regresses() {
    let contest = Contest::new(1.5);
    let (json, markdown) = (contest.path("elsewhere.json"), contest.path("comment.md"));
    let (json, markdown) = (json.to_str().unwrap(), markdown.to_str().unwrap());
    let arguments = ["--pairs", "4", "--comparison", json, "--markdown", markdown];
    contest.exits(4, &contest.command("base", MEASURE), &contest.command("head", MEASURE), &arguments);
    assert_eq!(contest.order(), "ABBABAAB");
    let comparison: Value = serde_json::from_str(&contest.read("elsewhere.json")).unwrap();
    assert_eq!((&comparison["verdict"], &comparison["exit_code"]), (&"regressed".into(), &4.into()));
    assert!(contest.read("stdout").contains("REGRESSED"), "{}", contest.read("stdout"));
    let comment = contest.read("comment.md");
    assert!(comment.starts_with("### agent_storm: regressed\n\n**"), "{comment}");
    let place = |text: &str| comment.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{comment}"));
    assert!(
        place("/response_p50_us | **regressed** | ") < place("<details>"),
        "what changed is not folded:\n{comment}"
    );
    assert!(place("4 × base and 4 × head, run in turn") < place("**regressed**"), "{comment}");
    assert!(place("<details>") < place("| unchanged |"), "{comment}");
}

#[test]
fn a_breached_threshold_does_not_prevent_a_comparison() {
    let contest = Contest::new(1.0);
    let breach = r#"s/"verdict": "pass"/"verdict": "breached"/; s/"breaches": \[\]/"breaches": ["x"]/; s/"exit_code": 0/"exit_code": 3/"#;
    let script = format!("{MEASURE}\nsed -i '{breach}' \"$CERTCTL_BENCH_OUTPUT/summary.json\"; exit 3");
    contest.exits(0, &contest.command("base", MEASURE), &contest.command("head", &script), &["--pairs", "2"]);
    assert_eq!(contest.order(), "ABBA");
}

#[test]
fn a_pair_with_an_invalid_run_is_repeated() {
    let contest = Contest::new(1.0);
    let invalid = invalid();
    let script = format!("if [ $turn = 3 ]; then {invalid}; exit 5; fi; {MEASURE}");
    contest.exits(0, &contest.command("base", MEASURE), &contest.command("head", &script), &["--pairs", "2"]);
    assert_eq!(contest.order(), "ABBBA", "the second pair, BA, broke at its first run");
    assert!(contest.path("out/pair-02-unfit-1/head/summary.json").exists());
    let stderr = contest.read("stderr");
    assert!(stderr.contains("the run of head is invalid: too late\n  pair 2 again, repeat 1 of 2"), "{stderr}");
}

#[test]
fn a_copied_run_is_not_compared() {
    let contest = Contest::new(1.0);
    // With an id, and without one as old summaries are.
    for id in ["s/^/&/", r#"s/"scenario"/"run_id": "7a", &/"#] {
        let copy = format!(r#"sed '{id}' "$here/base-1/summary.json" > "$CERTCTL_BENCH_OUTPUT/summary.json""#);
        contest.exits(5, &contest.command("base", &copy), &contest.command("head", &copy), &["--pairs", "3"]);
        assert_eq!(contest.order(), "ABAA");
        let stderr = contest.read("stderr");
        assert!(stderr.contains("error: the run of base is the same as an earlier one"), "{stderr}");
        fs::remove_file(contest.path("order")).unwrap();
    }
}

#[test]
fn an_exit_code_that_contradicts_the_summary_is_invalid() {
    let contest = Contest::new(1.0);
    for code in [1, 3, 101, 137] {
        let head = contest.command("head", &format!("{MEASURE}; exit {code}"));
        contest.exits(5, &contest.command("base", MEASURE), &head, &["--pairs", "1"]);
        let stderr = contest.read("stderr");
        let message =
            format!("error: the run of head is invalid: its summary says pass, but it ended with exit code {code}");
        assert!(stderr.contains(&message), "{stderr}");
        fs::remove_file(contest.path("order")).unwrap();
    }
}

#[test]
fn an_unwritable_output_keeps_earlier_runs() {
    let contest = Contest::new(1.0);
    fs::create_dir_all(contest.path("out/pair-01/base")).unwrap();
    fs::write(contest.path("out/comparison.json"), "the old one").unwrap();
    for flag in ["--comparison", "--markdown"] {
        contest.exits(2, "true", "true", &[flag, "no-such-folder/x"]);
        assert!(contest.path("out/pair-01/base").exists(), "{flag}");
        assert_eq!(contest.read("out/comparison.json"), "the old one", "{flag}");
    }
}

/// Returns a script that leaves the summary of an invalid run.
fn invalid() -> String {
    r#"echo '{"verdict":"invalid","invalid":["too late"],"workloads":[]}' > "$CERTCTL_BENCH_OUTPUT/summary.json""#
        .to_owned()
}

#[test]
fn a_side_that_stays_invalid_makes_the_comparison_invalid() {
    let contest = Contest::new(1.0);
    contest.exits(
        5,
        &contest.command("base", &format!("{}; exit 5", invalid())),
        &contest.command("head", MEASURE),
        &[],
    );
    assert_eq!(contest.order(), "AAA");
    assert!(contest.read("stderr").contains("error: the run of base is invalid: too late"));
}

#[test]
fn a_side_that_cannot_run_is_reported_with_its_stderr() {
    let contest = Contest::new(1.0);
    let script = "echo there is no disk >&2; exit 1";
    contest.exits(1, &contest.command("base", MEASURE), &contest.command("head", script), &[]);
    assert_eq!(contest.order(), "ABABAB");
    let stderr = contest.read("stderr");
    assert!(stderr.contains("error: head: it wrote no summary.json of a run"), "{stderr}");
    assert!(stderr.contains("exit status: 1") && stderr.contains("there is no disk"), "{stderr}");
}

#[test]
fn a_command_with_wrong_arguments_is_not_repeated() {
    let contest = Contest::new(1.0);
    contest.exits(2, &contest.command("base", "exit 2"), &contest.command("head", MEASURE), &[]);
    assert_eq!(contest.order(), "A");
    let smoke = contest.command("base", r#"mkdir "$CERTCTL_BENCH_OUTPUT/smoke""#);
    contest.exits(2, &smoke, &contest.command("head", MEASURE), &[]);
    assert_eq!(contest.order(), "AA");
    assert!(contest.read("stderr").contains("--bench"), "{}", contest.read("stderr"));
}

#[test]
fn an_unusable_command_is_refused() {
    let contest = Contest::new(1.0);
    for (command, code, message) in [
        ("", 2, "the command of --base is empty"),
        ("cargo 'bench", 2, "the command of --base has an unclosed quote"),
        ("TOKEN=geheim cargo bench", 2, "the command of --base begins with a variable"),
        ("no-such-program geheim", 1, "starting base (no-such-program)"),
    ] {
        contest.exits(code, command, "true", &[]);
        let stderr = contest.read("stderr");
        assert!(stderr.contains(message) && !stderr.contains("geheim"), "{command}: {stderr}");
    }
}

#[test]
fn a_secret_in_a_command_is_not_shown() {
    let contest = Contest::new(1.0);
    let script = contest
        .command("base", &format!("echo \"$0 $* geheim $PGPASSWORD $CERTCTL_TOKEN of $PGDATABASE 5\" >&2\n{MEASURE}"));
    let command = format!(
        "env CERTCTL_BENCH_DATABASE=postgres://u:geheim@h/d PGPASSWORD=geheim4 PGDATABASE=certctl \
         CERTCTL_DATABASE_MAX_CONNS=5 {script} --token geheim2 --token=geheim3"
    );
    contest.exits(0, &command, &contest.command("head", MEASURE), &["--pairs", "1"]);
    let log = contest.read("out/pair-01/base/log");
    assert!(log.contains("--token [not shown] --token=[not shown]") && !log.contains("geheim"), "{log}");
    // A value that is no secret stays, though DATABASE is in its name.
    assert!(log.contains(" of certctl 5\n"), "{log}");
    // Nor is a secret shown where the run fails.
    let failing = contest.command("base", "echo \"cannot run: $*\" >&2; exit 1");
    contest.exits(1, &format!("{failing} --token geheim"), "true", &["--pairs", "1"]);
    let stderr = contest.read("stderr");
    assert!(stderr.contains("cannot run: --token [not shown]") && !stderr.contains("geheim"), "{stderr}");
    assert!(!contest.path("out/comparison.json").exists(), "one of an earlier comparison");
}

#[test]
fn a_hanging_run_is_ended() {
    let contest = Contest::new(1.0);
    let script = "if [ $turn = 2 ]; then exec sleep 1000; fi";
    let head = contest.command("head", &format!("{script}; {MEASURE}"));
    contest.exits(0, &contest.command("base", MEASURE), &head, &["--pairs", "1", "--longest-run", "20s"]);
    assert_eq!(contest.order(), "ABAB");
    assert!(contest.read("stderr").contains("head took longer than 20s"), "{}", contest.read("stderr"));
}

/// Starts a contest, interrupts it once its first command works, and asserts that both end.
fn interrupt(contest: &Contest, base: &str, signal: Signal) {
    let mut child = contest.start(base, &contest.command("head", MEASURE), &[]);
    until("the command works", || {
        assert!(child.try_wait().unwrap().is_none(), "ended early: {}", contest.read("stderr"));
        contest.path("at-work").exists()
    });
    let started = descendants(child.id());
    assert!(!started.is_empty());
    // The child was not reaped, so the number is still its own.
    send(child.id(), signal);
    assert_eq!(child.wait().unwrap().code(), Some(5), "{}", contest.read("stderr"));
    assert_eq!(started.iter().filter(|process| process.runs()).count(), 0, "{started:?}");
    assert_eq!(contest.read("out/pair-01/base/summary.json"), "partial\n");
    assert_eq!(contest.order(), "A", "no other command is started");
    assert!(contest.read("stderr").contains("stopped while base ran"), "{}", contest.read("stderr"));
}

/// Returns a script that writes a partial result some time after it is interrupted.
fn interruptible(contest: &Contest) -> PathBuf {
    let path = contest.path("interruptible.sh");
    let trap = r#"trap 'kill $!; sleep 0.3; echo partial > "$CERTCTL_BENCH_OUTPUT/summary.json"; exit 5' INT"#;
    fs::write(&path, format!("{trap}\nsleep 1000 &\ntouch '{}'\nwait\n", contest.path("at-work").display())).unwrap();
    path
}

#[test]
fn a_signal_ends_the_command_and_the_comparison() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let contest = Contest::new(1.0);
        let script = format!("exec sh {}", interruptible(&contest).display());
        interrupt(&contest, &contest.command("base", &script), signal);
    }
}

#[test]
fn an_interrupted_bless_keeps_the_old_baseline() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let contest = Contest::new(1.0);
        fs::write(contest.path("made.json"), "the old one\n").unwrap();
        // Four runs are there, and the fifth is at work.
        let last = format!("if [ $turn = 5 ]; then exec sh {}; fi", interruptible(&contest).display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_certctl-bench"));
        command.args(["bless", "--command", &contest.command("base", &format!("{last}; {MEASURE}"))]);
        command.args(["--output", "made.json", "--results", "out"]).current_dir(&contest.folder).stdin(Stdio::null());
        command.stderr(fs::File::create(contest.path("stderr")).unwrap());
        heed_hangups(&mut command);
        let mut child = command.spawn().unwrap();
        until("the fifth run works", || {
            assert!(child.try_wait().unwrap().is_none(), "ended early: {}", contest.read("stderr"));
            contest.path("at-work").exists()
        });
        send(child.id(), signal);
        assert_eq!(child.wait().unwrap().code(), Some(5), "{}", contest.read("stderr"));
        assert!(contest.read("stderr").contains("stopped while command ran"), "{}", contest.read("stderr"));
        assert_eq!((contest.read("made.json").as_str(), contest.order().len()), ("the old one\n", 5));
        let names = fs::read_dir(contest.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!names.into_iter().any(|name| name.to_string_lossy().contains(".part")), "{}", contest.read("stderr"));
    }
}

#[test]
fn a_child_of_an_ended_build_tool_may_write_its_results() {
    let contest = Contest::new(1.0);
    // A shell starts background commands with SIGINT ignored.
    let script = format!("env --default-signal=INT sh {} & wait", interruptible(&contest).display());
    interrupt(&contest, &contest.command("base", &script), Signal::INT);
}

/// The processes that a build tool has started do not end with it.
#[test]
fn a_killed_comparison_leaves_no_command_behind() {
    let contest = Contest::new(1.0);
    let script = format!("sleep 1000 & touch '{}'; wait", contest.path("at-work").display());
    let mut child = contest.start(&contest.command("base", &script), &contest.command("head", MEASURE), &[]);
    until("the command works", || contest.path("at-work").exists());
    let started = descendants(child.id());
    assert!(started.iter().any(|process| process.name == "sleep"), "{started:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    until("all that was started is gone", || !started.iter().any(|process| process.runs()));
}

#[test]
fn a_missing_side_is_a_usage_error() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_certctl-bench")).args(["relative", "--base", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--head"));
}
