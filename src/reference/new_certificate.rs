//! The body of a request for a new certificate, and certctl's checks on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::Deserialize;

use crate::clock;
use crate::ids::Ids;
use crate::store::certificate_rows::Certificate;

const MAX_COMMON_NAME_BYTES: usize = 253;

/// A client's description of a new certificate; a missing value, null and an empty text are all the same.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NewCertificate {
    id: Option<String>,
    name: Option<String>,
    common_name: Option<String>,
    sans: Option<Vec<String>>,
    environment: Option<String>,
    owner_id: Option<String>,
    team_id: Option<String>,
    issuer_id: Option<String>,
    target_ids: Option<Vec<String>>,
    renewal_policy_id: Option<String>,
    certificate_profile_id: Option<String>,
    status: Option<String>,
    #[serde(deserialize_with = "clock::deserialize_optional")]
    expires_at: Option<SystemTime>,
    tags: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "clock::deserialize_optional")]
    last_renewal_at: Option<SystemTime>,
    #[serde(deserialize_with = "clock::deserialize_optional")]
    last_deployment_at: Option<SystemTime>,
    #[serde(deserialize_with = "clock::deserialize_optional")]
    revoked_at: Option<SystemTime>,
    revocation_reason: Option<String>,
    #[serde(deserialize_with = "clock::deserialize_optional")]
    created_at: Option<SystemTime>,
    #[serde(deserialize_with = "clock::deserialize_optional")]
    updated_at: Option<SystemTime>,
    source: Option<String>,
}

impl NewCertificate {
    /// Returns the certificate to insert, or certctl's message about the first error, looked for in certctl's order.
    pub fn check(self, ids: &Ids) -> Result<Certificate, String> {
        let common_name = required("common_name", self.common_name)?;
        check_common_name(&common_name)?;
        let owner_id = required("owner_id", self.owner_id)?;
        let team_id = required("team_id", self.team_id)?;
        let issuer_id = required("issuer_id", self.issuer_id)?;
        let name = required("name", self.name)?;
        let renewal_policy_id = required("renewal_policy_id", self.renewal_policy_id)?;
        let now = SystemTime::now();
        let time = |given: Option<SystemTime>| given.filter(|time| *time != clock::year_1()).unwrap_or(now);
        Ok(Certificate {
            id: non_empty(self.id).unwrap_or_else(|| ids.row("cert")),
            name,
            common_name,
            sans: self.sans,
            environment: self.environment.unwrap_or_default(),
            owner_id,
            team_id,
            issuer_id,
            target_ids: self.target_ids,
            renewal_policy_id,
            profile_id: non_empty(self.certificate_profile_id),
            status: non_empty(self.status).unwrap_or_else(|| "Pending".to_owned()),
            expires_at: self.expires_at.unwrap_or_else(clock::year_1),
            tags: self.tags.unwrap_or_default(),
            last_renewal_at: self.last_renewal_at,
            last_deployment_at: self.last_deployment_at,
            revoked_at: self.revoked_at,
            revocation_reason: non_empty(self.revocation_reason),
            created_at: time(self.created_at),
            updated_at: time(self.updated_at),
            source: self.source.unwrap_or_default(),
        })
    }
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn required(field: &str, text: Option<String>) -> Result<String, String> {
    non_empty(text).ok_or_else(|| format!("{field} is required"))
}

fn check_common_name(name: &str) -> Result<(), String> {
    if name.len() > MAX_COMMON_NAME_BYTES {
        return Err(format!("common_name must be {MAX_COMMON_NAME_BYTES} characters or fewer"));
    }
    if name.contains('@') {
        return check_email(name);
    }
    if name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let wrong = |what: &str| Err(format!("invalid hostname format: {what}"));
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_' | '*');
    if let Some(other) = name.chars().find(|char| !allowed(*char)) {
        return wrong(&format!("hostname contains invalid character: {other}"));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return wrong("hostname has empty label");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return wrong("hostname labels cannot start or end with hyphen");
        }
    }
    Ok(())
}

/// Checks far less than certctl, and is right for addresses without quotes or comments.
fn check_email(address: &str) -> Result<(), String> {
    let plain = |part: &str| !part.is_empty() && !part.contains(|char: char| char == '@' || char.is_whitespace());
    match address.split_once('@') {
        Some((user, host)) if plain(user) && plain(host) => Ok(()),
        _ => Err("invalid email format for S/MIME common name: not user@host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_hosts_addresses_or_mailboxes() {
        for good in ["a.example.test", "*.example.test", "a_b", "127.0.0.1", "::1", "x@example.test"] {
            assert_eq!(check_common_name(good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("a b", "invalid character:  "),
            ("a..b", "empty label"),
            ("a.", "empty label"),
            ("-a.b", "start or end with hyphen"),
            ("a@b@c", "email"),
            ("@b", "email"),
        ] {
            let message = check_common_name(bad).expect_err(bad);
            assert!(message.contains(reason), "{bad}: {message}");
        }
        assert_eq!(check_common_name(&"a".repeat(253)), Ok(()));
        assert!(check_common_name(&"a".repeat(254)).is_err());
    }
}
