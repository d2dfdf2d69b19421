//! Handing memory out and taking it back.
//!
//! Freed runs stay resident and are handed out again, hottest first: giving
//! every free back to the kernel makes numpy's temporaries eight times as
//! expensive. Reclaim takes kept runs first when memory is short.
//!
//! Invariant of the region: a *clean* page (see [`RunAllocator`]) is
//! `PROT_NONE`, absent, and its state is unknown or empty; or it is one of zeros,
//! which a fault answered only after its page was freed has put there.

use std::sync::atomic::Ordering;

use vswap_platform::clock::now_ns;
use vswap_platform::errno::Errno;
use vswap_platform::map::{self, Prot};
use vswap_platform::sync::SignalBlock;
use vswap_space::GroupId;
use vswap_units::{BLOCK_PAGES, PAGE_SHIFT, PAGE_SIZE};

use crate::engine::Engine;
use crate::groups::Held;
use crate::page_state::Tag;
use crate::region::{BlockGuard, HUGE_PAGE, slots, span};
use crate::runs::{Run, RunAllocator, Want};

/// Dirty kept runs up to this are cleared by writing zeros; larger ones by
/// giving their pages back, so that a sparse `calloc` stays sparse.
const CLEAR_BY_WRITING: usize = 32 << 20;
/// From this size runs start on a huge-page border, so huge pages can serve them.
const HUGE_ALIGNED: usize = 4 << 20;

/// How often, and how far apart, an allocation looks again before it fails.
const REFUSAL_LOOKS: u64 = 25;
const REFUSAL_LOOKS_MOST: u32 = 250;
const REFUSAL_PAUSE_NS: u64 = 8_000_000;
/// After a refusal the next ones come quickly for this long.
const REFUSAL_LASTS_NS: u64 = 500_000_000;

/// What the memory is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocKind {
    /// The caller writes before it reads.
    Malloc,
    /// Reads as zeros.
    Zeroed,
    /// Reads as zeros, with this protection, unmapped piece by piece.
    Map(Prot),
}

impl Engine {
    /// Hands out `bytes` (rounded up to pages) at a multiple of `align`;
    /// `None` is ENOMEM: no address space, or nothing more can be moved out.
    pub fn allocate(&self, bytes: usize, align: usize, kind: AllocKind) -> Option<usize> {
        self.allocate_for(GroupId::ROOT, bytes, align, kind)
    }

    /// Pages that runs of a group are multiples of: whole blocks, so that no block has
    /// two payers. Of the one that pays for everything else single pages: what is not
    /// its own is whole blocks, and mappings are given back page by page.
    fn unit_of(&self, group: GroupId) -> usize {
        if group == self.groups.payer(GroupId::ROOT) {
            1
        } else {
            BLOCK_PAGES
        }
    }

    /// [`Engine::allocate`] at the cost of a group.
    pub fn allocate_for(
        &self,
        group: GroupId,
        bytes: usize,
        align: usize,
        kind: AllocKind,
    ) -> Option<usize> {
        let group = self.groups.payer(group);
        let unit = self.unit_of(group);
        let pages = bytes.checked_add(PAGE_SIZE - 1)? >> PAGE_SHIFT;
        let pages = pages.checked_next_multiple_of(unit)?;
        let refused = self.groups.is_ending(group)
            || self.is_refused_by_group(group, (pages as u64) << PAGE_SHIFT);
        if refused || self.is_retired() || self.is_refused_for_good(pages) {
            self.counters.alloc_failures.inc();
            return None;
        }
        let align = align.max(unit << PAGE_SHIFT);
        let align = if bytes >= HUGE_ALIGNED {
            align.max(HUGE_PAGE)
        } else {
            align
        };
        let run = self.take_run(group, pages, align, kind)?;
        let addr = self.region.addr_of(run.start as usize);
        if kind == AllocKind::Zeroed && !run.clean {
            self.clear(addr, pages << PAGE_SHIFT);
        }
        Some(addr)
    }

