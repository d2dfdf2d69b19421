//! Freeing objects, and giving back segments that have none left.
//!
//! An object is freed by counting: no I/O, no list, no look at its bytes. The
//! RAM of a segment goes back at once. Its place on a device goes back with the
//! next call that may do I/O (writeback, cleaning, [`Store::give_back_places`]),
//! because punching a hole can wait for the file system's journal.

use vswap_units::Bytes;

use crate::SEGMENT_BYTES;
use crate::device::{Attached, Pinned};
use crate::groups::Resource;
use crate::location::Stored;
use crate::segment::Table;
use crate::store::Store;
use crate::word::{Place, Rest, State};

impl Store {
    /// Forgets an object. **Context**: the owner no longer names it anywhere,
    /// and nobody reads it. Signal-safe; does no I/O (at most one madvise).
    pub fn free(&self, at: Stored) {
        let Some(row) = self.table.get(at.location.segment) else {
            self.counters.bad_frees.add(1);
            return;
        };
        match row.sub_live(at.granules()) {
            Some(false) => {}
            Some(true) => self.release(at.location.segment),
            None => {
                // Freed twice above us. Counting on would give away live objects.
                debug_assert!(false, "an object was freed twice");
                self.counters.bad_frees.add(1);
            }
        }
    }

    /// Gives back a segment whose last reference is gone.
    pub(crate) fn release(&self, segment: u32) {
        let Some(row) = self.table.get(segment) else {
            return;
        };
        let mut lists = self.table.lock();
        let word = row.word.load();
        match word.rest() {
            Rest::Nowhere => {}
            Rest::Ram(slot) => {
                if word.state() == State::Sealed {
                    self.table.take_from_ages(&mut lists, segment);
                }
                self.groups.uncharge(row.group(), Resource::Ram);
                self.table.free(&mut lists, segment);
                drop(lists);
                self.ram.put(slot);
            }
            Rest::Device(_) => {
                row.word.store(word.in_state(State::Dead));
                self.table.push_back(&mut lists.dead, segment);
            }
        }
    }

    /// Gives the places of dead segments back to their devices, at most `most`
    /// of them. May do I/O. Returns the bytes given back.
    pub fn give_back_places(&self, most: usize) -> Bytes {
        let mut given = 0;
        for _ in 0..most {
            let Some((device, place)) = self.take_dead() else {
                break;
            };
            if let Some(device) = device {
                device.give_back(place.index);
            }
            self.counters.device_segments.sub(1);
            given += SEGMENT_BYTES as u64;
        }
        Bytes(given)
    }

    /// Pinned while the table still names the place, so that the device is not
    /// taken off in between.
    fn take_dead(&self) -> Option<(Option<Pinned<Attached>>, Place)> {
        let mut lists = self.table.lock();
        let segment = Table::front(&lists.dead)?;
        self.table.unlink(&mut lists.dead, segment);
        let row = self.table.get(segment)?;
        self.groups.uncharge(row.group(), Resource::Device);
        let Rest::Device(place) = row.word.load().rest() else {
            self.table.free(&mut lists, segment);
            return None;
        };
        let device = self.devices.pin(place.device);
        self.table.free(&mut lists, segment);
        Some((device, place))
    }
}
