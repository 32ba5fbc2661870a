//! The repository itself: bench targets, seeds and documents name the same things, imports go one way, and names and
//! doc comments keep to the style.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use certctl_bench::cli::registry::{ALL, BenchTarget};
use certctl_bench::measure::threshold::Threshold;
use certctl_bench::seed::EMBEDDED;

/// The subsections of every scenario's section.
const SUBSECTIONS: [&str; 5] = ["Requests", "Why", "Work checked", "Thresholds", "Does not measure"];
/// Bench targets that run no scenario: they measure the generator itself, and handshakes alone.
const NO_SCENARIO: [&str; 2] = ["generator", "handshake"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn names() -> BTreeSet<String> {
    ALL.iter().map(|entry| entry.name.to_owned()).collect()
}

/// Returns the names of the files in a folder that end so, without that end.
fn files(folder: &str, end: &str) -> BTreeSet<String> {
    let paths: Vec<PathBuf> = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    let names = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap());
    names.filter_map(|name| Some(name.strip_suffix(end)?.to_owned())).collect()
}

#[test]
fn entries_and_bench_targets_match() {
    let mut expected = names();
    assert_eq!(expected.len(), ALL.len(), "two entries have the same name");
    expected.extend(NO_SCENARIO.map(str::to_owned));
    assert_eq!(files("benches", ".rs"), expected, "benches/*.rs");
    let manifest = read("Cargo.toml");
    let targets = manifest.split("[[bench]]\n").skip(1).map(|section| section.split("\n[").next().unwrap());
    let targets: BTreeSet<String> = targets.map(|section| quoted(section, "name")).collect();
    assert_eq!(targets, expected, "[[bench]] in Cargo.toml");
}

/// Returns the value of a key of a TOML table that holds strings.
fn quoted(section: &str, key: &str) -> String {
    let value = section.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key} in {section}")).trim().trim_matches('"').to_owned()
}

#[test]
fn the_entries_name_exactly_the_seeds() {
    let named: BTreeSet<&str> = ALL.iter().flat_map(|entry| entry.seeds).copied().collect();
    assert_eq!(named, EMBEDDED.iter().map(|(name, _)| *name).collect(), "the seeds that the program carries");
    let files = files("seed", ".sql");
    assert_eq!(
        named,
        files.iter().map(|name| format!("{name}.sql")).collect::<Vec<_>>().iter().map(String::as_str).collect(),
        "seed/*.sql"
    );
    for (name, sql) in EMBEDDED {
        assert_eq!(sql, read(&format!("seed/{name}")), "seed/{name} is not what the program carries");
    }
}

#[test]
fn every_entry_has_a_description() {
    for entry in &ALL {
        assert!(entry.about.ends_with('.') && entry.about.len() > 20, "{}: {:?}", entry.name, entry.about);
    }
}

#[test]
fn the_readme_names_every_bench_target() {
    let readme = read("README.md");
    for name in names() {
        assert!(readme.contains(&name), "README.md does not name {name}");
    }
}

