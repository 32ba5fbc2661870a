//! Message framing: the fields of a response that delimit its body (RFC 9112, section 6), and the lines between chunks
//! (section 7.1). Where the RFC leaves a choice between repairing and refusing, a message is refused: a guessed length
//! would put the next answer in the wrong place.

use super::{MAX_TRAILERS, ParseError, ParserState};

/// The framing of a message, as its header fields state it.
pub(super) struct Framing {
    pub(super) body: Body,
    pub(super) has_close: bool,
    pub(super) has_keep_alive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Chunked,
    Length(u64),
    UntilClose,
}

impl Framing {
    /// Reads the framing from the fields of an HTTP/1.`minor` response.
    pub(super) fn of(minor: u8, headers: &[httparse::Header<'_>]) -> Result<Self, ParseError> {
        let mut length = None;
        let (mut is_coded, mut codings) = (false, 0);
        let mut last_coding_is_chunked = false;
        let mut framing = Self { body: Body::UntilClose, has_close: false, has_keep_alive: false };
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                // Equal lengths count as one; an empty one is malformed (section 6.3).
                for item in header.value.split(|byte| *byte == b',') {
                    let value = decimal(item.trim_ascii())?;
                    if length.is_some_and(|length| length != value) {
                        return Err(ParseError::Malformed("two different lengths"));
                    }
                    length = Some(value);
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                is_coded = true;
                for item in list_items(header.value) {
                    codings += 1;
                    last_coding_is_chunked = item.eq_ignore_ascii_case(b"chunked");
                }
            } else if header.name.eq_ignore_ascii_case("connection") {
                for item in list_items(header.value) {
                    framing.has_close |= item.eq_ignore_ascii_case(b"close");
                    framing.has_keep_alive |= item.eq_ignore_ascii_case(b"keep-alive");
                }
            }
        }
        framing.body = match (is_coded, length) {
            (false, Some(length)) => Body::Length(length),
            (false, None) => Body::UntilClose,
            (true, Some(_)) => return Err(ParseError::Malformed("both a length and a transfer coding")),
            // Section 6.1: such a message's framing is faulty.
            (true, None) if minor == 0 => return Err(ParseError::Malformed("a transfer coding in HTTP/1.0")),
            (true, None) if codings == 1 && last_coding_is_chunked => Body::Chunked,
            (true, None) => return Err(ParseError::Malformed("a transfer coding other than chunked")),
        };
        Ok(framing)
    }
}

fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros.min(digits.len().saturating_sub(1))..]
}

fn decimal(digits: &[u8]) -> Result<u64, ParseError> {
    let digits = without_leading_zeros(digits);
    // Unlike Rust's parser, the grammar allows no sign; 18 digits cannot overflow.
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ParseError::Malformed("a content length"));
    }
    Ok(digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// Returns the state after a complete line of the chunked framing.
pub(super) fn after_line(state: ParserState, line: &[u8]) -> Result<ParserState, ParseError> {
    if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(ParseError::Malformed("a control character in a line of the chunked framing"));
    }
    match state {
        ParserState::ChunkSize => match chunk_size(line)? {
            0 => Ok(ParserState::Trailer(0)),
            size => Ok(ParserState::ChunkData(size)),
        },
        ParserState::ChunkEnd if line.is_empty() => Ok(ParserState::ChunkSize),
        ParserState::Trailer(_) if line.is_empty() => Ok(ParserState::Done),
        ParserState::Trailer(MAX_TRAILERS) => Err(ParseError::Malformed("too many trailer fields")),
        ParserState::Trailer(count) if is_field(line) => Ok(ParserState::Trailer(count + 1)),
        ParserState::Trailer(_) => Err(ParseError::Malformed("a trailer field")),
        _ => Err(ParseError::Malformed("a chunk is longer than its size says")),
    }
}

/// Parses a chunk's size; extensions are skipped (section 7.1.1).
fn chunk_size(line: &[u8]) -> Result<u64, ParseError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or(line).trim_ascii_end();
    let digits = without_leading_zeros(digits);
    // 15 digits keep sums of sizes far from overflow.
    if digits.is_empty() || digits.len() > 15 {
        return Err(ParseError::Malformed("a chunk size"));
    }
    digits.iter().try_fold(0u64, |size, byte| match (*byte as char).to_digit(16) {
        Some(digit) => Ok(size * 16 + u64::from(digit)),
        None => Err(ParseError::Malformed("a chunk size")),
    })
}

/// Returns true if a line is a name, a colon, and anything (RFC 9110, section 5.1). The values of trailers are not
/// used.
fn is_field(line: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let colon = line.iter().position(|byte| *byte == b':');
    colon.is_some_and(|colon| colon > 0 && line[..colon].iter().all(is_token))
}

/// Replaces each line end within a field by spaces, and returns true if there was one. White space after the status
/// line continues no field (RFC 9112, section 2.2).
pub(super) fn unfold(head: &mut [u8]) -> bool {
    let Some(status_line) = head.iter().position(|byte| *byte == b'\n') else { return false };
    let mut folded = false;
    for at in status_line + 1..head.len().saturating_sub(1) {
        let (before, after) = head.split_at_mut(at);
        if after[0] != b'\n' {
            continue;
        }
        // An empty line ends the head.
        if before.ends_with(b"\n") || before.ends_with(b"\n\r") {
            break;
        }
        if matches!(after[1], b' ' | b'\t') {
            after[0] = b' ';
            if let Some(last) = before.last_mut().filter(|last| **last == b'\r') {
                *last = b' ';
            }
            folded = true;
        }
    }
    folded
}
