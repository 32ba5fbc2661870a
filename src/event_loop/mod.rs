//! The event loop of one thread: tasks, sockets and timers.
//!
//! The generator shares the machine with the system that it measures, so that its own cost is part of every result. The
//! loop is made for one kind of work: many connections, each of which sends a small request, waits, and reads a small
//! answer.
//!
//! - A socket is registered once. Its readiness is known from the last look at all of them (epoll, edge-triggered), so
//!   that no call is made to find out that nothing has come.
//! - One timer of the kernel, which that same look shows, stands at the moment of the next one of the loop's, to the
//!   nanosecond. A time limit of the look would be set and cancelled with each look, on a virtual machine by its host.
//!   The clock is also read after each task: no burst of answers delays an arrival by more than one task.
//! - The future that drives the loop, in which the pacers are, goes first.
//!
//! Nothing here is [`Send`] but wakers.

mod looks;
mod slots;
mod socket;
mod tasks;
mod thread;
mod timers;
mod timing;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use self::looks::Looks;
use self::slots::Slots;
use self::socket::Source;
pub use self::socket::TcpSocket;
use self::tasks::TaskSlot;
pub use self::tasks::{Tasks, detach, yield_now};
use self::thread::Threads;
pub use self::thread::on_thread;
use self::timers::Timers;
pub use self::timing::{Elapsed, sleep, sleep_until, timeout};
use crate::clock::Moment;

/// The most events of one look.
const MOST_EVENTS: usize = 256;
/// The place of the driving future, which is no task.
const DRIVER: usize = usize::MAX;
/// The data of the event that another thread wakes a task by.
const REMOTE: u64 = u64::MAX;
/// The data of the timer's event.
const TIMER: u64 = u64::MAX - 1;
/// After every other moment.
const NEVER: Moment = Moment::from_ns(u64::MAX);

thread_local! {
    /// The loop that runs on this thread.
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// An event loop. Sockets and timers work while it drives a future.
pub struct EventLoop {
    core: Rc<Core>,
}

struct Core {
    epoll: OwnedFd,
    sources: RefCell<Slots<Rc<Source>>>,
    events: RefCell<Vec<epoll::Event>>,
    looks: Cell<Looks>,
    /// The last reading of the clock.
    clock: Cell<Moment>,
    timers: RefCell<Timers>,
    /// Not after the moment of the next timer.
    next_timer: Cell<Moment>,
    /// The kernel's timer, and the moment at which it stands or has stood last.
    timer: OwnedFd,
    timer_at: Cell<Moment>,
    tasks: RefCell<Slots<TaskSlot>>,
    /// The number of tasks so far.
    spawned: Cell<u64>,
    /// The places of tasks to be polled.
    ready: RefCell<VecDeque<usize>>,
    driver_ready: Cell<bool>,
    remote: Arc<Remote>,
    threads: Arc<Threads>,
}

/// The part of a loop that other threads reach.
struct Remote {
    woken: Mutex<Vec<usize>>,
    signal: OwnedFd,
}

/// The waker of a task, or of the driving future.
struct LoopWaker {
    place: usize,
    queued: AtomicBool,
    remote: Arc<Remote>,
}

impl EventLoop {
    /// Makes an event loop.
    ///
    /// # Errors
    /// If the process is out of file descriptors, or the kernel is older than Linux 5.11.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &signal, epoll::EventData::new_u64(REMOTE), epoll::EventFlags::IN)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // Edge-triggered, so that it need not be read.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), flags)?;
        let core = Core {
            epoll,
            timer,
            timer_at: Cell::new(NEVER),
            sources: RefCell::default(),
            events: RefCell::new(Vec::with_capacity(MOST_EVENTS)),
            looks: Cell::new(Looks::begin(Moment::now())),
            clock: Cell::new(Moment::now()),
            timers: RefCell::default(),
            next_timer: Cell::new(NEVER),
            tasks: RefCell::default(),
            spawned: Cell::new(0),
            ready: RefCell::default(),
            driver_ready: Cell::new(false),
            remote: Arc::new(Remote { woken: Mutex::default(), signal }),
            threads: Arc::default(),
        };
        // A kernel without the call is found here.
        core.look(false)?;
        Ok(Self { core: Rc::new(core) })
    }

    /// Drives `future` to its end, and meanwhile the tasks that it starts; those that have not ended then go on the
    /// next time.
    ///
    /// # Panics
    /// If a loop runs on this thread already, and with a task that does.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _running = Running::enter(&self.core);
        let mut future = pin!(future);
        let waker = self.core.waker(DRIVER);
        let driver = Waker::from(waker.clone());
        let mut context = Context::from_waker(&driver);
        self.core.driver_ready.set(true);
        loop {
            let mut turns = None;
            loop {
                if self.core.driver_ready.take() {
                    waker.queued.store(false, Ordering::Relaxed);
                    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                        return output;
                    }
                }
                // Those that the driving future has woken have their turn at once, and those that tasks wake after the
                // next look, so that none keeps the loop from it.
                let turns = turns.get_or_insert_with(|| self.core.ready.borrow().len());
                if *turns == 0 {
                    break;
                }
                *turns -= 1;
                self.core.take_turn();
                self.core.fire_timers();
            }
            self.core.wait();
        }
    }

    /// Ends the loop, and its tasks with it, and waits for at most `patience` for the threads of [`on_thread`].
    pub fn end(self, patience: Duration) {
        let threads = self.core.threads.clone();
        drop(self);
        threads.wait(patience);
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        // They hold the core, which holds them.
        let tasks = self.core.tasks.take();
        drop(tasks);
    }
}

