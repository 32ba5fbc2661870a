//! The dispatcher: a free worker takes an arrival at once; otherwise the arrival waits, is late, and past a bound goes
//! unsent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::arrival::Arrival;
use super::shard::Share;
use crate::clock::Moment;

/// The rule for which workers may take an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The worker of connection `client % connections` only: each client has a connection of its own.
    Own,
    /// Any worker: connections are pooled.
    Any,
}

/// The dispatcher, which hands arrivals to workers within one thread.
pub struct Dispatcher {
    affinity: Affinity,
    share: Share,
    patience: Duration,
    seats: Vec<Seat>,
    /// Free workers, the longest free first; used with [`Affinity::Any`] only.
    free: RefCell<VecDeque<usize>>,
    /// Arrivals that any worker may take.
    queue: RefCell<VecDeque<Arrival>>,
    waiting: Cell<usize>,
    closed: Cell<bool>,
    counts: Cell<DeskCounts>,
    on_unsent: OnUnsent,
}

/// A callback that takes an unsent arrival, and the one worker that might have taken it, if there is only one.
pub type OnUnsent = Box<dyn Fn(Arrival, Option<usize>)>;

/// The counts of the dispatcher, over warm-up and measured window together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeskCounts {
    /// Arrivals handed in.
    pub arrived: u64,
    /// Arrivals that a worker has finished with, whatever the outcome.
    pub finished: u64,
    /// Arrivals that no worker took in time.
    pub unsent: u64,
}

#[derive(Default)]
struct Seat {
    free: Cell<bool>,
    arrival: Cell<Option<Arrival>>,
    waker: RefCell<Option<Waker>>,
    /// Arrivals that only this worker may take.
    queue: RefCell<VecDeque<Arrival>>,
}

/// The largest number of arrivals that may wait for a worker; one more goes unsent at once.
const MAX_WAITING: usize = 1_000_000;

impl Dispatcher {
    /// Makes a dispatcher for the workers of `share`, one for each of its connections; an arrival that has waited for
    /// longer than `patience` goes unsent.
    pub fn new(share: Share, affinity: Affinity, patience: Duration, on_unsent: OnUnsent) -> Self {
        let workers = share.connections();
        Self {
            affinity,
            share,
            patience,
            seats: std::iter::repeat_with(Seat::default).take(workers).collect(),
            free: RefCell::new(VecDeque::with_capacity(workers)),
            queue: RefCell::default(),
            waiting: Cell::new(0),
            closed: Cell::new(false),
            counts: Cell::default(),
            on_unsent,
        }
    }

    /// Hands in an arrival. Returns `false` if it went unsent because too many are waiting.
    pub fn put(&self, arrival: Arrival) -> bool {
        self.count(|counts| counts.arrived += 1);
        let free_worker = match self.affinity {
            Affinity::Own => {
                let own = self.own_worker(arrival);
                self.seats[own].free.get().then_some(own)
            }
            Affinity::Any => self.free.borrow_mut().pop_front(),
        };
        if let Some(worker) = free_worker {
            self.seats[worker].give(arrival);
            return true;
        }
        if self.waiting.get() >= MAX_WAITING {
            self.unsent(arrival);
            return false;
        }
        self.waiting.set(self.waiting.get() + 1);
        match self.affinity {
            Affinity::Own => self.seats[self.own_worker(arrival)].queue.borrow_mut().push_back(arrival),
            Affinity::Any => self.queue.borrow_mut().push_back(arrival),
        }
        true
    }

