//! One connection to a peer, and the phases of one exchange on it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::Fault;
use super::handshake::{Handshake, Kind, Record, certificate_id};
use super::http1::{Parser, Response};
use super::request::Method;
use super::tap::Tap;
use crate::clock::Moment;

/// How many bytes of a response are read at a time.
const READ_BYTES: usize = 16 * 1024;

/// How long to look for what the peer said before it closed.
const LAST_WORD_PATIENCE: Duration = Duration::from_millis(20);

/// The phases of one exchange, in nanoseconds. They follow one another without a gap, so that they add up to the
/// service time; `dial`, `hello` and `finish` are 0 on a connection that was open already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// TCP connect.
    pub dial_ns: u64,
    /// TLS handshake, first flight: from the ClientHello to the first byte of the peer's answer, be it a ServerHello or
    /// a HelloRetryRequest.
    pub hello_ns: u64,
    /// TLS handshake, the rest: reading the answer, verifying it, and our Finished; with TLS 1.2 another round trip.
    pub finish_ns: u64,
    /// Noting what the handshake was, making the request, encrypting it and handing it to the kernel.
    pub send_ns: u64,
    /// Waiting for the first byte of the response.
    pub first_byte_ns: u64,
    /// Receiving the rest of it.
    pub receive_ns: u64,
}

impl Phases {
    /// The whole TLS handshake, in nanoseconds.
    pub fn tls_ns(&self) -> u64 {
        self.hello_ns + self.finish_ns
    }

    /// The sum of all phases, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.dial_ns + self.tls_ns() + self.send_ns + self.first_byte_ns + self.receive_ns
    }
}

/// Measures phases: each lasts from the end of the one before it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    last: Moment,
}

impl Stopwatch {
    /// Starts at `start`.
    pub fn from(start: Moment) -> Self {
        Self { last: start }
    }

    /// Nanoseconds since the last split, which ends now.
    fn split(&mut self) -> u64 {
        self.split_at(Moment::now())
    }

    /// Nanoseconds from the last split to `now`, which ends it.
    fn split_at(&mut self, now: Moment) -> u64 {
        let ns = now.ns_since(self.last);
        self.last = now;
        ns
    }

    /// When the last phase ended.
    pub fn last(&self) -> Moment {
        self.last
    }
}

/// The buffers of one exchange: borrowed while a request is in flight, so that idle connections own none.
#[derive(Debug)]
pub struct Scratch {
    /// The encoded request.
    pub request: Vec<u8>,
    parser: Parser,
    inbox: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { request: Vec::with_capacity(1024), parser: Parser::default(), inbox: vec![0; READ_BYTES].into() }
    }
}

impl Scratch {
    /// The response of the last exchange, if it was complete.
    pub fn response(&self) -> Option<Response<'_>> {
        self.parser.response()
    }
}

/// Opens connections to one peer.
#[derive(Clone)]
pub struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
    /// Whether handshakes are meant to be resumed; `None` where either kind will do.
    resumes: Option<bool>,
}

impl Dialer {
    /// Connections go to `address`, whose certificate must be valid for `name`. Handshakes are meant to be full.
    pub fn new(address: SocketAddr, name: ServerName<'static>, config: Arc<ClientConfig>) -> Self {
        Self { address, name, connector: TlsConnector::from(config), resumes: Some(false) }
    }

    /// The same, but handshakes are meant to be resumed: `config` keeps sessions, and the peer offers them.
    #[must_use]
    pub fn resuming(self) -> Self {
        Self { resumes: Some(true), ..self }
    }

    /// The same, but handshakes may be full or resumed, as the peer wants: `config` keeps sessions.
    #[must_use]
    pub fn either_way(self) -> Self {
        Self { resumes: None, ..self }
    }

