//! One attached device for segments: who holds which of its places, who writes.
//!
//! Whoever writes is counted a second time (`Written`) until the segment table
//! names the new place: so when a device takes no more writes and nobody writes,
//! the table names all that will ever be there.

use core::ops::Deref;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;

use super::SwapDevice;
use super::info::DeviceOptions;
use super::latched;
use super::places::PlaceTable;
use super::standing::{Standing, wait_for_none};
use super::table::{Attachable, Pinned};
use crate::SEGMENT_BYTES;
use crate::error::StoreError;
use crate::word::{MAX_PLACES, Place};

/// No place: nothing was written yet.
const NOWHERE: u32 = u32::MAX;

/// A device for segments.
pub(crate) struct Attached {
    standing: Standing,
    pub(super) places: PlaceTable,
    /// Threads whose write the segment table may not name yet.
    writing: AtomicU32,
    /// When it was last written to, among all devices.
    turn: AtomicU64,
    /// The place written last.
    last: AtomicU32,
}

impl Deref for Attached {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

impl Attachable for Attached {
    fn capacity_bytes(&self) -> u64 {
        u64::from(self.places.capacity()) * SEGMENT_BYTES as u64
    }

    fn used_bytes(&self) -> u64 {
        self.places.held() * SEGMENT_BYTES as u64
    }

    fn holders(&self) -> &PlaceTable {
        &self.places
    }

    fn place_is_free(&self, place: u32) {
        self.discard(place);
    }

    fn child_after_fork(&self) {
        self.writing.store(0, Ordering::SeqCst);
    }
}

/// A segment that was written; held until the segment table names its place.
pub(crate) struct Written {
    device: Pinned<Attached>,
    /// Where it is now.
    pub(crate) place: Place,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.device.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Attached {
    /// # Errors
    /// ENOMEM for its table of places.
    pub(super) fn new(
        device: Box<dyn SwapDevice>,
        options: DeviceOptions,
        priority: i32,
    ) -> Result<Self, Errno> {
        let places = PlaceTable::new(device.capacity_places().min(MAX_PLACES))?;
        Ok(Self {
            standing: Standing::new(device, options, priority),
            places,
            writing: AtomicU32::new(0),
            turn: AtomicU64::new(0),
            last: AtomicU32::new(NOWHERE),
        })
    }

    /// When it was last written to, among all devices.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.places.capacity()
    }

    /// Places that nobody holds.
    pub(crate) fn free_places(&self) -> u64 {
        self.places.free()
    }

    /// Free places that its file system has room for; see [`Standing::room`].
    pub(crate) fn free_segments(&self, leaving: Option<u64>) -> u64 {
        self.room(self.places.free(), SEGMENT_BYTES, leaving)
    }

    /// Writes a segment to a free place. The device has the number `number`.
    pub(super) fn write(
        self: &Arc<Self>,
        number: u8,
        turn: u64,
        bytes: &[u8],
    ) -> Result<Written, StoreError> {
        self.writing.fetch_add(1, Ordering::SeqCst);
        let mut written = Written {
            device: Pinned::new(self),
            place: Place {
                device: number,
                index: 0,
            },
        };
        // Counted before this look: who drains waits for us, or we see it.
        if !self.is_open() {
            return Err(StoreError::Closed);
        }
        written.place.index = self.write_somewhere(bytes)?;
        self.turn.store(turn, Ordering::Relaxed);
        Ok(written)
    }

    fn write_somewhere(&self, bytes: &[u8]) -> Result<u32, StoreError> {
        let place = self.take_place().ok_or(StoreError::Full)?;
        let Err(errno) = self.device.write(place, bytes) else {
            let last = self.last.swap(place, Ordering::Relaxed);
            self.count_write(bytes.len(), last != NOWHERE && last + 1 == place);
            return Ok(place);
        };
        if latched::is_full(errno) {
            self.give_back(place);
            return Err(StoreError::Full);
        }
        self.tally.errors.inc();
        if latched::passes(errno) {
            self.give_back(place);
        } else {
            // Nobody knows what is there now: never used again.
            self.places.mark_bad(place);
        }
        Err(StoreError::Io(errno))
    }

    fn take_place(&self) -> Option<u32> {
        self.places.take().or_else(|| {
            self.reap();
            self.places.take()
        })
    }

    /// A read that nothing explains failed.
    pub(super) fn count_error(&self) {
        self.tally.errors.inc();
    }

    /// Lets go of a place; the last holder also gives its space back.
    pub(crate) fn give_back(&self, place: u32) {
        self.places.give_back(place, || self.discard(place));
    }

    /// From now on nothing is written to it, and all that was is named by the
    /// segment table. False: it was so already. Waits for writes under way.
    pub(crate) fn drain(&self) -> bool {
        if !self.begin_draining() {
            return false;
        }
        wait_for_none(&self.writing);
        true
    }
}
