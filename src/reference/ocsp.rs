//! OCSP: the status of a serial number, and the response about it, kept for an hour.

use std::time::SystemTime;

use crate::app::App;
use crate::authority::LOCAL_ISSUER;
use crate::cli::Behaviour;
use crate::issuance;
use crate::responder::{Question, Status};
use crate::revocation::reason_code;
use crate::store::publication_rows::Publication;
use crate::store::{Store, StoreError};

/// The length of a stored serial number.
const SERIAL_DIGITS: usize = 40;

/// Returns the form in which a serial number of a request is looked up. As built that is the form of the request,
/// which for one in eight certificates is shorter than the stored one.
pub fn lookup_form(behaviour: Behaviour, digits: &str) -> String {
    match behaviour {
        Behaviour::AsBuilt => digits.to_owned(),
        Behaviour::AsDocumented => format!("{:0>SERIAL_DIGITS$}", digits.to_ascii_lowercase()),
    }
}

/// Returns the response about a serial number: the kept one, or a new one, which is then kept. With a nonce it is
/// always a new one.
pub async fn respond<S: Store>(
    app: &App<S>,
    issuer_id: &str,
    serial: &str,
    nonce: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    if nonce.is_some() {
        return sign(app, issuer_id, serial, nonce).await.map(|response| response.der);
    }
    let kept = app.store.ocsp_response(issuer_id, serial).await;
    if let Some(kept) = kept.map_err(|error| error.to_string())?.filter(|kept| !kept.is_stale(SystemTime::now())) {
        return Ok(kept.der);
    }
    let regenerate = async {
        let response = sign(app, issuer_id, serial, None).await?;
        // The response is good, whether it is kept or not.
        let _ = app.store.put_ocsp_response(issuer_id, serial, &response).await;
        Ok(response.der)
    };
    app.ocsp_flights.join(&format!("{issuer_id}|{serial}"), regenerate).await
}

async fn sign<S: Store>(
    app: &App<S>,
    issuer_id: &str,
    serial: &str,
    nonce: Option<&[u8]>,
) -> Result<Publication, String> {
    if issuer_id != LOCAL_ISSUER {
        return Err(format!("issuer not found: {issuer_id}"));
    }
    let status = status_of(app, issuer_id, serial).await;
    announce_responder(app, issuer_id).await.map_err(|error| error.to_string())?;
    let question = Question { serial: &bytes_of(serial), status, nonce, behaviour: app.behaviour };
    let response = app.responder.sign(&question, SystemTime::now())?;
    app.work.ocsp_signed.one();
    Ok(response)
}

/// Returns the status of a serial number; what cannot be read counts as unknown, as in certctl.
async fn status_of<S: Store>(app: &App<S>, issuer_id: &str, serial: &str) -> Status {
    // certctl looks twice: the first time for certificates that live too short to be revoked.
    if let Ok(Some(revocation)) = app.store.revocation(issuer_id, serial).await
        && let Ok(Some(certificate)) = app.store.certificate(&revocation.certificate_id).await
        && issuance::profile_of(app, &certificate).await.is_some_and(|profile| profile.is_short_lived())
    {
        return Status::Good;
    }
    if let Ok(Some(revocation)) = app.store.revocation(issuer_id, serial).await {
        let reason = reason_code(&revocation.reason).unwrap_or_default();
        return Status::Revoked { at: revocation.revoked_at, reason };
    }
    match app.store.certificate_by_serial(issuer_id, serial).await {
        Ok(Some(_)) => Status::Good,
        Ok(None) | Err(_) => Status::Unknown,
    }
}

/// Records the responder's certificate unless the table has it; certctl reads it before each signature.
async fn announce_responder<S: Store>(app: &App<S>, issuer_id: &str) -> Result<(), StoreError> {
    let known = app.store.ocsp_responder(issuer_id).await?;
    if known.as_ref() == Some(&app.responder.row.serial) {
        return Ok(());
    }
    app.store.put_ocsp_responder(issuer_id, &app.responder.row).await
}

/// Returns a number in hexadecimal digits as bytes; zero for anything else.
pub fn bytes_of(digits: &str) -> Vec<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let Some(values) = digits.as_bytes().iter().map(value).collect::<Option<Vec<u8>>>() else { return vec![0] };
    // From the end, so that the first byte may have one digit.
    let mut bytes: Vec<u8> =
        values.rchunks(2).map(|pair| pair.iter().fold(0, |byte, value| byte << 4 | value)).collect();
    bytes.reverse();
    if bytes.is_empty() { vec![0] } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_any_number_become_bytes() {
        assert_eq!(bytes_of("0aff"), [0x0a, 0xff]);
        assert_eq!(bytes_of("aFf"), [0x0a, 0xff]);
        assert_eq!((bytes_of(""), bytes_of("xyz")), (vec![0], vec![0]));
    }

    #[test]
    fn as_documented_serial_numbers_are_padded() {
        assert_eq!(lookup_form(Behaviour::AsBuilt, "AB"), "AB");
        assert_eq!(lookup_form(Behaviour::AsDocumented, "AB"), format!("{}ab", "0".repeat(38)));
    }
}
