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

/// How long a query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(60);
/// How long a statement may take that changes or vacuums rows, of which there may be very many.
const CHANGE_LIMIT: Duration = Duration::from_secs(900);
/// How long a server that is starting is waited for between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(200);
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);
/// More warnings than this are not kept.
const MAX_WARNINGS: usize = 16;
/// What a session of ours is to be like whatever role and database say: it lives until we close it, nothing but we
/// bound its statements, backslashes are backslashes, and rows that a policy hides are an error, not rows that do not
/// exist.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0 \
                       -c idle_in_transaction_session_timeout=0 -c standard_conforming_strings=on -c row_security=off \
                       -c default_transaction_isolation=read\\ committed -c certctl_bench.session=on";

/// Warnings of the server, as they came.
pub(super) type Warnings = Arc<Mutex<Vec<String>>>;

/// A session at a PostgreSQL.
///
/// A query that waits too long is given up and the session with it: see [`Failure`]. A session that the server ended
/// while it had nothing to do is opened anew.
pub struct Client {
    address: Address,
    purpose: &'static str,
    query_limit: Duration,
    /// `None` once given up.
    session: Option<Session>,
    warnings: Warnings,
    in_transaction: bool,
    // Last, since it is what the session lives in.
    runtime: Runtime,
}

/// An open session.
pub(super) struct Session {
    pub(super) client: tokio_postgres::Client,
    /// The backend's process; `None` behind a pooler, where it changes.
    pub(super) pid: Option<i32>,
    driver: JoinHandle<()>,
}

/// What a query may be given: a value and PostgreSQL's type of it. Types are named so that no statement has to be
/// prepared under a name, which a pooler in transaction mode does not keep.
pub trait Parameter: Sync {
    /// Both.
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

impl Client {
    /// Opens a session, within 10 s unless the URL says otherwise. Its `application_name` is `certctl-bench PURPOSE`.
    ///
    /// # Errors
    /// If `url` is no connection URL (kind `Usage`), nobody answers, or the server refuses us.
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

    /// The same, with another bound on queries than a minute.
    #[must_use]
    pub fn with_query_limit(mut self, limit: Duration) -> Self {
        self.query_limit = limit;
        self
    }

    /// Queries rows.
    ///
    /// # Errors
    /// If the server refuses it or it takes too long.
    pub fn query(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Vec<Row>, Failure> {
        let (sql, limit) = (marked(sql), self.query_limit);
        let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.typed()).collect();
        self.run(limit, true, async |client| client.query_typed(&sql, &parameters).await)
    }

    /// Queries the one row that there is.
    ///
    /// # Errors
    /// As [`query`](Self::query), and if there is not one.
    pub fn query_one(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Row, Failure> {
        self.query_opt(sql, parameters)?.ok_or(Failure::Rows(0))
    }

    /// Queries a row that there may be.
    ///
    /// # Errors
    /// As [`query`](Self::query), and if there are more.
    pub fn query_opt(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<Option<Row>, Failure> {
        let mut rows = self.query(sql, parameters)?;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            more => Err(Failure::Rows(more)),
        }
    }

    /// Changes rows; returns how many.
    ///
    /// # Errors
    /// If the server refuses it or it takes too long.
    pub fn execute(&mut self, sql: &str, parameters: &[&dyn Parameter]) -> Result<u64, Failure> {
        let sql = marked(sql);
        let parameters: Vec<_> = parameters.iter().map(|parameter| parameter.typed()).collect();
        self.run(CHANGE_LIMIT, false, async |client| client.execute_typed(&sql, &parameters).await)
    }

    /// Executes statements that are given nothing and give nothing, in one message.
    ///
    /// # Errors
    /// If the server refuses one or they take too long.
    pub fn batch_execute(&mut self, sql: &str) -> Result<(), Failure> {
        self.run(CHANGE_LIMIT, false, async |client| client.batch_execute(sql).await)
    }

    /// Begins a transaction, which is rolled back unless it is committed.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn transaction(&mut self) -> Result<Transaction<'_>, Failure> {
        // A session that was ended meanwhile is opened anew for it.
        self.run(self.query_limit, true, async |client| client.batch_execute("BEGIN").await)?;
        self.in_transaction = true;
        Ok(Transaction { client: self })
    }

