//! One slots device: its bitmaps, who needs which slot, and the I/O.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vswap_platform::errno::Errno;
use vswap_units::PAGE_SIZE;

use super::PLACE_SLOTS;
use super::map::SlotMap;
use crate::device::{Latched, PlaceTable, SwapDevice, latched};
use crate::error::StoreError;

/// The most slots a device may have: what a slot's number can name.
const MAX_PLACES: u32 = u32::MAX / PLACE_SLOTS;

pub(crate) struct SlotDevice {
    device: Latched<Box<dyn SwapDevice>>,
    map: SlotMap,
    /// Which processes need a slot.
    holders: PlaceTable,
    /// Takes no more pages: it is about to go.
    closed: AtomicBool,
    /// The slot after the last one written, to tell sequential writes.
    next: AtomicU32,
    places: u32,
}

impl SlotDevice {
    pub(crate) fn new(device: Box<dyn SwapDevice>) -> Result<Self, Errno> {
        let places = device.capacity_places().min(MAX_PLACES);
        if places == 0 {
            return Err(Errno::EINVAL);
        }
        let map = SlotMap::new(places)?;
        // The header's.
        map.mark_bad(0);
        Ok(Self {
            device: Latched::new(device),
            map,
            holders: PlaceTable::new(places * PLACE_SLOTS)?,
            closed: AtomicBool::new(false),
            next: AtomicU32::new(0),
            places,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed) && self.device.error().is_none()
    }

    pub(crate) fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.places * PLACE_SLOTS
    }

    pub(crate) fn error(&self) -> Option<Errno> {
        self.device.error()
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
                let expected = self.next.swap(first + count, Ordering::Relaxed);
                Ok((first, count, expected == first))
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
            StoreError::Full
        } else {
            StoreError::Io(errno)
        }
    }

    pub(crate) fn read(&self, slot: u32, out: &mut [u8]) -> Result<(), Errno> {
        let (place, offset) = split(slot);
        self.device.read(place, offset, out)
    }

    /// The mask goes first: a slot free in the bitmap has no holder left to clear.
    pub(crate) fn free(&self, slot: u32) {
        let mut last = false;
        self.holders.give_back(slot, || last = true);
        if last && !self.map.is_bad(slot) {
            self.map.free(slot, |place| self.discard(place));
        }
    }

    fn discard(&self, place: u32) {
        // Space that cannot be given back is only reused.
        let _ = self.device.discard(place);
    }

    /// Frees what processes that are gone still held. Their bit is cleared after the
    /// bitmap's: whoever takes the slot meanwhile adds a bit of its own.
    pub(crate) fn reap(&self) {
        self.holders.reap(&|slot| {
            if !self.map.is_bad(slot) {
                self.map.free(slot, |place| self.discard(place));
            }
        });
    }

    pub(crate) fn held(&self) -> u64 {
        self.holders.held()
    }

    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.holders.holds(slot)
    }

    pub(crate) fn table_bytes(&self) -> u64 {
        self.map.bytes() + self.holders.held() * size_of::<u64>() as u64
    }

    pub(crate) fn descriptor(&self) -> Option<i32> {
        self.device.descriptor()
    }

    pub(crate) fn kept_by(&self, tid: i32) {
        self.device.kept_by(tid);
    }

    pub(crate) fn before_fork(&self) {
        self.reap();
        let _ = self.device.descriptor();
    }

    pub(crate) fn fork_prepare(&self) {
        self.holders.expect_child();
        self.holders.grant_child_all();
    }

    pub(crate) fn fork_parent(&self, forked: bool) {
        self.holders.parent_after_fork(forked);
    }

    pub(crate) fn fork_child(&self) {
        self.holders.child_after_fork();
    }
}

/// Place and offset of a slot.
const fn split(slot: u32) -> (u32, usize) {
    (
        slot / PLACE_SLOTS,
        (slot % PLACE_SLOTS) as usize * PAGE_SIZE,
    )
}