    /// Returns the next arrival for `worker`, which is free now; `None` once the dispatcher is closed.
    pub async fn take(&self, worker: usize) -> Option<Arrival> {
        let seat = &self.seats[worker];
        if let Some(arrival) = self.take_waiting(worker) {
            return Some(arrival);
        }
        seat.free.set(true);
        if self.affinity == Affinity::Any {
            self.free.borrow_mut().push_back(worker);
        }
        poll_fn(|context| {
            if let Some(arrival) = seat.arrival.take() {
                return Poll::Ready(Some(arrival));
            }
            if self.closed.get() {
                return Poll::Ready(None);
            }
            let mut waker = seat.waker.borrow_mut();
            match &mut *waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// Counts an arrival that a worker has finished with.
    pub fn finish(&self) {
        self.count(|counts| counts.finished += 1);
    }

    /// Returns the number of arrivals that are neither finished nor unsent.
    pub fn outstanding(&self) -> u64 {
        let counts = self.counts.get();
        counts.arrived - counts.finished - counts.unsent
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> DeskCounts {
        self.counts.get()
    }

    /// Gives up every arrival that still waits: they go unsent.
    pub fn abandon_waiting(&self) {
        self.waiting.set(0);
        let queues = std::iter::once(&self.queue).chain(self.seats.iter().map(|seat| &seat.queue));
        for arrival in queues.flat_map(|queue| queue.take()) {
            self.unsent(arrival);
        }
    }

    /// Closes the dispatcher, which ends the free workers.
    pub fn close(&self) {
        self.closed.set(true);
        for seat in &self.seats {
            if let Some(waker) = seat.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    fn own_worker(&self, arrival: Arrival) -> usize {
        self.share.connection_of(arrival.planned.client)
    }

    /// Removes and returns the oldest waiting arrival that `worker` may take and that has not waited too long.
    fn take_waiting(&self, worker: usize) -> Option<Arrival> {
        if self.waiting.get() == 0 {
            return None;
        }
        let mut queue = match self.affinity {
            Affinity::Own => self.seats[worker].queue.borrow_mut(),
            Affinity::Any => self.queue.borrow_mut(),
        };
        let now = Moment::now();
        while let Some(arrival) = queue.pop_front() {
            self.waiting.set(self.waiting.get() - 1);
            if now - arrival.intended <= self.patience {
                return Some(Arrival { waited: true, ..arrival });
            }
            self.unsent(arrival);
        }
        None
    }

    fn unsent(&self, arrival: Arrival) {
        self.count(|counts| counts.unsent += 1);
        let only = (self.affinity == Affinity::Own).then(|| self.own_worker(arrival));
        (self.on_unsent)(arrival, only);
    }

    fn count(&self, change: impl FnOnce(&mut DeskCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}

impl Seat {
    fn give(&self, arrival: Arrival) {
        self.free.set(false);
        self.arrival.set(Some(arrival));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::load::arrival::PlannedRequest;

    fn arrival(seq: u64) -> Arrival {
        due_at(seq, Moment::now())
    }

    fn due_at(seq: u64, intended: Moment) -> Arrival {
        Arrival { planned: PlannedRequest { seq, client: seq, step: 0 }, intended, handed: intended, waited: false }
    }

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn a_desk(workers: usize, affinity: Affinity, patience: Duration) -> Dispatcher {
        Dispatcher::new(Share::whole(workers), affinity, patience, Box::new(|_, _| {}))
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_dedicated_worker_serves_only_its_own_client() {
        let dispatcher = a_desk(2, Affinity::Own, LONG);
        for seq in 0..4 {
            assert!(dispatcher.put(arrival(seq)));
        }
        assert_eq!(poll(dispatcher.take(1)).map(|taken| taken.unwrap().planned.seq), Poll::Ready(1));
        assert_eq!(poll(dispatcher.take(1)).map(|taken| taken.unwrap().planned.seq), Poll::Ready(3));
        assert!(poll(dispatcher.take(1)).is_pending());
        assert_eq!(poll(dispatcher.take(0)).map(|taken| taken.unwrap().planned.seq), Poll::Ready(0));
        assert_eq!(dispatcher.outstanding(), 4);
    }

    #[test]
    fn any_worker_takes_the_oldest_arrival() {
        let dispatcher = a_desk(3, Affinity::Any, LONG);
        dispatcher.put(arrival(7));
        dispatcher.put(arrival(8));
        assert_eq!(poll(dispatcher.take(2)).map(|taken| taken.unwrap().planned.seq), Poll::Ready(7));
        assert_eq!(poll(dispatcher.take(0)).map(|taken| taken.unwrap().planned.seq), Poll::Ready(8));
        dispatcher.finish();
        assert_eq!(dispatcher.outstanding(), 1);
    }

    #[test]
    fn an_idle_worker_gets_arrivals_until_the_dispatcher_closes() {
        let dispatcher = a_desk(1, Affinity::Any, LONG);
        let mut take = pin!(dispatcher.take(0));
        let mut context = Context::from_waker(Waker::noop());
        assert!(take.as_mut().poll(&mut context).is_pending());
        dispatcher.put(arrival(0));
        assert!(matches!(
            take.as_mut().poll(&mut context),
            Poll::Ready(Some(Arrival { planned: PlannedRequest { seq: 0, .. }, .. }))
        ));
        dispatcher.close();
        assert_eq!(poll(dispatcher.take(0)), Poll::Ready(None));
    }

    #[test]
    fn arrivals_that_wait_too_long_are_counted_as_unsent() {
        let dispatcher = a_desk(1, Affinity::Own, Duration::ZERO);
        dispatcher.put(due_at(0, Moment::from_ns(1)));
        dispatcher.put(due_at(1, Moment::from_ns(2)));
        assert!(poll(dispatcher.take(0)).is_pending());
        assert_eq!(dispatcher.counts(), DeskCounts { arrived: 2, finished: 0, unsent: 2 });

        let dispatcher = a_desk(1, Affinity::Any, LONG);
        dispatcher.put(arrival(0));
        dispatcher.abandon_waiting();
        assert_eq!((dispatcher.counts().unsent, dispatcher.outstanding()), (1, 0));
    }
}
