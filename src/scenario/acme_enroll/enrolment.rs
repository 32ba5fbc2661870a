//! One enrolment: the requests of a client from a new order, or a new account, to the end.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use serde_json::json;

use super::super::acme::answer::Nonce;
use super::super::journey::{Journey, Next, StepProgress};
use super::super::unwanted;
use super::jws::{AccountKey, CONTENT_TYPE};
use super::keys::Wanted;
use super::resources::{self, Authorization, MadeAccount, Order, Status, path_at, shown};
use super::{AUTHORIZATION, CERTIFICATE, CHALLENGE, FINALIZE, NEW_ACCOUNT, NEW_ORDER, State, chain, retry_after};
use crate::clock::Moment;
use crate::measure::Outcome;
use crate::wire::http1::Response;
use crate::wire::request::{Method, encode, encode_as};

/// The bounds of a pause between two looks at a resource, whatever the server says. The looks end with the time that an
/// arrival may take.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// The first pause where the server names none; each further one is twice as long, up to [`LONGEST_OWN_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_OWN_PAUSE: Duration = Duration::from_millis(1_600);

/// An account, and the key that belongs to it alone.
pub struct KeptAccount {
    key: AccountKey,
    /// Its URL, once the server has made it.
    url: OnceCell<String>,
    /// Orders that were begun with it.
    orders: Cell<u32>,
}

/// One enrolment under way. Its account, and a nonce that it has not used, go back to the scenario when it is dropped.
pub struct Enrolment {
    state: Rc<State>,
    account: Rc<KeptAccount>,
    wanted: Wanted,
    nonce: Option<(String, Moment)>,
    stage: Stage,
    sent: Sent,
    /// True if the last answer refused the nonce, and the request is to be sent once more.
    retries: bool,
    pause: Option<Duration>,
    order: Places,
    /// Looks at the same resource so far.
    looks: u32,
}

/// The request that is next or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    NewAccount,
    NewOrder,
    /// A look at the first of the authorizations that were not looked at yet.
    Authorization,
    /// The answer to the first of the challenges.
    Challenge,
    /// Looks at its authorization until that is valid.
    Validation,
    Finalize,
    /// Looks at the order until its certificate is issued.
    Issuance,
    Certificate,
    Ended,
}

/// The last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Nonce,
    Signed,
}

/// URLs of the server's.
#[derive(Default)]
struct Places {
    order: String,
    finalize: String,
    certificate: String,
    authorizations: VecDeque<String>,
    /// Authorizations that are pending, each with its challenge.
    challenges: VecDeque<(String, String)>,
}

/// The failure of a step: its outcome, and the flaw in words.
type Failure = (Outcome, String);

fn wrong<T>(flaw: impl Into<String>) -> Result<T, Failure> {
    Err((Outcome::Wrong, flaw.into()))
}

impl Enrolment {
    /// Begins an enrolment at `start`, with an account that has room for one more order, or else a new one.
    pub fn begin(state: &Rc<State>, start: Moment) -> Self {
        let kept = state.idle.borrow_mut().pop();
        let stage = if kept.is_some() { Stage::NewOrder } else { Stage::NewAccount };
        let new = || KeptAccount { key: state.keys.account(), url: OnceCell::new(), orders: Cell::new(0) };
        Self {
            account: kept.unwrap_or_else(|| Rc::new(new())),
            wanted: state.keys.wanted(),
            nonce: state.nonces.borrow_mut().take(start),
            state: state.clone(),
            stage,
            sent: Sent::Nonce,
            retries: false,
            pause: None,
            order: Places::default(),
            looks: 0,
        }
    }

