//! The conservation laws of this floor (and of those below, which check themselves).

use std::collections::BTreeMap;

use vswap_platform::pagemap;
use vswap_space::GroupId;
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE, PAGE_SIZE};

use crate::engine::Engine;
use crate::groups::Held;
use crate::names::Rests;
use crate::page_state::{Name, PageState, Tag};

/// What the page states add up to.
#[derive(Default)]
struct Census {
    swapped: Vec<Name>,
    resident: u64,
    present: u64,
    /// Pages in memory and in frames, by group.
    groups: BTreeMap<GroupId, [u64; 2]>,
    problems: Vec<String>,
}

impl Engine {
    /// Checks every law with the engine held still; returns what is violated.
    pub fn check(&self) -> Vec<String> {
        let _signals = vswap_platform::sync::SignalBlock::enter();
        // Before the gate closes: who holds a worker may be waiting at it.
        let mut worker = self.workers.of_caller();
        let runs = self.runs.lock();
        self.world.close();
        let mut census = self.census();
        self.frames.check(&mut census.problems);
        self.queues()
            .for_each(|queue| queue.check(&mut census.problems));
        if let Some(worker) = worker.as_mut() {
            let problems = self.layer.check(&census.swapped, &mut worker.codec);
            census.problems.extend(problems);
        }
        self.compare(&mut census);
        self.world.open();
        drop(runs);
        census.problems
    }

    fn census(&self) -> Census {
        let mut census = Census::default();
        if !self.is_armed() {
            return census;
        }
        for block in 0..self.high_water_bytes().div_ceil(BLOCK_SIZE) {
            self.count_block(block, &mut census);
        }
        census
    }

    fn count_block(&self, block: usize, census: &mut Census) {
        let Some(mut guard) = self.region.lock(block) else {
            return;
        };
        self.settle(&mut guard);
        if guard.mask(PageState::is_evictable) != 0
            && !self.queue_of(guard.group()).is_queued(block)
        {
            census
                .problems
                .push(format!("block {block} is in memory and no victim"));
        }
        let mut presence = [0u8; BLOCK_PAGES];
        let known = pagemap::holding(guard.addr(0), BLOCK_SIZE, &mut presence).is_ok();
        for (slot, present) in presence.iter().enumerate() {
            let (state, present) = (guard.state(slot), present & 1 != 0);
            if state.tag() == Tag::Foreign {
                continue;
            }
            census.present += u64::from(present);
            let expected = matches!(state.tag(), Tag::Resident | Tag::Freed);
            census.resident += u64::from(expected);
            let [resident, cached] = census.groups.entry(guard.group()).or_default();
            *resident += u64::from(expected);
            if known && expected != present {
                let page = block * BLOCK_PAGES + slot;
                census.problems.push(format!(
                    "page {page} is {:?} but present is {present}",
                    state.tag()
                ));
            }
            if let Some(name) = state.name() {
                census.swapped.push(name);
                *cached += u64::from(self.layer.rests(name) == Rests::Frame);
                if let Some(wrong) = self.layer.wrong(name, guard.frame_run()) {
                    census.problems.push(format!("block {block} {wrong}"));
                }
            }
        }
    }

    /// Each group is charged for the pages of its blocks, and its parents too.
    fn compare_groups(&self, census: &mut Census) {
        let tree = self.layer.store().groups();
        for top in tree.all() {
            let mut all = [0; 2];
            for (_, pages) in census
                .groups
                .iter()
                .filter(|(group, _)| tree.is_within(**group, top))
            {
                for (sum, pages) in all.iter_mut().zip(pages) {
                    *sum += pages;
                }
            }
            let own = census.groups.get(&top).copied().unwrap_or_default();
            let kinds = [Held::Resident, Held::Cached];
            let charged = kinds.map(|what| self.groups.own_pages(top, what));
            let total = kinds.map(|what| self.groups.pages(top, what));
            if (own, all) != (charged, total) {
                census.problems.push(format!(
                    "{top:?} has {own:?} pages in memory and cached, {all:?} with its children, \
                     but {charged:?} and {total:?} are charged"
                ));
            }
        }
    }

    fn compare(&self, census: &mut Census) {
        if !self.is_armed() {
            return;
        }
        let counted = self.counters.resident_pages.get();
        if counted != census.resident {
            census.problems.push(format!(
                "{} pages are resident, {counted} are counted",
                census.resident
            ));
        }
        self.compare_groups(census);
        let bytes = census.present * PAGE_SIZE as u64;
        if bytes > self.own_bytes() {
            census
                .problems
                .push(format!("{bytes} bytes are present, more than are charged"));
        }
    }
}