/// Returns the sections of a Markdown text below headings of this level, by heading.
fn sections(text: &str, heading: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    let mut current: Option<&mut String> = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix(heading) {
            let title = title.trim().trim_matches('`').to_owned();
            current = Some(sections.entry(title).or_insert_with(String::new));
        } else if let Some(section) = &mut current {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

/// Returns the section of an entry in docs/SCENARIOS.md.
fn section(entry: &BenchTarget) -> String {
    let sections = sections(&read("docs/SCENARIOS.md"), "## ");
    sections.get(entry.name).unwrap_or_else(|| panic!("docs/SCENARIOS.md has no section `## {}`", entry.name)).clone()
}

#[test]
fn every_scenario_is_documented() {
    for entry in &ALL {
        let subsections = sections(&section(entry), "### ");
        for title in SUBSECTIONS {
            let text = subsections.get(title).map_or("", |text| text.trim());
            assert!(!text.is_empty(), "docs/SCENARIOS.md: `### {title}` of {} is missing or empty", entry.name);
        }
    }
}

/// Returns the rows of the table `| measure | limit |` in a text.
fn rows(text: &str) -> Vec<(String, String)> {
    let cells = |line: &str| -> Option<(String, String)> {
        let (measure, limit) = line.trim().strip_prefix('|')?.strip_suffix('|')?.split_once('|')?;
        Some((measure.trim().to_owned(), limit.trim().to_owned()))
    };
    let rows = text.lines().filter_map(cells);
    let rows = rows.skip_while(|(measure, limit)| (measure.as_str(), limit.as_str()) != ("measure", "limit"));
    // The line below the header is dashes.
    rows.skip(2).collect()
}

/// Returns the thresholds in the code: measure and limit as the documents write them.
fn thresholds(entry: &BenchTarget) -> Vec<(String, String)> {
    let load = entry.load(&[]).unwrap();
    let several = load.workloads.len() > 1;
    let mut rows = Vec::new();
    for workload in &load.workloads {
        let prefix = if several { format!("{}: ", workload.name) } else { String::new() };
        for &threshold in &workload.thresholds {
            let (measure, limit) = written(threshold);
            rows.push((format!("{prefix}{measure}"), limit));
        }
    }
    rows.push(written(load.error_floor));
    rows
}

fn written(threshold: Threshold) -> (String, String) {
    let ms = |limit: std::time::Duration| format!("{} ms", limit.as_millis());
    let percent = |share: f64| format!("{}%", (share * 1e5).round() / 1e3);
    match threshold {
        Threshold::Response(quantile, limit) => (format!("response time {quantile}"), ms(limit)),
        Threshold::Step(step, quantile, limit) => (format!("{step} {quantile}"), ms(limit)),
        Threshold::Errors(share) => ("errors".to_owned(), percent(share)),
        Threshold::Faults(share) => ("errors but 429".to_owned(), percent(share)),
        Threshold::Opening(share) => ("failed attempts to connect".to_owned(), percent(share)),
    }
}

#[test]
fn documented_thresholds_match_the_code() {
    for entry in &ALL {
        let subsections = sections(&section(entry), "### ");
        let documented = rows(subsections.get("Thresholds").map_or("", String::as_str));
        assert_eq!(documented, thresholds(entry), "docs/SCENARIOS.md, thresholds of {}", entry.name);
    }
}

#[test]
fn a_markdown_table_is_parsed() {
    let text =
        "Before.\n\n| measure | limit |\n|---|---|\n| response time p95 | 500 ms |\n| errors | 0.1% |\n\nAfter.\n";
    let row = |measure: &str, limit: &str| (measure.to_owned(), limit.to_owned());
    assert_eq!(rows(text), [row("response time p95", "500 ms"), row("errors", "0.1%")]);
    assert_eq!(rows("| what | else |\n|---|---|\n| errors | 1% |\n"), []);
    let text = "# T\n## a\none\n### x\ntwo\n## `b`\n";
    assert_eq!(
        sections(text, "## "),
        BTreeMap::from([("a".to_owned(), "one\n### x\ntwo\n".to_owned()), ("b".to_owned(), String::new())])
    );
}

#[test]
fn flags_without_effect_are_refused() {
    for (name, flags, why) in [
        (
            "acme_burst",
            "--arrivals poisson",
            "--arrivals applies only to --rate and --rate-profile: users have no schedule",
        ),
        (
            "acme_flow",
            "--rate 100/s --think-time 2s",
            "--think-time does not apply to an open workload (--rate, --rate-profile)",
        ),
        ("acme_enroll", "--acme-ca /ca.pem", "--acme-ca applies only to --finalize: no certificate is fetched"),
        (
            "acme_enroll",
            "--rate 9/s --keys-ahead 9",
            "--keys-ahead does not apply to an open workload: its schedule says how many keys",
        ),
        ("acme_enroll", "--acme-server --profile p", "--profile does not apply to --acme-server"),
        ("acme_flow", "--directory /d --profile p", "--profile does not apply to --directory"),
        ("agent_storm", "--restart-within 3s", "--restart-within applies only to --fleet restart"),
        ("agent_storm", "--fleet real --restart-within 3s", "--restart-within applies only to --fleet restart"),
        ("bulk_renewal", "--workload rescan --batch-size 7", "--batch-size applies only to --workload enqueue"),
        ("bulk_renewal", "--workload sweep --batch-size 7", "--batch-size applies only to --workload enqueue"),
        ("bulk_renewal", "--workload sweep --rate 7/s", "--rate does not apply to --workload sweep"),
        ("agent_storm", "--fleet real --rate-profile ramp:1/s-2/s", "--rate-profile applies only to --fleet contract"),
        ("bulk_renewal", "--workload sweep --arrivals poisson", "--arrivals does not apply to --workload sweep"),
        ("bulk_renewal", "--workload sweep --connections 7", "--connections does not apply to --workload sweep"),
        ("bulk_renewal", "--workload sweep --duration 7s", "--duration does not apply to --workload sweep"),
        ("bulk_renewal", "--workload sweep --warm-up 7s", "--warm-up does not apply to --workload sweep"),
        ("agent_storm", "--insecure", "--insecure applies only to a running certctl, and none is named"),
        ("agent_storm", "--ca-file /ca.pem", "--ca-file applies only to a running certctl, and none is named"),
        ("api_tier", "--token t", "--token applies only to a running certctl, and none is named"),
        ("acme_flow", "--allow-remote", "--allow-remote applies only to a running certctl, and none is named"),
    ] {
        let entry = ALL.iter().find(|entry| entry.name == name).unwrap();
        let flags: Vec<&str> = flags.split(' ').collect();
        let Err(error) = entry.load(&flags) else { panic!("{name} takes {flags:?}") };
        assert!(error.to_string().contains(why), "{name} {flags:?}: {error}");
    }
    // Where they mean something, they are taken.
    for (name, flags) in [
        ("acme_burst", "--rate 100/s --arrivals poisson"),
        ("acme_enroll", "--finalize --users 2 --keys-ahead 9 --orders-per-account 1 --domain a.test"),
        ("acme_burst", "--rate-profile ramp:10/s-100/s --arrivals poisson --profile p"),
        ("agent_storm", "--fleet restart --restart-within 3s"),
        ("bulk_renewal", "--batch-size 2 --rate 4/s --duration 5s"),
        ("agent_storm", "--target https://h --insecure --token t --allow-remote"),
        ("agent_storm", "--database postgres://h/d --allow-remote"),
    ] {
        let entry = ALL.iter().find(|entry| entry.name == name).unwrap();
        assert!(entry.load(&flags.split(' ').collect::<Vec<_>>()).is_ok(), "{name} refuses {flags}");
    }
}

#[test]
fn every_bench_target_counts_allocations() {
    let counted = "#[global_allocator]\nstatic ALLOCATOR: Counting = Counting;\n";
    for path in names().into_iter().map(|name| format!("benches/{name}.rs")) {
        assert!(read(&path).contains(counted), "{path} does not count allocations");
    }
}

/// Returns the names of the tests in a source file.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('(').map(|(name, _)| name))
}

/// Adds the names of all tests below a folder.
fn test_names(folder: &Path, names: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            test_names(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(tests_in(&fs::read_to_string(&path).unwrap()).map(str::to_owned));
        }
    }
}

