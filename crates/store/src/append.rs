//! Appending: compressed straight into the tail of an open segment.
//!
//! Each worker has a lane with an open segment of its own, so the lane's lock
//! is almost never contended, and the codec's output is written where it stays.
//! Only near a segment's end, where the worst case does not fit, an object is
//! made aside and copied: a segment is filled to its last granules that way.

use vswap_platform::sync::{Guard, RankedMutex};
use vswap_units::{PAGE_SIZE, rank};

use crate::codec::Workspace;
use crate::error::StoreError;
use crate::groups::{GroupId, Resource};
use crate::location::{Location, Stored};
use crate::object::{HEADER_BYTES, MAX_OBJECT, MAX_STORED};
use crate::store::{CLEANER_SPARE, LANES, Store};
use crate::{GRANULE_BYTES, SEGMENT_BYTES, SEGMENT_GRANULES};

/// Granules written to an open segment before it is worth opening another only because all in it are dead: an eighth.
const WORTH_GIVING_UP: u32 = SEGMENT_GRANULES / 8;

/// The segment a lane appends to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) segment: u32,
    pub(crate) slot: u32,
    /// Granules written.
    pub(crate) tail: u32,
}

impl Open {
    const fn offset(&self) -> usize {
        self.tail as usize * GRANULE_BYTES
    }

    const fn room(&self) -> usize {
        SEGMENT_BYTES - self.offset()
    }
}

/// A lane of many workers' own, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct WorkerLane(pub(crate) Lane);

/// A place to append.
pub(crate) struct Lane(RankedMutex<Option<Open>, { rank::SEGMENT }>);

type LaneGuard<'a> = Guard<'a, Option<Open>, { rank::SEGMENT }>;

impl Default for Lane {
    fn default() -> Self {
        Self(RankedMutex::new(None))
    }
}

impl Lane {
    pub(crate) fn lock(&self) -> LaneGuard<'_> {
        self.0.lock()
    }

    pub(crate) fn lock_for_fork(&self) {
        self.0.lock_for_fork();
    }

    pub(crate) fn unlock_after_fork(&self) {
        self.0.unlock_after_fork();
    }
}

impl Store {
    /// [`Store::append_for`] the root group.
    ///
    /// # Errors
    /// As there.
    pub fn append(
        &self,
        owner: u64,
        page: &[u8],
        ws: &mut Workspace,
    ) -> Result<Stored, StoreError> {
        self.append_for(GroupId::ROOT, owner, page, ws)
    }

    /// Compresses a page and appends it for `owner` (41 bits), at the cost of
    /// `group`. **Context**: no lock of rank SEGMENT or above; signal-safe;
    /// allocates nothing.
    ///
    /// # Errors
    /// `NoRoom`: no RAM segment is free, or none is allowed to the group.
    /// `Incompressible`: see [`Workspace::set_refuses_raw`]. The page is the
    /// caller's to keep.
    pub fn append_for(
        &self,
        group: GroupId,
        owner: u64,
        page: &[u8],
        ws: &mut Workspace,
    ) -> Result<Stored, StoreError> {
        if page.len() != PAGE_SIZE {
            return Err(StoreError::Io(vswap_platform::errno::Errno::EINVAL));
        }
        let appended = self.append_to_lane(group, owner, page, ws);
        if appended == Err(StoreError::NoRoom)
            && self.groups.limiting(group, Resource::Ram).is_some()
        {
            self.groups.note_fail(group);
        }
        appended
    }

    fn append_to_lane(
        &self,
        group: GroupId,
        owner: u64,
        page: &[u8],
        ws: &mut Workspace,
    ) -> Result<Stored, StoreError> {
        let mut open = self.lane(ws.lane(), group).lock();
        self.give_up_dead(&mut open);
        if let Some(at) = *open
            && at.room() < MAX_OBJECT
        {
            return self.append_aside(&mut open, group, owner, page, ws);
        }
        let at = match &mut *open {
            Some(at) => at,
            none => none.insert(self.open_segment(group, 0)?),
        };
        let tail = self
            .ram
            .tail(at.slot, at.offset())
            .ok_or(StoreError::NoRoom)?;
        let stored_bytes = ws.pack(owner, page, tail)?;
        self.commit(at, stored_bytes).ok_or(StoreError::NoRoom)
    }

