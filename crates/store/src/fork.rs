//! Fork: the child gets its own copy of RAM, and shares places on devices.
//!
//! RAM segments and the segment table are private memory, so the kernel copies
//! them on write. Places are shared: before the fork the parent gives the child
//! its bit on every place the table names (`device/places.rs`). The locks of this
//! floor are held over the fork in rank order, so the child finds the table and
//! the lists whole. What other threads of the parent were doing at that moment
//! ends in the parent; in the child those threads do not exist, and their
//! work is undone:
//! * a segment being written or cleaned is sealed again (its bytes are in RAM);
//! * RAM slots between a list and a segment go back to the list;
//! * readers' counts are zero.

use crate::append::Lane;
use crate::groups::{GroupId, Resource};
use crate::segment::Segment;
use crate::store::Store;
use crate::word::{Place, Rest, State};

impl Store {
    /// Before a fork, after the floors above took their locks. **Context**: the
    /// calling thread forks next and calls one of the two others.
    pub fn fork_prepare(&self) {
        self.devices.before_fork();
        self.slots.before_fork();
        self.every_lane().for_each(Lane::lock_for_fork);
        self.table.lock_for_fork();
        self.ram.lock_for_fork();
        // Under the locks, so that two threads that fork do not share a child.
        self.devices.expect_child();
        for (_, row) in self.table.walk() {
            if let Some(place) = needed_place(row) {
                self.devices.grant_child(place);
            }
        }
        self.slots.fork_prepare();
    }

    /// In the parent; `forked`: there is a child.
    pub fn fork_parent(&self, forked: bool) {
        self.devices.parent_after_fork(forked);
        self.slots.fork_parent(forked);
        self.unlock_after_fork();
    }

    /// In the child, before any other thread of it runs.
    pub fn fork_child(&self) {
        self.devices.child_after_fork();
        self.slots.fork_child();
        self.unlock_after_fork();
        self.readahead.reset_in_child();
        // Before anything is given back, which waits for readers.
        self.ram.forget_readers();
        self.undo_others_work();
        self.ram.rebuild(|in_use| {
            for (_, row) in self.table.walk() {
                if let Rest::Ram(slot) = row.word.load().rest() {
                    in_use(slot);
                }
            }
        });
        self.counters.device_segments.set(self.count_on_devices());
        self.groups
            .recount(|group, what| self.count_own(group, what));
    }

    fn unlock_after_fork(&self) {
        self.ram.unlock_after_fork();
        self.table.unlock_after_fork();
        self.every_lane().for_each(Lane::unlock_after_fork);
    }

    fn undo_others_work(&self) {
        for (number, row) in self.table.walk() {
            let state = row.word.load().state();
            row.reset_holds(state == State::Open);
            let mut lists = self.table.lock();
            match state {
                State::Writing | State::Cleaning => {
                    row.word.store(row.word.load().in_state(State::Sealed));
                    self.table.make_oldest(&mut lists, number);
                }
                State::StoredCleaning => row.word.store(row.word.load().in_state(State::Stored)),
                State::Dead => {
                    // Its place was the parent's to give back, and only its.
                    self.table.unlink(&mut lists.dead, number);
                    self.table.free(&mut lists, number);
                }
                State::Free | State::Open | State::Sealed | State::Stored => {}
            }
            drop(lists);
            self.release_if_empty(number, row);
        }
    }

    /// Its last object was freed by a thread that did not get to giving it back.
    fn release_if_empty(&self, number: u32, row: &Segment) {
        let state = row.word.load().state();
        if matches!(state, State::Sealed | State::Stored) && row.live() == 0 {
            self.release(number);
        }
    }

    /// The segments a group pays for, from a walk over the table.
    pub(crate) fn count_own(&self, group: GroupId, what: Resource) -> u32 {
        let rests = |row: &Segment| match row.word.load().rest() {
            Rest::Nowhere => false,
            Rest::Ram(_) => what == Resource::Ram,
            Rest::Device(_) => what == Resource::Device,
        };
        let mine = |&(_, row): &(u32, &Segment)| row.group() == group && rests(row);
        u32::try_from(self.table.walk().filter(mine).count()).unwrap_or(u32::MAX)
    }

    fn count_on_devices(&self) -> u64 {
        let stored = |row: &Segment| matches!(row.word.load().rest(), Rest::Device(_));
        self.table.walk().filter(|(_, row)| stored(row)).count() as u64
    }

    /// Gives back what processes of the tree that are gone still held on the
    /// devices. For now and then, in a tree that has forked. May do I/O.
    pub fn reap(&self) {
        self.devices.reap();
        self.slots.reap();
    }
}

/// The place a child will read from. A dead segment's place is nobody's need.
fn needed_place(row: &Segment) -> Option<Place> {
    let word = row.word.load();
    match (word.state(), word.rest()) {
        (State::Stored | State::StoredCleaning, Rest::Device(place)) => Some(place),
        _ => None,
    }
}

#[cfg(test)]
impl Store {
    /// Leaves segments as threads would that are interrupted by a fork.
    pub(crate) fn leave_half_done_for_tests(&self) {
        let mut lists = self.table.lock();
        for state in [State::Writing, State::Cleaning] {
            let everyone = self.groups.subtree(crate::GroupId::ROOT);
            let number = self.table.oldest(&lists, &everyone).unwrap();
            self.table.take_from_ages(&mut lists, number);
            let row = self.table.get(number).unwrap();
            assert!(row.try_hold());
            row.word.store(row.word.load().in_state(state));
        }
        drop(lists);
        for slot in 0..8 {
            core::mem::forget(self.ram.enter(slot));
        }
        assert!(self.ram.take(0).is_some());
    }

    /// Frees an object as a thread would that is interrupted before it gives the
    /// segment back.
    pub(crate) fn free_halfway_for_tests(&self, at: crate::Stored) {
        let row = self.table.get(at.location.segment).unwrap();
        row.sub_live(at.granules()).unwrap();
    }
}
