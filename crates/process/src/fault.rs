//! The door every fault comes in by and leaves by: resolved, deferred, or
//! failed loudly. No fourth way.
//!
//! Runs on a handler thread, or in the SIGBUS handler of the faulting thread:
//! no allocation, no interpreter, no managed address is read here.

use vswap_platform::clock::now_ns;
use vswap_platform::log;
use vswap_platform::pagemap;
use vswap_platform::uffd::Userfaultfd;
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

use crate::engine::Engine;
use crate::groups::Held;
use crate::page_state::{PageState, Tag};
use crate::region::{BlockGuard, run_around, runs_of, span};
use crate::trace::Event;
use crate::worker::Worker;

/// How a fault left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The page is there; the thread goes on.
    Resolved,
    /// Nothing was done; the thread tries again.
    Deferred,
    /// The page is poisoned: the thread gets SIGBUS.
    Failed,
    /// The address is not in this engine's region.
    NotOurs,
}

impl Engine {
    /// Resolves a fault at `addr`.
    pub fn resolve(&self, worker: &mut Worker, addr: usize) -> Outcome {
        let Some(page) = self.region.page_of(addr) else {
            return Outcome::NotOurs;
        };
        self.region.prefetch(page);
        let started = now_ns();
        self.wait_for_room(worker, page);
        self.admit_to_group(worker, page);
        let inside = self.world.enter();
        let outcome = self.resolve_page(worker, page);
        drop(inside);
        self.after_fault(started);
        outcome
    }

    fn after_fault(&self, started: u64) {
        let took = now_ns().saturating_sub(started);
        self.counters.faults.inc();
        self.counters.waited_ns.add(took);
        self.latency.record(took);
        if self.held() > self.budget.low() {
            self.reclaim_event.signal();
        }
    }

    fn resolve_page(&self, worker: &mut Worker, page: usize) -> Outcome {
        let Some(uffd) = worker.uffd.clone() else {
            return Outcome::Failed;
        };
        let (block, slot) = (page / BLOCK_PAGES, page % BLOCK_PAGES);
        let guard = self.region.try_lock(block).or_else(|| {
            self.help_read_ahead(worker, &uffd, page);
            self.region.lock_for_fault(block)
        });
        let Some(mut guard) = guard else {
            return Outcome::NotOurs;
        };
        let state = guard.state(slot);
        match state.tag() {
            Tag::Unknown | Tag::Empty => {
                let began = self.trace.begin();
                let outcome = self.zero_fill(worker, &uffd, &mut guard, slot);
                self.trace.end(began, Event::ZeroFill, page as u64);
                outcome
            }
            Tag::Swapped => self.swap_in(worker, &uffd, &mut guard, slot),
            Tag::Resident | Tag::Freed => self.stale(&uffd, &mut guard, slot),
            Tag::Poisoned => self.poison(&uffd, &mut guard, slot),
            Tag::Foreign => wake(&uffd, &guard, slot, Outcome::Deferred),
        }
    }

    /// First touch: a block's worth of zero pages around the fault.
    fn zero_fill(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        slot: usize,
    ) -> Outcome {
        self.counters.faults_zero_fill.inc();
        self.settle(guard);
        if guard.state(slot).tag() == Tag::Resident {
            return wake(uffd, guard, slot, Outcome::Resolved);
        }
        self.look_ahead_afresh(guard, slot);
        let mask = run_around(guard.tagged(Tag::Empty), slot);
        let mut filled = self.fill_zeros(worker, uffd, guard, mask);
        if filled & (1 << slot) == 0 {
            filled |= self.fill_zeros(worker, uffd, guard, 1 << slot);
        }
        self.book_first_touch(guard, filled);
        match filled & (1 << slot) {
            0 => wake(uffd, guard, slot, Outcome::Deferred),
            _ => Outcome::Resolved,
        }
    }

    /// Books pages that hold their first zeros.
    pub(crate) fn book_first_touch(&self, guard: &mut BlockGuard<'_>, filled: u16) {
        for done in crate::region::slots(filled) {
            guard.retag(done, Tag::Resident);
        }
        self.pages_came(guard, filled);
    }

