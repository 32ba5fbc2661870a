//! Peers that misbehave, as a table: the acts of each, and the outcome of its answer. docs/RELIABILITY.md is made from
//! it.

use super::peer::{RECORDED, Reply, Step, answer, json};

/// The layer at which a peer misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Connection,
    Tls,
    Head,
    Framing,
    Body,
    End,
    Order,
}

impl Layer {
    pub const ALL: [Self; 7] =
        [Self::Connection, Self::Tls, Self::Head, Self::Framing, Self::Body, Self::End, Self::Order];

    pub fn title(self) -> &'static str {
        match self {
            Self::Connection => "TCP connection",
            Self::Tls => "TLS",
            Self::Head => "Response head",
            Self::Framing => "Framing of the body",
            Self::Body => "Body",
            Self::End => "End of the response",
            Self::Order => "Order of request and response",
        }
    }
}

/// A peer that misbehaves, or finds out a client that is too strict.
pub struct Case {
    pub layer: Layer,
    /// The behaviour of the peer.
    pub peer: &'static str,
    /// The outcome of a heartbeat.
    pub outcome: &'static str,
    /// The outcome of the next one on the same connection, where the case is about that.
    pub next: Option<&'static str>,
    pub acts: fn() -> Acts,
}

/// The acts of a peer. Without an `answer` it gives the right one.
#[derive(Default)]
pub struct Acts {
    pub on_accept: Reply,
    pub on_open: Reply,
    pub answer: Reply,
    /// True if it answers once it has read the request's head.
    pub is_impatient: bool,
    /// The length of the request's body, where it matters.
    pub body: usize,
}

impl Acts {
    /// Takes these steps where the answer is due.
    fn answering(answer: Reply) -> Self {
        Self { answer, ..Self::default() }
    }

    /// Sends these bytes where the answer is due.
    fn sending(bytes: impl Into<Vec<u8>>) -> Self {
        Self::answering(vec![Step::Send(bytes.into())])
    }

    /// Sends these bytes where the answer is due, and then takes another step.
    fn ending(bytes: impl Into<Vec<u8>>, end: Step) -> Self {
        Self::answering(vec![Step::Send(bytes.into()), end])
    }

    /// Takes these steps beneath TLS in place of a handshake.
    fn accepting(on_accept: Reply) -> Self {
        Self { on_accept, ..Self::default() }
    }

    /// Takes these steps after the handshake, before it reads a request.
    fn opening(on_open: Reply) -> Self {
        Self { on_open, ..Self::default() }
    }

    /// Takes these steps while most of a large request is still to come.
    fn interrupting(answer: Reply) -> Self {
        Self { answer, is_impatient: true, body: 32 << 20, ..Self::default() }
    }
}

