//! What the program does to ranges it was given: discard, unmap, protect, pin,
//! evict, prefetch, map over.
//!
//! Each holds the run allocator's lock while the engine is not armed (see
//! `arm`), and block locks when it is, with every signal blocked: a handler of
//! the program that faulted on a block its own thread holds would never end.

use vswap_platform::errno::Errno;
use vswap_platform::map::{self, Prot};
use vswap_platform::sync::SignalBlock;
use vswap_units::{PAGE_SHIFT, PAGE_SIZE};

use crate::engine::Engine;
use crate::page_state::{PageState, Tag};
use crate::region::slots;
use crate::service::Request;

impl Engine {
    /// Is this address in the managed region?
    pub fn owns(&self, addr: usize) -> bool {
        self.region.page_of(addr).is_some()
    }

    /// The pages of `[addr, addr + len)` that are managed, as `(first, count)`.
    fn pages_of(&self, addr: usize, len: usize) -> Option<(usize, usize)> {
        let first = self.region.page_of(addr)?;
        let end = addr.checked_add(len)?.div_ceil(PAGE_SIZE);
        let last = end - (self.region.base() >> PAGE_SHIFT);
        (last <= self.region.pages()).then(|| (first, last - first))
    }

    /// `MADV_DONTNEED` and `MADV_FREE`: the pages read as zeros from now on.
    ///
    /// # Errors
    /// EINVAL for odd ranges and locked pages.
    pub fn discard(&self, addr: usize, len: usize) -> Result<(), Errno> {
        if len == 0 {
            return Ok(());
        }
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        let _signals = SignalBlock::enter();
        if !self.is_armed() {
            let _runs = self.runs.lock();
            if !self.is_armed() {
                return map::discard(addr, count << PAGE_SHIFT);
            }
        }
        let _inside = self.world.enter();
        self.empty_range(self.region.addr_of(first), count << PAGE_SHIFT)
    }

    /// `munmap` of a part of what `Map` handed out.
    ///
    /// # Errors
    /// EINVAL for ranges outside.
    pub fn unmap(&self, addr: usize, len: usize) -> Result<(), Errno> {
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        let _signals = SignalBlock::enter();
        let mut runs = self.runs.lock();
        self.reclaim_foreign(first, count)?;
        let inside = self.world.enter();
        let (addr, len) = (self.region.addr_of(first), count << PAGE_SHIFT);
        self.empty_range(addr, len)?;
        self.forget_pins(first, count);
        map::protect(addr, len, Prot::NONE)?;
        drop(inside);
        // Unmapping what is not mapped is no error on Linux; nothing to give back then.
        let given = runs.release_held(first as u64, count as u64);
        if given > 0 {
            let group = self.group_of_page(first as u64);
            self.counters.handed_out_bytes.sub(given << PAGE_SHIFT);
            self.groups
                .hand_out(group, -((given << PAGE_SHIFT) as i64), -1);
            self.count_live(-1);
        }
        Ok(())
    }

    /// Pins end with the memory they were put on.
    pub(crate) fn forget_pins(&self, first: usize, count: usize) {
        if self.counters.pinned_pages.get() == 0 {
            return;
        }
        self.each_block(first, count, |guard, mask| {
            for slot in slots(guard.mask(|state| state.pins() > 0) & mask) {
                self.counters
                    .pinned_pages
                    .sub(u64::from(guard.state(slot).pins()));
                let state = guard.state(slot).without_pins();
                guard.set(slot, state);
            }
        });
    }

    /// Puts our own mapping back where the program had mapped something else. **Context**: the run allocator's lock is held,
    /// outside `world`: what registers the mapping may have to go through there.
    fn reclaim_foreign(&self, first: usize, count: usize) -> Result<(), Errno> {
        let mut result = Ok(());
        let mut foreign = 0;
        let inside = self.world.enter();
        self.each_block(first, count, |guard, mask| {
            for slot in slots(guard.tagged(Tag::Foreign) & mask) {
                foreign += 1;
                if let Err(error) = map::map_fixed_anon(guard.addr(slot), PAGE_SIZE, Prot::NONE) {
                    result = Err(error);
                }
                guard.set(slot, PageState::of(Tag::Empty));
            }
        });
        drop(inside);
        if foreign > 0 && self.is_armed() {
            self.ask(Request::Register {
                addr: self.region.addr_of(first),
                len: count << PAGE_SHIFT,
            });
        }
        result
    }

