//! The shield: Criterion prints by itself, and panics if its output is not taken. A shield takes the output, and passes
//! it on for as long as the other end takes it.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crate::error::{Context as _, Result};
use crate::terminal;

/// The longest wait, when the shield is lowered, for output that is still on its way.
const PATIENCE: Duration = Duration::from_secs(5);

static RAISED: Mutex<Vec<Raised>> = Mutex::new(Vec::new());

/// A relay between this process's output and its reader, until it is dropped.
pub struct Shield(());

struct Raised {
    descriptor: RawFd,
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
        for (descriptor, is_terminal) in
            [(libc::STDOUT_FILENO, io::stdout().is_terminal()), (libc::STDERR_FILENO, io::stderr().is_terminal())]
        {
            if !is_terminal {
                let raised = Raised::new(descriptor).context(|| "capturing the output of Criterion".to_owned())?;
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
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(one.before.as_raw_fd(), one.descriptor) };
        // The wait is bounded: a child process may still hold the pipe.
        let _ = one.done.recv_timeout(PATIENCE);
    }
}

impl Raised {
    fn new(descriptor: RawFd) -> io::Result<Self> {
        let (mut reader, writer) = io::pipe()?;
        // SAFETY: the descriptor is open, and nothing else owns the new one.
        let [before, copy] = [(), ()].map(|()| unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) });
        if before < 0 || copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        let (before, copy) = unsafe { (OwnedFd::from_raw_fd(before), File::from_raw_fd(copy)) };
        let (held, done) = channel::<()>();
        thread::Builder::new().name("printing".to_owned()).spawn(move || {
            let mut chunk = [0; 4_096];
            let mut wanted = true;
            // Read to the end, even if nothing is passed on any more: the printing thread must not block.
            while let Ok(count @ 1..) = reader.read(&mut chunk) {
                if wanted && let Err(error) = terminal::write_all(copy.as_raw_fd(), &chunk[..count]) {
                    wanted = false;
                    if descriptor == libc::STDOUT_FILENO {
                        terminal::fail(&error);
                    }
                }
            }
            drop(held);
        })?;
        // SAFETY: both are open; the writer's own descriptor is closed when it is dropped.
        if unsafe { libc::dup2(writer.as_raw_fd(), descriptor) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { descriptor, before, done })
    }
}
