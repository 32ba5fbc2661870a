//! A scripted peer: real TCP, real TLS, and HTTP/1.1 as good or bad as its script.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The token that [`certctl`] accepts.
pub const TOKEN: &str = "recognisable-token-5f3a9c";
pub const RECORDED: &str = "{\"status\":\"heartbeat_recorded\"}\n";

/// A request of a client.
#[derive(Clone)]
pub struct Request {
    /// The peer's connection on which it came, counted from 1.
    pub connection: u64,
    pub method: String,
    pub path: String,
    pub host: String,
    pub token: Option<String>,
    /// The value of `If-None-Match`.
    pub condition: Option<String>,
    /// The body as text.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Request {
    /// Returns true for a heartbeat of the workload. Those of the preflight have no body.
    pub fn is_heartbeat(&self) -> bool {
        self.path.ends_with("/heartbeat") && !self.body.is_empty()
    }
}

/// One thing that a peer does. A reply is a list of them; after the last the connection stays open.
pub enum Step {
    /// Sends bytes within TLS; before the handshake, as they are.
    Send(Vec<u8>),
    /// Sends bytes one at a time, each in a TLS record of its own.
    Drip(Vec<u8>),
    /// Sends the same bytes so many times.
    Repeat(Vec<u8>, usize),
    /// Sends a TLS 1.3 KeyUpdate before the next bytes.
    UpdateKeys,
    /// Sends bytes beneath TLS, which are then no TLS records.
    SendRaw(Vec<u8>),
    /// Does nothing until this moment.
    Until(Instant),
    /// Does nothing for so long.
    Wait(Duration),
    /// Notes something for the test.
    Do(Box<dyn FnOnce() + Send>),
    /// Closes with close_notify, as TLS requires.
    Close,
    /// Closes the TCP connection without close_notify.
    Cut,
    /// Ends the TCP connection by a reset.
    Reset,
    /// Never answers, and reads what comes.
    Silence,
    /// Does nothing any more, not even read.
    Hold,
}

pub type Reply = Vec<Step>;

/// The acts of a peer on a connection beside its replies to requests.
#[derive(Default)]
pub struct Manners {
    /// Steps before the TLS handshake, beneath TLS.
    pub on_accept: Reply,
    /// Steps after it, before a request is read. Bytes that come first are sent along with the handshake.
    pub on_open: Reply,
    /// True if it replies to a request once it has read the head.
    pub is_impatient: bool,
}

/// Returns a complete response, after which the connection stays open.
pub fn answer(status: u16, content_type: &str, body: &str) -> Reply {
    let length = body.len();
    vec![Step::Send(
        format!("HTTP/1.1 {status} x\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}").into(),
    )]
}

/// Returns a complete response that is JSON.
pub fn json(status: u16, body: &str) -> Reply {
    answer(status, "application/json", body)
}

/// Answers as a certctl with nothing wrong.
pub fn certctl(request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => json(200, "{\"status\":\"healthy\"}\n"),
        ("GET", "/ready") => json(200, "{\"status\":\"ready\",\"db\":\"reachable\"}\n"),
        ("GET", "/api/v1/version") => json(200, "{\"version\":\"9.8.7\",\"commit\":\"abc1234\"}\n"),
        _ if request.token.as_deref() != Some(TOKEN) => answer(401, "text/plain", "{\"error\":\"Invalid API key\"}\n"),
        ("GET", "/api/v1/auth/check") => json(
            200,
            r#"{"status":"authenticated","user":"u","effective_permissions":[{"permission":"agent.heartbeat"}]}"#,
        ),
        ("POST", path) if path.ends_with("/heartbeat") => json(200, RECORDED),
        _ => answer(404, "text/plain", "404 page not found\n"),
    }
}

/// A running peer; it ends when dropped.
pub struct Peer {
    address: SocketAddr,
    folder: TempDir,
    connections: Arc<AtomicU64>,
    runtime: Option<Runtime>,
}

impl Peer {
    /// Starts a peer that answers each request by `script`.
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_certificate(|_| {}, script)
    }

    /// Starts a peer whose certificate is changed for the worse.
    pub fn with_certificate(
        change: impl FnOnce(&mut CertificateParams),
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::with(change, |_| {}, |_| Manners::default(), script)
    }

    /// Starts a peer with manners that depend on the connection, counted from 1.
    pub fn with_manners(
        manners: impl Fn(u64) -> Manners + Send + Sync + 'static,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::with(|_| {}, |_| {}, manners, script)
    }

    /// Starts a peer without a session that could be resumed.
    pub fn without_sessions(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(|_| {}, |config| config.send_tls13_tickets = 0, |_| Manners::default(), script)
    }

    fn with(
        change: impl FnOnce(&mut CertificateParams),
        configure: impl FnOnce(&mut ServerConfig),
        manners: impl Fn(u64) -> Manners + Send + Sync + 'static,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let mut leaf = CertificateParams::new(["localhost", "127.0.0.1"].map(str::to_owned)).unwrap();
        change(&mut leaf);
        let (mut config, ca_pem) = identity(&leaf);
        configure(&mut config);
        let config = Arc::new(config);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca_pem).unwrap();
        // A thread of its own, so that the peer answers while a test waits.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU64::new(0));
        let conduct = Conduct { manners: Box::new(manners), script: Box::new(script) };
        runtime.spawn(accept(listener, TlsAcceptor::from(config), Arc::new(conduct), connections.clone()));
        Self { address, folder, connections, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn base(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns the number of connections that it has accepted.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn identity(leaf: &CertificateParams) -> (ServerConfig, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &authority).unwrap().der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.send_half_rtt_data = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (config, authority.pem())
}

/// The whole conduct of a peer.
struct Conduct {
    manners: Box<dyn Fn(u64) -> Manners + Send + Sync>,
    script: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, conduct: Arc<Conduct>, connections: Arc<AtomicU64>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let connection = connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (acceptor, conduct) = (acceptor.clone(), conduct.clone());
        tokio::spawn(async move {
            tcp.set_nodelay(true).unwrap();
            // A client that goes away, or refuses the certificate, is noticed by the test on its own side.
            let _ = serve(tcp, connection, &acceptor, &conduct).await;
        });
    }
}

