//! A session that blocks the calling thread, for a bounded time. Not for use inside an async runtime.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Connection, NoTls, Row, Socket};

use super::address::Address;
use super::failure::Failure;
use super::watch::{is_stopped, wait, within};
use super::{MARK, NAME};
use crate::error::{Context as _, Result};
use crate::foreign;

/// The longest time of a query.
const QUERY_LIMIT: Duration = Duration::from_secs(60);
/// The longest time of a statement that changes or vacuums rows, of which there may be very many.
const CHANGE_LIMIT: Duration = Duration::from_secs(900);
/// The pause between two attempts to open a session at a server that is starting.
const RETRY_EVERY: Duration = Duration::from_millis(200);
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// The most warnings that are kept.
const MAX_WARNINGS: usize = 16;
/// Settings of each session, whatever those of the role and database are: it lives until it is closed here, only this
/// module limits its statements, backslashes are backslashes, and rows that a policy hides are an error instead of
/// missing rows.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 \
                       -c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on -c row_security=off \
                       -c default_transaction_isolation=read\\ committed -c certctl_bench.session=on";

/// Warnings of the server, in the order of their arrival.
pub(super) type Warnings = Arc<Mutex<Vec<String>>>;

/// A session at a PostgreSQL.
///
/// A query that waits too long is given up, together with its session: see [`Failure`]. A session that the server ended
/// while it was idle is opened again.
pub struct DatabaseClient {
    address: Address,
    purpose: &'static str,
    query_limit: Duration,
    /// `None` once given up.
    session: Option<OpenSession>,
    warnings: Warnings,
    in_transaction: bool,
    // Last, so that it is dropped after the session that runs in it.
    runtime: Runtime,
}

/// An open session.
pub(super) struct OpenSession {
    pub(super) client: tokio_postgres::Client,
    /// The backend's process; `None` behind a pooler, where it changes.
    pub(super) pid: Option<i32>,
    driver: JoinHandle<()>,
}

/// A parameter of a query: a value and its PostgreSQL type. With the types known, no statement has to be prepared under
/// a name, which a pooler in transaction mode does not keep.
pub trait Parameter: Sync {
    /// Returns the value and its type.
    fn typed(&self) -> (&(dyn ToSql + Sync), Type);
}

impl Parameter for &str {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, Type::TEXT)
    }
}

impl Parameter for String {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, Type::TEXT)
    }
}

impl Parameter for i64 {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, Type::INT8)
    }
}

impl Parameter for &[&str] {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, Type::TEXT_ARRAY)
    }
}

impl Parameter for Vec<&str> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        (self, Type::TEXT_ARRAY)
    }
}

impl DatabaseClient {
    /// Opens a session, within 10 s unless the URL says otherwise. Its `application_name` is `certctl-bench PURPOSE`.
    ///
    /// # Errors
    /// If `url` is not a connection URL (kind `Usage`), or the server does not answer, or refuses the session.
    pub fn open(url: &str, purpose: &'static str) -> Result<Self> {
        let address = Address::parse(url)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context(|| "starting a runtime for a database session".to_owned())?;
        let warnings = Warnings::default();
        let opened = runtime.block_on(within(address.patience(), open(&address, purpose, &warnings)));
        let session = opened.map_err(|failure| address.unreachable(&failure))?;
        let in_transaction = false;
        let query_limit = QUERY_LIMIT;
        Ok(Self { address, purpose, query_limit, session: Some(session), warnings, in_transaction, runtime })
    }

