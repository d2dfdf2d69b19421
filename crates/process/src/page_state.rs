//! The state word of one managed page: the only place that knows its bits.
//!
//! ```text
//!  63            16 15      8 7       4 3   0
//! +----------------+---------+---------+-----+
//! |     name       |  pins   |  flags  | tag |
//! +----------------+---------+---------+-----+
//! ```
//!
//! **Stable while** the lock of the page's block is held. Read without it, a
//! word is a hint. Only [`Tag::Empty`], and [`Tag::Unknown`] where the kernel
//! itself reported the page missing before anything was ever moved out of its
//! block, permit a zero-fill; no error code ever does.

use core::num::NonZeroU64;

const TAG_BITS: u64 = 0xf;
const UNMOVABLE: u64 = 1 << 4;
const STUBBORN: u64 = 1 << 5;
const PIN_SHIFT: u32 = 8;
const PIN_MASK: u64 = 0xff << PIN_SHIFT;
const NAME_SHIFT: u32 = 16;
const NAME_BITS: u32 = u64::BITS - NAME_SHIFT;

/// What is known about a managed page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Tag {
    /// Nothing yet: the page was there, or not, before its range was registered.
    Unknown = 0,
    /// Absent, and its next touch reads zeros: never written, or discarded.
    Empty = 1,
    /// Present in the program's address space.
    Resident = 2,
    /// Present, but freed by the program: reclaim drops it without a copy.
    Freed = 3,
    /// Moved out; the word carries the page's name (`names`).
    Swapped = 4,
    /// Its bytes could not be read back: every touch is a SIGBUS.
    Poisoned = 5,
    /// The program mapped something of its own over it.
    Foreign = 6,
}

/// What a page that is out is known by: 48 bits, never 0 (`names` says of what).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(NonZeroU64);

impl Name {
    /// In direct mode: the page is in the frame run of its block.
    pub const IN_FRAME: Self = match Self::new(1 << 40) {
        Some(name) => name,
        None => Self::NOTHING,
    };
    /// In direct mode: the page is zeros, which rest nowhere.
    pub const ZEROS: Self = match Self::new(Self::IN_FRAME.get() | 1) {
        Some(name) => name,
        None => Self::NOTHING,
    };
    /// The name of nothing: no entry and no slot has it.
    pub const NOTHING: Self = Self(NonZeroU64::MIN);

    /// The name with this number, if there can be one.
    pub const fn new(number: u64) -> Option<Self> {
        if number >> NAME_BITS != 0 {
            return None;
        }
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// One page's state, by value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageState(u64);

impl PageState {
    /// A state without a name, pins or flags.
    pub const fn of(tag: Tag) -> Self {
        Self(tag as u64)
    }

    /// Moved out under `name`.
    pub const fn swapped(name: Name) -> Self {
        Self(Tag::Swapped as u64 | name.get() << NAME_SHIFT)
    }

    /// The word as stored in the table.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A word read back from the table.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The tag; a word no code of ours writes reads as `Poisoned`.
    pub const fn tag(self) -> Tag {
        match self.0 & TAG_BITS {
            0 => Tag::Unknown,
            1 => Tag::Empty,
            2 => Tag::Resident,
            3 => Tag::Freed,
            4 => Tag::Swapped,
            6 => Tag::Foreign,
            _ => Tag::Poisoned,
        }
    }

    /// The name of a swapped page.
    pub fn name(self) -> Option<Name> {
        if matches!(self.tag(), Tag::Swapped) {
            Name::new(self.0 >> NAME_SHIFT)
        } else {
            None
        }
    }

    /// How many times the page is pinned into memory.
    pub const fn pins(self) -> u8 {
        ((self.0 & PIN_MASK) >> PIN_SHIFT) as u8
    }

    /// The same state with one pin more; `None` when the count is full.
    pub fn pinned(self) -> Option<Self> {
        let pins = self.pins().checked_add(1)?;
        Some(Self(self.0 & !PIN_MASK | u64::from(pins) << PIN_SHIFT))
    }

    /// The same state with one pin less.
    pub fn unpinned(self) -> Self {
        let pins = self.pins().saturating_sub(1);
        Self(self.0 & !PIN_MASK | u64::from(pins) << PIN_SHIFT)
    }

    /// The same state without any pin.
    pub const fn without_pins(self) -> Self {
        Self(self.0 & !PIN_MASK)
    }

    /// The kernel refuses to move this page (pinned by DMA, mlocked, an odd protection).
    pub const fn is_unmovable(self) -> bool {
        self.0 & UNMOVABLE != 0
    }

    /// The same state, marked as refused by the kernel.
    pub const fn unmovable(self) -> Self {
        Self(self.0 | UNMOVABLE)
    }

    /// The page did not compress and nobody else would take it: reclaim passes it over once.
    pub const fn is_stubborn(self) -> bool {
        self.0 & STUBBORN != 0
    }

    /// The same state, to be passed over once.
    pub const fn stubborn(self) -> Self {
        Self(self.0 | STUBBORN)
    }

    /// The same state, to be tried again.
    pub const fn tractable(self) -> Self {
        Self(self.0 & !STUBBORN)
    }

    /// The same pins with another tag; flags and name go.
    pub const fn retag(self, tag: Tag) -> Self {
        Self(self.0 & PIN_MASK | tag as u64)
    }

    /// The same pins, moved out under `name`.
    pub const fn to_swapped(self, name: Name) -> Self {
        Self(self.0 & PIN_MASK | Self::swapped(name).0)
    }

    /// May reclaim move this page out?
    pub const fn is_evictable(self) -> bool {
        matches!(self.tag(), Tag::Resident)
            && self.pins() == 0
            && !self.is_unmovable()
            && !self.is_stubborn()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_word_is_an_unknown_page() {
        let state = PageState::from_bits(0);
        assert_eq!(state.tag(), Tag::Unknown);
        assert_eq!(state.name(), None);
        assert_eq!(state.pins(), 0);
    }

    #[test]
    fn a_swapped_page_keeps_its_name_and_its_pins() {
        let name = Name::new(0x1ff_1234_5678).unwrap();
        let pinned = PageState::of(Tag::Resident).pinned().unwrap();
        let state = pinned.to_swapped(name);
        assert_eq!(state.tag(), Tag::Swapped);
        assert_eq!(state.name(), Some(name));
        assert_eq!(state.pins(), 1);
        assert_eq!(
            state.retag(Tag::Resident).unpinned().bits(),
            Tag::Resident as u64
        );
    }

    #[test]
    fn pinned_unmovable_stubborn_and_freed_pages_are_not_evictable() {
        let resident = PageState::of(Tag::Resident);
        assert!(resident.is_evictable());
        assert!(!resident.pinned().unwrap().is_evictable());
        assert!(!resident.unmovable().is_evictable());
        assert!(!PageState::of(Tag::Freed).is_evictable());
        assert!(!resident.stubborn().is_evictable());
        assert!(resident.stubborn().tractable().is_evictable());
    }

    #[test]
    fn the_pin_count_does_not_overflow_into_the_name() {
        let mut state = PageState::of(Tag::Resident);
        for _ in 0..255 {
            state = state.pinned().unwrap();
        }
        assert_eq!(state.pinned(), None);
        assert_eq!(state.tag(), Tag::Resident);
    }
}
