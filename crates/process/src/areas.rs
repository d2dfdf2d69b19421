//! Where faults gather: the second look at whether to read ahead.
//!
//! **The argument.** A program that gathers, sorts or merges goes through a
//! column in no order, and will have touched all of it soon. No stream shows
//! that, but its faults are near each other: of the blocks that lie out in an
//! *area* (16 blocks at most) where two have been faulted in lately, nearly all
//! are wanted before they would go out again (13,600 of 13,700 in the flights
//! job at a third of its memory). At random over more than the budget, faults
//! meet in an area only by chance: all areas remembered make up an eighth of
//! the budget, so that share stays under an eighth, and nothing is read ahead
//! under a quarter.
//!
//! **If this is wrong** (a hot spot in an area, and nothing beside it), a fault
//! brings in an area too much, a 256th of the budget.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::average::Average;

/// Areas remembered.
const AREAS: usize = 32;
/// Blocks of an area at most.
pub const WIDEST: usize = 16;
/// From this average (of 256) on areas are read ahead.
const GATHERED: u32 = 64;

/// The areas of recent faults, shared by all threads; every word is a hint.
#[derive(Default)]
pub struct Areas {
    /// Area << 16 | its blocks that were faulted in.
    recent: [AtomicU64; AREAS],
    /// Faults near another one.
    near: Average<4>,
}

impl Areas {
    /// A fault that no stream explains has brought `block` in. Returns the first
    /// block of an area of `blocks` (a power of two, [`WIDEST`] at most) that is
    /// worth reading ahead.
    pub fn note(&self, block: usize, blocks: usize) -> Option<usize> {
        let area = block / blocks;
        let word = self.recent.get(area % AREAS)?;
        let own = 1u64 << (block % blocks);
        let tagged = (area as u64) << WIDEST;
        let before = word.load(Ordering::Relaxed);
        let known = before >> WIDEST == area as u64;
        let others = before & ((1 << WIDEST) - 1) & !own;
        let near = known && others != 0;
        let gathered = self.near.learn(near) >= GATHERED;
        let ask = near && gathered;
        let kept = if known && !ask {
            before | own
        } else {
            tagged | own
        };
        word.store(kept, Ordering::Relaxed);
        ask.then_some(area * blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, blocks: usize) -> impl Iterator<Item = usize> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        (0..count).map(move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as usize % blocks
        })
    }

    #[test]
    fn faults_in_no_order_within_one_column_have_its_areas_read_ahead_whole() {
        let areas = Areas::default();
        let asked = random(200, 160).filter_map(|block| areas.note(block, WIDEST));
        let asked: Vec<_> = asked.collect();
        assert!(asked.len() > 50);
        assert!(
            asked
                .iter()
                .all(|first| first % WIDEST == 0 && *first < 160)
        );
    }

    #[test]
    fn faults_at_random_over_more_than_the_budget_have_nothing_read_ahead() {
        // An area is a 256th of the budget.
        for budgets in 1..4 {
            let areas = Areas::default();
            let blocks = budgets * 256 * WIDEST;
            let asked = random(20_000, blocks).filter_map(|block| areas.note(block, WIDEST));
            assert_eq!(asked.count(), 0, "{budgets}");
        }
    }

    #[test]
    fn the_same_block_again_and_again_is_no_gathering() {
        let areas = Areas::default();
        assert!((0..1000).all(|_| areas.note(77, WIDEST).is_none()));
    }
}
