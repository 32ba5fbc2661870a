//! TLS over a TCP connection, as a client. Bytes on their way are in buffers that all connections of a thread share, so
//! that an idle connection holds its keys and little else.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState};

use super::records::{Opened, Records, TrafficSecrets};
use super::tap::Tap;

/// Room for bytes from the peer. A handshake message, which has at most 64 KiB, must fit with the frames of its records
/// (RFC 8446, sections 4 and 5.1).
const INCOMING_BYTES: usize = 128 * 1024;
/// The most plaintext of a record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;
/// Room for a sealed record, and for what may have to be sent before it, such as a key update.
const OUTGOING_BYTES: usize = RECORD_BYTES + 2 * 1024;
/// The error of a connection whose own error was reported before.
const FAILED: &str = "the TLS connection has failed";
const _: () = assert!(OUTGOING_BYTES >= RECORD_BYTES + Records::OVERHEAD_BYTES);

thread_local! {
    /// In use only while a connection of the thread is polled.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        incoming: vec![0; INCOMING_BYTES].into(),
        outgoing: vec![0; OUTGOING_BYTES].into(),
    });
}

/// The buffers that all connections of a thread share.
struct Buffers {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

/// A TLS connection, whose handshake is complete.
pub(super) struct Stream {
    tap: Tap,
    tls: Tls,
    /// Bytes from the peer that cannot be used before more come.
    incoming: Vec<u8>,
    /// Bytes for the peer that the kernel has not taken yet.
    outgoing: Vec<u8>,
    /// Plaintext that came with the end of the handshake.
    early: Vec<u8>,
    /// An error behind plaintext that was handed over.
    error: Option<io::Error>,
    /// True once there was an error. The TLS library is not asked again: it knows of bytes that are gone.
    failed: bool,
    /// True once the peer's close_notify has come.
    ended: bool,
}

/// The TLS of a connection.
#[expect(clippy::large_enum_variant, reason = "a box of its own would be memory and a miss for each kept connection")]
enum Tls {
    /// The TLS library's: for the handshake, and after it where its secrets were not taken.
    Library(Box<Library>),
    /// The suite's own, after a handshake.
    Own(Records),
}

/// The TLS library's part in a connection.
struct Library {
    tls: UnbufferedClientConnection,
    /// The secrets of the handshake once it is complete, if they were taken.
    secrets: Option<TrafficSecrets>,
}

impl Stream {
    /// Performs the handshake with a peer whose certificate must be valid for `name`. [`Stream::begin`] is to follow.
    ///
    /// # Errors
    /// If the connection or the handshake fails; the tap has the bytes up to there.
    pub(super) async fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        tap: Tap,
    ) -> Result<Self, (io::Error, Tap)> {
        let tls = match UnbufferedClientConnection::new(config, name) {
            Ok(tls) => Tls::Library(Box::new(Library { tls, secrets: None })),
            Err(error) => return Err((io::Error::other(error), tap)),
        };
        let (incoming, outgoing, early) = (Vec::new(), Vec::new(), Vec::new());
        let mut stream = Self { tap, tls, incoming, outgoing, early, error: None, failed: false, ended: false };
        // Makes the first flight.
        let shaken = match stream.process(&mut [], &mut |_| ()) {
            Ok(_) => poll_fn(|context| stream.poll_handshake(context)).await,
            Err(error) => Err(error),
        };
        match shaken {
            Ok(()) => Ok(stream),
            Err(error) => Err((error, stream.tap)),
        }
    }

    /// Returns the TCP connection.
    pub(super) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Returns the properties of the TLS connection, as the TLS library has them: before [`Stream::begin`], and where it
    /// has left the connection to the library.
    pub(super) fn tls(&self) -> Option<&CommonState> {
        match &self.tls {
            Tls::Library(library) => Some(&library.tls),
            Tls::Own(_) => None,
        }
    }

    /// Begins to send and receive. The TLS library's part ends here if its configuration has a
    /// [`super::records::SecretTaker`] and the version is TLS 1.3.
    pub(super) fn begin(&mut self) {
        if let Tls::Library(library) = &self.tls
            && let Some(records) = library.records()
        {
            self.tls = Tls::Own(records);
        }
        // What has come with the last message of the handshake.
        let mut held = mem::take(&mut self.incoming);
        let mut early = mem::take(&mut self.early);
        match self.process(&mut held, &mut |plain| early.extend_from_slice(plain)) {
            Ok(used) => self.incoming = held[used..].to_vec(),
            Err(error) => self.fail(error),
        }
        self.early = early;
    }

    /// Reads until plaintext comes, hands it to `take`, and returns true; returns false at the end, which the peer has
    /// announced (close_notify).
    ///
    /// # Errors
    /// That of the operating system or of TLS; an end that was not announced is one.
    pub(super) fn poll_read(&mut self, context: &Context<'_>, take: &mut dyn FnMut(&[u8])) -> Poll<io::Result<bool>> {
        self.read_with(|tap, buffer| tap.poll_read(context, buffer), take)
    }

