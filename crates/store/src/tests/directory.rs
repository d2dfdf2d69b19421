//! The floor above, as small as it can be: owners, each with a lock for a pin,
//! and the page each should have.

use vswap_platform::sync::RankedMutex;
use vswap_units::{Bytes, PAGE_SIZE};

use crate::testing::any_page;
use crate::{GroupId, Location, Owners, Store, StoreError, StoreOptions, Stored, Workspace};

/// What one owner has: where it is, and the seed of the page.
pub(super) type Owned = Option<(Stored, u64)>;

/// Owners 0, 1, 2...
pub(super) struct Directory {
    owners: Vec<RankedMutex<Owned, 20>>,
}

impl Directory {
    pub(super) fn new(count: usize) -> Self {
        Self {
            owners: (0..count).map(|_| RankedMutex::new(None)).collect(),
        }
    }

    /// Stores a new page for an owner; frees what it had.
    pub(super) fn store(
        &self,
        store: &Store,
        owner: u64,
        seed: u64,
        ws: &mut Workspace,
    ) -> Result<(), StoreError> {
        self.store_for(GroupId::ROOT, store, owner, seed, ws)
    }

    /// The same, and the group pays.
    pub(super) fn store_for(
        &self,
        group: GroupId,
        store: &Store,
        owner: u64,
        seed: u64,
        ws: &mut Workspace,
    ) -> Result<(), StoreError> {
        let mut owned = self.owners[owner as usize].lock();
        let stored = store.append_for(group, owner, &any_page(seed), ws)?;
        if let Some((old, _)) = owned.replace((stored, seed)) {
            store.free(old);
        }
        Ok(())
    }

    pub(super) fn free(&self, store: &Store, owner: u64) {
        if let Some((old, _)) = self.owners[owner as usize].lock().take() {
            store.free(old);
        }
    }

    /// Reads and compares every byte.
    pub(super) fn verify(
        &self,
        store: &Store,
        owner: u64,
        ws: &mut Workspace,
    ) -> Result<(), StoreError> {
        let owned = self.owners[owner as usize].lock();
        let Some((stored, seed)) = *owned else {
            return Ok(());
        };
        let mut page = vec![0xee; PAGE_SIZE];
        store.read(stored, owner, &mut page, ws)?;
        assert!(page == any_page(seed), "wrong bytes for owner {owner}");
        Ok(())
    }

    pub(super) fn verify_all(&self, store: &Store, ws: &mut Workspace) {
        for owner in 0..self.owners.len() as u64 {
            self.verify(store, owner, ws).unwrap();
        }
    }

    pub(super) fn at(&self, owner: u64) -> Stored {
        self.owners[owner as usize].lock().unwrap().0
    }

    /// The owner has nothing any more; the store is not told.
    pub(super) fn forget(&self, owner: u64) -> Stored {
        self.owners[owner as usize].lock().take().unwrap().0
    }

    pub(super) fn live(&self) -> Vec<(u64, Stored)> {
        (0_u64..)
            .zip(&self.owners)
            .filter_map(|(owner, owned)| owned.lock().map(|(stored, _)| (owner, stored)))
            .collect()
    }

    /// Every law of the store holds for what is owned here.
    pub(super) fn check(&self, store: &Store, ws: &mut Workspace) {
        let report = store.check(&mut self.live().into_iter(), ws);
        assert!(report.is_clean(), "{:#?}", report.broken);
    }
}

impl Owners for Directory {
    fn relocate(
        &self,
        owner: u64,
        from: Location,
        place: &mut dyn FnMut() -> Option<Location>,
    ) -> bool {
        let mut owned = self.owners[owner as usize].lock();
        let Some((stored, _)) = &mut *owned else {
            return false;
        };
        if stored.location != from {
            return false;
        }
        let Some(location) = place() else {
            return false;
        };
        stored.location = location;
        true
    }
}

/// A store with one device.
pub(super) fn store_on(
    ram_segments: u32,
    device: impl crate::device::SwapDevice + 'static,
) -> Store {
    let places = device.capacity_places();
    let mut store = Store::new(StoreOptions::new(ram_segments, places)).unwrap();
    store.attach(Box::new(device)).unwrap();
    store
}

/// Writes back until nothing sealed is left in RAM.
pub(super) fn write_all_back(store: &Store) {
    store.seal_all();
    while store.writeback_oldest(Bytes::gib(1)).unwrap().is_some() {}
}
