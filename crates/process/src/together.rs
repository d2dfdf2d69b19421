//! Whole blocks that lie side by side go out by one MOVE, and what their frames
//! leave behind by one discard.
//!
//! **The argument.** Each of the two ends with the translations of its pages being
//! flushed, page by page up to 33 pages (x86), which in a virtual machine is a good
//! part of what swapping out costs besides compressing; for more pages the kernel
//! flushes once. Four blocks are 64 pages, and a fault on one of them that comes
//! just then waits for some 20 us.
//!
//! **If this is wrong** (the four are not used together), it is for nothing: which
//! blocks go out, and in which order, is not changed by it.
//!
//! **Pins:** the locks of all blocks that are moved are held; those after the first
//! are only taken where nobody has them. The frame runs are owned.

use vswap_platform::uffd::Userfaultfd;
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE, PAGE_SIZE};

use crate::engine::Engine;
use crate::evict::Patience;
use crate::names::Reserved;
use crate::page_state::PageState;
use crate::region::{BlockGuard, span};
use crate::worker::Worker;

/// Blocks, and runs, at a time.
pub(crate) const TOGETHER: usize = 4;

/// A locked block all of whose pages go out, with names for them.
type Whole<'a> = (BlockGuard<'a>, Reserved);

impl Engine {
    /// Moves neighbouring blocks out, and writes out what is in the way of that
    /// (an explicit `evict`).
    pub(crate) fn evict_blocks(&self, worker: &mut Worker, first: usize, count: usize) -> usize {
        while self.frames.empty_runs() < count && self.write_out_and_drop(worker, TOGETHER) {}
        self.take_blocks(worker, first, count)
    }

    /// Writes the oldest cached runs out, `most` at most, and gives their pages
    /// back; true if it did.
    pub(crate) fn write_out_and_drop(&self, worker: &mut Worker, most: usize) -> bool {
        let (mut runs, mut count) = ([0; TOGETHER], 0);
        for place in runs.iter_mut().take(most) {
            let Some(run) = self.write_out_oldest(worker, Patience::Background) else {
                break;
            };
            (*place, count) = (run, count + 1);
        }
        let written = runs.get_mut(..count).filter(|runs| !runs.is_empty());
        let Some(runs) = written else { return false };
        self.recycle_runs(worker, runs);
        self.room_event.signal();
        true
    }

    /// Takes `count` blocks from `first` on; returns how many pages left their
    /// places (moved, or freed ones dropped).
    pub(crate) fn take_blocks(&self, worker: &Worker, first: usize, count: usize) -> usize {
        let (blocks, mut taken) = self.take_whole_blocks(worker, first, count.min(TOGETHER));
        for block in first + blocks..first + count {
            taken += self.take_block(worker, block, Patience::Background);
        }
        taken
    }

    /// As far as the blocks from `first` on are whole: how many blocks, and pages.
    fn take_whole_blocks(&self, worker: &Worker, first: usize, count: usize) -> (usize, usize) {
        let uffd = worker.uffd.as_deref().filter(|uffd| uffd.has_move());
        let (Some(uffd), true) = (uffd, count > 1) else {
            return (0, 0);
        };
        let Some(run) = self.frames.pop_side_by_side(count) else {
            return (0, 0);
        };
        let mut whole: [Option<Whole<'_>>; TOGETHER] = [const { None }; TOGETHER];
        let mut found = 0;
        for place in whole.iter_mut().take(count) {
            *place = self.whole_block(first + found, found == 0);
            if place.is_none() {
                break;
            }
            found += 1;
        }
        for beyond in found..count {
            self.frames.put(run + beyond as u32);
        }
        (found, self.move_whole(worker, uffd, run, &mut whole))
    }

    /// Locks a block if every page of it is there to be taken.
    fn whole_block(&self, block: usize, may_wait: bool) -> Option<Whole<'_>> {
        let guard = match may_wait {
            true => self.region.lock(block),
            false => self.region.try_lock(block),
        };
        let mut guard = guard?;
        self.settle(&mut guard);
        let is_whole = guard.mask(PageState::is_evictable) == u16::MAX;
        let reserved = (is_whole && guard.frame_run().is_none())
            .then(|| self.layer.reserve(guard.group(), BLOCK_PAGES))??;
        Some((guard, reserved))
    }

    /// Moves the blocks into the runs from `run` on, each into its own.
    fn move_whole(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        run: u32,
        whole: &mut [Option<Whole<'_>>; TOGETHER],
    ) -> usize {
        let Some(Some((guard, _))) = whole.first() else {
            return 0;
        };
        let len = whole.iter().flatten().count() * BLOCK_SIZE;
        let moved = uffd.move_pages(self.frames.addr(run, 0), guard.addr(0), len, false);
        let (mut left, mut pages) = (moved.done / PAGE_SIZE, 0);
        for (run, (mut guard, reserved)) in (run..).zip(whole.iter_mut().filter_map(Option::take)) {
            let here = left.min(BLOCK_PAGES);
            left -= here;
            pages += self.cache_whole(worker, uffd, &mut guard, run, span(0, here), reserved);
        }
        pages
    }

    /// Books a block of which the pages `moved` are in `run`, and moves the others
    /// by themselves: what stopped the MOVE concerns one page.
    fn cache_whole(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: u32,
        mut moved: u16,
        reserved: Reserved,
    ) -> usize {
        self.frames.set_present(run, moved);
        if moved != u16::MAX {
            moved |= self.move_out(worker, uffd, guard, run, !moved, true);
        }
        self.bind(guard, run, moved, reserved);
        self.keep_cached(guard, run, moved);
        self.queue_or_forget(guard);
        moved.count_ones() as usize
    }
}
