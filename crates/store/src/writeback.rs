//! Writeback: whole sealed segments from RAM to a device, the oldest first.
//!
//! **The argument.** What was swapped out longest ago and never asked for since
//! is the least likely to be asked for next; the log already has that order,
//! so age costs nothing to know. A segment that was read from since it was
//! last looked at has shown the opposite once and goes to the young end (the
//! second chance); it does so only once per look, so a pass over the list always
//! finds one to write. Whole segments, because one aligned sequential write of
//! 256 KiB is the cheapest thing a disk or a flash can be asked for (a place is
//! overwritten whole, so flash erases whole), and because no descriptor changes:
//! objects keep their names, only the segment table learns where they rest.
//!
//! Half-dead segments are better compacted than written: call [`Store::clean`]
//! first. Writeback does not wait for it, because it runs when RAM is needed.
//!
//! **If this is wrong**: a workload that scans everything in a circle always
//! wants the oldest next. Then each segment written is read back object by
//! object, in age order, so neighbours are read together by
//! [`Store::read_many`]; the cost is one write and one read per byte, as it is
//! with any order in such a circle.
//!
//! Segments of all groups are one queue, by age, but for groups that may not
//! write back: their segments are passed by.
//!
//! On any failure the segment stays in RAM, as the oldest, with all its objects.

use core::sync::atomic::Ordering;

use vswap_units::{Bytes, PAGE_SIZE};

use crate::device::Written;
use crate::error::StoreError;
use crate::groups::{GroupId, GroupSet, Resource};
use crate::segment::{Segment, Table};
use crate::store::Store;
use crate::word::{Place, Rest, State};
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

/// Places of dead segments given back per call: each may be one system call.
const GIVE_BACK: usize = 64;

impl Store {
    /// Writes sealed segments to the devices until `budget` bytes of RAM are
    /// free, at least one segment, of whatever groups have the oldest. Returns the
    /// RAM freed; `None` when there was nothing to write. **Context**: no lock of
    /// rank SEGMENT or above; waits for I/O; any number of threads.
    ///
    /// # Errors
    /// The reason why the next segment could not be written, if none was:
    /// `Full`, `Closed` or `Io`. Nothing is lost: it stays in RAM.
    pub fn writeback_oldest(&self, budget: Bytes) -> Result<Option<Bytes>, StoreError> {
        self.give_back_places(GIVE_BACK);
        let all = self.groups.subtree(GroupId::ROOT);
        let written = self.writeback_of(all, budget, false);
        // That one group has used its share of the devices does not make them full.
        match written {
            Err(StoreError::Full) if self.groups.any_at_limit(Resource::Device) => Ok(None),
            other => other,
        }
    }

    /// [`Store::writeback_oldest`] of one group and those below it; with
    /// `open_too` its open segments as well, when nothing else is left.
    ///
    /// # Errors
    /// As there.
    pub fn writeback_group(
        &self,
        group: GroupId,
        budget: Bytes,
        open_too: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        self.give_back_places(GIVE_BACK);
        self.writeback_of(self.groups.subtree(group), budget, open_too)
    }

    /// A group that finds no device is left out from then on, and the others go on.
    fn writeback_of(
        &self,
        mut groups: GroupSet,
        budget: Bytes,
        open_too: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        let (mut freed, mut why) = (0, None);
        self.leave_out_the_barred(&mut groups);
        while freed == 0 || freed < budget.0 {
            let Some((segment, row)) = self.claim_oldest(&groups, open_too) else {
                break;
            };
            match self.write_out(segment, row) {
                Ok(()) => freed += SEGMENT_BYTES as u64,
                Err(error) => {
                    groups.remove(row.group());
                    why = why.or(Some(error));
                }
            }
        }
        match why {
            Some(error) if freed == 0 => Err(error),
            _ => Ok((freed > 0).then_some(Bytes(freed))),
        }
    }

    /// Leaves out the groups that may not write back, or have no device that takes writes.
    fn leave_out_the_barred(&self, groups: &mut GroupSet) {
        for group in groups.clone().iter() {
            let barred = match self.groups.forbidden_devices(group) {
                None => true,
                Some(forbidden) => !self.devices.any_open_but(u32::from(forbidden)),
            };
            if barred {
                groups.remove(group);
            }
        }
    }

    /// May the group write back to a device that takes writes, with room under its limits?
    #[must_use]
    pub fn can_write_back_for(&self, group: GroupId) -> bool {
        self.groups
            .forbidden_devices(group)
            .is_some_and(|forbidden| self.devices.any_open_but(u32::from(forbidden)))
            && self.groups.limiting(group, Resource::Device).is_none()
    }

    /// Can writing back make room under this group's limit of RAM?
    #[must_use]
    pub fn can_relieve(&self, group: GroupId) -> bool {
        let holds = |&at: &GroupId| self.groups.usage(at).own_ram > 0;
        let mut held = self.groups.subtree(group);
        self.leave_out_the_barred(&mut held);
        held.iter()
            .filter(holds)
            .any(|at| self.groups.limiting(at, Resource::Device).is_none())
    }

