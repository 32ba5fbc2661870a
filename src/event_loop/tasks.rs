//! The tasks of an event loop.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::{Core, LoopWaker};

/// A task: a future that the loop polls when it is woken.
pub(super) struct TaskSlot {
    number: u64,
    waker: Arc<LoopWaker>,
    /// `None` while it is being polled.
    idle: Option<(TaskFuture, Waker)>,
}

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that belong together. They end when this is dropped.
#[derive(Default)]
pub struct Tasks {
    /// The loop, and the place and number of each task.
    started: Vec<(Rc<Core>, usize, u64)>,
    count: Rc<Count>,
}

/// The number of tasks that have not ended.
#[derive(Default)]
struct Count {
    running: Cell<usize>,
    /// Waits for the last to end.
    waiting: RefCell<Option<Waker>>,
}

impl Tasks {
    /// Starts a task on the loop that runs on this thread.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(&mut self, future: impl Future<Output = ()> + 'static) {
        let (core, count) = (Core::current(), self.count.clone());
        count.running.set(count.running.get() + 1);
        let (place, number) = core.start(async move {
            future.await;
            count.running.set(count.running.get() - 1);
            if count.running.get() == 0
                && let Some(waiting) = count.waiting.take()
            {
                waiting.wake();
            }
        });
        self.started.push((core, place, number));
    }

    /// Waits until all of them have ended.
    pub async fn all_ended(&mut self) {
        poll_fn(|context| {
            if self.count.running.get() == 0 {
                return Poll::Ready(());
            }
            self.count.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for (core, place, number) in self.started.drain(..) {
            let mut tasks = core.tasks.borrow_mut();
            let is_there = tasks.get_mut(place).is_some_and(|slot| slot.number == number);
            let ended = is_there.then(|| tasks.remove(place));
            // What it owns may need the loop when it is dropped.
            drop(tasks);
            drop(ended);
        }
    }
}

/// Starts a task whose end is not awaited, on the loop that runs on this thread.
///
/// # Panics
/// If there is none.
pub fn detach(future: impl Future<Output = ()> + 'static) {
    Core::current().start(future);
}

/// Lets the loop look at sockets and timers, and lets the other tasks have their turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Core {
    fn start(&self, future: impl Future<Output = ()> + 'static) -> (usize, u64) {
        let number = self.spawned.get();
        self.spawned.set(number + 1);
        let place = self.tasks.borrow_mut().add(|place| {
            let waker = self.waker(place);
            waker.queued.store(true, Ordering::Relaxed);
            TaskSlot { number, idle: Some((Box::pin(future), Waker::from(waker.clone()))), waker }
        });
        self.queue(place);
        (place, number)
    }

    /// Polls the task that has waited longest for its turn.
    pub(super) fn take_turn(&self) {
        let Some(place) = self.ready.borrow_mut().pop_front() else { return };
        let (mut future, waker, number) = {
            let mut tasks = self.tasks.borrow_mut();
            // A task that has ended may still be woken.
            let Some(slot) = tasks.get_mut(place) else { return };
            slot.waker.queued.store(false, Ordering::Release);
            let Some((future, waker)) = slot.idle.take() else { return };
            (future, waker, slot.number)
        };
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        // It may have been ended meanwhile, and its place given to another.
        let slot = tasks.get_mut(place).filter(|slot| slot.number == number);
        match (slot, polled) {
            (Some(slot), Poll::Pending) => slot.idle = Some((future, waker)),
            (Some(_), Poll::Ready(())) => drop(tasks.remove(place)),
            (None, _) => {}
        }
    }
}
