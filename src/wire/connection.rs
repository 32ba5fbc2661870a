//! One connection to a peer, and the phases of one exchange on it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::fault::{Fault, FaultKind};
use super::handshake::{Handshake, HandshakeFlow, Record, certificate_id};
use super::http1::Parser;
use super::request::Method;
pub use super::scratch::Scratch;
use super::source;
use super::stream::Stream;
use super::tap::Tap;
use crate::clock::Moment;
use crate::event_loop::{TcpSocket, sleep, timeout};

/// The longest search for the last bytes that a peer sent before it closed.
const LAST_WORD_PATIENCE: Duration = Duration::from_millis(20);

/// The phases of one exchange, in nanoseconds. They follow one another without a gap, so that they add up to the
/// service time; `dial`, `hello` and `finish` are 0 on a connection that was open already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// TCP connect.
    pub dial_ns: u64,
    /// TLS handshake, first flight: from the ClientHello to the first byte of the peer's answer, a ServerHello or a
    /// HelloRetryRequest.
    pub hello_ns: u64,
    /// TLS handshake, the rest: reading the answer, verifying it, and the client's Finished; with TLS 1.2 another round
    /// trip.
    pub finish_ns: u64,
    /// Recording the handshake, making the request, encrypting it and handing it to the kernel.
    pub send_ns: u64,
    /// Waiting for the first byte of the response.
    pub first_byte_ns: u64,
    /// Receiving the rest of it.
    pub receive_ns: u64,
}

impl Phases {
    /// Returns the duration of the whole TLS handshake, in nanoseconds.
    pub fn tls_ns(&self) -> u64 {
        self.hello_ns + self.finish_ns
    }

    /// Returns the sum of all phases, in nanoseconds.
    pub fn total_ns(&self) -> u64 {
        self.dial_ns + self.tls_ns() + self.send_ns + self.first_byte_ns + self.receive_ns
    }
}

/// A stopwatch for phases: each lasts from the end of the one before it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    last: Moment,
}

impl Stopwatch {
    /// Starts at `start`.
    pub fn from(start: Moment) -> Self {
        Self { last: start }
    }

    /// Returns the nanoseconds since the last split, and splits now.
    fn split(&mut self) -> u64 {
        self.split_at(Moment::now())
    }

    /// Returns the nanoseconds from the last split to `now`, and splits there.
    fn split_at(&mut self, now: Moment) -> u64 {
        let ns = now.ns_since(self.last);
        self.last = now;
        ns
    }

    /// Returns the moment at which the last phase ended.
    pub fn last(&self) -> Moment {
        self.last
    }
}

/// A dialler, which opens connections to one peer.
#[derive(Clone)]
pub struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    /// True if handshakes are meant to be resumed, false if full; `None` if either kind will do.
    resumes: Option<bool>,
}

impl Dialer {
    /// Makes a dialler of connections to `address`, whose certificate must be valid for `name`. Handshakes are meant to
    /// be full.
    pub fn new(address: SocketAddr, name: ServerName<'static>, config: Arc<ClientConfig>) -> Self {
        Self { address, name, config, resumes: Some(false) }
    }

    /// Returns the same dialler, but handshakes are meant to be resumed: `config` keeps sessions, and the peer offers
    /// them.
    #[must_use]
    pub fn resuming(self) -> Self {
        Self { resumes: Some(true), ..self }
    }

    /// Returns the same dialler, but handshakes may be full or resumed, as the peer wants: `config` keeps sessions.
    #[must_use]
    pub fn either_way(self) -> Self {
        Self { resumes: None, ..self }
    }

