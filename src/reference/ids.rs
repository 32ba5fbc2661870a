//! Identifiers: of requests, of rows, and ACME's nonces.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::{SecureRandom, aws_lc_rs};

use crate::clock::since_epoch;

/// A source of identifiers.
pub struct Ids {
    /// One number for all rows of the process, as in certctl.
    sequence: AtomicU64,
    random: &'static dyn SecureRandom,
}

impl Ids {
    /// Returns a source of identifiers; fails where the system has no random numbers.
    pub fn new() -> Result<Self, String> {
        let random = aws_lc_rs::default_provider().secure_random;
        random.fill(&mut [0; 16]).map_err(|_| "the system has no random numbers".to_owned())?;
        Ok(Self { sequence: AtomicU64::new(0), random })
    }

    /// Returns a new row's id: prefix, nanoseconds since 1970, and a number that no other row of this process has.
    pub fn row(&self, prefix: &str) -> String {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{}-{sequence}", since_epoch(SystemTime::now()).as_nanos())
    }

    /// Returns a random UUID for a request.
    pub fn request(&self) -> String {
        let mut bytes = [0; 16];
        // The source gave bytes at the start, and an id of zeros would still be an id.
        let _ = self.random.fill(&mut bytes);
        let id = u128::from_be_bytes(bytes);
        // Version 4, variant 1.
        let id = id & !(0xf << 76) | 0x4 << 76;
        let id = id & !(0x3 << 62) | 0x2 << 62;
        let field = |from: u32, width: u32| id >> from & ((1 << width) - 1);
        let (a, b, c, d, e) = (field(96, 32), field(80, 16), field(64, 16), field(48, 16), field(0, 48));
        format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }

    /// Returns 80 random bits in 16 characters of Crockford's base 32, as certctl names ACME's rows; `None` where there
    /// are no random numbers any more.
    pub fn short(&self) -> Option<String> {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes[6..]).ok()?;
        let number = u128::from_be_bytes(bytes);
        // Five bits each: always within the alphabet.
        Some((0..16).rev().map(|place| char::from(ALPHABET[(number >> (5 * place) & 31) as usize])).collect())
    }

    /// Returns a nonce: 32 random bytes; `None` where there are no random numbers any more.
    pub fn nonce(&self) -> Option<String> {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes).ok()?;
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }
}
