//! A small HTTP server for the view of a run: the page, its events (server-sent events, the WHATWG's HTML standard,
//! section 9.2), and metrics. It has no thread of its own, waits for nobody, and bounds all that a client can take.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{metrics, page};
use crate::error::{Context as _, Result};

/// The most clients at once; further ones wait until one has gone.
const MOST_CLIENTS: usize = 32;
/// The longest head of a request, in bytes.
const MOST_HEAD: usize = 8 << 10;
/// The most bytes that wait for a client: one that falls further behind is dropped.
const MOST_WAITING: usize = 8 << 20;
/// The pause before a client is accepted again where the kernel had no descriptor or no memory for one: it stays in the
/// queue, and a look at the listener would return at once.
const WITHOUT_ACCEPTING: Duration = Duration::from_millis(250);
/// The longest time that a client may take to send its request, or to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address that clients connect to.
#[derive(Debug)]
pub struct LiveListener {
    socket: TcpListener,
    /// True if it has the page; metrics are everywhere.
    has_page: bool,
}

impl LiveListener {
    /// Listens at an address, which may leave the port to the kernel. A network namespace that the process enters
    /// later does not affect it.
    ///
    /// # Errors
    /// If the address is taken, or not this machine's.
    pub fn bind(address: SocketAddr, has_page: bool) -> Result<Self> {
        let what = if has_page { "the page of the run (--dashboard)" } else { "metrics (--metrics)" };
        let listening = || format!("listening for {what} at {address}");
        let socket = TcpListener::bind(address).context(listening)?;
        socket.set_nonblocking(true).context(listening)?;
        Ok(Self { socket, has_page })
    }

    /// Returns the URL of what it serves.
    ///
    /// # Errors
    /// If the kernel does not know its address.
    pub fn url(&self) -> Result<String> {
        let address = self.socket.local_addr().context(|| "reading the address of a listener".to_owned())?;
        Ok(format!("http://{address}/{}", if self.has_page { "" } else { "metrics" }))
    }

    /// True if it has the page.
    pub fn has_page(&self) -> bool {
        self.has_page
    }
}

/// The texts that the server serves, made when they are wanted.
pub struct Pages<'p> {
    /// The page.
    pub whole: &'p dyn Fn() -> String,
    /// All parts of the page.
    pub parts: &'p dyn Fn() -> BTreeMap<&'static str, String>,
    /// The metrics.
    pub metrics: &'p dyn Fn() -> String,
}

/// A client.
struct Client {
    stream: TcpStream,
    has_page: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    /// True once its request was answered: it is closed when it has taken everything, unless it follows.
    is_answered: bool,
    /// True if it is sent events.
    follows: bool,
    is_gone: bool,
    /// The time by which it must have sent its request, or taken what waits for it.
    deadline: Instant,
}

/// The server.
pub struct LiveServer {
    listeners: Vec<LiveListener>,
    clients: Vec<Client>,
    wake: Arc<OwnedFd>,
    /// The time until which no client is accepted.
    accepts_from: Instant,
}

impl LiveServer {
    /// Makes a server for these listeners, which a write to `wake`, a counter, interrupts.
    pub fn new(listeners: Vec<LiveListener>, wake: Arc<OwnedFd>) -> Self {
        Self { listeners, clients: Vec::new(), wake, accepts_from: Instant::now() }
    }

    /// True if a page follows the events.
    pub fn has_followers(&self) -> bool {
        self.clients.iter().any(|client| client.follows)
    }

    /// Sends an event with the parts of the page to all that follow.
    pub fn tell(&mut self, parts: &BTreeMap<&'static str, String>) {
        let event = event("parts", parts);
        self.clients.iter_mut().filter(|client| client.follows).for_each(|client| client.say(&event));
    }

