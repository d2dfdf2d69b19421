//! The way out of a page: from its place to the staging area (cached), and
//! from there to where its bytes rest.

use vswap_platform::errno::Errno;
use vswap_platform::map;
use vswap_space::RunOut;
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

use crate::engine::Engine;
use crate::frames::Frames;
use crate::groups::Held;
use crate::names::Reserved;
use crate::page_state::{Name, PageState, Tag};
use crate::region::{BlockGuard, runs_of, slots, span};
use crate::trace::Event;
use crate::worker::Worker;

/// Cached runs tried where a group may have no room.
const RUNS_TRIED: u32 = 4;

/// May an operation wait for a lock, and break sharing left by a fork?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// A background thread: yes.
    Background,
    /// A fault in flight: never.
    Fault,
}

impl Engine {
    /// Moves what is evictable of a block into the staging area; returns how
    /// many pages left their place (moved, or freed ones dropped).
    pub(crate) fn take_block(&self, worker: &Worker, block: usize, patience: Patience) -> usize {
        let guard = match patience {
            Patience::Background => self.region.lock(block),
            Patience::Fault => self.region.try_lock(block),
        };
        let Some(mut guard) = guard else {
            self.queue_block(block);
            return 0;
        };
        self.settle(&mut guard);
        let stubborn = guard.mask(PageState::is_stubborn);
        let dropped = self.drop_freed(&mut guard);
        let moved = self.cache_block(worker, &mut guard, patience);
        // Passed over once; their bytes may be others the next time.
        for slot in slots(stubborn) {
            let state = guard.state(slot).tractable();
            guard.set(slot, state);
        }
        self.queue_or_forget(&guard);
        dropped + moved
    }

    /// What could not be moved now (shared since a fork, pinned by DMA) may move later.
    pub(crate) fn queue_or_forget(&self, guard: &BlockGuard<'_>) {
        if guard.mask(PageState::is_evictable) != 0 {
            self.queue_block(guard.index());
        } else {
            self.forget_if_gone(guard);
        }
    }

    /// Freed pages go without being swapped.
    fn drop_freed(&self, guard: &mut BlockGuard<'_>) -> usize {
        let freed = guard.mask(|state| state.tag() == Tag::Freed && state.pins() == 0);
        let gone = self.drop_pages(guard, freed);
        self.counters.freed_dropped_pages.add(gone as u64);
        gone
    }

    /// Drops present pages of a locked block; they are empty afterwards.
    pub(crate) fn drop_pages(&self, guard: &mut BlockGuard<'_>, mask: u16) -> usize {
        let mut gone = 0;
        for (first, count) in runs_of(mask) {
            if map::discard(guard.addr(first), count * PAGE_SIZE) != Ok(()) {
                continue;
            }
            for slot in first..first + count {
                guard.retag(slot, Tag::Empty);
            }
            gone += count;
        }
        self.pages_went(guard, gone as u32);
        self.budget.add_pages(-(gone as i64));
        gone
    }

    /// Books pages that are not in their places any more.
    pub(crate) fn pages_went(&self, guard: &BlockGuard<'_>, count: u32) {
        self.counters.resident_pages.sub(u64::from(count));
        self.count_pages(guard, Held::Resident, -i64::from(count));
    }

    fn cache_block(
        &self,
        worker: &Worker,
        guard: &mut BlockGuard<'_>,
        patience: Patience,
    ) -> usize {
        let mask = guard.mask(PageState::is_evictable);
        let Some(uffd) = worker.uffd.as_deref() else {
            return 0;
        };
        if mask == 0 {
            return 0;
        }
        let bound = guard.frame_run();
        let Some(run) = bound
            .or_else(|| self.frames.pop_empty())
            .or_else(|| self.empty_a_spare())
        else {
            self.queue_block(guard.index());
            return 0;
        };
        let wanted = mask.count_ones() as usize;
        let moved = match self.layer.reserve(guard.group(), wanted) {
            Some(reserved) => {
                let patient = patience == Patience::Background;
                let moved = self.move_out(worker, uffd, guard, run, mask, patient);
                self.bind(guard, run, moved, reserved);
                moved
            }
            None => 0,
        };
        if bound.is_none() {
            self.keep_cached(guard, run, moved);
        }
        moved.count_ones() as usize
    }

    /// Ties an owned run that holds pages of the block now to it; one that holds none is given back.
    pub(crate) fn keep_cached(&self, guard: &mut BlockGuard<'_>, run: u32, moved: u16) {
        if moved == 0 {
            self.frames.put(run);
        } else {
            guard.set_frame_run(Some(run));
            self.frames.put_cached(run, guard.index());
        }
    }

    /// Gives moved pages their names; those left over are given back.
    pub(crate) fn bind(
        &self,
        guard: &mut BlockGuard<'_>,
        run: u32,
        moved: u16,
        mut reserved: Reserved,
    ) {
        for slot in slots(moved) {
            let frame = Frames::frame(run, slot);
            let Some(name) = self.layer.bind(&mut reserved, frame) else {
                break;
            };
            let state = guard.state(slot).to_swapped(name);
            guard.set(slot, state);
        }
        self.layer.end_binding(reserved);
        let count = u64::from(moved.count_ones());
        self.counters.resident_pages.sub(count);
        self.count_pages(guard, Held::Resident, -(count as i64));
        self.count_pages(guard, Held::Cached, count as i64);
        self.counters.moved_out_pages.add(count);
        let swapped = self.counters.swapped_pages.add(count);
        self.counters.swapped_peak_pages.max(swapped);
    }

