//! Bodies: requests read whole within bounds, responses of known or (like Go's longer ones) unknown length.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// certctl's limit on request bodies.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// certctl's limit on the time that reading a request may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Go announces the length of a body only when all of it fits its write buffer.
const MAX_ANNOUNCED_BYTES: usize = 2_048;

/// Reads a request's body; none when it is too long, too slow or broken off, which certctl treats as no body at all.
pub async fn read(incoming: Incoming) -> Option<Bytes> {
    if incoming.is_end_stream() {
        return Some(Bytes::new());
    }
    let collected = tokio::time::timeout(READ_TIMEOUT, Limited::new(incoming, MAX_REQUEST_BYTES).collect()).await;
    Some(collected.ok()?.ok()?.to_bytes())
}

/// A response's body.
pub struct Payload(Option<Bytes>);

impl Payload {
    /// A body with these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
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
        match self.0.as_ref().map_or(0, Bytes::len) {
            length if length > MAX_ANNOUNCED_BYTES => SizeHint::default(),
            // Lossless: at most MAX_ANNOUNCED_BYTES.
            length => SizeHint::with_exact(length as u64),
        }
    }
}
