//! Whether looking for equal pages pays.
//!
//! **The argument.** Where there are no duplicates every look is lost, and a
//! page that is swapped out may be slowed by less than 5 %. A look (fingerprint,
//! one line of the index read and later written) took 165 ns, where compressing
//! took 1250 to 1880 and all of swap-out 3200 to 4700 ns: 4 to 5 %. A candidate
//! that turns out different costs a decode besides, a quarter of compressing. A
//! duplicate that is found saves the compression, which pays for some ten looks,
//! and its bytes. So there are two brakes:
//!
//! *The share of pages looked at.* All while looking pays. When less than one in
//! 32 of a window was found, every second one: two copies of something large are
//! still found for the better half, at half the price. When as many pages as the
//! index can remember have gone by so, what could have been found had its chance,
//! and one page in 8 is looked at, which costs 1 to 2 %. Pages are chosen by
//! content, so that all copies of a chosen one are looked at and duplicates show
//! at the rate they have; 16 found among at most 256 looked at bring all back.
//! What went by meanwhile is found in that share only.
//!
//! *Credit.* A comparison in vain costs one of at most 64 credits; 32 pages
//! looked at, or one duplicate found, earn one. Pages that nearly all look alike
//! to the fingerprint and differ (the same heap with other reference counts)
//! are so compared once in 32 pages, which is below 1 % of the time, while true
//! duplicates pay for up to as many mistakes as they are themselves.
//!
//! **If this is wrong** some duplicates are stored twice, or some percent of
//! swap-out time is lost; nothing else. Counts are plain loads and stores: two
//! threads may lose one.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// One page in so many (powers of two) is looked at: all, where that has not paid
/// lately, and where it has not paid for long.
const ALL: u32 = 1;
const DOUBTFUL: u32 = 2;
const DOZING: u32 = 8;
/// Looks after which it is decided anew whether all pages are worth it.
const WINDOW: usize = 8192;
/// Below one found in so many they are not.
const PAYS: usize = 32;
/// Looks within which so many found bring all pages back.
const SAMPLE: usize = 256;
const WAKES: usize = 16;
/// The most credits, and what a page looked at earns of one.
const CREDITS: u32 = 64 * CREDIT;
const CREDIT: u32 = 32;

/// See the head of this file.
#[derive(Debug)]
pub struct Policy {
    /// Pages looked at since the last decision.
    looks: AtomicUsize,
    /// How many of them were duplicates.
    found: AtomicUsize,
    /// One page in so many is looked at.
    share: AtomicU32,
    /// Pages that may go by in doubt before it dozes.
    patience: usize,
    /// Pages that went by in doubt.
    doubted: AtomicUsize,
    /// In 32nds of a credit.
    credit: AtomicU32,
}

impl Policy {
    /// One that looks at all pages, over an index that remembers so many.
    #[must_use]
    pub fn new(index_pages: usize) -> Self {
        Self {
            looks: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
            share: AtomicU32::new(ALL),
            patience: index_pages,
            doubted: AtomicUsize::new(0),
            credit: AtomicU32::new(CREDITS),
        }
    }

    /// Is this page to be looked at?
    pub fn admits(&self, print: u64) -> bool {
        let share = self.share();
        // The middle bits choose neither the bucket nor the tag alone.
        if !(print >> 40).is_multiple_of(u64::from(share)) {
            return false;
        }
        let looks = self.looks.load(Relaxed) + 1;
        self.looks.store(looks, Relaxed);
        self.earn(1);
        if looks >= if share == ALL { WINDOW } else { SAMPLE } {
            self.decide(share, looks);
        }
        true
    }

    /// May a candidate be compared? One that then is found different is lost credit.
    pub fn can_afford(&self) -> bool {
        self.credit.load(Relaxed) >= CREDIT
    }

    /// A candidate was what it looked like.
    pub fn note_found(&self) {
        let found = self.found.load(Relaxed) + 1;
        self.found.store(found, Relaxed);
        self.earn(CREDIT);
        if self.share() != ALL && found >= WAKES {
            self.begin(ALL);
        }
    }

