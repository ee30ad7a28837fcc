//! The heap of a static program with musl, whose own allocator maps and unmaps memory for every buffer of a few KiB: ninety
//! system calls in one `create`.
//!
//! Owns: one `dlmalloc` for the whole program. Does not own: what glibc's programs use.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

/// For `#[global_allocator]`; all of them are the same heap.
#[derive(Debug, Clone, Copy)]
pub struct Heap;

struct Owned(Dlmalloc);

// SAFETY: it has no tie to a thread; its pointers lead to memory that it owns.
unsafe impl Send for Owned {}

/// A child of a fork may use it because nobody holds it then: whoever forks has one thread (`clone::SingleThreaded`).
static HEAP: Mutex<Owned> = Mutex::new(Owned(Dlmalloc::new()));

fn heap() -> MutexGuard<'static, Owned> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: sizes and alignments are passed on as they come, and nothing here allocates or panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { heap().0.malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { heap().0.calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { heap().0.free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { heap().0.realloc(memory, layout.size(), layout.align(), size) }
    }
}

/// Returns what is free at its end to the kernel.
pub fn trim() {
    // SAFETY: only free memory is given back.
    unsafe { heap().0.trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_keeps_what_it_held_when_it_grows_and_is_aligned() {
        let small = Layout::from_size_align(100, 64).expect("a layout");
        // SAFETY: each block is used within its size and given back once, with the layout it then has.
        unsafe {
            let first = Heap.alloc_zeroed(small);
            assert!((0..100).all(|at| *first.add(at) == 0));
            first.write_bytes(7, 100);
            let second = Heap.realloc(first, small, 1 << 20);
            assert_eq!(second as usize % 64, 0);
            assert!((0..100).all(|at| *second.add(at) == 7));
            Heap.dealloc(second, Layout::from_size_align(1 << 20, 64).expect("a layout"));
        }
        trim();
    }
}
