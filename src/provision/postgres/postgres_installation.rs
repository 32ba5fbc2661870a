//! The server programs of an installed PostgreSQL: the newest that is new enough.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// The environment variable that names the folder of PostgreSQL's server programs.
pub const BIN_VARIABLE: &str = "CERTCTL_BENCH_PG_BIN";
/// The oldest version with `NULLS NOT DISTINCT`, which certctl's schema needs.
pub const OLDEST_MAJOR: u32 = 15;

/// The server programs of a PostgreSQL that is new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresInstallation {
    /// The folder of `postgres` and `initdb`.
    pub bin: PathBuf,
    /// The version that `postgres --version` prints, such as `15.14 (Debian 15.14-0+deb12u1)`.
    pub version: String,
}

impl PostgresInstallation {
    /// Reports whether `pg_stat_statements` can be preloaded: a server that preloads a missing library does not start.
    /// Some distributions have it in a package of its own.
    pub fn has_statement_statistics(&self) -> bool {
        let configured = output(&self.bin.join("pg_config"), "--pkglibdir").map(PathBuf::from);
        let guessed = ["../lib", "../lib/postgresql", "../lib64/pgsql"].map(|lib| self.bin.join(lib));
        configured.into_iter().chain(guessed).any(|lib| lib.join("pg_stat_statements.so").is_file())
    }
}

/// Finds PostgreSQL 15 or newer: in `CERTCTL_BENCH_PG_BIN` alone if that is set, else in `PATH`, in the folder that
/// `pg_config` prints, and in the usual folders, newest first.
///
/// An error of kind `CouldNotRun` means that there is none: a caller may go on without, and give the error as its
/// reason (it lists the versions that were rejected, such as one too old). One of kind `Usage` means that the variable
/// is wrong: report it to the user.
pub fn find() -> Result<PostgresInstallation> {
    if let Some(bin) = env::var_os(BIN_VARIABLE) {
        let bin = PathBuf::from(bin);
        return examine(&bin).map_err(|why| {
            Error::usage(format!("{BIN_VARIABLE}={}: {why}", bin.display())).with_hint(format!(
                "set it to the folder of a PostgreSQL's `postgres` and `initdb`, {OLDEST_MAJOR} or newer, or unset it"
            ))
        });
    }
    let mut passed_over = Vec::new();
    for bin in candidates() {
        match examine(&bin) {
            Ok(installation) => return Ok(installation),
            Err(why) => passed_over.push(format!("{}: {why}", bin.display())),
        }
    }
    let seen = if passed_over.is_empty() { "none found".to_owned() } else { passed_over.join("; ") };
    Err(Error::new(format!("looking for PostgreSQL {OLDEST_MAJOR} or newer: {seen}")).with_hint(format!(
        "install it (Debian: `apt-get install postgresql`), or name its bin folder in {BIN_VARIABLE}"
    )))
}

/// Returns the folders that hold a `postgres`, in the order of preference.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // The destination of a link first: the libraries are beside it.
    let led_to = |dir: &PathBuf| Some(dir.join("postgres").canonicalize().ok()?.parent()?.to_owned());
    let mut found: Vec<PathBuf> = env::split_paths(&path).flat_map(|dir| [led_to(&dir), Some(dir)]).flatten().collect();
    found.extend(output(Path::new("pg_config"), "--bindir").map(PathBuf::from));
    for (parent, prefix, rest) in [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin")] {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
                Some((number, entry.path().join(rest)))
            })
            .collect();
        versions.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        found.extend(versions.into_iter().map(|(_, bin)| bin));
    }
    found.push(PathBuf::from("/usr/local/pgsql/bin"));
    let mut seen = std::collections::HashSet::new();
    found.retain(|bin| bin.join("postgres").is_file() && seen.insert(bin.clone()));
    found
}

/// Returns the installation in `bin`, or the reason for which it cannot be used.
fn examine(bin: &Path) -> Result<PostgresInstallation, String> {
    for program in ["postgres", "initdb"] {
        if !bin.join(program).is_file() {
            return Err(format!("no `{program}` in it"));
        }
    }
    let printed = output(&bin.join("postgres"), "--version").ok_or("`postgres --version` failed")?;
    let version = printed.rsplit_once("PostgreSQL) ").map_or(printed.as_str(), |(_, version)| version);
    let digits = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    match digits.parse::<u32>() {
        Ok(major) if major >= OLDEST_MAJOR => {
            Ok(PostgresInstallation { bin: bin.to_owned(), version: version.to_owned() })
        }
        Ok(_) => Err(format!("PostgreSQL {version} is older than {OLDEST_MAJOR}")),
        Err(_) => Err(format!("`postgres --version` printed {printed:?}")),
    }
}

/// Returns the trimmed output of `program argument`; `None` if it cannot be run, fails or prints nothing.
fn output(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}
