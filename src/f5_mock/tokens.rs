//! Tokens of users who have logged in: 100 per user at a time, each good for 20 minutes unless changed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use certctl_bench::servers::hex;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::reply::{Refusal, self_link};

/// The lifetime of a token, as a BIG-IP has it.
const LIFETIME_S: u64 = 1_200;
/// The longest lifetime that a token may be given.
const MAX_LIFETIME_S: u64 = 36_000;
/// The most active tokens of one user; a BIG-IP refuses the next login.
const MAX_PER_USER: usize = 100;
/// The most active tokens of all users: a bound of this mock.
const MAX_TOKENS: usize = 16_384;
/// The path of tokens.
pub const PATH: &str = "/mgmt/shared/authz/tokens";

/// The active tokens.
pub struct Tokens {
    random: &'static dyn SecureRandom,
    active: Mutex<HashMap<String, Token>>,
}

struct Token {
    user: String,
    issued: Instant,
    issued_at: SystemTime,
    changed_at: SystemTime,
    timeout_s: u64,
    generation: u64,
}

impl Token {
    fn is_active(&self) -> bool {
        self.issued.elapsed() < Duration::from_secs(self.timeout_s)
    }

    fn show(&self, name: &str) -> Value {
        // Lossless until the year 294246.
        let micros = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
        json!({
            "token": name,
            "name": name,
            "userName": self.user,
            "authProviderName": "tmos",
            "user": {"link": format!("https://localhost/mgmt/shared/authz/users/{}", self.user)},
            "timeout": self.timeout_s,
            "startTime": humantime::format_rfc3339_millis(self.issued_at).to_string(),
            "partition": "[All]",
            "generation": self.generation,
            "lastUpdateMicros": micros(self.changed_at),
            "expirationMicros": micros(self.issued_at + Duration::from_secs(self.timeout_s)),
            "kind": "shared:authz:tokens:authtokenitemstate",
            "selfLink": self_link(&format!("{PATH}/{name}")),
        })
    }
}

impl Tokens {
    /// Returns an empty set; fails where the system has no random numbers.
    pub fn new() -> Result<Self, String> {
        let random = aws_lc_rs::default_provider().secure_random;
        random.fill(&mut [0; 16]).map_err(|_| "the system has no random numbers".to_owned())?;
        Ok(Self { random, active: Mutex::default() })
    }

    /// Issues a token, and returns it as iControl describes it.
    pub fn issue(&self, user: &str) -> Result<Value, Refusal> {
        let mut bytes = [0; 16];
        self.random
            .fill(&mut bytes)
            .map_err(|_| Refusal::with_status(StatusCode::INTERNAL_SERVER_ERROR, "the system has no random numbers"))?;
        let mut active = self.active();
        active.retain(|_, token| token.is_active());
        if active.values().filter(|token| token.user == user).count() >= MAX_PER_USER {
            return Err(Refusal::bad(format!("user {} has reached maximum active login tokens", user_id(user))));
        }
        if active.len() >= MAX_TOKENS {
            return Err(Refusal::bad(format!("all users together have {MAX_TOKENS} active login tokens")));
        }
        let (name, now) = (base32(bytes), SystemTime::now());
        let token = Token {
            user: user.to_owned(),
            issued: Instant::now(),
            issued_at: now,
            changed_at: now,
            timeout_s: LIFETIME_S,
            generation: 1,
        };
        let shown = token.show(&name);
        active.insert(name, token);
        Ok(shown)
    }

    /// Returns the user whom a request's credentials name: a token, in `X-F5-Auth-Token` or as a bearer's, before a
    /// user's name and password (Basic, RFC 7617). Any name and password are accepted where neither is empty.
    pub fn admit(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let denied = |why: &str| Refusal::with_status(StatusCode::UNAUTHORIZED, why);
        let by_token = |token: &str| {
            let active = self.active();
            let user = active.get(token).filter(|token| token.is_active()).map(|token| token.user.clone());
            user.ok_or_else(|| denied("X-F5-Auth-Token does not exist."))
        };
        if let Some(token) = headers.get("x-f5-auth-token") {
            return by_token(token.to_str().unwrap_or_default());
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // The scheme's name may be in any case (RFC 9110, section 11.1).
        match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => by_token(token.trim()),
            Some((scheme, pair)) if scheme.eq_ignore_ascii_case("Basic") => {
                let pair = BASE64_STANDARD.decode(pair.trim()).ok().and_then(|pair| String::from_utf8(pair).ok());
                let user = pair.as_deref().and_then(|pair| pair.split_once(':'));
                let user = user.filter(|(name, password)| !name.is_empty() && !password.is_empty());
                user.map(|(name, _)| name.to_owned()).ok_or_else(|| denied("Authentication failed."))
            }
            _ => Err(denied("Authorization failed: no user authentication header or token detected.")),
        }
    }