    /// [`Store::append_for`], but a page that does not compress is left to the caller,
    /// who has a better place for it (`crate::slots`): `None` then. So is one that finds no room: that is no failure yet.
    ///
    /// # Errors
    /// As [`Store::append_for`].
    pub fn append_compressed(
        &self,
        group: GroupId,
        owner: u64,
        page: &[u8],
        ws: &mut Workspace,
    ) -> Result<Option<Stored>, StoreError> {
        let lane = ws.lane();
        // Aside, because in the tail a page that does not compress has been copied already.
        let Some((object, stored_bytes)) = ws.pack_shorter_aside(owner, page) else {
            return Ok(None);
        };
        let mut open = self.lane(lane, group).lock();
        self.put(&mut open, group, object, stored_bytes, 0)
            .map(Some)
    }

    /// The tail is short for the worst case: pack aside, then put.
    #[cold]
    fn append_aside(
        &self,
        open: &mut Option<Open>,
        group: GroupId,
        owner: u64,
        page: &[u8],
        ws: &mut Workspace,
    ) -> Result<Stored, StoreError> {
        let (object, stored_bytes) = ws.pack_aside(owner, page)?;
        self.put(open, group, object, stored_bytes, 0)
    }

    /// Appends an object that is already made to a lane of the group; `beyond`
    /// the RAM limit if need be.
    pub(crate) fn put(
        &self,
        open: &mut Option<Open>,
        group: GroupId,
        object: &[u8],
        stored_bytes: u16,
        beyond: u32,
    ) -> Result<Stored, StoreError> {
        self.give_up_dead(open);
        let fits = open.as_ref().is_some_and(|at| at.room() >= object.len());
        if !fits {
            // The new one first: without room the old one stays open as it is.
            let next = self.open_segment(group, beyond)?;
            if let Some(full) = open.replace(next) {
                self.seal(full);
            }
        }
        let at = open.as_mut().ok_or(StoreError::NoRoom)?;
        let tail = self
            .ram
            .tail(at.slot, at.offset())
            .ok_or(StoreError::NoRoom)?;
        tail.get_mut(..object.len())
            .ok_or(StoreError::NoRoom)?
            .copy_from_slice(object);
        self.commit(at, stored_bytes).ok_or(StoreError::NoRoom)
    }

    /// An open segment of which nothing is left alive is given back, so that its holes need no cleaner.
    #[inline]
    fn give_up_dead(&self, open: &mut Option<Open>) {
        let is_dead = |at: &mut Open| {
            at.tail >= WORTH_GIVING_UP
                && self
                    .table
                    .get(at.segment)
                    .is_some_and(|row| row.live() == 0)
        };
        if let Some(dead) = open.take_if(is_dead) {
            self.seal(dead);
        }
    }

    /// Makes the object at the tail part of the segment. What its last granule has left over is cleared: segments are
    /// written to devices whole, and what was in the slot before may be a group's that keeps its bytes off them.
    #[inline]
    fn commit(&self, at: &mut Open, stored_bytes: u16) -> Option<Stored> {
        debug_assert!(usize::from(stored_bytes) <= MAX_STORED);
        let stored = Stored {
            location: Location {
                segment: at.segment,
                granule: u16::try_from(at.tail).ok()?,
            },
            stored_bytes,
        };
        let end = at.offset() + HEADER_BYTES + usize::from(stored_bytes);
        self.clear(at.slot, end, GRANULE_BYTES);
        self.table.get(at.segment)?.add_live(stored.granules());
        at.tail += stored.granules();
        Some(stored)
    }

    /// Clears a slot from `end` to the next multiple of `grain` bytes.
    #[inline]
    fn clear(&self, slot: u32, end: usize, grain: usize) {
        let room = self.ram.tail(slot, end);
        let left = end.next_multiple_of(grain) - end;
        if let Some(left) = room.and_then(|room| room.get_mut(..left)) {
            left.fill(0);
        }
    }

