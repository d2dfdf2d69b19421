//! The managed address range: page states and block locks.
//!
//! One reservation per engine, `PROT_NONE` until handed out, so it costs
//! address space only. A *block* is 16 aligned pages under one lock.
//!
//! **Stable while** a [`BlockGuard`] is held: the states of its 16 pages, which
//! frame run holds its cached pages, and which of its pages are present (only
//! holders of the guard install or remove pages of a registered block).

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use bytemuck::Zeroable;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::map::AnonMap;
use vswap_platform::sync::{Guard, RankedMutex};
use vswap_space::GroupId;
use vswap_units::{BLOCK_PAGES, PAGE_SHIFT, PAGE_SIZE, rank};

use crate::page_state::{PageState, Tag};
use crate::workingset::{STAMP_BITS, Stamp};

/// Huge-page size: regions and frames are aligned to it, so whole huge pages can move.
pub const HUGE_PAGE: usize = 2 << 20;

/// How long a fault looks whether its block is free before it sleeps: a block's
/// 16 pages are decoded in about this time.
const FAULT_SPIN_NS: u64 = 60_000;

/// What is remembered of a block besides its page states. All-zero is a new block.
#[derive(Clone, Copy, Debug, Default, Zeroable)]
#[repr(C)]
pub struct Block {
    /// The frame run that holds this block's cached pages, plus one; 0 is none.
    frame_run: u32,
    /// [`SETTLED`], and below it the stamp of the last write-out; 0 is none.
    history: u32,
}

/// No page of the block is [`Tag::Unknown`] any more.
const SETTLED: u32 = 1 << 31;
const _: () = assert!(STAMP_BITS < 31, "a stamp leaves the flag alone");

/// A managed address range with the state of every page in it.
pub struct Region {
    map: AnonMap,
    pages: usize,
    states: LazySlice<AtomicU64>,
    blocks: LazySlice<RankedMutex<Block, { rank::PAGE }>>,
    /// Who pays for a block's pages. Changed under its lock.
    payers: LazySlice<AtomicU16>,
}

impl Region {
    /// Reserves about `bytes` of address space, halving down to `least` where
    /// limits are tight (`ulimit -v`, strict overcommit).
    ///
    /// # Errors
    /// The kernel's, when even `least` cannot be reserved.
    pub fn reserve(bytes: usize, least: usize) -> Result<Self, Errno> {
        let mut want = bytes;
        loop {
            match Self::reserve_exactly(want) {
                Ok(region) => return Ok(region),
                Err(error) if want / 2 < least => return Err(error),
                Err(_) => want /= 2,
            }
        }
    }

