//! What the layer tells about itself: gauges of what it holds now, counts of what it did.

use crate::dedup::Sharing;
use crate::layer::SwapLayer;
use crate::tally::{Sums, Tally};
use vswap_units::Counters;

/// A look at the layer. Sums over workers, so exact only while nothing moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Entries in use.
    pub entries: u64,
    /// Entries that are one repeated word.
    pub same_filled_pages: u64,
    /// Entries with bytes in the store: objects of their own, and shares in one.
    pub stored_pages: u64,
    /// The bytes of those objects, shared ones once.
    pub stored_bytes: u64,
    /// Entries whose page is in a plain slot.
    pub slot_pages: u64,
    /// Objects that several entries may share.
    pub shared_objects: u64,
    /// Entries that are shares in one of those.
    pub shared_pages: u64,
    /// Bytes that would be stored besides if nothing were shared.
    pub dedup_saved_bytes: u64,
    /// Pages swapped out by sharing so far.
    pub dedup_hits: u64,
    /// Candidates that turned out to be different so far.
    pub dedup_different: u64,
    /// Pages swapped out so far, in any form.
    pub swap_out_pages: u64,
    /// Bytes of the objects made so far.
    pub swap_out_bytes: u64,
    /// Pages swapped out as one repeated word so far.
    pub swap_out_same_pages: u64,
    /// Pages that went to a plain slot so far.
    pub swap_out_slot_pages: u64,
    /// Pages swapped out into the log that did not compress so far.
    pub swap_out_raw_pages: u64,
    /// Pages read back so far.
    pub swap_in_pages: u64,
    /// Pages found unreadable so far.
    pub poisoned_pages: u64,
    /// Looks into the table of descriptors so far.
    pub entry_lookups: u64,
    /// Entries pinned so far.
    pub entry_pins: u64,
    /// Steps that descriptors made so far.
    pub descriptor_changes: u64,
    /// Locks of clusters taken so far.
    pub cluster_locks: u64,
}

/// Bytes of memory of the layer's own tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableParts {
    /// Descriptors.
    pub descriptors: usize,
    /// Counts above one.
    pub counts: usize,
    /// States and maps of clusters.
    pub clusters: usize,
}

impl Gauges {
    /// Sets the counters of the same names.
    pub fn publish(&self, counters: &Counters) {
        counters.same_filled_pages.set(self.same_filled_pages);
        counters.stored_pages.set(self.stored_pages);
        counters.stored_bytes.set(self.stored_bytes);
        counters.slot_pages.set(self.slot_pages);
        counters.swap_out_pages.set(self.swap_out_pages);
        counters.swap_out_bytes.set(self.swap_out_bytes);
        counters.swap_out_same_pages.set(self.swap_out_same_pages);
        counters.swap_out_slot_pages.set(self.swap_out_slot_pages);
        counters.swap_out_raw_pages.set(self.swap_out_raw_pages);
        counters.swap_in_pages.set(self.swap_in_pages);
        counters.poisoned_pages.set(self.poisoned_pages);
        counters.entry_lookups.set(self.entry_lookups);
        counters.entry_pins.set(self.entry_pins);
        counters.descriptor_changes.set(self.descriptor_changes);
        counters.cluster_locks.set(self.cluster_locks);
        counters.dedup_hits.set(self.dedup_hits);
        counters.dedup_different.set(self.dedup_different);
        counters.shared_objects.set(self.shared_objects);
        counters.shared_pages.set(self.shared_pages);
        counters.dedup_saved_bytes.set(self.dedup_saved_bytes);
    }
}

impl SwapLayer {
    /// What the layer holds and did.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let sums = self.sums();
        let shared_pages = sums.shared_now();
        let shared_objects = sums.shared_objects_now();
        Gauges {
            entries: sums.entries_now(),
            same_filled_pages: sums.same_now(),
            stored_pages: sums.stored_now() + shared_pages.saturating_sub(shared_objects),
            stored_bytes: sums.stored_bytes_now(),
            slot_pages: sums.slots_now(),
            swap_out_pages: sums.stored + sums.same + sums.slotted + sums.dedup_hits,
            swap_out_slot_pages: sums.slotted,
            shared_objects,
            shared_pages,
            dedup_saved_bytes: sums.saved_now(),
            dedup_hits: sums.dedup_hits,
            dedup_different: sums.dedup_different,
            swap_out_bytes: sums.stored_bytes,
            swap_out_same_pages: sums.same,
            swap_out_raw_pages: sums.stored_raw,
            swap_in_pages: sums.loaded,
            poisoned_pages: sums.poisoned,
            entry_lookups: sums.lookups(),
            entry_pins: sums.pinned,
            descriptor_changes: sums.changes(),
            cluster_locks: sums.locked,
        }
    }

    /// Bytes of objects made and given up so far. Cheap.
    #[must_use]
    pub fn traffic_bytes(&self) -> u64 {
        let of = |tally: &Tally| tally.stored_bytes.get() + tally.unstored_bytes.get();
        self.workers.iter().map(|worker| of(&worker.tally)).sum()
    }

    /// Sets the engine's counters that this layer alone knows. Cheap enough for every tick.
    pub fn publish(&self, counters: &Counters) {
        self.gauges().publish(counters);
    }

    /// Bytes of memory the layer's own tables hold: descriptors, counts, clusters, shared objects and the index. Asks the
    /// kernel; not for hot paths.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let sharing = self.sharing.as_ref().map_or(0, Sharing::touched_bytes);
        self.table.touched_bytes() + self.allocator.touched_bytes() + sharing
    }

    /// [`SwapLayer::table_bytes`], table by table.
    #[must_use]
    pub fn table_parts(&self) -> TableParts {
        let (descriptors, counts) = self.table.touched_parts();
        TableParts {
            descriptors,
            counts,
            clusters: self.allocator.touched_bytes(),
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for worker in &self.workers {
            sums.add(&worker.tally);
        }
        sums
    }
}