    /// Refuses only after reclaim has looked and cleaning had a moment, and as long
    /// as they move something: memory that was just freed takes them a while to gather.
    fn is_refused_for_good(&self, pages: usize) -> bool {
        let lately =
            now_ns().saturating_sub(self.refused_ns.load(Ordering::Relaxed)) < REFUSAL_LASTS_NS;
        let patience = if lately { 1 } else { REFUSAL_LOOKS };
        let (mut moved, mut looks, mut vain) =
            (self.moved(), self.looks.load(Ordering::Relaxed), 0);
        for _ in 0..REFUSAL_LOOKS_MOST {
            if !self.is_refused(pages) {
                return false;
            }
            if vain == patience {
                break;
            }
            let (now, looked) = (self.moved(), self.looks.load(Ordering::Relaxed));
            vain = if now == moved {
                vain + u64::from(looked != looks)
            } else {
                0
            };
            (moved, looks) = (now, looked);
            let seen = self.room_event.seen();
            self.reclaim_event.signal();
            self.write_event.signal();
            self.room_event.wait_past(seen, REFUSAL_PAUSE_NS);
        }
        let refused = self.is_refused(pages);
        if refused {
            self.refused_ns.store(now_ns(), Ordering::Relaxed);
        }
        refused
    }

    /// Refuses what could never be held: it does not fit as things are, and a
    /// full engine has tried, or past [`Engine::capacity`] touching the memory
    /// could only break the budget.
    fn is_refused(&self, pages: usize) -> bool {
        let bytes = (pages as u64) << PAGE_SHIFT;
        if self.held() + bytes <= self.budget.high() {
            return false;
        }
        self.is_full() && !self.can_write_back()
            || self
                .capacity()
                .is_some_and(|capacity| self.data_bytes() + bytes > capacity)
    }

    /// Who pays for the block that a page is in.
    pub(crate) fn group_of_page(&self, page: u64) -> GroupId {
        self.region.group_of(page as usize / BLOCK_PAGES)
    }

    fn take_run(&self, group: GroupId, pages: usize, align: usize, kind: AllocKind) -> Option<Run> {
        let bytes = (pages as u64) << PAGE_SHIFT;
        let want = if kind == AllocKind::Malloc {
            Want::Any
        } else {
            Want::Clean
        };
        let align_pages = (align >> PAGE_SHIFT).max(1) as u64;
        let mut runs = self.runs.lock();
        // Under this lock a group that ends looks whether blocks of it live.
        if self.groups.is_ending(group) {
            return None;
        }
        if !self.is_armed() && self.is_near_budget(bytes) {
            self.ask_to_arm();
        }
        let run = runs.allocate(pages as u64, align_pages, want)?;
        self.give_to(group, run);
        let addr = self.region.addr_of(run.start as usize);
        let prot = match kind {
            AllocKind::Map(prot) => prot,
            _ => Prot::READ_WRITE,
        };
        if matches!(kind, AllocKind::Map(_)) && !run.clean {
            self.empty_range(addr, bytes as usize).ok()?;
        }
        // A kept run is readable and writable, as its last owner had it.
        let as_it_was = run.kept && prot == Prot::READ_WRITE;
        if !as_it_was && map::protect(addr, bytes as usize, prot).is_err() {
            // Given back as clean pages: kept ones would have to be accessible.
            let _ = self.empty_range(addr, bytes as usize);
            runs.release(run.start, run.pages, false);
            self.counters.alloc_failures.inc();
            return None;
        }
        if !matches!(kind, AllocKind::Map(_)) {
            runs.set_head(run.start, run.pages, 0);
            self.revive(run);
        }
        self.note_handed_out(run.start + run.pages, bytes);
        self.groups.hand_out(group, bytes as i64, 1);
        Some(run)
    }

    /// The group pays for the blocks of a run from now on, and for what is in
    /// memory of them already: a kept run may have been another's.
    fn give_to(&self, group: GroupId, run: Run) {
        if !self.groups.any() {
            return;
        }
        let _signals = SignalBlock::enter();
        self.each_block(run.start as usize, run.pages as usize, |guard, _| {
            self.give_block_to(group, guard);
        });
    }