/// Returns the rows of tables whose last column is `test`: their first and their last cell.
fn promises(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for table in text.split("\n\n").filter(|table| table.trim_start().starts_with('|')) {
        let mut rows = table.trim().lines().map(|row| row.trim().trim_matches('|').split(" | ").collect::<Vec<_>>());
        if rows.next().is_some_and(|head| head.last().is_some_and(|last| last.trim() == "test")) {
            found.extend(rows.skip(1).map(|row| (row[0].trim(), row[row.len() - 1].trim())));
        }
    }
    found
}

#[test]
fn every_promise_names_existing_tests() {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests"] {
        test_names(&root().join(folder), &mut names);
    }
    let text = read("docs/RELIABILITY.md");
    let promises = promises(&text);
    assert!(!promises.is_empty(), "no promise is documented");
    for (promise, tests) in promises {
        let quoted: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!quoted.is_empty(), "no test: {promise}");
        for name in quoted {
            assert!(names.contains(name.rsplit("::").next().unwrap()), "no test `{name}`: {promise}");
        }
    }
}

/// Returns every Rust file below a folder, with its text.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// Returns the modules of the library in the order of the table in src/lib.rs, lowest first.
fn layers(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once('`').map(|(module, _)| module)).collect()
}

/// Returns the modules that a source file names as `crate::MODULE`, its tests left out.
fn imports(text: &str) -> BTreeSet<&str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next())
        .filter(|module| !module.is_empty())
        .collect()
}

