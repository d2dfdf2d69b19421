//! The layer: its parts put together.

use crate::allocator::{Allocator, Want};
use crate::dedup::{DedupOptions, Sharing};
use crate::entry::{CLUSTER_ENTRIES, EntryId, EntryRange};
use crate::gate::Gate;
use crate::pin::PARKING;
use crate::table::Table;
use crate::worker::{self, WORKERS, Worker};
use vswap_platform::errno::Errno;
use vswap_platform::sync::Event;
use vswap_store::{Cleaned, GroupId, Store, StoreError, Workspace};
use vswap_units::Bytes;

/// How big the layer may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerOptions {
    /// Entries there is address space for; halved until it fits. Costs no memory.
    pub max_entries: usize,
}

/// The virtual swap layer: entries, and where the page of each one is.
///
/// Any thread may call any function at any time, with all its signals blocked. Order of locks: pages and frames of the caller,
/// then a pin, then a cluster (inside this layer), then the store's.
pub struct SwapLayer {
    pub(crate) table: Table,
    pub(crate) allocator: Allocator,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) gate: Gate,
    /// Where threads wait for pins.
    pub(crate) parking: [Event; PARKING],
    pub(crate) store: Store,
    /// `None`: no deduplication.
    pub(crate) sharing: Option<Sharing>,
}

impl SwapLayer {
    /// A layer over a store. Reserves address space and touches none of it.
    ///
    /// # Errors
    /// ENOMEM where there is not even address space for two clusters.
    pub fn new(options: LayerOptions, store: Store) -> Result<Self, Errno> {
        // Cluster 0 is never born.
        let table = Table::new(options.max_entries.div_ceil(CLUSTER_ENTRIES) + 1)?;
        let allocator = Allocator::new(table.clusters())?;
        let workers = core::array::from_fn(Worker::new);
        let parking = [const { Event::new() }; PARKING];
        Ok(Self {
            table,
            allocator,
            workers,
            gate: Gate::new(),
            parking,
            store,
            sharing: None,
        })
    }

    /// Lets it look for duplicates. Before it is used.
    ///
    /// # Errors
    /// ENOMEM where there is no address space for the tables.
    pub fn with_dedup(mut self, options: DedupOptions) -> Result<Self, Errno> {
        // Each shared object began with two entries.
        self.sharing = Sharing::new(options, self.capacity() / 2)?;
        Ok(self)
    }

    /// The most entries that can be in use at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        (self.table.clusters() - 1) * CLUSTER_ENTRIES
    }

    /// The store below.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The store below, while nobody else uses the layer yet.
    pub const fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Hands out `n` (1 to 512) neighbouring entries, aligned to the next power of two, count 1 and no bytes each. `None` when
    /// the address space of entries is used up, or too broken up for so many.
    #[must_use]
    pub fn allocate(&self, n: usize) -> Option<EntryRange> {
        self.allocate_for(GroupId::ROOT, n)
    }

    /// [`SwapLayer::allocate`], and the group pays for the entries and what they come to hold.
    #[must_use]
    pub fn allocate_for(&self, group: GroupId, n: usize) -> Option<EntryRange> {
        let want = Want { n, group };
        self.allocator.allocate(want, self.worker(), &self.table)
    }

    /// Who pays for an entry. Stable while it is in use.
    #[must_use]
    pub fn group_of(&self, entry: EntryId) -> GroupId {
        self.allocator.payer(entry.cluster())
    }

    /// Gives back what is kept only for speed. Worth it when little is swapped out.
    pub fn trim(&self) {
        self.allocator
            .trim(&self.workers, self.store.groups(), &self.table);
        if let Some(sharing) = &self.sharing {
            sharing.table.trim();
        }
        self.store.trim();
    }

    /// Lets the store gather what is left of half-dead segments.
    pub fn clean(&self, workspace: &mut Workspace) -> Cleaned {
        self.store.clean(self, workspace)
    }

    /// Writes the oldest segment to a device, if one is due. No descriptor changes.
    ///
    /// # Errors
    /// The store's.
    pub fn writeback_oldest(&self, budget: Bytes) -> Result<Option<Bytes>, StoreError> {
        self.store.writeback_oldest(budget)
    }

    pub(crate) fn worker(&self) -> &Worker {
        let [first, ..] = &self.workers;
        self.workers.get(worker::current()).unwrap_or(first)
    }
}
