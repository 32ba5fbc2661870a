//! The scheduling of the generator by the kernel: on a machine that it shares with the system, it must not wait for a
//! CPU.

/// A low real-time priority, above everything that has none.
const FIFO_PRIORITY: libc::c_int = 10;
/// The slice that is asked for where no such priority is permitted: the shortest that the kernel gives.
const SLICE_NS: u64 = 100_000;

/// Raised scheduling of the calling thread, until it is dropped.
pub struct Priority(Scheduling);

enum Scheduling {
    Fifo,
    /// Short slices, and the ones before.
    ShortSlices(libc::sched_attr),
    Unchanged,
}

impl Priority {
    /// Lets the calling thread run as soon as it has something to do, where that is permitted.
    ///
    /// The generator uses a few percent of a CPU and sleeps otherwise. Without this, on two cores that a busy system
    /// keeps occupied, it would wait some milliseconds for its turn and measure that. Children do not inherit it.
    ///
    /// Without the right to that, the thread asks for short slices, which everyone may: it gets no more than its share
    /// of a CPU, but soon (sched_setattr(2); before Linux 6.12 the request has no effect).
    pub fn raise() -> Self {
        if set_policy(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, FIFO_PRIORITY) {
            return Self(Scheduling::Fifo);
        }
        let Some(before) = attributes() else { return Self(Scheduling::Unchanged) };
        set(&libc::sched_attr { sched_runtime: SLICE_NS, ..before });
        Self(match attributes() {
            Some(now) if now.sched_runtime == SLICE_NS => Scheduling::ShortSlices(before),
            _ => Scheduling::Unchanged,
        })
    }

    /// Returns the scheduling policy of the thread, for results.
    pub fn label(&self) -> &'static str {
        match self.0 {
            Scheduling::Fifo => "SCHED_FIFO 10",
            Scheduling::ShortSlices(_) => "SCHED_OTHER, slices of 0.1 ms",
            Scheduling::Unchanged => "SCHED_OTHER",
        }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        match &self.0 {
            Scheduling::Fifo => _ = set_policy(libc::SCHED_OTHER, 0),
            Scheduling::ShortSlices(before) => set(before),
            Scheduling::Unchanged => {}
        }
    }
}

fn set_policy(policy: libc::c_int, priority: libc::c_int) -> bool {
    // The system call itself: musl's function of this name refuses everything. The kernel's sched_param is one int.
    // SAFETY: 0 is the calling thread, and `priority` outlives the call.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
}

/// Returns the scheduling of the calling thread; `None` if it has no fair share, but another policy.
fn attributes() -> Option<libc::sched_attr> {
    // SAFETY: integers, for all of which 0 is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attributes);
    // No library has a function for it everywhere.
    // SAFETY: 0 is the calling thread, and the kernel writes at most `size` bytes.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (got == 0 && attributes.sched_policy == libc::SCHED_OTHER as u32).then_some(attributes)
}

fn set(attributes: &libc::sched_attr) {
    // Whether it has an effect is seen by reading it.
    // SAFETY: 0 is the calling thread, and the kernel reads as many bytes as `size` in them says.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *attributes, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_is_as_before_once_it_is_dropped() {
        // Of a thread of its own: the others of the test program keep theirs.
        let thread = std::thread::spawn(|| {
            let before = attributes().unwrap();
            let raised = Priority::raise();
            let (label, during) = (raised.label(), attributes());
            drop(raised);
            let after = attributes().unwrap();
            assert_eq!((after.sched_runtime, after.sched_nice), (before.sched_runtime, before.sched_nice));
            match label {
                "SCHED_FIFO 10" => assert!(during.is_none()),
                "SCHED_OTHER" => assert_eq!(during.unwrap().sched_runtime, before.sched_runtime),
                _ => assert_eq!(during.unwrap().sched_runtime, SLICE_NS),
            }
        });
        thread.join().unwrap();
    }
}