/// Makes a loop the current one of its thread until it is dropped.
struct Running;

impl Running {
    fn enter(core: &Rc<Core>) -> Self {
        let before = CURRENT.replace(Some(core.clone()));
        assert!(before.is_none(), "an event loop runs on this thread already");
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Core {
    /// Returns the loop that runs on this thread.
    ///
    /// # Panics
    /// If there is none.
    fn current() -> Rc<Self> {
        CURRENT.with_borrow(|current| current.clone()).expect("an event loop that runs on this thread")
    }

    fn waker(&self, place: usize) -> Arc<LoopWaker> {
        Arc::new(LoopWaker { place, queued: AtomicBool::new(false), remote: self.remote.clone() })
    }

    /// Puts a task, or the driving future, in line to be polled.
    fn queue(&self, place: usize) {
        match place {
            DRIVER => self.driver_ready.set(true),
            place => self.ready.borrow_mut().push_back(place),
        }
    }

    /// Fires the timers that are due.
    fn fire_timers(&self) {
        let now = Moment::now();
        self.clock.set(now);
        if now < self.next_timer.get() {
            return;
        }
        loop {
            let due = self.timers.borrow_mut().fire(now);
            let Some(waker) = due else { break };
            waker.wake();
        }
        self.next_timer.set(self.timers.borrow().next().unwrap_or(NEVER));
    }

    /// Looks at all sockets, and waits for one of them or for a timer if nothing else is to be done.
    fn wait(&self) {
        let idle = self.ready.borrow().is_empty() && !self.driver_ready.get();
        // One that waits differs from one that does not by its length. For the others the last reading is near enough:
        // what they show may be thought older than it is.
        if idle {
            self.clock.set(Moment::now());
        }
        let began = self.clock.get();
        let waits = idle && began < self.next_timer.get();
        if waits {
            self.set_timer();
        }
        // It succeeded once, and depends on nothing that changes.
        let shown = self.look(waits).expect("epoll_pwait2 of an epoll descriptor");
        self.fire_timers();
        let mut looks = self.looks.get();
        // Where nothing was to be waited for, only its beginning counts.
        let ended = if idle { self.clock.get() } else { began };
        looks.looked(began, ended, shown, shown < MOST_EVENTS);
        self.looks.set(looks);
    }

    /// Lets the kernel's timer stand at the moment of the next one.
    fn set_timer(&self) {
        let next = self.next_timer.get();
        // With none, it may show once more what has stood there before: a look in vain.
        if next == NEVER || self.timer_at.replace(next) == next {
            return;
        }
        let (seconds, ns) = (next.as_ns() / 1_000_000_000, next.as_ns() % 1_000_000_000);
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec { tv_sec: seconds as i64, tv_nsec: ns as i64 },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once).expect("a timer of the monotonic clock");
    }

    /// Looks at all sockets, waits for the first of them or the timer if it `waits`, and wakes the tasks of those to
    /// which something happened; returns the number of events.
    fn look(&self, waits: bool) -> io::Result<usize> {
        let limit = (!waits).then(Timespec::default);
        let mut events = self.events.borrow_mut();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let shown = events.len();
        let mut sources = self.sources.borrow_mut();
        for event in events.drain(..) {
            match event.data.u64() {
                REMOTE => self.remote.take(|place| self.queue(place)),
                // What is due is fired after each look.
                TIMER => {}
                place => {
                    if let Some(source) = sources.get_mut(place as usize) {
                        source.report(event.flags);
                    }
                }
            }
        }
        Ok(shown)
    }
}

/// Returns the earliest moment at which what the last look has shown may have come.
///
/// # Panics
/// If no event loop runs on this thread.
pub fn shown_since() -> Moment {
    CURRENT.with_borrow(|current| {
        current.as_ref().expect("an event loop that runs on this thread").looks.get().shown_since()
    })
}

impl Remote {
    /// Wakes a task from another thread.
    fn wake(&self, place: usize) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(place);
        // A counter that is full has woken the loop already.
        let _ = rustix::io::write(&self.signal, &1u64.to_ne_bytes());
    }

    /// Takes what other threads have woken.
    fn take(&self, mut queue: impl FnMut(usize)) {
        // The counter is read before the list: what is added after that signals again.
        let _ = rustix::io::read(&self.signal, &mut [0; 8]);
        let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        woken.into_iter().for_each(&mut queue);
    }
}

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let here = CURRENT.try_with(|current| match &*current.borrow() {
            Some(core) if Arc::ptr_eq(&core.remote, &self.remote) => {
                core.queue(self.place);
                true
            }
            _ => false,
        });
        if !here.unwrap_or(false) {
            self.remote.wake(self.place);
        }
    }
}

#[cfg(test)]
mod tests;
