//! ACME accounts: created, shown, changed, deactivated.

use std::time::SystemTime;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::jwk::Jwk;
use super::problem::{Kind, Problem};
use super::{Place, client_event, issue_nonce, profile, signed, with_location, with_nonce};
use crate::app::App;
use crate::body;
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::acme_account_rows::{Account, AccountChange, AccountKey};
use crate::store::acme_rows::AcmeStatus;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NewAccount {
    contact: Option<Vec<String>>,
    terms_of_service_agreed: bool,
    only_return_existing: bool,
}

/// Answers with the account of the key that signed the request, a new one if there is none yet.
pub async fn create<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let (key, payload) = signed::by_key(app, place, body).await?;
    let wanted: NewAccount =
        body::object(&payload).ok_or_else(|| Problem::malformed("could not parse new-account payload"))?;
    let (profile_id, _) = profile(app, place).await?;
    let existing = app.store.acme_account_by_key(profile_id, &key.thumbprint()).await?;
    let (status, account) = match existing {
        Some(account) => (StatusCode::OK, account),
        None if wanted.only_return_existing => {
            let detail = "no account exists for this JWK; submit a new-account request without onlyReturnExisting";
            return Err(Problem::new(StatusCode::BAD_REQUEST, Kind::AccountDoesNotExist, detail));
        }
        None => (StatusCode::CREATED, register(app, profile_id, &key, wanted).await?),
    };
    let reply = with_nonce(shown(place, status, &account), issue_nonce(app).await);
    Ok(with_location(reply, place.account(&account.id)))
}

async fn register<S: Store>(app: &App<S>, profile_id: &str, key: &Jwk, wanted: NewAccount) -> Result<Account, Problem> {
    let thumbprint = key.thumbprint();
    let account = Account {
        id: format!("acme-acc-{thumbprint}"),
        key: AccountKey { thumbprint, pem: key.to_pem() },
        contact: wanted.contact,
        status: AcmeStatus::Valid,
        profile_id: profile_id.to_owned(),
        created_at: SystemTime::now(),
    };
    let details = json!({
        "profile_id": profile_id,
        "jwk_thumbprint": account.key.thumbprint,
        "contact_count": account.contact.as_ref().map_or(0, Vec::len),
        "tos_agreed": wanted.terms_of_service_agreed,
    });
    let event = client_event(app, &account.id, "acme_account_created", "acme_account", &account.id, details);
    app.store.insert_acme_account(&account, &event).await?;
    app.audit.inserted();
    app.work.accounts_created.one();
    Ok(account)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Update {
    contact: Option<Vec<String>>,
    status: String,
}

/// Answers with an account, after the changes that the request wants.
pub async fn show_or_change<S: Store>(
    app: &App<S>,
    place: &Place<'_>,
    id: &str,
    body: &[u8],
) -> Result<Reply, Problem> {
    let (mut account, payload) = signed::by_account(app, place, body).await?;
    if account.id != id {
        return Err(Problem::unauthorized("kid does not match URL account id"));
    }
    if !matches!(payload.trim_ascii(), b"" | b"{}") {
        let update: Update =
            body::object(&payload).ok_or_else(|| Problem::malformed("could not parse account update payload"))?;
        match update.status.as_str() {
            "" => {}
            "deactivated" => {
                let change = AccountChange::Status(AcmeStatus::Deactivated);
                let details = json!({"account_id": id, "new_status": AcmeStatus::Deactivated.label()});
                account = apply(app, id, &change, "acme_account_deactivated", details).await?;
            }
            other => {
                let detail = format!("only `deactivated` is a valid status for account update; got {other}");
                return Err(Problem::malformed(detail));
            }
        }
        if let Some(contact) = update.contact {
            let details = json!({"account_id": id, "contact_count": contact.len()});
            account = apply(app, id, &AccountChange::Contact(contact), "acme_account_updated", details).await?;
        }
    }
    Ok(with_nonce(shown(place, StatusCode::OK, &account), issue_nonce(app).await))
}

/// Changes an account and reads it back.
async fn apply<S: Store>(
    app: &App<S>,
    id: &str,
    change: &AccountChange,
    action: &'static str,
    details: Value,
) -> Result<Account, Problem> {
    let missing = || Problem::new(StatusCode::BAD_REQUEST, Kind::AccountDoesNotExist, "account not found");
    let event = client_event(app, id, action, "acme_account", id, details);
    if !app.store.change_acme_account(id, change, &event).await? {
        return Err(missing());
    }
    app.audit.inserted();
    app.store.acme_account(id).await?.ok_or_else(missing)
}

/// Returns an answer with an account.
pub fn shown(place: &Place<'_>, status: StatusCode, account: &Account) -> Reply {
    #[derive(Serialize)]
    struct Shown<'a> {
        status: &'static str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        contact: &'a [String],
        /// certctl names this list and has no route for it.
        orders: String,
    }
    let contact = account.contact.as_deref().unwrap_or_default();
    let orders = format!("{}/orders", place.account(&account.id));
    reply::json(status, &Shown { status: account.status.label(), contact, orders })
}
