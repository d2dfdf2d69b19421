//! The debug-build record of which ranks the thread holds; nothing in release builds.

use vswap_units::Rank;

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
