//! Counts of a thread's allocations: the number that one request takes does not depend on time, so that it can be
//! compared exactly.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Neither lazy nor dropped: an allocator may use nothing that allocates.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The operating system's allocator, with a count. A program that wants its allocations counted makes this its
/// `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

impl Counting {
    fn count() {
        // A thread that is ending is no longer counted.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller upholds the contract of the call that is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller upholds the contract of the call that is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller upholds the contract of the call that is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of the call that is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Returns the number of allocations of the calling thread so far, reallocations included; 0 in a program whose
/// allocator does not count.
pub fn of_this_thread() -> u64 {
    COUNT.try_with(Cell::get).unwrap_or_default()
}
