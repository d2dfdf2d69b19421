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
//! On any failure the segment stays in RAM, as the oldest, with all its objects.

use vswap_units::{Bytes, PAGE_SIZE};

use crate::error::StoreError;
use crate::segment::{Segment, Table};
use crate::store::Store;
use crate::word::{Place, Rest, State};
use crate::{GRANULE_BYTES, SEGMENT_BYTES};

/// Places of dead segments given back per call: each may be one system call.
const GIVE_BACK: usize = 64;

impl Store {
    /// Writes sealed segments to the devices until `budget` bytes of RAM are
    /// free, at least one segment. Returns the RAM freed; `None` when there was
    /// nothing to write. **Context**: no lock of rank SEGMENT or above; waits for
    /// I/O; any number of threads.
    ///
    /// # Errors
    /// The reason why the next segment could not be written, if none was:
    /// `Full`, `Closed` or `Io`. Nothing is lost: it stays in RAM.
    pub fn writeback_oldest(&self, budget: Bytes) -> Result<Option<Bytes>, StoreError> {
        self.give_back_places(GIVE_BACK);
        let mut freed = 0;
        while freed == 0 || freed < budget.0 {
            let Some((segment, row)) = self.claim_oldest() else {
                break;
            };
            match self.write_out(segment, row) {
                Ok(()) => freed += SEGMENT_BYTES as u64,
                Err(error) if freed == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok((freed > 0).then_some(Bytes(freed)))
    }

    /// Takes the oldest segment out of the age list, held and in state `Writing`.
    fn claim_oldest(&self) -> Option<(u32, &Segment)> {
        if !self.devices.any_open() {
            return None;
        }
        if let Some(claimed) = self.claim_from_list() {
            return Some(claimed);
        }
        // Where RAM is short everything may be in open segments. Only then: half
        // a segment written is half a place of holes, for the cleaner to gather
        // into an open segment, to be written again.
        if !self.ram.is_full() {
            return None;
        }
        self.seal_fullest();
        self.claim_from_list()
    }

    fn claim_from_list(&self) -> Option<(u32, &Segment)> {
        let mut lists = self.table.lock();
        // Each is passed over at most once, so twice round finds one if there is.
        for _ in 0..lists.sealed.len().saturating_mul(2) {
            let segment = Table::front(&lists.sealed)?;
            let row = self.table.get(segment)?;
            self.table.unlink(&mut lists.sealed, segment);
            // Referenced, or being given back by whoever waits for this lock.
            if row.take_touched() || !row.try_hold() {
                self.table.push_back(&mut lists.sealed, segment);
                continue;
            }
            row.word.store(row.word.load().in_state(State::Writing));
            return Some((segment, row));
        }
        None
    }

    fn write_out(&self, segment: u32, row: &Segment) -> Result<(), StoreError> {
        let written = self.write_bytes(row);
        match written {
            Ok(place) => self.flip_to_device(row, place),
            Err(_) => {
                let mut lists = self.table.lock();
                row.word.store(row.word.load().in_state(State::Sealed));
                self.table.push_front(&mut lists.sealed, segment);
            }
        }
        if row.drop_hold() {
            self.release(segment);
        }
        written.map(|_| ())
    }

    /// Writes what was appended, in whole pages.
    fn write_bytes(&self, row: &Segment) -> Result<Place, StoreError> {
        let Rest::Ram(slot) = row.word.load().rest() else {
            return Err(StoreError::NoRoom);
        };
        let length = (row.used() as usize * GRANULE_BYTES).next_multiple_of(PAGE_SIZE);
        let bytes = self
            .ram
            .bytes(slot, 0, length.min(SEGMENT_BYTES))
            .ok_or(StoreError::NoRoom)?;
        let written = self.devices.write(bytes);
        match written {
            Ok(_) => self.counters.device_written_bytes.add(length as u64),
            Err(StoreError::Io(_)) => self.counters.device_errors.add(1),
            Err(_) => 0,
        };
        written
    }

    /// From here on readers go to the device; the slot is free once those who
    /// came before are done.
    fn flip_to_device(&self, row: &Segment, place: Place) {
        let lists = self.table.lock();
        let word = row.word.load();
        row.word.store(word.stored(place));
        drop(lists);
        let held = self.counters.device_segments.add(1);
        self.counters.device_segments_peak.max(held);
        if let Rest::Ram(slot) = word.rest() {
            self.ram.put(slot);
        }
    }
}
