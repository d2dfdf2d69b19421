//! The charges of groups at this floor: additions on the way in and out of a
//! page, up the chain of parents. The root has no row: it has what is left of
//! the engine's own counters.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release};

use bytemuck::Zeroable;
use vswap_platform::errno::Errno;
use vswap_platform::lazy::LazySlice;
use vswap_platform::sync::{RankedMutex, SignalGuard};
use vswap_space::GroupId;
use vswap_store::{Groups, MAX_GROUPS};
use vswap_units::{PAGE_SHIFT, rank};

use super::named::{GroupKey, Named};
use super::turn::Turn;
use crate::victims::Victims;

/// What is counted of a group's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// In their places.
    Resident = 0,
    /// In frames, bound to an entry.
    Cached = 1,
}

#[derive(Zeroable)]
#[repr(C)]
pub(super) struct Row {
    own: [AtomicU64; 2],
    total: [AtomicU64; 2],
    /// Bytes and blocks handed out to the program, the group's own.
    handed_out: AtomicU64,
    blocks: AtomicU64,
    /// Limit of RAM in bytes; 0: none.
    pub(super) ram_max: AtomicU64,
    /// Times the limit stood against a fault or an allocation, and times there
    /// was no room to be made.
    pub(super) max_events: AtomicU64,
    pub(super) fail_events: AtomicU64,
    /// Reclaim found nothing more to move out (0 or 1).
    pub(super) full: AtomicU32,
    /// Takes nothing new (0 or 1).
    pub(super) ending: AtomicU32,
    /// What names it for good; 0: no group.
    pub(super) key: AtomicU32,
    pad: u32,
}

/// All groups of an engine.
pub struct GroupTable {
    rows: LazySlice<Row>,
    queues: Vec<OnceLock<Victims>>,
    /// There was a group once: what it left behind bears its number still. Until
    /// then faults look at nothing of this.
    used: AtomicBool,
    pub(super) turn: Turn,
    generations: AtomicU32,
    /// The key of the group that pays for what nobody asked for by group; 0: the root.
    usual: AtomicU32,
    /// Before the run allocator's lock, and before `world` is entered: a fork takes it before both.
    pub(super) named: RankedMutex<Vec<Named>, { rank::GROUP }>,
}

/// The names of groups, held still, with signals blocked.
pub(crate) type NamesGuard<'a> = SignalGuard<'a, Vec<Named>, { rank::GROUP }>;

