//! The rules that keep workflows safe and repeatable, and a check that they name only what exists. actionlint and
//! zizmor look deeper; they run in ci.yml.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the workflows by name, whole.
fn workflows() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// Returns the faults of a workflow, a line each.
fn faults(text: &str, benches: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    for needed in ["permissions: {}", "concurrency:", "    shell: bash"] {
        expect(lines.contains(&needed), format!("no line `{needed}`"));
    }
    let count = |key: &str| lines.iter().filter(|line| line.trim_start().starts_with(key)).count();
    let jobs = count("runs-on:");
    expect(count("timeout-minutes:") == jobs, "a job without timeout-minutes".to_owned());
    expect(
        lines.iter().filter(|line| **line == "    permissions:").count() == jobs,
        "a job without permissions".to_owned(),
    );
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim_start().trim_start_matches("- ");
        if let Some(action) = line.strip_prefix("uses: ") {
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
    let named = words.windows(2).filter(|pair| ["--bench", "bench:"].contains(&pair[0])).map(|pair| pair[1]);
    let listed = lines.iter().filter_map(|line| line.trim().strip_prefix("BENCHES: ")).flat_map(str::split_whitespace);
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
    assert_eq!(names, ["ci.yml", "loadtest.yml", "relative.yml"]);
    for (name, text) in &workflows {
        assert_eq!(faults(text, &benches()), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_load_test_runs_every_scenario_each_monday() {
    let (_, text) = workflows().into_iter().find(|(name, _)| name == "loadtest.yml").unwrap();
    for needed in ["cron: '0 6 * * 1'", "workflow_dispatch:", "fail-fast: false", "retention-days: 90"] {
        assert!(text.contains(needed), "no {needed:?}");
    }
    for scenario in ["bulk-renewal", "acme-burst", "agent-storm"] {
        assert!(text.contains(&format!("scenario: {scenario}\n            bench: {}\n", scenario.replace('-', "_"))));
    }
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
    ] {
        assert!(GOOD.contains(from));
        let broken = faults(&GOOD.replace(from, to), &benches);
        assert!(broken.len() == 1 && broken[0].contains(fault), "{to:?}: {broken:?}");
    }
}
