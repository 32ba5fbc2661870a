//! The generator's own part of a request's time: the time in which it worked on the request, and the time for which an
//! answer had come and was not read.
//!
//! The second begins where the answer may have come at the earliest: when the event loop last looked at its sockets. So
//! the own part is an upper bound of what the generator added to a time, except for the time that the kernel takes to
//! wake it or keeps it from running: that shows in the timer lag.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use crate::clock::Moment;
use crate::event_loop::shown_since;

/// The generator's own part of a request's time.
#[derive(Clone, Copy, Debug)]
pub struct OwnPart {
    /// Up to the last turn.
    ns: u64,
    /// The beginning of the last turn, or of the wait for it.
    since: Moment,
}

impl OwnPart {
    /// Returns it in nanoseconds, for a time that ended at `end`, within the last turn.
    pub fn until(self, end: Moment) -> u64 {
        self.ns + end.ns_since(self.since)
    }
}

thread_local! {
    /// The part of the request whose turn it is.
    static CURRENT: Cell<Option<OwnPart>> = const { Cell::new(None) };
}

/// Returns the own part up to `now`, in nanoseconds, of the request whose turn it is; 0 outside a turn. The growth
/// between two moments of a request is the part of what lies between them.
pub fn so_far(now: Moment) -> u64 {
    CURRENT.get().map_or(0, |part| part.until(now))
}

/// Drives `future`, which began at `start` and is a part of the task that runs, to its end.
pub async fn of<F: Future>(start: Moment, mut future: Pin<&mut F>) -> (F::Output, OwnPart) {
    let mut part = OwnPart { ns: 0, since: start };
    let mut idle_since = None;
    poll_fn(|context| {
        if let Some(idle_since) = idle_since {
            part.since = shown_since().max(idle_since);
        }
        let outer = CURRENT.replace(Some(part));
        let polled = future.as_mut().poll(context);
        CURRENT.set(outer);
        match polled {
            Poll::Ready(output) => Poll::Ready((output, part)),
            Poll::Pending => {
                let now = Moment::now();
                part.ns += now.ns_since(part.since);
                idle_since = Some(now);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;
    use crate::event_loop::{EventLoop, Tasks, sleep};

    const SPAN: Duration = Duration::from_millis(2);

    /// Keeps the thread busy for [`SPAN`].
    fn spin() {
        let end = Moment::now() + SPAN;
        while Moment::now() < end {}
    }

    /// Returns the own part and the duration of a request, in nanoseconds.
    async fn measure(request: impl Future) -> (u64, u64) {
        let start = Moment::now();
        let (_, part) = of(start, pin!(request)).await;
        let end = Moment::now();
        (part.until(end), end.ns_since(start))
    }

    #[test]
    fn work_on_a_request_is_own_part() {
        let (own_ns, total_ns) = EventLoop::new().unwrap().block_on(measure(async { spin() }));
        assert!(own_ns >= SPAN.as_nanos() as u64 && own_ns <= total_ns, "{own_ns} of {total_ns}");
    }

    #[test]
    fn the_growth_of_the_part_is_that_of_what_lies_between() {
        EventLoop::new().unwrap().block_on(async {
            let start = Moment::now();
            let steps = async {
                spin();
                let first = Moment::now();
                let before = so_far(first);
                // Another request has its turn meanwhile.
                let another = pin!(async { spin() });
                of(Moment::now(), another).await;
                sleep(Duration::from_micros(1)).await;
                spin();
                let second = Moment::now();
                (before, so_far(second) - before, second.ns_since(first))
            };
            let ((one, other, span), part) = of(start, pin!(steps)).await;
            let least = SPAN.as_nanos() as u64;
            assert!(one >= least && other >= least && other <= span, "{one} {other} of {span}");
            assert!(part.until(Moment::now()) >= one + other);
        });
        assert_eq!(so_far(Moment::now()), 0, "outside a turn");
    }

    #[test]
    fn time_asleep_is_not_own_part() {
        EventLoop::new().unwrap().block_on(async {
            // On a busy machine the time may be over before the loop can sleep.
            loop {
                let (own_ns, total_ns) = measure(sleep(SPAN)).await;
                assert!(own_ns <= total_ns, "{own_ns} of {total_ns}");
                if own_ns + SPAN.as_nanos() as u64 / 2 <= total_ns {
                    break;
                }
            }
        });
    }

    #[test]
    fn an_answer_that_waits_for_other_tasks_is_own_part() {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (result, measured) = std::sync::mpsc::channel();
        EventLoop::new().unwrap().block_on(async {
            let mut tasks = Tasks::default();
            tasks.start(async move { result.send(measure(answered).await).unwrap() });
            tasks.start(async {
                answer.send(()).unwrap();
                spin();
            });
            tasks.all_ended().await;
        });
        let (own_ns, total_ns) = measured.recv().unwrap();
        assert!(own_ns >= SPAN.as_nanos() as u64 && own_ns <= total_ns, "{own_ns} of {total_ns}");
    }
}
