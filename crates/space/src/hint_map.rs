//! A set of cluster numbers that finds its lowest member fast: two levels of bits, no lock.
//!
//! A bit is changed only under the lock of the cluster it stands for, so it is exact to whoever holds that lock and a hint to
//! everybody else. Taking the lowest cluster first keeps entries dense: high clusters run empty and give their memory back.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;

pub(crate) struct HintMap {
    words: LazySlice<AtomicU64>,
    /// Bit `i`: word `i` may have a bit set. Never clear while it has one.
    summary: LazySlice<AtomicU64>,
}

impl HintMap {
    pub(crate) fn new(len: usize) -> Result<Self, Errno> {
        let words = len.div_ceil(64);
        Ok(Self {
            words: lazy(words)?,
            summary: lazy(words.div_ceil(64))?,
        })
    }

    pub(crate) fn insert(&self, member: usize) {
        let Some((word, summary)) = self.places(member) else {
            return;
        };
        word.fetch_or(1 << (member % 64), SeqCst);
        let bit = 1 << (member / 64 % 64);
        if summary.load(SeqCst) & bit == 0 {
            summary.fetch_or(bit, SeqCst);
        }
    }

    pub(crate) fn remove(&self, member: usize) {
        let Some((word, summary)) = self.places(member) else {
            return;
        };
        let bit = 1 << (member % 64);
        if word.fetch_and(!bit, SeqCst) & !bit == 0 {
            let mine = 1 << (member / 64 % 64);
            summary.fetch_and(!mine, SeqCst);
            // Somebody may have set a bit before the summary went down, and seen no need to raise it.
            if word.load(SeqCst) != 0 {
                summary.fetch_or(mine, SeqCst);
            }
        }
    }

    pub(crate) fn contains(&self, member: usize) -> bool {
        self.places(member)
            .is_some_and(|(word, _)| word.load(SeqCst) >> (member % 64) & 1 != 0)
    }

    /// The lowest member that is at least `from` and below `end`.
    pub(crate) fn next(&self, from: usize, end: usize) -> Option<usize> {
        self.lowest(from, end).filter(|&member| member < end)
    }

    fn lowest(&self, from: usize, end: usize) -> Option<usize> {
        if let Some(member) = self.in_word(from / 64, u64::MAX << (from % 64)) {
            return Some(member);
        }
        let first = from / 64 + 1;
        let mut mask = u64::MAX << (first % 64);
        for at in first / 64..self.summary.len().min(end.div_ceil(64 * 64)) {
            let mut candidates = self.summary.get(at).map_or(0, |word| word.load(SeqCst)) & mask;
            mask = u64::MAX;
            while candidates != 0 {
                let word = at * 64 + candidates.trailing_zeros() as usize;
                if let Some(member) = self.in_word(word, u64::MAX) {
                    return Some(member);
                }
                candidates &= candidates - 1;
            }
        }
        None
    }

    /// Bytes of memory its tables hold.
    pub(crate) fn touched_bytes(&self) -> usize {
        self.words.touched_bytes() + self.summary.touched_bytes()
    }

    fn in_word(&self, at: usize, mask: u64) -> Option<usize> {
        let bits = self.words.get(at)?.load(SeqCst) & mask;
        (bits != 0).then(|| at * 64 + bits.trailing_zeros() as usize)
    }

    fn places(&self, member: usize) -> Option<(&AtomicU64, &AtomicU64)> {
        Some((
            self.words.get(member / 64)?,
            self.summary.get(member / 64 / 64)?,
        ))
    }
}

fn lazy(words: usize) -> Result<LazySlice<AtomicU64>, Errno> {
    LazySlice::reserve(words, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_empty_map_has_no_member() {
        let map = HintMap::new(100_000).unwrap();
        assert_eq!(map.next(0, usize::MAX), None);
        map.remove(5);
        assert_eq!(map.next(0, usize::MAX), None);
    }

    #[test]
    fn a_member_past_the_end_is_ignored() {
        let map = HintMap::new(64).unwrap();
        map.insert(1 << 40);
        assert_eq!(map.next(0, usize::MAX), None);
        assert_eq!(map.next(1 << 40, usize::MAX), None);
    }

    proptest! {
        #[test]
        fn it_finds_what_an_ordered_set_finds(changes in prop::collection::vec((any::<bool>(), 0usize..40_000), 0..200), from in 0usize..40_000, end in 0usize..50_000) {
            let (map, mut model) = (HintMap::new(40_000).unwrap(), BTreeSet::new());
            for (insert, member) in changes {
                if insert {
                    map.insert(member);
                    model.insert(member);
                } else {
                    map.remove(member);
                    model.remove(&member);
                }
                prop_assert_eq!(map.contains(member), insert);
            }
            prop_assert_eq!(map.next(0, usize::MAX), model.first().copied());
            let next = model.range(from..).next().copied();
            prop_assert_eq!(map.next(from, end), next.filter(|&next| next < end));
        }
    }
}
