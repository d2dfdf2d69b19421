//! The bits of a descriptor: one 64-bit word per entry that says where its page is now.
//!
//! ```text
//!  63                                          6  5        4        3    2..0
//! +---------------------------------------------+--------+--------+-----+-----+
//! | payload                                     | COUNTED| WAITED | PIN | tag |
//! +---------------------------------------------+--------+--------+-----+-----+
//! SAME    the fill word, packed (see `same`)
//! CACHED  frame (32 bits), then 1 bit: cached only (nobody needs the entry any more, but its frame is still bound)
//! STORED  location in the log (46), stored length - 1 (12)
//! SHARED  number of the shared object (32)
//! SLOT    device (8), slot of it (32)
//! ```
//!
//! Tag 0 is FREE, so a descriptor page given back to the kernel reads as 512 free entries.
//! This file reads and builds words. Which word may follow which is for `transition` alone.

use crate::same;
use crate::shared::SharedId;
use vswap_store::{Location, Slot, Stored};

const TAG_MASK: u64 = 7;
const PIN: u64 = 1 << 3;
const WAITED: u64 = 1 << 4;
const COUNTED: u64 = 1 << 5;
const FLAGS: u64 = PIN | WAITED | COUNTED;
const PAYLOAD_SHIFT: u32 = 6;

const FRAME_MASK: u64 = u32::MAX as u64;
const CACHED_ONLY: u64 = 1 << 32;

const LENGTH_SHIFT: u32 = Location::BITS;
/// Bits of the length field; it holds the length less one, and 4096 bytes is the longest object.
const LENGTH_BITS: u32 = 12;
const _: () = assert!(LENGTH_SHIFT + LENGTH_BITS <= 64 - PAYLOAD_SHIFT);
const _: () = assert!(Slot::BITS <= 64 - PAYLOAD_SHIFT);
const _: () = assert!(same::PACKED_BITS <= 64 - PAYLOAD_SHIFT);

/// What kind of backing a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Tag {
    /// Not handed out.
    Free = 0,
    /// Handed out, no bytes yet.
    None = 1,
    /// One repeated word.
    Same = 2,
    /// In a frame of the swap cache.
    Cached = 3,
    /// An object in the store.
    Stored = 4,
    /// A share in an object of the store that several entries stand for.
    Shared = 5,
    /// A plain slot of a device.
    Slot = 6,
    /// The bytes are lost.
    Poisoned = 7,
}

impl Tag {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 8] = [
        Self::Free,
        Self::None,
        Self::Same,
        Self::Cached,
        Self::Stored,
        Self::Shared,
        Self::Slot,
        Self::Poisoned,
    ];

    const fn of(bits: u64) -> Self {
        match bits & TAG_MASK {
            0 => Self::Free,
            1 => Self::None,
            2 => Self::Same,
            3 => Self::Cached,
            4 => Self::Stored,
            5 => Self::Shared,
            6 => Self::Slot,
            _ => Self::Poisoned,
        }
    }
}

/// Where the page of an entry is. Certain while the entry is pinned; otherwise a hint, to be read again under the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Nowhere: the entry has no bytes yet (or is not an entry at all).
    None,
    /// The page repeats this 64-bit word.
    Same(u64),
    /// In this frame of the swap cache.
    Cached(u32),
    /// An object of the store.
    Stored(Stored),
    /// As it is, in a plain slot.
    Slot(Slot),
    /// A share in an object of the store.
    Shared(SharedId),
    /// The bytes could not be read back; they are lost.
    Poisoned,
}

/// One descriptor, as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word(u64);

impl Word {
    /// Not handed out, all flags clear. All-zero on purpose.
    pub(crate) const FREE: Self = Self(0);

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn tag(self) -> Tag {
        Tag::of(self.0)
    }

    pub(crate) const fn is_pinned(self) -> bool {
        self.0 & PIN != 0
    }

    pub(crate) const fn is_waited_for(self) -> bool {
        self.0 & WAITED != 0
    }

    /// The count is above one; by how much is in the side table.
    pub(crate) const fn is_counted(self) -> bool {
        self.0 & COUNTED != 0
    }

    /// Count 0, alive only because a frame is bound to it.
    pub(crate) const fn is_cached_only(self) -> bool {
        matches!(self.tag(), Tag::Cached) && self.payload() & CACHED_ONLY != 0
    }

    pub(crate) const fn pinned(self) -> Self {
        Self(self.0 | PIN)
    }

    /// What the word is once the pin is dropped.
    pub(crate) const fn unpinned(self) -> Self {
        Self(self.0 & !(PIN | WAITED))
    }

    pub(crate) const fn waited_for(self) -> Self {
        Self(self.0 | WAITED)
    }

    pub(super) const fn counted(self, counted: bool) -> Self {
        Self(if counted {
            self.0 | COUNTED
        } else {
            self.0 & !COUNTED
        })
    }

