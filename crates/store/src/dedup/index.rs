//! The index: which owner may have a page with this fingerprint.
//!
//! ```text
//!  63          41 40                                0
//!  +-------------+-----------------------------------+
//!  | tag : 23    | owner : 41                        |
//!  +-------------+-----------------------------------+
//! ```
//! A fixed table of buckets of 8 words, each one cache line. It forgets: a new
//! word takes the place of an older one, and owners that are gone stay named
//! until then. So what it says is a candidate and nothing more; whoever asks
//! compares bytes before he relies on it. No lock: a word is read and written
//! whole, and a lost write is a forgotten page.
//!
//! 8 bytes for each page it can remember. It uses a part of its table that is
//! doubled as it becomes worth that (see [`Index::grow_to`]): fingerprints are
//! spread over all of the part, and would soon touch every page of a larger one.
//! Which of its two buckets a word goes to then is said by a bit of its tag, so
//! it can be moved without its fingerprint.

use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;

use crate::OWNER_BITS;

const BUCKET: usize = 8;
/// Buckets used at first: 32 KiB, for 4096 pages.
const FIRST_BUCKETS: usize = 512;
const OWNER_MASK: u64 = (1 << OWNER_BITS) - 1;
const TAG_BITS: u32 = 64 - OWNER_BITS;

/// See the head of this file.
#[derive(Debug)]
pub struct Index {
    words: LazySlice<AtomicU64>,
    /// Buckets less one; their number is a power of two.
    mask: usize,
    /// Buckets in use less one; their number is a power of two as well.
    used: AtomicUsize,
    growing: AtomicBool,
}

impl Index {
    /// An index of at most `words` pages, fewer where address space is short.
    ///
    /// # Errors
    /// ENOMEM without any address space.
    pub fn new(words: usize) -> Result<Self, Errno> {
        let wanted = words.max(BUCKET);
        let words = LazySlice::reserve(1 << wanted.ilog2(), BUCKET)?;
        let buckets: usize = words.len() / BUCKET;
        let mask = (1 << buckets.max(1).ilog2()) - 1;
        Ok(Self {
            used: AtomicUsize::new(mask.min(FIRST_BUCKETS - 1)),
            growing: AtomicBool::new(false),
            mask,
            words,
        })
    }

    /// Uses more of the table, as far as at most `pages` pages are remembered
    /// then. Takes some nanoseconds for each page that is known already; what
    /// others enter meanwhile may be forgotten.
    pub fn grow_to(&self, pages: usize) {
        let wanted = ((1 << (pages / BUCKET).max(1).ilog2()) - 1) & self.mask;
        if self.used.load(Relaxed) >= wanted || self.growing.swap(true, Acquire) {
            return;
        }
        while self.used.load(Relaxed) < wanted {
            self.double();
        }
        self.growing.store(false, Release);
    }

    fn double(&self) {
        let buckets = self.used.load(Relaxed) + 1;
        let bit = OWNER_BITS + buckets.ilog2() - self.first_bits();
        for i in 0..buckets * BUCKET {
            let (Some(old), Some(new)) = (self.words.get(i), self.words.get(i + buckets * BUCKET))
            else {
                break;
            };
            let word = old.load(Relaxed);
            if word >> bit & 1 != 0 {
                new.store(word, Relaxed);
                old.store(0, Relaxed);
            }
        }
        self.used.store(2 * buckets - 1, Relaxed);
    }

    /// Bits of a bucket's number that are not of the tag.
    fn first_bits(&self) -> u32 {
        self.mask.min(FIRST_BUCKETS - 1).count_ones()
    }

