//! The scheduling of the generator by the kernel: on a machine that it shares with the system, it must not wait for a
//! CPU.

/// A low real-time priority, above everything that has none.
const FIFO_PRIORITY: libc::c_int = 10;

/// Raised scheduling of the calling thread, until it is dropped.
pub struct Priority(bool);

impl Priority {
    /// Lets the calling thread run as soon as it has something to do, where that is permitted.
    ///
    /// The generator uses a few percent of a CPU and sleeps otherwise. Without this, on two cores that a busy system
    /// keeps occupied, it would wait some milliseconds for its turn and measure that. Children do not inherit it.
    pub fn raise() -> Self {
        Self(set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, FIFO_PRIORITY))
    }

    /// Returns the scheduling policy of the thread, for results.
    pub fn label(&self) -> &'static str {
        if self.0 { "SCHED_FIFO 10" } else { "SCHED_OTHER" }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if self.0 {
            set(libc::SCHED_OTHER, 0);
        }
    }
}

fn set(policy: libc::c_int, priority: libc::c_int) -> bool {
    // The system call itself: musl's function of this name refuses everything. The kernel's sched_param is one int.
    // SAFETY: 0 is the calling thread, and `priority` outlives the call.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
}
