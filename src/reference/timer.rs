//! A precise timer: an absolute timerfd inside the runtime.
//!
//! Tokio's own timer has a resolution of 1 ms.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use certctl_bench::clock::Moment;

/// A one-shot timer on the monotonic clock.
pub struct Timer {
    fd: AsyncFd<OwnedFd>,
}

impl Timer {
    /// Makes a timer in the current runtime.
    ///
    /// # Errors
    /// If the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: an `OwnedFd` keeps the one descriptor that it owns until it is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self { fd: fd.map_err(io::Error::from)? })
    }

    /// Waits until `moment`; returns at once, without yielding, if it has passed.
    ///
    /// # Errors
    /// If the kernel refuses the timer, which it does not for a valid moment.
    pub async fn sleep_until(&self, moment: Moment) -> io::Result<()> {
        if Moment::now() >= moment {
            return Ok(());
        }
        self.arm(moment)?;
        loop {
            let mut ready = self.fd.readable().await?;
            if ready.try_io(|fd| drain(fd.get_ref())).is_ok_and(|drained| drained.is_ok()) {
                // One expiry needs one read.
                ready.clear_ready();
                return Ok(());
            }
        }
    }

    fn arm(&self, moment: Moment) -> io::Result<()> {
        let at_ns = moment.as_ns().max(1);
        let spec = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 },
        };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }
}

/// Reads the expiry count, which also clears the readiness.
fn drain(fd: &OwnedFd) -> io::Result<()> {
    // The kernel writes all 8 bytes or none.
    rustix::io::read(fd, &mut [0; 8])?;
    Ok(())
}
