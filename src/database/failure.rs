//! Failures of a database.

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::foreign;

/// The reason for which a query failed, or a session could not be opened.
#[derive(Debug)]
pub enum Failure {
    /// The server reported an error, or the connection to it ended.
    Server(tokio_postgres::Error),
    /// The server answered neither this session nor a new one.
    Silent {
        /// The time that it waited.
        after: Duration,
    },
    /// Another session held a lock.
    Blocked {
        /// The time that it waited for the lock.
        after: Duration,
        /// The holders of the lock: process, application, user and since when.
        by: String,
    },
    /// The server works, but the query took longer than its limit.
    Slow {
        /// The time that it ran.
        after: Duration,
    },
    /// A signal requested the end of the process.
    Stopped,
    /// The session was given up for one of the reasons above.
    GivenUp,
    /// The number of rows is not the expected one.
    Rows(usize),
}

impl Failure {
    /// Returns the error that the server reported, if it did.
    pub fn as_db_error(&self) -> Option<&DbError> {
        match self {
            Self::Server(error) => error.as_db_error(),
            _ => None,
        }
    }

    /// Returns the SQLSTATE of the error that the server reported.
    pub fn code(&self) -> Option<&SqlState> {
        self.as_db_error().map(DbError::code)
    }

    /// Reports whether the session was lost, so that a new one may succeed.
    pub(super) fn is_lost_session(&self) -> bool {
        let Self::Server(error) = self else { return false };
        let ends = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::IDLE_SESSION_TIMEOUT,
            SqlState::CONNECTION_FAILURE,
        ];
        match error.code() {
            Some(code) => ends.contains(code),
            None => error.is_closed() || error.to_string().contains("communicating"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => match error.as_db_error() {
                Some(db) => {
                    f.write_str(&foreign::line(&format!("{}: {}", db.severity(), db.message())))?;
                    match db.detail() {
                        // The detail may quote a row.
                        Some(detail) if !detail.contains('=') => write!(f, " ({})", foreign::line(detail)),
                        _ => Ok(()),
                    }
                }
                None => match std::error::Error::source(error) {
                    Some(cause) => f.write_str(&foreign::line(&format!("{error}: {cause}"))),
                    None => error.fmt(f),
                },
            },
            Self::Silent { after } => {
                write!(
                    f,
                    "the server did not answer within {:.0} s, nor did it answer a new session",
                    after.as_secs_f64()
                )
            }
            Self::Blocked { after, by } => write!(f, "waited {:.0} s for a lock held by {by}", after.as_secs_f64()),
            Self::Slow { after } => {
                write!(f, "it took longer than {:.0} s, without waiting for a lock", after.as_secs_f64())
            }
            Self::Stopped => f.write_str("stopped by a signal"),
            Self::GivenUp => f.write_str("the session was abandoned earlier"),
            Self::Rows(rows) => write!(f, "the server returned {rows} rows instead of one"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}
