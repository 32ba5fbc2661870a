//! Connections: the TLS handshake, and certctl's time limits on silent clients.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::chain;
use crate::store::Store;
use certctl_bench::servers::socket;

/// The time after which certctl closes a connection without a request; it holds for the handshake, and again after it.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after a request's head beyond which certctl cannot send its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(120);

/// Accepts connections for ever, each served by a task of its own.
pub async fn accept<S: Store>(listener: TcpListener, tls: Arc<ServerConfig>, app: Arc<App<S>>) {
    let acceptor = TlsAcceptor::from(tls);
    let serve = |stream, peer| serve(stream, peer, acceptor.clone(), Arc::clone(&app));
    socket::accept("certctl-reference", listener, serve).await;
}

/// Serves one connection. Its failures concern its client alone; nothing is left to report here.
async fn serve<S: Store>(stream: TcpStream, peer: IpAddr, acceptor: TlsAcceptor, app: Arc<App<S>>) {
    let Ok(Ok(mut stream)) = timeout(FIRST_REQUEST_TIMEOUT, acceptor.accept(stream)).await else { return };
    let _open = app.connections.enter();
    let has_request = AtomicBool::new(false);
    let service = service_fn(|request| {
        has_request.store(true, Ordering::Relaxed);
        in_time(WRITE_TIMEOUT, chain::answer(Arc::clone(&app), peer, request))
    });
    let connection = socket::http1().serve_connection(TokioIo::new(&mut stream), service);
    let mut connection = Box::pin(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = silence(&has_request) => Ok(()),
        () = app.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    drop(connection);
    if outcome.is_err_and(|error| error.is_user()) {
        // Too late: the connection is cut without TLS's close, as Go's is once a write has timed out.
        return;
    }
    socket::goodbye(&mut stream).await;
}

/// Returns the answer, unless it took longer than this. Its work is done in any case: like Go's server, this one looks
/// at the time only when there is something to send.
async fn in_time<T>(limit: Duration, answer: impl Future<Output = T>) -> Result<T, TooLate> {
    let start = Instant::now();
    let answer = answer.await;
    if start.elapsed() <= limit { Ok(answer) } else { Err(TooLate) }
}

/// The error of an answer that was ready too late to be sent.
#[derive(Debug)]
struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was ready too late to be sent")
    }
}

impl Error for TooLate {}

/// Ends if no request has come in time, and never otherwise.
async fn silence(has_request: &AtomicBool) {
    sleep(FIRST_REQUEST_TIMEOUT).await;
    if has_request.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{self, Reply};
    use hyper::StatusCode;
    use hyper::server::conn::http1;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Returns the bytes that a client receives when its answer takes this long, and true if the answer's work was
    /// done.
    async fn receive(limit: Duration, takes: Duration) -> (Vec<u8>, bool) {
        let (mut client, server) = tokio::io::duplex(64 * 1_024);
        let done = AtomicBool::new(false);
        let answer = async || -> Reply {
            sleep(takes).await;
            done.store(true, Ordering::Relaxed);
            reply::empty(StatusCode::OK)
        };
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sends");
        let service = service_fn(|_| in_time(limit, answer()));
        let outcome = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
        assert_eq!(outcome.is_err_and(|error| error.is_user()), takes > limit);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.expect("an end");
        (received, done.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_late_answer_closes_the_connection_after_the_work() {
        let (received, done) = receive(Duration::ZERO, Duration::from_millis(2)).await;
        assert!(received.is_empty() && done);
        let (received, done) = receive(WRITE_TIMEOUT, Duration::ZERO).await;
        assert!(received.starts_with(b"HTTP/1.1 200") && done);
    }
}
