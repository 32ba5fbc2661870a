//! Profiles: the rules for the certificates that refer to them.

use std::future::Future;
use std::time::Duration;

use serde::Deserialize;

use super::StoreError;

/// The operation that signing needs of a store beside versions.
pub trait ProfileStore {
    /// Returns the profile of this id.
    fn profile(&self, id: &str) -> impl Future<Output = Result<Option<Profile>, StoreError>> + Send;
}

/// The part of a profile that signing depends on.
#[derive(Clone, Debug)]
pub struct Profile {
    pub name: String,
    /// No rule at all allows every key.
    pub allowed_keys: Vec<AllowedKey>,
    /// Purposes, such as `serverAuth`.
    pub purposes: Vec<String>,
    /// No limit if zero.
    pub max_ttl_seconds: i32,
    pub allow_short_lived: bool,
}

/// A family of keys, and its shortest key in bits.
#[derive(Clone, Debug, Deserialize)]
pub struct AllowedKey {
    pub algorithm: String,
    pub min_size: i32,
}

impl Profile {
    /// Returns the longest validity of a certificate.
    pub fn max_validity(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.max_ttl_seconds).ok().filter(|seconds| *seconds > 0);
        seconds.map(Duration::from_secs)
    }

    /// Returns true if certificates expire so soon that nobody needs to know of their revocation.
    pub fn is_short_lived(&self) -> bool {
        self.allow_short_lived && (1..3_600).contains(&self.max_ttl_seconds)
    }

    /// Refuses a key of a family, or of a length, that no rule allows.
    ///
    /// # Errors
    /// If it is refused: certctl's message.
    pub fn check(&self, family: &str, bits: i32) -> Result<(), String> {
        let allowed = |rule: &AllowedKey| rule.algorithm == family && bits >= rule.min_size;
        if self.allowed_keys.is_empty() || self.allowed_keys.iter().any(allowed) {
            return Ok(());
        }
        Err(format!("CSR key ({family} {bits}-bit) does not match any allowed algorithm in profile {:?}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_allows_its_families_from_their_shortest_key() {
        let rule = |algorithm: &str, min_size| AllowedKey { algorithm: algorithm.to_owned(), min_size };
        let mut profile = Profile {
            name: "p".to_owned(),
            allowed_keys: vec![rule("ECDSA", 256), rule("RSA", 3_072)],
            purposes: Vec::new(),
            max_ttl_seconds: 3_599,
            allow_short_lived: true,
        };
        assert!(profile.check("ECDSA", 256).is_ok() && profile.check("RSA", 4_096).is_ok());
        assert!(profile.check("RSA", 2_048).is_err() && profile.check("Ed25519", 256).is_err());
        assert!(profile.is_short_lived());
        profile.max_ttl_seconds = 3_600;
        assert!(!profile.is_short_lived());
        profile.allowed_keys.clear();
        assert!(profile.check("Ed25519", 256).is_ok());
        assert_eq!(profile.max_validity(), Some(Duration::from_secs(3_600)));
    }
}
