//! Instructions that the calling thread has executed in user mode, counted by the processor (`perf_event_open`).
//!
//! Their number hardly varies from run to run, unlike time. Virtual machines often have no counter, and a kernel may
//! forbid it (`kernel.perf_event_paranoid` above 2).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{FromRawFd as _, RawFd};

/// `PERF_TYPE_HARDWARE` of `linux/perf_event.h`.
const TYPE_HARDWARE: u32 = 0;
/// `PERF_COUNT_HW_INSTRUCTIONS`.
const COUNT_INSTRUCTIONS: u64 = 1;
/// `exclude_kernel` and `exclude_hv` in the bit field: an ordinary user may count the rest.
const USER_MODE: u64 = 1 << 5 | 1 << 6;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// The first version of `struct perf_event_attr`; later kernels recognise it by its size.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

/// A counter for the thread that opened it.
#[derive(Debug)]
pub struct Instructions(File);

impl Instructions {
    /// Starts to count.
    ///
    /// # Errors
    /// If the processor has no such counter, or the kernel does not permit its use.
    pub fn of_this_thread() -> io::Result<Self> {
        let attributes = Attributes {
            kind: TYPE_HARDWARE,
            size: size_of::<Attributes>() as u32,
            config: COUNT_INSTRUCTIONS,
            flags: USER_MODE,
            ..Attributes::default()
        };
        let (this_thread, any_cpu, no_group) = (0, -1, -1);
        // SAFETY: `attributes` is valid for the call, and states its own size.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                this_thread,
                any_cpu,
                no_group,
                CLOSE_ON_EXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, and it has no other owner.
        Ok(Self(unsafe { File::from_raw_fd(fd as RawFd) }))
    }

    /// Returns the number of instructions executed since.
    ///
    /// # Errors
    /// If the counter cannot be read, or never got a register of the processor.
    pub fn read(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        (&self.0).read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_counts_grow_with_the_work() {
        assert_eq!(size_of::<Attributes>(), 64, "PERF_ATTR_SIZE_VER0");
        let counter = match Instructions::of_this_thread() {
            Ok(counter) => counter,
            Err(error) => return assert!(error.raw_os_error().is_some(), "{error}"),
        };
        let work = |rounds: u64| {
            let start = counter.read().unwrap();
            std::hint::black_box((0..rounds).map(std::hint::black_box).sum::<u64>());
            counter.read().unwrap() - start
        };
        let (little, much) = (work(1_000), work(1_000_000));
        assert!(much > 100 * little, "{little} {much}");
    }
}