    /// The group pays for the block from now on, and for what is in memory of it.
    pub(crate) fn give_block_to(&self, group: GroupId, guard: &mut BlockGuard<'_>) {
        if guard.group() == group {
            return;
        }
        self.settle(guard);
        let here = guard.mask(|state| matches!(state.tag(), Tag::Resident | Tag::Freed));
        let pages = i64::from(here.count_ones());
        self.count_pages(guard, Held::Resident, -pages);
        self.queue_of(guard.group()).forget(guard.index());
        guard.set_group(group);
        self.count_pages(guard, Held::Resident, pages);
        if here != 0 {
            self.queue_block(guard.index());
        }
    }

    fn note_handed_out(&self, end: u64, bytes: u64) {
        self.raise_high_water(end);
        let now = self.counters.handed_out_bytes.add(bytes);
        self.counters.handed_out_peak_bytes.max(now);
        self.count_live(1);
    }

    /// Freed pages of a run that is in use again hold data again.
    fn revive(&self, run: Run) {
        if self.is_armed() && !run.clean {
            let _signals = SignalBlock::enter();
            self.each_block(run.start as usize, run.pages as usize, |guard, mask| {
                for slot in slots(guard.tagged(Tag::Freed) & mask) {
                    guard.retag(slot, Tag::Resident);
                }
                if guard.tagged(Tag::Resident) != 0 {
                    self.queue_block(guard.index());
                }
            });
        }
    }

    fn clear(&self, addr: usize, bytes: usize) {
        if bytes > CLEAR_BY_WRITING && self.discard(addr, bytes).is_ok() {
            return;
        }
        map::write_zeros(addr, bytes);
    }

    /// Takes back what [`Engine::allocate`] handed out for `Malloc` or `Zeroed`;
    /// false for an address it did not hand out.
    pub fn release(&self, addr: usize) -> bool {
        let Some(page) = self.region.page_of(addr) else {
            return false;
        };
        let mut runs = self.runs.lock();
        let Some(head) = runs.find(page as u64) else {
            return false;
        };
        runs.clear_head(head.start);
        let group = self.group_of_page(head.start);
        self.mark_freed(head.start as usize, head.pages as usize);
        self.forget_pins(head.start as usize, head.pages as usize);
        runs.release(head.start, head.pages, true);
        drop(runs);
        // What was refused a moment ago may fit now, after some patience.
        self.refused_ns.store(0, Ordering::Relaxed);
        let bytes = head.pages << PAGE_SHIFT;
        self.counters.handed_out_bytes.sub(bytes);
        self.groups.hand_out(group, -(bytes as i64), -1);
        self.count_live(-1);
        true
    }

    /// The bytes of a freed run mean nothing any more: swapped pages give
    /// their entries up, present ones may be dropped uncopied.
    fn mark_freed(&self, first: usize, pages: usize) {
        if !self.is_armed() {
            return;
        }
        let _signals = SignalBlock::enter();
        self.each_block(first, pages, |guard, mask| {
            self.settle(guard);
            let gone =
                guard.mask(|state| matches!(state.tag(), Tag::Swapped | Tag::Poisoned)) & mask;
            let _ = self.empty_slots(guard, gone);
            for slot in slots(guard.tagged(Tag::Resident) & mask) {
                guard.set(slot, crate::page_state::PageState::of(Tag::Freed));
            }
        });
    }

    /// The size of the block that `addr` starts, or lies in.
    pub fn block_size(&self, addr: usize) -> Option<usize> {
        let page = self.region.page_of(addr)?;
        let head = self.runs.lock().find(page as u64)?;
        let end = self.region.addr_of((head.start + head.pages) as usize);
        Some(end - addr)
    }

