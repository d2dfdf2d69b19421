//! The way out of places the program may not write: read-only, or inaccessible.
//!
//! MOVE takes pages from writable places only, and a place that were opened for
//! a moment would let through a write that the program wants to fault. So the
//! pages go *aside* first: mremap takes them to a range of the worker's own, and
//! leaves the program's mapping where it is, empty and registered. That is as
//! atomic as MOVE and copies as little; from there MOVE takes them as any. Back
//! in their places they are copied, for MOVE refuses that way too.
//!
//! Kernels without MOVE (before 6.8) copy from aside, wherever the pages were:
//! nobody writes there but devices, and that none does is asked before the copy
//! (`map::nobody_else_holds`). Nobody finds such a page by an address any more,
//! so the answer stays true.
//!
//! What is refused aside is pinned: a device may write to that very page, so
//! the page itself goes back, which only mremap can do. It brings its mapping
//! along, and with it a protection: the one that the program's mapping has, as
//! the kernel says. [`Engine::protect`] is kept out meanwhile; a raw mprotect of
//! just that page in just that moment is lost.
//!
//! **Pins:** the caller holds the block's lock and the worker, whose range
//! aside is empty but during [`Engine::take_aside`].

use vswap_platform::errno::Errno;
use vswap_platform::map::{self, Prot};
use vswap_platform::pagemap;
use vswap_platform::uffd::Userfaultfd;
use vswap_platform::{log, signal};
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE, PAGE_SIZE};

use crate::engine::Engine;
use crate::mover::Installed;
use crate::region::{BlockGuard, runs_of, slots, span};
use crate::worker::Worker;

/// What became of pages that were taken aside.
#[derive(Clone, Copy, Default)]
struct Aside {
    /// In their frames.
    moved: u16,
    /// Pinned: to be tried again.
    busy: u16,
    /// Refused for good, until the program changes something.
    odd: u16,
}

impl Engine {
    /// Moves neighbours aside, or (`one_by_one`) the first alone where they do
    /// not go together. Says of how many it decided, and which were moved.
    pub(crate) fn take_aside(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: u32,
        (first, count): (usize, usize),
        one_by_one: bool,
    ) -> Option<(usize, u16)> {
        let mut go = |count| {
            let moved = self.move_aside(worker, uffd, guard, run, (first, count));
            moved.ok().map(|moved| (count, moved))
        };
        go(count).or_else(|| if one_by_one && count > 1 { go(1) } else { None })
    }

    /// Moves neighbours that MOVE refuses for their mapping's sake into their
    /// frames; returns those moved. The others are as they were, and marked.
    ///
    /// # Errors
    /// EINVAL for locked memory, EFAULT where the pages are not of one mapping,
    /// else the kernel's; nothing was moved.
    fn move_aside(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: u32,
        (first, count): (usize, usize),
    ) -> Result<u16, Errno> {
        let (addr, len) = (guard.addr(first), count * PAGE_SIZE);
        // mremap would unlock the whole mapping.
        map::reclaimable(addr, len)?;
        map::remap_away(addr, len, worker.aside_addr(first))?;
        let gone = match map::protect(worker.aside_addr(first), len, Prot::READ_WRITE) {
            Ok(()) if uffd.has_move() => {
                self.move_from_aside(worker, uffd, guard, run, (first, count))
            }
            Ok(()) => self.copy_from_aside(worker, guard, run, (first, count)),
            Err(_) => Aside {
                busy: span(first, count),
                ..Aside::default()
            },
        };
        for slot in slots(gone.busy | gone.odd) {
            self.put_back_from_aside(worker, uffd, guard, slot);
        }
        for slot in slots(gone.odd) {
            self.refuse(guard, slot, Errno::EINVAL);
        }
        for slot in slots(gone.busy) {
            self.refuse(guard, slot, Errno::EBUSY);
            // The way there and back is long.
            let state = guard.state(slot).stubborn();
            guard.set(slot, state);
        }
        let _ = map::map_fixed_anon(worker.aside_addr(0), BLOCK_SIZE, Prot::NONE);
        Ok(gone.moved)
    }

