//! Every byte that a process holds, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

/// Bytes that are allocated now.
static HELD: AtomicIsize = AtomicIsize::new(0);
/// The most that they were.
static PEAK: AtomicIsize = AtomicIsize::new(0);

/// Bytes that are allocated now.
pub fn held() -> isize {
    HELD.load(Ordering::Relaxed)
}

/// Forgets how many there have been.
pub fn forget_peak() {
    PEAK.store(held(), Ordering::Relaxed);
}

/// The most bytes that were allocated since then.
pub fn peak() -> isize {
    PEAK.load(Ordering::Relaxed)
}

/// The system's allocator, counting. A program that measures makes it its own: `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its nature; this one only counts and passes on"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().cast_signed();
        let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as demanded of our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size().cast_signed(), Ordering::Relaxed);
        // SAFETY: as demanded of our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}
