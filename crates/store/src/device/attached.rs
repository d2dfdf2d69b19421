//! One attached device: who holds which of its places, who is inside, what it did.
//!
//! **Coming and going.** Whoever touches a device is counted in (`Pinned`), and
//! a device is let go only when nobody is. Whoever writes is counted a second
//! time (`Written`) until the segment table names the new place: so when a device
//! takes no more writes and nobody writes, the table names all that will ever be
//! there.

use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync;
use vswap_units::{Bytes, Counter};

use super::SwapDevice;
use super::info::{DeviceInfo, DeviceKind, DeviceOptions, DeviceState};
use super::latched::{self, Latched};
use super::places::PlaceTable;
use crate::SEGMENT_BYTES;
use crate::error::StoreError;
use crate::word::{MAX_PLACES, Place};

/// How long to leave the CPU to somebody who is inside: an I/O takes longer.
const PAUSE_NS: u64 = 100_000;
/// No place: nothing was written yet.
const NOWHERE: u32 = u32::MAX;

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

/// A device, and all the store knows of it.
pub(crate) struct Attached {
    name: String,
    kind: DeviceKind,
    priority: i32,
    device: Latched<Box<dyn SwapDevice>>,
    pub(super) places: PlaceTable,
    draining: AtomicBool,
    /// Threads that may call the device.
    inside: AtomicU32,
    /// Threads whose write the segment table may not name yet.
    writing: AtomicU32,
    /// When it was last written to, among all devices.
    turn: AtomicU64,
    /// The place written last.
    last: AtomicU32,
    tally: Tally,
}

/// A device that stays while this is held.
pub(crate) struct Pinned(Arc<Attached>);

impl Deref for Pinned {
    type Target = Attached;

    fn deref(&self) -> &Attached {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Release);
    }
}

/// A segment that was written; held until the segment table names its place.
pub(crate) struct Written {
    device: Pinned,
    /// Where it is now.
    pub(crate) place: Place,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.device.writing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A device that was taken off. Its descriptors are closed in the table of each
/// thread that calls [`Detached::close`], and of the one that drops it.
pub struct Detached(Arc<Attached>);

impl Detached {
    pub(super) const fn new(attached: Arc<Attached>) -> Self {
        Self(attached)
    }

