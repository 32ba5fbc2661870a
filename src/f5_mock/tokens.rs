//! Who has logged in: a fresh token per login, good for an hour.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use rustls::crypto::{SecureRandom, aws_lc_rs};
use serde_json::{Value, json};

use crate::shelf::{Limits, Shelf};

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// Beyond it the oldest tokens are forgotten.
const LIMITS: Limits = Limits { items: 16_384, bytes: usize::MAX };

/// The tokens that are good.
pub struct Tokens {
    random: &'static dyn SecureRandom,
    /// Until when each is good.
    known: Mutex<Shelf<Instant>>,
}

impl Tokens {
    /// None yet; fails where the system has no random numbers.
    pub fn new() -> Result<Self, String> {
        let random = aws_lc_rs::default_provider().secure_random;
        random.fill(&mut [0; 16]).map_err(|_| "the system has no random numbers".to_owned())?;
        Ok(Self { random, known: Mutex::new(Shelf::new(LIMITS)) })
    }

    /// A new token as iControl describes it; none where there are no random numbers any more.
    pub fn issue(&self, user: &str) -> Option<Value> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).ok()?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        self.known().put(&token, Instant::now() + LIFETIME, 0).ok()?;
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + LIFETIME;
        Some(json!({
            "token": token,
            "name": token,
            "userName": user,
            "timeout": LIFETIME.as_secs(),
            // Lossless until the year 294246.
            "expirationMicros": expires.as_micros() as i64,
        }))
    }

    /// Whether a request carries a good token, in the one way or the other.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        let bearer = || headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ");
        let own = headers.get("x-f5-auth-token").and_then(|value| value.to_str().ok());
        let Some(token) = own.or_else(bearer) else { return false };
        self.known().get(token).is_some_and(|until| Instant::now() < *until)
    }

    fn known(&self) -> MutexGuard<'_, Shelf<Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
