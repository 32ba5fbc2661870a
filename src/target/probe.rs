//! Single requests to a target outside of any measurement: the preflight's questions, and counts of work.

use serde_json::Value;

use super::Target;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::wire::connection::Stopwatch;
use crate::wire::request::{Method, encode};
use crate::wire::{Connection, Dialer, Fault, Phases, Scratch};

/// Asks a target one thing after another.
pub struct Probe<'a> {
    target: &'a Target,
    dialer: Dialer,
    connection: Option<Connection>,
    scratch: Scratch,
}

/// A complete answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Whether its content type is JSON.
    pub is_json: bool,
    /// The body.
    pub body: Vec<u8>,
}

impl<'a> Probe<'a> {
    /// Asks `target` over connections of `dialer`.
    pub fn new(target: &'a Target, dialer: Dialer) -> Self {
        Self { target, dialer, connection: None, scratch: Scratch::default() }
    }

    /// Asks for `path` without saying who we are.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask(Method::Get, path, None).await
    }

    /// Asks with the target's token.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn ask_with_token(&mut self, method: Method, path: &str) -> Result<Answer> {
        self.ask(method, path, Some(self.target.token.reveal())).await
    }

    async fn ask(&mut self, method: Method, path: &str, token: Option<&str>) -> Result<Answer> {
        self.scratch.request = encode(method, path, &self.target.base.host_header(), token, "");
        // The server may have closed a kept connection in between: then once more, on a new one.
        if self.exchange(method).await.is_err() {
            self.exchange(method).await.map_err(|fault| {
                Error::new(format!("{} {path} at {}: {fault}", method.token(), self.target.base))
                    .mend("check that CERTCTL_BASE is certctl, and look at its log")
            })?;
        }
        let response = self.scratch.response().ok_or_else(|| Error::new(format!("{path}: no complete response")))?;
        Ok(Answer { status: response.status, is_json: response.is_json(), body: response.body.to_vec() })
    }

    async fn exchange(&mut self, method: Method) -> Result<(), Fault> {
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

impl Answer {
    /// The body, if it is JSON and is called so.
    pub fn json(&self) -> Option<Value> {
        if self.is_json { serde_json::from_slice(&self.body).ok() } else { None }
    }

    /// The reason that an error answer gives. certctl sends the JSON of its 401 and 429 as text/plain, so that its
    /// content type does not matter here.
    pub fn reason(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = json["message"].as_str().or_else(|| json["error"].as_str());
        text.unwrap_or("no reason given").to_owned()
    }
}
