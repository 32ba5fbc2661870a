//! The daemons that are installed on this machine.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Daemon;
use crate::error::{Error, Result};
use crate::foreign;

/// The folders of system programs, searched after `PATH`, which for an ordinary user often lacks the first two.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin", "/usr/local/bin"];

impl Daemon {
    /// Returns the environment variable with the path of its program; an empty one leaves the daemon out.
    pub const fn bin_variable(self) -> &'static str {
        match self {
            Self::Nginx => "CERTCTL_BENCH_NGINX_BIN",
            Self::Apache => "CERTCTL_BENCH_APACHE_BIN",
            Self::Haproxy => "CERTCTL_BENCH_HAPROXY_BIN",
        }
    }

    /// Returns the names of its program.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["nginx"],
            Self::Apache => &["apache2", "httpd"],
            Self::Haproxy => &["haproxy"],
        }
    }

    /// Returns the name of its Debian package.
    const fn package(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache2",
            Self::Haproxy => "haproxy",
        }
    }

    /// Returns the argument that prints its version and build, and the text before the version in the output. `apache2
    /// -V` prints them even if it reports errors in the system's configuration.
    const fn version_question(self) -> (&'static str, &'static str) {
        match self {
            Self::Nginx => ("-V", "nginx version: nginx/"),
            Self::Apache => ("-V", "Server version: Apache/"),
            Self::Haproxy => ("-v", "HAProxy version "),
        }
    }
}

/// An installed daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonInstallation {
    /// The kind of daemon.
    pub daemon: Daemon,
    /// Its program.
    pub program: PathBuf,
    /// Its version, as it reports it, such as `1.22.1` or `2.4.62 (Debian)`.
    pub version: String,
    /// The whole output about its version and build.
    pub(super) build: String,
}

impl DaemonInstallation {
    /// Reports whether the leading numbers of its version are at least `oldest`.
    pub(super) fn is_at_least(&self, oldest: &[u32]) -> bool {
        let numbers = self.version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        numbers.take(oldest.len()).collect::<Vec<u32>>().as_slice() >= oldest
    }
}

/// A daemon that cannot be measured here, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    daemon: Daemon,
    why: String,
}

impl Skipped {
    /// Returns the kind of daemon.
    pub fn daemon(&self) -> Daemon {
        self.daemon
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {} {}", self.daemon, self.why)
    }
}

/// Finds a daemon: the program in its variable ([`Daemon::bin_variable`]), else in `PATH` and the usual folders.
///
/// # Errors
/// If the variable names something else. A daemon that is not installed is not an error.
pub fn find(daemon: Daemon) -> Result<Result<DaemonInstallation, Skipped>> {
    let variable = daemon.bin_variable();
    match env::var_os(variable) {
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let folders: Vec<PathBuf> = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)).collect();
            Ok(find_in(daemon, &folders))
        }
        Some(program) if program.is_empty() => {
            Ok(Err(Skipped { daemon, why: format!("left out, since {variable} is empty") }))
        }
        Some(program) => {
            let program = PathBuf::from(program);
            let found = examine(daemon, &program).map_err(|why| {
                Error::usage(format!("{variable}={}: {why}", program.display()))
                    .with_hint(format!("set it to the path of {daemon}'s program, or unset it"))
            });
            found.map(Ok)
        }
    }
}

/// Finds a daemon in these folders alone.
///
/// # Errors
/// If it is in none of them; `Skipped` has the reason.
pub fn find_in(daemon: Daemon, folders: &[PathBuf]) -> Result<DaemonInstallation, Skipped> {
    let mut passed_over = String::new();
    for folder in folders {
        for program in daemon.programs().iter().map(|name| folder.join(name)).filter(|program| program.is_file()) {
            match examine(daemon, &program) {
                Ok(installation) => return Ok(installation),
                Err(why) => passed_over = format!("; {}: {why}", program.display()),
            }
        }
    }
    let why = format!("not found (install it: Debian: apt-get install {}{passed_over})", daemon.package());
    Err(Skipped { daemon, why })
}

/// Returns the installation of `program`, or the reason for which it cannot be used.
fn examine(daemon: Daemon, program: &Path) -> Result<DaemonInstallation, String> {
    let (question, before) = daemon.version_question();
    let answer = Command::new(program).arg(question).output().map_err(|error| error.to_string())?;
    let build = [answer.stdout, answer.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let line = build.lines().find_map(|line| line.split_once(before)).map(|(_, rest)| rest.trim());
    let version = line.ok_or_else(|| format!("`{question}` does not report that it is {daemon}"))?;
    let version = match daemon {
        // In HAProxy's output a date and an address follow.
        Daemon::Haproxy => version.split(' ').next().unwrap_or_default(),
        Daemon::Nginx | Daemon::Apache => version,
    };
    if daemon == Daemon::Nginx && !build.contains("http_ssl_module") {
        return Err("it was built without TLS".to_owned());
    }
    Ok(DaemonInstallation { daemon, program: program.to_owned(), version: foreign::line(version), build })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let nginx = |version: &str| DaemonInstallation {
            daemon: Daemon::Nginx,
            program: PathBuf::new(),
            version: version.to_owned(),
            build: String::new(),
        };
        for (version, newer) in [("1.25.1", true), ("1.27.0 (Ubuntu)", true), ("1.9.15", false), ("1.22.1", false)] {
            assert_eq!(nginx(version).is_at_least(&[1, 25, 1]), newer, "{version}");
        }
    }
}
