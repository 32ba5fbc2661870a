//! The rules that keep workflows and actions safe and repeatable, a check that they name only what exists, and their
//! scripts: of the action `duet`, of its comment, and of the load test; and the workflows that `init-ci` writes. actionlint and zizmor look deeper; they run in
//! ci.yml.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use saphyr::{LoadableYamlNode as _, Yaml};

use crate::common::bench::clean;
use crate::common::needs::needs;
use crate::common::process::copy_program;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the paths in a folder.
fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path())
}

/// Returns the workflows by name, whole.
fn workflows() -> Vec<(String, String)> {
    let paths = entries(".github/workflows");
    let mut all: Vec<_> = paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// Returns the workflow of this name, whole.
fn workflow(name: &str) -> String {
    fs::read_to_string(root().join(".github/workflows").join(name)).unwrap()
}

/// Returns the faults of a workflow, a line each.
fn faults(text: &str, benches: &BTreeSet<String>) -> Vec<String> {
    let mut faults = step_faults(text, benches);
    let mut expect = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    for needed in ["permissions: {}", "concurrency:", "    shell: bash"] {
        expect(lines.contains(&needed), format!("no line `{needed}`"));
    }
    let count = |key: &str| lines.iter().filter(|line| line.starts_with(key)).count();
    let (jobs, calls) = (count("    runs-on:"), count("    uses:"));
    expect(count("    timeout-minutes:") == jobs, "a job without timeout-minutes".to_owned());
    expect(count("    permissions:") == jobs + calls, "a job without permissions".to_owned());
    faults
}

/// Returns the faults of an action, a line each.
fn action_faults(text: &str, benches: &BTreeSet<String>) -> Vec<String> {
    let mut faults = step_faults(text, benches);
    let lines: Vec<&str> = text.lines().collect();
    if lines.iter().filter(|line| line.trim() == "shell: bash").count() != scripts(&lines).len() {
        faults.push("a script without `shell: bash`".to_owned());
    }
    faults
}

/// Returns the faults that the steps of a workflow or of an action can have.
fn step_faults(text: &str, benches: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim_start().trim_start_matches("- ");
        // This repository, at the commit that runs.
        if let Some(path) = line.strip_prefix("uses: $/") {
            let place = root().join(path);
            expect(place.is_file() || place.join("action.yml").is_file(), format!("there is no {path}"));
        } else if let Some(action) = line.strip_prefix("uses: ") {
            expect(is_pinned(action), format!("`{action}` is not pinned by commit, with its version beside it"));
            let keeps = lines[index..].iter().take(3).any(|line| line.trim() == "persist-credentials: false");
            expect(keeps || !action.starts_with("actions/checkout@"), "a checkout that keeps credentials".to_owned());
        }
        if let Some(image) = line.strip_prefix("image: ") {
            expect(image.contains("@sha256:"), format!("`{image}` floats"));
        }
    }
    for script in scripts(&lines) {
        expect(!script.contains("${{"), format!("an expression in a script, which may become code: {script}"));
    }
    let words = text.split(|letter: char| letter.is_whitespace() || letter == '"').filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    let named = words.windows(2).filter(|pair| pair[0] == "--bench").map(|pair| pair[1]);
    let given = lines.iter().filter_map(|line| line.trim().strip_prefix("bench: "));
    // An input's default comes after its description and its type.
    let inputs = lines.iter().enumerate().filter(|(_, line)| line.trim() == "bench:").map(|(index, _)| index);
    let defaults = inputs
        .filter_map(|index| lines[index + 1..].iter().take(3).find_map(|line| line.trim().strip_prefix("default: ")));
    let listed = given.chain(defaults).filter(|value| !value.starts_with("${{")).flat_map(str::split_whitespace);
    for bench in named.chain(listed).filter(|bench| !bench.starts_with('$')) {
        expect(benches.contains(bench), format!("there is no bench target `{bench}`"));
    }
    faults
}