    /// Returns the address of the peer.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects and performs the TLS handshake, and records the phases of both.
    ///
    /// # Errors
    /// A fault of the connect or of the handshake; the phases up to it are recorded.
    pub async fn open(&self, watch: &mut Stopwatch, phases: &mut Phases) -> Result<Connection, Fault> {
        let dialled = TcpSocket::connect(self.address, source::of(self.address)).await;
        phases.dial_ns = watch.split();
        let tcp = dialled.map_err(|error| Fault::from_connect(&error))?;
        let shaken = Stream::connect(self.config.clone(), self.name.clone(), Tap::new(tcp)).await;
        let end = Moment::now();
        let answered = match &shaken {
            Ok(stream) => stream.tap().answered(),
            Err((_, tap)) => tap.answered(),
        };
        phases.hello_ns = watch.split_at(answered.unwrap_or(end));
        phases.finish_ns = watch.split_at(end);
        let mut stream =
            shaken.map_err(|(error, tap)| Fault::from_handshake(&error, tap.replied(), tap.beginning()))?;
        let tap = stream.tap();
        // The handshake was the TLS library's.
        let tls = stream.tls().expect("the TLS library's part goes on");
        let handshake = Handshake::of(tls);
        let record = Record {
            handshake,
            as_declared: self.resumes.is_none_or(|resumes| resumes == (handshake.kind == HandshakeFlow::Resumed)),
            read_bytes: tap.read_bytes().try_into().unwrap_or(u32::MAX),
            written_bytes: tap.written_bytes().try_into().unwrap_or(u32::MAX),
            certificate: tls.peer_certificates().and_then(|chain| chain.first()).map_or(0, certificate_id),
        };
        stream.begin();
        Ok(Connection { stream, record, spoke: false, _counted: Counted::new() })
    }
}

/// The number of open connections of this process.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// Returns the number of open connections of this process, to all peers.
pub fn open_connections() -> u64 {
    OPEN.load(Ordering::Relaxed)
}

/// Counts a connection until it is dropped.
struct Counted;

impl Counted {
    fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open TLS connection.
pub struct Connection {
    stream: Stream,
    record: Record,
    /// True if bytes have come that answer no request.
    spoke: bool,
    _counted: Counted,
}

/// The behaviour of a peer while no request was on its connection.
#[derive(Debug)]
pub enum Idle {
    /// It did nothing.
    Quiet,
    /// It closed the connection. A 408 before that states the reason, and is no answer (RFC 9110, section 15.5.9).
    Closed,
    /// It sent bytes that answer no request (RFC 9112, section 9.2), or that are no TLS.
    Spoke(Fault),
}

/// The way in which sending a request ended.
enum Sent {
    /// All of it was handed to the kernel.
    Whole,
    /// The peer has answered and wants no more of it.
    Answered,
}

impl Connection {
    /// Returns the properties of its handshake and its bytes on the wire.
    pub fn record(&self) -> Record {
        self.record
    }

    /// Returns the certificate that the peer showed, DER. It is not kept where the configuration is that of
    /// [`super::tls::client_config`].
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.stream.tls()?.peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }

    /// Returns true if bytes have come that answer no request: no later answer can be assigned to its request.
    pub fn is_out_of_step(&self) -> bool {
        self.spoke
    }

    /// Returns the behaviour of the peer while the connection was idle, up to this moment.
    pub fn idle(&mut self) -> Idle {
        if self.spoke {
            return spoke();
        }
        let (mut word, mut length) = ([0; LONGEST_LAST_WORD], 0);
        // The event loop may not have looked for a while.
        let read = self.stream.read_now(&mut |plain| {
            let taken = plain.len().min(LONGEST_LAST_WORD - length);
            word[length..length + taken].copy_from_slice(&plain[..taken]);
            length += taken;
        });
        match read {
            Poll::Pending => Idle::Quiet,
            Poll::Ready(Err(error)) if Fault::is_tls(&error) => Idle::Spoke(Fault::from_io(&error, false)),
            Poll::Ready(Ok(false) | Err(_)) => Idle::Closed,
            Poll::Ready(Ok(true)) if is_request_timeout(&word[..length]) => Idle::Closed,
            Poll::Ready(Ok(true)) => {
                self.spoke = true;
                spoke()
            }
        }
    }

