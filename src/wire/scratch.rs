//! The buffers of one exchange, and the memory that the buffers of all exchanges share.

use std::cell::Cell;
use std::rc::Rc;

use super::fault::{Fault, FaultKind};
use super::http1::{Parser, Response};

/// The most memory that the bodies of all responses in flight may hold together, in bytes.
pub const MAX_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// The most of it that may stay with buffers that no request is using, in bytes.
const KEPT_BODIES_BYTES: usize = 8 * 1024 * 1024;
/// The longest request whose buffer is kept, in bytes.
const KEPT_REQUEST_BYTES: usize = 64 * 1024;

/// The memory that bodies hold together.
#[derive(Debug, Default)]
pub struct Room {
    held: Cell<usize>,
}

/// The buffers of one exchange: borrowed while a request is in flight, so that idle connections own none.
#[derive(Debug)]
pub struct Scratch {
    /// The encoded request.
    pub request: Vec<u8>,
    pub(super) parser: Parser,
    room: Rc<Room>,
    /// The part of the room that this one holds, in bytes.
    held: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::within(&Rc::default())
    }
}

impl Scratch {
    /// Makes new buffers, whose body shares `room` with those of others.
    pub fn within(room: &Rc<Room>) -> Self {
        Self { request: Vec::with_capacity(1024), parser: Parser::default(), room: room.clone(), held: 0 }
    }

    /// Refuses bodies of more than `max` bytes from now on.
    pub fn bound_body(&mut self, max: usize) {
        self.parser.bound_body(max);
    }

    /// Returns the response of the last exchange, if it was complete.
    pub fn response(&self) -> Option<Response<'_>> {
        self.parser.response()
    }

    /// Frees the memory that a usual exchange does not need. The memory kept for bodies is bounded for all together.
    pub fn shrink(&mut self) {
        if self.request.capacity() > KEPT_REQUEST_BYTES {
            self.request = Vec::new();
        }
        if self.room.held.get() > KEPT_BODIES_BYTES {
            self.parser.shrink();
            self.hold(0);
        }
    }

    /// Takes bytes from the peer and returns the number of them that belong to the response.
    ///
    /// # Errors
    /// If the bytes are no response, or all bodies together hold too much.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let used = self.parser.feed(bytes).map_err(Fault::from_parse)?;
        self.account()?;
        Ok(used)
    }

    /// Counts the memory that the body holds.
    ///
    /// # Errors
    /// If all bodies together hold too much.
    fn account(&mut self) -> Result<(), Fault> {
        let capacity = self.parser.body_capacity();
        if capacity == self.held {
            return Ok(());
        }
        self.hold(capacity);
        if self.room.held.get() <= MAX_BODIES_BYTES {
            return Ok(());
        }
        let detail = format!("the answers under way hold more than {MAX_BODIES_BYTES} bytes");
        Err(Fault::new(FaultKind::Exhausted, detail))
    }

    fn hold(&mut self, bytes: usize) {
        self.room.held.set(self.room.held.get() - self.held + bytes);
        self.held = bytes;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::Method;

    /// Feeds a body of `length` bytes, and counts its memory.
    fn fill(scratch: &mut Scratch, length: usize) -> Result<(), Fault> {
        scratch.bound_body(MAX_BODIES_BYTES);
        scratch.parser.start(Method::Get);
        scratch.parser.feed(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
        scratch.parser.feed(&vec![b'x'; length]).unwrap();
        scratch.account()
    }

    #[test]
    fn bodies_share_one_byte_budget_and_release_it() {
        let room = Rc::default();
        let mut one = Scratch::within(&room);
        let mut other = Scratch::within(&room);
        fill(&mut one, MAX_BODIES_BYTES / 2 + 1).unwrap();
        assert_eq!(fill(&mut other, MAX_BODIES_BYTES / 2).unwrap_err().kind, FaultKind::Exhausted);
        other.shrink();
        assert_eq!(room.held.get(), one.held);
        assert!(other.response().is_none());
        fill(&mut other, 1_000).unwrap();
        drop(one);
        // The buffer of a small body stays, for the next exchange.
        other.shrink();
        assert!(room.held.get() >= 1_000 && room.held.get() < 100_000);
        drop(other);
        assert_eq!(room.held.get(), 0);
    }
}
