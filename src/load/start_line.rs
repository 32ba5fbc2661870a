//! The start line of a run: each generator thread waits there, once its connections are open, so that all begin their
//! schedules at one moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Moment;
use crate::error::{Context, Error, Result};
use crate::event_loop::on_thread;

/// The pause between the last connection and the first arrival.
const SETTLE: Duration = Duration::from_millis(100);

/// Agrees on the start with whoever else takes part in the run, once all threads of this process are ready. May block.
pub type Agree = Box<dyn FnOnce() -> Result<Moment> + Send>;

/// The start line of the generator threads of one process. Clones share it.
#[derive(Clone)]
pub struct StartLine(Arc<Line>);

struct Line {
    /// The number of threads that are not ready yet.
    missing: AtomicUsize,
    agree: Mutex<Option<Agree>>,
    state: watch::Sender<StartState>,
}

#[derive(Clone)]
enum StartState {
    Waiting,
    At(Moment),
    /// The error of the thread that could not start, and its hint.
    CalledOff(String, Option<String>),
}

impl StartLine {
    /// Makes the start line of so many threads, which start shortly after the last of them is ready.
    pub fn of(threads: usize) -> Self {
        Self::with(threads, None)
    }

    /// Makes the start line of so many threads, which start at the moment that `agree` returns once all are ready.
    pub fn agreed(threads: usize, agree: Agree) -> Self {
        Self::with(threads, Some(agree))
    }

    fn with(threads: usize, agree: Option<Agree>) -> Self {
        let (missing, agree) = (AtomicUsize::new(threads), Mutex::new(agree));
        Self(Arc::new(Line { missing, agree, state: watch::Sender::new(StartState::Waiting) }))
    }

    /// Waits until all threads are ready, and returns the moment of the start.
    ///
    /// # Errors
    /// If one of them cannot start: the error is the same for all.
    pub async fn wait(&self) -> Result<Moment> {
        if self.0.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let agree = self.0.agree.lock().unwrap_or_else(PoisonError::into_inner).take();
            let agreed = match agree {
                None => Ok(Moment::now() + SETTLE),
                Some(agree) => match on_thread(agree).await {
                    Ok(agreed) => agreed,
                    Err(error) => Err(error).context(|| "agreeing on the start of the run".to_owned()),
                },
            };
            match agreed {
                Ok(start) => drop(self.0.state.send_replace(StartState::At(start))),
                Err(error) => self.call_off(&error),
            }
        }
        // The sender lives as long as `self`.
        let mut state = self.0.state.subscribe();
        let reached = state.wait_for(|state| !matches!(state, StartState::Waiting)).await;
        match reached.map(|state| state.clone()) {
            Ok(StartState::At(start)) => Ok(start),
            Ok(StartState::CalledOff(what, hint)) => {
                let error = Error::new(what);
                Err(match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
            Ok(StartState::Waiting) | Err(_) => Err(Error::new("waiting for the start of the run: it never came")),
        }
    }

    /// Lets no thread start, if none has started yet: one of them cannot, for this reason.
    pub fn call_off(&self, error: &Error) {
        self.0.state.send_if_modified(|state| {
            let waits = matches!(state, StartState::Waiting);
            if waits {
                *state = StartState::CalledOff(error.what().to_owned(), error.hint().map(str::to_owned));
            }
            waits
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::runtime::runtime;

    fn wait(line: &StartLine) -> Result<Moment> {
        runtime().unwrap().block_on(line.wait())
    }

    /// Waits in threads of their own, and returns what each got.
    fn wait_all(line: &StartLine, threads: usize) -> Vec<Result<Moment>> {
        let waits: Vec<_> = (0..threads)
            .map(|_| {
                let line = line.clone();
                std::thread::spawn(move || wait(&line))
            })
            .collect();
        waits.into_iter().map(|thread| thread.join().unwrap()).collect()
    }

    #[test]
    fn all_threads_start_at_one_moment() {
        let before = Moment::now();
        let starts: Vec<_> = wait_all(&StartLine::of(3), 3).into_iter().map(Result::unwrap).collect();
        assert!(starts.iter().all(|start| *start == starts[0] && *start > before), "{starts:?}");
        let agreed = StartLine::agreed(2, Box::new(|| Ok(Moment::from_ns(7))));
        assert!(wait_all(&agreed, 2).into_iter().all(|start| start.unwrap() == Moment::from_ns(7)));
    }

    #[test]
    fn a_thread_that_cannot_start_keeps_all_from_it() {
        let line = StartLine::of(3);
        line.call_off(&Error::new("no port is left").with_hint("free some"));
        line.call_off(&Error::new("a later reason"));
        for waited in wait_all(&line, 2) {
            let error = waited.unwrap_err();
            assert_eq!((error.what(), error.hint()), ("no port is left", Some("free some")));
        }
        let refused = StartLine::agreed(1, Box::new(|| Err(Error::new("nobody else is there"))));
        assert_eq!(wait(&refused).unwrap_err().what(), "nobody else is there");
    }
}
