//! Sockets: listening, accepting, the settings of HTTP, and the end of TLS.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::terminal;

/// The backlog: a fleet may connect all at once. The kernel cuts this to its own limit.
const BACKLOG: u32 = 4_096;
/// The longest time from one answer to the next request's head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Far above any request head of a load driver, far below hyper's default.
const MAX_BUFFER_BYTES: usize = 64 * 1_024;

/// Listens on the address.
///
/// # Errors
/// If the address is not free, or not of this machine.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let failed = |e: std::io::Error| format!("cannot listen on {address}: {e}; choose another --listen, or port 0");
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)
}

/// Accepts connections for ever, each served by a task of its own. A failure is reported on stderr in the name of
/// `program`.
pub async fn accept<F>(program: &str, listener: TcpListener, serve: impl Fn(TcpStream, IpAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut reported = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it, small answers wait for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, peer.ip()));
            }
            Err(error) => {
                // Typically out of descriptors: waiting lets some become free.
                if !std::mem::replace(&mut reported, true) {
                    terminal::message(format_args!(
                        "{program}: cannot accept a connection: {error}; raise the limit on open files\n"
                    ));
                }
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Returns HTTP/1.1 with Go's spelling of header names.
pub fn http1() -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // Runs from one answer to the next request's head, and so is the limit on idle time.
        .header_read_timeout(IDLE_TIMEOUT)
        .title_case_headers(true)
        .max_buf_size(MAX_BUFFER_BYTES)
        // One buffer, one TLS record.
        .writev(false);
    http1
}

/// Ends TLS with a close, as Go does; a client could not distinguish the end from a cut otherwise.
pub async fn goodbye(stream: &mut TlsStream<TcpStream>) {
    let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
}
