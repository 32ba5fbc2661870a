//! A TCP connection that counts its bytes and records the moment of the peer's first answer: it times the TLS handshake
//! from beneath, without the TLS library.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::clock::Moment;

/// The number of bytes that are kept of an answer that is no TLS.
const BEGINNING_BYTES: usize = 40;

/// A TCP connection with counters.
#[derive(Debug)]
pub struct Tap {
    tcp: TcpStream,
    read_bytes: u64,
    written_bytes: u64,
    answered: Option<Moment>,
    replied: bool,
    at_once: bool,
    beginning: Vec<u8>,
}

impl Tap {
    /// Makes a tap, which counts from now on.
    pub fn new(tcp: TcpStream) -> Self {
        let (answered, beginning) = (None, Vec::new());
        Self { tcp, read_bytes: 0, written_bytes: 0, answered, replied: false, at_once: false, beginning }
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

    /// Sets whether reads look into the kernel's buffer themselves: they then find bytes that have arrived although the
    /// reactor has not polled the socket since.
    pub fn read_at_once(&mut self, at_once: bool) {
        self.at_once = at_once;
    }

    /// Returns the beginning of the peer's first answer, if it is no TLS: enough to recognise the protocol of a peer
    /// without TLS.
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = written {
            self.written_bytes += length as u64;
            self.replied |= length > 0 && self.answered.is_some();
        }
        written
    }
}

/// Reads the bytes that are in the kernel's buffer, without waiting.
fn receive_now(tcp: &TcpStream, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let room = buffer.initialize_unfilled();
    match rustix::net::recv(tcp, room, RecvFlags::DONTWAIT) {
        Ok((length, _)) => {
            buffer.advance(length);
            Poll::Ready(Ok(()))
        }
        Err(Errno::WOULDBLOCK) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if self.at_once && read.is_pending() {
            read = receive_now(&self.tcp, buffer);
        }
        let length = buffer.filled().len() - before;
        if length > 0 {
            self.read_bytes += length as u64;
            if self.answered.is_none() {
                self.answered = Some(Moment::now());
                let first = &buffer.filled()[before..];
                // A TLS record begins with its type, and no type is a letter (RFC 8446, section 5.1).
                if first[0].is_ascii_graphic() {
                    self.beginning = first[..first.len().min(BEGINNING_BYTES)].to_vec();
                }
            }
        }
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