    /// Sets another limit on queries than a minute.
    #[must_use]
    pub fn with_query_limit(mut self, limit: Duration) -> Self {
        self.query_limit = limit;
        self
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    /// If the server refuses the query, or it takes too long.
    pub fn query(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Failure> {
        let (sql, limit) = (marked(sql), self.query_limit);
        let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.typed()).collect();
        self.run(limit, true, async |client| client.query_typed(&sql, &parameters).await)
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    /// As [`query`](Self::query), and if the number of rows is not one.
    pub fn query_one(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Row, Failure> {
        self.query_opt(sql, parameters)?.ok_or(Failure::Rows(0))
    }

    /// Runs a query that returns at most one row.
    ///
    /// # Errors
    /// As [`query`](Self::query), and if there are more rows.
    pub fn query_opt(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Option<Row>, Failure> {
        let mut rows = self.query(sql, parameters)?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            more => Err(Failure::Rows(more)),
        }
    }

    /// Runs a statement that changes rows; returns their number.
    ///
    /// # Errors
    /// If the server refuses the statement, or it takes too long.
    pub fn execute(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<u64, Failure> {
        let sql = marked(sql);
        let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.typed()).collect();
        self.run(CHANGE_LIMIT, false, async |client| client.execute_typed(&sql, &parameters).await)
    }

    /// Executes statements without parameters and results, in one message.
    ///
    /// # Errors
    /// If the server refuses one, or they take too long.
    pub fn batch_execute(&mut self, sql: &str) -> Result<(), Failure> {
        self.run(CHANGE_LIMIT, false, async |client| client.batch_execute(sql).await)
    }

    /// Begins a transaction, which is rolled back unless it is committed.
    ///
    /// # Errors
    /// If the server refuses that.
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Failure> {
        // A session that the server ended meanwhile is opened again for it.
        self.run(self.query_limit, true, async |client| client.batch_execute("BEGIN").await)?;
        self.in_transaction = true;
        Ok(Transaction { client: self })
    }

    /// Takes the warnings of the server since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a warning to those of the server.
    pub fn warn(&mut self, warning: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    fn run<T>(
        &mut self,
        limit: Duration,
        is_repeatable: bool,
        work: impl AsyncFn(&tokio_postgres::Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        match self.attempt(limit, &work) {
            Err(failure) if failure.is_lost_session() && is_repeatable && !self.in_transaction => {
                let (address, warnings) = (&self.address, &self.warnings);
                let reopened = self.runtime.block_on(within(address.patience(), open(address, self.purpose, warnings)));
                // The reason for the session's end is more useful than the failure to open another.
                self.session = Some(reopened.map_err(|_| failure)?);
                self.attempt(limit, &work)
            }
            done => done,
        }
    }

    fn attempt<T>(
        &mut self,
        limit: Duration,
        work: &impl AsyncFn(&tokio_postgres::Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        let Some(session) = &self.session else { return Err(Failure::GivenUp) };
        if is_stopped() {
            return Err(Failure::Stopped);
        }
        let done = self.runtime.block_on(async {
            let query = pin!(work(&session.client));
            wait(query, limit, session, &self.address).await
        });
        if matches!(
            done,
            Err(Failure::Silent { .. } | Failure::Blocked { .. } | Failure::Slow { .. } | Failure::Stopped)
        ) {
            // Closes the socket, which a server that works again notices.
            if let Some(OpenSession { driver, .. }) = self.session.take() {
                driver.abort();
                let _ = self.runtime.block_on(driver);
            }
        }
        done
    }
}

impl Drop for DatabaseClient {
    fn drop(&mut self) {
        if let Some(OpenSession { client, driver, .. }) = self.session.take() {
            drop(client);
            // Lets the driver send the closing message; a failure of that changes nothing.
            let _ = self.runtime.block_on(async { timeout(CLOSE_PATIENCE, driver).await });
        }
    }
}

/// A transaction, which is rolled back when it is dropped.
pub struct Transaction<'a> {
    client: &'a mut DatabaseClient,
}

impl Transaction<'_> {
    /// Commits the transaction.
    ///
    /// # Errors
    /// If the server refuses that, or it takes too long.
    pub fn commit(self) -> Result<(), Failure> {
        self.client.batch_execute("COMMIT")?;
        self.client.in_transaction = false;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if std::mem::take(&mut self.client.in_transaction) {
            // If this fails, the transaction ends with the session.
            let _ = self.client.batch_execute("ROLLBACK");
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = DatabaseClient;

    fn deref(&self) -> &DatabaseClient {
        self.client
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut DatabaseClient {
        self.client
    }
}

/// Returns a statement with [`MARK`] in front, where its verb allows that.
fn marked(sql: &str) -> String {
    let verb = sql.split_whitespace().next().unwrap_or_default();
    match ["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&verb) {
        true => format!("WITH {MARK} AS (SELECT) {sql}"),
        false => sql.to_owned(),
    }
}

/// Opens a session, and waits for a server that is still starting. The caller limits the time.
pub(super) async fn open(address: &Address, purpose: &str, warnings: &Warnings) -> Result<OpenSession, Failure> {
    let mut is_pooled = false;
    loop {
        match open_once(address, purpose, warnings, is_pooled).await {
            Err(Failure::Server(error)) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                sleep(RETRY_EVERY).await;
            }
            // PgBouncer refuses options.
            Err(failure) if !is_pooled && failure.to_string().contains("unsupported startup parameter") => {
                is_pooled = true;
            }
            Err(failure) if is_worth_a_try_without_tls(&failure) => match address.without_tls() {
                Some(plain) => {
                    // An error of the server is more useful than a failed TLS handshake, and its first error more than
                    // its second.
                    let opened = Box::pin(open(&plain, purpose, warnings)).await;
                    return opened.map_err(|other| match (failure.code(), other.code()) {
                        (None, Some(_)) => other,
                        _ => failure,
                    });
                }
                None => return Err(failure),
            },
            opened => return opened,
        }
    }
}

/// Reports whether `sslmode=prefer` tries again without TLS: the handshake failed, or pg_hba.conf has no line for it.
fn is_worth_a_try_without_tls(failure: &Failure) -> bool {
    match failure.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => failure.to_string().contains("TLS"),
    }
}

async fn open_once(
    address: &Address,
    purpose: &str,
    warnings: &Warnings,
    is_pooled: bool,
) -> Result<OpenSession, Failure> {
    let mut config = address.config().clone();
    config.application_name(format!("{NAME} {purpose}"));
    if !is_pooled {
        let theirs = config.get_options().unwrap_or_default();
        config.options(format!("{theirs} {OPTIONS}").trim_start());
    }
    let mut session = match address.tls() {
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await?;
            OpenSession { client, pid: None, driver: drive(connection, warnings.clone()) }
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            OpenSession { client, pid: None, driver: drive(connection, warnings.clone()) }
        }
    };
    // A pooler that ignores options without an error does not pass them on.
    let sql = marked("SELECT pg_backend_pid(), current_setting('certctl_bench.session', true)");
    let row = session.client.query_typed_one(&sql, &[]).await?;
    if row.get::<_, Option<&str>>(1) == Some("on") {
        session.pid = Some(row.get(0));
    }
    Ok(session)
}

/// Exchanges a session's messages, while a caller blocks on the runtime, and keeps the server's warnings.
fn drive<S>(mut connection: Connection<Socket, S>, warnings: Warnings) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // An error ends the loop; the pending query then reports it.
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            let AsyncMessage::Notice(notice) = message else { continue };
            let mut warnings = warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if notice.parsed_severity() == Some(Severity::Warning) && warnings.len() < MAX_WARNINGS {
                warnings.push(foreign::line(notice.message()));
            }
        }
    })
}