    /// The program maps something of its own over managed pages (MAP_FIXED):
    /// they are forgotten, and left alone until they are unmapped.
    ///
    /// # Errors
    /// EINVAL for ranges outside.
    pub fn foreign(&self, addr: usize, len: usize) -> Result<(), Errno> {
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        let _signals = SignalBlock::enter();
        let mut runs = self.runs.lock();
        let _inside = self.world.enter();
        self.empty_range(self.region.addr_of(first), count << PAGE_SHIFT)?;
        self.each_block(first, count, |guard, mask| {
            for slot in slots(mask) {
                guard.set(slot, PageState::of(Tag::Foreign));
            }
            guard.set_settled();
        });
        runs.claim(first as u64, count as u64);
        Ok(())
    }

    /// `mprotect` of managed pages.
    ///
    /// # Errors
    /// The kernel's.
    pub fn protect(&self, addr: usize, len: usize, prot: Prot) -> Result<(), Errno> {
        let change = || map::protect(addr, len.next_multiple_of(PAGE_SIZE), prot);
        if !self.is_armed() {
            change()?;
        }
        if self.is_armed()
            && let Some((first, count)) = self.pages_of(addr, len)
        {
            let _signals = SignalBlock::enter();
            let _inside = self.world.enter();
            // Pages put back meanwhile would bring the old protection along (`aside`).
            let protections = self.protections.lock();
            change()?;
            drop(protections);
            // Pages a protection had made unmovable may move now.
            self.each_block(first, count, |guard, mask| {
                for slot in slots(guard.mask(PageState::is_unmovable) & mask) {
                    guard.retag(slot, Tag::Resident);
                    self.queue_block(guard.index());
                }
            });
        }
        Ok(())
    }

    /// Moves everything of the range that can go out of memory; returns pages moved.
    pub fn evict(&self, addr: usize, len: usize) -> Result<u64, Errno> {
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        self.make_armed()?;
        Ok(self.ask(Request::Evict { first, count }))
    }

    /// Registers the range if it is not yet.
    pub(crate) fn make_armed(&self) -> Result<(), Errno> {
        let _runs = self.runs.lock();
        if self.is_armed() || self.ask_to_arm() {
            Ok(())
        } else {
            Err(Errno::EAGAIN)
        }
    }

    /// Brings the range into memory as far as the budget allows; returns pages present.
    ///
    /// # Errors
    /// EINVAL for ranges outside.
    pub fn prefetch(&self, addr: usize, len: usize) -> Result<u64, Errno> {
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        if self.is_armed() {
            self.ask(Request::Prefetch { first, count });
        }
        Ok(count as u64)
    }

    /// Keeps the range in memory until [`Engine::unpin`].
    ///
    /// # Errors
    /// EINVAL for ranges outside, ENOMEM where the range does not fit the
    /// budget beside what is pinned already.
    pub fn pin(&self, addr: usize, len: usize) -> Result<u64, Errno> {
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        let pinned = self.counters.pinned_pages.get() + count as u64;
        if pinned << PAGE_SHIFT > self.budget.low() / 4 * 3 {
            return Err(Errno::ENOMEM);
        }
        let _signals = SignalBlock::enter();
        {
            let _inside = self.world.enter();
            self.each_block(first, count, |guard, mask| {
                for slot in slots(mask) {
                    if let Some(state) = guard.state(slot).pinned() {
                        guard.set(slot, state);
                    }
                }
            });
        }
        self.counters.pinned_pages.add(count as u64);
        if self.is_armed() {
            self.ask(Request::Prefetch { first, count });
        }
        Ok(count as u64)
    }

    /// Undoes one [`Engine::pin`] of the same range.
    ///
    /// # Errors
    /// EINVAL for ranges outside.
    pub fn unpin(&self, addr: usize, len: usize) -> Result<u64, Errno> {
        let (first, count) = self.pages_of(addr, len).ok_or(Errno::EINVAL)?;
        let _signals = SignalBlock::enter();
        let _inside = self.world.enter();
        self.each_block(first, count, |guard, mask| {
            for slot in slots(mask) {
                let state = guard.state(slot).unpinned();
                guard.set(slot, state);
            }
            self.queue_block(guard.index());
        });
        self.counters.pinned_pages.sub(count as u64);
        Ok(count as u64)
    }
}
