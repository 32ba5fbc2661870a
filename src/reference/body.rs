//! Bodies: requests read whole within bounds, responses of known or (like Go's longer ones) unknown length.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::Deserialize;

/// certctl's limit on request bodies.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// certctl's limit on the time that reading a request may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Go announces the length of a body only when all of it fits its write buffer.
const MAX_ANNOUNCED_BYTES: usize = 2_048;

/// Reads a request's body; `None` when it is too long, too slow or broken off, which certctl treats as no body at all.
pub async fn read(incoming: Incoming) -> Option<Bytes> {
    if incoming.is_end_stream() {
        return Some(Bytes::new());
    }
    let collected = tokio::time::timeout(READ_TIMEOUT, Limited::new(incoming, MAX_REQUEST_BYTES).collect()).await;
    Some(collected.ok()?.ok()?.to_bytes())
}

/// Reads a JSON object as Go does: null is an empty one, and what follows it does not matter.
pub fn object<'b, T: Deserialize<'b> + Default>(body: &'b [u8]) -> Option<T> {
    // Otherwise a struct could be read from an array too.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if !matches!(first, b'{' | b'n') {
        return None;
    }
    let mut decoder = serde_json::Deserializer::from_slice(body);
    Option::<T>::deserialize(&mut decoder).ok().map(Option::unwrap_or_default)
}

/// A response's body.
pub struct Payload(Option<Bytes>);

impl Payload {
    /// Returns a body with these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// Returns the bytes left to send.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.bytes().len() {
            length if length > MAX_ANNOUNCED_BYTES => SizeHint::default(),
            // Lossless: at most MAX_ANNOUNCED_BYTES.
            length => SizeHint::with_exact(length as u64),
        }
    }
}
