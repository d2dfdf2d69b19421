//! Which entries of one cluster are handed out: 512 bits, and who allocates from it at the moment.
//!
//! Pure bookkeeping under the cluster's lock. Single entries prefer groups of 16 that are already broken, so that whole blocks
//! of 16 neighbours (what swap-out of a run wants) stay available.

use crate::entry::CLUSTER_ENTRIES;
use bytemuck::Zeroable;
use vswap_units::{Rank, rank};

/// Rank of a cluster's lock. Entries are allocated and freed while the page they belong to is locked, and segments are freed
/// while an entry is pinned, so clusters come after pages and frames and before segments.
pub(crate) const RANK: Rank = rank::FRAME + 1;
const _: () = assert!(RANK > rank::PAGE && RANK < rank::SEGMENT);

const WORDS: usize = CLUSTER_ENTRIES / 64;

/// What an allocation or free changed, for the caller to tell the cluster maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// At least one entry is free.
    pub(crate) single: bool,
    /// At least one aligned group of 16 is free.
    pub(crate) block: bool,
}

/// The state of a cluster, kept under its lock. All zero is a cluster that was never born.
#[derive(Clone, Copy, Zeroable)]
#[repr(C)]
pub(crate) struct ClusterState {
    taken: [u64; WORDS],
    used: u16,
    /// 1 + the worker that allocates from this cluster; 0 if none does.
    current_of: u8,
    /// Its page of the count side table was touched.
    pub(crate) counted: u8,
    pad: u32,
}

impl ClusterState {
    /// How many entries are handed out.
    pub(crate) const fn used(&self) -> usize {
        self.used as usize
    }

    pub(crate) const fn is_current_of(&self, worker: usize) -> bool {
        self.current_of as usize == worker + 1
    }

    pub(crate) const fn is_anyones_current(&self) -> bool {
        self.current_of != 0
    }

    pub(crate) fn set_current_of(&mut self, worker: Option<usize>) {
        self.current_of = worker.map_or(0, |worker| u8::try_from(worker + 1).unwrap_or(u8::MAX));
    }

    pub(crate) fn is_taken(&self, offset: usize) -> bool {
        self.taken
            .get(offset / 64)
            .is_some_and(|word| word >> (offset % 64) & 1 != 0)
    }

    /// The bits and the count agree.
    pub(crate) fn is_consistent(&self) -> bool {
        self.taken.iter().map(|word| word.count_ones()).sum::<u32>() == u32::from(self.used)
    }

    pub(crate) fn room(&self) -> Room {
        Room {
            single: self.used() < CLUSTER_ENTRIES,
            block: self.taken.iter().any(|&word| free_runs(word, 16) != 0),
        }
    }

    /// Takes `n` neighbours aligned to the next power of two, and says where they start.
    pub(crate) fn take(&mut self, n: usize) -> Option<usize> {
        let aligned = n.checked_next_power_of_two()?;
        if n == 0 || self.used() + n > CLUSTER_ENTRIES {
            return None;
        }
        let offset = match aligned {
            1 => self.find_single(),
            2..=64 => self.find_in_word(aligned),
            _ => self.find_words(aligned / 64),
        }?;
        self.mark(offset, n);
        Some(offset)
    }

    /// Gives one entry back; `false` if it was not handed out.
    pub(crate) fn give_back(&mut self, offset: usize) -> bool {
        let bit = 1u64 << (offset % 64);
        let Some(word) = self.taken.get_mut(offset / 64) else {
            return false;
        };
        if *word & bit == 0 {
            return false;
        }
        *word &= !bit;
        self.used -= 1;
        true
    }

    fn find_single(&self) -> Option<usize> {
        let broken = self.taken.iter().enumerate().find_map(|(i, &word)| {
            let whole = free_runs(word, 16);
            let whole = whole | whole << 1;
            let whole = whole | whole << 2;
            let whole = whole | whole << 4;
            let whole = whole | whole << 8;
            let candidates = !word & !whole;
            (candidates != 0).then(|| i * 64 + candidates.trailing_zeros() as usize)
        });
        broken.or_else(|| self.find_in_word(1))
    }

