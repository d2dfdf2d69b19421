//! Handing out entries: the worker's current cluster, else the lowest cluster with room, else a new one.
//!
//! What a cluster has to give is known under its lock; three maps of hints lead to the right lock. A cluster is in the maps
//! unless a worker allocates from it. An emptied cluster gives its descriptor page back under the same lock, so an allocation
//! either comes before (and the cluster is not empty) or after (and touches the page anew).

use crate::cluster::{ClusterState, RANK, Room};
use crate::entry::{CLUSTER_ENTRIES, EntryId, EntryRange};
use crate::hint_map::HintMap;
use crate::table::Table;
use crate::worker::Worker;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::sync::{Guard, RankedMutex};

/// How many fragmented clusters are looked into before a new one is started.
const CANDIDATES: usize = 4;

pub(crate) struct Allocator {
    clusters: LazySlice<RankedMutex<ClusterState, RANK>>,
    /// Clusters with a free entry.
    single: HintMap,
    /// Clusters with a free aligned block of 16.
    block: HintMap,
    /// Clusters that were born and ran empty.
    empty: HintMap,
    /// The lowest cluster never born. Grows under that cluster's lock.
    unborn: AtomicUsize,
}

impl Allocator {
    pub(crate) fn new(clusters: usize) -> Result<Self, Errno> {
        Ok(Self {
            clusters: LazySlice::reserve(clusters, clusters)?,
            single: HintMap::new(clusters)?,
            block: HintMap::new(clusters)?,
            empty: HintMap::new(clusters)?,
            unborn: AtomicUsize::new(1),
        })
    }

    /// Clusters that have been born so far, in use or empty.
    pub(crate) fn born(&self) -> core::ops::Range<usize> {
        1..self.unborn.load(SeqCst)
    }

