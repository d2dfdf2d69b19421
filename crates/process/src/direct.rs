//! Process memory on plain slots, without a virtual layer: the word of a page is its place.
//!
//! As in the kernel's swap of today: a page of zeros takes no slot (there a bit of `swap_zeromap`, Linux 6.12; here a name
//! of its own), every other one does. What is missing is what the layer is for: nothing is compressed, other repeated
//! words are written, and a page can only be moved by whoever finds its word.

use vswap_space::{Gauges, repeated_word};
use vswap_store::{Slot, Store};
use vswap_units::{BLOCK_PAGES, Counter, PAGE_SIZE};

use crate::page_state::Name;
use crate::region::{runs_of, span};

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
    zeros: ZeroPages,
}

/// Pages of zeros: how many are out now, ever went out, and ever came back.
#[derive(Default)]
struct ZeroPages {
    held: Counter,
    out: Counter,
    back: Counter,
}

/// Where a name says that the page is.
enum Place {
    Frame,
    Zeros,
    Slot(Slot),
}

/// Every slot's number is below the other two; 0 is a header.
const _: () = assert!(Name::IN_FRAME.get() >> Slot::BITS == 1);
const _: () = assert!(Name::ZEROS.get() >> Slot::BITS == 1);

fn place(name: Name) -> Place {
    match name {
        Name::IN_FRAME => Place::Frame,
        Name::ZEROS => Place::Zeros,
        _ => Place::Slot(Slot::from_bits(name.get())),
    }
}

fn is_zeros(page: &[u8]) -> bool {
    repeated_word(page) == Some(0)
}

impl DirectSlots {
    /// The slots of this store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            zeros: ZeroPages::default(),
        }
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// As `Names::write_out`.
    pub fn write_out(&self, names: &mut [Name], pages: &[u8]) -> u16 {
        let mut zeros = 0;
        let each = names.iter_mut().zip(pages.chunks_exact(PAGE_SIZE));
        for (i, (name, page)) in each.enumerate() {
            if is_zeros(page) {
                *name = Name::ZEROS;
                zeros |= span(i, 1);
            }
        }
        self.note_zeros_out(u64::from(zeros.count_ones()));
        let mut done = zeros;
        for (first, count) in runs_of(span(0, names.len()) & !zeros) {
            let (Some(names), Some(pages)) = (
                names.get_mut(first..first + count),
                pages.get(first * PAGE_SIZE..(first + count) * PAGE_SIZE),
            ) else {
                break;
            };
            done |= self.write_run(names, pages) << first;
        }
        done
    }

    /// Writes neighbours to slots; says by bits, the first one's lowest, which found one.
    fn write_run(&self, names: &mut [Name], pages: &[u8]) -> u16 {
        let mut done = 0;
        let mut left = names.iter_mut().enumerate();
        let mut rest = pages;
        while !rest.is_empty() {
            let Ok((slot, count)) = self.store.slots().write(rest, 0) else {
                break;
            };
            for (bits, (i, name)) in (slot.to_bits()..).zip(left.by_ref().take(count)) {
                if let Some(placed) = Name::new(bits) {
                    *name = placed;
                    done |= 1 << i;
                }
            }
            rest = rest.get(count * PAGE_SIZE..).unwrap_or_default();
        }
        done
    }

    fn note_zeros_out(&self, pages: u64) {
        if pages != 0 {
            self.zeros.held.add(pages);
            self.zeros.out.add(pages);
        }
    }

    /// As `Names::read_block`.
    pub fn read_block(
        &self,
        names: &[Name],
        outs: &mut [&mut [u8]],
        read: &mut [bool; BLOCK_PAGES],
    ) {
        for ((name, out), read) in names.iter().zip(outs).zip(read) {
            *read = match place(*name) {
                Place::Frame => false,
                Place::Zeros => {
                    out.fill(0);
                    self.zeros.back.inc();
                    true
                }
                Place::Slot(slot) => self.store.slots().read(slot, out).is_ok(),
            };
        }
    }

    /// As `Names::release`.
    pub fn release(&self, names: &[Option<Name>; BLOCK_PAGES]) -> Released {
        let mut released = Released::default();
        for name in names.iter().flatten() {
            released.pages += 1;
            match place(*name) {
                Place::Frame => released.cached += 1,
                Place::Zeros => {
                    self.zeros.held.sub(1);
                }
                Place::Slot(slot) => self.store.slots().free(slot),
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
            same_filled_pages: self.zeros.held.get(),
            slot_pages: counters.held_slots.get(),
            swap_out_pages: written + self.zeros.out.get(),
            swap_out_same_pages: self.zeros.out.get(),
            swap_out_slot_pages: written,
            swap_in_pages: pages(counters.read_bytes.get()) + self.zeros.back.get(),
            ..Gauges::default()
        }
    }

    /// Every slot named is held and named once, and no other is held; and so many pages are zeros.
    pub fn check(&self, named: &[Name]) -> Vec<String> {
        let mut slots = Vec::new();
        let mut zeros = 0;
        for name in named {
            match place(*name) {
                Place::Frame => {}
                Place::Zeros => zeros += 1,
                Place::Slot(slot) => slots.push(slot),
            }
        }
        let mut problems = self.store.slots().check(slots);
        let held = self.zeros.held.get();
        if held != zeros {
            problems.push(format!("{zeros} pages are zeros, {held} are counted"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_a_name_that_no_slot_has() {
        assert!(matches!(place(Name::ZEROS), Place::Zeros));
        assert!(matches!(place(Name::IN_FRAME), Place::Frame));
        let last = Slot {
            device: u8::MAX,
            index: u32::MAX,
        };
        let name = Name::new(last.to_bits()).unwrap();
        assert!(name != Name::ZEROS && name != Name::IN_FRAME);
        assert!(matches!(place(name), Place::Slot(slot) if slot == last));
    }

    #[test]
    fn a_page_with_one_byte_is_not_of_zeros() {
        let mut page = [0; PAGE_SIZE];
        assert!(is_zeros(&page));
        page[2048] = 1;
        assert!(!is_zeros(&page));
    }
}
