//! The conservation laws of this floor, for tests, stress runs and `vswap check`.
//!
//! The gate is shut meanwhile, so no descriptor in use changes; entries may still be handed out, which is why sums that
//! include them are compared only when nobody did. Not for the fault path: it makes strings.

use crate::cluster::ClusterState;
use crate::descriptor::{Backing, Tag, Word};
use crate::entry::{CLUSTER_ENTRIES, EntryId};
use crate::layer::SwapLayer;
use crate::tally::Sums;
use std::collections::BTreeMap;
use vswap_store::{GroupId, Slot, Stored, Workspace};

/// How long a pin may be held before that is a violated law.
const PIN_LIMIT_NS: u64 = 2_000_000_000;
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
        census.compare(&before, quiet);
        census.look_for_twins();
        if quiet {
            self.check_groups(&mut census);
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
        if let Some(frame) = word.frame() {
            self.frames.push((frame, entry));
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
