//! Slots made of pages that others are done with.
//!
//! A page whose bytes the log has just taken would be given back to the kernel,
//! and the log would soon ask the kernel for pages to hold more bytes, which are
//! zeroed first. Where the kernel can move pages, some of the ones that are done
//! with become the next slot instead. Moving one costs 0.25 µs; giving one back
//! and getting another cost 0.45 and 1.4 (2 CPUs AMD EPYC, 2026-11).
//!
//! One slot at a time, and only while no hot one waits: a log that does not grow
//! gets none, and at most one slot is held for nothing. A slot that is wanted
//! before it is full gets the rest of its pages from the kernel.
//!
//! **Who owns it:** the slot being filled is on no list and named by no segment.
//! While it is `busy` it is the filler's, without the lock; else the lock's.
//!
//! **What is in it:** bytes of pages, of any group. So whatever of a slot is
//! written to a device must have been written here first (`append.rs`).

use core::sync::atomic::Ordering;

use vswap_units::PAGE_SIZE;

use super::{RamPool, Slots, offset_of};
use crate::SEGMENT_BYTES;
use crate::store::Store;

const SLOT_PAGES: usize = SEGMENT_BYTES / PAGE_SIZE;

/// A slot of which the first pages have memory.
#[derive(Clone, Copy)]
pub(super) struct Filling {
    pub(super) slot: u32,
    pages: usize,
    busy: bool,
}

impl Filling {
    pub(super) const fn new(slot: u32) -> Self {
        Self {
            slot,
            pages: 0,
            busy: false,
        }
    }

    /// The part without memory: its offset in the pool and its bytes.
    pub(super) const fn rest(&self) -> (usize, usize) {
        let done = self.pages * PAGE_SIZE;
        (offset_of(self.slot) + done, SEGMENT_BYTES - done)
    }
}

impl Slots {
    pub(super) fn pop_filling(&mut self) -> Option<Filling> {
        self.filling.take_if(|begun| !begun.busy)
    }
}

impl RamPool {
    fn begin_filling(&self) -> Option<Filling> {
        let mut slots = self.slots.lock();
        if slots.hot_len > 0 || slots.in_use >= self.limit() {
            return None;
        }
        let begun = match slots.filling {
            Some(begun) => (!begun.busy).then_some(begun)?,
            None => {
                let slot = self.pop_cold(&mut slots)?;
                self.held.fetch_add(1, Ordering::Relaxed);
                Filling::new(slot)
            }
        };
        slots.filling = Some(Filling {
            busy: true,
            ..begun
        });
        Some(begun)
    }

    fn end_filling(&self, begun: Filling) {
        let mut slots = self.slots.lock();
        slots.filling = None;
        let is_full = begun.pages == SLOT_PAGES;
        if begun.pages > 0 && !is_full {
            slots.filling = Some(begun);
        } else if !is_full || !slots.push_hot(begun.slot) {
            drop(slots);
            self.discard(begun.slot);
            self.push_cold(&mut self.slots.lock(), begun.slot);
        }
    }
}

impl Store {
    /// Where the log is in RAM: first address and bytes.
    #[must_use]
    pub fn ram_area(&self) -> (usize, usize) {
        (self.ram.memory.addr(), self.ram.memory.len())
    }

    /// Takes up to `pages` pages of memory for the log, if it will want them: `give` is called with where they are to
    /// go and how many at most, and says how many, from the first on, are there. Returns that. Their contents do not
    /// matter, and are never written to a device. **Context**: `give` may do what the caller may; no fork meanwhile.
    pub fn fill_ram(&self, pages: usize, give: impl FnOnce(usize, usize) -> usize) -> usize {
        let Some(mut begun) = self.ram.begin_filling() else {
            return 0;
        };
        let (first, bytes) = begun.rest();
        let most = pages.min(bytes / PAGE_SIZE);
        let given = give(self.ram.memory.addr() + first, most).min(most);
        begun.pages += given;
        self.ram.end_filling(begun);
        given
    }
}
