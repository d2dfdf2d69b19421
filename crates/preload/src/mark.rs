//! A mark on threads that are busy with the engine's own affairs. The engine's
//! threads always carry it.

use core::sync::atomic::Ordering;

use vswap_platform::tls;

/// While it lives, this thread's allocations are the C library's.
pub struct Mark(());

impl Mark {
    /// Marks the calling thread.
    pub fn enter() -> Self {
        enter();
        Self(())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        leave();
    }
}

/// Marks the calling thread without a guard: for the two ends of a fork.
pub fn enter() {
    let depth = &tls::thread().engine;
    depth.store(depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// Ends [`enter`].
pub fn leave() {
    let depth = &tls::thread().engine;
    let now = depth.load(Ordering::Relaxed).saturating_sub(1);
    depth.store(now, Ordering::Relaxed);
}

/// Whether the calling thread is marked.
#[inline]
pub fn is_set() -> bool {
    tls::thread().engine.load(Ordering::Relaxed) != 0
}
