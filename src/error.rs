//! The only error type of the suite, for work that it could not do.
//!
//! A failed request is data (`measure::Outcome`), never an error. An [`Error`] states in one line the action,
//! its object and the cause, and in another the fix.

use std::fmt;

/// A failure of the suite to do its work.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
}

/// The kind of an [`Error`], which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line, an environment variable or a file that the user gave is wrong: exit 2.
    Usage,
    /// The suite could not run: exit 1.
    CouldNotRun,
    /// A measurement cannot be used for the purpose, such as an invalid run as a baseline: exit 5.
    Invalid,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error of the kind `CouldNotRun`. `what` names the action and its object ("starting PostgreSQL in
    /// /tmp/x").
    pub fn new(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::CouldNotRun, what: what.into(), hint: None }
    }

    /// Creates an error about the user's input. `what` names the input and what is wrong with it.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Usage, what: what.into(), hint: None }
    }

    /// Creates an error about a measurement that cannot be used here. `what` names it and gives the reason.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, what: what.into(), hint: None }
    }

    /// Adds the fix: what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the same error, of the same kind and with the same fix, in other words.
    #[must_use]
    pub fn with_what(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// Returns what went wrong, without the fix.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Returns the fix, if there is one: what the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the kind, which decides the exit code.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Turns any failure into an [`Error`] that states the action that failed.
pub trait Context<T> {
    /// Adds `what`, the action and its object, in the progressive: "reading the CA file ca.pem".
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(format!("{}: {}", what(), causes(&error))))
    }
}

/// Returns an error and its causes on one line; libraries often put the reason into the cause only.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
