//! Connections: accepting, the TLS handshake, and certctl's time limits on silent clients.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::routes;
use crate::store::Store;

/// A fleet may connect all at once; the kernel cuts this to its own limit.
const BACKLOG: u32 = 4_096;
/// certctl closes a connection on which no request has come by then, handshake included or not.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// certctl closes a connection this long after its last answer.
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
pub async fn accept<S: Store>(listener: TcpListener, tls: Arc<ServerConfig>, app: Arc<App<S>>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut reported = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (acceptor, app) = (acceptor.clone(), Arc::clone(&app));
                tokio::spawn(async move { serve(stream, peer.ip(), acceptor, app).await });
            }
            Err(error) => {
                // Typically out of descriptors: waiting lets some come back.
                if !std::mem::replace(&mut reported, true) {
                    eprintln!("certctl-reference: cannot accept a connection: {error}; raise the limit on open files");
                }
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves one connection. Its failures are its client's business; nothing is left to report here.
async fn serve<S: Store>(stream: TcpStream, peer: IpAddr, acceptor: TlsAcceptor, app: Arc<App<S>>) {
    // Without it, small answers wait for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(mut stream)) = timeout(FIRST_REQUEST_TIMEOUT, acceptor.accept(stream)).await else { return };
    let _open = app.connections.enter();
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(routes::answer(app, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Runs from one answer to the next request's head, and so is the limit on idleness.
        .header_read_timeout(IDLE_TIMEOUT)
        .title_case_headers(true)
        .max_buf_size(MAX_BUFFER_BYTES)
        // One buffer, one TLS record.
        .writev(false)
        .serve_connection(TokioIo::new(&mut stream), service);
    let mut connection = Box::pin(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = silence(&asked) => {}
        () = app.stopping() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.as_mut().await;
        }
    }
    drop(connection);
    // Says goodbye within TLS, as Go does; a client could not tell the end from a cut otherwise.
    let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
}

/// Ends when no request has come in time, and never otherwise.
async fn silence(asked: &AtomicBool) {
    sleep(FIRST_REQUEST_TIMEOUT).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}
