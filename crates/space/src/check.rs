//! The conservation laws of this floor, for tests, stress runs and `vswap check`.
//!
//! The gate is shut meanwhile, so no descriptor in use changes; entries may still be handed out, which is why sums that
//! include them are compared only when nobody did. Not for the fault path: it makes strings.

use crate::cluster::ClusterState;
use crate::descriptor::{Backing, Tag, Word};
use crate::entry::{CLUSTER_ENTRIES, EntryId};
use crate::layer::SwapLayer;
use crate::shared::{Found, SharedId};
use crate::tally::Sums;
use std::collections::BTreeMap;
use vswap_platform::clock;
use vswap_store::{GroupId, Slot, Stored, Workspace};

/// How long a pin may be held before that is a violated law.
const PIN_LIMIT_NS: u64 = 2_000_000_000;
/// How long an allocation that has begun may take to be counted.
const ALLOCATING_NS: u64 = 1_000_000_000;
/// More violations than this are not told one by one.
const MOST: usize = 100;

/// What a walk over all descriptors found.
#[derive(Default)]
struct Census {
    laws: Vec<String>,
    used: u64,
    same: u64,
    objects: Vec<(u64, Stored)>,
    stored_bytes: u64,
    slots: Vec<Slot>,
    frames: Vec<(u32, EntryId)>,
    /// Entries in use by group.
    groups: BTreeMap<GroupId, u64>,
    /// The shared object of every entry that is a share in one.
    shares: Vec<SharedId>,
}

impl SwapLayer {
    /// Every violated law, of the store too, as a sentence. Empty when all is well. Waits until nobody holds a pin.
    ///
    /// **Context**: no cleaning, writeback or trimming meanwhile; the store's own laws hold only at rest. The workspace knows the
    /// codecs of what is stored, since every object is read.
    #[must_use]
    pub fn check(&self, workspace: &mut Workspace) -> Vec<String> {
        self.gate.close();
        let laws = self.check_at_rest(workspace);
        self.gate.open();
        laws
    }

    fn check_at_rest(&self, workspace: &mut Workspace) -> Vec<String> {
        if !self.wait_for_pins(PIN_LIMIT_NS) {
            return self
                .pinned_entries()
                .take(MOST)
                .map(|entry| format!("{entry:?} has been pinned for seconds"))
                .collect();
        }
        let before = self.sums();
        let mut census = Census::default();
        for cluster in self.allocator.born() {
            self.visit(cluster, &mut census);
        }
        let quiet = self.sums() == before;
        self.check_sharing(&before, &mut census);
        census.compare(&before, quiet);
        census.look_for_twins();
        if quiet {
            let known = census.laws.len();
            self.check_groups(&mut census);
            if census.laws.len() > known && self.changes_soon(&before) {
                census.laws.truncate(known);
            }
        }
        let report = self
            .store
            .check(&mut census.objects.iter().copied(), workspace);
        let Census {
            mut laws, slots, ..
        } = census;
        laws.extend(report.broken);
        laws.extend(self.store.slots().check(slots));
        laws
    }

    /// Does an allocation show that began meanwhile? It needs no pin, is charged first and counted last, so a thread that lost
    /// its CPU between looks like a violated law until it goes on.
    fn changes_soon(&self, before: &Sums) -> bool {
        let end = clock::now_ns().saturating_add(ALLOCATING_NS);
        while clock::now_ns() < end {
            if self.sums() != *before {
                return true;
            }
            self.rest();
        }
        false
    }

    /// Entries are charged to the group of their cluster, and objects lie in segments of their entry's group.
    fn check_groups(&self, census: &mut Census) {
        for group in self.store.groups().all() {
            let found = census.groups.get(&group).copied().unwrap_or_default();
            let charged = self.allocator.entries_of(group);
            if found != charged {
                census.violated(format!(
                    "{group:?}: {found} entries found, {charged} charged"
                ));
            }
        }
        let strays = census.objects.iter().filter(|&&(owner, object)| {
            EntryId::new(owner)
                .is_some_and(|entry| self.store.group_of(object) != Some(self.group_of(entry)))
        });
        let strays = strays.count();
        if strays != 0 {
            census.violated(format!("{strays} objects lie in segments of another group"));
        }
    }

    /// Shared objects have as many sharers as there are shares, none is read now, and the index names nothing that cannot be.
    fn check_sharing(&self, sums: &Sums, census: &mut Census) {
        census.shares.sort_unstable();
        let Some(sharing) = &self.sharing else {
            if let Some(id) = census.shares.first() {
                census.violated(format!("{id:?} has a share, but nothing is shared here"));
            }
            return;
        };
        let (found, live) = sharing.table.census();
        let entries = census.shares.len() as u64;
        let mut saved = 0;
        for row in &found {
            census.match_shares(row);
            census.objects.push((row.id.owner(), row.object));
            let bytes = u64::from(row.object.stored_bytes);
            census.stored_bytes += bytes;
            saved += bytes * row.sharers.saturating_sub(1);
        }
        let sharers: u64 = found.iter().map(|row| row.sharers).sum();
        let objects = found.len() as u64;
        for (what, one, other) in [
            ("shared objects in the list", objects, u64::from(live)),
            ("shared objects", objects, sums.shared_objects_now()),
            ("shares of objects", sharers, entries),
            ("shares", entries, sums.shared_now()),
            ("bytes saved by sharing", saved, sums.saved_now()),
        ] {
            if one != other {
                census.violated(format!("{what}: {one} found, {other} counted"));
            }
        }
        // What it names may have ended or changed: it is compared before it is shared. But it names something.
        let stray =
            |&owner: &u64| SharedId::of_owner(owner).is_none() && EntryId::new(owner).is_none();
        if let Some(owner) = sharing.index.owners().find(stray) {
            census.violated(format!("the index names {owner:#x}, which is nothing"));
        }
    }

