//! A limit on every wait, and the cause of a wait that is too long.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::address::Address;
use super::client::{OpenSession, open};
use super::failure::Failure;
use super::{NAME, outline};
use crate::foreign;

/// The time after which a query is first looked into, and the interval from then on.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest wait for a lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// The longest look: a server that does not answer a new session within this time counts as silent.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);
/// The time that queries have left after a signal has requested the end.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// The flag that a signal sets, and the moment at which it was first seen set.
static STOP: OnceLock<(Arc<AtomicBool>, Mutex<Option<Instant>>)> = OnceLock::new();

/// Makes every query end within two seconds after `stop` is set. Only the first call has an effect.
pub fn heed(stop: &Arc<AtomicBool>) {
    STOP.get_or_init(|| (stop.clone(), Mutex::new(None)));
}

/// Reports whether a signal has requested the end and the grace is over.
pub fn is_stopped() -> bool {
    let Some((stop, seen)) = STOP.get() else { return false };
    if !stop.load(Ordering::Relaxed) {
        return false;
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get_or_insert_with(Instant::now).elapsed() > STOP_GRACE
}

async fn stopped() {
    while !is_stopped() {
        sleep(TICK).await;
    }
}

/// Runs `work`, unless it takes longer than `limit` or a signal ends it.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = timeout(limit, work) => done.unwrap_or(Err(Failure::Silent { after: limit })),
        () = stopped() => Err(Failure::Stopped),
    }
}

/// The cause of a query's wait.
enum Cause {
    /// The server does not answer.
    Silence,
    /// A lock, with a description of the sessions that hold it.
    Lock(String),
    /// The query is at work, or the cause is unknown.
    Work,
}

/// Waits for the result of a query of `session`, for at most `limit`.
pub(super) async fn wait<T>(
    mut query: Pin<&mut impl Future<Output = Result<T, tokio_postgres::Error>>>,
    limit: Duration,
    session: &OpenSession,
    address: &Address,
) -> Result<T, Failure> {
    let began = Instant::now();
    let mut look_at = LOOK_EVERY;
    loop {
        let left = limit.min(look_at).saturating_sub(began.elapsed());
        tokio::select! {
            biased;
            done = query.as_mut() => return done.map_err(Failure::Server),
            () = sleep(left) => {}
            () = stopped() => {
                give_up(session, address).await;
                return Err(Failure::Stopped);
            }
        }
        let cause = tokio::select! {
            biased;
            done = query.as_mut() => return done.map_err(Failure::Server),
            cause = look(session, address) => cause,
            () = stopped() => Cause::Work,
        };
        let after = began.elapsed();
        let failure = match cause {
            Cause::Silence => Failure::Silent { after },
            Cause::Lock(by) if after >= LOCK_PATIENCE.min(limit) => Failure::Blocked { after, by },
            _ if after >= limit => Failure::Slow { after },
            _ => {
                look_at = after + LOOK_EVERY;
                continue;
            }
        };
        if !matches!(failure, Failure::Silent { .. }) {
            give_up(session, address).await;
        }
        return Err(failure);
    }
}

/// Cancels the query of `session`.
async fn give_up(session: &OpenSession, address: &Address) {
    let _ = timeout(CANCEL_PATIENCE, address.cancel(&session.client.cancel_token())).await;
}

/// Determines, over a new session, the cause for which `session` waits. Behind a pooler the new session may itself wait
/// for the connection that `session` uses, so that its silence says nothing about the server's.
async fn look(session: &OpenSession, address: &Address) -> Cause {
    let looked = timeout(LOOK_PATIENCE, async {
        let other = open(address, "look", &Arc::default()).await.ok()?;
        blockers(session, &other).await.ok()
    });
    match looked.await {
        Err(_) if session.pid.is_some() => Cause::Silence,
        Ok(Some(Some(by))) => Cause::Lock(by),
        _ => Cause::Work,
    }
}

/// Describes the sessions that hold the lock for which `session` waits, as `other` sees them.
async fn blockers(session: &OpenSession, other: &OpenSession) -> Result<Option<String>, tokio_postgres::Error> {
    // Behind a pooler the backend's number is unknown, but it has the suite's name.
    let ours = match session.pid {
        Some(pid) => format!("pid = {pid}"),
        None => format!("application_name LIKE '{NAME}%' AND wait_event_type = 'Lock'"),
    };
    let sql = format!(
        "SELECT blocker.pid, a.application_name, a.usename::text, a.state, \
         extract(epoch FROM clock_timestamp() - coalesce(a.query_start, a.xact_start))::float8, \
         to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), a.query \
         FROM (SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM pg_stat_activity WHERE {ours}) AS blocker \
         LEFT JOIN pg_stat_activity AS a USING (pid) ORDER BY 1 LIMIT 3"
    );
    let rows = other.client.query_typed(&sql, &[]).await?;
    let described = rows.iter().map(|row| {
        let text =
            |column: usize| row.try_get::<_, Option<String>>(column).ok().flatten().filter(|text| !text.is_empty());
        let pid: i32 = row.get(0);
        if pid == 0 {
            return "a prepared transaction (see pg_prepared_xacts)".to_owned();
        }
        let query = text(6).filter(|query| !query.starts_with('<')).map(|query| outline(&query));
        format!(
            "pid {pid} (application {}, user {}, {}, last query {} started at {})",
            text(1).map_or_else(|| "unnamed".to_owned(), |name| foreign::line(&name)),
            text(2).map_or_else(|| "unknown".to_owned(), |name| foreign::line(&name)),
            text(3).unwrap_or_else(|| "state unknown".to_owned()),
            query.unwrap_or_else(|| "unknown".to_owned()),
            text(5).unwrap_or_else(|| "an unknown time".to_owned()),
        )
    });
    let all = described.collect::<Vec<_>>().join(", ");
    Ok((!all.is_empty()).then_some(all))
}