    /// Returns the URL and the payload of the next signed request.
    fn call(&self) -> (&str, Cow<'_, str>) {
        let state = &*self.state;
        let empty = Cow::Borrowed("");
        match self.stage {
            Stage::NewAccount => {
                let payload = json!({"termsOfServiceAgreed": true, "contact": [state.contact]});
                (&state.paths.new_account, payload.to_string().into())
            }
            Stage::NewOrder => {
                let payload = json!({"identifiers": [{"type": "dns", "value": self.wanted.name}]});
                (&state.paths.new_order, payload.to_string().into())
            }
            Stage::Authorization => (self.order.authorizations.front().map_or("", String::as_str), empty),
            Stage::Challenge => (self.order.challenges.front().map_or("", |(_, challenge)| challenge), "{}".into()),
            Stage::Validation => (self.order.challenges.front().map_or("", |(authorization, _)| authorization), empty),
            Stage::Finalize => {
                let csr = self.wanted.request.as_ref().map_or("", |request| &request.csr);
                (&self.order.finalize, format!(r#"{{"csr":"{csr}"}}"#).into())
            }
            Stage::Issuance => (&self.order.order, empty),
            Stage::Certificate | Stage::Ended => (&self.order.certificate, empty),
        }
    }

    /// Takes the answer to a request for a nonce.
    fn take_nonce(&mut self, end: Moment, response: &Response<'_>) -> Result<(), Failure> {
        // 200 is what a server should answer to HEAD, 204 what it must to GET (RFC 8555, section 7.2).
        if !matches!(response.status, 200 | 204) {
            return Err(self.refusal(response, 200));
        }
        match Nonce::of(response) {
            Nonce::Valid(nonce) => self.nonce = Some((text(nonce), end)),
            Nonce::None => return wrong("the answer to new-nonce has no Replay-Nonce"),
            Nonce::Several => return wrong("it has more than one Replay-Nonce"),
            Nonce::Invalid => return wrong("its Replay-Nonce is not base64url"),
        }
        Ok(())
    }

    /// Takes the answer to a signed request. Returns true if the step that began before it is done.
    fn take(&mut self, end: Moment, response: &Response<'_>) -> Result<bool, Failure> {
        let counts = &self.state.counts;
        let succeeded = (200..300).contains(&response.status);
        match Nonce::of(response) {
            Nonce::Valid(nonce) => self.nonce = Some((text(nonce), end)),
            Nonce::None if succeeded => counts.without_nonce.add(1),
            Nonce::None => {}
            Nonce::Several => return wrong("it has more than one Replay-Nonce"),
            Nonce::Invalid => return wrong("its Replay-Nonce is not base64url"),
        }
        counts.answers.add(u64::from(succeeded));
        if resources::is_bad_nonce(response) {
            if self.retries {
                return Err((Outcome::Failed(400), "badNonce, twice in a row".to_owned()));
            }
            counts.bad_nonces.add(1);
            self.retries = true;
            return Ok(false);
        }
        self.retries = false;
        let wanted = if matches!(self.stage, Stage::NewAccount | Stage::NewOrder) { 201 } else { 200 };
        if response.status != wanted {
            return Err(self.refusal(response, wanted));
        }
        match self.stage {
            Stage::NewAccount => self.account_made(response),
            Stage::NewOrder => self.order_made(response),
            Stage::Authorization => self.authorization_seen(response),
            Stage::Challenge => self.challenge_answered(response),
            Stage::Validation => self.validation_seen(response),
            Stage::Finalize | Stage::Issuance => self.order_seen(response),
            Stage::Certificate | Stage::Ended => self.certificate_fetched(response),
        }
    }

    /// Returns the failure of an answer whose status is not `wanted`.
    fn refusal(&self, response: &Response<'_>, wanted: u16) -> Failure {
        if response.status != 429 {
            return (unwanted(response.status, wanted), format!("{wanted} was due"));
        }
        let counts = &self.state.counts;
        counts.refused.add(1);
        if resources::is_rate_limited(response, self.sent == Sent::Signed) {
            counts.refused_in_shape.add(1);
            (Outcome::Refused, "a rate limit".to_owned())
        } else {
            (Outcome::Wrong, format!("its type is not {}", resources::RATE_LIMITED))
        }
    }

    fn account_made(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        self.state.counts.accounts.add(1);
        let Some(account) = resources::read::<MadeAccount>(response) else { return wrong("it is no account") };
        if !account.is_valid() {
            return wrong("the new account is not valid");
        }
        let url = self.location(response)?;
        // It had none: a new account is made once, before the account is kept.
        let _ = self.account.url.set(url);
        self.stage = Stage::NewOrder;
        Ok(true)
    }

    fn order_made(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        self.state.counts.orders.add(1);
        let Some(order) = resources::read::<Order>(response) else { return wrong("it is no order") };
        if !order.is_for(&self.wanted.name) {
            return wrong("it is not the order of the one name that was ordered");
        }
        if !matches!(order.status, Status::Pending | Status::Ready) {
            return wrong("the new order is neither pending nor ready");
        }
        self.order.order = self.location(response)?;
        for url in order.authorizations.iter().chain([&order.finalize]) {
            self.is_here(url)?;
        }
        self.order.authorizations = order.authorizations.into();
        self.order.finalize = order.finalize;
        self.stage = Stage::Authorization;
        Ok(true)
    }

    fn authorization_seen(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        let authorization = self.authorization(response)?;
        match authorization.status {
            Status::Valid => {}
            Status::Pending => {
                let Some(challenge) = authorization.challenge() else {
                    return wrong("the authorization is pending, and has no challenge");
                };
                self.is_here(&challenge.url)?;
                let own = self.order.authorizations.front().cloned().unwrap_or_default();
                self.order.challenges.push_back((own, challenge.url.clone()));
            }
            _ => return wrong("the authorization is neither pending nor valid"),
        }
        self.order.authorizations.pop_front();
        if !self.order.authorizations.is_empty() {
            return Ok(false);
        }
        self.stage = if self.order.challenges.is_empty() { self.after_authorizations() } else { Stage::Challenge };
        Ok(true)
    }

    fn challenge_answered(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        match resources::read::<resources::Challenge>(response).map(|challenge| challenge.status) {
            Some(Status::Pending | Status::Processing | Status::Valid) => {}
            Some(Status::Invalid) => return wrong("the challenge failed"),
            _ => return wrong("it is no challenge"),
        }
        self.state.counts.challenges.add(1);
        self.looks = 0;
        self.stage = Stage::Validation;
        Ok(false)
    }

    fn validation_seen(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        match self.authorization(response)?.status {
            Status::Valid => {}
            Status::Pending | Status::Processing => {
                self.wait(response);
                return Ok(false);
            }
            _ => return wrong("the authorization failed"),
        }
        self.order.challenges.pop_front();
        let all = self.order.challenges.is_empty();
        self.stage = if all { self.after_authorizations() } else { Stage::Challenge };
        Ok(all)
    }

    fn order_seen(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        let Some(order) = resources::read::<Order>(response).filter(|order| order.is_for(&self.wanted.name)) else {
            return wrong("it is not the order that was finalized");
        };
        match (order.status, order.certificate) {
            (Status::Valid, Some(certificate)) => {
                self.is_here(&certificate)?;
                self.state.counts.certificates.add(1);
                self.order.certificate = certificate;
                self.stage = Stage::Certificate;
                Ok(true)
            }
            // A server may take a moment to begin.
            (Status::Processing | Status::Ready, _) => {
                self.wait(response);
                self.stage = Stage::Issuance;
                Ok(false)
            }
            (Status::Valid, None) => wrong("the order is valid, and has no certificate"),
            _ => wrong("the order failed"),
        }
    }

    fn certificate_fetched(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        if !resources::is_chain(response) || response.coding().is_some() {
            return wrong(super::super::other_type(response, resources::PEM_CHAIN));
        }
        let Some(request) = &self.wanted.request else { return wrong("no certificate was ordered") };
        let (name, authorities) = (&self.wanted.name, &self.state.authorities);
        let verified = chain::verify(response.body, &request.public_key, name, authorities, UnixTime::now());
        if let Err(flaw) = verified {
            self.state.counts.unverified.add(1);
            return wrong(flaw);
        }
        self.state.counts.verified.add(1);
        self.stage = Stage::Ended;
        Ok(true)
    }

    fn after_authorizations(&mut self) -> Stage {
        self.looks = 0;
        if self.wanted.request.is_some() { Stage::Finalize } else { Stage::Ended }
    }

    fn authorization(&self, response: &Response<'_>) -> Result<Authorization, Failure> {
        let read = resources::read::<Authorization>(response);
        match read.filter(|one| one.identifier.is(&self.wanted.name)) {
            Some(authorization) => Ok(authorization),
            None => wrong("it is no authorization of the ordered name"),
        }
    }

    /// Waits before the next look at a resource: as long as the server wishes, or else longer each time.
    fn wait(&mut self, response: &Response<'_>) {
        let own = FIRST_PAUSE.saturating_mul(1 << self.looks.min(10)).min(LONGEST_OWN_PAUSE);
        self.looks += 1;
        self.pause = Some(retry_after::pause(response).unwrap_or(own).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }

    fn location(&self, response: &Response<'_>) -> Result<String, Failure> {
        let Some(url) = resources::location(response) else { return wrong("it has not one Location") };
        self.is_here(&url)?;
        Ok(url)
    }

    fn is_here(&self, url: &str) -> Result<(), Failure> {
        match path_at(url, &self.state.host) {
            Some(_) => Ok(()),
            None => wrong(format!("it names a URL that is not of this server: {}", shown(url))),
        }
    }
}

/// A nonce is base64url.
fn text(nonce: &[u8]) -> String {
    String::from_utf8_lossy(nonce).into_owned()
}

impl Journey for Enrolment {
    fn step(&self) -> usize {
        match self.stage {
            Stage::NewAccount => NEW_ACCOUNT,
            Stage::NewOrder => NEW_ORDER,
            Stage::Authorization => AUTHORIZATION,
            Stage::Challenge | Stage::Validation => CHALLENGE,
            Stage::Finalize | Stage::Issuance => FINALIZE,
            Stage::Certificate => CERTIFICATE,
            Stage::Ended if self.wanted.request.is_some() => CERTIFICATE,
            Stage::Ended => CHALLENGE,
        }
    }

    fn next(&mut self, request: &mut Vec<u8>) -> Next {
        if self.stage == Stage::Ended {
            return Next::End;
        }
        if let Some(pause) = self.pause.take() {
            return Next::Pause(pause);
        }
        let state = self.state.clone();
        let Some((nonce, _)) = self.nonce.take() else {
            self.sent = Sent::Nonce;
            state.counts.fetched.add(1);
            *request = encode(Method::Head, &state.paths.new_nonce, &state.host, state.token.as_deref(), "");
            return Next::Send(0, Method::Head);
        };
        self.sent = Sent::Signed;
        let account = &*self.account;
        if self.stage == Stage::NewOrder && !self.retries {
            account.orders.set(account.orders.get() + 1);
        }
        let (url, payload) = self.call();
        let body = account.key.sign(account.url.get().map(String::as_str), &nonce, url, &payload);
        // Every URL was found to be of this server before it was kept.
        let path = path_at(url, &state.host).unwrap_or("/");
        let authorization = state.token.as_ref().map(|token| ("Authorization", format!("Bearer {token}")));
        let mut fields: Vec<_> = authorization.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.stage == Stage::Certificate {
            // Beside the one for JSON, which problem documents are (RFC 9110, section 5.3).
            fields.push(("Accept", resources::PEM_CHAIN));
        }
        *request = encode_as(Method::Post, path, &state.host, &fields, CONTENT_TYPE, body.as_bytes());
        Next::Send(0, Method::Post)
    }

    fn answered(&mut self, _sent: Moment, end: Moment, response: &Response<'_>) -> StepProgress {
        let taken = match self.sent {
            Sent::Nonce => self.take_nonce(end, response).map(|()| false),
            Sent::Signed => self.take(end, response),
        };
        match taken {
            Ok(false) => StepProgress::Continues,
            Ok(true) => StepProgress::Done,
            Err((outcome, flaw)) => StepProgress::Failed(outcome, flaw),
        }
    }
}

impl Drop for Enrolment {
    fn drop(&mut self) {
        if let Some((nonce, since)) = self.nonce.take() {
            self.state.nonces.borrow_mut().put(nonce, since);
        }
        let account = &self.account;
        if account.url.get().is_some() && account.orders.get() < self.state.orders_per_account {
            self.state.idle.borrow_mut().push(account.clone());
        }
    }
}
