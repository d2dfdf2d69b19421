//! The second-chance window: how many runs stay cached before the oldest is
//! written out.
//!
//! The argument. Window and inactive list together are one queue, and moving
//! the border between them changes nobody's time in memory. What changes is what
//! is seen: a touch of a cached page is a fault (some microseconds) and saves
//! the block from being written out (a hundred); a touch of a page that is
//! still in its place costs nothing and is not seen. So the window is worth its
//! faults where many blocks that get to the queue's end are in use. Then, when
//! hits are more than a quarter of what leaves the window, it widens by a
//! quarter. Where they are under a 16th (a scan, a loop), it narrows by an
//! eighth, and pages stay in their place instead. Both shares are for the window
//! it starts with, and in proportion for others: at random, hits grow with the
//! window and prove nothing. A refault from nearer than
//! one window counts as a hit: somewhat wider, and it would have been one. Blocks
//! that were hit go to the active list, so hits end by themselves.
//!
//! If that is wrong, the price is bounded: between a 128th and an eighth of the
//! budget, and never more than the staging area has runs beside those kept for
//! faults. Cached frames are counted as held like every other page.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_units::{BLOCK_PAGES, BLOCK_SIZE};

/// Shares of the budget: where the window starts, and its bounds.
const START: u64 = 32;
const NARROWEST: u64 = 128;
const WIDEST: u64 = 8;
/// The window never gets narrower than this many runs, whatever the budget.
const LEAST_RUNS: usize = 8;
/// Pages leave the window this often its width before it is looked at again.
const ROUNDS: u64 = 2;

/// What the window may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    narrowest: usize,
    widest: usize,
    start: usize,
}

impl Bounds {
    /// For a budget of `ram` bytes and a staging area with `runs` runs to spare.
    /// `fixed`: as wide as at the start, always.
    pub fn new(ram: u64, runs: usize, fixed: bool) -> Self {
        let share = |part: u64| {
            let wanted = (ram / part) as usize / BLOCK_SIZE;
            wanted.clamp(LEAST_RUNS, runs.max(LEAST_RUNS))
        };
        let (narrow, wide) = if fixed {
            (START, START)
        } else {
            (NARROWEST, WIDEST)
        };
        Self {
            narrowest: share(narrow),
            widest: share(wide),
            start: share(START),
        }
    }
}

/// The window and what left it since it was last adapted.
#[derive(Default)]
pub struct Window {
    runs: AtomicU32,
    hit_pages: AtomicU64,
    near_pages: AtomicU64,
    written_pages: AtomicU64,
}

impl Window {
    /// Runs that may stay cached.
    pub fn runs(&self, bounds: Bounds) -> usize {
        match self.runs.load(Ordering::Relaxed) as usize {
            0 => bounds.start,
            runs => runs.clamp(bounds.narrowest, bounds.widest),
        }
    }

    /// Pages were touched while cached.
    pub fn hit(&self, pages: u64) {
        self.hit_pages.fetch_add(pages, Ordering::Relaxed);
    }

    /// Pages left the window's end: they were written out.
    pub fn written(&self, pages: u64) {
        self.written_pages.fetch_add(pages, Ordering::Relaxed);
    }

    /// Pages came back when `distance` pages had been written out since.
    pub fn refaulted(&self, distance: u64, pages: u64, bounds: Bounds) {
        if distance <= (self.runs(bounds) * BLOCK_PAGES) as u64 {
            self.near_pages.fetch_add(pages, Ordering::Relaxed);
        }
    }

    /// Widens or narrows the window once enough has left it.
    pub fn adapt(&self, bounds: Bounds) {
        let runs = self.runs(bounds);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let gone = load(&self.hit_pages) + load(&self.written_pages);
        if gone < ROUNDS * (runs * BLOCK_PAGES) as u64 {
            return;
        }
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let hits = take(&self.hit_pages) + take(&self.near_pages);
        take(&self.written_pages);
        let (hits_per_run, gone_per_run) = (hits * bounds.start as u64, gone * runs as u64);
        let adapted = if hits_per_run > gone_per_run / 4 {
            runs + runs / 4
        } else if hits_per_run < gone_per_run / 16 {
            runs - runs / 8
        } else {
            runs
        };
        let adapted = adapted.clamp(bounds.narrowest, bounds.widest);
        self.runs.store(adapted as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: u64 = 256 << 20;

    fn after(rounds: usize, hit: u64, near: u64, written: u64, bounds: Bounds) -> usize {
        let window = Window::default();
        for _ in 0..rounds {
            window.hit(hit);
            window.refaulted(1, near, bounds);
            window.written(written);
            window.adapt(bounds);
        }
        window.runs(bounds)
    }

    #[test]
    fn frequent_hits_widen_the_window_to_its_bound_and_rare_ones_narrow_it() {
        let bounds = Bounds::new(RAM, 1 << 20, false);
        let start = Window::default().runs(bounds);
        assert_eq!(start as u64, RAM / 32 / BLOCK_SIZE as u64);
        assert_eq!(after(100, 100_000, 0, 0, bounds), start * 4);
        assert_eq!(after(100, 0, 110_000, 100_000, bounds), start * 4);
        assert_eq!(after(100, 100, 0, 100_000, bounds), start / 4);
        assert_eq!(after(100, 10_000, 0, 90_000, bounds), start);
    }

    #[test]
    fn hits_that_only_grow_with_the_window_do_not_widen_it() {
        let bounds = Bounds::new(RAM, 1 << 20, false);
        let window = Window::default();
        for _ in 0..100 {
            let hits = 10_000 * window.runs(bounds) / bounds.start;
            window.hit(hits as u64);
            window.written(100_000 - hits as u64);
            window.adapt(bounds);
        }
        assert_eq!(window.runs(bounds), bounds.start);
    }

    #[test]
    fn nothing_changes_before_enough_has_left_the_window() {
        let bounds = Bounds::new(RAM, 1 << 20, false);
        assert_eq!(after(1, 100, 0, 100, bounds), bounds.start);
    }

    #[test]
    fn the_window_stays_within_the_staging_area_and_a_smaller_budget() {
        let bounds = Bounds::new(RAM, 100, false);
        assert_eq!(after(100, 50_000, 0, 0, bounds), 100);
        let window = Window::default();
        for _ in 0..100 {
            window.hit(50_000);
            window.adapt(Bounds::new(RAM, 1 << 20, false));
        }
        let halved = Bounds::new(RAM / 2, 1 << 20, false);
        assert_eq!(window.runs(halved), halved.widest);
        let fixed = Bounds::new(RAM, 1 << 20, true);
        assert_eq!(after(100, 50_000, 0, 0, fixed), fixed.start);
        assert_eq!(Bounds::new(16 << 20, 0, false).widest, LEAST_RUNS);
    }
}
