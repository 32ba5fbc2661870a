//! The state that all requests share, with gauges of their work under way.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use certctl_bench::terminal;
use tokio::sync::{Semaphore, watch};

use crate::audit::AuditLog;
use crate::auth::Key;
use crate::authority::Authority;
use crate::cli::{Args, Behaviour, KeyGeneration};
use crate::delay::Delay;
use crate::flights::Flights;
use crate::ids::Ids;
use crate::job_processor::KEY_THREADS;
use crate::limiter::Limiter;
use crate::ocsp_limiter::OcspLimiter;
use crate::responder::Responder;
use crate::store::Store;
use crate::work::Work;

/// The longest time for work under way once the server is to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The server's state.
pub struct App<S> {
    pub store: Arc<S>,
    pub keys: Vec<Key>,
    pub behaviour: Behaviour,
    /// The wait of requests, but for the probes, before they are handled.
    pub delay: Delay,
    /// Limiters for requests with and without a key, when limits are on: certctl keeps two tables.
    pub limiters: Option<Limiters>,
    pub ids: Arc<Ids>,
    pub keygen: KeyGeneration,
    /// The local issuer.
    pub authority: Authority,
    /// The signer of OCSP responses.
    pub responder: Responder,
    pub ocsp_flights: Flights<Vec<u8>>,
    pub crl_flights: Flights<Vec<u8>>,
    pub ocsp_limiter: Option<OcspLimiter>,
    /// Places for keys in the making.
    pub key_threads: Semaphore,
    pub audit: AuditLog<S>,
    pub work: Work,
    pub started: Instant,
    /// Connections that have shaken hands.
    pub connections: Gauge,
    stop: watch::Sender<bool>,
}

/// One limiter for each of certctl's two chains.
#[derive(Default)]
pub struct Limiters {
    pub keyed: Limiter,
    pub keyless: Limiter,
}

impl<S: Store> App<S> {
    /// Returns the state for these settings.
    pub fn new(store: S, keys: Vec<Key>, args: &Args) -> Result<Self, String> {
        let (store, ids) = (Arc::new(store), Arc::new(Ids::new()?));
        let authority = Authority::generate()?;
        Ok(Self {
            audit: AuditLog::new(Arc::clone(&store), Arc::clone(&ids)),
            store,
            keys,
            behaviour: args.behaviour,
            delay: Delay::new(args.delay, args.delayed),
            limiters: args.rate_limit.then(Limiters::default),
            ids,
            keygen: args.keygen,
            responder: Responder::generate(&authority)?,
            authority,
            ocsp_flights: Flights::default(),
            crl_flights: Flights::default(),
            ocsp_limiter: NonZeroUsize::new(args.ocsp_limit).map(OcspLimiter::new),
            key_threads: Semaphore::new(KEY_THREADS),
            work: Work::default(),
            started: Instant::now(),
            connections: Gauge::default(),
            stop: watch::Sender::new(false),
        })
    }

    /// Waits until the server is to stop.
    pub async fn stopping(&self) {
        // `self` owns the sender, so that the wait cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Lets requests under way be answered and their audit rows be written, within bounds; idle connections close.
    pub async fn drain(&self) {
        self.stop.send_replace(true);
        let deadline = Instant::now() + DRAIN_LIMIT;
        while self.connections.count() + self.audit.pending() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        let left = self.audit.pending();
        if left > 0 {
            terminal::message(format_args!(
                "certctl-reference: {left} audit rows were still under way after {DRAIN_LIMIT:?}\n"
            ));
        }
    }
}

/// A count of things under way.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(&self.0))
    }

    /// Returns the number of live guards.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thing under way.
pub struct GaugeGuard(Arc<AtomicUsize>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