    fn reserve_exactly(bytes: usize) -> Result<Self, Errno> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE);
        let pages = bytes / PAGE_SIZE;
        let map = AnonMap::reserve_none(bytes, HUGE_PAGE)?;
        let states = LazySlice::reserve(pages, pages)?;
        let blocks = LazySlice::reserve(pages / BLOCK_PAGES, pages / BLOCK_PAGES)?;
        let payers = LazySlice::reserve(pages / BLOCK_PAGES, pages / BLOCK_PAGES)?;
        Ok(Self {
            map,
            pages,
            states,
            blocks,
            payers,
        })
    }

    /// First address.
    pub fn base(&self) -> usize {
        self.map.addr()
    }

    /// Length in pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.pages << PAGE_SHIFT
    }

    /// The page that holds `addr`, if it is in this region.
    pub fn page_of(&self, addr: usize) -> Option<usize> {
        let offset = addr.checked_sub(self.base())?;
        let page = offset >> PAGE_SHIFT;
        (page < self.pages).then_some(page)
    }

    /// The address of a page.
    pub fn addr_of(&self, page: usize) -> usize {
        self.base() + (page << PAGE_SHIFT)
    }

    /// The state of a page, as a hint.
    pub fn state_hint(&self, page: usize) -> PageState {
        self.states
            .get(page)
            .map_or(PageState::of(Tag::Foreign), |word| {
                PageState::from_bits(word.load(Ordering::Relaxed))
            })
    }

    /// Who pays for a block: certain under its lock, a hint without.
    pub fn group_of(&self, block: usize) -> GroupId {
        let bits = self.payers.get(block);
        let bits = bits.map_or(0, |payer| payer.load(Ordering::Relaxed));
        GroupId::new(usize::from(bits)).unwrap_or(GroupId::ROOT)
    }

    /// What is about to be looked at of a page and its block is brought near: nothing of it was used for long.
    #[inline]
    pub fn prefetch(&self, page: usize) {
        let block = page / BLOCK_PAGES;
        self.blocks.prefetch(block);
        for half in [0, BLOCK_PAGES / 2] {
            self.states.prefetch(block * BLOCK_PAGES + half);
        }
        self.payers.prefetch(block);
    }

    /// Locks a block; `None` for a block that does not exist.
    pub fn lock(&self, block: usize) -> Option<BlockGuard<'_>> {
        let guard = self.blocks.get(block)?.lock();
        Some(BlockGuard {
            region: self,
            block,
            guard,
        })
    }

    /// Locks a block for a fault: who holds it brings in or takes out its pages,
    /// which takes as long as going to sleep and being woken would.
    pub fn lock_for_fault(&self, block: usize) -> Option<BlockGuard<'_>> {
        let guard = self.blocks.get(block)?.lock_spinning(FAULT_SPIN_NS);
        Some(BlockGuard {
            region: self,
            block,
            guard,
        })
    }

    /// Locks a block unless somebody holds it.
    pub fn try_lock(&self, block: usize) -> Option<BlockGuard<'_>> {
        let guard = self.blocks.get(block)?.try_lock()?;
        Some(BlockGuard {
            region: self,
            block,
            guard,
        })
    }

    /// Bytes of the tables that are in memory.
    pub fn table_bytes(&self) -> u64 {
        let tables = self.states.touched_bytes() + self.blocks.touched_bytes();
        (tables + self.payers.touched_bytes()) as u64
    }
}

/// A locked block.
pub struct BlockGuard<'a> {
    region: &'a Region,
    block: usize,
    guard: Guard<'a, Block, { rank::PAGE }>,
}

impl BlockGuard<'_> {
    /// Which block this is.
    pub fn index(&self) -> usize {
        self.block
    }

    /// Who pays for its pages.
    pub fn group(&self) -> GroupId {
        self.region.group_of(self.block)
    }

    /// Another payer from now on; the charges are the caller's to move.
    pub fn set_group(&mut self, group: GroupId) {
        if let Some(payer) = self.region.payers.get(self.block) {
            payer.store(group.index() as u16, Ordering::Relaxed);
        }
    }

    /// The address of page `slot` (0..16) of the block.
    pub fn addr(&self, slot: usize) -> usize {
        self.region.addr_of(self.block * BLOCK_PAGES + slot)
    }

    /// The state of page `slot`.
    pub fn state(&self, slot: usize) -> PageState {
        self.region.state_hint(self.block * BLOCK_PAGES + slot)
    }

    /// Changes the state of page `slot`.
    pub fn set(&mut self, slot: usize, state: PageState) {
        if let Some(word) = self.region.states.get(self.block * BLOCK_PAGES + slot) {
            word.store(state.bits(), Ordering::Relaxed);
        }
    }

    /// Gives the page another tag and keeps its pins.
    pub fn retag(&mut self, slot: usize, tag: Tag) {
        let state = self.state(slot).retag(tag);
        self.set(slot, state);
    }

    /// The slots whose state satisfies `test`, as a bit mask.
    pub fn mask(&self, test: impl Fn(PageState) -> bool) -> u16 {
        (0..BLOCK_PAGES).fold(0, |mask, slot| {
            mask | u16::from(test(self.state(slot))) << slot
        })
    }

    /// The slots with this tag.
    pub fn tagged(&self, tag: Tag) -> u16 {
        self.mask(|state| state.tag() == tag)
    }

    /// The frame run that holds cached pages of this block.
    pub fn frame_run(&self) -> Option<u32> {
        self.guard.frame_run.checked_sub(1)
    }

    /// Ties a frame run to the block, or none.
    pub fn set_frame_run(&mut self, run: Option<u32>) {
        self.guard.frame_run = run.map_or(0, |run| run + 1);
    }

    /// Is every page's presence known?
    pub fn is_settled(&self) -> bool {
        self.guard.history & SETTLED != 0
    }

    /// Records that every page's presence is known.
    pub fn set_settled(&mut self) {
        self.guard.history |= SETTLED;
    }

    /// When pages of this block were last written out.
    pub fn stamp(&self) -> Option<Stamp> {
        Stamp::from_bits(self.guard.history)
    }

    /// Records that pages of this block were written out.
    pub fn set_stamp(&mut self, stamp: Stamp) {
        self.guard.history = self.guard.history & SETTLED | stamp.bits();
    }
}