    /// Does the same as [`Stream::poll_read`] with the bytes that are in the kernel's buffer, and never waits.
    ///
    /// # Errors
    /// As [`Stream::poll_read`].
    pub(super) fn read_now(&mut self, take: &mut dyn FnMut(&[u8])) -> Poll<io::Result<bool>> {
        self.read_with(Tap::read_now, take)
    }

    /// Returns true if there may be something to read.
    pub(super) fn is_readable(&self) -> bool {
        self.tap.is_readable() || !self.early.is_empty() || self.failed || self.ended
    }

    fn read_with(
        &mut self,
        mut read: impl FnMut(&mut Tap, &mut [u8]) -> Poll<io::Result<usize>>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<bool>> {
        if !self.early.is_empty() {
            take(&mem::take(&mut self.early));
            return Poll::Ready(Ok(true));
        }
        BUFFERS.with_borrow_mut(|buffers| {
            let mut handed = false;
            while !handed {
                if let Some(error) = self.error.take() {
                    return Poll::Ready(Err(error));
                }
                if self.failed {
                    return Poll::Ready(Err(io::Error::other(FAILED)));
                }
                if self.ended {
                    return Poll::Ready(Ok(false));
                }
                ready!(self.fill(&mut buffers.incoming, &mut read, &mut |plain| {
                    handed = true;
                    take(plain);
                }));
            }
            Poll::Ready(Ok(true))
        })
    }

    /// Reads once and lets the TLS library process it. An error is kept, behind the plaintext before it.
    fn fill(
        &mut self,
        buffer: &mut [u8],
        read: &mut impl FnMut(&mut Tap, &mut [u8]) -> Poll<io::Result<usize>>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<()> {
        let held = self.incoming.len();
        let length = match ready!(read(&mut self.tap, &mut buffer[held..])) {
            Ok(0) if held == buffer.len() => Err(io::Error::other("a TLS handshake message is too long")),
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection, without close_notify",
            )),
            read => read,
        };
        let processed = length.and_then(|length| {
            let filled = &mut buffer[..held + length];
            filled[..held].copy_from_slice(&self.incoming);
            let used = self.process(filled, take)?;
            // Mostly nothing is left, and the memory of a large handshake message is given back.
            self.incoming = filled[used..].to_vec();
            Ok(())
        });
        if let Err(error) = processed {
            self.fail(error);
        }
        Poll::Ready(())
    }

    /// Keeps an error, which ends the connection.
    fn fail(&mut self, error: io::Error) {
        (self.error, self.failed) = (Some(error), true);
    }

    /// Processes `bytes` as far as it can, but not beyond the end of the handshake, and returns the number of those that
    /// are needed no more.
    fn process(&mut self, bytes: &mut [u8], take: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let opened = match &mut self.tls {
            Tls::Own(records) => records.open(bytes, take).inspect_err(|error| {
                self.outgoing.extend(records.answer_to(error).unwrap_or_default());
            }),
            Tls::Library(library) => library.open(bytes, take, &mut self.outgoing),
        };
        match opened {
            Ok(opened) => {
                self.ended |= opened.ended;
                Ok(opened.used)
            }
            Err(error) => {
                // The alert: if the kernel does not take it at once, the connection is lost anyway.
                let _ = self.poll_flush(&Context::from_waker(Waker::noop()));
                Err(invalid(error))
            }
        }
    }

    fn is_handshaking(&self) -> bool {
        matches!(&self.tls, Tls::Library(library) if library.tls.is_handshaking())
    }

    fn poll_handshake(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut early = mem::take(&mut self.early);
        let done = BUFFERS.with_borrow_mut(|buffers| {
            loop {
                ready!(self.poll_flush(context))?;
                if !self.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                let take = &mut |plain: &[u8]| early.extend_from_slice(plain);
                ready!(self.fill(&mut buffers.incoming, &mut |tap, buffer| tap.poll_read(context, buffer), take));
                if let Some(error) = self.error.take() {
                    return Poll::Ready(Err(error));
                }
            }
        });
        self.early = early;
        done
    }

    /// Seals as much of `plain` as a record takes, and hands it to the kernel; returns the number of bytes. What the
    /// kernel does not take at once is kept, for [`Stream::poll_flush`].
    ///
    /// # Errors
    /// That of the operating system or of TLS.
    pub(super) fn poll_write(&mut self, context: &Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        if self.failed {
            // Reading reports the error too.
            return Poll::Ready(Err(self.error.as_ref().map_or_else(|| io::Error::other(FAILED), copy)));
        }
        ready!(self.poll_flush(context))?;
        let plain = &plain[..plain.len().min(RECORD_BYTES)];
        BUFFERS.with_borrow_mut(|buffers| {
            let length = match &mut self.tls {
                Tls::Own(records) => records.seal(plain, &mut buffers.outgoing),
                Tls::Library(library) => library.seal(plain, &mut buffers.outgoing, &mut self.incoming)?,
            };
            let sealed = &buffers.outgoing[..length];
            let written = match self.tap.poll_write(context, sealed) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            if written < length {
                self.outgoing.extend_from_slice(&sealed[written..]);
            }
            Poll::Ready(Ok(plain.len()))
        })
    }