    /// How many pages it can remember.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        (self.mask + 1) * BUCKET
    }

    /// Who may have the page.
    #[must_use]
    pub fn find(&self, print: u64) -> Option<u64> {
        let tag = tag(print);
        let bucket = self.bucket(print)?;
        let word = bucket
            .iter()
            .map(|word| word.load(Relaxed))
            .find(|&word| word >> OWNER_BITS == tag && word & OWNER_MASK != 0)?;
        Some(word & OWNER_MASK)
    }

    /// `owner` has the page now: in the place of who had it, else of nobody,
    /// else of any.
    pub fn remember(&self, print: u64, owner: u64) {
        let tag = tag(print);
        let Some(bucket) = self.bucket(print) else {
            return;
        };
        let of_page = |word: &&AtomicU64| word.load(Relaxed) >> OWNER_BITS == tag;
        let empty = |word: &&AtomicU64| word.load(Relaxed) == 0;
        let any = (print >> (64 - BUCKET.ilog2())) as usize;
        let place = bucket
            .iter()
            .find(of_page)
            .or_else(|| bucket.iter().find(empty))
            .or_else(|| bucket.get(any));
        if let Some(place) = place {
            place.store(tag << OWNER_BITS | owner & OWNER_MASK, Relaxed);
        }
    }

    /// Every owner that is named, for the self-check.
    pub fn owners(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.words.len())
            .filter_map(|i| self.words.get(i))
            .map(|word| word.load(Relaxed) & OWNER_MASK)
            .filter(|&owner| owner != 0)
    }

    /// Bytes of memory it holds. Asks the kernel.
    #[must_use]
    pub fn touched_bytes(&self) -> usize {
        self.words.touched_bytes()
    }

    fn bucket(&self, print: u64) -> Option<&[AtomicU64]> {
        let first_bits = self.first_bits();
        let low = (print >> TAG_BITS) as usize & ((1 << first_bits) - 1);
        let bucket = low | (tag(print) as usize) << first_bits;
        let first = (bucket & self.used.load(Relaxed)) * BUCKET;
        self.words.range(first..first + BUCKET)
    }
}

/// Not the bits that choose the bucket at first.
const fn tag(print: u64) -> u64 {
    print & ((1 << TAG_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_index_knows_nobody_and_holds_nothing() {
        let index = Index::new(1 << 16).unwrap();
        assert_eq!(index.touched_bytes(), 0);
        assert_eq!(index.find(0), None);
        assert_eq!(index.capacity(), 1 << 16);
    }

    #[test]
    fn the_last_owner_of_a_page_is_found() {
        let index = Index::new(1 << 10).unwrap();
        index.remember(77, 5);
        index.remember(77, 6);
        assert_eq!(index.find(77), Some(6));
        assert_eq!(index.owners().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_full_bucket_forgets_one_page_for_each_new_one() {
        let index = Index::new(1).unwrap();
        assert_eq!(index.capacity(), 8);
        let prints: Vec<u64> = (1..=20).map(|i| i << 61 | i).collect();
        for &print in &prints {
            index.remember(print, print & 0xff);
            assert_eq!(index.find(print), Some(print & 0xff));
        }
        let known = prints.iter().filter(|&&print| index.find(print).is_some());
        assert_eq!(known.count(), 8);
    }

    #[test]
    fn it_grows_to_what_is_asked_for_and_never_beyond_its_table() {
        let index = Index::new(1 << 15).unwrap();
        let bytes_of = |prints: std::ops::Range<u64>| {
            prints.for_each(|i| index.remember(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1));
            index.touched_bytes()
        };
        assert_eq!(bytes_of(0..50_000), 8 << 12);
        index.grow_to((1 << 13) - 1); // rounded down
        assert_eq!(bytes_of(0..50_000), 8 << 12);
        index.grow_to(1 << 13);
        assert_eq!(bytes_of(0..50_000), 8 << 13);
        index.grow_to(1);
        index.grow_to(usize::MAX);
        assert_eq!(bytes_of(0..500_000), 8 << 15);
    }

    #[test]
    fn what_is_known_is_still_known_after_it_grew() {
        let index = Index::new(1 << 16).unwrap();
        let prints: Vec<u64> = (1..2000_u64)
            .map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        for (owner, &print) in (1..).zip(&prints) {
            index.remember(print, owner);
        }
        let known = |index: &Index| -> Vec<Option<u64>> {
            prints.iter().map(|&print| index.find(print)).collect()
        };
        let before = known(&index);
        assert!(before.iter().flatten().count() > 1900);
        index.grow_to(1 << 16);
        assert_eq!(known(&index), before);
    }

    proptest! {
        #[test]
        fn whoever_is_found_was_put_in_for_that_tag(pages in prop::collection::vec((any::<u64>(), 1u64..1 << OWNER_BITS), 1..200)) {
            let index = Index::new(64).unwrap();
            for &(print, owner) in &pages {
                index.remember(print, owner);
            }
            for &(print, _) in &pages {
                if let Some(owner) = index.find(print) {
                    prop_assert!(pages.iter().any(|&(other, its)| its == owner && tag(other) == tag(print)));
                }
            }
        }
    }
}