    /// Returns a user's active tokens.
    pub fn list(&self, user: &str) -> Vec<Value> {
        let active = self.active();
        let own = active.iter().filter(|(_, token)| token.user == user && token.is_active());
        own.map(|(name, token)| token.show(name)).collect()
    }

    /// Returns an active token.
    pub fn show(&self, name: &str) -> Result<Value, Refusal> {
        let active = self.active();
        let token = active.get(name).filter(|token| token.is_active());
        token.map(|token| token.show(name)).ok_or_else(|| unknown(name))
    }

    /// Sets the lifetime of a token, counted from its login.
    pub fn change(&self, name: &str, timeout_s: u64) -> Result<Value, Refusal> {
        let mut active = self.active();
        let token = active.get_mut(name).filter(|token| token.is_active()).ok_or_else(|| unknown(name))?;
        match timeout_s {
            0 => return Err(Refusal::bad("a token's timeout is at least 1 second")),
            1..=MAX_LIFETIME_S => {}
            _ => {
                let message = format!("Auth-token absolute timeout ({MAX_LIFETIME_S} seconds) exceeded");
                return Err(Refusal::with_status(StatusCode::NOT_ACCEPTABLE, message));
            }
        }
        (token.timeout_s, token.changed_at) = (timeout_s, SystemTime::now());
        token.generation += 1;
        Ok(token.show(name))
    }

    /// Ends a token, and returns it as it was.
    pub fn revoke(&self, name: &str) -> Result<Value, Refusal> {
        let token = self.active().remove(name).filter(Token::is_active);
        token.map(|token| token.show(name)).ok_or_else(|| unknown(name))
    }

    /// Ends all tokens of a user.
    pub fn revoke_all(&self, user: &str) {
        self.active().retain(|_, token| token.user != user);
    }

    /// Returns the number of active tokens.
    pub fn count(&self) -> usize {
        self.active().values().filter(|token| token.is_active()).count()
    }

    fn active(&self) -> MutexGuard<'_, HashMap<String, Token>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(name: &str) -> Refusal {
    let path = format!("{PATH}/{name}");
    Refusal::with_status(StatusCode::NOT_FOUND, format!("Object not found - {path}"))
}

/// Returns a user's id, which a BIG-IP puts into messages in place of the name.
fn user_id(user: &str) -> String {
    let digits = hex(&Sha256::digest(user.as_bytes())[..16]);
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// Returns 26 letters and digits, as a BIG-IP writes its tokens (RFC 4648, section 6, without padding).
fn base32(bytes: [u8; 16]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let number = u128::from_be_bytes(bytes);
    // 26 digits of 5 bits hold 130: the last is filled up with zeros.
    let digit = |place: u32| if place < 25 { (number >> (123 - 5 * place)) & 31 } else { (number << 2) & 31 };
    (0..26).map(|place| char::from(ALPHABET[digit(place) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_limited_to_a_hundred_tokens() {
        let tokens = Tokens::new().unwrap();
        let name = |shown: &Value| shown["name"].as_str().unwrap().to_owned();
        let first = name(&tokens.issue("one").unwrap());
        for _ in 1..MAX_PER_USER {
            tokens.issue("one").unwrap();
        }
        let refusal = tokens.issue("one").unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
        assert!(refusal.message.ends_with(" has reached maximum active login tokens"), "{}", refusal.message);
        tokens.issue("other").unwrap();
        tokens.revoke(&first).unwrap();
        tokens.revoke(&first).unwrap_err();
        tokens.issue("one").unwrap();
        tokens.revoke_all("one");
        assert_eq!((tokens.list("one").len(), tokens.count()), (0, 1));
    }

    #[test]
    fn base32_follows_rfc_4648() {
        assert_eq!(base32(*b"foobarfoobarfoob"), "MZXW6YTBOJTG633CMFZGM33PMI");
        assert_eq!(base32([0xff; 16]), "77777777777777777777777774");
    }
}
