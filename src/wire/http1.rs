//! HTTP/1.1 responses, sans I/O: bytes in, one response out (RFC 9112).

mod framing;

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

use self::framing::{Body, Framing, after_line, unfold};
use super::request::Method;

/// The longest response head that is read, in bytes. certctl's are about 600.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The longest response body that is kept unless [`Parser::bound_body`] sets another bound, in bytes. certctl's longest
/// page of certificates is about 350 KiB.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The longest line of chunked framing (size with extensions, or a trailer), in bytes.
const MAX_CHUNK_LINE_BYTES: usize = 4 * 1024;
/// The largest number of trailer lines after the last chunk.
const MAX_TRAILERS: usize = 64;
/// The largest number of interim (1xx) responses before a final one.
const MAX_INTERIM_RESPONSES: usize = 8;
const MAX_HEADERS: usize = 64;
/// The beginning of every response.
const HTTP_1: &[u8] = b"HTTP/1.";

/// The reason for which bytes are not an acceptable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The peer closed before the first byte of a response.
    NoResponse,
    /// The peer closed in the middle of the head.
    EofInHead,
    /// The peer closed before the end of the body that it had announced.
    EofInBody,
    /// The head is longer than [`MAX_HEAD_BYTES`] or has too many fields.
    HeadTooLarge,
    /// The body is longer than the bound, or is announced to be.
    BodyTooLarge {
        /// The bound, in bytes.
        max: usize,
    },
    /// The bytes break the grammar; the text states the place.
    Malformed(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResponse => f.write_str("the peer closed the connection without a response"),
            Self::EofInHead => f.write_str("the peer closed the connection in the middle of a response head"),
            Self::EofInBody => f.write_str("the peer closed the connection in the middle of a response body"),
            Self::HeadTooLarge => write!(f, "the response head is longer than {MAX_HEAD_BYTES} bytes"),
            Self::BodyTooLarge { max } => write!(f, "the response body is longer than {max} bytes"),
            Self::Malformed(what) => write!(f, "malformed HTTP/1.1 response: {what}"),
        }
    }
}

impl std::error::Error for ParseError {}

/// A parser of one response after another from the bytes of a connection; its buffers are reused.
#[derive(Debug)]
pub struct Parser {
    max_body: usize,
    method_is_head: bool,
    state: ParserState,
    status: u16,
    keep_alive: bool,
    interim: usize,
    head: Vec<u8>,
    fields: Vec<Field>,
    body: Vec<u8>,
    line: Vec<u8>,
}

/// The places of a header field in the head, which has at most [`MAX_HEAD_BYTES`].
#[derive(Clone, Debug)]
struct Field {
    name: Range<u16>,
    value: Range<u16>,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            max_body: MAX_BODY_BYTES,
            method_is_head: false,
            state: ParserState::Head,
            status: 0,
            keep_alive: false,
            interim: 0,
            head: Vec::new(),
            fields: Vec::new(),
            body: Vec::new(),
            line: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParserState {
    Head,
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer(usize),
    Done,
}

/// A complete response, borrowed from its [`Parser`].
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The body, without its transfer coding.
    pub body: &'a [u8],
    /// True if the connection may carry another request.
    pub keep_alive: bool,
    head: &'a [u8],
    fields: &'a [Field],
}

impl<'a> Response<'a> {
    /// Returns the number of its bytes, head and body, without a transfer coding.
    pub fn size(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }

    /// Returns the value of the first field of this name, case-insensitively, without surrounding white space.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers(name).next()
    }

    /// Returns the values of all fields of this name, each as [`Response::header`] returns the first.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let at = |place: &Range<u16>| &self.head[usize::from(place.start)..usize::from(place.end)];
        let named = self.fields.iter().filter(move |field| at(&field.name).eq_ignore_ascii_case(name.as_bytes()));
        named.map(move |field| at(&field.value).trim_ascii())
    }

    /// Returns the content coding, unless there is none. Every request states that it accepts none (RFC 9110, section
    /// 12.5.3): a coded answer is not decoded.
    pub fn coding(&self) -> Option<&'a [u8]> {
        let coding = self.header("content-encoding")?;
        (!coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")).then_some(coding)
    }

    /// Returns true if the body is JSON (`application/json` or a `+json` type), parameters aside, and without a content
    /// coding.
    pub fn is_json(&self) -> bool {
        let Some(value) = self.header("content-type").filter(|_| self.coding().is_none()) else { return false };
        let essence = value.split(|byte| *byte == b';').next().unwrap_or(value).trim_ascii();
        let suffix = &essence[essence.len().saturating_sub(b"+json".len())..];
        essence.eq_ignore_ascii_case(b"application/json") || suffix.eq_ignore_ascii_case(b"+json")
    }
}

