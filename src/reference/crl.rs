//! CRLs: made when there is none, or at intervals, and kept for a day.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use certctl_bench::terminal;

use crate::app::App;
use crate::authority::{LOCAL_ISSUER, RevokedSerial};
use crate::issuance;
use crate::ocsp::bytes_of;
use crate::revocation::reason_code;
use crate::store::Store;
use crate::store::publication_rows::CrlRow;

/// Returns the kept CRL, or a new one, which is then kept. A revocation does not drop it.
pub async fn current<S: Store>(app: &App<S>, issuer_id: &str) -> Result<Vec<u8>, String> {
    let kept = app.store.crl(issuer_id).await.map_err(|error| error.to_string())?;
    match kept.filter(|kept| !kept.is_stale(SystemTime::now())) {
        Some(kept) => Ok(kept.der),
        None => regenerate(app, issuer_id).await,
    }
}

/// Makes the CRL again after each interval, until the server is to stop.
pub async fn refresh<S: Store>(app: Arc<App<S>>, interval: Duration) {
    let rounds = async {
        loop {
            tokio::time::sleep(interval).await;
            if let Err(error) = regenerate(&app, LOCAL_ISSUER).await {
                terminal::message(format_args!("certctl-reference: the CRL could not be made: {error}\n"));
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = app.stopping() => {}
    }
}

async fn regenerate<S: Store>(app: &App<S>, issuer_id: &str) -> Result<Vec<u8>, String> {
    app.crl_flights.join(issuer_id, make(app, issuer_id)).await
}

async fn make<S: Store>(app: &App<S>, issuer_id: &str) -> Result<Vec<u8>, String> {
    if issuer_id != LOCAL_ISSUER {
        return Err(format!("issuer not found: {issuer_id}"));
    }
    let start = Instant::now();
    let revocations = app.store.revocations_of_issuer(issuer_id).await.map_err(|error| error.to_string())?;
    let mut revoked = Vec::with_capacity(revocations.len());
    for revocation in revocations {
        // certctl reads each certificate, to leave out those that expire soon anyway.
        if let Ok(Some(certificate)) = app.store.certificate(&revocation.certificate_id).await
            && issuance::profile_of(app, &certificate).await.is_some_and(|profile| profile.is_short_lived())
        {
            continue;
        }
        revoked.push(RevokedSerial {
            serial: bytes_of(&revocation.serial_number),
            at: revocation.revoked_at,
            reason: reason_code(&revocation.reason).unwrap_or_default(),
        });
    }
    let (publication, number) = app.authority.sign_crl(&revoked)?;
    let row = CrlRow {
        publication,
        number,
        revoked_count: i32::try_from(revoked.len()).unwrap_or(i32::MAX),
        duration_ms: i32::try_from(start.elapsed().as_millis()).unwrap_or(i32::MAX),
    };
    app.store.put_crl(issuer_id, &row).await.map_err(|error| error.to_string())?;
    Ok(row.publication.der)
}
