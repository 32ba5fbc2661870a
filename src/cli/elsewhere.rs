//! The machine of a Criterion loop's results: it is part of their id, so that those of another machine are never
//! compared, and this is reported.

use std::fs;
use std::path::{Path, PathBuf};

use crate::baseline::workload::short_hash;
use crate::measure::machine::Machine;

/// The name under which Criterion keeps the last results where none is given.
const UNNAMED: &str = "base";

/// Returns the loop's system as its id names it: the system under test, and a hash of the generator's machine.
pub fn id(system: &str, machine: &Machine) -> String {
    let Machine { cpu_model, cpu_part, microcode, cores, memory_bytes, virtualisation, .. } = machine;
    let gib = (*memory_bytes as f64 / f64::from(1 << 30)).round();
    let place = format!("{cpu_model}\n{cpu_part:?}\n{microcode:?}\n{cores}\n{gib}\n{virtualisation}");
    format!("{system}-{}", &short_hash(&place)[..6])
}

/// Returns the folder in which Criterion keeps results; `results` is this suite's folder, in the same build folder.
pub fn home(results: &Path) -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("CRITERION_HOME")
        .or_else(|| variable("CARGO_TARGET_DIR").map(|target| target.join("criterion")))
        .unwrap_or_else(|| results.with_file_name("criterion"))
}

/// Returns the reason for which the loop of a step is not compared with the results saved under `name`: there are some,
/// but only of other systems or machines.
pub fn incomparable(home: &Path, scenario: &str, step: &str, id: &str, name: Option<&str>) -> Option<String> {
    let name = name.unwrap_or(UNNAMED);
    let folder = home.join(scenario).join(step);
    let others = fs::read_dir(&folder).into_iter().flatten().flatten();
    let saved = |folder: &Path| folder.join(name).join("estimates.json").exists();
    if saved(&folder.join(id)) {
        return None;
    }
    let mut others: Vec<String> = others
        .filter(|other| saved(&other.path()))
        .map(|other| crate::files::shown(Path::new(&other.file_name())))
        .collect();
    others.sort();
    (!others.is_empty()).then(|| {
        format!(
            "{scenario}/{step}: the results saved as {name} are of {}, not of {id}: the loop is not compared",
            others.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_another_machine_are_named_and_not_compared() {
        let home = tempfile::tempdir().unwrap();
        let message = |id: &str, name| incomparable(home.path(), "storm", "beat", id, name);
        assert_eq!(message("certctl-aaaaaa", None), None, "nothing is saved at all");
        let base = home.path().join("storm/beat/certctl-aaaaaa/base");
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("estimates.json"), "{}").unwrap();
        assert_eq!(message("certctl-aaaaaa", None), None);
        assert_eq!(message("certctl-bbbbbb", Some("main")), None);
        let why = message("certctl-bbbbbb", None).unwrap();
        assert!(why.contains("of certctl-aaaaaa, not of certctl-bbbbbb: the loop is not compared"), "{why}");
    }

    #[test]
    fn another_processor_has_another_id() {
        let machine = Machine::this();
        let mut other = machine.clone();
        other.microcode = Some("0x2a".to_owned());
        assert_eq!(id("certctl", &machine), id("certctl", &machine.clone()));
        assert_ne!(id("certctl", &machine), id("certctl", &other));
    }
}
