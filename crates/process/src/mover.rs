//! Pages between the program's place and the frames.
//!
//! With `UFFDIO_MOVE` (Linux 6.8): no copy, atomic against writers; what it
//! refuses for the protection of the place goes aside first (`aside`). Without
//! it everything does, and is copied from there; `UFFDIO_COPY` on the way in.
//!
//! **Pins:** the caller holds the block's lock and owns (or holds through that
//! lock) the frame run. Both ends' states change only by what is returned here.

use vswap_platform::errno::Errno;
use vswap_platform::map;
use vswap_platform::uffd::Userfaultfd;
use vswap_units::PAGE_SIZE;

use crate::engine::Engine;
use crate::region::{BlockGuard, runs_of, span};
use crate::worker::Worker;

/// What installing pages into the program's place came to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Installed {
    /// Slots that are present now through us.
    pub done: u16,
    /// A slot where a page was present although its state says it is not.
    pub occupied: u16,
}

impl Engine {
    /// Moves the pages `mask` of the block out into `run`; returns those moved.
    /// `patient`: may break sharing left by a fork (not from a fault handler,
    /// whose wait for another fault would never end).
    pub(crate) fn move_out(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: u32,
        mask: u16,
        patient: bool,
    ) -> u16 {
        let stale = self.frames.present(run) & mask;
        if stale != 0 {
            let given_back = self.frames.discard(run, stale);
            self.budget.add_pages(-(given_back as i64));
        }
        // MOVE is to find the frames missing, or it cannot tell what it moved.
        let mask = mask & !self.frames.present(run);
        let mut moved = 0;
        for (first, count) in runs_of(mask) {
            moved |= self.move_out_span(worker, uffd, guard, run, (first, count), patient);
        }
        self.frames.set_present(run, moved);
        moved
    }

    fn move_out_span(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: u32,
        (first, count): (usize, usize),
        mut patient: bool,
    ) -> u16 {
        let (mut slot, end, mut moved, mut one_by_one) = (first, first + count, 0, false);
        while slot < end {
            let rest = if one_by_one { 1 } else { end - slot };
            let from = (guard.addr(slot), rest);
            let (done, error) = self.move_to_frames(uffd, run, slot, from, &mut patient);
            moved |= span(slot, done);
            slot += done;
            let Some(error) = error else { continue };
            // These pages differ from their frames, or lie in more than one mapping.
            if error == Errno::EINVAL {
                let pages = (slot, end - slot);
                if let Some((count, gone)) =
                    self.take_aside(worker, uffd, guard, run, pages, one_by_one)
                {
                    moved |= gone;
                    slot += count;
                    continue;
                }
                if !one_by_one && rest > 1 {
                    one_by_one = true;
                    continue;
                }
            }
            self.refuse(guard, slot, error);
            slot += 1;
        }
        moved
    }

    /// MOVEs `count` pages at `from` to frames from `slot` on; says how many,
    /// and why not more. EINVAL where there is no MOVE.
    pub(crate) fn move_to_frames(
        &self,
        uffd: &Userfaultfd,
        run: u32,
        slot: usize,
        (from, count): (usize, usize),
        may_unshare: &mut bool,
    ) -> (usize, Option<Errno>) {
        if !uffd.has_move() {
            return (0, Some(Errno::EINVAL));
        }
        let go_on = |done: usize| {
            let (to, len) = (
                self.frames.addr(run, slot + done),
                (count - done) * PAGE_SIZE,
            );
            let progress = uffd.move_pages(to, from + done * PAGE_SIZE, len, false);
            (done + progress.done / PAGE_SIZE, progress.error)
        };
        let (done, error) = go_on(0);
        let shared = error == Some(Errno::EBUSY) && std::mem::take(may_unshare);
        if shared && self.unshare_pages(from + done * PAGE_SIZE, (count - done) * PAGE_SIZE) {
            return go_on(done);
        }
        (done, error)
    }