/// Returns true for `OWNER/NAME@COMMIT # vVERSION`.
fn is_pinned(action: &str) -> bool {
    let Some((_, pin)) = action.split_once('@') else { return false };
    let Some((commit, version)) = pin.split_once(" # v") else { return false };
    let is_commit = commit.len() == 40 && commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_commit && version.split('.').all(|part| part.parse::<u32>().is_ok())
}

/// Returns the scripts: the text after `run:`, on its line or indented below it.
fn scripts(lines: &[&str]) -> Vec<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut scripts = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(first) = line.trim_start().trim_start_matches("- ").strip_prefix("run:") else { continue };
        let own = line.find("run:").unwrap_or(0);
        let below = lines[index + 1..].iter().take_while(|below| below.trim().is_empty() || indent(below) > own);
        let mut script = first.to_owned();
        // The `defaults:` of a workflow have a `run:` with keys of its own, which hold no expression either.
        script.extend(below.map(|line| format!("\n{line}")));
        scripts.push(script);
    }
    scripts
}

fn benches() -> BTreeSet<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let sections = manifest.split("[[bench]]\nname = \"").skip(1);
    sections.map(|section| section.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn the_workflows_follow_the_rules() {
    let workflows = workflows();
    let names: Vec<&str> = workflows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["certctl-duet.yml", "ci.yml", "duet.yml", "loadtest.yml"]);
    for (name, text) in &workflows {
        assert_eq!(faults(text, &benches()), Vec::<String>::new(), "{name}");
    }
    let actions: Vec<PathBuf> = entries(".github/actions").map(|folder| folder.join("action.yml")).collect();
    assert_eq!(actions, [root().join(".github/actions/duet/action.yml")]);
    for path in actions {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(action_faults(&text, &benches()), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_load_test_runs_every_scenario_each_monday() {
    let text = workflow("loadtest.yml");
    for needed in ["cron: '0 6 * * 1'", "workflow_dispatch:", "fail-fast: false", "retention-days: 90"] {
        assert!(text.contains(needed), "no {needed:?}");
    }
    for scenario in
        ["bulk-renewal", "acme-burst", "agent-storm", "acme-enroll", "deploy-loop", "job-drain", "revocation"]
    {
        assert!(text.contains(&format!("scenario: {scenario}\n            bench: {}\n", scenario.replace('-', "_"))));
    }
}

#[test]
fn the_documented_inputs_are_those_of_the_workflow() {
    let workflow = workflow("certctl-duet.yml");
    let inputs = workflow.split("    inputs:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let inputs = inputs.lines().filter_map(|line| line.strip_prefix("      ")?.strip_suffix(':'));
    let inputs: BTreeSet<&str> = inputs.filter(|name| !name.starts_with(' ')).collect();
    let page = fs::read_to_string(root().join("docs/CI.md")).unwrap();
    let table = page.split("\n\n").find(|block| block.starts_with("| input |")).unwrap();
    let documented: BTreeSet<&str> = table.lines().skip(2).map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(documented, inputs);
}

/// A workflow that keeps every rule.
const GOOD: &str = "\
on: push
permissions: {}
concurrency:
  group: a
defaults:
  run:
    shell: bash
jobs:
  one:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      contents: read
    services:
      database:
        image: postgres:16@sha256:00
    steps:
      - uses: actions/checkout@0123456789abcdef0123456789abcdef01234567 # v1.2.3
        with:
          persist-credentials: false
      - run: |
          cargo bench --bench some
        env:
          WHO: ${{ github.event.sender.login }}
";

#[test]
fn each_rule_detects_its_violation() {
    let benches = BTreeSet::from(["some".to_owned()]);
    assert_eq!(faults(GOOD, &benches), Vec::<String>::new());
    for (from, to, fault) in [
        ("permissions: {}\n", "", "no line `permissions: {}`"),
        ("concurrency:\n  group: a\n", "", "no line `concurrency:`"),
        ("    shell: bash\n", "    shell: sh\n", "no line `    shell: bash`"),
        ("    timeout-minutes: 5\n", "", "a job without timeout-minutes"),
        ("    permissions:\n      contents: read\n", "", "a job without permissions"),
        ("@0123456789abcdef0123456789abcdef01234567 # v1.2.3", "@v1", "is not pinned"),
        ("01234567 # v1.2.3", "01234567", "is not pinned"),
        ("persist-credentials: false", "persist-credentials: true", "keeps credentials"),
        ("@sha256:00", "", "floats"),
        ("--bench some", "--bench other", "no bench target `other`"),
        ("--bench some", "--bench some ${{ github.event.sender.login }}", "an expression in a script"),
        ("run: |\n          cargo bench --bench some", "run: echo ${{ inputs.a }}", "an expression in a script"),
        ("jobs:\n", "bench:\n  type: string\n  default: some other\njobs:\n", "no bench target `other`"),
        ("jobs:\n", "bench: some other\njobs:\n", "no bench target `other`"),
        ("jobs:\n", "jobs:\n  two:\n    uses: $/.github/workflows/ci.yml\n", "a job without permissions"),
        ("    steps:\n", "    steps:\n      - uses: $/.github/actions/none\n", "there is no "),
    ] {
        assert!(GOOD.contains(from));
        let broken = faults(&GOOD.replace(from, to), &benches);
        assert!(broken.len() == 1 && broken[0].contains(fault), "{to:?}: {broken:?}");
    }
    let action = "runs:\n  steps:\n    - run: a\n      shell: bash\n";
    assert_eq!(action_faults(action, &benches), Vec::<String>::new());
    assert_eq!(
        action_faults(&action.replace("shell: bash", "shell: sh"), &benches),
        ["a script without `shell: bash`"]
    );
}

/// A duet that ends as the file named after its bench target says: with a code, and a verdict in its report. It keeps
/// its arguments.
const PRETENDED: &str = r#"
[ -x "$2" ] && [ -x "$4" ] || exit 99
[ -z "$GITHUB_STEP_SUMMARY" ] || exit 98
printf '%s\n' "$@" >"arguments-$6"
read -r code verdict <"ends/$6"
[ -z "$verdict" ] || printf '### %s: %s\n' "$6" "$verdict" >"${10}"
exit "$code"
"#;

/// Runs the script of the action `duet` in `folder`, where duets are pretended.
fn act(folder: &Path, environment: &[(&str, &str)]) -> Output {
    // `sh duet --base …` is what the script calls.
    fs::write(folder.join("duet"), PRETENDED).unwrap();
    Command::new(root().join(".github/actions/duet/run"))
        .current_dir(folder)
        .envs([("BASE", "base"), ("HEAD", "head"), ("PROGRAM", "/bin/sh"), ("BENCH", "agent_storm\napi_tier")])
        .envs([("OUTPUT", "results"), ("GITHUB_OUTPUT", "outputs"), ("GITHUB_STEP_SUMMARY", "summary")])
        .env_remove("BLOCKS")
        .env_remove("THRESHOLD")
        .env_remove("FLAGS")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// Puts a program that does nothing into `folder` under these names. Returns a search path that begins there.
fn pretend(folder: &Path, names: &[&str]) -> String {
    for name in names {
        symlink("/bin/true", folder.join(name)).unwrap();
    }
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_action_concludes_from_all_its_duets() {
    for (storm, tier, code, verdict) in [
        ("0 unchanged", "0 unchanged", 0, "unchanged"),
        ("0 unchanged", "0 indistinct", 0, "indistinct"),
        ("0 improved", "0 indistinct", 0, "improved"),
        ("0 unchanged", "4 regressed", 4, "regressed"),
        ("5 invalid", "4 regressed", 4, "regressed"),
        ("5 invalid", "0 improved", 5, "invalid"),
        ("5 invalid", "1", 1, "failed"),
        ("2", "0 unchanged", 2, "failed"),
        // Green needs a verdict.
        ("0", "0 unchanged", 1, "failed"),
        ("0 regressed", "0 unchanged", 1, "failed"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for side in ["base", "head", "ends"] {
            fs::create_dir(path(side)).unwrap();
        }
        // As in an artifact: not executable.
        fs::write(path("base/certctl-reference"), "").unwrap();
        fs::write(path("head/certctl-reference"), "").unwrap();
        fs::write(path("ends/agent_storm"), format!("{storm}\n")).unwrap();
        fs::write(path("ends/api_tier"), format!("{tier}\n")).unwrap();
        let output = act(folder.path(), &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{storm}, {tier}: {said}");
        let report = fs::read_to_string(path("results/report.md")).unwrap();
        assert!(report.starts_with(&format!("**{verdict}** (exit {code}): agent_storm ")), "{storm}, {tier}: {report}");
        assert!(report.contains("\n### agent_storm: ") && report.contains("\n### api_tier: "), "{report}");
        assert_eq!(report.contains("**An input is wrong** (exit 2)"), storm == "2", "{report}");
        assert_eq!(fs::read_to_string(path("summary")).unwrap(), report);
        let outputs = fs::read_to_string(path("outputs")).unwrap();
        assert_eq!(outputs, format!("verdict={verdict}\nreport=results/report.md\n"));
    }
}

#[test]
fn the_action_passes_flags_and_each_sides_migrations() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for side in ["base", "head"] {
        fs::create_dir_all(path(side).join("migrations")).unwrap();
        fs::write(path(side).join("certctl-server"), "").unwrap();
    }
    fs::create_dir(path("ends")).unwrap();
    fs::write(path("ends/acme_burst"), "0 unchanged\n").unwrap();
    // The machine that tests this keeps its settings.
    let search = pretend(folder.path(), &["sudo"]);
    let environment =
        [("PATH", search.as_str()), ("BENCH", "acme_burst"), ("BLOCKS", "8"), ("FLAGS", " --rate 300/s\n --only *")];
    let output = act(folder.path(), &environment);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let arguments = fs::read_to_string(path("arguments-acme_burst")).unwrap();
    let arguments: Vec<&str> = arguments.lines().skip(10).collect();
    let of_duet = "--blocks 8 --base-migrations base/migrations --head-migrations head/migrations";
    assert_eq!(arguments.join(" "), format!("{of_duet} -- --rate 300/s --only *"));
    // Those of another commit may be near.
    fs::rename(path("head/migrations"), path("migrations")).unwrap();
    let output = act(folder.path(), &environment);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("HEAD: there is no folder migrations beside head/certctl-server"), "{said}");
    assert!(!path("results/report.md").exists(), "an earlier report is left");
}

#[test]
fn the_comment_begins_with_the_verdict() {
    let workflow = workflow("certctl-duet.yml");
    let lines: Vec<&str> = workflow.lines().collect();
    let script = scripts(&lines).into_iter().find(|script| script.contains("gh api")).unwrap();
    let script = script.trim_start().strip_prefix('|').unwrap();
    let short = "**unchanged** (exit 0): agent_storm unchanged\n\n### agent_storm: unchanged\n";
    let long = format!("**regressed** (exit 4): agent_storm regressed\n\n{}\n", "é…".repeat(20_000));
    for (report, first) in [
        // Nothing was built, or the machine went away.
        (None, "**failed**: "),
        (Some(short), "**unchanged** (exit 0): "),
        (Some(long.as_str()), "**regressed** (exit 4): "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        if let Some(report) = report {
            fs::create_dir(path("report")).unwrap();
            fs::write(path("report/report.md"), report).unwrap();
        }
        let output = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(folder.path())
            .env("PATH", pretend(folder.path(), &["gh"]))
            .envs([("HEAD", "0123abc"), ("RUN", "https://here/1"), ("MARKER", "<!-- it -->")])
            .envs([("GITHUB_REPOSITORY", "owner/name"), ("PULL_REQUEST", "7")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let comment = fs::read_to_string(path("comment.md")).unwrap();
        assert!(comment.starts_with(first) && comment.ends_with("\n\n<!-- it -->\n"), "{comment}");
        assert!(comment.contains("\n\n0123abc against its base, by [this run](https://here/1).\n"), "{comment}");
        assert!(comment.len() < 65_536, "{}", comment.len());
    }
}

#[test]
fn settings_of_the_load_test_reach_certctl_alone() {
    for (settings, lines) in [
        ("", Some("")),
        (" CERTCTL_LOG_LEVEL=info  GOGC=50\n", Some("CERTCTL_LOG_LEVEL=info GOGC=50")),
        ("CERTCTL_A=b\nEND\nPATH=/tmp", None),
        ("CERTCTL_A=b PATH=/tmp", None),
        ("LD_PRELOAD=/tmp/it", None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(root().join(".ci/certctl-from-image"))
            .args(["image", settings])
            .env("PATH", pretend(folder.path(), &["docker", "sudo"]))
            .env("RUNNER_TEMP", folder.path())
            .env("GITHUB_ENV", folder.path().join("variables"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if lines.is_some() { 0 } else { 2 }), "{settings:?}: {said}");
        let written = fs::read_to_string(folder.path().join("variables"));
        let Some(lines) = lines else {
            assert!(written.is_err() && said.contains("of the settings is none of certctl's"), "{settings:?}: {said}");
            continue;
        };
        let written = written.unwrap();
        let written: Vec<&str> = written.lines().skip(1).collect();
        if let [first, within @ .., last] = &written[..] {
            assert_eq!(first.strip_prefix("CERTCTL_BENCH_CERTCTL_ENV<<"), Some(*last), "{settings:?}");
            assert_eq!(within.join(" "), lines, "{settings:?}");
        } else {
            assert!(lines.is_empty() && written.is_empty(), "{settings:?}: {written:?}");
        }
    }
}

/// A suite for other repositories.
const SUITE: &str = "some-owner/certctl-bench@0123456789abcdef0123456789abcdef01234567";
const WRITTEN: [&str; 2] = ["certctl-bench-duet.yml", "certctl-bench-loadtest.yml"];

/// Runs `certctl-bench init-ci` for a folder.
fn init_ci(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    command.arg("init-ci").arg(folder).args(arguments).output().unwrap()
}

/// Makes a repository.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("git").args(["init", "--quiet"]).arg(folder.path()).status().unwrap();
    assert!(made.success());
    folder
}

#[test]
fn workflows_for_another_repository_follow_the_rules() {
    let folder = repository();
    let output = init_ci(folder.path(), &["--suite", SUITE]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<_> = fs::read_dir(folder.path().join(".github/workflows")).unwrap().collect();
    assert_eq!(found.len(), WRITTEN.len(), "{:?}", found.pop());
    for name in WRITTEN {
        let path = folder.path().join(".github/workflows").join(name);
        assert!(said.contains(&format!("written    {}\n", path.display())), "{said}");
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(faults(&text, &benches()), Vec::<String>::new(), "{name}");
        assert!(text.starts_with("# Written by `certctl-bench init-ci`") && text.contains(&SUITE[..24]), "{text}");
        let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let [document] = &documents[..] else { panic!("{name} has {} documents", documents.len()) };
        for (_, job) in document["jobs"].as_mapping().unwrap() {
            let is_call = job.as_mapping_get("uses").is_some();
            assert!(is_call || job["steps"].as_sequence().is_some_and(|steps| !steps.is_empty()), "{name}");
        }
    }
    let load_test = fs::read_to_string(folder.path().join(".github/workflows").join(WRITTEN[1])).unwrap();
    let documents = Yaml::load_from_str(&load_test).unwrap();
    let suite = &documents[0]["jobs"]["tiers"]["steps"].as_sequence().unwrap()[0]["with"];
    let (repository, commit) = SUITE.split_once('@').unwrap();
    assert_eq!([suite["repository"].as_str(), suite["ref"].as_str()], [Some(repository), Some(commit)]);
    // Of the suite itself nothing is named as if it were part of the repository.
    assert!(!load_test.contains("uses: ./") && !load_test.contains("$/"));
    if Command::new("actionlint").arg("-version").output().is_err() {
        needs!(else "actionlint not found (ci.yml runs it)");
    }
    let linted = Command::new("actionlint").current_dir(folder.path()).output().unwrap();
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
}

#[test]
fn a_changed_workflow_is_overwritten_only_by_force() {
    let folder = repository();
    let path = |name: &str| folder.path().join(".github/workflows").join(name);
    assert_eq!(init_ci(folder.path(), &["--suite", SUITE]).status.code(), Some(0));
    let original = fs::read_to_string(path(WRITTEN[1])).unwrap();
    // As it is, it is left alone.
    let again = String::from_utf8(init_ci(folder.path(), &["--suite", SUITE]).stdout).unwrap();
    assert!(again.starts_with("unchanged  ") && !again.contains("written "), "{again}");
    fs::write(path(WRITTEN[1]), "mine\n").unwrap();
    fs::remove_file(path(WRITTEN[0])).unwrap();
    let refused = init_ci(folder.path(), &["--suite", SUITE]);
    let said = String::from_utf8(refused.stderr).unwrap();
    let message = format!("error: {} is there already, and differs\nhint: ", path(WRITTEN[1]).display());
    assert!(refused.status.code() == Some(2) && said.starts_with(&message) && said.contains("--force"), "{said}");
    assert_eq!(fs::read_to_string(path(WRITTEN[1])).unwrap(), "mine\n");
    assert!(!path(WRITTEN[0]).exists(), "nothing is written where one is refused");
    assert_eq!(init_ci(folder.path(), &["--suite", SUITE, "--force"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(path(WRITTEN[1])).unwrap(), original);
    assert!(path(WRITTEN[0]).exists());
}

#[test]
fn the_suite_of_workflows_is_the_one_that_cargo_installed() {
    // As `cargo install --git` leaves it.
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    let program = root.path().join("bin/certctl-bench");
    copy_program(env!("CARGO_BIN_EXE_certctl-bench"), &program);
    let folder = repository();
    let run = || clean(Command::new(&program)).arg("init-ci").current_dir(folder.path()).output().unwrap();
    let unknown = run();
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        unknown.status.code() == Some(2) && said.contains("\nhint: give them: --suite OWNER/NAME@COMMIT"),
        "{said}"
    );
    let (repository, commit) = SUITE.split_once('@').unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let record = format!(
        "[v1]\n\"certctl-bench {version} (git+https://github.com/{repository}?branch=main#{commit})\" = [\"certctl-bench\"]\n"
    );
    fs::write(root.path().join(".crates.toml"), record).unwrap();
    let done = run();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let duet = fs::read_to_string(folder.path().join(".github/workflows").join(WRITTEN[0])).unwrap();
    assert!(duet.contains(&format!("uses: {repository}/.github/workflows/certctl-duet.yml@{commit} # v{version}\n")));
    let nowhere = init_ci(root.path(), &["--suite", SUITE]);
    let said = String::from_utf8(nowhere.stderr).unwrap();
    assert!(nowhere.status.code() == Some(2) && said.contains("it has no .git\nhint: "), "{said}");
    assert_eq!(init_ci(folder.path(), &["--suite", "a/b@main"]).status.code(), Some(2));
}