    /// Hands the rest of what was sealed to the kernel.
    ///
    /// # Errors
    /// That of the operating system.
    pub(super) fn poll_flush(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let flushed = loop {
            if sent == self.outgoing.len() {
                break Poll::Ready(Ok(()));
            }
            match self.tap.poll_write(context, &self.outgoing[sent..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(length)) => sent += length,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if sent > 0 {
            self.outgoing = self.outgoing.split_off(sent);
        }
        flushed
    }

    /// Ends the direction to the peer: close_notify, and the end of the TCP stream.
    ///
    /// # Errors
    /// That of the operating system.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        if !self.failed {
            let notice = match &mut self.tls {
                Tls::Own(records) => records.close_notify(),
                Tls::Library(library) => library.close_notify(&mut self.incoming)?,
            };
            self.outgoing.extend(notice);
        }
        poll_fn(|context| self.poll_flush(context)).await?;
        self.tap.shut_down()
    }
}

impl Library {
    /// Returns the record layer that goes on where the TLS library's ends; `None` if the secrets were not taken.
    fn records(&self) -> Option<Records> {
        Records::of_client(self.secrets.as_ref()?, self.tls.negotiated_cipher_suite()?)
    }

    /// Opens the records in `bytes` as far as it can, but not beyond the end of the handshake: hands plaintext to `take`,
    /// and appends what is for the peer to `out`, an alert for an error among it.
    fn open(
        &mut self,
        bytes: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Opened, rustls::Error> {
        if !self.tls.is_handshaking() {
            return self.process(bytes, take, out);
        }
        // Another handshake of this thread may have left some.
        TrafficSecrets::forget();
        let opened = self.process(bytes, take, out);
        self.secrets = TrafficSecrets::take();
        opened
    }

    fn process(
        &mut self,
        bytes: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> Result<Opened, rustls::Error> {
        let was_handshaking = self.tls.is_handshaking();
        let mut opened = Opened { used: 0, ended: false };
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut bytes[opened.used..]);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        if !record.payload.is_empty() {
                            take(record.payload);
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(out, |out| data.encode(out))?,
                // What was encoded is sent before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => opened.ended = true,
                Ok(_) => goes_on = false,
                Err(error) => {
                    self.alert(out);
                    return Err(error);
                }
            }
            opened.used += discard;
            let is_shaken = was_handshaking && !self.tls.is_handshaking() && !self.tls.wants_write();
            if !goes_on || is_shaken {
                return Ok(opened);
            }
        }
    }

    /// Appends the alert that the TLS library has for the peer.
    fn alert(&mut self, out: &mut Vec<u8>) {
        while self.tls.wants_write() {
            let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut data)), .. } =
                self.tls.process_tls_records(&mut [])
            else {
                break;
            };
            if encode(out, |out| data.encode(out)).is_err() {
                break;
            }
        }
    }

    /// Seals `plain` at the beginning of `out`, and returns the number of bytes. `held` are the bytes from the peer that
    /// it has seen and still needs: it keeps places in them.
    fn seal(&mut self, plain: &[u8], out: &mut [u8], held: &mut Vec<u8>) -> io::Result<usize> {
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(held);
        let sealed = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(plain, out).map_err(unsealed),
            Ok(_) => Err(io::Error::other("the TLS connection cannot be written to")),
            Err(error) => Err(invalid(error)),
        };
        held.drain(..discard);
        sealed
    }

    /// Returns the sealed alert that announces the end to the peer; nothing if that is not possible any more.
    fn close_notify(&mut self, held: &mut [u8]) -> io::Result<Vec<u8>> {
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = self.tls.process_tls_records(held).state else {
            return Ok(Vec::new());
        };
        let mut notice = vec![0; 1024];
        let length = traffic.queue_close_notify(&mut notice).map_err(unsealed)?;
        notice.truncate(length);
        Ok(notice)
    }
}

/// Appends what `encode` has for the peer.
fn encode(
    out: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let before = out.len();
    // The first attempt finds out the size.
    if let Err(EncodeError::InsufficientSize(needed)) = encode(&mut []) {
        out.resize(before + needed.required_size, 0);
    }
    encode(&mut out[before..]).map(|_| ()).map_err(|error| rustls::Error::General(error.to_string()))
}

/// Returns an error of the TLS library as an I/O error, in which [`super::Fault`] finds it.
fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Returns the same error once more.
fn copy(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(tls) => invalid(tls.clone()),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn unsealed(error: EncryptError) -> io::Error {
    io::Error::other(error)
}
