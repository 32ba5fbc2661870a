//! `certctl-bench runs`, and the history that bench targets keep, from the front door.

use std::fs::{self, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::bench::{Bench, clean};
use crate::common::runs::{Made, save};
use crate::common::summary::assert_schema;

/// A short run.
const RUN: &str = "--in-memory --agents 20 --rate 350/s --duration 1s --warm-up 200ms";

/// A folder with a history, and with the results of made-up runs.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns one that keeps so many runs, each of another commit, of which those from `slower_from` on are slower by a
    /// quarter.
    fn with(count: u64, slower_from: u64) -> Self {
        Self::of_commits(count, slower_from, |number| number)
    }

    fn of_commits(count: u64, slower_from: u64, commit: impl Fn(u64) -> u64) -> Self {
        let shelf = Self::new();
        for number in 1..=count {
            shelf.make_at(number, if number < slower_from { 1.0 } else { 1.25 }, commit(number));
        }
        let output = shelf.done("import results");
        let runs = if count == 1 { "run" } else { "runs" };
        assert!(output.contains(&format!("imported     {count} {runs} in runs.sqlite\n")), "{output}");
        shelf
    }

    /// Saves a made-up run whose times scatter a little.
    fn make(&self, number: u64, slowness: f64) {
        self.make_at(number, slowness, number);
    }

    fn make_at(&self, number: u64, slowness: f64, commit: u64) {
        let scatter = 1.0 + 0.004 * (number * 7 % 5) as f64;
        let made = Made { number, slowness: slowness * scatter, ..Made::default() };
        let mut summary = made.summary();
        summary.about.machine.commit = format!("{commit:02}{:010}", 0);
        save(&summary, &self.path(&format!("results/run-{number:02}")));
    }

    fn runs(&self, arguments: &str) -> Output {
        let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        command.arg("runs").args(arguments.split_whitespace()).current_dir(&self.0);
        command.env("CERTCTL_BENCH_HISTORY", "runs.sqlite").output().unwrap()
    }

    /// Asserts that it works, and returns its standard output.
    #[track_caller]
    fn done(&self, arguments: &str) -> String {
        let output = self.runs(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts that it ends with this exit code and a message that has these parts, and a hint.
    #[track_caller]
    fn refused(&self, arguments: &str, code: i32, parts: &[&str]) {
        let output = self.runs(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {stderr}");
        for part in parts.iter().chain(&["\nhint: "]) {
            assert!(stderr.contains(part), "{arguments}: no {part:?} in {stderr}");
        }
    }

    /// Returns the runs that are listed, the newest first.
    #[track_caller]
    fn listed(&self) -> Vec<Value> {
        serde_json::from_str(&self.done("--format json --limit 1000")).unwrap()
    }

    /// Returns the ids of all runs, the oldest first.
    fn ids(&self) -> Vec<String> {
        self.listed().iter().rev().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    }

    fn bench(&self, arguments: &str) -> Bench {
        Bench::new(arguments).env("CERTCTL_BENCH_HISTORY", self.path("runs.sqlite").to_str().unwrap())
    }
}

#[test]
fn measured_runs_are_kept_and_listed() {
    let shelf = Shelf::new();
    shelf.refused("", 2, &["error: no run is kept in runs.sqlite"]);
    let first = shelf.bench(RUN).measured().run().worked();
    let second = shelf.bench(RUN).measured().run().worked();
    // A smoke run measures nothing.
    let smoke = shelf.bench("--in-memory").smoke().run().exits(0);
    assert!(!smoke.stdout.contains("\nkept "), "{}", smoke.stdout);
    let listed = shelf.listed();
    let run_ids = [&second, &first].map(|run| run.summary()["run_id"].clone());
    assert_eq!(listed.iter().map(|run| run["id"].clone()).collect::<Vec<_>>(), run_ids);
    for (run, kept) in [second, first].iter().zip(&listed) {
        let summary = run.summary();
        let id = kept["id"].as_str().unwrap();
        assert!(run.stdout.contains(&format!("\nkept         {} in ", &id[..8])), "{}", run.stdout);
        assert_eq!(kept["p50_us"], summary["workloads"][0]["results"]["latency"]["response"]["p50_us"]);
        assert_eq!((&kept["verdict"], &kept["scenario"]), (&summary["verdict"], &summary["scenario"]));
        // What was kept is what was written, and no more: no token.
        let exported: Value = serde_json::from_str(&shelf.done(&format!("print {id}"))).unwrap();
        assert_schema(&exported);
        assert_eq!(exported, summary);
    }
    let text = shelf.done("");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with(&run_ids[0].as_str().unwrap()[..8]) && row.contains("  agent_storm  "), "{text}");
    assert!(text.contains("\nplace 1      reference 0.1.0; "), "{text}");
    // The history can be switched off.
    let unkept = shelf.bench(RUN).measured().arguments("--history none").run().worked();
    assert!(!unkept.stdout.contains("\nkept "), "{}", unkept.stdout);
    assert_eq!(shelf.listed().len(), 2);
    shelf.refused("--history none", 2, &["there is no history of runs", "none"]);
}

#[test]
fn a_history_that_cannot_be_written_costs_no_run() {
    let shelf = Shelf::new();
    fs::write(shelf.path("runs.sqlite"), "certctl").unwrap();
    let damaged = shelf.bench(RUN).measured().run().worked();
    assert!(
        damaged.stderr.contains("warning: this run is not kept in the history: the history "),
        "{}",
        damaged.stderr
    );
    assert!(
        damaged.stderr.contains("runs.sqlite is damaged: ") && damaged.stderr.contains("\nhint: move the file away")
    );
    assert_eq!(read_to_string(shelf.path("runs.sqlite")).unwrap(), "certctl");

    fs::remove_file(shelf.path("runs.sqlite")).unwrap();
    fs::write(shelf.path("file"), "").unwrap();
    let within = shelf.path("file/runs.sqlite");
    let nowhere = shelf.bench(RUN).env("CERTCTL_BENCH_HISTORY", within.to_str().unwrap()).measured().run().worked();
    assert!(nowhere.stderr.contains("warning: this run is not kept in the history: "), "{}", nowhere.stderr);
}

#[test]
fn results_are_imported_once() {
    let shelf = Shelf::with(3, 9);
    let invalid = shelf.path("results/deep/er/run");
    let mut summary = Made { number: 7, ..Made::default() }.summary();
    (summary.verdict, summary.exit_code) = (certctl_bench::summary::Verdict::Invalid, 5);
    summary.invalid.push("too late".to_owned());
    save(&summary, &invalid);
    // The same run in another place is the same run.
    fs::create_dir(shelf.path("copies")).unwrap();
    fs::copy(shelf.path("results/run-01/summary.json"), shelf.path("copies/summary.json")).unwrap();
    let output = shelf.done("import results copies/summary.json");
    assert!(output.contains("imported     1 run in runs.sqlite\nleft out     4 kept already\n"), "{output}");
    let listed = shelf.listed();
    let times: Vec<&str> = listed.iter().map(|run| run["finished_at"].as_str().unwrap()).collect();
    let minutes = ["07", "03", "02", "01"].map(|minute| format!("2026-01-01T00:{minute}:00Z"));
    assert_eq!((times, &listed[0]["verdict"]), (minutes.iter().map(String::as_str).collect(), &"invalid".into()));

    // What cannot be imported is named, and keeps nothing else out.
    fs::create_dir(shelf.path("results/a")).unwrap();
    fs::write(shelf.path("results/a/summary.json"), "{\"a\": 1}").unwrap();
    let text = read_to_string(shelf.path("results/run-01/summary.json")).unwrap();
    let old = text.replacen("\"schema_version\": 4", "\"schema_version\": 3", 1);
    fs::write(shelf.path("results/run-02/summary.json"), old).unwrap();
    shelf.make(9, 1.0);
    let parts =
        ["left out     reading results/a/summary.json", "run-02/summary.json has summary schema 3", "2 of 6 results"];
    shelf.refused("import results", 2, &parts);
    assert_eq!(shelf.listed().len(), 5);
    for (arguments, part) in [("import", "<PATH>"), ("import none", "none"), ("import copies/x", "copies/x")] {
        let output = shelf.runs(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(part), "{stderr}");
    }
    fs::create_dir(shelf.path("empty")).unwrap();
    shelf.refused("import empty", 2, &["there is no summary.json in empty"]);
}

#[test]
fn a_run_is_named_by_the_beginning_of_its_id() {
    // Of seventeen ids, two begin with the same digit.
    let shelf = Shelf::with(17, 99);
    let ids = shelf.ids();
    let twice = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let several = ids.iter().find(twice).unwrap();
    shelf.refused(&format!("print {}", &several[..1]), 2, &["error: several ids begin with ", several]);
    let exported = shelf.done(&format!("print {}", ids[4][..12].to_uppercase()));
    assert_eq!(exported, read_to_string(shelf.path("results/run-05/summary.json")).unwrap());
    let unknown =
        (0..16_u8).map(|digit| format!("{digit:x}").repeat(9)).find(|one| !ids.iter().any(|id| id.starts_with(one)));
    let unknown = unknown.unwrap();
    for verb in ["print", "remove", "bless"] {
        shelf.refused(
            &format!("{verb} {unknown}"),
            2,
            &["no run in runs.sqlite has an id that begins with ", &unknown],
        );
    }
    shelf.refused("print run-1", 2, &["\"run-1\" is not the id of a run"]);
    // Nothing is removed unless all are found.
    shelf.refused(&format!("remove {} {unknown}", ids[0]), 2, &[&unknown]);
    assert_eq!(shelf.ids(), ids);
    shelf.done(&format!("remove {} {}", ids[0], ids[1]));
    assert_eq!(shelf.ids(), ids[2..]);
    let listed = shelf.done("--limit 3 --scenario agent_storm");
    assert_eq!(listed.lines().filter(|line| line.contains("  agent_storm  ")).count(), 3, "{listed}");
    assert!(listed.contains("runs         3 of 15: --limit shows more"), "{listed}");
    assert_eq!(shelf.done("list --limit 3 --scenario agent_storm"), listed);
    shelf.refused("--scenario api_tier", 2, &["no run of api_tier is kept in runs.sqlite"]);
}

#[test]
fn kept_runs_are_compared_and_blessed() {
    let shelf = Shelf::of_commits(10, 6, |number| 1 + u64::from(number >= 6));
    let ids = shelf.ids();
    let side = |range: std::ops::Range<usize>| ids[range].iter().map(|id| &id[..16]).collect::<Vec<_>>().join(",");
    let [before, after] = [side(0..5), side(5..10)];
    let files = "--markdown comparison.md --json comparison.json --html comparison.html";
    let slower = shelf.runs(&format!("compare {before} {after} {files}"));
    let text = String::from_utf8_lossy(&slower.stdout).into_owned();
    assert_eq!(slower.status.code(), Some(4), "{text}{}", String::from_utf8_lossy(&slower.stderr));
    assert!(text.contains("agent_storm: base 5 runs, head 5 runs") && text.contains("REGRESSED"), "{text}");
    assert!(read_to_string(shelf.path("comparison.md")).unwrap().contains("regressed"));
    assert!(text.ends_with("\nwritten      comparison.html\n"), "{text}");
    let page = read_to_string(shelf.path("comparison.html")).unwrap();
    let verdict = page.find("<div class=\"verdict bad\"><p><strong>regressed</strong>: ").expect("a verdict");
    let figure = page.find("<figcaption>Changes from base to head</figcaption>").expect("a figure");
    assert!(verdict < figure && page[figure..].contains("agent_storm/response_p50_us: regressed +2"), "{page}");
    assert_eq!(shelf.runs(&format!("compare {after} {before}")).status.code(), Some(0));
    shelf.refused(&format!("compare {} {}", ids[0], "f".repeat(32)), 2, &["has an id that begins with ffff"]);

    let blessed = shelf.done(&format!("bless {} --output kept.json", before.replace(',', " ")));
    assert!(blessed.contains("blessed      5 runs of agent_storm") && blessed.contains("kept.json"), "{blessed}");
    // It is the baseline that `bless` makes of the same results.
    let results: Vec<String> = (1..=5).map(|number| format!("results/run-{number:02}")).collect();
    let mut bless = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    bless.arg("bless").args(results).args(["--output", "saved.json"]).current_dir(&shelf.0);
    assert!(bless.output().unwrap().status.success());
    assert_eq!(read_to_string(shelf.path("kept.json")).unwrap(), read_to_string(shelf.path("saved.json")).unwrap());
    shelf.refused(&format!("bless {}", ids[0]), 2, &["a baseline needs at least 5 runs"]);
    shelf.refused(&format!("bless {} {}", side(0..4).replace(',', " "), ids[3]), 2, &["are the same run"]);
}

#[test]
fn a_trend_shows_the_commit_of_a_shift() {
    let shelf = Shelf::with(20, 12);
    let text = shelf.done("trend agent_storm --output trend.html");
    let change = text.lines().find(|line| line.contains(" → ")).unwrap_or_else(|| panic!("{text}"));
    assert!(change.starts_with("2026-01-01 00:12  11000000 → 12000000"), "{text}");
    assert!(
        change.contains("  +2") && change.ends_with("regressed") && text.contains("1 change point among 20 runs"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let page = read_to_string(shelf.path("trend.html")).unwrap();
    assert!(page.contains("11000000 → 12000000") && page.contains("<polyline"), "{page}");
    // The same runs have the same trend, and the newest of them may have none.
    assert_eq!(shelf.done("trend agent_storm --output trend.html"), text);
    assert_eq!(read_to_string(shelf.path("trend.html")).unwrap(), page);
    let few = shelf.done("trend agent_storm --limit 9 --measure p50");
    assert!(few.contains("none among 9 runs") && few.contains("11 older runs, beyond --limit 9"), "{few}");
    let counts = shelf.done("trend agent_storm --measure database/sql_calls_per_answer");
    assert!(counts.contains("none among 20 runs"), "{counts}");

    shelf.refused("trend api_tier", 2, &["no run of api_tier is kept"]);
    shelf.refused(
        "trend agent_storm --measure p98",
        2,
        &["the measure agent_storm/p98", "agent_storm/response_p99_us"],
    );
    shelf.refused("trend agent_storm --workload list", 2, &["agent_storm has no workload list", "agent_storm"]);
    shelf.refused("trend agent_storm --series 2", 2, &["there is no series 2", "there are 1"]);
    shelf.refused("trend agent_storm --workload x --measure a/b", 2, &["a/b names its workload already"]);
    shelf.refused("trend agent_storm --output absent/t.html", 2, &["writing absent/t.html"]);
}

#[test]
fn an_unreadable_history_is_named_with_its_fix() {
    let shelf = Shelf::with(3, 9);
    let file = shelf.path("runs.sqlite");
    let whole = fs::read(&file).unwrap();
    let damaged = ["the history runs.sqlite is damaged", "runs import"];
    // The head of the file, the pages of its tables, and a summary in them.
    fs::write(&file, "certctl".repeat(1_000)).unwrap();
    shelf.refused("", 2, &damaged);
    shelf.refused("import results", 2, &damaged);
    let mut spoilt = whole.clone();
    spoilt[100..].fill(0xa5);
    fs::write(&file, spoilt).unwrap();
    shelf.refused("", 2, &damaged);
    fs::write(&file, &whole).unwrap();
    change(&file, "UPDATE runs SET summary = x'789c0300'");
    shelf.refused(&format!("print {}", shelf.ids()[0]), 2, &damaged);
    shelf.refused("trend agent_storm", 2, &["no run of the scenario can be read", "runs.sqlite is damaged"]);
    change(&file, "UPDATE runs SET verdict = 'fine'");
    shelf.refused("", 2, &damaged);

    fs::write(&file, &whole).unwrap();
    change(&file, "PRAGMA user_version = 2");
    for verb in ["", "import results", "trend agent_storm"] {
        shelf.refused(verb, 5, &["runs.sqlite has history schema 2; this version of the suite reads 1"]);
    }
    fs::remove_file(&file).unwrap();
    change(&file, "CREATE TABLE other (a)");
    for verb in ["", "import results"] {
        shelf.refused(verb, 2, &["runs.sqlite is another program's database"]);
    }
    // A table of another shape, or none, in a file that says to be a history.
    fs::write(&file, &whole).unwrap();
    change(&file, "DROP TABLE runs");
    shelf.refused("", 2, &damaged);
    // An empty file holds nothing, and is filled.
    fs::write(&file, "").unwrap();
    shelf.refused("", 2, &["no run is kept in runs.sqlite"]);
    shelf.done("import results");
    assert_eq!(shelf.listed().len(), 3);
}

fn change(file: &Path, sql: &str) {
    Connection::open(file).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_locked_history_is_waited_for_within_a_bound() {
    let shelf = Shelf::with(1, 9);
    shelf.make(2, 1.0);
    let other = Connection::open(shelf.path("runs.sqlite")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let begin = Instant::now();
    shelf.refused("import results", 1, &["runs.sqlite: another process has had it locked for 5 s"]);
    assert!(begin.elapsed() >= Duration::from_secs(5), "it does not wait");
    let locked = shelf.bench(RUN).measured().run().worked();
    assert!(locked.stderr.contains("warning: this run is not kept in the history: "), "{}", locked.stderr);
    assert!(locked.stderr.contains("locked for 5 s\nhint: "), "{}", locked.stderr);
    // Once the other is done, nothing is left of it.
    drop(other);
    shelf.done("import results");
    assert_eq!(shelf.listed().len(), 2);
}
