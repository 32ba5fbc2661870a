//! Programs that tests start and that a machine may lack: a test without them reports itself as skipped.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use certctl_bench::provision::daemon::{self, Daemon};
use certctl_bench::provision::postgres;

use super::bench::clean;
use super::browser::Browser;

/// A program that `./test` installs where it can.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    Postgresql,
    Nginx,
    Apache,
    Haproxy,
    Openssl,
    Python,
    /// OpenSSL 3.5, within Node.js.
    Openssl35,
    Browser,
    /// A browser that a test drives.
    WebDriver,
    /// f5-sdk and bigrest, in Python.
    F5Clients,
    Pebble,
    StepCa,
    /// An ACME client in Python.
    Certbot,
    /// An ACME client on lego's library, in Go.
    Lego,
    /// Readers of exports in Python.
    Readers,
    /// HdrHistogram, in Java.
    HdrHistogram,
    /// Prometheus's checker.
    Promtool,
    /// A network namespace, which a kernel may forbid.
    Namespace,
}

/// Returns the folder of the programs that `./test` installs for the tests alone.
pub fn tools() -> PathBuf {
    let given = std::env::var_os("CERTCTL_BENCH_TEST_TOOLS").map(PathBuf::from);
    given.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-tools"))
}

impl Program {
    /// Returns the reason if the program cannot be used.
    pub fn lack(self) -> Option<String> {
        match self {
            Self::Postgresql => postgres::find().err().map(|error| error.what().to_owned()),
            Self::Nginx => Self::lack_of(Daemon::Nginx),
            Self::Apache => Self::lack_of(Daemon::Apache),
            Self::Haproxy => Self::lack_of(Daemon::Haproxy),
            Self::Openssl => {
                let version = Command::new("openssl").arg("version").output();
                version.err().map(|error| format!("openssl: {error} (install openssl)"))
            }
            Self::Python => {
                let version = Command::new("python3").arg("--version").output();
                version.err().map(|error| format!("python3: {error} (install python3)"))
            }
            Self::Openssl35 => Self::lack_of_tool("openssl-3.5"),
            Self::F5Clients => Self::lack_of_tool("f5-clients"),
            Self::Pebble => Self::lack_of_tool("pebble"),
            Self::StepCa => Self::lack_of_tool("step-ca"),
            Self::Certbot => Self::lack_of_tool("certbot"),
            Self::Lego => Self::lack_of_tool("lego"),
            Self::Readers => Self::lack_of_tool("readers"),
            Self::HdrHistogram => Self::lack_of_java().or_else(|| Self::lack_of_reader("HdrHistogram.jar")),
            Self::Promtool => Self::lack_of_reader("promtool"),
            Self::Namespace => Self::lack_of_namespace(),
            Self::WebDriver => {
                let version = Command::new("chromedriver").arg("--version").output();
                version.err().map(|error| format!("chromedriver: {error} (install chromium-driver)"))
            }
            Self::Browser => Browser::find().is_none().then(|| "chromium not found (install chromium)".to_owned()),
        }
    }

    /// Has the suite make a namespace, and then end for want of a binary.
    fn lack_of_namespace() -> Option<String> {
        let mut doctor = clean(Command::new(env!("CARGO_BIN_EXE_certctl-bench")));
        let output = doctor.args(["doctor", "--certctl", "/nonexistent"]).stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let refused = stderr.strip_prefix("error: ").filter(|text| text.starts_with("making a network namespace"));
        refused.map(|text| text.replace("\nhint:", ";"))
    }

    fn lack_of_java() -> Option<String> {
        let version = Command::new("java").arg("-version").output();
        version.err().map(|error| format!("java: {error} (install Java 11 or newer)"))
    }

    /// Looks for a program that is installed with the readers.
    fn lack_of_reader(file: &str) -> Option<String> {
        let found = tools().join("readers").join(file).is_file();
        (!found).then(|| format!("{file} not found (./test installs it: tests/install/readers)"))
    }

    /// Looks for the note that each installer leaves of its installation.
    fn lack_of_tool(name: &str) -> Option<String> {
        let note = tools().join(name).join("installed.txt");
        (!note.is_file()).then(|| format!("{name} not found (./test installs it: tests/install/{name})"))
    }

    fn lack_of(daemon: Daemon) -> Option<String> {
        let skipped = daemon::find(daemon).unwrap().err()?;
        Some(skipped.to_string().trim_start_matches("skipped: ").to_owned())
    }
}

/// Reports a test as skipped: on standard error, where the test runner does not hide it, and to `./test`, which counts.
pub fn skip(test: &str, why: &str) {
    let test = test.trim_end_matches("::here").replacen("::", " ", 1);
    let why = why.lines().next().unwrap_or_default();
    // A terminal that is gone, or a file that cannot be written, is no reason to fail.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
    if let Some(file) = std::env::var_os("CERTCTL_BENCH_SKIPPED")
        && let Ok(mut file) = OpenOptions::new().append(true).open(file)
    {
        let _ = file.write_all(format!("{test}: {why}\n").as_bytes());
    }
}

/// Leaves the test, and reports it as skipped, where one of these programs is missing: `needs!(Nginx, Postgresql)`.
/// `needs!(else WHY)` does so for a reason of the test's own.
#[allow(unused_macros, reason = "each test program uses its part")]
macro_rules! needs {
    (else $why:expr) => {{
        fn here() {}
        $crate::common::needs::skip(std::any::type_name_of_val(&here), $why);
        return;
    }};
    ($($program:ident),+) => {
        $(if let Some(why) = $crate::common::needs::Program::$program.lack() {
            needs!(else &why);
        })+
    };
}
#[allow(unused_imports, reason = "each test program uses its part")]
pub(crate) use needs;