#[test]
fn imports_go_one_way() {
    let lib = read("src/lib.rs");
    let layers = layers(&lib);
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(layers.iter().copied().collect::<BTreeSet<_>>(), declared, "the table in src/lib.rs");
    let rank = |module: &str| layers.iter().position(|layer| *layer == module);
    let mut upward = Vec::new();
    for (path, text) in rust_files("src") {
        let module = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        // src/lib.rs and src/main.rs are above all; two folders are programs of their own.
        let Some(own) = rank(module) else { continue };
        for imported in imports(&text).into_iter().filter(|imported| rank(imported) > Some(own)) {
            upward.push(format!("{} imports {imported}", path.display()));
        }
    }
    assert!(upward.is_empty(), "upward imports: {upward:#?}");
}

#[test]
fn imports_are_read_from_source() {
    let text = "use crate::wire::tls;\nfn f() { crate::run::g() }\n#[cfg(test)]\nmod tests { use crate::cli; }";
    assert_eq!(imports(text), BTreeSet::from(["run", "wire"]));
}

/// Words that open a question: a doc line that begins with one names no thing and states no action.
const INTERROGATIVES: [&str; 9] = ["What", "How", "Whether", "Where", "Who", "Whose", "Which", "Why", "When"];

/// Returns the number of doc comments in a source file, and those that begin with an interrogative.
fn doc_openings(text: &str) -> (usize, Vec<&str>) {
    let doc = |line: &'_ str| -> bool {
        let line = line.trim_start();
        line.starts_with("///") || line.starts_with("//!")
    };
    let mut count = 0;
    let mut found = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let is_doc = doc(line);
        let words = line.trim_start().trim_start_matches(['/', '!']).trim();
        if is_doc && !within {
            count += 1;
            let first = words.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default();
            if INTERROGATIVES.contains(&first) {
                found.push(words);
            }
        }
        // A blank doc line ends a paragraph: the next begins one.
        within = is_doc && !words.is_empty();
    }
    (count, found)
}

#[test]
fn few_doc_comments_begin_with_an_interrogative() {
    let (mut count, mut found) = (0, Vec::new());
    for folder in ["src", "tests", "benches"] {
        for (path, text) in rust_files(folder) {
            let (lines, questions) = doc_openings(&text);
            count += lines;
            found.extend(questions.into_iter().map(|line| format!("{}: {line}", path.display())));
        }
    }
    assert!(found.len() * 100 < count * 3, "{} of {count} doc comments: {found:#?}", found.len());
}

#[test]
fn openings_of_doc_comments_are_read() {
    let text = "//! What.\n\n/// How it is,\n/// when it is.\n///\n/// Where.\nfn f() {}\n/// A thing.\n";
    assert_eq!(doc_openings(text), (4, vec!["What.", "How it is,", "Where."]));
}

#[test]
fn no_two_public_types_have_the_same_name() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (path, text) in rust_files("src") {
        // Two folders are programs of their own.
        if path.starts_with("src/reference") || path.starts_with("src/f5_mock") {
            continue;
        }
        for line in text.lines() {
            let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
            let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { continue };
            let name = rest.split(|letter: char| !letter.is_alphanumeric()).next().unwrap();
            places.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    assert!(places.len() > 100, "types are found");
    places.retain(|_, paths| paths.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn test_names_have_at_most_60_characters() {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests"] {
        test_names(&root().join(folder), &mut names);
    }
    let long: Vec<_> = names.iter().filter(|name| name.len() > 60).collect();
    assert!(names.len() > 500 && long.is_empty(), "{long:#?}");
}
