//! `certctl-bench run`: the programs as `cargo install` leaves them, without a checkout around them.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::bench::{Bench, clean};
use crate::common::process::copy_program;
use crate::common::reference::Reference;

/// A small fleet at a server of its own.
const FLEET: &str = "--in-memory --agents 40 --rate 100/s --duration 1s --connect-rate 1000/s";
/// Criterion's loop, cut short.
const LOOP: &str = "--warm-up-time 0.1 --measurement-time 0.2 --sample-size 10 --noplot";

/// Programs in a folder of their own.
struct Installed(TempDir);

impl Installed {
    fn new(programs: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            copy_program(program, &folder.path().join(Path::new(program).file_name().unwrap()));
        }
        Self(folder)
    }

    /// Installs all programs of the suite.
    fn suite() -> Self {
        let suite = [env!("CARGO_BIN_EXE_certctl-bench"), env!("CARGO_BIN_EXE_certctl-reference")];
        Self::new(&[suite[0], suite[1], env!("CARGO_BIN_EXE_f5-mock")])
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("certctl-bench")
    }

    /// Returns the bench target with these arguments, in this folder.
    fn run(&self, arguments: &str) -> Bench {
        let mut bench = Bench::of(&self.program(), &format!("run {arguments}"));
        bench.command.current_dir(self.0.path());
        bench
    }
}

/// Runs the program that was built, for what needs no load.
fn output(arguments: &str) -> Output {
    let mut command = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
    command.args(arguments.split_whitespace()).output().unwrap()
}

fn stdout_of(arguments: &str) -> String {
    let output = output(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_without_a_checkout_measures_with_its_loop() {
    let installed = Installed::suite();
    let mut bench = installed.run(&format!("agent_storm {FLEET} {LOOP} --generator-processes 2"));
    bench.command.env_remove("CERTCTL_BENCH_OUTPUT");
    let done = bench.run();
    // Results are below the folder in which it was run.
    let results = installed.0.path().join("target/certctl-bench/agent_storm");
    assert!(matches!(done.code, Some(0 | 3 | 5)), "{}\n{}", done.stderr, done.stdout);
    assert!(done.stdout.contains("agent_storm/heartbeat/") && done.stdout.contains("time:   ["), "{}", done.stdout);
    let summary: Value = serde_json::from_str(&read_to_string(results.join("summary.json")).unwrap()).unwrap();
    assert_ne!(summary["verdict"], "smoke", "it measures");
    assert_eq!(summary["shards"]["shards"].as_array().unwrap().len(), 2);
    let measured = &summary["workloads"][0]["results"];
    assert_eq!(measured["arrivals"]["scheduled"], 100);
    assert!(measured["work"][0]["claimed"].as_u64() > Some(0), "{measured}");
}

#[test]
fn a_run_takes_the_flags_of_cargo_bench() {
    let server = Reference::start(&[]);
    let installed = Installed::suite();
    let measured = installed.run("agent_storm --agents 40 --rate 100/s --duration 1s --mode sustained");
    let summary = measured.towards_reference(&server).run().worked().summary();
    assert_eq!(summary["workloads"][0]["plan"]["connections"], 40);
    assert!(summary["generator"]["allocations"].as_u64() > Some(0), "{}", summary["generator"]);
    // With --test it is a smoke run, which takes nothing from the environment.
    let smoke = installed.run("agent_storm --test --in-memory").smoke().run().exits(0);
    assert_eq!(smoke.summary()["verdict"], "smoke");
    let refused = installed.run("agent_storm --rat 5/s").refused(2);
    assert!(refused.stderr.contains("Usage: certctl-bench run agent_storm"), "{}", refused.stderr);
    let listed = installed.run("api_tier --list").refused(0);
    assert!(listed.stdout.contains("api_tier/sustained: benchmark\n"), "{}", listed.stdout);
}

#[test]
fn handshake_loops_run_from_the_verb() {
    let installed = Installed::suite();
    let id = "handshake/both/tls13/ecdsa-p256/x25519/full/no-client-auth";
    let done = installed.run(&format!("handshake --test --exact {id}")).run().exits(0);
    assert!(done.stdout.contains(&format!("Testing {id}\nSuccess")), "{}", done.stdout);
}

#[test]
fn a_missing_server_program_is_named_with_the_fix() {
    let installed = Installed::new(&[env!("CARGO_BIN_EXE_certctl-bench")]);
    let refused = installed.run(&format!("agent_storm {FLEET} --mode sustained")).refused(1);
    let missing = installed.0.path().join("certctl-reference");
    let message = format!("error: starting the reference server: there is no {}\nhint: ", missing.display());
    assert!(refused.stderr.contains(&message) && refused.stderr.contains("`cargo install`"), "{}", refused.stderr);
    let refused = installed.run("connector_tier --only f5 --rate 10/s --duration 1s").refused(1);
    assert!(refused.stderr.contains("error: starting the F5 mock: there is no "), "{}", refused.stderr);
}

#[test]
fn help_names_the_verb_and_every_bench_target() {
    let all = stdout_of("run --help");
    let words = all.split_whitespace().collect::<Vec<_>>().join(" ");
    for entry in &certctl_bench::cli::registry::ALL {
        assert!(all.contains(&format!("  {} ", entry.name)), "{}: {all}", entry.name);
    }
    assert!(all.contains("  handshake ") && words.contains("`generator` is no part of it"), "{all}");
    let of_one = stdout_of("run agent_storm --help");
    assert!(of_one.contains("Usage: certctl-bench run agent_storm [OPTIONS]"), "{of_one}");
    assert!(of_one.contains("--generator-processes") && !of_one.contains("cargo bench --bench"), "{of_one}");
    assert!(stdout_of("run handshake --help").contains("Usage: certctl-bench run handshake [OPTIONS]"));
    assert!(stdout_of("run revocation --version").starts_with("revocation 0."));
    let unknown = output("run agent_strom --rate 1/s");
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(2) && said.contains("'agent_storm'"), "{said}");
    assert_eq!(output("run").status.code(), Some(2));
}