    /// Grows or shrinks a block where it stands; false when it has to move.
    pub fn resize_in_place(&self, addr: usize, bytes: usize) -> bool {
        let (Some(page), pages) = (self.region.page_of(addr), bytes.div_ceil(PAGE_SIZE)) else {
            return false;
        };
        let group = self.group_of_page(page as u64);
        let pages = pages.next_multiple_of(self.unit_of(group)) as u64;
        let mut runs = self.runs.lock();
        let Some(head) = runs.find(page as u64) else {
            return false;
        };
        if head.start != page as u64 {
            return false;
        }
        if pages <= head.pages {
            return head.pages - pages <= head.pages / 4;
        }
        if self.is_refused((pages - head.pages) as usize)
            || self.is_refused_by_group(group, (pages - head.pages) << PAGE_SHIFT)
            || !self.is_armed() && self.is_near_budget((pages - head.pages) << PAGE_SHIFT)
        {
            return false;
        }
        if !runs.grow_in_place(head.start, head.pages, pages) {
            return false;
        }
        let tail = Run {
            start: head.start + head.pages,
            pages: pages - head.pages,
            clean: false,
            kept: false,
        };
        self.give_to(group, tail);
        let tail_addr = self.region.addr_of(tail.start as usize);
        let tail_bytes = tail.pages << PAGE_SHIFT;
        if map::protect(tail_addr, tail_bytes as usize, Prot::READ_WRITE).is_err() {
            let _ = self.empty_range(tail_addr, tail_bytes as usize);
            runs.release(tail.start, tail.pages, false);
            return false;
        }
        runs.clear_head(head.start);
        runs.set_head(head.start, pages, 0);
        self.revive(tail);
        self.raise_high_water(head.start + pages);
        let now = self.counters.handed_out_bytes.add(tail_bytes);
        self.counters.handed_out_peak_bytes.max(now);
        self.groups.hand_out(group, tail_bytes as i64, 0);
        true
    }

    /// The block with another size and its bytes, where it stands or elsewhere;
    /// `None` (and the block as it was) without room.
    pub fn resize(&self, addr: usize, bytes: usize) -> Option<usize> {
        if self.resize_in_place(addr, bytes) {
            return Some(addr);
        }
        let old = self.block_size(addr)?;
        let group = self.group_of_page(self.region.page_of(addr)? as u64);
        let fresh = self.allocate_for(group, bytes, 1, AllocKind::Malloc)?;
        map::copy_range(fresh, addr, old.min(bytes));
        self.release(addr);
        Some(fresh)
    }

    /// Gives kept free runs back to the kernel, coldest first; returns pages.
    pub(crate) fn trim_kept(&self, pages: u64) -> u64 {
        // Whoever holds the lock may be waiting for this thread (see `arm`).
        let Some(mut runs) = self.runs.try_lock() else {
            return 0;
        };
        self.trim_runs(&mut runs, pages)
    }

    pub(crate) fn trim_runs(&self, runs: &mut RunAllocator, pages: u64) -> u64 {
        if runs.kept_pages() == 0 {
            return 0;
        }
        let _inside = self.world.enter();
        runs.trim_coldest(pages, &mut |start, pages| {
            let (addr, len) = (
                self.region.addr_of(start as usize),
                (pages << PAGE_SHIFT) as usize,
            );
            let _ = self.empty_range(addr, len);
            let _ = map::protect(addr, len, Prot::NONE);
        })
    }

    /// Runs `work` on every block of a page range, under its lock, with the
    /// mask of the range's slots in it.
    pub(crate) fn each_block(
        &self,
        first: usize,
        pages: usize,
        mut work: impl FnMut(&mut BlockGuard<'_>, u16),
    ) {
        let end = first + pages;
        for block in first / BLOCK_PAGES..end.div_ceil(BLOCK_PAGES) {
            let base = block * BLOCK_PAGES;
            let from = first.max(base) - base;
            let to = end.min(base + BLOCK_PAGES) - base;
            if let Some(mut guard) = self.region.lock(block) {
                work(&mut guard, span(from, to - from));
            }
        }
    }

    /// Empties a page-aligned range: nothing of it is in memory or swapped afterwards.
    ///
    /// # Errors
    /// EINVAL where the kernel refuses to drop pages (locked ones).
    pub(crate) fn empty_range(&self, addr: usize, len: usize) -> Result<(), Errno> {
        if !self.is_armed() {
            return map::discard(addr, len);
        }
        let Some(first) = self.region.page_of(addr) else {
            return Err(Errno::EINVAL);
        };
        let mut result = Ok(());
        self.each_block(first, len >> PAGE_SHIFT, |guard, mask| {
            if let Err(error) = self.empty_slots(guard, mask) {
                result = Err(error);
            }
        });
        result
    }
}