    /// Compresses the oldest cached run; the run is the caller's then, with
    /// frames whose contents nobody needs. `None`: nothing cached, or its
    /// block is busy, or there is no room for the bytes.
    pub(crate) fn write_out_oldest(&self, worker: &mut Worker, patience: Patience) -> Option<u32> {
        // Where a group has no room for its pages, others have.
        for _ in 0..if self.groups.any() { RUNS_TRIED } else { 1 } {
            let (run, block) = self.frames.pop_cached()?;
            let written = self.write_out_run(worker, run, block, patience);
            if written.is_some() {
                return written;
            }
        }
        None
    }

    /// The same with a run popped from the cached ones.
    pub(crate) fn write_out_run(
        &self,
        worker: &mut Worker,
        run: u32,
        block: usize,
        patience: Patience,
    ) -> Option<u32> {
        let guard = match patience {
            Patience::Background => self.region.lock(block),
            Patience::Fault => self.region.try_lock(block),
        };
        let Some(mut guard) = guard else {
            self.frames.requeue_cached(run);
            return None;
        };
        if guard.frame_run() != Some(run) {
            return Some(run);
        }
        worker.codec.set_refuses_raw(!self.takes_raw(guard.group()));
        worker.codec.set_prefers_slots(self.prefers_slots());
        let (failed, refused) = self.write_out(worker, &mut guard, run);
        let failed = failed | self.put_back(worker, &mut guard, run, refused);
        if failed != 0 {
            self.call_for_room(guard.group());
        }
        if failed != 0 && !self.put_back_if_stuck(worker, &mut guard, run) {
            self.frames.put_cached(run, block);
            return None;
        }
        guard.set_frame_run(None);
        Some(run)
    }

    /// Stores every cached page of the run; returns the slots that found no
    /// room, and those that are better kept in memory.
    fn write_out(&self, worker: &mut Worker, guard: &mut BlockGuard<'_>, run: u32) -> (u16, u16) {
        let cached = self.cached_in(guard, run) & self.frames.present(run);
        let (mut written, mut refused) = (0, 0);
        for (first, count) in runs_of(cached) {
            let began = self.trace.begin();
            let out = self.write_span(worker, guard, run, (first, count));
            let page = (guard.index() * BLOCK_PAGES + first) as u64;
            self.trace.end_each(began, Event::SwapOut, page, count);
            written |= out.done << first;
            refused |= out.refused << first;
        }
        self.note_written_out(guard, written.count_ones());
        self.count_pages(guard, Held::Cached, -i64::from(written.count_ones()));
        (cached & !written & !refused, refused)
    }

    /// Pages that do not compress go back to their places where no device would
    /// take them: in the log they would need the RAM they give. Returns the
    /// slots that stay cached.
    fn put_back(&self, worker: &Worker, guard: &mut BlockGuard<'_>, run: u32, mask: u16) -> u16 {
        let Some(uffd) = worker.uffd.as_deref().filter(|_| mask != 0) else {
            return mask;
        };
        let back = self.move_in(uffd, guard, run, mask).done;
        self.book_return(guard, back);
        for slot in slots(back) {
            let state = guard.state(slot).stubborn();
            guard.set(slot, state);
        }
        self.counters
            .rejected_pages
            .add(u64::from(back.count_ones()));
        mask & !back
    }

    /// Stores cached pages that are neighbours; says by bits, the first one's lowest, what became of them.
    fn write_span(
        &self,
        worker: &mut Worker,
        guard: &mut BlockGuard<'_>,
        run: u32,
        (first, count): (usize, usize),
    ) -> RunOut {
        let mut names = [Name::NOTHING; BLOCK_PAGES];
        for (slot, place) in (first..first + count).zip(names.iter_mut()) {
            *place = guard.state(slot).name().unwrap_or(Name::NOTHING);
        }
        let (Some(names), Some(pages)) =
            (names.get_mut(..count), self.frames.pages(run, first, count))
        else {
            return RunOut::default();
        };
        let out = self.layer.write_out(names, pages, &mut worker.codec);
        for (i, name) in names.iter().enumerate() {
            if out.done & span(i, 1) != 0 {
                let state = guard.state(first + i).to_swapped(*name);
                guard.set(first + i, state);
            }
        }
        out
    }

    /// When every run waits for faults, one of them has to go.
    fn empty_a_spare(&self) -> Option<u32> {
        let run = self.frames.pop_spare()?;
        let given_back = self.frames.discard(run, u16::MAX);
        self.budget.add_pages(-(given_back as i64));
        Some(run)
    }

    /// Gives an owned run's pages back to the kernel.
    pub(crate) fn empty_run(&self, run: u32) {
        let given_back = self.frames.discard(run, u16::MAX);
        self.budget.add_pages(-(given_back as i64));
        self.frames.put(run);
    }

    /// What a block of the program's range forgets when it is discarded:
    /// swapped pages give their names up, present ones go. All are empty then.
    pub(crate) fn empty_slots(&self, guard: &mut BlockGuard<'_>, mask: u16) -> Result<(), Errno> {
        self.settle(guard);
        let mut freed = [None; BLOCK_PAGES];
        for (slot, place) in slots(mask).zip(freed.iter_mut()) {
            let state = guard.state(slot);
            *place = state.name();
            if matches!(state.tag(), Tag::Swapped | Tag::Poisoned) {
                guard.retag(slot, Tag::Empty);
            }
        }
        self.release_names(guard, &freed);
        let present = guard.mask(|state| matches!(state.tag(), Tag::Resident | Tag::Freed)) & mask;
        let gone = self.drop_pages(guard, present);
        self.forget_if_gone(guard);
        if gone == present.count_ones() as usize {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }
}