    /// Closes what it has open in the calling thread's descriptor table.
    pub fn close(&self) {
        self.0.device.close();
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
            name: options.name,
            kind: options.kind,
            priority,
            device: Latched::new(device),
            places,
            draining: AtomicBool::new(false),
            inside: AtomicU32::new(0),
            writing: AtomicU32::new(0),
            turn: AtomicU64::new(0),
            last: AtomicU32::new(NOWHERE),
            tally: Tally::default(),
        })
    }

    /// Counts a thread in. **Context**: the lock of the slot it is in is held, or
    /// the thread is counted as writing.
    pub(super) fn pin(self: &Arc<Self>) -> Pinned {
        self.inside.fetch_add(1, Ordering::SeqCst);
        Pinned(Arc::clone(self))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn priority(&self) -> i32 {
        self.priority
    }

    /// When it was last written to, among all devices.
    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self) -> Option<Errno> {
        self.device.error()
    }

    /// Does it take writes?
    pub(crate) fn is_open(&self) -> bool {
        !self.draining.load(Ordering::SeqCst) && self.error().is_none()
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.places.capacity()
    }

    /// Places that nobody holds.
    pub(crate) fn free_places(&self) -> u64 {
        self.places.free()
    }

    pub(crate) fn file_system(&self) -> Option<u64> {
        self.device.identity().map(|(file_system, _)| file_system)
    }

    /// Free places, as far as its file system has room for them. Space that a
    /// device leaves on `file_system` comes free as it is emptied.
    pub(crate) fn room(&self, file_system: Option<u64>) -> u64 {
        let free = self.places.free();
        if self.kind == DeviceKind::File && self.file_system() == file_system {
            return free;
        }
        let bytes = self.device.free_bytes().unwrap_or(u64::MAX);
        free.min(bytes / SEGMENT_BYTES as u64)
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
            device: self.pin(),
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
            self.count_write(place, bytes.len());
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

    fn count_write(&self, place: u32, length: usize) {
        let last = self.last.swap(place, Ordering::Relaxed);
        self.tally.writes.inc();
        self.tally.written_bytes.add(length as u64);
        if last != NOWHERE && last + 1 == place {
            self.tally.sequential_writes.inc();
        }
    }

    fn take_place(&self) -> Option<u32> {
        self.places.take().or_else(|| {
            self.reap();
            self.places.take()
        })
    }

    pub(super) fn read(&self, place: u32, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let read = self.device.read(place, offset, out);
        if read.is_ok() {
            self.tally.read_bytes.add(out.len() as u64);
        }
        read
    }

    /// A read that nothing explains failed.
    pub(super) fn count_error(&self) {
        self.tally.errors.inc();
    }

    /// Lets go of a place; the last holder also gives its space back.
    pub(crate) fn give_back(&self, place: u32) {
        self.places.give_back(place, || self.discard(place));
    }

    /// Frees what processes that are gone still held.
    pub(super) fn reap(&self) {
        self.places.reap(&|place| self.discard(place));
    }

    fn discard(&self, place: u32) {
        // Space that cannot be given back is only reused.
        if self.device.discard(place).is_ok() {
            self.tally.discards.inc();
        }
    }

    pub(super) fn descriptor(&self) -> Option<i32> {
        self.device.descriptor()
    }

    pub(super) fn kept_by(&self, tid: i32) {
        self.device.kept_by(tid);
    }

    /// From now on nothing is written to it, and all that was is named by the
    /// segment table. False: it was so already. Waits for writes under way.
    pub(crate) fn begin_draining(&self) -> bool {
        if self.draining.swap(true, Ordering::SeqCst) {
            return false;
        }
        wait_for_none(&self.writing);
        true
    }

    /// It is written to again.
    pub(crate) fn end_draining(&self) {
        self.draining.store(false, Ordering::SeqCst);
    }

    /// After it was taken out of its slot and nothing names it: waits until
    /// nobody is inside and gives up what this process still holds.
    pub(super) fn leave(&self) {
        wait_for_none(&self.inside);
        self.places.leave(&|place| self.discard(place));
    }

    /// In a forked child: threads that were inside are not here.
    pub(super) fn child_after_fork(&self) {
        self.places.child_after_fork();
        self.inside.store(0, Ordering::SeqCst);
        self.writing.store(0, Ordering::SeqCst);
        self.end_draining();
    }

    pub(super) fn info(&self, number: u8) -> DeviceInfo {
        let bytes = |places: u64| Bytes(places * SEGMENT_BYTES as u64);
        let state = match self.error() {
            _ if self.draining.load(Ordering::Relaxed) => DeviceState::Draining,
            Some(errno) => DeviceState::Failed(errno),
            None => DeviceState::On,
        };
        DeviceInfo {
            number,
            name: self.name.clone(),
            kind: self.kind,
            priority: self.priority,
            state,
            identity: self.device.identity(),
            capacity: bytes(u64::from(self.capacity())),
            used: bytes(self.places.held()),
            written: Bytes(self.tally.written_bytes.get()),
            read: Bytes(self.tally.read_bytes.get()),
            writes: self.tally.writes.get(),
            sequential_writes: self.tally.sequential_writes.get(),
            discards: self.tally.discards.get(),
            errors: self.tally.errors.get(),
        }
    }
}

/// Waits until a count is zero. Nobody wakes us: those counted are in an I/O.
fn wait_for_none(count: &AtomicU32) {
    loop {
        let now = count.load(Ordering::SeqCst);
        if now == 0 {
            return;
        }
        let _ = sync::wait(count, now, Some(PAUSE_NS));
    }
}
