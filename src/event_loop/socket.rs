//! TCP connections of an event loop.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::event::epoll;
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect, recv, send, shutdown,
    socket_with, sockopt,
};

use super::Core;

/// The number of this option in `linux/in.h`; libc does not name it.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// The state of a socket, as far as the looks at it have shown.
#[derive(Default)]
pub(super) struct Source {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// True once the peer has ended its direction, or both: from then on the socket stays readable.
    ended: Cell<bool>,
    /// The one task that waits.
    waker: RefCell<Option<Waker>>,
}

impl Source {
    /// Takes what a look has shown, and wakes the task that waits.
    pub(super) fn report(&self, flags: epoll::EventFlags) {
        use epoll::EventFlags as Flags;
        if flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR) {
            self.ended.set(true);
            self.readable.set(true);
        }
        if flags.intersects(Flags::IN) {
            self.readable.set(true);
        }
        if flags.intersects(Flags::OUT | Flags::HUP | Flags::ERR) {
            self.writable.set(true);
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn wait(&self, context: &Context<'_>) {
        match &mut *self.waker.borrow_mut() {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
    }
}

/// A TCP connection. One task at a time may wait for it.
pub struct TcpSocket {
    tcp: OwnedFd,
    source: Rc<Source>,
    place: usize,
    core: Rc<Core>,
    /// True once looks also show that the socket can be written to. Few ever wait for that.
    watches_writes: Cell<bool>,
}

impl TcpSocket {
    /// Connects to `address`, from `source` where one is given. Small writes are not held back (TCP_NODELAY).
    ///
    /// # Errors
    /// That of the operating system.
    ///
    /// # Panics
    /// If no event loop runs on this thread.
    pub async fn connect(address: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let tcp = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&tcp, true)?;
        use_all_ports(&tcp);
        if let Some(source) = source {
            bind_address(&tcp, source)?;
        }
        // The first call begins; on loopback the second mostly finds that it has been done, without a wait.
        let connected = match connect(&tcp, &address) {
            Err(Errno::INPROGRESS) => connect(&tcp, &address),
            begun => begun,
        };
        let is_connected = match connected {
            Ok(()) | Err(Errno::ISCONN) => true,
            Err(Errno::ALREADY | Errno::INPROGRESS) => false,
            Err(error) => return Err(error.into()),
        };
        let socket = Self::register(tcp, !is_connected)?;
        if !is_connected {
            poll_fn(|context| socket.poll_writable(context)).await?;
            sockopt::socket_error(&socket.tcp)??;
        }
        Ok(socket)
    }

    fn register(tcp: OwnedFd, watches_writes: bool) -> io::Result<Self> {
        let (core, source) = (Core::current(), Rc::new(Source::default()));
        source.writable.set(!watches_writes);
        let place = core.sources.borrow_mut().add(|_| source.clone());
        let socket = Self { tcp, source, place, core, watches_writes: Cell::new(watches_writes) };
        let data = epoll::EventData::new_u64(place as u64);
        epoll::add(&socket.core.epoll, &socket.tcp, data, events(watches_writes))?;
        Ok(socket)
    }

    /// Returns true if a look has shown bytes, or the end, that were not read yet.
    pub fn is_readable(&self) -> bool {
        self.source.readable.get()
    }

    /// Reads into `buffer`, and returns the number of bytes; 0 at the end.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn poll_read(&self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.source.readable.get() {
            match self.read_now(buffer) {
                Poll::Pending => self.source.readable.set(false),
                read => return read,
            }
        }
        self.source.wait(context);
        Poll::Pending
    }

    /// Reads the bytes that are in the kernel's buffer, whatever the looks have shown, and never waits.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn read_now(&self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match recv(&self.tcp, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => {
                // Whatever comes after this is shown by a further look. The end is no such news if it was shown before.
                if length < buffer.len() && !self.source.ended.get() {
                    self.source.readable.set(false);
                }
                Poll::Ready(Ok(length))
            }
            Err(Errno::WOULDBLOCK) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Writes as much of `bytes` as the kernel takes, and returns the number of bytes.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.source.writable.get() {
            match send(&self.tcp, bytes, SendFlags::NOSIGNAL) {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    self.source.writable.set(false);
                    self.watch_writes()?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.source.wait(context);
        Poll::Pending
    }

    fn poll_writable(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        if self.source.writable.get() {
            return Poll::Ready(Ok(()));
        }
        self.source.wait(context);
        Poll::Pending
    }

    /// Lets the next look show whether the socket can be written to.
    fn watch_writes(&self) -> io::Result<()> {
        if self.watches_writes.replace(true) {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(self.place as u64);
        Ok(epoll::modify(&self.core.epoll, &self.tcp, data, events(true))?)
    }

    /// Ends the direction to the peer.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn shut_down(&self) -> io::Result<()> {
        match shutdown(&self.tcp, Shutdown::Write) {
            // The peer may have ended it already.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        self.core.sources.borrow_mut().remove(self.place);
    }
}

/// Lets the connect take ports of either parity. Linux prefers even ones, and once an address has used them up, it tries
/// all 14,000 of them for each further connection, which takes it two milliseconds. A socket with a range of its own is
/// exempt since Linux 6.8; this range has only a lower end, below the machine's, and so changes no other thing.
fn use_all_ports(tcp: &OwnedFd) {
    // An older kernel has no such option, or has it to no effect.
    let _ = set_ip_option(tcp, IP_LOCAL_PORT_RANGE, 1);
}

/// Gives a socket its own address, and leaves its port to the connect, which may share it with connections to other
/// addresses.
fn bind_address(tcp: &OwnedFd, source: Ipv4Addr) -> io::Result<()> {
    set_ip_option(tcp, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    Ok(bind(tcp, &SocketAddr::from((source, 0)))?)
}

/// Sets an option of IP, which is one for IPv6 too.
fn set_ip_option(tcp: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is a C int, whose address and size are given.
    let set = unsafe {
        libc::setsockopt(
            tcp.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn events(writes: bool) -> epoll::EventFlags {
    use epoll::EventFlags as Flags;
    let reads = Flags::IN | Flags::RDHUP | Flags::ET;
    if writes { reads | Flags::OUT } else { reads }
}
