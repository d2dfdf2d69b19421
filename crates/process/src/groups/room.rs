//! Room under a group's limit, from the group's own pages: its freed and oldest
//! blocks go to the frames, and its oldest frames are compressed.
//!
//! A group whose compressed pages are at their limit and cannot be written back
//! is *stuck*: nothing of it can go out, so nothing of it is taken, and what was
//! taken already is put back where it was. Frames are few, and pages of one
//! group that wait in them for ever would stop all others.
//!
//! **If nothing can be moved** a fault goes over `ram_max` rather than wait for
//! ever (it is counted), and new allocations of the group are refused.

use std::sync::atomic::Ordering::Relaxed;

use vswap_space::GroupId;
use vswap_store::{Resource, SEGMENT_BYTES};
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE, Bytes, PAGE_SHIFT};

use super::Held;
use crate::engine::Engine;
use crate::evict::Patience;
use crate::names::Rests;
use crate::page_state::Tag;
use crate::region::BlockGuard;
use crate::worker::Worker;

/// Steps a fault makes for its group, and its waits for a device at most. Short:
/// the thread that waits serves faults of other groups too.
const FAULT_STEPS: u32 = 24;
const FAULT_PAUSES: u32 = 8;
const PAUSE_NS: u64 = 1_000_000;
/// Steps of the background reclaimer for one group per look, and for a full one.
const LOOK_STEPS: u32 = 128;
const FULL_STEPS: u32 = 8;
/// The second-chance window of a group is this part of its limit, and at least so many pages.
const WINDOW_PART: u64 = 32;
const WINDOW_LEAST: u64 = 4 * BLOCK_PAGES as u64;
/// A group that has a device keeps at least this much room below its limit of compressed RAM.
const ROOM_PART: u32 = 8;
/// What a group may hold beyond what the ratio of all groups says.
const GENEROUS: u64 = 2;
const SEGMENT: u64 = SEGMENT_BYTES as u64;

impl Engine {
    /// RAM that the group and those below it hold: pages in memory and segments.
    pub(crate) fn group_ram(&self, group: GroupId) -> u64 {
        let segments = self.layer.store().groups().usage(group).ram;
        self.groups.page_bytes(group) + u64::from(segments) * SEGMENT
    }

    /// Pages of the group itself in their places and in frames.
    pub(crate) fn own_pages_of(&self, group: GroupId) -> (u64, u64) {
        if group != GroupId::ROOT {
            let own = |what| self.groups.own_pages(group, what);
            return (own(Held::Resident), own(Held::Cached));
        }
        let others = |what| self.groups.pages(GroupId::ROOT, what);
        let resident = self.counters.resident_pages.get();
        let cached = self.frames.present_pages();
        (
            resident.saturating_sub(others(Held::Resident)),
            cached.saturating_sub(others(Held::Cached)),
        )
    }

    /// The lowest group of the chain that would be over its limit (a 64th is
    /// left below it) with so many bytes more.
    fn over(&self, group: GroupId, bytes: u64) -> Option<GroupId> {
        let tree = self.layer.store().groups();
        tree.chain(group).find(|&at| {
            self.groups
                .ram_max(at)
                .is_some_and(|most| self.group_ram(at) + bytes > most - most / 64)
        })
    }

    /// Would a block more fit under the group's limits?
    pub(crate) fn group_has_room(&self, group: GroupId) -> bool {
        group == GroupId::ROOT || self.over(group, BLOCK_SIZE as u64).is_none()
    }

    /// Has the group no way out for its pages?
    pub(crate) fn is_stuck(&self, group: GroupId) -> bool {
        if group == GroupId::ROOT {
            return false;
        }
        let store = self.layer.store();
        store
            .groups()
            .refused_by(group)
            .is_some_and(|limiting| !self.device_takes_more() || !store.can_relieve(limiting))
    }

    /// Before a fault on `page`: room under the limits of the group that pays for
    /// it. **Context**: no lock but the worker's, not inside `world`.
    pub(crate) fn admit_to_group(&self, worker: &mut Worker, page: usize) {
        if !self.groups.any() {
            return;
        }
        let group = self.region.group_of(page / BLOCK_PAGES);
        if group == GroupId::ROOT || self.is_here(page) {
            return;
        }
        let mut pauses = 0;
        let mut noted = false;
        for _ in 0..FAULT_STEPS + FAULT_PAUSES {
            let Some(limiting) = self.over(group, BLOCK_SIZE as u64) else {
                return;
            };
            if !noted {
                self.note(limiting, |row| &row.max_events);
                noted = true;
            }
            if self.is_group_full(limiting) {
                break;
            }
            let moved = {
                let _inside = self.world.enter();
                self.group_step(worker, limiting, Patience::Fault)
            };
            if moved {
                continue;
            }
            if pauses == FAULT_PAUSES {
                break;
            }
            pauses += 1;
            let seen = self.room_event.seen();
            self.reclaim_event.signal();
            self.write_event.signal();
            self.room_event.wait_past(seen, PAUSE_NS);
        }
        if self.over(group, BLOCK_SIZE as u64).is_some() {
            self.note(group, |row| &row.fail_events);
        }
        self.reclaim_event.signal();
    }

