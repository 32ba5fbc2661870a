//! Single requests to a system outside of any measurement: those of the preflight, and for counters of work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::Certctl;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::event_loop::{sleep, timeout};
use crate::foreign;
use crate::wire::connection::Stopwatch;
use crate::wire::request::{Method, encode};
use crate::wire::{Connection, Dialer, Fault, Phases, Scratch};

/// The longest wait for one answer of a system, or for a connection to it.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait that remains once the run is to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// The interval of the checks for the run's stop.
const LOOK: Duration = Duration::from_millis(20);

/// A client that sends a system one request after another.
pub struct Probe<'a> {
    certctl: &'a Certctl,
    dialer: Dialer,
    connection: Option<Connection>,
    scratch: Scratch,
    stop: Option<Arc<AtomicBool>>,
    was_limited: bool,
}

/// A complete answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// True if its content type is JSON.
    pub is_json: bool,
    /// Its content coding, if it has one, which no request accepts.
    pub coding: Option<String>,
    /// The server's time, from the `Date` field.
    pub date: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl<'a> Probe<'a> {
    /// Creates a probe of `certctl` over connections of `dialer`.
    pub fn new(certctl: &'a Certctl, dialer: Dialer) -> Self {
        Self { certctl, dialer, connection: None, scratch: Scratch::default(), stop: None, was_limited: false }
    }

    /// Makes the probe give up soon after `stop` is set.
    #[must_use]
    pub fn until(self, stop: &Arc<AtomicBool>) -> Self {
        Self { stop: Some(stop.clone()), ..self }
    }

    /// Reports whether any answer was a 429.
    pub fn was_limited(&self) -> bool {
        self.was_limited
    }

    /// Sends a GET for `path`, without the token.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::Get, path, None, "").await
    }

    /// Sends a request with the system's token.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn send_with_token(&mut self, method: Method, path: &str) -> Result<Answer> {
        self.send(method, path, Some(self.certctl.token.reveal()), "").await
    }

    /// Posts JSON with the system's token.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn post_with_token(&mut self, path: &str, body: &str) -> Result<Answer> {
        self.send(Method::Post, path, Some(self.certctl.token.reveal()), body).await
    }

    async fn send(&mut self, method: Method, path: &str, token: Option<&str>, body: &str) -> Result<Answer> {
        self.scratch.request = encode(method, path, &self.certctl.base.host_header(), token, body);
        let stop = self.stop.clone();
        let answered = tokio::select! {
            biased;
            answered = timeout(PATIENCE, self.exchange(method)) => Some(answered),
            () = stopped(stop) => None,
        };
        let failed = match answered {
            Some(Ok(Ok(()))) => None,
            Some(Ok(Err(fault))) => Some(fault.to_string()),
            Some(Err(_)) => Some(format!("no complete answer within {PATIENCE:?}")),
            None => Some("no complete answer when the run was stopped".to_owned()),
        };
        if let Some(why) = failed {
            return Err(Error::new(format!("{} {path} at {}: {why}", method.token(), self.certctl.base))
                .with_hint("check that CERTCTL_BASE is certctl, and check its log"));
        }
        let response = self.scratch.response().ok_or_else(|| Error::new(format!("{path}: no complete response")))?;
        self.was_limited |= response.status == 429;
        let header = |name: &str| response.header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let date = header("date");
        let coding = response.coding().map(foreign::line_of_bytes);
        let body = response.body.to_owned();
        Ok(Answer { status: response.status, is_json: response.is_json(), coding, date, body })
    }

    async fn exchange(&mut self, method: Method) -> Result<(), Fault> {
        // The server may have closed a kept connection meanwhile: then a second attempt, on a new one.
        let kept = self.connection.is_some();
        match self.exchange_once(method).await {
            Err(_) if kept => self.exchange_once(method).await,
            done => done,
        }
    }

    async fn exchange_once(&mut self, method: Method) -> Result<(), Fault> {
        let (mut watch, mut phases) = (Stopwatch::from(Moment::now()), Phases::default());
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialer.open(&mut watch, &mut phases).await?,
        };
        if connection.exchange(method, &mut self.scratch, &mut watch, &mut phases).await? {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Waits until [`STOP_PATIENCE`] after `stop` is set; forever if there is no `stop`.
async fn stopped(stop: Option<Arc<AtomicBool>>) {
    let Some(stop) = stop else { return std::future::pending().await };
    while !stop.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
    sleep(STOP_PATIENCE).await;
}

impl Answer {
    /// Returns the body, if it is JSON by its content type and in fact.
    pub fn json(&self) -> Option<Value> {
        if self.is_json { serde_json::from_slice(&self.body).ok() } else { None }
    }

    /// Reports whether the body is an HTML page, whatever its content type.
    pub fn is_html(&self) -> bool {
        let body = String::from_utf8_lossy(&self.body).trim_start().to_ascii_lowercase();
        body.starts_with("<!doctype html") || body.starts_with("<html")
    }

    /// Returns the reason in an error answer, on one line. certctl sends the JSON of its 401 and 429 as text/plain, so
    /// the content type is ignored here.
    pub fn reason(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = ["message", "error", "detail"].into_iter().find_map(|key| json[key].as_str());
        text.map_or_else(|| "no reason given".to_owned(), foreign::line)
    }
}
