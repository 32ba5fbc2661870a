//! ACME orders: placed and shown.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::limits::{Action, rate_limited};
use super::problem::{Kind, Problem};
use super::{Place, client_event, issue_nonce, profile, signed, with_location, with_nonce};
use crate::app::App;
use crate::body;
use crate::clock::{parse_rfc3339, rfc3339_seconds};
use crate::reply::{self, Reply};
use crate::store::Store;
use crate::store::acme_order_rows::{AcmeOrder, Authorization, Challenge, Fault, Identifier};
use crate::store::acme_rows::AcmeStatus;
use crate::store::profile_rows::AuthMode;

/// The life of an order, and that of its authorizations.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
/// The only kind of challenge that certctl ever makes.
const HTTP_01: &str = "http-01";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NewOrder {
    identifiers: Vec<Identifier>,
    not_before: String,
    not_after: String,
}

/// Answers with a new order.
pub async fn create<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<Reply, Problem> {
    let (account, payload) = signed::by_account(app, place, body).await?;
    let wanted: NewOrder =
        body::object(&payload).ok_or_else(|| Problem::malformed("could not parse new-order payload"))?;
    refuse_unsupported(&wanted.identifiers)?;
    app.acme_limits.take(Action::NewOrder, &account.id)?;
    if let Some(most) = app.acme_limits.concurrent_orders() {
        // Without the count certctl takes the order.
        let active = app.store.active_acme_orders(&account.id).await.unwrap_or_default();
        if active >= most {
            let detail = "too many concurrent orders for this account; finish or cancel pending orders before \
                          submitting more";
            return Err(rate_limited(detail));
        }
    }
    // certctl resolves the profile, and then fetches it.
    profile(app, place).await?;
    let (profile_id, profile) = profile(app, place).await?;
    let (order, authorizations) = open(app, &account.id, wanted, profile.acme_auth_mode)?;
    let names: Vec<&str> = order.identifiers.iter().map(|identifier| identifier.value.as_str()).collect();
    let auth_mode = match profile.acme_auth_mode {
        AuthMode::TrustAuthenticated => "trust_authenticated",
        AuthMode::Challenge => "challenge",
    };
    let details = json!({
        "account_id": account.id,
        "profile_id": profile_id,
        "auth_mode": auth_mode,
        "identifier_n": names.len(),
        "identifiers": names,
    });
    let event = client_event(app, &account.id, "acme_order_created", "acme_order", &order.id, details);
    app.store.insert_acme_order(&order, &authorizations, &event).await?;
    app.audit.inserted();
    app.work.orders_created.one();
    let nonce = issue_nonce(app).await;
    let reply = with_nonce(shown(app, place, StatusCode::CREATED, &order).await, nonce);
    Ok(with_location(reply, place.order(&order.id)))
}

fn refuse_unsupported(identifiers: &[Identifier]) -> Result<(), Problem> {
    let rejected = |detail: String| Problem::new(StatusCode::BAD_REQUEST, Kind::RejectedIdentifier, detail);
    let problem = |identifier: &Identifier| {
        let detail = match identifier.kind.to_lowercase().as_str() {
            "dns" if !identifier.value.is_empty() => return None,
            "dns" => "identifier value is empty".to_owned(),
            _ => format!("identifier type {:?} is not supported (dns only)", identifier.kind),
        };
        Some(rejected(detail).about(identifier.clone()))
    };
    let problems: Vec<Problem> = match identifiers {
        [] => vec![Problem::malformed("new-order requires at least one identifier")],
        identifiers => identifiers.iter().filter_map(problem).collect(),
    };
    if problems.is_empty() {
        return Ok(());
    }
    Err(rejected("one or more identifiers were rejected".to_owned()).of(problems))
}

