//! Bringing a page back: from the swap cache, or from where its bytes rest.
//!
//! How many neighbours come along (*fault-around*), and how many blocks are read
//! ahead meanwhile, follows what the program does (`ahead`).

use vswap_platform::log;
use vswap_platform::uffd::Userfaultfd;
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

use crate::engine::Engine;
use crate::fault::Outcome;
use crate::groups::Held;
use crate::mover::Installed;
use crate::names::Rests;
use crate::page_state::{Name, Tag};
use crate::region::{BlockGuard, run_around, runs_of, slots, span};
use crate::trace::Event;
use crate::worker::Worker;

impl Engine {
    /// Brings the swapped page `slot` back, and neighbours with it.
    pub(crate) fn swap_in(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        slot: usize,
    ) -> Outcome {
        let Some(name) = guard.state(slot).name() else {
            return Outcome::Failed;
        };
        let page = guard.index() * BLOCK_PAGES + slot;
        let began = self.trace.begin();
        self.layer.note_looks(1);
        if self.layer.rests_and_prefetch(name) == Rests::Frame {
            let outcome = self.take_back(uffd, guard, slot);
            self.trace.end(began, Event::TakeBack, page as u64);
            return outcome;
        }
        self.counters.faults_swap_in.inc();
        let around = self.look_ahead(guard, slot);
        let mask = self.choose_neighbours(guard, slot, around);
        let outcome = self.load(worker, uffd, guard, slot, mask);
        self.trace.end(began, Event::SwapIn, page as u64);
        outcome
    }

    /// A touch within the second-chance window: the frame goes back as it is.
    fn take_back(&self, uffd: &Userfaultfd, guard: &mut BlockGuard<'_>, slot: usize) -> Outcome {
        self.counters.faults_cached.inc();
        let Some(run) = guard.frame_run() else {
            return Outcome::Failed;
        };
        let cached = run_around(self.cached_in(guard, run), slot);
        let installed = self.move_in(uffd, guard, run, cached);
        self.counters
            .second_chance_pages
            .add(u64::from(installed.done.count_ones()));
        self.note_second_chance(guard, installed.done);
        self.finish(uffd, guard, slot, installed)
    }

    /// The slots of the block whose pages are in frames of `run`.
    pub(crate) fn cached_in(&self, guard: &BlockGuard<'_>, run: u32) -> u16 {
        self.layer
            .note_looks(guard.tagged(Tag::Swapped).count_ones());
        guard.mask(|state| {
            state
                .name()
                .is_some_and(|name| self.layer.is_cached(name, run))
        })
    }

    /// The faulting slot and neighbours worth bringing along: up to `window`
    /// pages from it on that need no I/O. Where the fault itself needs I/O, all
    /// of the block's pages that lie on devices: one read mostly covers them.
    fn choose_neighbours(&self, guard: &BlockGuard<'_>, slot: usize, window: usize) -> u16 {
        let rests = |slot: usize| guard.state(slot).name().map(|name| self.layer.rests(name));
        let faulting = rests(slot);
        let with_io = faulting == Some(Rests::Device);
        if matches!(faulting, Some(Rests::Device | Rests::Slot)) {
            self.handlers.call();
        }
        let near = match window {
            _ if with_io => u16::MAX,
            BLOCK_PAGES => u16::MAX,
            _ => span(slot, window.min(BLOCK_PAGES - slot)),
        };
        let others = match near & !span(slot, 1) {
            0 => 0,
            others => others & guard.tagged(Tag::Swapped),
        };
        self.layer.note_looks(1 + others.count_ones());
        let comes_along = |slot: &usize| match rests(*slot) {
            Some(Rests::Device) => with_io,
            Some(Rests::Slot) => faulting == Some(Rests::Slot),
            Some(Rests::Ram) => true,
            Some(Rests::Frame) | None => false,
        };
        let chosen = slots(others).filter(comes_along);
        chosen.fold(span(slot, 1), |chosen, other| chosen | span(other, 1))
    }

    fn load(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        slot: usize,
        mask: u16,
    ) -> Outcome {
        let run = self.run_to_fill(worker, guard.index(), mask);
        let in_frames = run.map_or(0, |run| mask & self.frames.present(run));
        let fresh = (mask & !in_frames).count_ones();
        if fresh > 0 {
            self.make_room(worker, fresh, guard.index());
        }
        let (mut decoded, mut installed) = self.bring(worker, uffd, guard, run, (slot, mask));
        if decoded & (1 << slot) == 0 {
            // A device may fail once; the bytes are given up only when it fails again.
            let again = self.bring(worker, uffd, guard, None, (slot, 1 << slot));
            decoded |= again.0;
            installed.done |= again.1.done;
            installed.occupied |= again.1.occupied;
        }
        if decoded & (1 << slot) == 0 {
            self.book_return(guard, installed.done);
            return self.not_decoded(uffd, guard, slot);
        }
        self.finish(uffd, guard, slot, installed)
    }