    /// A candidate was compared in vain.
    pub fn note_different(&self) {
        let left = self.credit.load(Relaxed).saturating_sub(CREDIT);
        self.credit.store(left, Relaxed);
    }

    /// One page in so many is looked at now.
    pub fn share(&self) -> u32 {
        self.share.load(Relaxed)
    }

    /// How many pages the index may remember while `stored` pages are in the log.
    /// Twice as many where looking pays, because what is remembered is spread
    /// unevenly; three in eight otherwise, which is at most 3 bytes for each page
    /// and enough for a second copy of something to show.
    pub fn worth_remembering(&self, stored: usize) -> usize {
        if self.share() == ALL {
            stored.saturating_mul(2)
        } else {
            stored / 8 * 3
        }
    }

    fn earn(&self, part: u32) {
        let credit = self.credit.load(Relaxed);
        if credit < CREDITS {
            self.credit.store((credit + part).min(CREDITS), Relaxed);
        }
    }

    fn decide(&self, share: u32, looks: usize) {
        let pays = self.found.load(Relaxed) >= looks.div_ceil(PAYS);
        let gone_by = self.doubted.load(Relaxed) + looks * share as usize;
        match share {
            ALL if pays => self.begin(ALL),
            ALL => self.begin(DOUBTFUL),
            DOUBTFUL if gone_by < self.patience => {
                self.begin(DOUBTFUL);
                self.doubted.store(gone_by, Relaxed);
            }
            _ => self.begin(DOZING),
        }
    }

    fn begin(&self, share: u32) {
        self.share.store(share, Relaxed);
        self.looks.store(0, Relaxed);
        self.found.store(0, Relaxed);
        self.doubted.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows `n` pages, of which every `nth` looked at is a duplicate; returns the looks.
    fn show(policy: &Policy, n: u64, nth: usize) -> usize {
        let mut looks = 0;
        for i in 0..n {
            if policy.admits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                looks += 1;
                if looks % nth == 0 {
                    policy.note_found();
                }
            }
        }
        looks
    }

    #[test]
    fn without_duplicates_it_soon_looks_at_half_and_after_an_index_full_at_an_eighth() {
        let policy = Policy::new(50_000);
        assert_eq!(show(&policy, WINDOW as u64, usize::MAX), WINDOW);
        assert_eq!(policy.share(), DOUBTFUL);
        let looks = show(&policy, 40_000, usize::MAX);
        assert!((19_000..21_000).contains(&looks), "{looks}");
        assert_eq!(policy.share(), DOUBTFUL);
        show(&policy, 15_000, usize::MAX);
        assert_eq!(policy.share(), DOZING);
        let looks = show(&policy, 80_000, usize::MAX);
        assert!((9_000..11_000).contains(&looks), "{looks}");
    }

    #[test]
    fn duplicates_that_appear_wake_it_at_once_and_keep_it_awake() {
        for gone_by in [WINDOW as u64, 200_000] {
            let policy = Policy::new(10_000);
            show(&policy, gone_by, usize::MAX);
            assert_ne!(policy.share(), ALL);
            show(&policy, 2_000, 8);
            assert_eq!(policy.share(), ALL);
            assert_eq!(show(&policy, 50_000, 8), 50_000);
        }
    }

    #[test]
    fn candidates_in_vain_are_soon_compared_once_in_32_looks() {
        let policy = Policy::new(1 << 20);
        let mut compared = 0;
        for _ in 0..32_000 {
            // Of every share.
            assert!(policy.admits(0));
            if policy.can_afford() {
                policy.note_different();
                compared += 1;
            }
        }
        assert!((1000..=1064).contains(&compared), "{compared}");
    }

    #[test]
    fn a_duplicate_pays_for_a_mistake() {
        let policy = Policy::new(1 << 20);
        for i in 0..1000 {
            policy.admits(i);
            assert!(policy.can_afford());
            policy.note_different();
            policy.note_found();
        }
    }
}