    /// Whether the session still answers, so that asking more is worth the wait.
    pub fn is_given_up(&self) -> bool {
        self.session.is_none()
    }

    /// Takes the warnings that the server gave since the last call.
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
                // Why it ended is worth more than why there is no other.
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
            // Its socket is closed, which a server that works again notices.
            if let Some(Session { driver, .. }) = self.session.take() {
                driver.abort();
                let _ = self.runtime.block_on(driver);
            }
        }
        done
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(Session { client, driver, .. }) = self.session.take() {
            drop(client);
            // Lets the driver say goodbye. Nobody is left to hear that it could not.
            let _ = self.runtime.block_on(async { timeout(CLOSE_PATIENCE, driver).await });
        }
    }
}

/// A transaction. Dropped, it is rolled back.
pub struct Transaction<'a> {
    client: &'a mut Client,
}

impl Transaction<'_> {
    /// Makes it last.
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
            // With the session the transaction ends too.
            let _ = self.client.batch_execute("ROLLBACK");
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        self.client
    }
}

/// A statement with our mark in front, where it may have one.
fn marked(sql: &str) -> String {
    let verb = sql.split_whitespace().next().unwrap_or_default();
    match ["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&verb) {
        true => format!("WITH {MARK} AS (SELECT) {sql}"),
        false => sql.to_owned(),
    }
}

/// Opens a session, and waits for a server that is only starting. The caller bounds how long.
pub(super) async fn open(address: &Address, purpose: &str, warnings: &Warnings) -> Result<Session, Failure> {
    let mut is_pooled = false;
    loop {
        match open_once(address, purpose, warnings, is_pooled).await {
            Err(Failure::Server(error)) if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) => {
                sleep(RETRY_EVERY).await;
            }
            // PgBouncer takes no options.
            Err(failure) if !is_pooled && failure.to_string().contains("unsupported startup parameter") => {
                is_pooled = true;
            }
            Err(failure) if is_worth_a_try_without_tls(&failure) => match address.without_tls() {
                Some(plain) => {
                    // What the server says is worth more than how TLS failed, and what it said first most of all.
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

/// Whether `sslmode=prefer` tries again without TLS: the handshake failed, or pg_hba.conf has no line for it.
fn is_worth_a_try_without_tls(failure: &Failure) -> bool {
    match failure.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => failure.to_string().contains("TLS"),
    }
}

async fn open_once(address: &Address, purpose: &str, warnings: &Warnings, is_pooled: bool) -> Result<Session, Failure> {
    let mut config = address.config().clone();
    config.application_name(format!("{NAME} {purpose}"));
    if !is_pooled {
        let theirs = config.get_options().unwrap_or_default();
        config.options(format!("{theirs} {OPTIONS}").trim_start());
    }
    let mut session = match address.tls() {
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await?;
            Session { client, pid: None, driver: drive(connection, warnings.clone()) }
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            Session { client, pid: None, driver: drive(connection, warnings.clone()) }
        }
    };
    // A pooler that takes options without a word does not pass them on.
    let sql = marked("SELECT pg_backend_pid(), current_setting('certctl_bench.session', true)");
    let row = session.client.query_typed_one(&sql, &[]).await?;
    if row.get::<_, Option<&str>>(1) == Some("on") {
        session.pid = Some(row.get(0));
    }
    Ok(session)
}

/// Moves a session's messages, while somebody blocks on the runtime, and keeps the server's warnings.
fn drive<S>(mut connection: Connection<Socket, S>, warnings: Warnings) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Its end is what the query at hand fails with.
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            let AsyncMessage::Notice(notice) = message else { continue };
            let mut warnings = warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if notice.parsed_severity() == Some(Severity::Warning) && warnings.len() < MAX_WARNINGS {
                warnings.push(foreign::line(notice.message()));
            }
        }
    })
}
