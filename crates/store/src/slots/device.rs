//! One slots device: its bitmaps, who needs which slot, and the I/O.
//!
//! **Coming and going.** Whoever touches a device is counted in ([`Pinned`]) before it looks whether the device takes
//! pages. So when it takes none, nobody is inside and this process holds no slot, none will ever be held again.

use core::ops::{Deref, Range};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync;
use vswap_units::{Bytes, Counter, PAGE_SIZE};

use super::PLACE_SLOTS;
use super::map::SlotMap;
use crate::device::{
    DeviceInfo, DeviceKind, DeviceOptions, DeviceState, Latched, PlaceTable, SwapDevice, latched,
};
use crate::error::StoreError;

/// The most slots a device may have: what a slot's number can name.
const MAX_PLACES: u32 = u32::MAX / PLACE_SLOTS;
/// How long to leave the CPU to somebody who is inside: an I/O takes longer.
const PAUSE_NS: u64 = 100_000;

/// What a device did for this process.
#[derive(Default)]
struct Tally {
    written_bytes: Counter,
    read_bytes: Counter,
    writes: Counter,
    sequential_writes: Counter,
    discards: Counter,
    errors: Counter,
}

pub(crate) struct SlotDevice {
    name: String,
    priority: i32,
    device: Latched<Box<dyn SwapDevice>>,
    map: SlotMap,
    /// Which processes need a slot.
    holders: PlaceTable,
    /// Takes no more pages: it is about to go.
    draining: AtomicBool,
    /// Threads that may call the device.
    inside: AtomicU32,
    /// The slot after the last one written, to tell sequential writes.
    next: AtomicU32,
    places: u32,
    tally: Tally,
}

/// A device that stays while this is held.
pub(crate) struct Pinned(Arc<SlotDevice>);

impl Deref for Pinned {
    type Target = SlotDevice;

    fn deref(&self) -> &SlotDevice {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Release);
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
        Ok(Self {
            name: options.name,
            priority,
            device: Latched::new(device),
            map,
            holders: PlaceTable::new(places * PLACE_SLOTS)?,
            draining: AtomicBool::new(false),
            inside: AtomicU32::new(0),
            next: AtomicU32::new(0),
            places,
            tally: Tally::default(),
        })
    }

    /// Counts a thread in. **Context**: the lock of the device's row in the table is held.
    pub(super) fn pin(self: &Arc<Self>) -> Pinned {
        self.inside.fetch_add(1, Ordering::SeqCst);
        Pinned(Arc::clone(self))
    }

    pub(crate) const fn priority(&self) -> i32 {
        self.priority
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::SeqCst) && self.device.error().is_none()
    }

    /// It takes no more pages from now on. False: it was so already.
    pub(crate) fn begin_draining(&self) -> bool {
        !self.draining.swap(true, Ordering::SeqCst)
    }

    /// It takes pages again.
    pub(crate) fn end_draining(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    /// Will this process hold no slot of it any more? **Context**: it is draining, and the caller has not pinned it.
    pub(crate) fn is_left(&self) -> bool {
        self.inside.load(Ordering::SeqCst) == 0 && self.held() == 0
    }

    /// After it was taken out of the table: waits until nobody is inside and gives up its part in what is shared.
    pub(crate) fn leave(&self) {
        loop {
            match self.inside.load(Ordering::SeqCst) {
                0 => break,
                now => {
                    // Nobody wakes us: those counted are in an I/O.
                    let _ = sync::wait(&self.inside, now, Some(PAUSE_NS));
                }
            }
        }
        self.holders.leave(&|slot| self.clear(slot));
    }

    pub(crate) fn close(&self) {
        self.device.close();
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.places * PLACE_SLOTS
    }

    /// Free slots, as far as its file system has room for them. Space that a device leaves free on `file_system` is room too.
    pub(crate) fn room(&self, file_system: Option<u64>) -> u64 {
        let free = self.map.free_slots();
        if file_system.is_some() && self.file_system() == file_system {
            return free;
        }
        let bytes = self.device.free_bytes().unwrap_or(u64::MAX);
        free.min(bytes / PAGE_SIZE as u64)
    }

    pub(crate) fn file_system(&self) -> Option<u64> {
        self.device.identity().map(|(file_system, _)| file_system)
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
            Ok(()) => Ok((first, count, self.count_write(first, count))),
            Err(errno) => Err(self.refused(first..first + count, errno)),
        }
    }

    /// Was it where the last one ended?
    fn count_write(&self, first: u32, count: u32) -> bool {
        let sequential = self.next.swap(first + count, Ordering::Relaxed) == first;
        self.tally.writes.inc();
        self.tally
            .written_bytes
            .add(u64::from(count) * PAGE_SIZE as u64);
        if sequential {
            self.tally.sequential_writes.inc();
        }
        sequential
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

    pub(crate) fn read(&self, slot: u32, out: &mut [u8]) -> Result<(), Errno> {
        let (place, offset) = split(slot);
        let read = self.device.read(place, offset, out);
        match read {
            Ok(()) => self.tally.read_bytes.add(out.len() as u64),
            Err(_) => self.tally.errors.add(1),
        };
        read
    }

    /// The mask goes first: a slot free in the bitmap has no holder left to clear.
    pub(crate) fn free(&self, slot: u32) {
        let mut last = false;
        self.holders.give_back(slot, || last = true);
        if last {
            self.clear(slot);
        }
    }

    /// Nobody needs the slot.
    fn clear(&self, slot: u32) {
        if !self.map.is_bad(slot) {
            self.map.free(slot, |place| self.discard(place));
        }
    }

    fn discard(&self, place: u32) {
        // Space that cannot be given back is only reused.
        if self.device.discard(place).is_ok() {
            self.tally.discards.inc();
        }
    }

    /// Frees what processes that are gone still held. Their bit is cleared after the
    /// bitmap's: whoever takes the slot meanwhile adds a bit of its own.
    pub(crate) fn reap(&self) {
        self.holders.reap(&|slot| self.clear(slot));
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

    /// Threads that were inside, and whoever was taking it off, are not here.
    pub(crate) fn fork_child(&self) {
        self.holders.child_after_fork();
        self.inside.store(0, Ordering::SeqCst);
        self.end_draining();
    }

    pub(super) fn info(&self, number: u8) -> DeviceInfo {
        let bytes = |slots: u64| Bytes(slots * PAGE_SIZE as u64);
        let state = match self.error() {
            _ if self.draining.load(Ordering::Relaxed) => DeviceState::Draining,
            Some(errno) => DeviceState::Failed(errno),
            None => DeviceState::On,
        };
        DeviceInfo {
            number,
            name: self.name.clone(),
            kind: DeviceKind::Slots,
            priority: self.priority,
            state,
            identity: self.device.identity(),
            capacity: bytes(u64::from(self.capacity())),
            used: bytes(self.held()),
            written: Bytes(self.tally.written_bytes.get()),
            read: Bytes(self.tally.read_bytes.get()),
            writes: self.tally.writes.get(),
            sequential_writes: self.tally.sequential_writes.get(),
            discards: self.tally.discards.get(),
            errors: self.tally.errors.get(),
        }
    }
}

/// Place and offset of a slot.
const fn split(slot: u32) -> (u32, usize) {
    (
        slot / PLACE_SLOTS,
        (slot % PLACE_SLOTS) as usize * PAGE_SIZE,
    )
}
