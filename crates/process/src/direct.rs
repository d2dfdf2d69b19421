//! Process memory on plain slots, without a virtual layer: the word of a page is its place.
//!
//! What is missing is what the layer is for: a page takes a slot even if it is all zeros, nothing is
//! compressed, and a page can only be moved by whoever finds its word.

use vswap_space::Gauges;
use vswap_store::{Slot, Store};
use vswap_units::{BLOCK_PAGES, PAGE_SIZE};

use crate::page_state::Name;

/// What was given up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Released {
    /// Pages.
    pub pages: usize,
    /// How many of them were in frames.
    pub cached: usize,
}

/// Slots of a store, named by the words of pages.
pub struct DirectSlots {
    store: Store,
}

/// Every slot's number is below [`Name::IN_FRAME`]; 0 is a header.
const _: () = assert!(Name::IN_FRAME.get() >> Slot::BITS == 1);

fn slot(name: Name) -> Option<Slot> {
    (name != Name::IN_FRAME).then(|| Slot::from_bits(name.get()))
}

impl DirectSlots {
    /// The slots of this store.
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// As `Names::write_out`.
    pub fn write_out(&self, names: &mut [Name], pages: &[u8]) -> u16 {
        let mut done = 0;
        let mut left = names.iter_mut().enumerate();
        let mut rest = pages;
        while !rest.is_empty() {
            let Ok((first, count)) = self.store.slots().write(rest, 0) else {
                break;
            };
            for (bits, (i, name)) in (first.to_bits()..).zip(left.by_ref().take(count)) {
                if let Some(placed) = Name::new(bits) {
                    *name = placed;
                    done |= 1 << i;
                }
            }
            rest = rest.get(count * PAGE_SIZE..).unwrap_or_default();
        }
        done
    }

    /// As `Names::read_block`.
    pub fn read_block(
        &self,
        names: &[Name],
        outs: &mut [&mut [u8]],
        read: &mut [bool; BLOCK_PAGES],
    ) {
        for ((name, out), read) in names.iter().zip(outs).zip(read) {
            *read = slot(*name).is_some_and(|slot| self.store.slots().read(slot, out).is_ok());
        }
    }

    /// As `Names::release`.
    pub fn release(&self, names: &[Option<Name>; BLOCK_PAGES]) -> Released {
        let mut released = Released::default();
        for name in names.iter().flatten() {
            released.pages += 1;
            match slot(*name) {
                Some(slot) => self.store.slots().free(slot),
                None => released.cached += 1,
            }
        }
        released
    }

    /// What slots held and did, in the words of the layer.
    pub fn gauges(&self) -> Gauges {
        let counters = self.store.slots().counters();
        let pages = |bytes: u64| bytes / PAGE_SIZE as u64;
        let written = pages(counters.written_bytes.get());
        Gauges {
            slot_pages: counters.held_slots.get(),
            swap_out_pages: written,
            swap_out_slot_pages: written,
            swap_in_pages: pages(counters.read_bytes.get()),
            ..Gauges::default()
        }
    }

    /// Every slot named is held and named once, and no other is held.
    pub fn check(&self, named: &[Name]) -> Vec<String> {
        let slots = named.iter().filter_map(|name| slot(*name)).collect();
        self.store.slots().check(slots)
    }
}