impl Parser {
    /// Refuses bodies of more than `max` bytes from now on.
    pub fn bound_body(&mut self, max: usize) {
        self.max_body = max;
    }

    /// Returns the memory that it holds for bodies, in bytes.
    pub fn body_capacity(&self) -> usize {
        self.body.capacity()
    }

    /// Frees the memory that it holds for bodies; a complete response is lost.
    pub fn shrink(&mut self) {
        self.state = ParserState::Head;
        self.body = Vec::new();
    }

    /// Prepares for the response to a request of `method`.
    pub fn start(&mut self, method: Method) {
        self.method_is_head = method == Method::Head;
        self.state = ParserState::Head;
        self.interim = 0;
        self.head.clear();
        self.body.clear();
        self.line.clear();
    }

    /// Takes bytes from the peer and returns the number of them that belong to this response. Fewer than given means
    /// that the response is complete and the peer sent more than was requested.
    ///
    /// # Errors
    /// If the bytes are no response; the connection is then of no further use.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, ParseError> {
        let mut rest = input;
        while !rest.is_empty() && self.state != ParserState::Done {
            rest = match self.state {
                ParserState::Head => self.feed_head(rest)?,
                ParserState::Length(left) => {
                    let (rest, left) = self.take_body(rest, left)?;
                    self.state = if left == 0 { ParserState::Done } else { ParserState::Length(left) };
                    rest
                }
                ParserState::UntilClose => self.take_body(rest, u64::MAX)?.0,
                ParserState::ChunkData(left) => {
                    let (rest, left) = self.take_body(rest, left)?;
                    self.state = if left == 0 { ParserState::ChunkEnd } else { ParserState::ChunkData(left) };
                    rest
                }
                ParserState::ChunkSize | ParserState::ChunkEnd | ParserState::Trailer(_) => self.feed_line(rest)?,
                ParserState::Done => rest,
            };
        }
        Ok(input.len() - rest.len())
    }

    /// Records that the peer has closed. A body delimited by the close is then complete.
    ///
    /// # Errors
    /// If the response is not complete.
    pub fn feed_eof(&mut self) -> Result<(), ParseError> {
        match self.state {
            ParserState::UntilClose | ParserState::Done => {
                self.state = ParserState::Done;
                Ok(())
            }
            ParserState::Head if self.head.is_empty() && self.interim == 0 => Err(ParseError::NoResponse),
            ParserState::Head => Err(ParseError::EofInHead),
            _ => Err(ParseError::EofInBody),
        }
    }

    /// Returns true if any byte of a response has arrived.
    pub fn has_begun(&self) -> bool {
        self.state != ParserState::Head || !self.head.is_empty() || self.interim > 0
    }

    /// Returns the status of the final response, once its head is complete.
    pub fn status(&self) -> Option<u16> {
        (self.state != ParserState::Head).then_some(self.status)
    }

    /// Returns the response, once it is complete.
    pub fn response(&self) -> Option<Response<'_>> {
        (self.state == ParserState::Done).then_some(Response {
            status: self.status,
            body: &self.body,
            keep_alive: self.keep_alive,
            head: &self.head,
            fields: &self.fields,
        })
    }

    fn feed_head<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], ParseError> {
        let before = self.head.len();
        let room = MAX_HEAD_BYTES - before;
        let taken = &input[..input.len().min(room)];
        self.head.extend_from_slice(taken);
        // Another protocol is refused at once, without a wait for the end of a line.
        if !self.head.starts_with(&HTTP_1[..HTTP_1.len().min(self.head.len())]) {
            return Err(ParseError::Malformed("not HTTP/1.0 or HTTP/1.1"));
        }
        // A head ends with a line end: new bytes without one cannot complete it.
        let head_len = if taken.contains(&b'\n') { self.parse_head()? } else { None };
        match head_len {
            Some(head_len) => {
                self.head.truncate(head_len);
                let rest = &input[head_len - before..];
                if self.state == ParserState::Head {
                    self.head.clear();
                }
                Ok(rest)
            }
            None if self.head.len() == MAX_HEAD_BYTES => Err(ParseError::HeadTooLarge),
            None => Ok(&input[taken.len()..]),
        }
    }

    /// Parses the head collected so far and sets the state after it; returns its length, or `None` if it is not
    /// complete. A field that continues in the next line is one field (obs-fold: RFC 9112, section 5.2).
    fn parse_head(&mut self) -> Result<Option<usize>, ParseError> {
        match self.parse_plain_head() {
            Err(ParseError::Malformed(_)) if unfold(&mut self.head) => self.parse_plain_head(),
            parsed => parsed,
        }
    }

    fn parse_plain_head(&mut self) -> Result<Option<usize>, ParseError> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &self.head,
            &mut headers,
        );
        let head_len = match parsed {
            Ok(httparse::Status::Complete(head_len)) => head_len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(ParseError::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(ParseError::Malformed("not HTTP/1.0 or HTTP/1.1")),
            Err(_) => return Err(ParseError::Malformed("status line or header fields")),
        };
        // A complete parse has set both.
        let (status, version) = (response.code.unwrap_or(0), response.version.unwrap_or(0));
        let framing = Framing::of(version, response.headers)?;
        self.fields.clear();
        self.fields.extend(response.headers.iter().map(|header| Field {
            name: place(&self.head, header.name.as_bytes()),
            value: place(&self.head, header.value),
        }));
        match status {
            101 => return Err(ParseError::Malformed("101 without a request to switch protocols")),
            100..=199 => {
                self.interim += 1;
                if self.interim > MAX_INTERIM_RESPONSES {
                    return Err(ParseError::Malformed("too many interim responses"));
                }
            }
            200..=599 => {
                self.state = self.state_after_head(status, &framing)?;
                self.status = status;
                let persistent = if version == 0 { framing.has_keep_alive } else { true };
                self.keep_alive = persistent && !framing.has_close && self.state != ParserState::UntilClose;
            }
            _ => return Err(ParseError::Malformed("a status code outside 100 to 599")),
        }
        Ok(Some(head_len))
    }

    /// Returns the state after a head (RFC 9112, section 6.3).
    fn state_after_head(&self, status: u16, framing: &Framing) -> Result<ParserState, ParseError> {
        Ok(match framing.body {
            _ if self.method_is_head || status == 204 || status == 304 => ParserState::Done,
            Body::Chunked => ParserState::ChunkSize,
            Body::Length(0) => ParserState::Done,
            Body::Length(length) if length > self.max_body as u64 => {
                return Err(ParseError::BodyTooLarge { max: self.max_body });
            }
            Body::Length(length) => ParserState::Length(length),
            Body::UntilClose => ParserState::UntilClose,
        })
    }

    /// Takes up to `left` body bytes from `input`; returns the rest of both.
    fn take_body<'i>(&mut self, input: &'i [u8], left: u64) -> Result<(&'i [u8], u64), ParseError> {
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        if take > self.max_body.saturating_sub(self.body.len()) {
            return Err(ParseError::BodyTooLarge { max: self.max_body });
        }
        self.body.extend_from_slice(&input[..take]);
        Ok((&input[take..], left - take as u64))
    }

    /// Takes bytes up to a line end of the chunked framing (RFC 9112, section 7.1).
    fn feed_line<'i>(&mut self, input: &'i [u8]) -> Result<&'i [u8], ParseError> {
        let newline = input.iter().position(|byte| *byte == b'\n');
        let taken = newline.map_or(input.len(), |at| at + 1);
        if self.line.len() + taken > MAX_CHUNK_LINE_BYTES {
            return Err(ParseError::Malformed("a line of the chunked framing is too long"));
        }
        self.line.extend_from_slice(&input[..taken]);
        if newline.is_some() {
            let Some(line) = self.line.strip_suffix(b"\r\n") else {
                return Err(ParseError::Malformed("a line of the chunked framing does not end in CR LF"));
            };
            self.state = after_line(self.state, line)?;
            self.line.clear();
        }
        Ok(&input[taken..])
    }
}

/// Returns the place of a part of the head.
fn place(head: &[u8], part: &[u8]) -> Range<u16> {
    let start = part.as_ptr().addr() - head.as_ptr().addr();
    // A head is shorter than that.
    start as u16..(start + part.len()) as u16
}

#[cfg(test)]
#[path = "http1_tests.rs"]
mod tests;
