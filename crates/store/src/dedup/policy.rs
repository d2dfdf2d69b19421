//! Whether looking for equal pages pays.
//!
//! **The argument.** Where there are no duplicates every look is lost, and a
//! page that is swapped out may be slowed by less than 5 %. A look is a
//! fingerprint, one cache line of the index read and later written: about 2 % of
//! compressing a page. A candidate that turns out different costs a decode, a
//! quarter of compressing. A duplicate that is found saves the compression, most
//! of which pays for it, and its bytes. So there are two brakes:
//!
//! *Awake or dozing.* The index finds duplicates only as far back as it
//! remembers. When as many pages as it can remember have gone by with less than
//! one in 32 found, everything that could have been found had its chance, and
//! the policy dozes: it looks at one page in 8, chosen by content, so that all
//! copies of a chosen page are looked at and real duplicates show at the rate
//! they have. One in 16 of those found wakes it. What went by while it dozed is
//! found in its eighth part only.
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

/// While dozing one page in so many (a power of two) is looked at.
const DOZING_SHARE: u64 = 8;
/// Below one found in so many, at the end of a window, looking does not pay.
const PAYS: usize = 32;
/// Looks of a dozing policy after which it decides anew, and how many found wake it.
const DOZING_WINDOW: usize = 256;
const WAKES: usize = 16;
/// The most credits, and what a page looked at earns of one.
const CREDITS: u32 = 64 * CREDIT;
const CREDIT: u32 = 32;
/// The shortest window of an awake policy, for a tiny index.
const LEAST_WINDOW: usize = 4096;

/// See the head of this file.
#[derive(Debug)]
pub struct Policy {
    /// Pages looked at since the last decision.
    looks: AtomicUsize,
    /// How many of them were duplicates.
    found: AtomicUsize,
    /// Looks until the next decision, while awake.
    window: usize,
    dozing: AtomicU32,
    /// In 32nds of a credit.
    credit: AtomicU32,
}

impl Policy {
    /// Awake, over an index that remembers so many pages.
    #[must_use]
    pub fn new(index_pages: usize) -> Self {
        Self {
            looks: AtomicUsize::new(0),
            found: AtomicUsize::new(0),
            window: index_pages.max(LEAST_WINDOW),
            dozing: AtomicU32::new(0),
            credit: AtomicU32::new(CREDITS),
        }
    }

    /// Is this page to be looked at?
    pub fn admits(&self, print: u64) -> bool {
        let dozing = self.is_dozing();
        // The middle bits choose neither the bucket nor the tag alone.
        if dozing && !(print >> 40).is_multiple_of(DOZING_SHARE) {
            return false;
        }
        let looks = self.looks.load(Relaxed) + 1;
        self.looks.store(looks, Relaxed);
        self.earn(1);
        if looks >= if dozing { DOZING_WINDOW } else { self.window } {
            self.decide(dozing, looks);
        }
        true
    }

    /// May a candidate be compared? One that then is found different is lost credit.
    pub fn can_afford(&self) -> bool {
        self.credit.load(Relaxed) >= CREDIT
    }

    /// A candidate was what it looked like.
    pub fn note_found(&self) {
        self.found.store(self.found.load(Relaxed) + 1, Relaxed);
        self.earn(CREDIT);
    }

    /// A candidate was compared in vain.
    pub fn note_different(&self) {
        let left = self.credit.load(Relaxed).saturating_sub(CREDIT);
        self.credit.store(left, Relaxed);
    }

    /// Does it look at few pages only?
    pub fn is_dozing(&self) -> bool {
        self.dozing.load(Relaxed) != 0
    }

    fn earn(&self, part: u32) {
        let credit = self.credit.load(Relaxed);
        if credit < CREDITS {
            self.credit.store((credit + part).min(CREDITS), Relaxed);
        }
    }

    fn decide(&self, dozing: bool, looks: usize) {
        let found = self.found.swap(0, Relaxed);
        self.looks.store(0, Relaxed);
        let pays = found >= if dozing { WAKES } else { looks.div_ceil(PAYS) };
        self.dozing.store(u32::from(!pays), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows pages `print(0..n)`, of which every `nth` looked at is a duplicate; returns the looks.
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
    fn without_duplicates_it_dozes_after_an_index_full_and_looks_at_an_eighth() {
        let policy = Policy::new(10_000);
        assert_eq!(show(&policy, 10_000, usize::MAX), 10_000);
        assert!(policy.is_dozing());
        let looks = show(&policy, 80_000, usize::MAX);
        assert!((9_000..11_000).contains(&looks), "{looks}");
    }

    #[test]
    fn duplicates_that_appear_wake_it_and_keep_it_awake() {
        let policy = Policy::new(10_000);
        show(&policy, 10_000, usize::MAX);
        assert!(policy.is_dozing());
        show(&policy, 20_000, 8);
        assert!(!policy.is_dozing());
        assert_eq!(show(&policy, 50_000, 8), 50_000);
    }

    #[test]
    fn candidates_in_vain_are_soon_compared_once_in_32_looks() {
        let policy = Policy::new(1 << 20);
        let mut compared = 0;
        for i in 0..32_000 {
            assert!(policy.admits(i));
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
