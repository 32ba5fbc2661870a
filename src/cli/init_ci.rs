//! `certctl-bench init-ci`: writes the workflows of `docs/CI.md` and of this repository into another repository, and
//! names the suite there by its commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::invocation;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::terminal::outln;

const PAGE: &str = include_str!("../../docs/CI.md");
const LOAD_TEST: &str = include_str!("../../.github/workflows/loadtest.yml");
/// The words of the page that stand for the suite's repository, and for its commit.
const PLACE: &str = "OWNER/certctl-bench/";
const PIN: &str = "@COMMIT\n";
/// The workflow of the page that is a whole file.
const DUET_BEGINS: &str = "```yaml\nname: duet\n";
/// The step of a checkout, to which the suite's repository is added.
const CHECKOUT: &str = "          persist-credentials: false\n";
/// The record of the programs that Cargo has installed, one folder above them.
const INSTALLED: &str = ".crates.toml";
/// The largest file that is read.
const MOST_BYTES: u64 = 1024 * 1024;

/// Flags of `certctl-bench init-ci`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Writes .github/workflows/certctl-bench-duet.yml, which compares each pull request with its base, and \
                        certctl-bench-loadtest.yml, which loads certctl's image each week.\n\
                        Exit codes: 0 done, 1 could not write, 2 usage: a file that was changed is in the way."
)]
pub struct InitCiFlags {
    /// The repository to write into: its root.
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// The suite that the workflows use, by its whole commit [default: that from which `cargo install --git` has
    /// installed this program].
    #[arg(long, value_name = "OWNER/NAME@COMMIT")]
    suite: Option<Suite>,
    /// Overwrite workflows that were changed.
    #[arg(long)]
    force: bool,
}

/// A repository on GitHub, at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Suite {
    /// OWNER/NAME.
    repository: String,
    commit: String,
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: write it as OWNER/NAME@COMMIT, with all 40 digits of the commit");
        let (repository, commit) = text.split_once('@').ok_or_else(wrong)?;
        let (owner, name) = repository.split_once('/').ok_or_else(wrong)?;
        let is_name = |name: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !name.is_empty() && !name.starts_with('.') && name.bytes().all(letter)
        };
        let is_commit = commit.len() == 40 && commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_valid = is_name(owner) && is_name(name) && is_commit;
        is_valid.then(|| Self { repository: repository.to_owned(), commit: commit.to_owned() }).ok_or_else(wrong)
    }
}

/// Writes the workflows, and prints what is left to do.
///
/// # Errors
/// If the folder is no repository, the suite's commit is not known, or a changed file is in the way (kind `Usage`).
pub fn run(flags: &InitCiFlags) -> Result<()> {
    let folder = &flags.folder;
    if !folder.join(".git").exists() {
        return Err(Error::usage(format!("{} is not the root of a repository: it has no .git", files::shown(folder)))
            .with_hint("name the root: certctl-bench init-ci FOLDER"));
    }
    let suite = match &flags.suite {
        Some(suite) => suite.clone(),
        None => installed_from().ok_or_else(|| {
            Error::usage("the suite's repository and commit are not known: `cargo install --git` did not install this")
                .with_hint("give them: --suite OWNER/NAME@COMMIT")
        })?,
    };
    let within = folder.join(".github/workflows");
    let wanted = workflows(&suite)?.map(|(name, text)| (within.join(name), text));
    // All of them before the first is written.
    let mut is_there = Vec::new();
    for (path, text) in &wanted {
        let found = if path.exists() { Some(read(path)?) } else { None };
        if found.as_ref().is_some_and(|found| found != text) && !flags.force {
            return Err(Error::usage(format!("{} is there already, and differs", files::shown(path)))
                .with_hint("keep it, or overwrite it with --force"));
        }
        is_there.push(found.is_some_and(|found| found == *text));
    }
    fs::create_dir_all(&within).context(|| format!("making the folder {}", files::shown(&within)))?;
    for ((path, text), is_there) in wanted.iter().zip(is_there) {
        if !is_there {
            files::write(path, text)?;
        }
        outln!("{:<10} {}", if is_there { "unchanged" } else { "written" }, files::shown(path));
    }
    outln!(
        "\nThe suite is {} at {}.\n\n\
         To do:\n\
         - read both, and commit them; the duet builds certctl by `go build ./cmd/server`\n\
         - allow the workflows of {0}, if it is private: its Settings, Actions, General, Access\n\
         - allow the actions that they use, if the organisation lists those that may run\n\
         - for another image or setting of the load test, run it by hand, or change its `env`\n\
         Nothing needs a secret. A newer suite: certctl-bench init-ci --suite OWNER/NAME@COMMIT --force",
        suite.repository,
        suite.commit
    );
    Ok(())
}

