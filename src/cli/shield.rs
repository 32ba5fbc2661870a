//! The shield: Criterion prints by itself, and panics if its output is not taken. A shield takes the output, and passes
//! it on for as long as the other end takes it.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};

use crate::error::{Context as _, Result};
use crate::terminal;

/// The longest wait, when the shield is lowered, for output that is still on its way.
const PATIENCE: Duration = Duration::from_secs(5);

static RAISED: Mutex<Vec<Raised>> = Mutex::new(Vec::new());

/// A relay between this process's output and its reader, until it is dropped.
pub struct Shield(());

/// A standard stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

impl Stream {
    fn descriptor(self) -> BorrowedFd<'static> {
        match self {
            Self::Output => stdout(),
            Self::Error => stderr(),
        }
    }

    /// Makes this stream's descriptor a duplicate of `other`.
    fn replace(self, other: &OwnedFd) -> rustix::io::Result<()> {
        match self {
            Self::Output => dup2_stdout(other),
            Self::Error => dup2_stderr(other),
        }
    }
}

struct Raised {
    stream: Stream,
    /// A duplicate of the original descriptor.
    before: OwnedFd,
    /// Closed once everything is passed on.
    done: Receiver<()>,
}

impl Shield {
    /// Raises one before standard output and error, except before a terminal, which Criterion has to detect.
    ///
    /// # Errors
    /// If descriptors or threads have run out.
    pub fn raise() -> Result<Self> {
        let shield = Self(());
        for stream in [Stream::Output, Stream::Error] {
            if !stream.descriptor().is_terminal() {
                let raised = Raised::new(stream).context(|| "capturing the output of Criterion".to_owned())?;
                RAISED.lock().unwrap_or_else(PoisonError::into_inner).push(raised);
            }
        }
        Ok(shield)
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        lower();
    }
}

/// Lowers the shield, if one is raised: for a process that ends without dropping it.
pub fn lower() {
    let raised = std::mem::take(&mut *RAISED.lock().unwrap_or_else(PoisonError::into_inner));
    if !raised.is_empty() {
        // The library's buffer is flushed into the pipe; an error changes nothing here.
        let _ = io::stdout().flush();
    }
    for one in raised {
        // Nothing is left to do about a failure.
        let _ = one.stream.replace(&one.before);
        // The wait is bounded: a child process may still hold the pipe.
        let _ = one.done.recv_timeout(PATIENCE);
    }
}

impl Raised {
    fn new(stream: Stream) -> io::Result<Self> {
        let (mut reader, writer) = io::pipe()?;
        let before = fcntl_dupfd_cloexec(stream.descriptor(), 3)?;
        let copy = before.try_clone()?;
        let (held, done) = channel::<()>();
        thread::Builder::new().name("printing".to_owned()).spawn(move || {
            let mut chunk = [0; 4_096];
            let mut wanted = true;
            // Read to the end, even if nothing is passed on any more: the printing thread must not block.
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                if wanted && let Err(error) = terminal::write_all(copy.as_fd(), &chunk[..count]) {
                    wanted = false;
                    if stream == Stream::Output {
                        terminal::fail(&error);
                    }
                }
            }
            drop(held);
        })?;
        stream.replace(&writer.into())?;
        Ok(Self { stream, before, done })
    }
}
