//! Futures that wait for a moment.

use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Core;
use super::timers::TimerKey;
use crate::clock::Moment;

/// A wait for a moment.
struct Sleep {
    until: Moment,
    armed: Option<(Rc<Core>, TimerKey)>,
}

/// Waits until `moment`; returns at once if it has passed.
///
/// # Panics
/// If no event loop runs on this thread.
pub fn sleep_until(moment: Moment) -> impl Future<Output = ()> {
    Sleep { until: moment, armed: None }
}

/// Waits for `span`.
///
/// # Panics
/// If no event loop runs on this thread.
pub fn sleep(span: Duration) -> impl Future<Output = ()> {
    sleep_until(Moment::now() + span)
}

/// Waits for `future`, for at most `patience`.
///
/// # Errors
/// If it has not ended by then.
///
/// # Panics
/// If no event loop runs on this thread.
pub async fn timeout<F: Future>(patience: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut sleep) = (pin!(future), pin!(sleep(patience)));
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| Err(Elapsed)),
    })
    .await
}

/// The time for something has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not done in time")
    }
}

impl std::error::Error for Elapsed {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Moment::now() >= self.until {
            return Poll::Ready(());
        }
        match &self.armed {
            Some((core, key)) => core.timers.borrow_mut().rearm(*key, context.waker()),
            None => {
                let core = Core::current();
                let key = core.timers.borrow_mut().arm(self.until, context.waker().clone());
                core.next_timer.set(core.next_timer.get().min(self.until));
                self.armed = Some((core, key));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((core, key)) = self.armed.take() {
            core.timers.borrow_mut().cancel(key);
        }
    }
}
