//! The check of http-01 challenges (RFC 8555, section 8.3), at one port of loopback whatever the name: this server has
//! no place on a network. certctl dials the name's own address, and refuses loopback.

use std::net::Ipv4Addr;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::problem::{Kind, Problem};
use crate::app::Gauge;

/// certctl's default.
const CONCURRENCY: usize = 10;
/// The most checks that wait; beyond them a check fails at once.
const MAX_WAITING: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// certctl's limit on the answer.
const MAX_BYTES: u64 = 16 << 10;
/// The most header lines of an answer.
const MAX_HEADERS: usize = 64;

/// The place of all checks.
pub struct Validator {
    port: Option<u16>,
    permits: Semaphore,
    waiting: Gauge,
}

impl Validator {
    /// Returns a validator that finds every name at this port of loopback; without one, it finds none.
    pub fn new(port: Option<u16>) -> Self {
        Self { port, permits: Semaphore::new(CONCURRENCY), waiting: Gauge::default() }
    }

    /// Checks that this host presents what is expected below the token.
    ///
    /// # Errors
    /// If it does not.
    pub async fn check(&self, host: &str, token: &str, expected: &str) -> Result<(), Problem> {
        let Some(port) = self.port else {
            return Err(incorrect("the name leads to a reserved address"));
        };
        if self.waiting.count() >= MAX_WAITING {
            return Err(incorrect("too many checks are waiting"));
        }
        let _waiting = self.waiting.enter();
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let answer = match tokio::time::timeout(TIMEOUT, fetch(port, host, token)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(&error.to_string())),
            Err(_) => return Err(unreachable(&format!("no answer within {TIMEOUT:?}"))),
        };
        match body_of_ok(&answer) {
            Some(body) if body.trim_ascii_end() == expected.as_bytes() => Ok(()),
            Some(_) => Err(incorrect("the answer is not the key authorization")),
            None => Err(incorrect("the answer is no 200")),
        }
    }
}

fn unreachable(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, Kind::Connection, format!("http-01 validation failed: {why}"))
}

fn incorrect(why: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, Kind::IncorrectResponse, format!("http-01 validation failed: {why}"))
}

/// Fetches what the host presents, up to a limit.
async fn fetch(port: u16, host: &str, token: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: certctl-reference\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Returns the body of an answer with status 200. What is chunked is no key authorization, and is not put together.
fn body_of_ok(answer: &[u8]) -> Option<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) if head.code == Some(200) => answer.get(length..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Checks a token at a host that answers like this.
    async fn outcome(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let port = listener.local_addr().expect("an address").port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 1_024];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("answers");
            String::from_utf8(request[..length].to_vec()).expect("text")
        });
        let outcome = Validator::new(Some(port)).check("a.example.test", "tok", "tok.key").await;
        let request = served.await.expect("served");
        assert!(request.starts_with("GET /.well-known/acme-challenge/tok HTTP/1.1\r\nHost: a.example.test\r\n"));
        outcome.map_err(|problem| problem.to_fault().kind)
    }

    #[tokio::test]
    async fn only_the_key_authorization_is_the_proof() {
        assert_eq!(outcome("HTTP/1.0 200 OK\r\n\r\ntok.key\n").await, Ok(()));
        for wrong in ["HTTP/1.1 200 OK\r\n\r\ntok.other", "HTTP/1.1 404 Not Found\r\n\r\ntok.key", "tok.key", ""] {
            let incorrect = "urn:ietf:params:acme:error:incorrectResponse";
            assert_eq!(outcome(wrong).await, Err(incorrect.to_owned()), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_port_at_which_nothing_listens_is_no_proof() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        for (port, kind) in [(Some(port), "connection"), (None, "incorrectResponse")] {
            let problem = Validator::new(port).check("a.example.test", "tok", "tok.key").await.expect_err("no proof");
            assert_eq!(problem.to_fault().kind, format!("urn:ietf:params:acme:error:{kind}"));
        }
    }
}
