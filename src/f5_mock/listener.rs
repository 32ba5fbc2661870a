//! Connections: accepting, the TLS handshake, and time limits on silent clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::handlers::{self, App};

/// Thousands of clients may connect all at once; the kernel cuts this to its own limit.
const BACKLOG: u32 = 4_096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From one answer to the next request's head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Far above any request head of a load driver, far below hyper's default.
const MAX_BUFFER_BYTES: usize = 64 * 1_024;

/// Listens on the address.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let failed = |e: std::io::Error| format!("cannot listen on {address}: {e}; choose another --listen, or port 0");
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

/// Accepts connections for ever, each served by a task of its own.
pub async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, app: Arc<App>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut reported = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&app)));
            }
            Err(error) => {
                // Typically out of descriptors: waiting lets some come back.
                if !std::mem::replace(&mut reported, true) {
                    eprintln!("f5-mock: cannot accept a connection: {error}; raise the limit on open files");
                }
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one connection. Its failures are its client's business; nothing is left to report here.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, app: Arc<App>) {
    // Without it, small answers wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(mut stream)) = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
    app.shaken_hands();
    let service = service_fn(|request| handlers::answer(Arc::clone(&app), request));
    // How the connection ended does not matter: it is said goodbye to in any case.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .title_case_headers(true)
        .max_buf_size(MAX_BUFFER_BYTES)
        // One buffer, one TLS record.
        .writev(false)
        .serve_connection(TokioIo::new(&mut stream), service)
        .await;
    // A client could not tell the end from a cut otherwise.
    let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
}