    /// Does the same as [`Connection::idle`], up to the last look of the event loop, for which no call is needed.
    pub fn was_idle(&mut self) -> Idle {
        if self.spoke || self.stream.is_readable() { self.idle() } else { Idle::Quiet }
    }

    /// Waits for up to `span` for the peer to do anything.
    pub async fn listen(&mut self, span: Duration) -> Idle {
        let deadline = Moment::now() + span;
        loop {
            match self.idle() {
                Idle::Quiet if Moment::now() < deadline => sleep(Duration::from_millis(1)).await,
                idle => return idle,
            }
        }
    }

    /// Sends `scratch.request`, reads its response into `scratch`, and records the phases. Returns true if the
    /// connection can carry another request.
    ///
    /// # Errors
    /// Any fault but `connect`; the phases up to it are recorded, and the connection is of no further use.
    pub async fn exchange(
        &mut self,
        method: Method,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<bool, Fault> {
        scratch.parser.start(method);
        let sent = self.send(scratch).await;
        phases.send_ns = watch.split();
        let cut_short = matches!(sent?, Sent::Answered);
        let received = self.receive(scratch, watch, phases).await;
        phases.receive_ns = watch.split();
        received?;
        let keep_alive = scratch.parser.response().is_some_and(|response| response.keep_alive);
        // After the last answer no other can be assigned to the wrong request (RFC 9112, section 9.6).
        self.spoke &= keep_alive;
        Ok(keep_alive && !self.spoke && !cut_short)
    }

    /// Reads until the response is complete.
    async fn receive(
        &mut self,
        scratch: &mut Scratch,
        watch: &mut Stopwatch,
        phases: &mut Phases,
    ) -> Result<(), Fault> {
        while scratch.parser.response().is_none() {
            let mut first = !scratch.parser.has_begun();
            let mut split = || {
                if std::mem::take(&mut first) {
                    phases.first_byte_ns = watch.split();
                }
            };
            let received =
                poll_fn(|context| self.take(scratch, &mut split, |stream, take| stream.poll_read(context, take))).await;
            split();
            received?;
        }
        Ok(())
    }

    /// Reads once for the response by `read`, and calls `begin` before each part of it.
    fn take(
        &mut self,
        scratch: &mut Scratch,
        mut begin: impl FnMut(),
        read: impl FnOnce(&mut Stream, &mut dyn FnMut(&[u8])) -> Poll<io::Result<bool>>,
    ) -> Poll<Result<(), Fault>> {
        let (spoke, mut fed) = (&mut self.spoke, Ok(()));
        let read = ready!(read(&mut self.stream, &mut |plain| {
            begin();
            if fed.is_ok() {
                fed = scratch.feed(plain).map(|used| *spoke |= used < plain.len());
            }
        }));
        Poll::Ready(match read {
            Ok(true) => fed,
            Ok(false) => scratch.parser.feed_eof().map_err(Fault::from_parse),
            // Peers that close without a TLS close_notify also end a body delimited by the close, but a truncated body
            // cannot be distinguished from a complete one (RFC 8446, section 6.1).
            Err(error) => Err(Fault::from_io(&error, scratch.parser.has_begun())),
        })
    }

    /// Sends the request. While the peer takes no more of it, the peer's bytes are read: an answer that refuses ends
    /// the sending (RFC 9112, section 9.5), even if the peer has closed after it.
    async fn send(&mut self, scratch: &mut Scratch) -> Result<Sent, Fault> {
        let mut written = 0;
        loop {
            match poll_fn(|context| self.poll_send(context, scratch, &mut written)).await {
                Step::Sent => return Ok(Sent::Whole),
                Step::Received(received) => received?,
                Step::Failed(error) => return Box::pin(self.last_word(scratch, Fault::from_io(&error, false))).await,
            }
            if refuses(&scratch.parser) {
                return Ok(Sent::Answered);
            }
        }
    }

    /// Writes as much as the peer takes, and reads when it takes no more.
    fn poll_send(&mut self, context: &Context<'_>, scratch: &mut Scratch, written: &mut usize) -> Poll<Step> {
        let sent = loop {
            let rest = &scratch.request[*written..];
            let done = match rest.is_empty() {
                true => {
                    let flushed = self.stream.poll_flush(context);
                    break flushed.map(|flushed| flushed.map_or_else(Step::Failed, |()| Step::Sent));
                }
                false => self.stream.poll_write(context, rest),
            };
            match done {
                Poll::Ready(Ok(length)) => *written += length,
                Poll::Ready(Err(error)) => break Poll::Ready(Step::Failed(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        // After a complete answer that does not refuse, nothing is read until the request is out.
        if sent.is_ready() || scratch.parser.response().is_some() {
            return sent;
        }
        self.take(scratch, || (), |stream, take| stream.poll_read(context, take)).map(Step::Received)
    }

    /// Reads what the peer sent before it closed a connection that cannot be written to any more: an answer that
    /// refuses the request, or a TLS alert. If there is neither, returns `fault`.
    async fn last_word(&mut self, scratch: &mut Scratch, fault: Fault) -> Result<Sent, Fault> {
        let read = async {
            while scratch.parser.response().is_none() {
                // Those bytes came before the end of the connection, which has been seen.
                poll_fn(|context| {
                    self.take(
                        scratch,
                        || (),
                        |stream, take| match stream.read_now(take) {
                            Poll::Pending => stream.poll_read(context, take),
                            read => read,
                        },
                    )
                })
                .await?;
            }
            Ok::<(), Fault>(())
        };
        match timeout(LAST_WORD_PATIENCE, read).await {
            Ok(Ok(())) if refuses(&scratch.parser) => Ok(Sent::Answered),
            Ok(Err(read_fault)) if read_fault.kind != FaultKind::Closed => Err(read_fault),
            _ => Err(fault),
        }
    }

    /// Waits for the peer, to which the last request announced the end, to close first, for at most `patience`: the
    /// side that closes first keeps the port in TIME_WAIT (RFC 9293, section 3.6), and ports are what the generator
    /// would run out of. Returns true if the peer sent something instead, which answers no request.
    pub async fn close_second(mut self, patience: Duration) -> bool {
        let read = poll_fn(|context| self.stream.poll_read(context, &mut |_| ()));
        let read = timeout(patience, read).await;
        let spoke = self.spoke || matches!(read, Ok(Ok(true)));
        if spoke || read.is_err() {
            self.close(patience).await;
        }
        spoke
    }

    /// Closes the connection (TLS close_notify, TCP FIN), within at most `patience`.
    pub async fn close(mut self, patience: Duration) {
        // The peer may be gone already: nothing is left to send or to lose.
        let _ = timeout(patience, self.stream.close()).await;
    }
}

/// The result of one step of sending a request.
enum Step {
    /// All of it is out.
    Sent,
    /// The peer sent something first, or closed.
    Received(Result<(), Fault>),
    /// The connection cannot be written to any more.
    Failed(io::Error),
}

/// Returns true if the peer has answered in a way that makes the rest of the request pointless.
fn refuses(parser: &Parser) -> bool {
    parser.status().is_some_and(|status| status >= 300)
}

fn spoke() -> Idle {
    Idle::Spoke(Fault::new(FaultKind::Protocol, "bytes that came before the request, which cannot be its answer"))
}

/// The number of bytes by which the last word on an idle connection is recognised.
const LONGEST_LAST_WORD: usize = b"HTTP/1.1 408".len();

/// Returns true if these bytes begin the 408 with which a server ends an idle connection.
fn is_request_timeout(bytes: &[u8]) -> bool {
    bytes == b"HTTP/1.1 408" || bytes == b"HTTP/1.0 408"
}
