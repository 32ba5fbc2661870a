//! The scripts and pages for a shell: completions, which bash evaluates, and manual pages, which groff formats.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use certctl_bench::cli::registry::ALL;

use crate::common::bench::clean;
use crate::common::needs::needs;

fn certctl_bench(arguments: &[&str]) -> Output {
    clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench"))).args(arguments).output().unwrap()
}

fn completions(shell: &str) -> String {
    let output = certctl_bench(&["completions", shell]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the words that bash offers for the last of these.
fn offered(script: &Path, words: &[&str]) -> BTreeSet<String> {
    const COMPLETE: &str = r#"
        script=$1; shift
        . "$script" || exit
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        function=$(complete -p certctl-bench | sed 's/.* -F \([^ ]*\) .*/\1/')
        "$function" certctl-bench "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["-c", COMPLETE, "bash"]).arg(script).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_targets_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("certctl-bench.bash");
    fs::write(&script, completions("bash")).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
    let offered = |words: &[&str]| offered(&script, words);
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(offered(&["certctl-bench", "du"]), set(&["duet"]));
    assert_eq!(offered(&["certctl-bench", "run", "acme"]), set(&["acme_burst", "acme_enroll", "acme_flow"]));
    assert_eq!(offered(&["certctl-bench", "run", "agent_storm", "--fl"]), set(&["--fleet"]));
    assert_eq!(offered(&["certctl-bench", "run", "agent_storm", "--fleet", ""]), set(&["contract", "real", "restart"]));
    assert_eq!(offered(&["certctl-bench", "report", "--format", "h"]), set(&["html"]));
}

#[test]
fn every_shell_has_a_script_with_every_bench_target() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = completions(shell);
        for entry in &ALL {
            assert!(script.contains(entry.name), "{shell}: {}", entry.name);
        }
        assert!(script.contains("generator-processes"), "{shell}");
    }
    let refused = certctl_bench(&["completions", "csh"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("zsh"));
}

/// Writes the pages, and returns their folder.
fn pages() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = certctl_bench(&["man", folder.path().join("man1").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

#[test]
fn each_verb_and_bench_target_has_a_manual_page() {
    let folder = pages();
    let page = |name: &str| {
        fs::read_to_string(folder.path().join("man1").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    for verb in ["run", "duet", "capacity", "report", "init-ci", "completions", "man", "doctor"] {
        assert!(page("certctl-bench.1").contains(&verb.replace('-', "\\-")), "{verb}");
        assert!(page(&format!("certctl-bench-{verb}.1")).contains(".SH SYNOPSIS"), "{verb}");
    }
    for entry in &ALL {
        let text = page(&format!("certctl-bench-run-{}.1", entry.name));
        assert!(text.contains("generator\\-processes") && text.contains("Exit codes: 0 pass"), "{}", entry.name);
    }
    page("certctl-bench-run-handshake.1");
    let refused = certctl_bench(&["man", "/proc/no/folder"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("error: making the folder /proc/no/folder: "));
}

#[test]
fn groff_formats_the_manual_pages_without_warning() {
    if let Err(error) = Command::new("groff").arg("--version").output() {
        needs!(else &format!("groff: {error} (install groff)"));
    }
    let folder = pages();
    let mut count = 0;
    for entry in fs::read_dir(folder.path().join("man1")).unwrap() {
        let path = entry.unwrap().path();
        let output =
            Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z", "-K", "utf8"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
        count += 1;
    }
    assert!(count > 20, "{count}");
}
