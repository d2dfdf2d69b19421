//! Handing out entries: the worker's current cluster, else the lowest cluster with room, else a new one.
//!
//! A cluster belongs to one group, so an entry's group is its cluster's and costs no word per entry. It is set when an empty
//! cluster is taken, and stays while an entry of it is in use. Each worker has a current cluster per group it works for.
//!
//! What a cluster has to give is known under its lock; maps of hints lead to the right lock: where there is room, by group, and
//! which clusters are empty. A cluster is in the maps unless a worker allocates from it. An emptied cluster gives its descriptor page back under the same lock, so an allocation
//! either comes before (and the cluster is not empty) or after (and touches the page anew).

use crate::cluster::{ClusterState, RANK, Room};
use crate::entry::{CLUSTER_ENTRIES, EntryId, EntryRange};
use crate::hint_map::HintMap;
use crate::table::Table;
use crate::worker::{WORKERS, Worker};
use core::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::sync::{Guard, RankedMutex};
use vswap_store::{GroupId, Groups, MAX_GROUPS};

/// How many fragmented clusters are looked into before a new one is started.
const CANDIDATES: usize = 4;

/// What is asked for: so many neighbours, at whose cost.
#[derive(Clone, Copy)]
pub(crate) struct Want {
    pub(crate) n: usize,
    pub(crate) group: GroupId,
}

pub(crate) struct Allocator {
    clusters: LazySlice<RankedMutex<ClusterState, RANK>>,
    /// Who pays for a cluster's entries. Changed under the cluster's lock, while the cluster is empty.
    payers: LazySlice<AtomicU16>,
    /// Entries in use of each group but the root, which has the rest.
    entries: LazySlice<AtomicU64>,
    /// The cluster each worker allocates from for each group but the root; 0 if none.
    currents: LazySlice<AtomicUsize>,
    /// Clusters with a free entry: bit `group * clusters + cluster`.
    single: HintMap,
    /// Clusters with a free aligned block of 16, likewise.
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
            payers: LazySlice::reserve(clusters, clusters)?,
            entries: LazySlice::reserve(MAX_GROUPS, MAX_GROUPS)?,
            currents: LazySlice::reserve(MAX_GROUPS * WORKERS, MAX_GROUPS * WORKERS)?,
            single: HintMap::new(clusters * MAX_GROUPS)?,
            block: HintMap::new(clusters * MAX_GROUPS)?,
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

    /// Who pays for the entries of a cluster. Stable while one of them is in use.
    pub(crate) fn payer(&self, cluster: usize) -> GroupId {
        let bits = self
            .payers
            .get(cluster)
            .map_or(0, |payer| payer.load(Relaxed));
        GroupId::new(usize::from(bits)).unwrap_or(GroupId::ROOT)
    }

    /// Entries in use of a group that is not the root.
    pub(crate) fn entries_of(&self, group: GroupId) -> u64 {
        self.entries
            .get(group.index())
            .map_or(0, |count| count.load(Relaxed))
    }

    /// Counts entries of a group in, or out by a number below zero. The root's are what is left of all.
    fn count(&self, group: GroupId, entries: i64) {
        if group != GroupId::ROOT
            && let Some(count) = self.entries.get(group.index())
        {
            count.fetch_add(entries as u64, Relaxed);
        }
    }

    fn current<'a>(&'a self, worker: &'a Worker, group: GroupId) -> &'a AtomicUsize {
        match group {
            GroupId::ROOT => &worker.current,
            _ => self
                .currents
                .get(group.index() * WORKERS + worker.number)
                .unwrap_or(&worker.current),
        }
    }