impl GroupTable {
    /// A table with the root alone.
    ///
    /// # Errors
    /// The kernel's, when there is no address space.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            rows: LazySlice::reserve(MAX_GROUPS, MAX_GROUPS)?,
            queues: (0..MAX_GROUPS).map(|_| OnceLock::new()).collect(),
            used: AtomicBool::new(false),
            turn: Turn::default(),
            generations: AtomicU32::new(0),
            usual: AtomicU32::new(0),
            named: RankedMutex::new(Vec::new()),
        })
    }

    /// Holds the names still. **Context**: outside `world`.
    pub(crate) fn lock_names(&self) -> NamesGuard<'_> {
        self.named.lock_blocking_signals()
    }

    /// Before the run allocator's, so that a child finds no name half made.
    pub(crate) fn lock_for_fork(&self) {
        self.named.lock_for_fork();
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.named.unlock_after_fork();
    }

    pub(super) fn row(&self, group: GroupId) -> Option<&Row> {
        self.rows.get(group.index())
    }

    /// Are there groups but the root, or were there?
    pub fn any(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// The queue of a group's blocks that may have something to take.
    pub(crate) fn queue(&self, group: GroupId) -> Option<&Victims> {
        self.queues.get(group.index())?.get()
    }

    /// A new group begins with nothing. Its queue may be one that an ended group left.
    pub(super) fn begin(
        &self,
        group: GroupId,
        queue: impl FnOnce() -> Result<Victims, Errno>,
    ) -> Result<(), Errno> {
        if let Some(place) = self.queues.get(group.index())
            && place.get().is_none()
        {
            let _ = place.set(queue()?);
        }
        if let Some(row) = self.row(group) {
            let pages = row.own.iter().chain(&row.total);
            let others = [
                &row.handed_out,
                &row.blocks,
                &row.ram_max,
                &row.max_events,
                &row.fail_events,
            ];
            pages
                .chain(others)
                .for_each(|count| count.store(0, Relaxed));
            row.full.store(0, Relaxed);
            row.ending.store(0, Relaxed);
        }
        self.used.store(true, Release);
        Ok(())
    }

    /// What makes the key of a group differ from that of all before it (wraps).
    pub(super) fn next_generation(&self) -> u32 {
        1 + self.generations.fetch_add(1, Relaxed) % 0xffff
    }

    /// Takes nothing new from here on, or does again.
    pub(super) fn set_ending(&self, group: GroupId, ending: bool) {
        if let Some(row) = self.row(group) {
            row.ending.store(ending.into(), Relaxed);
        }
    }

    pub(super) fn end(&self, group: GroupId) {
        if let Some(row) = self.row(group) {
            row.key.store(0, Relaxed);
        }
    }

    /// Counts pages of a group and those above it in, or out by a number below zero.
    pub(crate) fn count(&self, tree: &Groups, group: GroupId, what: Held, pages: i64) {
        if group == GroupId::ROOT || pages == 0 {
            return;
        }
        if let Some(row) = self.row(group) {
            of(&row.own, what).fetch_add(pages as u64, Relaxed);
        }
        for row in tree.chain(group).filter_map(|at| self.row(at)) {
            of(&row.total, what).fetch_add(pages as u64, Relaxed);
        }
    }

    /// Pages of the group and those below it; of the root: those of all others.
    pub(crate) fn pages(&self, group: GroupId, what: Held) -> u64 {
        self.row(group)
            .map_or(0, |row| of(&row.total, what).load(Relaxed))
    }

    /// The group's own pages.
    pub(crate) fn own_pages(&self, group: GroupId, what: Held) -> u64 {
        self.row(group)
            .map_or(0, |row| of(&row.own, what).load(Relaxed))
    }

    /// Bytes of pages in memory of the group and those below it.
    pub(crate) fn page_bytes(&self, group: GroupId) -> u64 {
        (self.pages(group, Held::Resident) + self.pages(group, Held::Cached)) << PAGE_SHIFT
    }

    /// Counts what is handed out to the program.
    pub(crate) fn hand_out(&self, group: GroupId, bytes: i64, blocks: i64) {
        if group != GroupId::ROOT
            && let Some(row) = self.row(group)
        {
            row.handed_out.fetch_add(bytes as u64, Relaxed);
            row.blocks.fetch_add(blocks as u64, Relaxed);
        }
    }

    /// Blocks of memory the program holds of a group, and their bytes.
    pub(crate) fn live(&self, group: GroupId) -> (u64, u64) {
        // A mapping that is unmapped in pieces counts more than once, as everywhere.
        self.row(group).map_or((0, 0), |row| {
            let blocks = row.blocks.load(Relaxed).cast_signed().max(0);
            (blocks.cast_unsigned(), row.handed_out.load(Relaxed))
        })
    }

    /// The limit of RAM in bytes.
    pub(crate) fn ram_max(&self, group: GroupId) -> Option<u64> {
        let limit = self.row(group)?.ram_max.load(Relaxed);
        (limit != 0).then_some(limit)
    }

    /// The group of a key, by a look without a lock. `None`: it has ended.
    pub(crate) fn by_key(&self, key: GroupKey) -> Option<GroupId> {
        let group = GroupId::new((key.0 & 0xffff) as usize)?;
        if group == GroupId::ROOT {
            return (key.0 == 0).then_some(group);
        }
        let row = self.row(group)?;
        (row.key.load(Relaxed) == key.0).then_some(group)
    }

    /// Who pays for what nobody asked for by group. Set once, before the first
    /// allocation: from then on the root hands nothing out.
    pub(super) fn set_usual(&self, key: GroupKey) {
        self.usual.store(key.0, Relaxed);
    }

    /// The group that stands for the root where memory is asked for.
    pub(crate) fn usual(&self) -> GroupKey {
        GroupKey(self.usual.load(Relaxed))
    }

    /// Who pays for memory that is asked for at the cost of `group`.
    pub(crate) fn payer(&self, group: GroupId) -> GroupId {
        match group {
            GroupId::ROOT => self.by_key(self.usual()).unwrap_or(group),
            _ => group,
        }
    }

    /// Is it on its way out?
    pub(crate) fn is_ending(&self, group: GroupId) -> bool {
        group != GroupId::ROOT
            && self
                .row(group)
                .is_none_or(|row| row.ending.load(Relaxed) != 0)
    }
}

fn of<T>(pair: &[T; 2], what: Held) -> &T {
    let [resident, cached] = pair;
    match what {
        Held::Resident => resident,
        Held::Cached => cached,
    }
}
