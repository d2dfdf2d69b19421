//! Where an object is in the log. The name stays true wherever its segment rests.

use crate::object;
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

/// Bits of a segment number: 2^30 segments are 256 TiB.
pub(crate) const SEGMENT_BITS: u32 = 30;
/// Bits of a granule number: granules in a segment.
const GRANULE_BITS: u32 = (SEGMENT_BYTES / GRANULE_BYTES).trailing_zeros();
/// Bits of a stored length: 0 to 4096.
const LENGTH_BITS: u32 = 13;

/// Segment and granule of an object's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The segment's number in the segment table.
    pub segment: u32,
    /// The header's offset in the segment, in granules of [`GRANULE_BYTES`].
    pub granule: u16,
}

impl Location {
    /// Bits used by [`Location::to_bits`].
    pub const BITS: u32 = SEGMENT_BITS + GRANULE_BITS;

    /// Packs into the low [`Location::BITS`] bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.segment as u64) << GRANULE_BITS | self.granule as u64
    }

    /// Undoes [`Location::to_bits`]; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            segment: (bits >> GRANULE_BITS & ((1 << SEGMENT_BITS) - 1)) as u32,
            granule: (bits & ((1 << GRANULE_BITS) - 1)) as u16,
        }
    }

    /// The header's byte offset in its segment.
    pub(crate) const fn offset(self) -> usize {
        self.granule as usize * GRANULE_BYTES
    }
}

/// A stored object: where it is and how long. The length is kept by the owner,
/// so that a read from a device asks for just the covering bytes and a free
/// needs no I/O and no table of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Where the object is.
    pub location: Location,
    /// Its bytes without the header: 1 to 4096 (4096: stored raw).
    pub stored_bytes: u16,
}

impl Stored {
    /// Bits used by [`Stored::to_bits`]: 59, which leaves 5 in a descriptor.
    pub const BITS: u32 = Location::BITS + LENGTH_BITS;

    /// Packs into the low [`Stored::BITS`] bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.location.to_bits() << LENGTH_BITS | self.stored_bytes as u64
    }

    /// Undoes [`Stored::to_bits`]; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            location: Location::from_bits(bits >> LENGTH_BITS),
            stored_bytes: (bits & ((1 << LENGTH_BITS) - 1)) as u16,
        }
    }

    /// Granules the object takes in its segment, header and padding included.
    #[must_use]
    pub const fn granules(self) -> u32 {
        object::granules_of(self.stored_bytes as usize) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stored_object_survives_packing(segment in 0u32..1 << SEGMENT_BITS, granule: u16, stored_bytes in 1u16..=4096) {
            let stored = Stored { location: Location { segment, granule }, stored_bytes };
            prop_assert_eq!(Stored::from_bits(stored.to_bits()), stored);
            prop_assert_eq!(Location::from_bits(stored.location.to_bits()), stored.location);
            prop_assert_eq!(stored.to_bits() >> Stored::BITS, 0);
            prop_assert_eq!(stored.location.to_bits() >> Location::BITS, 0);
        }
    }

    #[test]
    fn the_packed_forms_leave_room_for_a_tag_and_a_pin() {
        assert_eq!((Location::BITS, Stored::BITS), (46, 59));
    }
}