async fn serve(mut tcp: TcpStream, connection: u64, acceptor: &TlsAcceptor, conduct: &Conduct) -> std::io::Result<()> {
    let manners = (conduct.manners)(connection);
    for step in manners.on_accept {
        match step {
            Step::Send(bytes) | Step::SendRaw(bytes) | Step::Drip(bytes) => tcp.write_all(&bytes).await?,
            Step::Repeat(bytes, times) => {
                for _ in 0..times {
                    tcp.write_all(&bytes).await?;
                }
            }
            Step::Until(moment) => tokio::time::sleep_until(moment.into()).await,
            Step::Wait(span) => tokio::time::sleep(span).await,
            Step::Do(note) => note(),
            Step::Reset => return tcp.set_zero_linger(),
            Step::UpdateKeys | Step::Close | Step::Cut => return Ok(()),
            Step::Silence => while tcp.read(&mut [0; 1024]).await? > 0 {},
            Step::Hold => std::future::pending().await,
        }
    }
    let mut on_open = manners.on_open.into_iter().peekable();
    let mut early = Vec::new();
    while let Some(Step::Send(bytes)) = on_open.next_if(|step| matches!(step, Step::Send(_))) {
        early.extend(bytes);
    }
    // In one segment with the server's last message of the handshake: the client has it before it can send a request.
    let mut tls = acceptor.accept_with(tcp, |connection| connection.writer().write_all(&early).unwrap()).await?;
    tls.flush().await?;
    let mut inbox = Vec::new();
    if !act(&mut tls, on_open.collect(), &mut inbox).await? {
        return Ok(());
    }
    while let Some(request) = read_request(&mut tls, connection, manners.is_impatient, &mut inbox).await? {
        if !act(&mut tls, (conduct.script)(&request), &mut inbox).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes one step after the other; returns true if the connection goes on.
async fn act(tls: &mut TlsStream<TcpStream>, steps: Reply, inbox: &mut Vec<u8>) -> std::io::Result<bool> {
    for step in steps {
        match step {
            Step::Send(bytes) => send(tls, &bytes).await?,
            Step::Drip(bytes) => {
                for byte in bytes {
                    send(tls, &[byte]).await?;
                }
            }
            Step::Repeat(bytes, times) => {
                for _ in 0..times {
                    send(tls, &bytes).await?;
                }
            }
            Step::UpdateKeys => {
                tls.get_mut().1.refresh_traffic_keys().map_err(std::io::Error::other)?;
                tls.flush().await?;
            }
            Step::SendRaw(bytes) => tls.get_mut().0.write_all(&bytes).await?,
            Step::Until(moment) => tokio::time::sleep_until(moment.into()).await,
            Step::Wait(span) => tokio::time::sleep(span).await,
            Step::Do(note) => note(),
            Step::Close => {
                tls.shutdown().await?;
                return Ok(false);
            }
            Step::Cut => return Ok(false),
            Step::Reset => {
                tls.get_mut().0.set_zero_linger()?;
                return Ok(false);
            }
            // Until the client gives up.
            Step::Silence => while tls.read_buf(inbox).await? > 0 {},
            Step::Hold => std::future::pending().await,
        }
    }
    Ok(true)
}

async fn send(tls: &mut TlsStream<TcpStream>, bytes: &[u8]) -> std::io::Result<()> {
    tls.write_all(bytes).await?;
    tls.flush().await
}

/// Reads a request with a `Content-Length` or without a body, or its head alone; `None` once the client has closed.
async fn read_request(
    tls: &mut TlsStream<TcpStream>,
    connection: u64,
    head_only: bool,
    inbox: &mut Vec<u8>,
) -> std::io::Result<Option<Request>> {
    loop {
        if let Some((request, length)) = parse(connection, head_only, inbox) {
            inbox.drain(..length);
            return Ok(Some(request));
        }
        if tls.read_buf(inbox).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(connection: u64, head_only: bool, inbox: &[u8]) -> Option<(Request, usize)> {
    let head_length = inbox.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&inbox[..head_length]).unwrap();
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let body_length = field("content-length").filter(|_| !head_only).map_or(0, |length| length.parse().unwrap());
    let length = head_length + body_length;
    let body = inbox.get(head_length..length)?;
    let mut words = head.split(' ').map(str::to_owned);
    let request = Request {
        connection,
        method: words.next()?,
        path: words.next()?,
        host: field("host").unwrap_or_default().to_owned(),
        token: field("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
        condition: field("if-none-match").map(str::to_owned),
        body: String::from_utf8_lossy(body).into_owned(),
        bytes: body.to_vec(),
    };
    Some((request, length))
}