    pub(super) const fn plain(self, tag: Tag) -> Self {
        self.with(tag, 0)
    }

    pub(super) const fn same(self, packed: u64) -> Self {
        self.with(Tag::Same, packed)
    }

    pub(super) const fn cached(self, frame: u32, cached_only: bool) -> Self {
        self.with(
            Tag::Cached,
            frame as u64 | if cached_only { CACHED_ONLY } else { 0 },
        )
    }

    pub(super) const fn slot(self, slot: Slot) -> Self {
        self.with(Tag::Slot, slot.to_bits())
    }

    /// `None` for a length that no object has.
    pub(super) fn stored(self, object: Stored) -> Option<Self> {
        let length = u64::from(object.stored_bytes).checked_sub(1)?;
        let location = object.location.to_bits();
        let fits = length >> LENGTH_BITS == 0 && location >> LENGTH_SHIFT == 0;
        fits.then(|| self.with(Tag::Stored, location | length << LENGTH_SHIFT))
    }

    pub(super) const fn share_of(self, id: SharedId) -> Self {
        self.with(Tag::Shared, id.0 as u64)
    }

    /// The shared object, of a word that names one.
    pub(crate) const fn shared(self) -> Option<SharedId> {
        match self.tag() {
            Tag::Shared => Some(SharedId(self.payload() as u32)),
            _ => None,
        }
    }

    /// The frame, of a cached word.
    pub(crate) const fn frame(self) -> Option<u32> {
        match self.tag() {
            Tag::Cached => Some((self.payload() & FRAME_MASK) as u32),
            _ => None,
        }
    }

    /// The object, of a stored word.
    pub(crate) const fn object(self) -> Option<Stored> {
        if !matches!(self.tag(), Tag::Stored) {
            return None;
        }
        let payload = self.payload();
        Some(Stored {
            location: Location::from_bits(payload),
            stored_bytes: (payload >> LENGTH_SHIFT) as u16 + 1,
        })
    }

    pub(crate) fn backing(self) -> Backing {
        match self.tag() {
            Tag::Free | Tag::None => Backing::None,
            Tag::Slot => Backing::Slot(Slot::from_bits(self.payload())),
            Tag::Same => Backing::Same(same::unpack(self.payload())),
            Tag::Cached => self.frame().map_or(Backing::None, Backing::Cached),
            Tag::Stored => self.object().map_or(Backing::None, Backing::Stored),
            Tag::Shared => self.shared().map_or(Backing::None, Backing::Shared),
            Tag::Poisoned => Backing::Poisoned,
        }
    }

    const fn payload(self) -> u64 {
        self.0 >> PAYLOAD_SHIFT
    }

    const fn with(self, tag: Tag, payload: u64) -> Self {
        Self(self.0 & FLAGS | tag as u64 | payload << PAYLOAD_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_zeroed_descriptor_is_a_free_entry() {
        assert_eq!(Word::FREE, Word::from_bits(0));
        assert_eq!(Word::FREE.tag(), Tag::Free);
        assert!(!Word::FREE.is_pinned());
    }

    #[test]
    fn every_tag_reads_back() {
        for tag in Tag::ALL {
            assert_eq!(Word::FREE.plain(tag).tag(), tag);
        }
    }

    #[test]
    fn an_object_longer_than_a_page_is_refused() {
        let location = Location {
            segment: 1,
            granule: 2,
        };
        let of = |stored_bytes| {
            Word::FREE.stored(Stored {
                location,
                stored_bytes,
            })
        };
        assert!(of(4096).is_some() && of(1).is_some());
        assert!(of(4097).is_none() && of(0).is_none());
    }

    proptest! {
        #[test]
        fn every_payload_reads_back_whatever_the_flags(flags in 0u64..8, segment in 0u32..1 << 30, granule: u16, length in 1u16..=4096, frame: u32, fill: u64) {
            let base = Word::from_bits(flags << 3);
            let object = Stored { location: Location { segment, granule }, stored_bytes: length };
            let stored = base.stored(object).unwrap();
            prop_assert_eq!(stored.backing(), Backing::Stored(object));
            prop_assert_eq!(base.share_of(SharedId(frame)).backing(), Backing::Shared(SharedId(frame)));
            prop_assert_eq!(base.cached(frame, true).backing(), Backing::Cached(frame));
            prop_assert!(base.cached(frame, true).is_cached_only() && !base.cached(frame, false).is_cached_only());
            if let Some(packed) = same::pack(fill) {
                prop_assert_eq!(base.same(packed).backing(), Backing::Same(fill));
            }
            let slot = Slot { device: (granule % 256) as u8, index: frame };
            prop_assert_eq!(base.slot(slot).backing(), Backing::Slot(slot));
            prop_assert_eq!(stored.bits() & FLAGS, base.bits());
            prop_assert_eq!(stored.unpinned().is_counted(), base.is_counted());
        }
    }
}
