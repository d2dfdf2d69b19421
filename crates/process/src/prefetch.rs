//! What the program asks for before it touches it: prefetch, and the pages of a pin.
//!
//! Nobody faults here, so no page is given up because it cannot be read just now
//! (the touch finds out whether it still cannot), and nothing counts as a fault.
//! Room is made as for faults: the program has asked.

use vswap_platform::uffd::Userfaultfd;
use vswap_units::BLOCK_PAGES;

use crate::engine::Engine;
use crate::names::Rests;
use crate::page_state::Tag;
use crate::region::{BlockGuard, slots, span};
use crate::trace::Event;
use crate::worker::Worker;

impl Engine {
    /// Brings in what is out of a range, as far as it reads well; on an engine
    /// thread. Returns how many of its pages are in memory then.
    pub(crate) fn load_range(&self, worker: &mut Worker, first: usize, count: usize) -> u64 {
        let (mut page, end, mut present) = (first, first + count, 0);
        while page < end {
            let slot = page % BLOCK_PAGES;
            let pages = (BLOCK_PAGES - slot).min(end - page);
            present += self.load_block(worker, page / BLOCK_PAGES, span(slot, pages));
            page += pages;
        }
        present
    }

    fn load_block(&self, worker: &mut Worker, block: usize, wanted: u16) -> u64 {
        let pages = || slots(wanted).map(|slot| block * BLOCK_PAGES + slot);
        let is_out = |page: &usize| self.region.state_hint(*page).tag() == Tag::Swapped;
        if let Some(page) = pages().find(is_out) {
            self.wait_for_room(worker, page);
            self.admit_to_group(worker, page);
            let _inside = self.world.enter();
            if let (Some(uffd), Some(mut guard)) =
                (worker.uffd.clone(), self.region.lock_for_fault(block))
            {
                self.take_frames_back(&uffd, &mut guard, wanted);
                self.read_wanted(worker, &uffd, &mut guard, wanted);
            }
        }
        let here = |page: &usize| self.region.state_hint(*page).tag() == Tag::Resident;
        pages().filter(here).count() as u64
    }

    /// Pages that are in their frames still go back as they are.
    fn take_frames_back(&self, uffd: &Userfaultfd, guard: &mut BlockGuard<'_>, wanted: u16) {
        let Some(run) = guard.frame_run() else {
            return;
        };
        let cached = self.cached_in(guard, run) & wanted;
        if cached != 0 {
            let installed = self.move_in(uffd, guard, run, cached);
            let back = u64::from(installed.done.count_ones());
            self.counters.second_chance_pages.add(back);
            self.note_second_chance(guard, installed.done);
            self.book_return(guard, installed.done);
        }
    }

    fn read_wanted(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        wanted: u16,
    ) {
        let out = self.read_from_elsewhere(guard) & wanted;
        if out == 0 {
            return;
        }
        let run = self.run_to_fill(worker, guard.index(), out);
        let in_frames = run.map_or(0, |run| out & self.frames.present(run));
        let fresh = (out & !in_frames).count_ones();
        if fresh > 0 {
            self.make_room(worker, fresh, guard.index());
        }
        self.bring_back(worker, uffd, guard, run, out);
    }

    /// The pages of a block whose bytes have to be read: they are not in frames.
    pub(crate) fn read_from_elsewhere(&self, guard: &BlockGuard<'_>) -> u16 {
        self.resting(guard, |rests| rests != Rests::Frame)
    }

    /// The pages of a block that are out and rest where `test` says.
    pub(crate) fn resting(&self, guard: &BlockGuard<'_>, test: fn(Rests) -> bool) -> u16 {
        self.layer
            .note_looks(guard.tagged(Tag::Swapped).count_ones());
        guard.mask(|state| {
            state
                .name()
                .is_some_and(|name| test(self.layer.rests(name)))
        })
    }

    /// Reads the pages `out` of a block, which nobody waits for, and books those
    /// that read well; returns these.
    pub(crate) fn bring_back(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: Option<u32>,
        out: u16,
    ) -> u16 {
        let began = self.trace.begin();
        let slot = out.trailing_zeros() as usize;
        let (_, installed) = self.bring(worker, uffd, guard, run, (slot, out));
        self.book_return(guard, installed.done);
        let page = guard.index() * BLOCK_PAGES + slot;
        self.trace.end(began, Event::SwapIn, page as u64);
        installed.done
    }
}