    /// Is the page in memory already, or in a frame? A hint.
    fn is_here(&self, page: usize) -> bool {
        let state = self.region.state_hint(page);
        match state.tag() {
            Tag::Resident | Tag::Freed | Tag::Poisoned | Tag::Foreign => true,
            Tag::Unknown | Tag::Empty => false,
            Tag::Swapped => state
                .name()
                .is_some_and(|name| self.layer.rests(name) == Rests::Frame),
        }
    }

    pub(super) fn note(
        &self,
        group: GroupId,
        which: impl Fn(&super::table::Row) -> &std::sync::atomic::AtomicU64,
    ) {
        if let Some(row) = self.groups.row(group) {
            which(row).fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn is_group_full(&self, group: GroupId) -> bool {
        self.groups
            .row(group)
            .is_some_and(|row| row.full.load(Relaxed) != 0)
    }

    /// One step of making room under `top`, from its own pages; false when there
    /// was nothing to do.
    fn group_step(&self, worker: &mut Worker, top: GroupId, patience: Patience) -> bool {
        let most = self.groups.ram_max(top).unwrap_or(0);
        let window = ((most / WINDOW_PART) >> PAGE_SHIFT).max(WINDOW_LEAST);
        if self.groups.pages(top, Held::Cached) >= window
            && self.write_out_of(worker, top, patience)
        {
            return true;
        }
        let tree = self.layer.store().groups();
        let mut within = std::iter::once(top).chain(tree.all());
        let victim = within.find_map(|group| {
            let mine = tree.is_within(group, top) && !self.is_stuck(group);
            mine.then(|| self.pop_victim_of(group)).flatten()
        });
        match victim {
            Some(block) => {
                self.take_block(worker, block, patience) > 0
                    || self.write_out_of(worker, top, patience)
            }
            None => self.write_out_of(worker, top, patience),
        }
    }

    /// Compresses the oldest cached run of the group or one below it.
    fn write_out_of(&self, worker: &mut Worker, top: GroupId, patience: Patience) -> bool {
        let tree = self.layer.store().groups();
        let mine = |block| tree.is_within(self.region.group_of(block), top);
        let Some((run, block)) = self.frames.pop_cached_where(&mine) else {
            return false;
        };
        let Some(run) = self.write_out_run(worker, run, block, patience) else {
            return false;
        };
        self.frames.put(run);
        self.room_event.signal();
        true
    }

    /// See [`Engine::is_stuck`]: cached pages go back into their places. True if
    /// none is left in the run.
    pub(crate) fn put_back_if_stuck(
        &self,
        worker: &Worker,
        guard: &mut BlockGuard<'_>,
        run: u32,
    ) -> bool {
        let uffd = worker.uffd.as_deref();
        let Some(uffd) = uffd.filter(|_| self.is_stuck(guard.group())) else {
            return false;
        };
        let cached = self.cached_in(guard, run);
        let back = self.move_in(uffd, guard, run, cached).done;
        self.book_return(guard, back);
        back == cached
    }

    /// May pages of the group that do not compress go to the log? A device has to
    /// take them in the end. But far from the budget an explicit `evict` is obeyed
    /// whatever it gains.
    pub(crate) fn takes_raw(&self, group: GroupId) -> bool {
        let store = self.layer.store();
        if group == GroupId::ROOT && self.held() <= self.budget.low() {
            return true;
        }
        self.device_takes_more() && (group == GroupId::ROOT || store.can_write_back_for(group))
    }

    /// Background: every group that is over its low watermark.
    pub(crate) fn reclaim_groups(&self, worker: &mut Worker) {
        if !self.groups.any() {
            return;
        }
        for group in self.layer.store().groups().all() {
            if let Some(most) = self.groups.ram_max(group) {
                self.reclaim_group(worker, group, most);
            }
        }
    }

    fn reclaim_group(&self, worker: &mut Worker, group: GroupId, most: u64) {
        let (high, low) = (most - most / 64, most - most / 64 - most / 32);
        let before = self.group_ram(group);
        let steps = if self.is_group_full(group) {
            FULL_STEPS
        } else {
            LOOK_STEPS
        };
        let mut dry = false;
        for _ in 0..steps {
            if dry || self.group_ram(group) <= low || self.is_asked() {
                break;
            }
            let _inside = self.world.enter();
            dry = !self.group_step(worker, group, Patience::Background);
        }
        let now = self.group_ram(group);
        let gained = before.saturating_sub(now) > 0;
        let hopeless = now > high && (dry || !gained) && !self.layer.store().can_relieve(group);
        if let Some(row) = self.groups.row(group)
            && !self.is_asked()
        {
            row.full.store(u32::from(hopeless), Relaxed);
        }
        if now > low {
            self.write_event.signal();
        }
    }

    /// The writer's part: one segment of a group that is at a limit, or whose
    /// compressed pages take more of its RAM than they should.
    pub(crate) fn relieve_a_group(&self) -> bool {
        if !self.groups.any() {
            return false;
        }
        let store = self.layer.store();
        let needy = store.groups().all().find(|&group| {
            (self.wants_segments_out(group) || self.has_large_pool(group))
                && store.can_relieve(group)
        });
        let Some(group) = needy else { return false };
        let written = store.writeback_group(group, Bytes(0), self.is_refused_in(group));
        if written == Err(vswap_store::StoreError::Full)
            && store.groups().limiting(group, Resource::Device).is_none()
        {
            self.devices_full.note(store.device_bytes().0);
        }
        let wrote = matches!(written, Ok(Some(_)));
        if wrote {
            self.room_event.signal();
        }
        wrote
    }

    /// Was a page of the group or one below it refused at this very limit?
    fn is_refused_in(&self, group: GroupId) -> bool {
        let tree = self.layer.store().groups();
        std::iter::once(group)
            .chain(tree.all())
            .any(|at| tree.refused_by(at) == Some(group))
    }

    fn wants_segments_out(&self, group: GroupId) -> bool {
        let tree = self.layer.store().groups();
        let held = tree.usage(group).ram;
        tree.limit(group, Resource::Ram).is_some_and(|limit| {
            let room = limit / ROOM_PART;
            held >= limit && self.is_refused_in(group) || room > 0 && held + room > limit
        })
    }

    fn has_large_pool(&self, group: GroupId) -> bool {
        let held = u64::from(self.layer.store().groups().usage(group).ram) * SEGMENT;
        self.groups
            .ram_max(group)
            .is_some_and(|most| held > most / 100 * u64::from(self.config.pool_percent))
    }

    /// How often the group ran into its limit of RAM, and found no room then.
    pub(super) fn group_events(&self, group: GroupId) -> (u64, u64) {
        self.groups.row(group).map_or((0, 0), |row| {
            (row.max_events.load(Relaxed), row.fail_events.load(Relaxed))
        })
    }

    /// One step of draining a group: its oldest segments to a device, or where it
    /// may not use one, its oldest pages to compressed RAM. Returns bytes moved.
    pub(crate) fn drain_step(&self, worker: &mut Worker, group: GroupId, most: u64) -> u64 {
        let store = self.layer.store();
        if store.can_write_back_for(group) {
            let _inside = self.world.enter();
            let written = store.writeback_group(group, Bytes(most), true);
            return written.ok().flatten().map_or(0, |moved| moved.0);
        }
        let before = self.groups.page_bytes(group);
        let moved = || before.saturating_sub(self.groups.page_bytes(group));
        let mut steps = most.div_ceil(BLOCK_SIZE as u64) * 4;
        while moved() < most && steps > 0 && !self.is_stuck(group) {
            let _inside = self.world.enter();
            steps -= 1;
            if !self.group_step(worker, group, Patience::Background)
                && !self.write_out_of(worker, group, Patience::Background)
            {
                break;
            }
        }
        while moved() < most && self.groups.pages(group, Held::Cached) > 0 {
            let _inside = self.world.enter();
            if !self.write_out_of(worker, group, Patience::Background) {
                break;
            }
        }
        moved()
    }

    /// Why an allocation of the group cannot be held: it is full, or so much
    /// would not fit under its limits at the ratio seen so far.
    pub(crate) fn is_refused_by_group(&self, group: GroupId, bytes: u64) -> bool {
        if group == GroupId::ROOT {
            return false;
        }
        let tree = self.layer.store().groups();
        let refusing = tree.chain(group).find(|&at| {
            let Some(most) = self.groups.ram_max(at) else {
                return false;
            };
            let full = self.is_group_full(at) && self.group_ram(at) + bytes > most - most / 64;
            full || self.group_data(at) + bytes > self.group_capacity(at, most)
        });
        if let Some(at) = refusing {
            self.note(at, |row| &row.max_events);
            self.note(group, |row| &row.fail_events);
        }
        refusing.is_some()
    }

    /// Bytes of the program's that a group holds somewhere.
    fn group_data(&self, group: GroupId) -> u64 {
        let entries = self.layer.charge(group).map_or(0, |c| c.all_entries);
        (self.groups.pages(group, Held::Resident) + entries) << PAGE_SHIFT
    }

    /// Bytes of the program's that fit under the limits, judged by how well pages
    /// of all groups have compressed so far: the group's own may do better.
    fn group_capacity(&self, group: GroupId, most: u64) -> u64 {
        let Some(percent) = self.ratio_percent() else {
            return u64::MAX;
        };
        let (store, tree) = (self.layer.store(), self.layer.store().groups());
        let limit = |what| {
            tree.limit(group, what)
                .map(|limit| u64::from(limit) * SEGMENT)
        };
        let zswap = limit(Resource::Ram).map_or(most, |limit| limit.min(most));
        let device = match store.can_write_back_for(group) || tree.usage(group).device > 0 {
            true => {
                limit(Resource::Device).map_or(self.device_room(), |l| l.min(self.device_room()))
            }
            false => 0,
        };
        (most - zswap) + (zswap + device).saturating_mul(percent) / 100 * GENEROUS
    }
}