/// Returns the rows of an order.
fn open<S: Store>(
    app: &App<S>,
    account_id: &str,
    wanted: NewOrder,
    mode: AuthMode,
) -> Result<(AcmeOrder, Vec<Authorization>), Problem> {
    let now = SystemTime::now();
    let (order_status, status, validated_at) = match mode {
        AuthMode::TrustAuthenticated => (AcmeStatus::Ready, AcmeStatus::Valid, Some(now)),
        AuthMode::Challenge => (AcmeStatus::Pending, AcmeStatus::Pending, None),
    };
    let id = |prefix: &str| Some(format!("{prefix}-{}", app.ids.short()?));
    let order = AcmeOrder {
        id: id("acme-ord").ok_or_else(Problem::internal)?,
        account_id: account_id.to_owned(),
        identifiers: wanted.identifiers,
        status: order_status,
        expires_at: now + LIFE,
        // A time that is none is passed over.
        not_before: parse_rfc3339(&wanted.not_before),
        not_after: parse_rfc3339(&wanted.not_after),
        error: None,
        csr_pem: String::new(),
        certificate_id: None,
        created_at: now,
    };
    let authorization = |identifier: &Identifier| {
        let authorization_id = id("acme-authz")?;
        let challenge = Challenge {
            id: id("acme-chall")?,
            authorization_id: authorization_id.clone(),
            kind: HTTP_01.to_owned(),
            status,
            // As built, a token has 80 bits; clients that insist on the 128 of RFC 8555, section 8.3 refuse it.
            token: if app.is_as_built() { app.ids.short()? } else { app.ids.nonce()? },
            validated_at,
            error: None,
            created_at: now,
        };
        Some(Authorization {
            id: authorization_id,
            order_id: order.id.clone(),
            identifier: identifier.clone(),
            status,
            expires_at: now + LIFE,
            wildcard: identifier.value.starts_with("*."),
            created_at: now,
            challenges: vec![challenge],
        })
    };
    let authorizations: Option<Vec<Authorization>> = order.identifiers.iter().map(authorization).collect();
    let authorizations = authorizations.ok_or_else(Problem::internal)?;
    Ok((order, authorizations))
}

/// Answers with an order of the account that signed the request.
pub async fn show<S: Store>(app: &App<S>, place: &Place<'_>, id: &str, body: &[u8]) -> Result<Reply, Problem> {
    let (account, _) = signed::by_account(app, place, body).await?;
    let order = own(app, id, &account.id).await?;
    let nonce = issue_nonce(app).await;
    Ok(with_nonce(shown(app, place, StatusCode::OK, &order).await, nonce))
}

/// Returns an order of this account.
pub async fn own<S: Store>(app: &App<S>, id: &str, account_id: &str) -> Result<AcmeOrder, Problem> {
    let order = app.store.acme_order(id).await?.ok_or_else(|| Problem::not_found("resource not found"))?;
    if order.account_id != account_id {
        return Err(Problem::unauthorized("account does not own this resource"));
    }
    Ok(order)
}

/// Returns an answer with an order. Without its authorizations certctl answers all the same.
pub async fn shown<S: Store>(app: &App<S>, place: &Place<'_>, status: StatusCode, order: &AcmeOrder) -> Reply {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown<'a> {
        status: &'static str,
        expires: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_before: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        not_after: Option<String>,
        identifiers: &'a [Identifier],
        authorizations: Vec<String>,
        finalize: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        certificate: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: &'a Option<Fault>,
    }
    let authorizations = app.store.acme_authorization_ids(&order.id).await.unwrap_or_default();
    let certificate = order.certificate_id.as_ref().filter(|_| order.status == AcmeStatus::Valid);
    let shown = Shown {
        status: order.status.label(),
        expires: rfc3339_seconds(order.expires_at),
        not_before: order.not_before.map(rfc3339_seconds),
        not_after: order.not_after.map(rfc3339_seconds),
        identifiers: &order.identifiers,
        authorizations: authorizations.iter().map(|id| place.authorization(id)).collect(),
        finalize: format!("{}/finalize", place.order(&order.id)),
        certificate: certificate.map(|id| place.url(&format!("cert/{id}"))),
        error: &order.error,
    };
    reply::json(status, &shown)
}
