//! The engine's per-thread state: one 64-byte block in static TLS, reached
//! without a call that could allocate.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// One thread's words. Atomics, because a signal handler on the same thread
/// shares them; not `Sync`, because no other thread may.
#[repr(C, align(64))]
pub struct ThreadSlot {
    /// Ranks of the locks this thread holds, one bit each (debug builds only).
    pub held_ranks: AtomicUsize,
    /// Kernel thread id, 0 = not asked yet. See [`crate::thread::current_tid`].
    pub tid: AtomicUsize,
    /// How many fault handlers are active on this thread (0 or 1 when all is well).
    pub in_fault: AtomicUsize,
    /// The CPU this thread was pinned to, plus one; 0 = not pinned.
    pub cpu: AtomicUsize,
    /// The engine's worker slot of this thread, plus one; 0 = none.
    pub worker: AtomicUsize,
    /// How deep this thread is in the engine's own affairs: while it is not 0,
    /// what it allocates must not be managed. Always so on the engine's threads.
    pub engine: AtomicUsize,
    /// For the floor above: two words of its own.
    pub scratch: [AtomicUsize; 2],
    not_sync: PhantomData<*const ()>,
}

const _: () = assert!(size_of::<ThreadSlot>() == 64);

unsafe extern "C" {
    fn vswap_thread_block() -> *const ThreadSlot;
}

/// The calling thread's block. Signal-safe, never allocates. The reference
/// cannot leave the thread (`ThreadSlot` is not `Sync`).
#[inline]
#[must_use]
pub fn thread() -> &'static ThreadSlot {
    // SAFETY: the C side returns the address of this thread's 64-byte, 64-aligned
    // zero-initialised block, which lives as long as the thread; the type is
    // not Sync, so the reference stays on this thread.
    unsafe { &*vswap_thread_block() }
}

/// In a forked child: forget what was true of the parent's thread.
pub fn after_fork_in_child() {
    thread().tid.store(0, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_zeroed_block_of_its_own() {
        thread().scratch[0].store(7, Relaxed);
        let here = core::ptr::from_ref(thread()) as usize;
        let (there, value) = std::thread::spawn(|| {
            (
                core::ptr::from_ref(thread()) as usize,
                thread().scratch[0].load(Relaxed),
            )
        })
        .join()
        .unwrap();
        assert_ne!(here, there);
        assert_eq!(here % 64, 0);
        assert_eq!(value, 0);
        assert_eq!(thread().scratch[0].load(Relaxed), 7);
    }
}