    /// Breaks copy-on-write sharing of pages that are present. Pages that are
    /// not would wait for a fault handler that may wait for our lock, so
    /// presence is asked first.
    fn unshare_pages(&self, addr: usize, len: usize) -> bool {
        let mut presence = [0u8; 16];
        let Some(pages) = presence.get_mut(..len / PAGE_SIZE) else {
            return false;
        };
        map::resident(addr, len, pages).is_ok()
            && pages.iter().all(|page| page & 1 != 0)
            && map::populate_write(addr, len).is_ok()
    }

    pub(crate) fn refuse(&self, guard: &mut BlockGuard<'_>, slot: usize, error: Errno) {
        self.counters.unmovable_pages.inc();
        // A protection or a lock lasts until the program changes it, which we
        // see; DMA pins come and go unseen, so they are tried again.
        if error == Errno::EINVAL {
            let state = guard.state(slot).unmovable();
            guard.set(slot, state);
        }
    }

    /// Puts the frames `mask` of `run` into the program's place. Frames that
    /// had to be copied stay present, with contents nobody needs.
    pub(crate) fn move_in(
        &self,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        run: u32,
        mask: u16,
    ) -> Installed {
        let mut all = Installed::default();
        for (first, count) in runs_of(mask) {
            let (mut slot, end) = (first, first + count);
            while slot < end {
                let (done, error) = self.move_from_frames(uffd, guard, run, (slot, end - slot));
                all.done |= span(slot, done);
                slot += done;
                if slot < end {
                    // Places are read-only side by side, frames shared one by one.
                    let whole = error == Some(Errno::EINVAL);
                    let count = if whole { end - slot } else { 1 };
                    let source = self.frames.addr(run, slot);
                    slot += self.copy_in_pages(uffd, guard, (slot, count), source, &mut all);
                }
            }
        }
        all
    }

    /// MOVEs frames into the program's place; says how many, and why not more.
    pub(crate) fn move_from_frames(
        &self,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        run: u32,
        (slot, count): (usize, usize),
    ) -> (usize, Option<Errno>) {
        if !uffd.has_move() {
            return (0, None);
        }
        let (to, from) = (guard.addr(slot), self.frames.addr(run, slot));
        let progress = uffd.move_pages(to, from, count * PAGE_SIZE, false);
        let done = progress.done / PAGE_SIZE;
        self.frames.set_absent(run, span(slot, done));
        (done, progress.error)
    }

    /// Copies pages to where they are missing: what MOVE refuses (frames shared
    /// since a fork, read-only places) COPY can do. Returns how many pages that
    /// settled, the one that could not be copied among them.
    pub(crate) fn copy_in_pages(
        &self,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        (slot, count): (usize, usize),
        source: usize,
        all: &mut Installed,
    ) -> usize {
        let progress = uffd.copy(guard.addr(slot), source, count * PAGE_SIZE);
        let done = progress.done / PAGE_SIZE;
        all.done |= span(slot, done);
        self.budget.add_pages(done as i64);
        match progress.error {
            None => done,
            Some(Errno::EEXIST) => {
                all.occupied |= span(slot + done, 1);
                done + 1
            }
            // They may lie in two mappings.
            Some(_) if count > 1 => {
                let source = source + done * PAGE_SIZE;
                done + self.copy_in_pages(uffd, guard, (slot + done, 1), source, all)
            }
            Some(_) => 1,
        }
    }

    /// Installs zero pages in the slots `mask` by COPY (cheaper than ZEROPAGE,
    /// whose page is copied again at the first write).
    pub(crate) fn copy_zeros(
        &self,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        mask: u16,
    ) -> Installed {
        let mut all = Installed::default();
        for (first, count) in runs_of(mask) {
            let progress = uffd.copy(guard.addr(first), self.zeros.addr(), count * PAGE_SIZE);
            let done = progress.done / PAGE_SIZE;
            all.done |= span(first, done);
            self.budget.add_pages(done as i64);
            if done < count && progress.error == Some(Errno::EEXIST) {
                all.occupied |= span(first + done, 1);
            }
        }
        all
    }
}
