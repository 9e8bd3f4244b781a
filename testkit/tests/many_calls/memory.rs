//! Every byte that this process holds, counted.

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

/// Resident memory of this process in kilobytes.
pub fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Files and sockets that this process has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

struct Counting;

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

#[global_allocator]
static ALLOCATOR: Counting = Counting;