    /// Born clusters with an entry in use. A hint.
    pub(crate) fn inhabited(&self) -> impl Iterator<Item = usize> + '_ {
        self.born().filter(|&cluster| !self.empty.contains(cluster))
    }

    pub(crate) fn cluster(&self, cluster: usize) -> Option<&RankedMutex<ClusterState, RANK>> {
        self.clusters.get(cluster)
    }

    /// `n` neighbours aligned to the next power of two, or `None` when no cluster can give them.
    pub(crate) fn allocate(&self, n: usize, worker: &Worker, table: &Table) -> Option<EntryRange> {
        if n == 0 || n > CLUSTER_ENTRIES {
            return None;
        }
        let current = worker.current.load(Relaxed);
        if current != 0
            && let Some(mut state) = self.lock(current)
            && state.is_current_of(worker.number)
            && let Some(range) = take(&mut state, current, n, worker, table)
        {
            return Some(range);
        }
        let (cluster, range) = self
            .claim(n, worker, table)
            .or_else(|| self.scrape(n, worker, table))?;
        if let Some(cluster) = cluster {
            let former = worker.current.swap(cluster, SeqCst);
            self.retire(former, worker.number, table);
        }
        Some(range)
    }

    /// Takes entries out of use and gives the cluster's memory back if these were the last. `release` is called for
    /// each, under the cluster's lock, and frees its descriptor.
    pub(crate) fn give_back(
        &self,
        cluster: usize,
        offsets: &[u16],
        worker: &Worker,
        table: &Table,
        release: &mut dyn FnMut(EntryId),
    ) {
        let Some(mut state) = self.lock(cluster) else {
            return;
        };
        let mut given = 0;
        for &offset in offsets {
            let offset = usize::from(offset);
            // First the descriptor, then the bit: both change under the lock, and a waiter woken here finds a dead entry.
            if let Some(entry) = EntryId::from_parts(cluster, offset) {
                release(entry);
            }
            given += u64::from(state.give_back(offset));
        }
        worker.tally.released.add(given);
        if !state.is_anyones_current() {
            self.list(cluster, &mut state, table);
        }
    }

    /// Remembers that the count side table has a page for this cluster.
    pub(crate) fn note_counted(&self, cluster: usize) {
        if let Some(mut state) = self.lock(cluster) {
            state.counted = 1;
        }
    }

    /// Lets go of every worker's current cluster, so that the empty ones give their memory back.
    pub(crate) fn trim(&self, workers: &[Worker], table: &Table) {
        for worker in workers {
            self.retire(worker.current.swap(0, SeqCst), worker.number, table);
        }
    }

    /// Takes the locks of all clusters, that of the next one to be born too, so that none is born.
    pub(crate) fn lock_for_fork(&self) {
        let mut next = 1;
        while next <= self.unborn.load(SeqCst) {
            if let Some(cluster) = self.clusters.get(next) {
                cluster.lock_for_fork();
            }
            next += 1;
        }
    }

    pub(crate) fn unlock_after_fork(&self) {
        for cluster in 1..=self.unborn.load(SeqCst) {
            if let Some(cluster) = self.clusters.get(cluster) {
                cluster.unlock_after_fork();
            }
        }
    }

    /// In a forked child: a thread of the parent may have been between taking a cluster and noting it.
    pub(crate) fn relist_all(&self, table: &Table) {
        for cluster in self.born() {
            if let Some(mut state) = self.lock(cluster)
                && state.is_anyones_current()
            {
                state.set_current_of(None);
                self.list(cluster, &mut state, table);
            }
        }
    }

    /// Whether the maps say of a cluster what its state says. The caller holds its lock.
    pub(crate) fn is_listed_right(&self, cluster: usize, state: &ClusterState) -> bool {
        let listed = Room {
            single: self.single.contains(cluster),
            block: self.block.contains(cluster),
        };
        let empty = self.empty.contains(cluster);
        if state.is_anyones_current() {
            !listed.single && !listed.block && !empty
        } else if state.used() == 0 {
            !listed.single && !listed.block && empty
        } else {
            listed == state.room() && !empty
        }
    }

    pub(crate) fn touched_bytes(&self) -> usize {
        self.clusters.touched_bytes()
            + self.single.touched_bytes()
            + self.block.touched_bytes()
            + self.empty.touched_bytes()
    }

    fn lock(&self, cluster: usize) -> Option<Guard<'_, ClusterState, RANK>> {
        self.clusters.get(cluster).map(RankedMutex::lock)
    }

    /// Makes another cluster the worker's and takes from it.
    fn claim(
        &self,
        n: usize,
        worker: &Worker,
        table: &Table,
    ) -> Option<(Option<usize>, EntryRange)> {
        let listed = if n == 1 { &self.single } else { &self.block };
        self.claim_from(listed, CANDIDATES, n, worker, table)
            .or_else(|| self.claim_from(&self.empty, usize::MAX, n, worker, table))
            .or_else(|| self.claim_unborn(n, worker, table))
            .or_else(|| self.claim_from(&self.single, usize::MAX, n, worker, table))
            .map(|(cluster, range)| (Some(cluster), range))
    }

    fn claim_from(
        &self,
        map: &HintMap,
        tries: usize,
        n: usize,
        worker: &Worker,
        table: &Table,
    ) -> Option<(usize, EntryRange)> {
        let mut from = 0;
        for _ in 0..tries {
            let cluster = map.next(from)?;
            let mut state = self.lock(cluster)?;
            if map.contains(cluster)
                && let Some(range) = self.take_over(&mut state, cluster, n, worker, table)
            {
                return Some((cluster, range));
            }
            from = cluster + 1;
        }
        None
    }

    fn claim_unborn(
        &self,
        n: usize,
        worker: &Worker,
        table: &Table,
    ) -> Option<(usize, EntryRange)> {
        loop {
            let cluster = self.unborn.load(SeqCst);
            let mut state = self.lock(cluster)?;
            if self.unborn.load(SeqCst) == cluster {
                self.unborn.store(cluster + 1, SeqCst);
                return self
                    .take_over(&mut state, cluster, n, worker, table)
                    .map(|range| (cluster, range));
            }
        }
    }

    fn take_over(
        &self,
        state: &mut ClusterState,
        cluster: usize,
        n: usize,
        worker: &Worker,
        table: &Table,
    ) -> Option<EntryRange> {
        if state.is_anyones_current() {
            return None;
        }
        let range = take(state, cluster, n, worker, table)?;
        state.set_current_of(Some(worker.number));
        self.single.remove(cluster);
        self.block.remove(cluster);
        self.empty.remove(cluster);
        Some(range)
    }

    /// The last resort: what other workers' clusters still have.
    fn scrape(
        &self,
        n: usize,
        worker: &Worker,
        table: &Table,
    ) -> Option<(Option<usize>, EntryRange)> {
        self.born().find_map(|cluster| {
            let mut state = self.lock(cluster)?;
            if !state.is_anyones_current() {
                return None;
            }
            take(&mut state, cluster, n, worker, table).map(|range| (None, range))
        })
    }

    /// The worker is done with a cluster: back to the maps with it.
    fn retire(&self, cluster: usize, worker: usize, table: &Table) {
        if cluster == 0 {
            return;
        }
        if let Some(mut state) = self.lock(cluster)
            && state.is_current_of(worker)
        {
            state.set_current_of(None);
            self.list(cluster, &mut state, table);
        }
    }

    /// Enters a cluster that is nobody's current one in the maps it belongs to.
    fn list(&self, cluster: usize, state: &mut ClusterState, table: &Table) {
        if state.used() == 0 {
            table.discard(cluster, state.counted != 0);
            state.counted = 0;
            self.single.remove(cluster);
            self.block.remove(cluster);
            self.empty.insert(cluster);
            return;
        }
        let room = state.room();
        set(&self.single, cluster, room.single);
        set(&self.block, cluster, room.block);
    }
}

fn set(map: &HintMap, cluster: usize, member: bool) {
    match (member, map.contains(cluster)) {
        (true, false) => map.insert(cluster),
        (false, true) => map.remove(cluster),
        _ => {}
    }
}

fn take(
    state: &mut ClusterState,
    cluster: usize,
    n: usize,
    worker: &Worker,
    table: &Table,
) -> Option<EntryRange> {
    let offset = state.take(n)?;
    let range = EntryRange::new(EntryId::from_parts(cluster, offset)?, n as u16);
    worker.tally.allocated.add(n as u64);
    // A descriptor that is not free under a free bit is broken bookkeeping: its bit stays taken and nothing is handed out.
    table.hand_out(range).then_some(range)
}