    fn open_segment(&self, group: GroupId, beyond: u32) -> Result<Open, StoreError> {
        // Limits of groups are passed by one segment at most.
        if !self.groups.charge(group, Resource::Ram, beyond.min(1)) {
            return Err(StoreError::NoRoom);
        }
        let opened = self.ram.take(beyond).and_then(|slot| {
            let segment = self.table.open(slot, group);
            if segment.is_none() {
                self.ram.put(slot);
            }
            segment.map(|segment| Open {
                segment,
                slot,
                tail: 0,
            })
        });
        if opened.is_none() {
            self.groups.uncharge(group, Resource::Ram);
        }
        opened.ok_or(StoreError::NoRoom)
    }

    fn seal(&self, open: Open) {
        self.clear(open.slot, open.offset(), PAGE_SIZE);
        self.table.seal(open.segment, open.tail);
        if let Some(row) = self.table.get(open.segment)
            && row.drop_hold()
        {
            self.release(open.segment);
        }
    }

    /// Seals what the lanes hold open, so that it can be written back, cleaned
    /// or given back. For when nothing else is left, and for tests.
    pub fn seal_all(&self) {
        for lane in self.every_lane() {
            // Under the lane's lock: a fork finds the segment open in a lane, or sealed.
            let mut open = lane.lock();
            if let Some(full) = open.take() {
                self.seal(full);
            }
        }
    }

    /// Seals the open segment with the most in it, of all groups. False: there is none.
    pub(crate) fn seal_fullest(&self) -> bool {
        self.seal_fullest_of(self.every_lane())
    }

    /// Seals the open segment with the most in it of one group. False: it has none.
    pub(crate) fn seal_group(&self, group: GroupId) -> bool {
        self.seal_fullest_of(self.lanes_of(group))
    }

    fn seal_fullest_of<'a>(&self, lanes: impl Iterator<Item = &'a Lane>) -> bool {
        let fill = |lane: &&Lane| lane.lock().map_or(0, |open| open.tail);
        let Some(lane) = lanes.max_by_key(fill) else {
            return false;
        };
        let mut open = lane.lock();
        let Some(full) = open.take() else {
            return false;
        };
        self.seal(full);
        true
    }

    /// Where a worker appends for a group. The root has several lanes; another
    /// group has one, since fewer threads work for it and each open segment
    /// counts under its limit.
    #[inline]
    pub(crate) fn lane(&self, worker: usize, group: GroupId) -> &Lane {
        if let Some(lane) = self.group_lane(group) {
            return lane;
        }
        let lane = worker % self.worker_lanes % LANES;
        // The fallback is never taken: the modulus is the array's length.
        self.lanes.get(lane).map_or(&self.cleaner, |lane| &lane.0)
    }

    fn group_lane(&self, group: GroupId) -> Option<&Lane> {
        self.group_lanes.get(group.index().checked_sub(1)?)
    }

    fn lanes_of(&self, group: GroupId) -> impl Iterator<Item = &Lane> {
        let root = self.lanes.iter().map(|lane| &lane.0);
        let root = root.chain(core::iter::once(&self.cleaner));
        let own = self.group_lane(group);
        own.into_iter().chain(root.filter(move |_| own.is_none()))
    }

    pub(crate) fn every_lane(&self) -> impl Iterator<Item = &Lane> {
        self.lanes_of(GroupId::ROOT).chain(&self.group_lanes)
    }

    /// Appends for the cleaner, beyond the RAM limit if need be.
    pub(crate) fn put_for_cleaner(
        &self,
        group: GroupId,
        object: &[u8],
        stored_bytes: u16,
    ) -> Option<Stored> {
        let lane = self.group_lane(group).unwrap_or(&self.cleaner);
        let mut open = lane.lock();
        self.put(&mut open, group, object, stored_bytes, CLEANER_SPARE)
            .ok()
    }
}