    /// Where connections go.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects and shakes hands, and notes both phases.
    ///
    /// # Errors
    /// A fault of kind `connect` or `tls`; the phases up to it are noted.
    pub async fn open(&self, watch: &mut Stopwatch, phases: &mut Phases) -> Result<Connection, Fault> {
        let dialled = TcpStream::connect(self.address).await;
        phases.dial_ns = watch.split();
        let tcp = dialled.map_err(|error| Fault::from_connect(&error))?;
        // A request is one small write: waiting to fill a segment would add a delay of the kernel's, not the peer's.
        tcp.set_nodelay(true).map_err(|error| Fault::from_connect(&error))?;
        let shaken = self.connector.connect(self.name.clone(), Tap::new(tcp)).into_fallible().await;
        let end = Moment::now();
        let answered = match &shaken {
            Ok(stream) => stream.get_ref().0.answered(),
            Err((_, tap)) => tap.answered(),
        };
        phases.hello_ns = watch.split_at(answered.unwrap_or(end));
        phases.finish_ns = watch.split_at(end);
        let stream = shaken.map_err(|(error, tap)| Fault::from_handshake(&error, tap.replied()))?;
        let (tap, tls) = stream.get_ref();
        let handshake = Handshake::of(tls);
        let record = Record {
            handshake,
            as_declared: self.resumes.is_none_or(|resumes| resumes == (handshake.kind == Kind::Resumed)),
            read_bytes: tap.read_bytes().try_into().unwrap_or(u32::MAX),
            written_bytes: tap.written_bytes().try_into().unwrap_or(u32::MAX),
            certificate: tls.peer_certificates().and_then(|chain| chain.first()).map_or(0, certificate_id),
        };
        Ok(Connection { stream, record })
    }
}

/// An open TLS connection.
pub struct Connection {
    stream: TlsStream<Tap>,
    record: Record,
}

impl Connection {
    /// What its handshake was, and took.
    pub fn record(&self) -> Record {
        self.record
    }

    /// The certificate that the peer showed, DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }

    /// Whether the peer has closed it, or sent what nobody asked for, while it was idle.
    pub async fn is_stale(&mut self) -> bool {
        let mut byte = [0];
        poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut self.stream).poll_read(context, &mut buffer).is_ready())
        })
        .await
    }

    /// Sends `scratch.request` and reads its response into `scratch`, and notes the phases. Returns whether the
    /// connection can carry another request.
    ///
    /// # Errors
    /// Any fault but `connect`; the phases up to it are noted, and the connection is of no further use.
    pub async fn exchange(
        &mut self,
        method: Method,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<bool, Fault> {
        scratch.parser.start(method);
        let sent = match self.send(&scratch.request).await {
            Err(fault) => Err(self.last_word(&mut scratch.inbox).await.unwrap_or(fault)),
            sent => sent,
        };
        phases.send_ns = watch.split();
        sent?;
        let mut surplus = false;
        while scratch.parser.response().is_none() {
            let first = !scratch.parser.has_begun();
            let received = self.stream.read(&mut scratch.inbox).await;
            if first {
                phases.first_byte_ns = watch.split();
            }
            let taken = match received {
                Ok(0) => scratch.parser.feed_eof().map_err(Fault::from_parse),
                Ok(length) => scratch.parser.feed(&scratch.inbox[..length]).map_err(Fault::from_parse).map(|used| {
                    surplus = used < length;
                }),
                // Peers that close without a TLS close_notify end a body delimited by the close all the same, but a
                // truncated one cannot be told from a complete one (RFC 8446, section 6.1).
                Err(error) => Err(Fault::from_io(&error, scratch.parser.has_begun())),
            };
            if let Err(fault) = taken {
                phases.receive_ns = watch.split();
                return Err(fault);
            }
        }
        phases.receive_ns = watch.split();
        let keep_alive = scratch.parser.response().is_some_and(|response| response.keep_alive);
        Ok(keep_alive && !surplus)
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), Fault> {
        let sent = match self.stream.write_all(request).await {
            Ok(()) => self.stream.flush().await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| Fault::from_io(&error, false))
    }

    /// The alert with which the peer has closed a connection that cannot be written to any more, if it sent one.
    async fn last_word(&mut self, inbox: &mut [u8]) -> Option<Fault> {
        // What it sent has come before the end of the connection, which we know of.
        let read = tokio::time::timeout(LAST_WORD_PATIENCE, self.stream.read(inbox)).await.ok()?;
        read.err().filter(Fault::is_tls).map(|error| Fault::from_io(&error, false))
    }

    /// Waits for the peer, which was told that this is the end, to close first, for at most `patience`: who closes first
    /// keeps the port in TIME_WAIT (RFC 9293, section 3.6), and ports are what we would run out of.
    pub async fn close_second(mut self, patience: Duration) {
        let mut byte = [0];
        match tokio::time::timeout(patience, self.stream.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => {}
            Ok(Ok(_)) | Err(_) => self.close(patience).await,
        }
    }

    /// Says goodbye (TLS close_notify, TCP FIN), for at most `patience`.
    pub async fn close(mut self, patience: Duration) {
        // The peer may be gone already: nothing is left to tell or to lose.
        let _ = tokio::time::timeout(patience, self.stream.shutdown()).await;
    }
}
