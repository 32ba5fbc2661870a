//! How the kernel schedules the generator: on a machine that it shares with its target, it must not wait for a CPU.

/// Low among the real-time priorities, and above everything that is none.
const FIFO_PRIORITY: libc::c_int = 10;

/// Lets the calling thread run as soon as it has something to do, where that is permitted; says how it is scheduled.
///
/// The generator uses a few percent of a CPU and sleeps otherwise. Without this, on two cores that a busy target
/// keeps occupied, it would wait some milliseconds for its turn and measure that. Children do not inherit it.
pub fn raise() -> &'static str {
    let parameters = libc::sched_param { sched_priority: FIFO_PRIORITY };
    if set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) { "SCHED_FIFO 10" } else { "SCHED_OTHER" }
}

/// Puts the calling thread back to ordinary scheduling.
pub fn restore() {
    set(libc::SCHED_OTHER, &libc::sched_param { sched_priority: 0 });
}

fn set(policy: libc::c_int, parameters: &libc::sched_param) -> bool {
    // SAFETY: 0 is the calling thread, and `parameters` outlives the call.
    unsafe { libc::sched_setscheduler(0, policy, parameters) == 0 }
}
