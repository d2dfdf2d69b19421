//! The debug-build record of which ranks the thread holds; nothing in release builds.

use core::marker::PhantomData;

use vswap_units::Rank;

/// The record that the thread is inside something that has a rank and is no lock.
#[must_use = "the record ends when this is dropped"]
pub struct InRank {
    rank: Rank,
    marked: bool,
    /// The rank is noted on this thread, so this stays on it.
    not_send: PhantomData<*const ()>,
}

impl InRank {
    /// In debug builds, aborts with a line when this thread already holds a lock of the same or a higher rank.
    #[inline]
    pub fn enter(rank: Rank) -> Self {
        Self {
            rank,
            marked: enter(rank, true),
            not_send: PhantomData,
        }
    }
}

impl Drop for InRank {
    #[inline]
    fn drop(&mut self) {
        leave(self.rank, self.marked);
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub(super) const fn enter(_: Rank, _: bool) -> bool {
    false
}

#[cfg(not(debug_assertions))]
#[inline]
pub(super) const fn leave(_: Rank, _: bool) {}

/// Notes the rank; true if its bit was not set before.
#[cfg(debug_assertions)]
pub(super) fn enter(rank: Rank, ordered: bool) -> bool {
    use core::sync::atomic::Ordering::Relaxed;
    let held = &crate::tls::thread().held_ranks;
    let mask = held.load(Relaxed);
    if ordered && mask >> rank != 0 {
        violated(rank, mask);
    }
    held.store(mask | 1 << rank, Relaxed);
    mask & (1 << rank) == 0
}

#[cfg(debug_assertions)]
pub(super) fn leave(rank: Rank, marked: bool) {
    use core::sync::atomic::Ordering::Relaxed;
    if marked {
        let held = &crate::tls::thread().held_ranks;
        held.store(held.load(Relaxed) & !(1 << rank), Relaxed);
    }
}

#[cfg(debug_assertions)]
#[cold]
fn violated(rank: Rank, mask: usize) -> ! {
    let highest = mask.ilog2() as Rank;
    crate::log::say(&[
        "lock order violated: took ",
        vswap_units::rank::name(rank),
        " while holding ",
        vswap_units::rank::name(highest),
    ]);
    crate::sys::abort_now()
}
