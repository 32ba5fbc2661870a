//! All checks of a running certctl: the preflight stops at the first thing that is wrong, this goes on.

mod api;
mod clock;
mod database;
mod line;
mod machine;
mod upkeep;

use std::fmt;

use crate::database::DatabaseClient;
use crate::error::{Error, Result};
use crate::foreign;
use crate::system::Certctl;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Runs are possible, but readers of their figures should know of it.
    Warn,
    /// Some scenario cannot run, or its result would be invalid.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its severity.
    pub level: Severity,
    /// The state that was found.
    pub what: String,
    /// The fix, if one is needed.
    pub hint: Option<String>,
}

/// The fix for missing seeded rows.
const SEED: &str = "run `certctl-bench seed --database URL` with the URL of certctl's own database";

/// A receiver of findings, one by one.
type Report<'a> = &'a mut dyn FnMut(Finding);

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { level: Severity::Ok, what: what.into(), hint: None }
    }

    fn warn(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Severity::Warn, what: what.into(), hint: Some(hint.into()) }
    }

    fn fail(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Severity::Fail, what: what.into(), hint: Some(hint.into()) }
    }

    fn of(level: Severity, error: &Error) -> Self {
        Self { level, what: error.what().to_owned(), hint: error.hint().map(str::to_owned) }
    }

    /// Returns an `Ok` finding if `good`, else `otherwise`.
    fn unless(good: bool, otherwise: impl FnOnce() -> Self, what: impl Into<String>) -> Self {
        if good { Self::ok(what) } else { otherwise() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Severity::Ok => "ok",
            Severity::Warn => "warn",
            Severity::Fail => "fail",
        };
        write!(f, "{level:<5} {}", foreign::visible(&foreign::redact(&self.what), usize::MAX))?;
        match &self.hint {
            Some(hint) => write!(f, "\n      hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The results of the API checks that the database checks need.
#[derive(Default)]
struct ServerFacts {
    /// The system is a reference server, which has no background loops.
    is_reference: bool,
    /// The time since the start of certctl, in seconds.
    uptime_s: Option<f64>,
    /// A path that only this process has requested; certctl's audit log has to show it.
    unique_path: Option<String>,
}

/// Checks the connection to `certctl`, its API, its database if one is given, and this machine. Not for use inside an
/// async runtime.
///
/// # Errors
/// If this process cannot run the checks; anything wrong with the system is a finding.
pub fn examine(certctl: &Certctl, report: &mut dyn FnMut(Finding)) -> Result<()> {
    // Opened now, since the API checks need the profiles in it; checked later.
    let database = certctl.database.as_ref().map(|url| DatabaseClient::open(url, "doctor"));
    let (mut client, refused) = match database {
        None => (None, None),
        Some(Ok(client)) => (Some(client), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let facts = match line::examine(certctl, report)? {
        Some(dialer) => {
            let facts = api::examine(certctl, dialer.clone(), client.as_mut().and_then(profiles), report)?;
            if let Some(client) = &mut client {
                clock::examine(certctl, dialer, client, report)?;
            }
            facts
        }
        None => ServerFacts::default(),
    };
    match (&mut client, refused) {
        (Some(client), _) => {
            database::examine(client, &facts, report);
            if facts.is_reference {
                report(Finding::ok("no background loops: a reference server has none"));
            } else {
                upkeep::examine(client, facts.uptime_s, certctl.system.certctl_settings(), report);
            }
        }
        (None, Some(error)) => report(Finding::of(Severity::Fail, &error)),
        (None, None) => report(Finding::warn(
            "PostgreSQL, background loops and side effects are not checked without its database",
            "give --database postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable",
        )),
    }
    machine::examine(report);
    Ok(())
}

/// Returns the ids of the certificate profiles; `None` if they cannot be read.
fn profiles(client: &mut DatabaseClient) -> Option<Vec<String>> {
    let rows = client.query("SELECT id FROM certificate_profiles ORDER BY id", &[]).ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}