    fn visit(&self, cluster: usize, census: &mut Census) {
        let Some(state) = self.allocator.cluster(cluster) else {
            return;
        };
        let state = state.lock();
        if !state.is_consistent() {
            census.violated(format!(
                "cluster {cluster} counts {} entries, its bits say otherwise",
                state.used()
            ));
        }
        if !self.allocator.is_listed_right(cluster, &state) {
            census.violated(format!(
                "cluster {cluster} with {} entries is in the wrong list",
                state.used()
            ));
        }
        census.used += state.used() as u64;
        let payer = self.allocator.payer(cluster);
        *census.groups.entry(payer).or_default() += state.used() as u64;
        if state.used() == 0 && !state.is_anyones_current() {
            return;
        }
        for entry in (0..CLUSTER_ENTRIES).filter_map(|offset| EntryId::from_parts(cluster, offset))
        {
            self.examine(entry, &state, census);
        }
    }

    fn examine(&self, entry: EntryId, state: &ClusterState, census: &mut Census) {
        let word = self.table.load(entry);
        if (word.tag() != Tag::Free) != state.is_taken(entry.offset()) {
            census.violated(format!(
                "{entry:?} is {:?}, its cluster says otherwise",
                word.tag()
            ));
        }
        if word.is_pinned() || (word.tag() == Tag::Free && word != Word::FREE) {
            census.violated(format!(
                "{entry:?} has the impossible descriptor {:#x}",
                word.bits()
            ));
        }
        let extra = if state.counted == 0 {
            0
        } else {
            self.table.extra(entry)
        };
        if word.is_counted() != (extra != 0) {
            census.violated(format!(
                "{entry:?} is counted {extra} times above one, its descriptor says otherwise"
            ));
        }
        census.count(entry, word);
    }
}

impl Census {
    fn violated(&mut self, law: String) {
        match self.laws.len() {
            MOST => self.laws.push("and more".to_owned()),
            len if len < MOST => self.laws.push(law),
            _ => {}
        }
    }

    fn count(&mut self, entry: EntryId, word: Word) {
        self.same += u64::from(word.tag() == Tag::Same);
        if let Backing::Slot(slot) = word.backing() {
            self.slots.push(slot);
        }
        if let Some(object) = word.object() {
            self.objects.push((entry.get(), object));
            self.stored_bytes += u64::from(object.stored_bytes);
        }
        if let Some(id) = word.shared() {
            self.shares.push(id);
        }
        if let Some(frame) = word.frame() {
            self.frames.push((frame, entry));
        }
    }

    /// A shared object against the entries that are shares in it (sorted).
    fn match_shares(&mut self, row: &Found) {
        let from = self.shares.partition_point(|&id| id < row.id);
        let until = self.shares.partition_point(|&id| id <= row.id);
        let entries = (until - from) as u64;
        if entries != row.sharers || row.readers != 0 {
            self.violated(format!(
                "{:?} counts {} sharers and {} readers, {entries} entries are shares in it",
                row.id, row.sharers, row.readers
            ));
        }
    }

    /// What is there against what was charged.
    fn compare(&mut self, sums: &Sums, quiet: bool) {
        let objects = self.objects.len() as u64;
        let slots = self.slots.len() as u64;
        let pairs = [
            ("entries in use", self.used, sums.entries_now(), quiet),
            ("pages in slots", slots, sums.slots_now(), true),
            ("pages of one word", self.same, sums.same_now(), true),
            ("stored pages", objects, sums.stored_now(), true),
            (
                "stored bytes",
                self.stored_bytes,
                sums.stored_bytes_now(),
                true,
            ),
        ];
        for (what, found, charged, comparable) in pairs {
            if comparable && found != charged {
                self.violated(format!("{what}: {found} found, {charged} charged"));
            }
        }
    }

    /// No frame and no object belongs to two entries.
    fn look_for_twins(&mut self) {
        self.frames.sort_unstable();
        let mut objects: Vec<_> = self
            .objects
            .iter()
            .map(|&(owner, object)| (object.location, owner))
            .collect();
        objects.sort_unstable();
        let frames = self.frames.windows(2).filter_map(|pair| match pair {
            [(frame, a), (other, b)] if frame == other => {
                Some(format!("frame {frame} belongs to {a:?} and {b:?}"))
            }
            _ => None,
        });
        let objects = objects.windows(2).filter_map(|pair| match pair {
            [(at, a), (other, b)] if at == other => {
                Some(format!("object {at:?} belongs to {a} and {b}"))
            }
            _ => None,
        });
        let twins: Vec<_> = frames.chain(objects).take(MOST).collect();
        self.laws.extend(twins);
    }
}
