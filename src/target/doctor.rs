//! Looks a running certctl over, all the way: where the preflight stops at the first thing that is wrong, this goes on.

mod api;
mod clock;
mod database;
mod line;
mod machine;
mod upkeep;

use std::fmt;

use super::Target;
use crate::database::Client;
use crate::error::{Error, Result};
use crate::foreign;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Runs are possible, and someone who reads their figures should know.
    Warn,
    /// Some scenario cannot run, or its result would be invalid.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What mends it.
    pub mend: Option<String>,
}

/// What mends a lack of seeded rows.
const SEED: &str = "certctl-bench seed --database URL, with the URL of certctl's own database";

/// Takes findings, one by one.
type Tell<'a> = &'a mut dyn FnMut(Finding);

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), mend: None }
    }

    fn warn(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), mend: Some(mend.into()) }
    }

    fn fail(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), mend: Some(mend.into()) }
    }

    fn of(level: Level, error: &Error) -> Self {
        Self { level, what: error.what().to_owned(), mend: error.mending().map(str::to_owned) }
    }

    /// Well if `good`, else this.
    fn unless(good: bool, otherwise: impl FnOnce() -> Self, what: impl Into<String>) -> Self {
        if good { Self::ok(what) } else { otherwise() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        write!(f, "{level:<5} {}", foreign::visible(&foreign::redact(&self.what), usize::MAX))?;
        match &self.mend {
            Some(mend) => write!(f, "\n      mend: {mend}"),
            None => Ok(()),
        }
    }
}

/// What the API told that the database's part needs.
#[derive(Default)]
struct Told {
    /// The reference server, which has no background loops.
    is_reference: bool,
    /// How long the process runs, in seconds.
    uptime_s: Option<f64>,
    /// A path that nobody else has asked for, for the audit log to show.
    unique_path: Option<String>,
}

/// Looks at the way to `target`, its API, its database if one is given, and this machine. Not for use inside an async
/// runtime.
///
/// # Errors
/// If this process cannot look at all; what is wrong with the target is told.
pub fn examine(target: &Target, tell: &mut dyn FnMut(Finding)) -> Result<()> {
    // Now, since it knows what to ask the API for; looked at later.
    let database = target.database.as_ref().map(|url| Client::open(url, "doctor"));
    let (mut client, refused) = match database {
        None => (None, None),
        Some(Ok(client)) => (Some(client), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let told = match line::examine(target, tell)? {
        Some(dialer) => {
            let told = api::examine(target, dialer.clone(), client.as_mut().and_then(profiles), tell)?;
            if let Some(client) = &mut client {
                clock::examine(target, dialer, client, tell)?;
            }
            told
        }
        None => Told::default(),
    };
    match (&mut client, refused) {
        (Some(client), _) => {
            database::examine(client, &told, tell);
            if told.is_reference {
                tell(Finding::ok("no background loops: a reference server has none"));
            } else {
                upkeep::examine(client, told.uptime_s, tell);
            }
        }
        (None, Some(error)) => tell(Finding::of(Level::Fail, &error)),
        (None, None) => tell(Finding::warn(
            "PostgreSQL, background loops and the work done are not looked at without its database",
            "give --database postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable",
        )),
    }
    machine::examine(tell);
    Ok(())
}

/// The certificate profiles; `None` where the database does not tell.
fn profiles(client: &mut Client) -> Option<Vec<String>> {
    let rows = client.query("SELECT id FROM certificate_profiles ORDER BY id", &[]).ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}
