//! Virtual swap entries: the name of one swapped page, which survives every move of its bytes.
//!
//! An entry is `cluster * 512 + offset`. Cluster 0 is never born, so no entry is 0 and "no entry" costs no extra bit.

use core::fmt;
use core::num::NonZeroU64;

/// Entries in a cluster: as many 8-byte descriptors as fit in one 4 KiB page.
pub const CLUSTER_ENTRIES: usize = 512;
const CLUSTER_SHIFT: u32 = CLUSTER_ENTRIES.trailing_zeros();
/// Entries are at most this many bits wide: the store keeps an owner word of one bit more with every object, and that bit is
/// for shared objects.
pub const ENTRY_BITS: u32 = 40;
const _: () = assert!(ENTRY_BITS < vswap_store::OWNER_BITS);

/// The virtual id of one swapped page. Never mixed up with a physical place: that is a `vswap_store::Location`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EntryId(NonZeroU64);

impl EntryId {
    /// The entry with this raw number, if it can be one.
    #[must_use]
    pub const fn new(raw: u64) -> Option<Self> {
        if raw >> ENTRY_BITS != 0 || raw < CLUSTER_ENTRIES as u64 {
            return None;
        }
        match NonZeroU64::new(raw) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The raw number, as kept in a page's state word or as the owner word of an object in the store.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    pub(crate) fn from_parts(cluster: usize, offset: usize) -> Option<Self> {
        let base = (cluster as u64).checked_mul(CLUSTER_ENTRIES as u64)?;
        Self::new(base.checked_add(offset as u64)?)
    }

    pub(crate) const fn cluster(self) -> usize {
        (self.get() >> CLUSTER_SHIFT) as usize
    }

    pub(crate) const fn offset(self) -> usize {
        self.get() as usize & (CLUSTER_ENTRIES - 1)
    }

    /// Where its descriptor is in the table.
    pub(crate) const fn index(self) -> usize {
        self.get() as usize
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {} ({}:{})",
            self.get(),
            self.cluster(),
            self.offset()
        )
    }
}

/// Neighbouring entries handed out by one allocation. Aligned to the next power of two, never across a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRange {
    first: EntryId,
    len: u16,
}

impl EntryRange {
    pub(crate) const fn new(first: EntryId, len: u16) -> Self {
        Self { first, len }
    }

    /// The first entry.
    #[must_use]
    pub const fn first(&self) -> EntryId {
        self.first
    }

    /// How many entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Never true of a range that was handed out.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `i`-th entry.
    #[must_use]
    pub const fn get(&self, i: usize) -> Option<EntryId> {
        if i >= self.len as usize {
            return None;
        }
        EntryId::new(self.first.get() + i as u64)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = EntryId> + use<> {
        let range = *self;
        (0..range.len()).filter_map(move |i| range.get(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_cluster_zero_is_an_entry() {
        assert_eq!(EntryId::new(0), None);
        assert_eq!(EntryId::new(511), None);
        assert_eq!(EntryId::new(512).map(EntryId::cluster), Some(1));
    }

    #[test]
    fn an_entry_fits_the_owner_word_of_the_store() {
        assert!(EntryId::new((1 << ENTRY_BITS) - 1).is_some());
        assert_eq!(EntryId::new(1 << ENTRY_BITS), None);
    }

    #[test]
    fn an_entry_knows_its_cluster_and_offset() {
        let entry = EntryId::from_parts(7, 300).unwrap();
        assert_eq!(
            (entry.cluster(), entry.offset(), entry.index()),
            (7, 300, 7 * 512 + 300)
        );
    }

    #[test]
    fn a_range_ends_where_it_says() {
        let range = EntryRange::new(EntryId::new(1024).unwrap(), 3);
        assert_eq!(
            range.iter().map(EntryId::get).collect::<Vec<_>>(),
            [1024, 1025, 1026]
        );
        assert_eq!(range.get(3), None);
    }
}
