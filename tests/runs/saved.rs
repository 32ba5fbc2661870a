//! Baselines saved by name, from a bench target's front door: as Criterion has them, for the workload.

use std::fs;
use std::path::Path;

use crate::common::bench::{Bench, Finished};
use tempfile::TempDir;

/// Enough answers for a verdict, however slow they are. Only an elevenfold change counts: other tests run at the same
/// time.
const RUN: &str = "--in-memory --agents 20 --rate 350/s --duration 3s --warm-up 200ms --noise-threshold 10";

struct Shelf(TempDir);

impl Shelf {
    fn bench(&self, arguments: &str, delay: &str) -> Bench {
        let bench = Bench::new(&format!("{RUN} {arguments}")).measured();
        let baselines = self.0.path().to_str().unwrap();
        bench.env("CERTCTL_BENCH_BASELINES", baselines).env("CERTCTL_REFERENCE_DELAY", delay)
    }

    fn run(&self, arguments: &str, delay: &str) -> Finished {
        self.bench(arguments, delay).run()
    }

    /// Returns the runs that are saved under a name, by number.
    fn saved(&self, name: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.path().join(name).join("agent_storm")) else { return Vec::new() };
        let entries = entries.map(|entry| entry.unwrap().path());
        let names = entries.filter(|run| run.join("summary.json").exists());
        let mut names: Vec<_> = names.map(|run| run.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn later_runs_are_compared_with_saved_runs() {
    let shelf = Shelf(TempDir::new().unwrap());
    let saved = shelf.run("--save-baseline main", "0ms").worked();
    assert!(saved.stdout.contains("saved        as main: "), "{}", saved.stdout);
    shelf.run("--save-baseline main --add-run", "0ms").worked();
    assert_eq!(shelf.saved("main"), ["1", "2"]);

    // On a busy machine equal runs may differ, and a slower one may be lost in their noise; tests of comparisons have
    // made-up runs. Whatever the verdict, the exit code agrees with it.
    for (flag, delay) in [("--baseline", "0ms"), ("--baseline-lenient", "60ms")] {
        let compared = shelf.run(&format!("{flag} main"), delay);
        let stdout = &compared.stdout;
        assert!(stdout.contains("against the baseline main\nagent_storm: base 2 runs, head 1 run"), "{stdout}");
        assert!(stdout.contains("agent_storm/response_p50_us"), "{stdout}");
        // A breach outranks a regression, and a quantile for which too few answers came.
        let verdicts = [("threshold breached", 3), ("regressed", 4), ("missing", 5)];
        let is_there =
            |(verdict, code): &(&str, i32)| stdout.contains(&format!("\nverdict      {verdict} (exit {code})"));
        let code = verdicts.into_iter().find(is_there).map_or(0, |(_, code)| code);
        assert_eq!(compared.code, Some(code), "{stdout}");
    }
    // A wrong load is neither red nor green, whatever else it is.
    let other = shelf.run("--baseline main --agents 30", "0ms").exits(5);
    assert!(other.stdout.contains("agent_storm/clients: 20 against 30"), "{}", other.stdout);
    assert_eq!(shelf.saved("main"), ["1", "2"], "comparing saves nothing");

    shelf.run("--save-baseline main", "0ms").worked();
    assert_eq!(shelf.saved("main"), ["1"], "saving replaces");
}

#[test]
fn unusable_baseline_flags_are_refused_before_the_load() {
    let shelf = Shelf(TempDir::new().unwrap());
    for (arguments, message) in [
        ("--baseline main", "no baseline of agent_storm is saved as main"),
        ("--save-baseline ../main", "`../main` is not a valid name of a baseline"),
        ("--save-baseline main --baseline main", "cannot be used with"),
        ("--add-run", "--save-baseline"),
        ("--baseline main --noise-threshold much", "5% or 0.05"),
    ] {
        let refused = shelf.bench(arguments, "0ms").refused(2);
        assert!(refused.stderr.contains(message), "{arguments}: {}", refused.stderr);
        assert!(!refused.stderr.contains("measuring"), "{arguments}: {}", refused.stderr);
    }
    // A baseline that may be missing does not stop the run.
    let lenient = shelf.run("--baseline-lenient main", "0ms").worked();
    assert!(lenient.stderr.contains("nothing is compared"), "{}", lenient.stderr);
    // A smoke run measures nothing that could be saved.
    let smoke = Bench::new("--in-memory --save-baseline main").smoke();
    smoke.env("CERTCTL_BENCH_BASELINES", shelf.0.path().to_str().unwrap()).run().exits(0);
    assert!(!Path::new(shelf.0.path()).join("main").exists());
}
