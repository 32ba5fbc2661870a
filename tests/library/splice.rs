//! Tables in documents, made of committed baselines: from the program's front door, and those of this repository.

use std::fs::{create_dir_all, read_to_string, remove_file, write};
use std::path::Path;
use std::process::Command;

use crate::common::runs::Made;
use certctl_bench::baseline::bless;
use certctl_bench::summary::Summary;
use certctl_bench::summary::plan::ConnectionUse;
use tempfile::TempDir;

/// Returns five runs; if `connecting`, each arrival opened a connection of its own.
fn runs(connecting: bool) -> Vec<(String, Summary)> {
    let one = |(number, slowness)| {
        let mut summary = Made { slowness, number, ..Made::default() }.summary();
        if connecting {
            summary.workloads[0].plan.affinity = ConnectionUse::PerArrival;
            summary.workloads[0].plan.title = "nginx: connections; full TLS handshakes".to_owned();
        }
        (format!("run {number}"), summary)
    };
    (1..).zip([1.0, 1.012, 0.991, 1.004, 0.996]).map(one).collect()
}

const DOCUMENT: &str = "# Figures\n\n<!-- splice: latency baselines/here -->\nold\n<!-- splice: end -->\n\
    between\n<!-- splice: counts baselines/here/agent_storm.json -->\n<!-- splice: end -->\n\
    <!-- splice: phases baselines/connectors.json -->\n<!-- splice: end -->\n\
    <!-- splice: picture phases.svg baselines/connectors.json -->\n<!-- splice: end -->\n    <!-- splice: quoted -->\nend";

struct Repository(TempDir);

impl Repository {
    fn new(document: &str) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, connecting) in [("baselines/here/agent_storm.json", false), ("baselines/connectors.json", true)] {
            let path = folder.path().join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            bless::write(&bless::bless(&runs(connecting)).unwrap(), &path).unwrap();
        }
        create_dir_all(folder.path().join("docs")).unwrap();
        write(folder.path().join("README.md"), "nothing of the kind\n").unwrap();
        let repository = Self(folder);
        repository.write(document);
        repository
    }

    fn write(&self, document: &str) {
        write(self.0.path().join("docs/FIGURES.md"), document).unwrap();
    }

    fn document(&self) -> String {
        read_to_string(self.0.path().join("docs/FIGURES.md")).unwrap()
    }

    /// Returns the output of `certctl-bench splice` with these arguments.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> String {
        splice(self.0.path(), arguments, code)
    }
}

