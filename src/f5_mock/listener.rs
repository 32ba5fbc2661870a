//! Connections: the TLS handshake, and the requests that are served on them.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::handlers::{self, App};
use certctl_bench::servers::socket;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts connections for ever, each served by a task of its own.
pub async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, app: Arc<App>) {
    let acceptor = TlsAcceptor::from(tls);
    socket::accept("f5-mock", listener, |stream, _| serve(stream, acceptor.clone(), Arc::clone(&app))).await;
}

/// Serves one connection. Its failures concern its client alone; nothing is left to report here.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, app: Arc<App>) {
    let Ok(Ok(mut stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    app.shaken_hands();
    let service = service_fn(|request| handlers::answer(Arc::clone(&app), request));
    // The outcome does not matter: TLS is ended with a close in any case.
    let _ = socket::http1().serve_connection(TokioIo::new(&mut stream), service).await;
    socket::goodbye(&mut stream).await;
}