/// Returns the workflows, by the names of their files.
fn workflows(suite: &Suite) -> Result<[(&'static str, String); 2]> {
    let Suite { repository, commit } = suite;
    let version = env!("CARGO_PKG_VERSION");
    let duet = PAGE.split_once(DUET_BEGINS).and_then(|(_, rest)| rest.split_once("```\n"));
    let (duet, _) = duet.ok_or_else(|| Error::new("docs/CI.md has no workflow of the duet"))?;
    let duet = duet.replace(PLACE, &format!("{repository}/")).replace(PIN, &format!("@{commit} # v{version}\n"));
    let checkout = format!("{CHECKOUT}          repository: {repository}\n          ref: {commit} # v{version}\n");
    let (_, load_test) = LOAD_TEST.split_once('\n').unwrap_or_default();
    let load_test = load_test.replace(CHECKOUT, &checkout);
    let written = "# Written by `certctl-bench init-ci`";
    Ok([
        (
            "certctl-bench-duet.yml",
            format!("{written}: each pull request is compared with its base.\nname: certctl-bench duet\n{duet}"),
        ),
        (
            "certctl-bench-loadtest.yml",
            format!("{written}: the suite is checked out, and loads certctl's image each week.\n{load_test}"),
        ),
    ])
}

fn read(path: &Path) -> Result<String> {
    files::read_text(path, MOST_BYTES).context(|| format!("reading {}", files::shown(path)))
}

/// Returns the repository and the commit from which Cargo has installed this program.
fn installed_from() -> Option<Suite> {
    let record = invocation::beside("..").ok()?.join(INSTALLED);
    recorded(&read(&record).ok()?)
}

/// Finds this program in Cargo's record: `"certctl-bench 0.1.0 (git+https://github.com/OWNER/NAME?rev=…#COMMIT)" = […]`.
fn recorded(record: &str) -> Option<Suite> {
    let package = concat!("\"", env!("CARGO_PKG_NAME"), " ");
    let line = record.lines().find(|line| line.starts_with(package))?;
    let (url, commit) = line.split_once("(git+https://github.com/")?.1.split_once(")\"")?.0.split_once('#')?;
    let repository = url.split('?').next()?.trim_end_matches('/').trim_end_matches(".git");
    format!("{repository}@{commit}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_suite_is_a_repository_at_a_whole_commit() {
        let parsed = |text: &str| text.parse::<Suite>().ok();
        let suite = Suite { repository: "a-b/c.d_e".to_owned(), commit: COMMIT.to_owned() };
        assert_eq!(parsed(&format!("a-b/c.d_e@{COMMIT}")), Some(suite));
        for wrong in ["", "a/b", "a/b@main", "a@", "/b@", "a/../b@", "a/b c@", "a/b#@", "a/b\n@", "../b@"] {
            assert_eq!(parsed(&format!("{wrong}{COMMIT}")), None, "{wrong:?}");
        }
        assert_eq!(parsed(&format!("a/b@{}", &COMMIT[1..])), None);
    }

    #[test]
    fn the_origin_is_read_from_cargos_record() {
        let found = |source: &str| {
            let record =
                format!("[v1]\n\"other 1.0.0 (path+file:///a)\" = [\"b\"]\n\"certctl-bench 0.1.0 ({source})\" = []\n");
            recorded(&record)
        };
        let suite = Some(Suite { repository: "a/b".to_owned(), commit: COMMIT.to_owned() });
        assert_eq!(found(&format!("git+https://github.com/a/b?rev={}#{COMMIT}", &COMMIT[..7])), suite);
        assert_eq!(found(&format!("git+https://github.com/a/b.git#{COMMIT}")), suite);
        assert_eq!(found("path+file:///home/a/b"), None);
        assert_eq!(found(&format!("git+https://example.org/a/b#{COMMIT}")), None);
        assert_eq!(recorded(""), None);
    }

    #[test]
    fn the_suite_is_named_in_every_place() {
        let suite = Suite { repository: "a/b".to_owned(), commit: COMMIT.to_owned() };
        let [(_, duet), (_, load_test)] = workflows(&suite).unwrap();
        let pinned = format!("uses: a/b/.github/workflows/certctl-duet.yml@{COMMIT} # v");
        assert!(duet.contains(&pinned) && !duet.contains("OWNER") && !duet.contains("@COMMIT"), "{duet}");
        let checkouts = load_test.matches("uses: actions/checkout@").count();
        let named = format!("          repository: a/b\n          ref: {COMMIT} # v");
        assert!(checkouts > 0 && load_test.matches(&named).count() == checkouts, "{load_test}");
    }
}