#[track_caller]
fn splice(folder: &Path, arguments: &[&str], code: i32) -> String {
    let program = env!("CARGO_BIN_EXE_certctl-bench");
    let output = Command::new(program).arg("splice").args(arguments).current_dir(folder).output().unwrap();
    let text = [&output.stdout, &output.stderr].map(|part| String::from_utf8_lossy(part).into_owned()).concat();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[test]
fn only_tables_and_pictures_are_updated() {
    let repository = Repository::new(DOCUMENT);
    assert!(repository.run(&["--check"], 1).contains("docs/FIGURES.md"));
    assert_eq!(repository.document(), DOCUMENT, "checking changes nothing");
    repository.run(&[], 0);
    let spliced = repository.document();
    insta::assert_snapshot!(spliced);
    let picture = repository.0.path().join("docs/phases.svg");
    let drawn = read_to_string(&picture).unwrap();
    assert!(drawn.contains("nginx: connections") || drawn.contains("first byte"), "{drawn}");

    // A second time nothing changes.
    repository.run(&[], 0);
    assert_eq!((repository.document(), read_to_string(&picture).unwrap()), (spliced.clone(), drawn.clone()));
    repository.run(&["--check"], 0);

    // A figure that was edited, or a picture that is missing, is stale.
    let touched = spliced.replacen("| full | ", "| full | 1", 1);
    assert_ne!(touched, spliced);
    repository.write(&touched);
    repository.run(&["--check", "docs/FIGURES.md"], 1);
    repository.run(&["docs/FIGURES.md"], 0);
    assert_eq!(repository.document(), spliced);
    remove_file(&picture).unwrap();
    assert!(repository.run(&["--check"], 1).contains("phases.svg"));
    repository.run(&[], 0);
    assert_eq!(read_to_string(&picture).unwrap(), drawn);
}

#[test]
fn crlf_line_ends_are_kept() {
    let marker = "# Figures\r\n<!-- splice: latency baselines/here -->\r\n<!-- splice: end -->\r\n";
    let repository = Repository::new(marker);
    repository.run(&["docs/FIGURES.md"], 0);
    let document = repository.document();
    assert!(document.lines().count() > 5 && document.replace("\r\n", "").find('\n').is_none(), "{document:?}");
    let output = repository.run(&["--check", "docs/FIGURES.md"], 0);
    assert!(output.contains("up to date   1 document\n"), "{output}");
}

#[test]
fn a_wrong_marker_is_named() {
    for (marker, message) in [
        ("<!-- splice: latency baselines/here -->\nno end", "no end"),
        (
            "<!-- splice: latency baselines/here -->\n<!-- splice: counts baselines/here -->\n<!-- splice: end -->",
            "no end",
        ),
        ("<!-- splice: end -->", "this end marker has no start marker before it"),
        ("<!-- splice: latency -->\n<!-- splice: end -->", "no baseline is named"),
        ("<!-- splice: latency docs -->\n<!-- splice: end -->", "no baseline is named or found"),
        ("<!-- splice: latency baselines/gone.json -->\n<!-- splice: end -->", "baselines/gone.json"),
        ("<!-- splice: weather baselines/here -->\n<!-- splice: end -->", "not a known kind of table or picture"),
        (
            "<!-- splice: picture ../x.svg baselines/here -->\n<!-- splice: end -->",
            "not a known kind of table or picture",
        ),
    ] {
        let repository = Repository::new(&format!("# Figures\n{marker}\n"));
        let output = repository.run(&[], 2);
        assert!(output.contains("docs/FIGURES.md line 2") && output.contains(message), "{marker}: {output}");
    }
    let repository = Repository::new("");
    assert!(repository.run(&["gone.md"], 2).contains("reading gone.md"));
}

#[test]
fn documents_agree_with_the_baselines() {
    splice(Path::new(env!("CARGO_MANIFEST_DIR")), &["--check"], 0);
}

/// Returns the flags with which a scenario's committed baseline was run, as docs/BASELINES.md states them.
fn flags_of<'d>(document: &'d str, scenario: &str) -> &'d str {
    let row = format!("| `{scenario}` | `");
    let row = document.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_else(|| panic!("no row {row}"));
    row.split('`').next().unwrap()
}

#[test]
fn documents_state_the_flags_of_the_baselines() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/BASELINES.md")).unwrap();
    let mut seen = 0;
    for folder in std::fs::read_dir(root.join("baselines")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let baseline = certctl_bench::baseline::source::baseline(&path).unwrap();
            let flags: Vec<&str> = flags_of(&document, &baseline.scenario).split(' ').collect();
            let flag = |name: &str| flags.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
            let window = flag("--duration").map(|text| humantime_s(text).to_string());
            // A workload that begins within another's window has a shorter one.
            let windows = baseline.workload.properties.iter().filter(|(name, _)| name.ends_with("/window_s"));
            let longest = windows.map(|(_, value)| value.parse::<u64>().unwrap()).max();
            assert_eq!(longest.map(|longest| longest.to_string()), window, "{}", path.display());
            for (name, value) in &baseline.workload.properties {
                if name.ends_with("/rate_per_s")
                    && let Some(rate) = flag("--rate")
                {
                    assert_eq!(rate, format!("{value}/s"), "{}: {name}", path.display());
                }
            }
            seen += 1;
        }
    }
    assert!(seen > 0, "no baseline is committed");
}

/// Returns the seconds of `30s` or `1m`.
fn humantime_s(text: &str) -> u64 {
    certctl_bench::cli::common_flags::duration(text).unwrap().as_secs()
}

#[test]
fn committed_baselines_are_as_the_suite_writes_them() {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    for path in files.map(|file| file.unwrap().path()) {
        let text = certctl_bench::baseline::source::baseline(&path).unwrap().to_text().unwrap();
        assert!(text == read_to_string(&path).unwrap(), "{}", path.display());
    }
}