/// Returns a response with these fields, each with its line end, and the right content type.
fn response(status_line: &str, fields: &str, body: &str) -> String {
    format!("{status_line}\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
}

fn ok(fields: &str, body: &str) -> String {
    response("HTTP/1.1 200 OK", fields, body)
}

/// Returns the right answer, of known length, with more fields.
fn right(fields: &str) -> String {
    ok(&format!("Content-Length: {}\r\n{fields}", RECORDED.len()), RECORDED)
}

/// Returns a chunked response of these chunks and trailers.
fn chunked(body: &str) -> String {
    ok("Transfer-Encoding: chunked\r\n", body)
}

/// Returns the right answer as one chunk, without the last one.
fn one_chunk() -> String {
    format!("{:x}\r\n{RECORDED}\r\n", RECORDED.len())
}

/// Returns the first half of the right answer's body, with its whole head.
fn half() -> String {
    let right = right("");
    right[..right.len() - RECORDED.len() / 2].to_owned()
}

/// The beginning of a head.
const QUARTER: &str = "HTTP/1.1 200 OK\r\nContent-Ty";

const OK: &str = "ok";
const WRONG: &str = "wrong answer";
const CLOSED: &str = "broken (closed)";
const TRUNCATED: &str = "broken (truncated)";
const PROTOCOL: &str = "broken (protocol)";
const TLS: &str = "broken (tls)";
const NOT_TLS: &str = "broken (not TLS)";
const HANDSHAKE_REFUSED: &str = "broken (handshake refused)";
const TIMED_OUT: &str = "timed out";

const fn case(layer: Layer, peer: &'static str, outcome: &'static str, acts: fn() -> Acts) -> Case {
    Case { layer, peer, outcome, next: None, acts }
}

const fn then(case: Case, next: &'static str) -> Case {
    Case { next: Some(next), ..case }
}

use Layer::{Body, Connection, End, Framing, Head, Order, Tls};

/// A fatal TLS alert in the clear.
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

pub const CASES: &[Case] = &[
    // TCP and TLS -----------------------------------------------------------------------------------------------------
    case(Connection, "closes as soon as it has accepted", CLOSED, || Acts::accepting(vec![Step::Cut])),
    case(Connection, "resets as soon as it has accepted", CLOSED, || Acts::accepting(vec![Step::Reset])),
    case(Connection, "accepts and says nothing", TIMED_OUT, || Acts::accepting(vec![Step::Silence])),
    case(Connection, "accepts and does not even read", TIMED_OUT, || Acts::accepting(vec![Step::Hold])),
    case(Tls, "speaks HTTP in the clear", NOT_TLS, || {
        Acts::accepting(vec![Step::SendRaw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Step::Silence])
    }),
    case(Tls, "greets like a mail server", NOT_TLS, || {
        Acts::accepting(vec![Step::SendRaw(b"220 mail.example.test ESMTP\r\n".to_vec()), Step::Silence])
    }),
    case(Tls, "refuses the handshake by an alert", HANDSHAKE_REFUSED, || {
        Acts::accepting(vec![Step::SendRaw(HANDSHAKE_FAILURE.to_vec()), Step::Silence])
    }),
    case(Tls, "closes after the first byte of a TLS record", CLOSED, || {
        Acts::accepting(vec![Step::SendRaw(vec![22]), Step::Cut])
    }),
    case(Tls, "shakes hands and closes by close_notify", CLOSED, || Acts::opening(vec![Step::Close])),
    case(Tls, "shakes hands and closes without a word", CLOSED, || Acts::opening(vec![Step::Cut])),
    case(Tls, "shakes hands and resets", CLOSED, || Acts::opening(vec![Step::Reset])),
    case(Tls, "shakes hands and sends what is no TLS", TLS, || {
        Acts::opening(vec![Step::SendRaw(b"this is no TLS record".to_vec())])
    }),
    case(Tls, "sends half of an answer, then what is no TLS", TLS, || {
        Acts::ending(half(), Step::SendRaw(b"this is no TLS record".to_vec()))
    }),
    case(Tls, "sends a record of a type that does not exist", TLS, || {
        Acts::answering(vec![Step::SendRaw(vec![99, 3, 3, 0, 1, 0])])
    }),
    case(Tls, "sends a record longer than TLS allows", TLS, || {
        Acts::answering(vec![Step::SendRaw(vec![23, 3, 3, 0xff, 0xff])])
    }),
    case(Tls, "sends a record that was not encrypted with its key", TLS, || {
        Acts::answering(vec![Step::SendRaw([&[23, 3, 3, 0, 64][..], &[7; 64]].concat())])
    }),
    case(Tls, "updates its keys in the middle of an answer", OK, || {
        let right = right("");
        let (first, rest) = right.split_at(30);
        Acts::answering(vec![Step::Send(first.into()), Step::UpdateKeys, Step::Send(rest.into())])
    }),
    case(Tls, "updates its keys while the connection is idle", OK, || Acts::opening(vec![Step::UpdateKeys])),
    // Head ------------------------------------------------------------------------------------------------------------
    case(Head, "speaks another protocol within TLS", PROTOCOL, || Acts::sending("+OK POP3 ready\r\n\r\n")),
    case(Head, "sends HTML without a head", PROTOCOL, || Acts::sending("<html>sorry</html>\r\n\r\n")),
    case(Head, "answers in HTTP/2", PROTOCOL, || Acts::sending("HTTP/2 200 OK\r\n\r\n")),
    case(Head, "answers in HTTP/0.9", PROTOCOL, || Acts::ending(RECORDED, Step::Close)),
    case(Head, "sends an HTTP/2 SETTINGS frame", PROTOCOL, || Acts::sending(vec![0, 0, 0, 4, 0, 0, 0, 0, 0])),
    case(Head, "puts an empty line before the status line", PROTOCOL, || Acts::sending(format!("\r\n{}", right("")))),
    case(Head, "leaves out the reason phrase", OK, || Acts::sending(right("").replacen(" OK", " ", 1))),
    case(Head, "sends a status of two digits", PROTOCOL, || Acts::sending(right("").replacen("200", "20", 1))),
    case(Head, "sends a status of four digits", PROTOCOL, || Acts::sending(right("").replacen("200", "2000", 1))),
    case(Head, "sends status 99", PROTOCOL, || Acts::sending(right("").replacen("200", "099", 1))),
    case(Head, "sends status 600", PROTOCOL, || Acts::sending(right("").replacen("200", "600", 1))),
    case(Head, "sends a field without a colon", PROTOCOL, || Acts::sending(right("nonsense\r\n"))),
    case(Head, "sends a field without a name", PROTOCOL, || Acts::sending(right(": nameless\r\n"))),
    case(Head, "puts white space before a colon", PROTOCOL, || Acts::sending(right("X-Note : a\r\n"))),
    case(Head, "puts white space after the status line", PROTOCOL, || {
        Acts::sending(right("").replacen("\r\nContent-Type", "\r\n Content-Type", 1))
    }),
    case(Head, "puts a NUL into a value", PROTOCOL, || Acts::sending(right("X-Note: a\0b\r\n"))),
    case(Head, "puts a bare CR into a value", PROTOCOL, || Acts::sending(right("X-Note: a\rb\r\n"))),
    case(Head, "puts an escape sequence into a value", PROTOCOL, || Acts::sending(right("X-Note: \x1b[2J\r\n"))),
    case(Head, "folds a field over two lines", OK, || Acts::sending(right("X-Note: a,\r\n\tb\r\n"))),
    case(Head, "folds its content type over two lines", OK, || {
        Acts::sending(right("").replacen("Type: ", "Type:\r\n ", 1))
    }),
    case(Head, "sends a head of 15 KiB", OK, || Acts::sending(right(&format!("X-Note: {}\r\n", "x".repeat(15_000))))),
    case(Head, "sends a head without an end", PROTOCOL, || {
        let begin = Step::Send(b"HTTP/1.1 200 OK\r\nX-Note: ".to_vec());
        Acts::answering(vec![begin, Step::Repeat(vec![b'x'; 1 << 14], 4), Step::Silence])
    }),
    case(Head, "sends a hundred fields", PROTOCOL, || Acts::sending(right(&"X-Note: a\r\n".repeat(100)))),
    case(Head, "sends an interim response first", OK, || {
        Acts::sending(format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}", right("")))
    }),
    case(Head, "sends 100 Continue, which was not asked for", OK, || {
        Acts::sending(format!("HTTP/1.1 100 Continue\r\n\r\n{}", right("")))
    }),
    case(Head, "sends interim responses without end", PROTOCOL, || {
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
        Acts::answering(vec![Step::Repeat(interim, 100), Step::Silence])
    }),
    case(Head, "switches protocols", PROTOCOL, || {
        Acts::sending("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    }),
    case(Head, "sends its answer one byte at a time", OK, || Acts::answering(vec![Step::Drip(right("").into())])),
    // Framing ---------------------------------------------------------------------------------------------------------
    case(Framing, "sends an empty Content-Length", PROTOCOL, || {
        Acts::ending(ok("Content-Length:\r\n", RECORDED), Step::Close)
    }),
    case(Framing, "sends a Content-Length with a plus sign", PROTOCOL, || {
        Acts::sending(ok("Content-Length: +32\r\n", RECORDED))
    }),
    case(Framing, "sends a negative Content-Length", PROTOCOL, || {
        Acts::sending(ok("Content-Length: -1\r\n", RECORDED))
    }),
    case(Framing, "sends a hexadecimal Content-Length", PROTOCOL, || {
        Acts::sending(ok("Content-Length: 0x20\r\n", RECORDED))
    }),
    case(Framing, "sends a Content-Length of words", PROTOCOL, || {
        Acts::sending(ok("Content-Length: 32 bytes\r\n", RECORDED))
    }),
    case(Framing, "sends a Content-Length beyond 64 bits", PROTOCOL, || {
        Acts::sending(ok("Content-Length: 18446744073709551648\r\n", RECORDED))
    }),
    case(Framing, "sends the same Content-Length twice", OK, || Acts::sending(right("Content-Length: 32\r\n"))),
    case(Framing, "sends the same Content-Length as a list", OK, || {
        Acts::sending(ok("Content-Length: 32, 32\r\n", RECORDED))
    }),
    case(Framing, "sends a list of lengths with an empty item", PROTOCOL, || {
        Acts::sending(ok("Content-Length: 32,\r\n", RECORDED))
    }),
    case(Framing, "sends two Content-Lengths that differ", PROTOCOL, || Acts::sending(right("Content-Length: 31\r\n"))),
    case(Framing, "sends a Content-Length and chunks", PROTOCOL, || {
        Acts::sending(ok("Content-Length: 32\r\nTransfer-Encoding: chunked\r\n", &(one_chunk() + "0\r\n\r\n")))
    }),
    case(Framing, "sends chunks in HTTP/1.0", PROTOCOL, || {
        Acts::sending(chunked(&(one_chunk() + "0\r\n\r\n")).replacen("HTTP/1.1", "HTTP/1.0", 1))
    }),
    case(Framing, "names the chunked coding twice", PROTOCOL, || {
        Acts::sending(ok("Transfer-Encoding: chunked, chunked\r\n", &(one_chunk() + "0\r\n\r\n")))
    }),
    case(Framing, "names another transfer coding before chunked", PROTOCOL, || {
        Acts::sending(ok("Transfer-Encoding: gzip, chunked\r\n", &(one_chunk() + "0\r\n\r\n")))
    }),
    case(Framing, "names a transfer coding that is not chunked", PROTOCOL, || {
        Acts::ending(ok("Transfer-Encoding: identity\r\n", RECORDED), Step::Close)
    }),
    case(Framing, "sends an empty Transfer-Encoding", PROTOCOL, || {
        Acts::ending(ok("Transfer-Encoding:\r\n", RECORDED), Step::Close)
    }),
    case(Framing, "sends chunks with extensions and trailers", OK, || {
        let chunk = one_chunk().replacen("\r\n", ";name=\"value\"\r\n", 1);
        Acts::sending(chunked(&format!("{chunk}0\r\nX-Sum: 7\r\nContent-Length: 5\r\n\r\n")))
    }),
    case(Framing, "sends chunk sizes with leading zeros", OK, || {
        Acts::sending(chunked(&format!("{}{}000\r\n\r\n", "0".repeat(20), one_chunk())))
    }),
    case(Framing, "sends a chunk without a size", PROTOCOL, || Acts::sending(chunked("\r\nab\r\n0\r\n\r\n"))),
    case(Framing, "sends a chunk size with a sign", PROTOCOL, || Acts::sending(chunked("+2\r\nab\r\n0\r\n\r\n"))),
    case(Framing, "sends a chunk size that is no number", PROTOCOL, || {
        Acts::sending(chunked("xyz\r\nab\r\n0\r\n\r\n"))
    }),
    case(Framing, "sends a chunk size beyond 64 bits", PROTOCOL, || {
        Acts::sending(chunked("10000000000000020\r\nab\r\n0\r\n\r\n"))
    }),
    case(Framing, "sends a chunk longer than its size", PROTOCOL, || Acts::sending(chunked("2\r\nabc\r\n0\r\n\r\n"))),
    case(Framing, "ends the lines between chunks with LF alone", PROTOCOL, || {
        Acts::sending(chunked(&(one_chunk() + "0\r\n\r\n").replace("\r\n", "\n")))
    }),
    case(Framing, "puts a bare CR into a chunk extension", PROTOCOL, || {
        Acts::sending(chunked(&(one_chunk().replacen("\r\n", ";a\rb\r\n", 1) + "0\r\n\r\n")))
    }),
    case(Framing, "sends a chunk extension without an end", PROTOCOL, || {
        let begin = Step::Send(chunked("20;").into());
        Acts::answering(vec![begin, Step::Repeat(vec![b'x'; 1 << 10], 16), Step::Silence])
    }),
    case(Framing, "sends a trailer that is no field", PROTOCOL, || {
        Acts::sending(chunked(&(one_chunk() + "0\r\nnonsense\r\n\r\n")))
    }),
    case(Framing, "sends trailers without end", PROTOCOL, || {
        let begin = Step::Send(chunked(&(one_chunk() + "0\r\n")).into());
        Acts::answering(vec![begin, Step::Repeat(b"X-Note: a\r\n".to_vec(), 100), Step::Silence])
    }),
    // Body ------------------------------------------------------------------------------------------------------------
    case(Body, "announces 16 MiB", PROTOCOL, || Acts::ending(ok("Content-Length: 16777216\r\n", ""), Step::Silence)),
    case(Body, "sends chunks without end", PROTOCOL, || {
        let chunk = [b"4000\r\n".to_vec(), vec![b' '; 0x4000], b"\r\n".to_vec()].concat();
        Acts::answering(vec![Step::Send(chunked("").into()), Step::Repeat(chunk, 256), Step::Silence])
    }),
    case(Body, "sends a body without length or end", PROTOCOL, || {
        Acts::answering(vec![Step::Send(ok("", "").into()), Step::Repeat(vec![b' '; 1 << 14], 256), Step::Silence])
    }),
    case(Body, "codes its answer though no coding is accepted", WRONG, || {
        Acts::sending(right("Content-Encoding: gzip\r\n"))
    }),
    case(Body, "says that its answer has the identity coding", OK, || {
        Acts::sending(right("Content-Encoding: identity\r\n"))
    }),
    case(Body, "answers HTML with status 200", WRONG, || {
        Acts::answering(answer(200, "text/html", "<html>sorry</html>"))
    }),
    case(Body, "answers JSON that is not the right one", WRONG, || {
        Acts::answering(json(200, "{\"status\":\"queued\"}"))
    }),
    case(Body, "answers nothing with status 200", WRONG, || Acts::answering(json(200, ""))),
    case(Body, "answers 201 in place of 200", "failed (201)", || Acts::answering(json(201, RECORDED))),
    case(Body, "answers 202 in place of 200", "failed (202)", || Acts::answering(json(202, RECORDED))),
    case(Body, "answers 204", "failed (204)", || Acts::sending("HTTP/1.1 204 No Content\r\n\r\n")),
    case(Body, "answers 302 to a page that says yes", "failed (302)", || {
        Acts::sending("HTTP/1.1 302 Found\r\nLocation: /yes\r\nContent-Length: 0\r\n\r\n")
    }),
    case(Body, "answers 304, which was not asked for", "failed (304)", || {
        Acts::sending("HTTP/1.1 304 Not Modified\r\nContent-Length: 32\r\n\r\n")
    }),
    case(Body, "answers 429", "refused (429)", || {
        Acts::answering(answer(429, "text/plain", "{\"error\":\"Rate limit exceeded\"}\n"))
    }),
    case(Body, "answers 503 with the body of a right answer", "failed (503)", || Acts::answering(json(503, RECORDED))),
    // End -------------------------------------------------------------------------------------------------------------
    case(End, "reads the request and closes", CLOSED, || Acts::answering(vec![Step::Close])),
    case(End, "reads the request and closes without a word", CLOSED, || Acts::answering(vec![Step::Cut])),
    case(End, "reads the request and resets", CLOSED, || Acts::answering(vec![Step::Reset])),
    case(End, "reads the request and says nothing", TIMED_OUT, || Acts::answering(vec![Step::Silence])),
    case(End, "closes within the head", TRUNCATED, || Acts::ending(QUARTER, Step::Close)),
    case(End, "closes within the head without a word", TRUNCATED, || Acts::ending(QUARTER, Step::Cut)),
    case(End, "closes after an interim response", TRUNCATED, || {
        Acts::ending("HTTP/1.1 100 Continue\r\n\r\n", Step::Close)
    }),
    case(End, "closes within the body", TRUNCATED, || Acts::ending(half(), Step::Close)),
    case(End, "closes within the body without a word", TRUNCATED, || Acts::ending(half(), Step::Cut)),
    case(End, "stops within the body and says nothing", TIMED_OUT, || Acts::ending(half(), Step::Silence)),
    case(End, "closes within a chunk", TRUNCATED, || Acts::ending(chunked("20\r\n{\"status\""), Step::Close)),
    case(End, "closes before the last chunk", TRUNCATED, || Acts::ending(chunked(&one_chunk()), Step::Close)),
    case(End, "closes before the end of the trailers", TRUNCATED, || {
        Acts::ending(chunked(&(one_chunk() + "0\r\n")), Step::Close)
    }),
    case(End, "ends the body by close_notify", OK, || Acts::ending(ok("", RECORDED), Step::Close)),
    case(End, "ends the body by a close without close_notify", TRUNCATED, || Acts::ending(ok("", RECORDED), Step::Cut)),
    case(End, "ends the body in HTTP/1.0 by close_notify", OK, || {
        Acts::ending(response("HTTP/1.0 200 OK", "", RECORDED), Step::Close)
    }),
    case(End, "has a body without length and never closes", TIMED_OUT, || {
        Acts::ending(ok("", RECORDED), Step::Silence)
    }),
    case(End, "closes after a complete answer without a word", OK, || Acts::ending(right(""), Step::Cut)),
    case(End, "resets after a complete answer", OK, || Acts::ending(right("Connection: close\r\n"), Step::Reset)),
    // Order -----------------------------------------------------------------------------------------------------------
    case(Order, "answers before the request", PROTOCOL, || Acts::opening(vec![Step::Send(right("").into())])),
    case(Order, "answers before the request, and closes", PROTOCOL, || {
        Acts::opening(vec![Step::Send(right("Connection: close\r\n").into()), Step::Close])
    }),
    case(Order, "sends 408 while the connection is idle, and closes", CLOSED, || {
        let timeout = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        Acts::opening(vec![Step::Send(timeout.into()), Step::Close])
    }),
    then(case(Order, "answers twice at once", OK, || Acts::sending(right("").repeat(2))), PROTOCOL),
    then(
        case(Order, "answers twice, the second time while the connection is idle", OK, || {
            Acts::answering(vec![Step::Send(right("").into()), Step::Send(right("").into())])
        }),
        PROTOCOL,
    ),
    then(case(Order, "sends a line end after its answer", OK, || Acts::sending(right("") + "\r\n")), PROTOCOL),
    then(
        case(Order, "sends a line end after its last answer", OK, || {
            Acts::ending(right("Connection: close\r\n") + "\r\n", Step::Close)
        }),
        OK,
    ),
    then(
        case(Order, "sends 204 with a body", "failed (204)", || {
            Acts::sending(format!("HTTP/1.1 204 No Content\r\nContent-Length: 32\r\n\r\n{RECORDED}"))
        }),
        PROTOCOL,
    ),
    then(
        case(Order, "sends 304 with a body", "failed (304)", || {
            Acts::sending(format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 32\r\n\r\n{RECORDED}"))
        }),
        PROTOCOL,
    ),
    then(
        case(Order, "answers chunked, again and again", OK, || Acts::sending(chunked(&(one_chunk() + "0\r\n\r\n")))),
        OK,
    ),
    case(Order, "refuses by 413 amid a large request, and closes", "failed (413)", || {
        Acts::interrupting(vec![Step::Send(too_large().into()), Step::Close])
    }),
    case(Order, "refuses by 413 amid a large request, and closes without a word", "failed (413)", || {
        Acts::interrupting(vec![Step::Send(too_large().into()), Step::Cut])
    }),
    case(Order, "refuses by 413 amid a large request, and resets", "failed (413)", || {
        Acts::interrupting(vec![Step::Send(too_large().into()), Step::Reset])
    }),
    case(Order, "refuses by 413 amid a large request, and reads no more of it", "failed (413)", || {
        Acts::interrupting(vec![Step::Send(too_large().into()), Step::Hold])
    }),
    case(Order, "refuses by 503 amid a large request, in chunks, and closes", "failed (503)", || {
        let refusal = response("HTTP/1.1 503 x", "Transfer-Encoding: chunked\r\n", "");
        Acts::interrupting(vec![Step::Send(refusal.into()), Step::Send(b"2\r\n{}\r\n0\r\n\r\n".to_vec()), Step::Close])
    }),
    case(Order, "resets amid a large request", CLOSED, || Acts::interrupting(vec![Step::Reset])),
    case(Order, "begins a refusal amid a large request, and closes", TRUNCATED, || {
        Acts::interrupting(vec![Step::Send(QUARTER.into()), Step::Close])
    }),
    case(Order, "reads no more amid a large request, and says nothing", TIMED_OUT, || {
        Acts::interrupting(vec![Step::Hold])
    }),
    case(Order, "answers rightly amid a large request, and reads the rest", OK, || {
        Acts::interrupting(vec![Step::Send(right("").into()), Step::Silence])
    }),
];

/// Returns the answer to a request that is too large.
fn too_large() -> String {
    response("HTTP/1.1 413 Content Too Large", "Content-Length: 2\r\nConnection: close\r\n", "{}")
}
