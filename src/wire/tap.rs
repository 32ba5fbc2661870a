//! A TCP connection that counts its bytes and records the moment of the peer's first answer: it times the TLS handshake
//! from beneath, without the TLS library.

use std::io;
use std::task::{Context, Poll, ready};

use crate::clock::Moment;
use crate::event_loop::TcpSocket;

/// The number of bytes that are kept of an answer that is no TLS.
const BEGINNING_BYTES: usize = 40;

/// A TCP connection with counters.
pub struct Tap {
    tcp: TcpSocket,
    read_bytes: u64,
    written_bytes: u64,
    answered: Option<Moment>,
    replied: bool,
    beginning: Vec<u8>,
}

impl Tap {
    /// Makes a tap, which counts from now on.
    pub fn new(tcp: TcpSocket) -> Self {
        Self { tcp, read_bytes: 0, written_bytes: 0, answered: None, replied: false, beginning: Vec::new() }
    }

    /// Returns the number of bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Returns the number of bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Returns the moment at which the peer's first byte was read.
    pub fn answered(&self) -> Option<Moment> {
        self.answered
    }

    /// Returns true if something was written after the peer's first byte.
    pub fn replied(&self) -> bool {
        self.replied
    }

    /// Returns the beginning of the peer's first answer, if it is no TLS: enough to recognise the protocol of a peer
    /// without TLS.
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// Reads into `buffer`, and returns the number of bytes; 0 at the end.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn poll_read(&mut self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = ready!(self.tcp.poll_read(context, buffer))?;
        self.has_read(&buffer[..length]);
        Poll::Ready(Ok(length))
    }

    /// Reads the bytes that are in the kernel's buffer, whatever the event loop knows of them, and never waits.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn read_now(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = ready!(self.tcp.read_now(buffer))?;
        self.has_read(&buffer[..length]);
        Poll::Ready(Ok(length))
    }

    /// Returns true if the event loop knows of bytes, or of the end, that were not read yet.
    pub fn is_readable(&self) -> bool {
        self.tcp.is_readable()
    }

    /// Writes as much of `bytes` as the kernel takes, and returns the number of bytes.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn poll_write(&mut self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = ready!(self.tcp.poll_write(context, bytes))?;
        self.written_bytes += length as u64;
        self.replied |= length > 0 && self.answered.is_some();
        Poll::Ready(Ok(length))
    }

    /// Ends the direction to the peer.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn shut_down(&self) -> io::Result<()> {
        self.tcp.shut_down()
    }

    fn has_read(&mut self, bytes: &[u8]) {
        self.read_bytes += bytes.len() as u64;
        if self.answered.is_none() && !bytes.is_empty() {
            self.answered = Some(Moment::now());
            // A TLS record begins with its type, and no type is a letter (RFC 8446, section 5.1).
            if bytes[0].is_ascii_graphic() {
                self.beginning = bytes[..bytes.len().min(BEGINNING_BYTES)].to_vec();
            }
        }
    }
}