    fn move_from_aside(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &mut BlockGuard<'_>,
        run: u32,
        (first, count): (usize, usize),
    ) -> Aside {
        let (mut slot, end, mut gone) = (first, first + count, Aside::default());
        // Nobody faults on what is aside, so that a fault may break sharing too.
        let (mut may_unshare, mut most) = (true, count);
        while slot < end {
            let from = (worker.aside_addr(slot), most.min(end - slot));
            let (done, error) = self.move_to_frames(uffd, run, slot, from, &mut may_unshare);
            gone.moved |= span(slot, done);
            slot += done;
            match error {
                None => continue,
                // One page may be of an odd kind, or there may be two mappings.
                Some(Errno::EINVAL) if most > 1 => {
                    most = 1;
                    continue;
                }
                Some(Errno::EINVAL) => gone.odd |= span(slot, 1),
                // Nothing is there to go back.
                Some(Errno::ENOENT) => self.refuse(guard, slot, Errno::ENOENT),
                Some(_) => gone.busy |= span(slot, 1),
            }
            slot += 1;
        }
        gone
    }

    /// Copies what is there and held by nobody; a page that is not there was
    /// never to be read as zeros.
    fn copy_from_aside(
        &self,
        worker: &Worker,
        guard: &mut BlockGuard<'_>,
        run: u32,
        (first, count): (usize, usize),
    ) -> Aside {
        let Some(there) = there_aside(worker, (first, count)) else {
            return Aside {
                busy: span(first, count),
                ..Aside::default()
            };
        };
        let free = held_by_nobody(worker, there);
        self.frames.set_present(run, free);
        for (first, count) in runs_of(free) {
            self.frames
                .copy_in(run, first, worker.aside_addr(first), count);
        }
        for slot in slots(span(first, count) & !there) {
            self.refuse(guard, slot, Errno::ENOENT);
        }
        Aside {
            moved: free,
            busy: there & !free,
            odd: 0,
        }
    }

    /// Puts a page that is aside back into its place, as it is.
    fn put_back_from_aside(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        slot: usize,
    ) {
        let (from, to) = (worker.aside_addr(slot), guard.addr(slot));
        let protections = self.protections.lock();
        let back = map::protection(to)
            .and_then(|prot| map::protect(from, PAGE_SIZE, prot))
            .and_then(|()| map::remap_fixed(from, PAGE_SIZE, to));
        drop(protections);
        let is_back = match back {
            Ok(()) => match uffd.register(to, PAGE_SIZE) {
                // EINVAL: it never was a mapping of ours.
                Ok(()) | Err(Errno::EINVAL) => true,
                Err(_) => false,
            },
            Err(_) => self.copy_back_from_aside(worker, uffd, guard, slot),
        };
        if !is_back {
            log::say(&["a page that cannot be moved cannot be put back: stopping the program"]);
            signal::die();
        }
    }

    /// The last resort, where no mapping can be made any more: what a device
    /// writes to the page from now on is lost.
    fn copy_back_from_aside(
        &self,
        worker: &Worker,
        uffd: &Userfaultfd,
        guard: &BlockGuard<'_>,
        slot: usize,
    ) -> bool {
        let (from, mut all) = (worker.aside_addr(slot), Installed::default());
        let _ = map::protect(from, PAGE_SIZE, Prot::READ);
        self.copy_in_pages(uffd, guard, (slot, 1), from, &mut all);
        // It was there before.
        self.budget.add_pages(-i64::from(all.done.count_ones()));
        all.done != 0
    }
}

/// Which pages are aside, in memory or in the kernel's own swap. `None`: not known.
fn there_aside(worker: &Worker, (first, count): (usize, usize)) -> Option<u16> {
    let mut presence = [0u8; BLOCK_PAGES];
    pagemap::holding(worker.aside_addr(first), count * PAGE_SIZE, &mut presence).ok()?;
    let pages = (first..first + count).zip(&presence);
    let there = pages.filter(|(_, page)| **page & 1 != 0);
    Some(there.fold(0, |there, (slot, _)| there | span(slot, 1)))
}

/// Of pages aside, those that no device writes to any more.
fn held_by_nobody(worker: &Worker, there: u16) -> u16 {
    let is_free = |first, count| {
        let (addr, len) = (worker.aside_addr(first), count * PAGE_SIZE);
        // What is in the kernel's swap could not be asked about.
        map::populate_read(addr, len).is_ok() && map::nobody_else_holds(addr, len).is_ok()
    };
    let mut free = 0;
    for (first, count) in runs_of(there) {
        if is_free(first, count) {
            free |= span(first, count);
            continue;
        }
        for slot in first..first + count {
            free |= if is_free(slot, 1) { span(slot, 1) } else { 0 };
        }
        // They go back.
        let _ = map::forget_asking(worker.aside_addr(first), count * PAGE_SIZE);
    }
    free
}
