//! The change of an account's key (RFC 8555, section 7.3.5): a request signed by the old key around one by the new.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::jwk::Jwk;
use super::jws::Jws;
use super::limits::Action;
use super::problem::{Kind, Problem};
use super::{Place, accounts, client_event, issue_nonce, signed, with_nonce};
use crate::app::App;
use crate::body;
use crate::reply::Reply;
use crate::store::Store;
use crate::store::acme_account_rows::{Account, AccountKey, KeyChange};

/// Answers with the account, which has the new key from then on.
pub async fn change<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let (mut account, payload) = signed::by_account(app, place, body).await?;
    let new = inner_key(place, &account, &payload)?;
    app.acme_limits.take(Action::KeyChange, &account.id)?;
    let new = AccountKey { thumbprint: new.thumbprint(), pem: new.to_pem() };
    if app.store.acme_account_by_key(&account.profile_id, &new.thumbprint).await?.is_some() {
        return Err(unavailable("another account has it"));
    }
    let old = account.key.thumbprint.clone();
    let details = json!({"old_thumbprint": old, "new_thumbprint": new.thumbprint, "profile_id": account.profile_id});
    let event = client_event(app, &account.id, "acme_account_key_rolled", "acme_account", &account.id, details);
    match app.store.change_acme_key(&account.id, &old, &new, &event).await? {
        KeyChange::Done => app.audit.inserted(),
        KeyChange::OldKeyGone => return Err(unavailable("the account got another key meanwhile")),
        KeyChange::NewKeyTaken => return Err(unavailable("another account has it")),
    }
    account.key = new;
    Ok(with_nonce(accounts::shown(place, StatusCode::OK, &account), issue_nonce(app).await))
}

fn unavailable(why: &str) -> Problem {
    let detail = format!("the supplied new account key is unavailable: {why}");
    Problem::new(StatusCode::CONFLICT, Kind::Unauthorized, detail)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Payload {
    account: String,
    old_key: Option<Value>,
}

/// Returns the new key, which has signed the inner request over the account and its old key.
fn inner_key(place: &Place<'_>, account: &Account, inner: &[u8]) -> Result<Jwk, Problem> {
    let jws = Jws::parse(inner).ok_or_else(|| Problem::malformed("key rollover inner JWS malformed"))?;
    if !jws.header.kid.is_empty() {
        return Err(Problem::malformed("key rollover inner JWS MUST use `jwk`, not `kid`"));
    }
    let Some(new) = &jws.header.jwk else {
        return Err(Problem::malformed("key rollover inner JWS missing or invalid `jwk`"));
    };
    if jws.header.url != place.request_url() {
        return Err(Problem::unauthorized("key rollover inner URL: it is not that of the outer JWS"));
    }
    if !jws.is_signed_by(new) {
        return Err(Problem::unauthorized("key rollover proof failed: the new key did not sign the inner JWS"));
    }
    let payload: Payload =
        body::object(&jws.payload).ok_or_else(|| Problem::malformed("key rollover inner payload is not valid JSON"))?;
    if payload.account != place.account(&account.id) {
        return Err(Problem::malformed("key rollover inner `account` does not match outer kid"));
    }
    let Some(old) = payload.old_key else {
        return Err(Problem::malformed("key rollover inner missing `oldKey`"));
    };
    if Jwk::of(&old).is_none_or(|old| old.thumbprint() != account.key.thumbprint) {
        return Err(Problem::unauthorized("key rollover proof failed: `oldKey` is not the account's key"));
    }
    Ok(new.clone())
}
