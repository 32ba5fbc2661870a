//! Certificate revocation lists (RFC 5280, section 5).

use std::collections::HashMap;

use x509_cert::Version;
use x509_cert::crl::TbsCertList;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::Extensions;
use x509_cert::time::Time;

use super::certificate::IssuerCertificate;
use super::signed::Signed;
use super::{Flaw, Freshness, Serial};

/// The content type of a list (RFC 2585, section 4.2).
pub const TYPE: &str = "application/pkix-crl";

/// id-ce-cRLNumber (RFC 5280, section 5.2.3).
const NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// A list whose form, issuer and signature are right. Its freshness still has to fit the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Its number, big-endian without leading zeros: each list of an issuer has a greater one. `None` if it has none.
    pub number: Option<Vec<u8>>,
    /// The span of time for which it is valid.
    pub freshness: Freshness,
    /// The revoked certificates, with the times of their revocation in seconds since 1970.
    pub revoked: HashMap<Serial, i64>,
}

/// Verifies a list of `issuer`.
///
/// # Errors
/// If a relying party would reject it.
pub fn verify(der: &[u8], issuer: &IssuerCertificate) -> Result<RevocationList, Flaw> {
    let signed = Signed::from_der(der).map_err(|_| Flaw::Encoding)?;
    signed.verify(&issuer.key)?;
    let list = TbsCertList::from_der(signed.content).map_err(|_| Flaw::Encoding)?;
    let stated = list.signature.to_der();
    if list.version != Version::V2 || has_unknown_critical(list.crl_extensions.as_ref()) {
        return Err(Flaw::Unsupported);
    }
    if stated.is_err() || stated != signed.algorithm.to_der() {
        return Err(Flaw::Signature);
    }
    if list.issuer.to_der().map_err(|_| Flaw::Encoding)? != issuer.subject {
        return Err(Flaw::Issuer);
    }
    let entries = list.revoked_certificates.unwrap_or_default();
    let mut revoked = HashMap::with_capacity(entries.len());
    for entry in entries {
        // An entry with a critical extension may be of another issuer (RFC 5280, section 5.3.3).
        if has_unknown_critical(entry.crl_entry_extensions.as_ref()) {
            return Err(Flaw::Unsupported);
        }
        let serial = Serial::new(entry.serial_number.as_bytes()).ok_or(Flaw::Encoding)?;
        revoked.insert(serial, seconds(entry.revocation_date));
    }
    let this_update = seconds(list.this_update);
    Ok(RevocationList {
        number: number(list.crl_extensions.as_ref())?,
        freshness: Freshness { this_update, next_update: list.next_update.map(seconds) },
        revoked,
    })
}

/// Reports whether there is an extension that has to be understood and is not. A delta list and one of a part of the
/// certificates have such.
fn has_unknown_critical(extensions: Option<&Extensions>) -> bool {
    extensions.is_some_and(|extensions| extensions.iter().any(|one| one.critical && one.extn_id != NUMBER))
}

fn number(extensions: Option<&Extensions>) -> Result<Option<Vec<u8>>, Flaw> {
    let Some(extension) = extensions.and_then(|all| all.iter().find(|one| one.extn_id == NUMBER)) else {
        return Ok(None);
    };
    let number = UintRef::from_der(extension.extn_value.as_bytes()).map_err(|_| Flaw::Encoding)?;
    Ok(Some(number.as_bytes().to_vec()))
}

fn seconds(time: Time) -> i64 {
    time.to_unix_duration().as_secs() as i64
}