    /// Takes the oldest segment out of its age list, held and in state `Writing`.
    fn claim_oldest(&self, groups: &GroupSet, open_too: bool) -> Option<(u32, &Segment)> {
        if let Some(claimed) = self.claim_from_lists(groups) {
            return Some(claimed);
        }
        if open_too {
            return self.claim_open(groups);
        }
        // Where RAM is short everything may be in open segments. Only then: half
        // a segment written is half a place of holes, for the cleaner to gather
        // into an open segment, to be written again.
        let is_short = self.ram.is_full() && groups.iter().next().is_some();
        if is_short && self.seal_fullest() {
            self.claim_from_lists(groups)
        } else {
            None
        }
    }

    /// Seals open segments until there is one to write: a sealed one may have
    /// had nothing alive in it, and is gone.
    fn claim_open(&self, groups: &GroupSet) -> Option<(u32, &Segment)> {
        for _ in 0..self.every_lane().count() {
            let sealed = groups.iter().filter(|group| self.seal_group(*group));
            let sealed = sealed.count();
            let claimed = self.claim_from_lists(groups);
            if claimed.is_some() || sealed == 0 {
                return claimed;
            }
        }
        None
    }

    fn claim_from_lists(&self, groups: &GroupSet) -> Option<(u32, &Segment)> {
        let mut lists = self.table.lock();
        // Each is passed over at most once, so twice round finds one if there is.
        for _ in 0..Table::count_sealed(&lists, groups).saturating_mul(2) {
            let segment = self.table.oldest(&lists, groups)?;
            let row = self.table.get(segment)?;
            self.table.take_from_ages(&mut lists, segment);
            // Referenced, or being given back by whoever waits for this lock.
            if row.take_touched() || !row.try_hold() {
                self.table.make_youngest(&mut lists, segment);
                continue;
            }
            row.word.store(row.word.load().in_state(State::Writing));
            return Some((segment, row));
        }
        None
    }

    fn write_out(&self, segment: u32, row: &Segment) -> Result<(), StoreError> {
        let payer = row.group();
        let written = self.write_bytes(row, payer);
        match &written {
            Ok(written) => self.flip_to_device(row, written.place, payer),
            Err(_) => {
                let mut lists = self.table.lock();
                row.word.store(row.word.load().in_state(State::Sealed));
                self.table.make_oldest(&mut lists, segment);
            }
        }
        if row.drop_hold() {
            self.release(segment);
        }
        written.map(|_| ())
    }

    /// Writes what was appended, in whole pages, at the cost of `payer`.
    fn write_bytes(&self, row: &Segment, payer: GroupId) -> Result<Written, StoreError> {
        let Rest::Ram(slot) = row.word.load().rest() else {
            return Err(StoreError::NoRoom);
        };
        let forbidden = self.groups.forbidden_devices(payer);
        let forbidden = forbidden.ok_or(StoreError::Closed)?;
        let length = (row.used() as usize * GRANULE_BYTES).next_multiple_of(PAGE_SIZE);
        let bytes = self
            .ram
            .bytes(slot, 0, length.min(SEGMENT_BYTES))
            .ok_or(StoreError::NoRoom)?;
        if !self.groups.charge(payer, Resource::Device, 0) {
            return Err(StoreError::Full);
        }
        let written = self.write_counted(bytes, forbidden);
        self.devices_full
            .store(matches!(written, Err(StoreError::Full)), Ordering::Relaxed);
        if written.is_err() {
            self.groups.uncharge(payer, Resource::Device);
        }
        written
    }

    /// Writes a segment to the first device that takes it, but none of `forbidden`.
    pub(crate) fn write_counted(
        &self,
        bytes: &[u8],
        forbidden: u16,
    ) -> Result<Written, StoreError> {
        let written = self.devices.write(bytes, forbidden);
        match &written {
            Ok(_) => {
                self.counters.device_write_calls.inc();
                self.counters.device_written_bytes.add(bytes.len() as u64)
            }
            Err(StoreError::Io(_)) => self.counters.device_errors.add(1),
            Err(_) => 0,
        };
        written
    }

    /// From here on readers go to the device; the slot is free once those who
    /// came before are done.
    fn flip_to_device(&self, row: &Segment, place: Place, payer: GroupId) {
        let lists = self.table.lock();
        if row.group() != payer {
            // The group ended meanwhile: see `finish_end`, which waits for this.
            self.groups.charge_over(row.group(), Resource::Device);
            self.groups.uncharge(payer, Resource::Device);
        }
        let word = row.word.load();
        row.word.store(word.stored(place));
        self.groups.uncharge(row.group(), Resource::Ram);
        drop(lists);
        let held = self.counters.device_segments.add(1);
        self.counters.device_segments_peak.max(held);
        if let Rest::Ram(slot) = word.rest() {
            self.ram.put(slot);
        }
    }
}
