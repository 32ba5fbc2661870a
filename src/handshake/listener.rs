//! The suite's own TLS server on loopback, so that handshakes over TCP can be measured where there is no daemon.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::{ServerConfig, ServerConnection};

use super::keyring::{self, Keyring};
use super::loopback::RunningServer;
use super::matrix::KeyExchange;
use crate::error::{Context, Result};
use crate::load::limits::spawn;
use crate::provision::pki::{KeyType, Purpose};

/// Its name in ids.
pub const LABEL: &str = "rustls-loopback";
/// The longest silence of a client.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that shakes hands with one client after another, in a thread of its own, and sends nothing more. Dropping
/// it stops it.
pub struct Listener {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on a free port, with an ECDSA P-256 certificate, both versions, these groups and two tickets.
    ///
    /// # Errors
    /// If no key can be made or no port is free.
    pub fn start(keyring: &mut Keyring, groups: &[KeyExchange]) -> Result<Self> {
        let what = || "starting a TLS server on loopback".to_owned();
        let identity = keyring.identity(KeyType::EcdsaP256, Purpose::Server)?;
        let mut provider = default_provider();
        provider.kx_groups = groups.iter().copied().map(KeyExchange::supported).collect();
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .context(what)?
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .context(what)?;
        config.ticketer = Ticketer::new().context(what)?;
        let config = Arc::new(config);
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(what)?;
        let address = socket.local_addr().context(what)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let serve = move || {
            for tcp in socket.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // A client whose handshake fails reports it itself.
                let _ = tcp.and_then(|tcp| serve(tcp, config.clone()));
            }
        };
        let thread = spawn(LABEL, serve)?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Returns the address, trust and name with which a client reaches it.
    ///
    /// # Errors
    /// None is known: its name is a valid one.
    pub fn peer(&self, keyring: &Keyring) -> Result<RunningServer> {
        let name = keyring::name()?;
        Ok(RunningServer { label: LABEL.to_owned(), address: self.address, trust: keyring.trust(), name })
    }
}

/// Shakes hands, and reads until the client has closed.
fn serve(mut tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let mut nothing = [0; 64];
    while stream.read(&mut nothing)? > 0 {}
    Ok(())
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it up; if that fails, it is awake or gone.
        let _ = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, and a panic would have printed its message.
            let _ = thread.join();
        }
    }
}