    fn find_in_word(&self, run: usize) -> Option<usize> {
        self.taken.iter().enumerate().find_map(|(i, &word)| {
            let starts = free_runs(word, run);
            (starts != 0).then(|| i * 64 + starts.trailing_zeros() as usize)
        })
    }

    fn find_words(&self, words: usize) -> Option<usize> {
        let at = self
            .taken
            .chunks(words)
            .position(|run| run.len() == words && run.iter().all(|&word| word == 0))?;
        Some(at * words * 64)
    }

    fn mark(&mut self, offset: usize, n: usize) {
        let mut left = n;
        for word in self.taken.iter_mut().skip(offset / 64) {
            if left == 0 {
                break;
            }
            let here = left.min(64);
            let ones = u64::MAX >> (64 - here);
            *word |= if here == 64 {
                ones
            } else {
                ones << (offset % 64)
            };
            left -= here;
        }
        self.used += n as u16;
    }
}

/// A bit at every aligned place of `word` where `run` (a power of two up to 64) bits are all 0.
const fn free_runs(word: u64, run: usize) -> u64 {
    let mut free = !word;
    let mut have = 1;
    while have < run {
        free &= free >> have;
        have *= 2;
    }
    free & aligned_places(run)
}

const fn aligned_places(run: usize) -> u64 {
    match run {
        1 => u64::MAX,
        2 => 0x5555_5555_5555_5555,
        4 => 0x1111_1111_1111_1111,
        8 => 0x0101_0101_0101_0101,
        16 => 0x0001_0001_0001_0001,
        32 => 0x0000_0001_0000_0001,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn empty() -> ClusterState {
        ClusterState::zeroed()
    }

    #[test]
    fn a_full_cluster_refuses() {
        let mut cluster = empty();
        assert_eq!(cluster.take(512), Some(0));
        assert_eq!(cluster.take(1), None);
        assert_eq!(
            cluster.room(),
            Room {
                single: false,
                block: false
            }
        );
    }

    #[test]
    fn single_entries_leave_whole_blocks_alone() {
        let mut cluster = empty();
        assert_eq!(cluster.take(1), Some(0));
        assert_eq!(cluster.take(16), Some(16));
        for expected in 1..16 {
            assert_eq!(cluster.take(1), Some(expected));
        }
        assert_eq!(cluster.take(1), Some(32));
    }

    #[test]
    fn an_entry_is_given_back_once() {
        let mut cluster = empty();
        assert_eq!(cluster.take(3), Some(0));
        assert!(cluster.give_back(1));
        assert!(!cluster.give_back(1));
        assert!(!cluster.give_back(511));
        assert_eq!(cluster.used(), 2);
    }

    #[test]
    fn ranges_wider_than_a_word_are_found() {
        let mut cluster = empty();
        assert_eq!(cluster.take(1), Some(0));
        assert_eq!(cluster.take(200), Some(256));
        assert_eq!(cluster.take(128), Some(128));
        assert_eq!(cluster.take(128), None);
        assert!(cluster.is_consistent());
    }

    proptest! {
        #[test]
        fn handed_out_ranges_are_aligned_and_never_overlap(sizes in prop::collection::vec((1usize..=64, any::<u16>()), 1..300)) {
            let (mut cluster, mut model) = (empty(), [false; 512]);
            for (n, victim) in sizes {
                match cluster.take(n) {
                    Some(at) => {
                        prop_assert_eq!(at % n.next_power_of_two(), 0);
                        for slot in &mut model[at..at + n] {
                            prop_assert!(!*slot);
                            *slot = true;
                        }
                    }
                    None => {
                        let step = n.next_power_of_two();
                        prop_assert!(!(0..512).step_by(step).any(|at| model[at..at + step].iter().all(|taken| !taken)));
                    }
                }
                let victim = usize::from(victim) % 512;
                prop_assert_eq!(cluster.give_back(victim), model[victim]);
                model[victim] = false;
                prop_assert!(cluster.is_consistent());
                prop_assert!((0..512).all(|at| cluster.is_taken(at) == model[at]));
            }
        }
    }
}
