//! The check of signed requests, in certctl's order: form, URL, nonce, key, account, signature. The nonce is used up
//! before the signature is looked at.

use hyper::StatusCode;
use serde_json::Value;

use super::Place;
use super::jwk::Jwk;
use super::jws::Jws;
use super::problem::{Kind, Problem};
use crate::app::App;
use crate::store::Store;
use crate::store::acme_account_rows::Account;
use crate::store::acme_rows::AcmeStatus;

/// certctl's limit on signed bodies.
const MAX_BODY_BYTES: usize = 64 << 10;
const CONTENT_TYPE: &str = "application/jose+json";

/// The key by which a resource wants its requests to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    /// A registered account, by its URL (`kid`).
    Account,
    /// The key in the request itself (`jwk`).
    Key,
}

/// The reason for which a signed request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    TooLarge,
    Malformed,
    WrongType,
    WrongUrl,
    NoNonce,
    UsedNonce,
    NotOneKey,
    KeyForAccount,
    AccountForKey,
    WrongAccountUrl,
    UnknownAccount,
    InactiveAccount,
    WrongSignature,
    /// A failure of the store.
    Failed,
}

impl Refusal {
    /// Returns certctl's problem for it.
    fn problem(self) -> Problem {
        match self {
            Self::TooLarge => Problem::malformed("request body too large"),
            Self::Malformed | Self::WrongAccountUrl => Problem::malformed("malformed JWS"),
            Self::WrongType => Problem::malformed("protected header `typ` must be `application/jose+json`"),
            Self::WrongUrl => Problem::unauthorized("protected header `url` mismatch or missing"),
            Self::NoNonce => bad_nonce("protected header `nonce` is required"),
            Self::UsedNonce => bad_nonce("nonce missing, replayed, or expired"),
            Self::NotOneKey => Problem::malformed("protected header MUST contain exactly one of `kid` or `jwk`"),
            Self::KeyForAccount => Problem::malformed("this endpoint requires `kid` (registered account); got `jwk`"),
            Self::AccountForKey => Problem::malformed("this endpoint requires `jwk` (new-account flow); got `kid`"),
            Self::UnknownAccount => {
                let detail = "kid points at unknown account";
                Problem::new(StatusCode::BAD_REQUEST, Kind::AccountDoesNotExist, detail)
            }
            Self::InactiveAccount => Problem::unauthorized("account status is not `valid`"),
            Self::WrongSignature => Problem::unauthorized("signature did not verify"),
            Self::Failed => Problem::malformed("malformed request"),
        }
    }
}

fn bad_nonce(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, Kind::BadNonce, detail)
}

/// A signed request whose nonce was fresh and whose signature is good.
pub struct Signed {
    pub payload: Vec<u8>,
    pub by: By,
}

/// The signer of a request.
pub enum By {
    Account(Box<Account>),
    Key(Box<Jwk>),
}

/// Checks a request that a registered account must have signed; returns the account and the payload.
pub async fn by_account<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<(Account, Vec<u8>), Problem> {
    match check(app, place, body, Signer::Account).await {
        Ok(Signed { payload, by: By::Account(account) }) => Ok((*account, payload)),
        // The signer that was wanted is the one that comes back.
        Ok(_) => Err(Problem::internal()),
        Err(refusal) => Err(refusal.problem()),
    }
}

/// Checks a request that a key of its own must have signed; returns the key and the payload.
pub async fn by_key<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<(Jwk, Vec<u8>), Problem> {
    match check(app, place, body, Signer::Key).await {
        Ok(Signed { payload, by: By::Key(key) }) => Ok((*key, payload)),
        Ok(_) => Err(Problem::internal()),
        Err(refusal) => Err(refusal.problem()),
    }
}

/// Checks a request by either signer. As built, certctl checks it twice: first for an account, then for a key, when the
/// nonce is used up.
pub async fn by_either<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8]) -> Result<Signed, Problem> {
    if !app.is_as_built() {
        let has_key = Jws::parse(body).is_some_and(|jws| jws.header.jwk.is_some());
        let signer = if has_key { Signer::Key } else { Signer::Account };
        return check(app, place, body, signer).await.map_err(Refusal::problem);
    }
    match check(app, place, body, Signer::Account).await {
        Err(Refusal::KeyForAccount | Refusal::UnknownAccount) => {
            check(app, place, body, Signer::Key).await.map_err(Refusal::problem)
        }
        outcome => outcome.map_err(Refusal::problem),
    }
}

async fn check<S: Store>(app: &App<S>, place: &Place<'_>, body: &[u8], signer: Signer) -> Result<Signed, Refusal> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Refusal::TooLarge);
    }
    let jws = Jws::parse(body).ok_or(Refusal::Malformed)?;
    if !matches!(&jws.header.typ, None | Some(Value::Null)) {
        let typ = jws.header.typ.as_ref().and_then(Value::as_str);
        if !typ.is_some_and(|typ| typ.is_empty() || typ == CONTENT_TYPE) {
            return Err(Refusal::WrongType);
        }
    }
    if jws.header.url.is_empty() || jws.header.url != place.request_url() {
        return Err(Refusal::WrongUrl);
    }
    if jws.header.nonce.is_empty() {
        return Err(Refusal::NoNonce);
    }
    // certctl takes a failure of the store for a nonce that it does not know.
    if !app.store.consume_nonce(&jws.header.nonce).await.unwrap_or(false) {
        app.work.nonces_rejected.one();
        return Err(Refusal::UsedNonce);
    }
    match (jws.header.kid.as_str(), &jws.header.jwk, signer) {
        ("", None, _) => Err(Refusal::NotOneKey),
        ("", Some(_), Signer::Account) => Err(Refusal::KeyForAccount),
        ("", Some(key), Signer::Key) => {
            let key = Box::new(key.clone());
            if jws.is_signed_by(&key) {
                Ok(Signed { payload: jws.payload, by: By::Key(key) })
            } else {
                Err(Refusal::WrongSignature)
            }
        }
        (_, Some(_), _) => Err(Refusal::NotOneKey),
        (_, None, Signer::Key) => Err(Refusal::AccountForKey),
        (kid, None, Signer::Account) => {
            let account = account(app, place, kid).await?;
            let key = Jwk::from_pem(&account.key.pem).ok_or(Refusal::Failed)?;
            let by = By::Account(Box::new(account));
            if jws.is_signed_by(&key) { Ok(Signed { payload: jws.payload, by }) } else { Err(Refusal::WrongSignature) }
        }
    }
}

/// Returns the valid account of this URL, which must be one of the place of the request.
async fn account<S: Store>(app: &App<S>, place: &Place<'_>, url: &str) -> Result<Account, Refusal> {
    let id = url.rsplit_once("/account/").map(|(_, id)| id).filter(|id| !id.is_empty());
    let id = id.filter(|id| place.account(id) == url).ok_or(Refusal::WrongAccountUrl)?;
    let account = app.store.acme_account(id).await.map_err(|_| Refusal::Failed)?;
    let account = account.ok_or(Refusal::UnknownAccount)?;
    if account.status == AcmeStatus::Valid { Ok(account) } else { Err(Refusal::InactiveAccount) }
}
