//! The one word that says what state a segment is in and where it rests.
//!
//! ```text
//!  63              36 35                               4 3     0
//!  +-----------------+----------------------------------+-------+
//!  | generation : 28 | RAM slot, or device:4 place:28   | state |
//!  +-----------------+----------------------------------+-------+
//! ```
//! The generation grows each time the number of a segment is used again, and each
//! time the segment moves: it may come back to a place it had before, on the same
//! device or on another one of that number. So a reader that finds the same word
//! after an I/O knows nothing moved meanwhile. All-zero is a free segment number.

use core::sync::atomic::{AtomicU64, Ordering};

const WHERE_SHIFT: u32 = 4;
const PLACE_BITS: u32 = 28;
const GENERATION_SHIFT: u32 = 36;

/// How many devices a word can name.
pub(crate) const MAX_DEVICES: usize = 16;
/// How many places of a device a word can name.
pub(crate) const MAX_PLACES: u32 = 1 << PLACE_BITS;

/// What is being done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// The number is free.
    Free = 0,
    /// In RAM, taking appends.
    Open = 1,
    /// In RAM, full, in the age list.
    Sealed = 2,
    /// In RAM, being written to a device.
    Writing = 3,
    /// In RAM, its objects being moved out.
    Cleaning = 4,
    /// On a device.
    Stored = 5,
    /// On a device, being moved elsewhere: its objects one by one, or whole.
    StoredCleaning = 6,
    /// Without a live object; its place waits to be given back.
    Dead = 7,
}

/// A segment's place on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the store's devices.
    pub(crate) device: u8,
    /// Which place of that device.
    pub(crate) index: u32,
}

/// Where a segment rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nowhere: the number is free.
    Nowhere,
    /// In this RAM slot.
    Ram(u32),
    /// On a device.
    Device(Place),
}

/// The word, taken apart by its methods only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) const fn state(self) -> State {
        match self.0 & 0xf {
            1 => State::Open,
            2 => State::Sealed,
            3 => State::Writing,
            4 => State::Cleaning,
            5 => State::Stored,
            6 => State::StoredCleaning,
            7 => State::Dead,
            _ => State::Free,
        }
    }

    pub(crate) const fn rest(self) -> Rest {
        let place = (self.0 >> WHERE_SHIFT) as u32;
        match self.state() {
            State::Free => Rest::Nowhere,
            State::Open | State::Sealed | State::Writing | State::Cleaning => Rest::Ram(place),
            State::Stored | State::StoredCleaning | State::Dead => Rest::Device(Place {
                device: (place >> PLACE_BITS) as u8,
                index: place & (MAX_PLACES - 1),
            }),
        }
    }

    /// Does the segment rest where it did, and never moved in between? The state may differ.
    pub(crate) fn same_place(self, other: Self) -> bool {
        self.0 >> WHERE_SHIFT == other.0 >> WHERE_SHIFT && self.rest() == other.rest()
    }

    /// The same place in another state.
    pub(crate) const fn in_state(self, state: State) -> Self {
        Self(self.0 & !0xf | state as u64)
    }

    /// Opened in a RAM slot.
    pub(crate) const fn opened(self, slot: u32) -> Self {
        Self(self.generation() | (slot as u64) << WHERE_SHIFT | State::Open as u64)
    }

    /// Moved to a device.
    pub(crate) const fn stored(self, place: Place) -> Self {
        let bits = (place.device as u64) << PLACE_BITS | place.index as u64;
        Self(self.next_generation() | bits << WHERE_SHIFT | State::Stored as u64)
    }

    /// Back from a device, in a RAM slot.
    pub(crate) const fn sealed_in(self, slot: u32) -> Self {
        Self(self.next_generation() | (slot as u64) << WHERE_SHIFT | State::Sealed as u64)
    }

    /// Free, as the next generation.
    pub(crate) const fn freed(self) -> Self {
        Self(self.next_generation())
    }

    const fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT << GENERATION_SHIFT
    }

    const fn next_generation(self) -> u64 {
        self.generation().wrapping_add(1 << GENERATION_SHIFT)
    }
}

/// The word in the segment table. Stored under the table's lock, read without.
#[derive(bytemuck::Zeroable)]
#[repr(transparent)]
pub(crate) struct AtomicWord(AtomicU64);

impl AtomicWord {
    /// Sequentially consistent, because a reader's count on a RAM slot and the
    /// flip away from that slot must see one another.
    pub(crate) fn load(&self) -> Word {
        Word(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn store(&self, word: Word) {
        self.0.store(word.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FREE: Word = Word(0);

    proptest! {
        #[test]
        fn a_word_gives_back_what_was_put_in(slot: u32, device in 0u8..16, index in 0..MAX_PLACES) {
            let open = FREE.opened(slot);
            prop_assert_eq!((open.state(), open.rest()), (State::Open, Rest::Ram(slot)));
            for state in [State::Sealed, State::Writing, State::Cleaning] {
                prop_assert_eq!(open.in_state(state).rest(), Rest::Ram(slot));
                prop_assert_eq!(open.in_state(state).state(), state);
            }
            let place = Place { device, index };
            for state in [State::Stored, State::StoredCleaning, State::Dead] {
                prop_assert_eq!(open.stored(place).in_state(state).rest(), Rest::Device(place));
            }
        }
    }

    #[test]
    fn a_number_used_again_is_another_word() {
        let first = FREE.opened(3);
        let second = first.freed().opened(3);
        assert!(first != second);
        assert_eq!(first.freed().state(), State::Free);
        assert_eq!(second.in_state(State::Sealed).freed().rest(), Rest::Nowhere);
    }

    #[test]
    fn a_segment_that_went_and_came_back_is_not_where_it_was() {
        let place = Place {
            device: 3,
            index: 7,
        };
        let first = FREE.opened(5).stored(place);
        let again = first.sealed_in(5).stored(place);
        assert_eq!(first.rest(), again.rest());
        assert!(!first.same_place(again));
        assert!(first.same_place(first.in_state(State::StoredCleaning)));
    }
}
