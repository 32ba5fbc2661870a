//! What all requests share, and how much of their work is under way or done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::crypto::{SecureRandom, aws_lc_rs};
use tokio::sync::watch;

use crate::audit::AuditLog;
use crate::auth::Key;
use crate::cli::{Args, Behaviour};
use crate::limiter::Limiter;
use crate::store::Store;

/// How long work under way may still take once we are told to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// The server's state.
pub struct App<S> {
    pub store: Arc<S>,
    pub keys: Vec<Key>,
    pub behaviour: Behaviour,
    /// Limiters for requests with and without a key, when limits are on: certctl keeps two tables.
    pub limiters: Option<Limiters>,
    pub audit: AuditLog<S>,
    /// Heartbeats answered with 200.
    pub heartbeats: AtomicU64,
    /// Connections that have shaken hands.
    pub connections: Gauge,
    stop: watch::Sender<bool>,
    random: &'static dyn SecureRandom,
}

/// One limiter for each of certctl's two chains.
#[derive(Default)]
pub struct Limiters {
    pub keyed: Limiter,
    pub keyless: Limiter,
}

impl<S: Store> App<S> {
    /// The state for these settings.
    pub fn new(store: S, keys: Vec<Key>, args: &Args) -> Result<Self, String> {
        let store = Arc::new(store);
        let random = aws_lc_rs::default_provider().secure_random;
        random.fill(&mut [0; 16]).map_err(|_| "the system has no random numbers".to_owned())?;
        Ok(Self {
            audit: AuditLog::new(Arc::clone(&store)),
            store,
            keys,
            behaviour: args.behaviour,
            limiters: args.rate_limit.then(Limiters::default),
            heartbeats: AtomicU64::new(0),
            connections: Gauge::default(),
            stop: watch::Sender::new(false),
            random,
        })
    }

    /// A random UUID for a request.
    pub fn request_id(&self) -> String {
        let mut bytes = [0; 16];
        // It gave bytes at the start, and an id of zeros would still be an id.
        let _ = self.random.fill(&mut bytes);
        let id = u128::from_be_bytes(bytes);
        // Version 4, variant 1.
        let id = id & !(0xf << 76) | 0x4 << 76;
        let id = id & !(0x3 << 62) | 0x2 << 62;
        let field = |from: u32, width: u32| id >> from & ((1 << width) - 1);
        let (a, b, c, d, e) = (field(96, 32), field(80, 16), field(64, 16), field(48, 16), field(0, 48));
        format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }

    /// Ends once the server is to stop.
    pub async fn stopping(&self) {
        // The sender is ours, so the wait cannot fail while we exist.
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
            eprintln!("certctl-reference: {left} audit rows were still under way after {DRAIN_LIMIT:?}");
        }
    }
}

/// Counts what is under way.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(Arc::clone(&self.0))
    }

    /// How many guards live.
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