    /// Reads the pages `mask` (`slot` first) into the present frames of `run`, which
    /// is given back, or into the scratch block, and installs those that read well.
    /// Returns these, and what installing them came to.
    pub(crate) fn bring(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: Option<u32>,
        (slot, mask): (usize, u16),
    ) -> (u16, Installed) {
        let framed = run.map_or(0, |run| mask & self.frames.present(run));
        let decoded = self.decode(worker, guard, run.filter(|_| framed != 0), slot, mask);
        let mut installed = Installed::default();
        if let Some(run) = run {
            installed = self.move_in(uffd, guard, run, decoded & framed);
            self.frames.put(run);
        }
        self.copy_scratch(worker, uffd, guard, decoded & !framed, &mut installed);
        self.note_refault(guard, installed.done);
        (decoded, installed)
    }

    /// Reads pages into the run's present frames, else the scratch block; returns
    /// those read well. The faulting slot comes first: only the first is waited for.
    fn decode(
        &self,
        worker: &mut Worker,
        guard: &BlockGuard<'_>,
        run: Option<u32>,
        slot: usize,
        mask: u16,
    ) -> u16 {
        let order = || std::iter::once(slot).chain(slots(mask & !span(slot, 1)));
        let (scratch, codec) = worker.parts();
        let mut names = [Name::NOTHING; BLOCK_PAGES];
        let mut outs: [&mut [u8]; BLOCK_PAGES] = Default::default();
        let mut well = [false; BLOCK_PAGES];
        let mut count = 0;
        for slot in order() {
            let frame = run.and_then(|run| self.frames.page_mut(run, slot));
            let page = frame.or_else(|| scratch.slice_mut(slot * PAGE_SIZE, PAGE_SIZE));
            if let (Some(out), Some(place), Some(page), Some(name)) = (
                outs.get_mut(count),
                names.get_mut(count),
                page,
                guard.state(slot).name(),
            ) {
                (*out, *place) = (page, name);
                count += 1;
            }
        }
        if let (Some(names), Some(outs)) = (names.get(..count), outs.get_mut(..count)) {
            self.layer.read_block(names, outs, &mut well, codec);
        }
        let read = order().zip(&well).filter(|(_, well)| **well);
        read.fold(0, |read, (slot, _)| read | span(slot, 1))
    }

    /// The page itself could not be read back: its bytes are lost.
    fn not_decoded(&self, uffd: &Userfaultfd, guard: &mut BlockGuard<'_>, slot: usize) -> Outcome {
        let name = guard.state(slot).name();
        log::say(&["a swapped page cannot be read back correctly: it is poisoned"]);
        if let Some(name) = name {
            let mut freed = [None; BLOCK_PAGES];
            if let Some(first) = freed.first_mut() {
                *first = Some(name);
            }
            self.release_names(guard, &freed);
        }
        self.poison(uffd, guard, slot)
    }

    /// A spare run if one is at hand; when there is no room, one is made.
    pub(crate) fn run_to_fill(&self, worker: &mut Worker, block: usize, mask: u16) -> Option<u32> {
        let pages = mask.count_ones();
        self.frames.pop_spare().or_else(|| {
            if self.has_room(pages) {
                None
            } else {
                self.spare_run(worker, block)
            }
        })
    }

    fn copy_scratch(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        mask: u16,
        installed: &mut Installed,
    ) {
        for (first, count) in runs_of(mask) {
            let progress = uffd.copy(
                guard.addr(first),
                worker.scratch_addr(first),
                count * PAGE_SIZE,
            );
            let done = progress.done / PAGE_SIZE;
            installed.done |= span(first, done);
            self.budget.add_pages(done as i64);
            for slot in first + done..first + count {
                let source = worker.scratch_addr(slot);
                self.copy_in_pages(uffd, guard, (slot, 1), source, installed);
            }
        }
    }

    /// Ends a fault that brought pages back.
    fn finish(
        &self,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        slot: usize,
        installed: Installed,
    ) -> Outcome {
        self.book_return(guard, installed.done);
        if installed.occupied & (1 << slot) != 0 {
            log::say(&["a page that is swapped out was mapped without vswap: its place is taken"]);
            vswap_platform::signal::die();
        }
        match installed.done & (1 << slot) {
            0 => {
                let _ = uffd.wake(guard.addr(slot), PAGE_SIZE);
                Outcome::Deferred
            }
            _ => Outcome::Resolved,
        }
    }

    /// Books pages that are in their places again, and gives their names up.
    pub(crate) fn book_return(&self, guard: &mut BlockGuard<'_>, mask: u16) {
        let mut freed = [None; BLOCK_PAGES];
        for (back, place) in slots(mask).zip(freed.iter_mut()) {
            *place = guard.state(back).name();
            guard.retag(back, Tag::Resident);
        }
        self.release_names(guard, &freed);
        self.pages_came(guard, mask);
    }

    /// Gives up the names of up to a block's pages that are back or gone. A
    /// cached one's frame is dead from here on, found so when its run's turn comes.
    pub(crate) fn release_names(
        &self,
        guard: &BlockGuard<'_>,
        names: &[Option<Name>; BLOCK_PAGES],
    ) {
        let began = self.trace.begin();
        let released = self.layer.release(names);
        if released.pages > 0 {
            self.trace.end(began, Event::Free, released.pages as u64);
            self.count_pages(guard, Held::Cached, -(released.cached as i64));
            self.counters.swapped_pages.sub(released.pages as u64);
        }
    }
}
