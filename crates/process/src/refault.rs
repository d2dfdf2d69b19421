//! Where the engine tells the policy what happened to a block, and asks it.
//!
//! Called with the block's lock held, in faults too: a few loads, and the lock
//! of the lists where a block moves between them.

use vswap_space::GroupId;
use vswap_units::BLOCK_PAGES;

use crate::engine::Engine;
use crate::page_state::Tag;
use crate::reclaim::SPARE_RUNS;
use crate::region::BlockGuard;
use crate::victims::Policy;
use crate::window::Bounds;
use crate::workingset;

/// Frame runs kept beside the second-chance window: spares, and what is in flight.
const RUNS_BESIDE: usize = SPARE_RUNS + 8;

impl Engine {
    /// Blocks of a group that may be active now.
    pub(crate) fn most_active(&self, group: GroupId) -> usize {
        let (resident, cached) = self.own_pages_of(group);
        workingset::most_active(resident, cached)
    }

    /// What the second-chance window may be now.
    pub(crate) fn window_bounds(&self) -> Bounds {
        let runs = self.frames.runs().saturating_sub(RUNS_BESIDE);
        let fixed = self.victims.policy() == Policy::Fifo;
        Bounds::new(self.budget.ram(), runs, fixed)
    }

    /// Pages of a block were written out.
    pub(crate) fn note_written_out(&self, guard: &mut BlockGuard<'_>, pages: u32) {
        if pages == 0 {
            return;
        }
        guard.set_stamp(self.clock.advance(pages));
        self.window.written(u64::from(pages));
        self.queue_of(guard.group()).written_out(guard.index());
    }

    /// Pages `back` of a block were taken back from the swap cache (their states
    /// still say swapped).
    pub(crate) fn note_second_chance(&self, guard: &BlockGuard<'_>, back: u16) {
        self.window.hit(u64::from(back.count_ones()));
        if back != 0 && is_whole(guard, back) {
            self.note_used(guard);
        }
    }

    /// Pages `back` of a block were brought back from where their bytes rested
    /// (their states still say swapped).
    pub(crate) fn note_refault(&self, guard: &BlockGuard<'_>, back: u16) {
        let (pages, Some(stamp)) = (u64::from(back.count_ones()), guard.stamp()) else {
            return;
        };
        self.counters.workingset_refault_pages.add(pages);
        let distance = self.clock.since(stamp);
        self.window.refaulted(distance, pages, self.window_bounds());
        if distance > self.evictable_pages() {
            return;
        }
        if !is_whole(guard, back) {
            self.queue_of(guard.group()).pressed();
        } else if self.note_used(guard) {
            self.counters.workingset_activate_pages.add(pages);
        }
    }

    fn note_used(&self, guard: &BlockGuard<'_>) -> bool {
        let (group, block) = (guard.group(), guard.index());
        self.queue_of(group).used(block, self.most_active(group))
    }

    /// What reclaim can choose from, in pages.
    fn evictable_pages(&self) -> u64 {
        let resident = self.counters.resident_pages.get();
        resident.saturating_sub(self.counters.pinned_pages.get())
    }

    /// A block without pages in their place leaves the queues.
    pub(crate) fn forget_if_gone(&self, guard: &BlockGuard<'_>) {
        if guard.mask(|state| matches!(state.tag(), Tag::Resident | Tag::Freed)) == 0 {
            self.queue_of(guard.group()).forget(guard.index());
        }
    }
}

/// Is nearly all of the block (seven eighths of the pages it has) in its place,
/// and did half of it come back at one go? A block that is used here and there
/// stays an ordinary victim, also when it has filled up by and by: the more of
/// those are spared, the fewer pages reclaim finds in each of the others, and
/// at random none is better than another.
fn is_whole(guard: &BlockGuard<'_>, back: u16) -> bool {
    let out = (guard.tagged(Tag::Swapped) & !back).count_ones() as usize;
    let resident = (guard.tagged(Tag::Resident) | back).count_ones() as usize;
    debug_assert!(out + resident <= BLOCK_PAGES);
    out * 7 <= resident && back.count_ones() as usize * 2 >= out + resident
}