    /// `n` neighbours aligned to the next power of two, or `None` when no cluster can give them.
    pub(crate) fn allocate(
        &self,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<EntryRange> {
        if want.n == 0 || want.n > CLUSTER_ENTRIES {
            return None;
        }
        let current = self.current(worker, want.group);
        let cluster = current.load(Relaxed);
        if cluster != 0
            && let Some(mut state) = self.lock_for(worker, cluster)
            && state.is_current_of(worker.number)
            && let Some(range) = self.take(&mut state, cluster, want, worker, table)
        {
            return Some(range);
        }
        let (cluster, range) = self
            .claim(want, worker, table)
            .or_else(|| self.scrape(want, worker, table))?;
        if let Some(cluster) = cluster {
            let former = current.swap(cluster, SeqCst);
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
        let Some(mut state) = self.lock_for(worker, cluster) else {
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
        self.count(self.payer(cluster), -(given as i64));
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
    pub(crate) fn trim(&self, workers: &[Worker], groups: &Groups, table: &Table) {
        for group in core::iter::once(GroupId::ROOT).chain(groups.all()) {
            self.trim_group(group, workers, table);
        }
    }

    /// Lets go of every worker's current cluster of one group.
    pub(crate) fn trim_group(&self, group: GroupId, workers: &[Worker], table: &Table) {
        for worker in workers {
            let former = self.current(worker, group).swap(0, SeqCst);
            self.retire(former, worker.number, table);
        }
    }

    /// In a forked child: no worker allocates from anywhere yet.
    pub(crate) fn forget_currents(&self, workers: &[Worker], groups: &Groups) {
        for group in core::iter::once(GroupId::ROOT).chain(groups.all()) {
            for worker in workers {
                self.current(worker, group).store(0, SeqCst);
            }
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
        let member = self.member(cluster);
        let listed = Room {
            single: self.single.contains(member),
            block: self.block.contains(member),
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
            + self.payers.touched_bytes()
            + self.currents.touched_bytes()
    }

    fn lock(&self, cluster: usize) -> Option<Guard<'_, ClusterState, RANK>> {
        self.clusters.get(cluster).map(RankedMutex::lock)
    }

    /// The same, counted: on the way out or back of a page.
    fn lock_for(&self, worker: &Worker, cluster: usize) -> Option<Guard<'_, ClusterState, RANK>> {
        worker.tally.locked.add(1);
        self.lock(cluster)
    }

    /// Where a cluster's bit is in the maps of room.
    fn member(&self, cluster: usize) -> usize {
        self.payer(cluster).index() * self.clusters.len() + cluster
    }

    /// Makes another cluster the worker's and takes from it.
    fn claim(
        &self,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<(Option<usize>, EntryRange)> {
        let base = want.group.index() * self.clusters.len();
        let listed = if want.n == 1 {
            &self.single
        } else {
            &self.block
        };
        self.claim_from((listed, base), CANDIDATES, want, worker, table)
            .or_else(|| self.claim_from((&self.empty, 0), usize::MAX, want, worker, table))
            .or_else(|| self.claim_unborn(want, worker, table))
            .or_else(|| self.claim_from((&self.single, base), usize::MAX, want, worker, table))
            .map(|(cluster, range)| (Some(cluster), range))
    }

    /// From a map, in which the cluster of bit `base` is cluster 0.
    fn claim_from(
        &self,
        (map, base): (&HintMap, usize),
        tries: usize,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<(usize, EntryRange)> {
        let (mut from, end) = (base, base + self.clusters.len());
        for _ in 0..tries {
            let member = map.next(from, end)?;
            let cluster = member - base;
            let mut state = self.lock_for(worker, cluster)?;
            if map.contains(member)
                && let Some(range) = self.take_over(&mut state, cluster, want, worker, table)
            {
                return Some((cluster, range));
            }
            from = member + 1;
        }
        None
    }

    fn claim_unborn(
        &self,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<(usize, EntryRange)> {
        loop {
            let cluster = self.unborn.load(SeqCst);
            let mut state = self.lock_for(worker, cluster)?;
            if self.unborn.load(SeqCst) == cluster {
                self.unborn.store(cluster + 1, SeqCst);
                return self
                    .take_over(&mut state, cluster, want, worker, table)
                    .map(|range| (cluster, range));
            }
        }
    }

    fn take_over(
        &self,
        state: &mut ClusterState,
        cluster: usize,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<EntryRange> {
        if state.is_anyones_current() {
            return None;
        }
        if state.used() == 0
            && let Some(payer) = self.payers.get(cluster)
        {
            payer.store(want.group.index() as u16, Relaxed);
        }
        let range = self.take(state, cluster, want, worker, table)?;
        state.set_current_of(Some(worker.number));
        let member = self.member(cluster);
        self.single.remove(member);
        self.block.remove(member);
        self.empty.remove(cluster);
        Some(range)
    }

    /// The last resort: what other workers' clusters still have.
    fn scrape(
        &self,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<(Option<usize>, EntryRange)> {
        self.born().find_map(|cluster| {
            let mut state = self.lock(cluster)?;
            if !state.is_anyones_current() || self.payer(cluster) != want.group {
                return None;
            }
            self.take(&mut state, cluster, want, worker, table)
                .map(|range| (None, range))
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
            let member = self.member(cluster);
            self.single.remove(member);
            self.block.remove(member);
            self.empty.insert(cluster);
            return;
        }
        let (room, member) = (state.room(), self.member(cluster));
        set(&self.single, member, room.single);
        set(&self.block, member, room.block);
    }

    fn take(
        &self,
        state: &mut ClusterState,
        cluster: usize,
        want: Want,
        worker: &Worker,
        table: &Table,
    ) -> Option<EntryRange> {
        let offset = state.take(want.n)?;
        let range = EntryRange::new(EntryId::from_parts(cluster, offset)?, want.n as u16);
        worker.tally.allocated.add(want.n as u64);
        self.count(want.group, want.n as i64);
        // A descriptor that is not free under a free bit is broken bookkeeping: its bit stays taken and nothing is handed out.
        table.hand_out(range).then_some(range)
    }
}

fn set(map: &HintMap, cluster: usize, member: bool) {
    match (member, map.contains(cluster)) {
        (true, false) => map.insert(cluster),
        (false, true) => map.remove(cluster),
        _ => {}
    }
}