    /// Serves clients until this moment, or until the counter is written.
    pub fn serve(&mut self, until: Instant, pages: &Pages<'_>) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let woken = self.wait(left);
            self.accept();
            for client in &mut self.clients {
                client.turn(pages);
            }
            self.clients.retain(|client| !client.is_gone);
            if woken || Instant::now() >= until {
                return;
            }
        }
    }

    /// Sends the report of the run to all that follow, or says that there is none, and waits until they have taken it,
    /// for as long as `until`.
    pub fn end(mut self, report: Option<&str>, until: Instant) {
        self.listeners.clear();
        let last = report.map_or_else(|| event("over", &""), |report| event("report", &report));
        for client in self.clients.iter_mut().filter(|client| client.follows) {
            client.follows = false;
            client.say(&last);
        }
        while Instant::now() < until {
            self.clients.iter_mut().for_each(Client::write);
            self.clients.retain(|client| !client.is_gone);
            if self.clients.iter().all(|client| client.output.is_empty()) {
                break;
            }
            self.wait(until.saturating_duration_since(Instant::now()));
        }
        for client in &self.clients {
            // Its end of the stream follows what was sent.
            let _ = client.stream.shutdown(Shutdown::Write);
        }
    }

    /// Waits for a client or the counter. Returns true if the counter was written.
    fn wait(&mut self, span: Duration) -> bool {
        let has_room = self.clients.len() < MOST_CLIENTS;
        let now = Instant::now();
        let pause = Some(self.accepts_from).filter(|from| *from > now && !self.listeners.is_empty());
        let listening = self.listeners.iter().filter(|_| has_room && pause.is_none());
        let deadlines = self.clients.iter().filter(|client| client.is_awaited()).map(|client| client.deadline);
        let deadline = deadlines.chain(pause).min();
        let left = deadline.map_or(span, |deadline| span.min(deadline.saturating_duration_since(now)));
        let mut ends = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        ends.extend(listening.map(|listener| PollFd::new(&listener.socket, PollFlags::IN)));
        ends.extend(self.clients.iter().map(|client| {
            let wants = if client.output.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            PollFd::new(&client.stream, wants)
        }));
        let left = Timespec { tv_sec: left.as_secs().min(3_600) as i64, tv_nsec: left.subsec_nanos().into() };
        // An interruption is a wait that ended early.
        let _ = poll(&mut ends, Some(&left));
        drop(ends);
        // What was written is taken, so that the next wait is one.
        rustix::io::read(self.wake.as_fd(), &mut [0_u8; 8]).is_ok()
    }

    fn accept(&mut self) {
        if Instant::now() < self.accepts_from {
            return;
        }
        for listener in &self.listeners {
            while self.clients.len() < MOST_CLIENTS {
                let stream = match listener.socket.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // One that is gone again.
                    Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {
                        continue;
                    }
                    // A lack of descriptors is no matter of the run's, and it may pass.
                    Err(_) => {
                        self.accepts_from = Instant::now() + WITHOUT_ACCEPTING;
                        return;
                    }
                };
                if stream.set_nonblocking(true).is_err() {
                    continue;
                }
                self.clients.push(Client {
                    stream,
                    has_page: listener.has_page,
                    input: Vec::new(),
                    output: Vec::new(),
                    is_answered: false,
                    follows: false,
                    is_gone: false,
                    deadline: Instant::now() + PATIENCE,
                });
            }
        }
    }
}

/// Encodes an event; JSON has no line ends.
fn event(name: &str, data: &impl serde::Serialize) -> Vec<u8> {
    // Texts and maps of texts can be written.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

impl Client {
    /// True if something is expected of it by its deadline.
    fn is_awaited(&self) -> bool {
        !self.is_answered || !self.output.is_empty()
    }

    /// Reads its request, answers it, and writes what it takes.
    fn turn(&mut self, pages: &Pages<'_>) {
        self.read();
        if !self.is_answered && !self.is_gone {
            self.answer(pages);
        }
        self.write();
        self.is_gone |= self.is_awaited() && Instant::now() >= self.deadline;
        if self.is_answered && !self.follows && self.output.is_empty() {
            let _ = self.stream.shutdown(Shutdown::Write);
            self.is_gone = true;
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 4_096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.is_gone = true,
                // Nothing is expected after the request.
                Ok(count) if !self.is_answered => self.input.extend_from_slice(&bytes[..count]),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.is_gone = true,
            }
            return;
        }
    }

    fn answer(&mut self, pages: &Pages<'_>) {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let (status, kind, body) = match request.parse(&self.input) {
            Ok(httparse::Status::Partial) if self.input.len() < MOST_HEAD => return,
            Ok(httparse::Status::Partial) => ("431 Request Header Fields Too Large", TEXT, String::new()),
            Err(_) => ("400 Bad Request", TEXT, "not HTTP/1.1\n".to_owned()),
            Ok(httparse::Status::Complete(_)) => {
                let host = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
                let host = host.and_then(|header| std::str::from_utf8(header.value).ok()).unwrap_or_default();
                let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
                match (request.method.unwrap_or_default(), path, self.has_page) {
                    // Another site's name that leads here (DNS rebinding) sees nothing.
                    _ if self.has_page && !is_local(host) => {
                        ("403 Forbidden", TEXT, "ask for this machine by its loopback address\n".to_owned())
                    }
                    ("GET", "/", true) => ("200 OK", "text/html; charset=utf-8", (pages.whole)()),
                    ("GET", "/page.js", true) => ("200 OK", "text/javascript; charset=utf-8", page::SCRIPT.to_owned()),
                    ("GET", "/events", true) => {
                        self.follows = true;
                        self.is_answered = true;
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                                    X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";
                        self.say(head.as_bytes());
                        self.say(&event("parts", &(pages.parts)()));
                        return;
                    }
                    ("GET", "/metrics", _) => ("200 OK", metrics::MEDIA_TYPE, (pages.metrics)()),
                    ("GET", ..) => ("404 Not Found", TEXT, "there is /metrics, and with --dashboard /\n".to_owned()),
                    _ => ("405 Method Not Allowed", TEXT, "only GET is answered\n".to_owned()),
                }
            }
        };
        self.is_answered = true;
        let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.say(&[head.as_bytes(), body.as_bytes()].concat());
    }

    /// Adds to what it is to take.
    fn say(&mut self, bytes: &[u8]) {
        if self.output.is_empty() {
            self.deadline = Instant::now() + PATIENCE;
        }
        self.output.extend_from_slice(bytes);
        self.is_gone |= self.output.len() > MOST_WAITING;
        self.write();
    }

    fn write(&mut self) {
        while !self.output.is_empty() && !self.is_gone {
            match self.stream.write(&self.output) {
                Ok(0) => self.is_gone = true,
                Ok(count) => {
                    self.output.drain(..count);
                    self.deadline = Instant::now() + PATIENCE;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_gone = true,
            }
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// True for a host, with its port perhaps, that is this machine by its loopback address or name.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:5665", "127.9.9.9", "[::1]:5665", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1:80", "[::2]:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
