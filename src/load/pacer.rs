//! The pacer's timer: an absolute timerfd inside the runtime.
//!
//! Tokio's own timer has a resolution of 1 ms, which alone would add a median lag of about a millisecond to every
//! arrival.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock::Moment;

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
        // SAFETY: plain system call without pointers.
        let raw = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just opened and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
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
                // One expiry needs one read: a second read, only to find nothing, would cost a system call per arrival.
                ready.clear_ready();
                return Ok(());
            }
        }
    }

    fn arm(&self, moment: Moment) -> io::Result<()> {
        let at_ns = moment.as_ns().max(1);
        let spec = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
            },
        };
        // SAFETY: `self` owns the descriptor and `spec` outlives the call.
        let set = unsafe {
            libc::timerfd_settime(self.fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const spec, std::ptr::null_mut())
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Reads the expiry count, which also clears the readiness.
fn drain(fd: &OwnedFd) -> io::Result<()> {
    let mut count = 0u64;
    // SAFETY: `count` is 8 writable bytes, the size of a timerfd's expiry count.
    let read = unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    if read == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
