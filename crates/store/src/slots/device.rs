//! One slots device: its bitmaps, who needs which slot, and the I/O.
//!
//! Whoever touches a device is counted in (`Pinned`) before it looks whether the device takes pages. So when it takes
//! none, nobody is inside and this process holds no slot, none will ever be held again.

use core::ops::{Deref, Range};
use core::sync::atomic::{AtomicU32, Ordering};

use vswap_platform::errno::Errno;
use vswap_units::PAGE_SIZE;

use super::PLACE_SLOTS;
use super::map::SlotMap;
use crate::device::{
    Attachable, DeviceKind, DeviceOptions, PlaceTable, Standing, SwapDevice, latched,
};
use crate::error::StoreError;

/// The most slots a device may have: what a slot's number can name.
const MAX_PLACES: u32 = u32::MAX / PLACE_SLOTS;

pub(crate) struct SlotDevice {
    standing: Standing,
    map: SlotMap,
    /// Which processes need a slot.
    holders: PlaceTable,
    /// The slot after the last one written, to tell sequential writes.
    next: AtomicU32,
    places: u32,
}

impl Deref for SlotDevice {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

impl Attachable for SlotDevice {
    fn capacity_bytes(&self) -> u64 {
        u64::from(self.places * PLACE_SLOTS) * PAGE_SIZE as u64
    }

    fn used_bytes(&self) -> u64 {
        self.holders.held() * PAGE_SIZE as u64
    }

    fn holders(&self) -> &PlaceTable {
        &self.holders
    }

    /// Its mask is cleared after the bitmap's bit: whoever takes the slot meanwhile adds a bit of its own.
    fn place_is_free(&self, slot: u32) {
        if !self.map.is_bad(slot) {
            self.map.free(slot, |place| self.discard(place));
        }
    }
}

impl SlotDevice {
    pub(crate) fn new(
        device: Box<dyn SwapDevice>,
        options: DeviceOptions,
        priority: i32,
    ) -> Result<Self, Errno> {
        let places = device.capacity_places().min(MAX_PLACES);
        if places == 0 {
            return Err(Errno::EINVAL);
        }
        let map = SlotMap::new(places)?;
        // The header's.
        map.mark_bad(0);
        let holders = PlaceTable::new(places * PLACE_SLOTS)?;
        let options = DeviceOptions {
            kind: DeviceKind::Slots,
            ..options
        };
        Ok(Self {
            standing: Standing::new(device, options, priority),
            map,
            holders,
            next: AtomicU32::new(0),
            places,
        })
    }

    /// Will this process hold no slot of it any more? **Context**: it is draining, and the caller has not pinned it.
    pub(crate) fn is_left(&self) -> bool {
        self.is_nobody_inside() && self.holders.held() == 0
    }

    /// Free slots that its file system has room for; see [`Standing::room`].
    pub(crate) fn free_slots(&self, leaving: Option<u64>) -> u64 {
        self.room(self.map.free_slots(), PAGE_SIZE, leaving)
    }

    /// Writes as many of the pages as neighbouring slots can be had for, in one call. Returns the first
    /// slot, how many, and whether the write went where the last one ended.
    pub(crate) fn write(&self, pages: &[u8]) -> Result<(u32, u32, bool), StoreError> {
        let most = u32::try_from(pages.len() / PAGE_SIZE).unwrap_or(u32::MAX);
        if most == 0 || !pages.len().is_multiple_of(PAGE_SIZE) {
            return Err(StoreError::Io(Errno::EINVAL));
        }
        if !self.is_open() {
            return Err(StoreError::Closed);
        }
        let (first, count) = self.take(most).ok_or(StoreError::Full)?;
        let (place, offset) = split(first);
        let pages = pages.get(..count as usize * PAGE_SIZE).unwrap_or_default();
        match self.device.write_page(place, offset, pages) {
            Ok(()) => {
                let is_sequential = self.next.swap(first + count, Ordering::Relaxed) == first;
                self.count_write(pages.len(), is_sequential);
                Ok((first, count, is_sequential))
            }
            Err(errno) => Err(self.refused(first..first + count, errno)),
        }
    }

    fn take(&self, most: u32) -> Option<(u32, u32)> {
        let (first, count) = self.map.take(most).or_else(|| {
            self.reap();
            self.map.take(most)
        })?;
        (first..first + count).for_each(|slot| self.holders.claim(slot));
        Some((first, count))
    }

    #[cold]
    fn refused(&self, slots: Range<u32>, errno: Errno) -> StoreError {
        for slot in slots {
            if !latched::passes(errno) {
                // Nobody knows what is there now: never used again.
                self.map.mark_bad(slot);
            }
            self.free(slot);
        }
        if latched::is_full(errno) {
            return StoreError::Full;
        }
        self.tally.errors.inc();
        StoreError::Io(errno)
    }

    pub(crate) fn read_slot(&self, slot: u32, out: &mut [u8]) -> Result<(), Errno> {
        let (place, offset) = split(slot);
        let read = self.read(place, offset, out);
        if read.is_err() {
            self.tally.errors.inc();
        }
        read
    }

    /// The mask goes first: a slot free in the bitmap has no holder left to clear.
    pub(crate) fn free(&self, slot: u32) {
        let mut last = false;
        self.holders.give_back(slot, || last = true);
        if last {
            self.place_is_free(slot);
        }
    }

    pub(crate) fn held(&self) -> u64 {
        self.holders.held()
    }

    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.holders.holds(slot)
    }

    pub(crate) const fn map_bytes(&self) -> u64 {
        self.map.bytes()
    }
}

/// Place and offset of a slot.
const fn split(slot: u32) -> (u32, usize) {
    (
        slot / PLACE_SLOTS,
        (slot % PLACE_SLOTS) as usize * PAGE_SIZE,
    )
}