    fn fill_zeros(
        &self,
        worker: &mut Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        mask: u16,
    ) -> u16 {
        let moved = match self.run_to_fill(worker, guard.index(), mask) {
            Some(run) => self.move_zeros(uffd, guard, run, mask),
            None => 0,
        };
        let rest = mask & !moved;
        if rest != 0 {
            self.make_room(worker, rest.count_ones(), guard.index());
        }
        let copied = self.copy_zeros(uffd, guard, rest);
        // A page that is there although we thought it empty was put there by
        // the program or the kernel: it is its contents that count.
        moved | copied.done | copied.occupied
    }

    /// What cannot be moved is left to be copied at one go: page by page, pages
    /// that nobody was given (inaccessible, in the same block) would get zeros.
    pub(crate) fn move_zeros(
        &self,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        run: u32,
        mask: u16,
    ) -> u16 {
        let ready = match uffd.has_move() {
            true => mask & self.frames.present(run),
            false => 0,
        };
        for slot in crate::region::slots(ready) {
            if let Some(frame) = self.frames.page_mut(run, slot) {
                frame.fill(0);
            }
        }
        let mut moved = 0;
        for (first, count) in runs_of(ready) {
            let (done, _) = self.move_from_frames(uffd, guard, run, (first, count));
            moved |= span(first, done);
        }
        self.frames.put(run);
        moved
    }

    /// The state says the page is there: another thread was faster. If it is
    /// not there, somebody removed it behind our back and its bytes are lost;
    /// that is said, never papered over with zeros.
    fn stale(&self, uffd: &Userfaultfd, guard: &mut BlockGuard<'_>, slot: usize) -> Outcome {
        self.counters.faults_stale.inc();
        let mut presence = [0u8; 1];
        let asked = pagemap::holding(guard.addr(slot), PAGE_SIZE, &mut presence);
        if asked.is_ok() && presence == [0] {
            log::say(&[
                "a managed page was removed without vswap (a raw madvise or munmap?); its bytes are lost",
            ]);
            return self.poison(uffd, guard, slot);
        }
        wake(uffd, guard, slot, Outcome::Resolved)
    }

    /// Makes every touch of the page a SIGBUS.
    pub(crate) fn poison(
        &self,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        slot: usize,
    ) -> Outcome {
        if guard.state(slot).tag() != Tag::Poisoned {
            guard.set(slot, PageState::of(Tag::Poisoned));
            self.counters.poisoned_pages.inc();
        }
        let poisoned = uffd.poison(guard.addr(slot), PAGE_SIZE);
        if poisoned.done == 0 && !uffd.has_poison() {
            log::say(&[
                "a page cannot be read back, and this kernel cannot poison it: stopping the program",
            ]);
            vswap_platform::signal::die();
        }
        Outcome::Failed
    }

    /// Finds out which pages of a block are there, the first time it matters.
    pub(crate) fn settle(&self, guard: &mut BlockGuard<'_>) {
        if guard.is_settled() {
            return;
        }
        let mut presence = [0u8; BLOCK_PAGES];
        if pagemap::holding(guard.addr(0), presence.len() * PAGE_SIZE, &mut presence).is_err() {
            return;
        }
        for (slot, present) in presence.iter().enumerate() {
            if guard.state(slot).tag() == Tag::Unknown {
                let tag = if present & 1 != 0 {
                    Tag::Resident
                } else {
                    Tag::Empty
                };
                guard.retag(slot, tag);
            }
        }
        guard.set_settled();
    }

    /// Books pages that came into their places.
    pub(crate) fn pages_came(&self, guard: &BlockGuard<'_>, mask: u16) {
        if mask != 0 {
            self.counters
                .resident_pages
                .add(u64::from(mask.count_ones()));
            self.count_pages(guard, Held::Resident, i64::from(mask.count_ones()));
            self.queue_block(guard.index());
        }
    }

    /// Counts pages for the group that pays for the block.
    #[inline]
    pub(crate) fn count_pages(&self, guard: &BlockGuard<'_>, what: Held, pages: i64) {
        if self.groups.any() {
            let tree = self.layer.store().groups();
            self.groups.count(tree, guard.group(), what, pages);
        }
    }
}

fn wake(uffd: &Userfaultfd, guard: &BlockGuard<'_>, slot: usize, outcome: Outcome) -> Outcome {
    let _ = uffd.wake(guard.addr(slot), PAGE_SIZE);
    outcome
}
