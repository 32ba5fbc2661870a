//! ACME authorizations and their challenges.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header;
use serde::Serialize;
use serde_json::json;

use super::limits::Action;
use super::problem::Problem;
use super::{Place, client_event, issue_nonce, signed, with_nonce};
use crate::app::App;
use crate::clock::rfc3339_seconds;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::acme_account_rows::Account;
use crate::store::acme_order_rows::{Authorization, Challenge, Fault, Identifier};
use crate::store::acme_rows::AcmeStatus;

/// Answers with an authorization, whichever account it belongs to.
pub async fn show<S: Store>(app: &App<S>, place: &Place<'_>, id: &str, body: &[u8]) -> Result<Reply, Problem> {
    #[derive(Serialize)]
    struct Shown<'a> {
        identifier: &'a Identifier,
        status: &'static str,
        expires: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        wildcard: bool,
        challenges: Vec<ShownChallenge<'a>>,
    }
    signed::by_account(app, place, body).await?;
    let found = app.store.acme_authorization(id).await?.ok_or_else(|| Problem::not_found("resource not found"))?;
    app.work.authorizations_read.one();
    let shown = Shown {
        identifier: &found.identifier,
        status: found.status.label(),
        expires: rfc3339_seconds(found.expires_at),
        wildcard: found.wildcard,
        challenges: found.challenges.iter().map(|challenge| ShownChallenge::of(place, challenge)).collect(),
    };
    let reply = reply::json(StatusCode::OK, &shown);
    Ok(with_nonce(reply, issue_nonce(app).await))
}

#[derive(Serialize)]
struct ShownChallenge<'a> {
    r#type: &'a str,
    url: String,
    status: &'static str,
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    validated: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: &'a Option<Fault>,
}

impl<'a> ShownChallenge<'a> {
    fn of(place: &Place<'_>, challenge: &'a Challenge) -> Self {
        Self {
            r#type: &challenge.kind,
            url: place.url(&format!("challenge/{}", challenge.id)),
            status: challenge.status.label(),
            token: &challenge.token,
            validated: challenge.validated_at.map(rfc3339_seconds),
            error: &challenge.error,
        }
    }
}

/// Answers with a challenge, whose check begins unless it has begun before.
pub async fn respond<S: Store>(app: &Arc<App<S>>, place: &Place<'_>, id: &str, body: &[u8]) -> Result<Reply, Problem> {
    let (account, _) = signed::by_account(app, place, body).await?;
    app.acme_limits.take(Action::ChallengeResponse, id)?;
    let challenge = app.store.acme_challenge(id).await?.ok_or_else(|| Problem::not_found("challenge not found"))?;
    let challenge =
        if challenge.status == AcmeStatus::Pending { begin(app, &account, challenge).await? } else { challenge };
    let mut reply = reply::json(StatusCode::OK, &ShownChallenge::of(place, &challenge));
    // RFC 8555, section 7.1, which certctl passes over; certbot wants it.
    if !app.is_as_built()
        && let Ok(up) = format!("<{}>;rel=\"up\"", place.authorization(&challenge.authorization_id)).parse()
    {
        reply = reply::with_header(reply, header::LINK, up);
    }
    Ok(with_nonce(reply, issue_nonce(app).await))
}

/// Marks a challenge as being checked, and starts the check.
async fn begin<S: Store>(app: &Arc<App<S>>, account: &Account, mut challenge: Challenge) -> Result<Challenge, Problem> {
    let authorization = app.store.acme_authorization(&challenge.authorization_id).await?;
    let authorization = authorization.ok_or_else(Problem::internal)?;
    let order = app.store.acme_order(&authorization.order_id).await?.ok_or_else(Problem::internal)?;
    if order.account_id != account.id {
        return Err(Problem::unauthorized("account does not own this resource"));
    }
    challenge.status = AcmeStatus::Processing;
    let details = json!({
        "authz_id": authorization.id, "type": challenge.kind, "identifier": authorization.identifier.value,
    });
    let event = client_event(app, &account.id, "acme_challenge_processing", "acme_challenge", &challenge.id, details);
    app.store.update_acme_challenge(&challenge, &event).await?;
    app.audit.inserted();
    let (app, account_id) = (Arc::clone(app), account.id.clone());
    // The key authorization (RFC 8555, section 8.1).
    let expected = format!("{}.{}", challenge.token, account.key.thumbprint);
    let settled = challenge.clone();
    tokio::spawn(async move { settle(&app, &account_id, &authorization, settled, &expected).await });
    Ok(challenge)
}

/// Checks a challenge and writes the outcome. A store that fails leaves the challenge as it is, as in certctl.
async fn settle<S: Store>(
    app: &App<S>,
    account_id: &str,
    authorization: &Authorization,
    mut challenge: Challenge,
    expected: &str,
) {
    let host = &authorization.identifier.value;
    let outcome = app.acme_validator.check(host, &challenge.token, expected).await;
    let mut details = json!({
        "authz_id": authorization.id, "type": challenge.kind, "identifier": host, "valid": outcome.is_ok(),
    });
    match outcome {
        Ok(()) => (challenge.status, challenge.validated_at) = (AcmeStatus::Valid, Some(SystemTime::now())),
        Err(problem) => {
            let fault = problem.to_fault();
            details["error"] = fault.detail.as_str().into();
            (challenge.status, challenge.error) = (AcmeStatus::Invalid, Some(fault));
        }
    }
    let event = client_event(app, account_id, "acme_challenge_completed", "acme_challenge", &challenge.id, details);
    if app.store.settle_acme_challenge(&challenge, &authorization.order_id, &event).await.is_ok() {
        app.audit.inserted();
    }
}
