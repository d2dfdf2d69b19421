//! The descriptor table, and the side table of counts above one.
//!
//! Both are address space only until touched. One cluster's descriptors are exactly one page, so a cluster that ran empty
//! gives its page back; the counts of a cluster are another page, which exists only if something in it was ever duplicated.

use crate::descriptor::Word;
use crate::entry::{CLUSTER_ENTRIES, EntryId, EntryRange};
use crate::transition::{Step, step};
use core::sync::atomic::{AtomicU64, Ordering};
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;

pub(crate) struct Table {
    descriptors: LazySlice<AtomicU64>,
    /// How far the count of an entry is above one. Changed under the entry's pin.
    extra: LazySlice<AtomicU64>,
}

impl Table {
    /// A table of up to `clusters` clusters; fewer if the address space is short, but at least two.
    pub(crate) fn new(clusters: usize) -> Result<Self, Errno> {
        let most = clusters.saturating_mul(CLUSTER_ENTRIES);
        let descriptors = LazySlice::reserve(most, 2 * CLUSTER_ENTRIES)?;
        let extra = LazySlice::reserve(descriptors.len(), 2 * CLUSTER_ENTRIES)?;
        Ok(Self { descriptors, extra })
    }

    /// How many clusters it has room for.
    pub(crate) fn clusters(&self) -> usize {
        self.descriptors.len().min(self.extra.len()) / CLUSTER_ENTRIES
    }

    pub(crate) fn cell(&self, entry: EntryId) -> Option<&AtomicU64> {
        self.descriptors.get(entry.index())
    }

    /// The descriptor now. FREE for what is not an entry of this table.
    pub(crate) fn load(&self, entry: EntryId) -> Word {
        self.cell(entry).map_or(Word::FREE, |cell| {
            Word::from_bits(cell.load(Ordering::Acquire))
        })
    }

    /// FREE to NONE. The caller holds the cluster's lock. False if any was not free.
    pub(crate) fn hand_out(&self, range: EntryRange) -> bool {
        let first = range.first().index();
        let Some(cells) = self.descriptors.range(first..first + range.len()) else {
            return false;
        };
        let mut fine = true;
        for cell in cells {
            match step(
                Word::from_bits(cell.load(Ordering::Relaxed)),
                Step::Allocate,
            ) {
                Some(next) => cell.store(next.bits(), Ordering::Release),
                None => fine = false,
            }
        }
        fine
    }

    /// How far the count is above one. The caller holds the pin.
    pub(crate) fn extra(&self, entry: EntryId) -> u64 {
        self.extra
            .get(entry.index())
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn set_extra(&self, entry: EntryId, extra: u64) {
        if let Some(count) = self.extra.get(entry.index()) {
            count.store(extra, Ordering::Relaxed);
        }
    }

    /// Gives back the memory of a cluster whose entries are all free. The caller holds its lock, so none of them can come to
    /// life meanwhile; and nobody writes to a free descriptor. If the kernel refuses, memory is lost but nothing else: all the
    /// words are zero already.
    pub(crate) fn discard(&self, cluster: usize, counted: bool) {
        let entries = cluster * CLUSTER_ENTRIES..(cluster + 1) * CLUSTER_ENTRIES;
        let _ = self.descriptors.discard(entries.clone());
        if counted {
            let _ = self.extra.discard(entries);
        }
    }

    /// Bytes of memory the two tables hold.
    pub(crate) fn touched_bytes(&self) -> usize {
        let (descriptors, counts) = self.touched_parts();
        descriptors + counts
    }

    /// Those of the descriptors, and those of the counts.
    pub(crate) fn touched_parts(&self) -> (usize, usize) {
        (self.descriptors.touched_bytes(), self.extra.touched_bytes())
    }
}
