//! What a page's way back says about its block: eviction stamps, refault
//! distances, and how readily the active list changes.
//!
//! **The clock** counts pages written out. A block whose cached run is written
//! out keeps the clock's reading, its *stamp*. When a page of it comes back,
//! `clock - stamp` pages have been written out since: with that much more
//! memory the page would never have left (the kernel's mm/workingset.c argues
//! the same way). If that is at most what is resident and evictable, the block
//! is used more often than something that stayed, so it is *activated*: put on
//! the list that reclaim spares.
//!
//! The kernel keeps a stamp per page. Here pages go out by the block, so one
//! stamp per block says the same; it lives in a word the block had anyway and
//! costs nothing. Pages of one block that went out at different times share the
//! latest stamp. If that is wrong, it is so for a block of which one page was in
//! use lately, and it is blocks that are kept or taken. A block used only here
//! and there is not activated at all: sparing it would leave reclaim the blocks
//! with least to take.
//!
//! **Cooling.** Nothing tells when a resident page is touched, so an active
//! block's use is only seen by taking it off the list: it comes to the end of
//! the inactive one and is then out, or touched while cached, or refaulted. How
//! often that is tried is learned from what comes of it: of the demands for a
//! place on a full active list one in `patience` is granted, in exchange for
//! the block that has been there longest. Cooled blocks that come back make it
//! more patient, cooled blocks that are written out less. So a loop larger than
//! memory keeps the part of itself that it has (every exchange comes back), and
//! a program that has moved on is followed (nothing comes back). If that is
//! wrong, memory holds yesterday's blocks for some refaults too long: from most
//! to least patient takes some 70 exchanges.

use std::sync::atomic::{AtomicU32, Ordering};

use vswap_units::BLOCK_PAGES;

/// Bits of a stamp: readings are taken modulo 2^30 pages, 4 TiB written out. A
/// page that stayed out for longer looks recent with the chance memory / 4 TiB.
pub const STAMP_BITS: u32 = 30;
const STAMP_MASK: u32 = (1 << STAMP_BITS) - 1;

/// Reading of the clock when a block was last written out. Never 0 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u32);

impl Stamp {
    /// The bits to keep; 0 is left to say "no stamp".
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// A stamp from bits kept; `None` for none.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits & STAMP_MASK {
            0 => None,
            bits => Some(Self(bits)),
        }
    }
}

/// Counts pages written out.
#[derive(Default)]
pub struct Clock(AtomicU32);

impl Clock {
    /// `pages` more were written out; the stamp of their block.
    pub fn advance(&self, pages: u32) -> Stamp {
        let now = self
            .0
            .fetch_add(pages, Ordering::Relaxed)
            .wrapping_add(pages);
        // One page off at most, so that no stamp reads as none.
        Stamp((now & STAMP_MASK).max(1))
    }

    /// Pages written out since the stamp was made.
    pub fn since(&self, stamp: Stamp) -> u64 {
        let now = self.0.load(Ordering::Relaxed);
        u64::from(now.wrapping_sub(stamp.0) & STAMP_MASK)
    }
}

/// Blocks the active list may hold while `resident` pages are in their place
/// and `cached` ones in the staging area: an eighth of memory stays inactive,
/// the staging area counted, so that what is new has time to be used twice.
/// An active block holds 16 pages at most, so that is true in pages too.
pub fn most_active(resident: u64, cached: u64) -> usize {
    let spared = (resident + cached) / 8 * 7;
    spared.min(resident / 16 * 15) as usize / BLOCK_PAGES
}

const ONE: u32 = 16;
const LEAST_PATIENCE: u32 = ONE;
const MOST_PATIENCE: u32 = 64 * ONE;

/// How readily a full active list takes a block for another. See the module's head.
pub struct Cooling {
    /// Demands per exchange, in 16ths.
    patience: u32,
    demands: u32,
}

impl Default for Cooling {
    fn default() -> Self {
        Self {
            patience: 4 * ONE,
            demands: 0,
        }
    }
}

impl Cooling {
    /// A block asks for a place on the full list: does it get one?
    pub fn grants(&mut self) -> bool {
        self.demands += 1;
        let granted = self.demands * ONE >= self.patience;
        if granted {
            self.demands = 0;
        }
        granted
    }

    /// A cooled block was touched soon after: it had been in use.
    pub fn came_back(&mut self) {
        self.patience = (self.patience + self.patience / 4).min(MOST_PATIENCE);
    }

    /// A cooled block was written out.
    pub fn went_out(&mut self) {
        self.patience = (self.patience - self.patience / 16).max(LEAST_PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_the_pages_written_out_since_also_across_the_wrap() {
        let clock = Clock::default();
        clock.advance(STAMP_MASK - 10);
        let stamp = clock.advance(16);
        assert_eq!(clock.since(stamp), 0);
        clock.advance(100);
        assert_eq!(clock.since(stamp), 100);
        assert_eq!(Stamp::from_bits(stamp.bits()), Some(stamp));
    }

    #[test]
    fn no_reading_of_the_clock_is_kept_as_no_stamp() {
        let clock = Clock::default();
        let stamp = clock.advance(STAMP_MASK + 1);
        assert_eq!(Stamp::from_bits(stamp.bits()), Some(stamp));
        assert_eq!(Stamp::from_bits(0), None);
    }

    #[test]
    fn an_eighth_of_memory_stays_inactive() {
        assert_eq!(most_active(16 * 800, 0), 700);
        assert_eq!(most_active(16 * 700, 16 * 100), 656);
        assert_eq!(most_active(0, 500), 0);
    }

    #[test]
    fn exchanges_that_come_back_grow_rare_and_ones_that_do_not_grow_frequent() {
        let mut cooling = Cooling::default();
        (0..64).for_each(|_| cooling.came_back());
        assert_eq!((0..128).filter(|_| cooling.grants()).count(), 2);
        (0..80).for_each(|_| cooling.went_out());
        assert_eq!((0..10).filter(|_| cooling.grants()).count(), 10);
    }
}