/// Contiguous runs of set bits in a block mask, as `(first slot, count)`.
pub fn runs_of(mask: u16) -> impl Iterator<Item = (usize, usize)> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let first = rest.trailing_zeros() as usize;
        let count = (!(rest >> first)).trailing_zeros().min(16 - first as u32) as usize;
        rest &= !span(first, count);
        Some((first, count))
    })
}

/// The slots of a block mask, lowest first.
pub fn slots(mask: u16) -> impl Iterator<Item = usize> {
    (0..BLOCK_PAGES).filter(move |slot| mask & (1 << slot) != 0)
}

/// The mask of `count` slots from `first`.
pub fn span(first: usize, count: usize) -> u16 {
    let ones = ((1u32 << count.min(BLOCK_PAGES)) - 1) << first;
    (ones & 0xffff) as u16
}

/// The contiguous run of set bits that contains `slot`; 0 when it is not set.
pub fn run_around(mask: u16, slot: usize) -> u16 {
    runs_of(mask)
        .map(|(first, count)| span(first, count))
        .find(|run| run & (1 << slot) != 0)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workingset::Clock;

    #[test]
    fn runs_of_a_mask_cover_exactly_its_bits() {
        for mask in [0u16, 1, 0x8000, 0xffff, 0b0110_1110_0000_0101] {
            let covered = runs_of(mask).fold(0, |all, (first, count)| all | span(first, count));
            assert_eq!(covered, mask);
        }
        assert_eq!(runs_of(0b0110_1110).collect::<Vec<_>>(), [(1, 3), (5, 2)]);
        assert_eq!(run_around(0b0110_1110, 2), 0b1110);
        assert_eq!(run_around(0b0110_1110, 4), 0);
    }

    #[test]
    fn an_address_and_its_page_agree() {
        let region = Region::reserve(8 << 20, 8 << 20).unwrap();
        let addr = region.addr_of(77) + 123;
        assert_eq!(region.page_of(addr), Some(77));
        assert_eq!(region.page_of(region.base() - 1), None);
        assert_eq!(region.page_of(region.base() + region.bytes()), None);
    }

    #[test]
    fn a_blocks_states_are_its_own() {
        let region = Region::reserve(8 << 20, 8 << 20).unwrap();
        region.lock(3).unwrap().set(5, PageState::of(Tag::Resident));
        assert_eq!(region.state_hint(3 * 16 + 5).tag(), Tag::Resident);
        assert_eq!(region.lock(3).unwrap().tagged(Tag::Resident), 1 << 5);
        assert_eq!(region.lock(2).unwrap().tagged(Tag::Resident), 0);
    }

    #[test]
    fn a_stamp_and_what_is_known_of_presence_leave_each_other_alone() {
        let region = Region::reserve(8 << 20, 8 << 20).unwrap();
        let mut block = region.lock(1).unwrap();
        assert_eq!(block.stamp(), None);
        let stamp = Clock::default().advance(77);
        block.set_stamp(stamp);
        assert!(!block.is_settled());
        block.set_settled();
        assert_eq!(block.stamp(), Some(stamp));
        block.set_stamp(Clock::default().advance(5));
        assert!(block.is_settled());
    }
}
