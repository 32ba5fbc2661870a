//! The harness that measures the generator beside other tools (`tools/cost`): its pure part, and the tables that it made
//! of docs/PERFORMANCE.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::needs::needs;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn python(arguments: &[&str]) -> Output {
    Command::new("python3").args(arguments).current_dir(root()).output().unwrap()
}

/// Returns the tables that the harness makes of the committed result.
fn tables() -> String {
    let output = python(&["tools/cost/run", "table", "docs/performance.json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_cost_harness_reads_and_calculates_as_it_should() {
    needs!(Python);
    let output = python(&["tools/cost/test_result.py"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("\nOK"), "{text}");
}

#[test]
fn the_document_has_the_tables_of_the_cost_harness() {
    needs!(Python);
    let (document, tables) = (read("docs/PERFORMANCE.md"), tables());
    for part in tables.split("\n\n") {
        assert!(document.contains(part.trim_end()), "docs/PERFORMANCE.md should have\n{part}");
    }
}

#[test]
fn every_tool_of_the_performance_table_has_a_version() {
    let result: Value = serde_json::from_str(&read("docs/performance.json")).unwrap();
    let versions = result["about"]["versions"].as_object().unwrap();
    let rounds = result["rounds"].as_array().unwrap();
    // The floor is part of the harness.
    let tools = rounds.iter().map(|round| round["tool"].as_str().unwrap()).filter(|tool| !tool.starts_with("floor"));
    let tools: BTreeSet<&str> = tools.collect();
    for tool in ["certctl-bench", "openssl s_time", "oha", "wrk"] {
        assert!(tools.contains(tool), "{tool} was not measured");
    }
    for tool in tools {
        let name = tool.split(' ').next().unwrap();
        let version = versions.get(name).and_then(Value::as_str).unwrap_or_default();
        assert!(!version.is_empty() && version != "unknown", "no version of {tool}");
    }
    // A figure of one round says nothing about its own scatter.
    let most = rounds.iter().filter_map(|round| round["round"].as_u64()).max();
    assert!(most >= Some(3), "{most:?} rounds");
}

#[test]
fn wrong_flags_of_the_cost_harness_are_usage_errors() {
    needs!(Python);
    for (flags, why) in [
        (&["tools/cost/run", "--rows", "opened"][..], "--rows: there is no opened"),
        (&["tools/cost/run", "--rounds", "0"], "--rounds must be at least 1"),
        (&["tools/cost/run", "table"], "`table` needs a file"),
    ] {
        let output = python(flags);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && text.contains(why), "{flags:?}: {text}");
    }
}
