//! Plain slots: ordinary swap. One page, uncompressed, in one 4 KiB slot of a device.
//!
//! What the log gains from (compression, whole segments, a cleaner) does nothing
//! for a page that does not compress: in the log it takes 4 KiB of RAM and then
//! 4 KiB of a segment, and it is copied once more whenever a neighbour dies. In a
//! slot it takes a slot, at once, and is freed by itself. And slots alone, without
//! the layer above, are the measure for what virtualisation costs.
//!
//! A slots device is a [`SwapDevice`] whose places are cut into [`PLACE_SLOTS`]
//! slots. Which are taken is in two bitmaps, *allocated* and *bad* (`map.rs`), which
//! processes after a fork have a [`PlaceTable`] of masks for, as segments' places
//! have: all in memory shared by the tree. Slot 0 is the device's header and is bad.
//!
//! There is no checksum: a slot holds the page and nothing else, as ordinary swap
//! does. What the device reports as an error is an error; what it does not report
//! is found in the log only.
//!
//! **Stable while** the owner keeps the slot: nothing moves it. **Locks**: a row of the table of devices, for a look (rank
//! DEVICE, as the other table's).

mod device;
mod list;
mod map;

use vswap_platform::errno::Errno;
use vswap_units::{PAGE_SIZE, counters};

use crate::SEGMENT_BYTES;
use crate::device::{Attachable, Detached, DeviceInfo, DeviceOptions, SwapDevice};
use crate::error::StoreError;
use crate::swapoff::SwapoffError;
use device::SlotDevice;
use list::SlotDevices;
pub use list::SlotsOff;

/// Slots of one place of a device, which are discarded together.
pub const PLACE_SLOTS: u32 = (SEGMENT_BYTES / PAGE_SIZE) as u32;
/// How many slots devices there may be.
pub(crate) const MAX_SLOT_DEVICES: usize = 8;
const INDEX_BITS: u32 = 32;

/// A slot of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Which of the slots devices.
    pub device: u8,
    /// Which of its slots.
    pub index: u32,
}

impl Slot {
    /// Bits used by [`Slot::to_bits`].
    pub const BITS: u32 = INDEX_BITS + u8::BITS;

    /// Packs into the low [`Slot::BITS`] bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.device as u64) << INDEX_BITS | self.index as u64
    }

    /// Undoes [`Slot::to_bits`]; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            device: (bits >> INDEX_BITS) as u8,
            index: bits as u32,
        }
    }
}

counters! {
    /// What slots count by themselves.
    pub struct SlotCounters;
    gauge held_slots "Slots this process holds";
    peak held_peak_slots "The most slots this process held";
    counter written_bytes "Bytes written to slots";
    counter sequential_bytes "Bytes written where the last write to the device ended";
    counter write_calls "Writes to slots";
    counter read_bytes "Bytes read from slots";
    counter read_calls "Reads from slots";
    counter device_errors "Reads and writes that a slots device refused";
}

/// The slots devices, the highest priority filled first.
#[derive(Default)]
pub struct Slots {
    devices: SlotDevices,
    counters: SlotCounters,
}

impl Slots {
    /// Attaches a device, which must be able to write single pages, at any time. Returns its number.
    ///
    /// # Errors
    /// ENOSPC when there are too many, EINVAL for one without a slot to give,
    /// ENOMEM for its tables.
    pub fn attach(&self, device: Box<dyn SwapDevice>, options: DeviceOptions) -> Result<u8, Errno> {
        let asked = options.clone();
        self.devices.attach(&asked, |priority| {
            SlotDevice::new(device, options, priority)
        })
    }

    /// Is there a device that takes pages?
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open_but(0)
    }

    /// Is there one that is not `forbidden` (a bit each)? Cheap.
    #[inline]
    #[must_use]
    pub fn is_open_but(&self, forbidden: u8) -> bool {
        self.devices.any_open_but(u32::from(forbidden))
    }

    /// Writes pages to free slots of the first device that takes them, but none of `forbidden` (a bit each): as many from
    /// the start as it has neighbouring slots for, which is one at least, in one call. Returns the first slot and how many.
    ///
    /// # Errors
    /// `Full`, `Closed` or `Io`; nothing is taken then.
    pub fn write(&self, pages: &[u8], forbidden: u8) -> Result<(Slot, usize), StoreError> {
        let (mut why, mut left_out) = (StoreError::Closed, forbidden);
        while let Some((device, attached)) = self.devices.next_to_write(left_out) {
            left_out |= 1 << device;
            match attached.write(pages) {
                Ok((index, count, sequential)) => {
                    self.note_written(u64::from(count), sequential);
                    return Ok((Slot { device, index }, count as usize));
                }
                Err(StoreError::Closed) => {}
                Err(error) => {
                    self.count_error(error);
                    why = error;
                }
            }
            if attached.error().is_some() {
                self.devices.recount();
            }
        }
        Err(why)
    }

    fn note_written(&self, slots: u64, sequential: bool) {
        let bytes = slots * PAGE_SIZE as u64;
        self.counters.write_calls.inc();
        self.counters.written_bytes.add(bytes);
        if sequential {
            self.counters.sequential_bytes.add(bytes);
        }
        let held = self.counters.held_slots.add(slots);
        self.counters.held_peak_slots.max(held);
    }

    fn count_error(&self, error: StoreError) {
        if matches!(error, StoreError::Io(_)) {
            self.counters.device_errors.inc();
        }
    }

    /// Reads the page of a slot. The caller keeps the slot meanwhile.
    ///
    /// # Errors
    /// `Io`, as the device has it; the slot stays as it is.
    pub fn read(&self, slot: Slot, out: &mut [u8]) -> Result<(), StoreError> {
        let read = match self.devices.pin(slot.device) {
            Some(attached) => attached.read_slot(slot.index, out),
            None => Err(Errno::ENODEV),
        };
        match read {
            Ok(()) => {
                self.counters.read_calls.inc();
                self.counters.read_bytes.add(out.len() as u64);
                Ok(())
            }
            Err(errno) => {
                self.counters.device_errors.inc();
                Err(StoreError::Io(errno))
            }
        }
    }

    /// Gives a slot back. Does I/O only when it was the last of its place.
    pub fn free(&self, slot: Slot) {
        if let Some(attached) = self.devices.pin(slot.device) {
            attached.free(slot.index);
            self.counters.held_slots.sub(1);
        }
    }

    /// From now on a device takes no more pages.
    ///
    /// # Errors
    /// `NotOn`, `Draining`.
    pub fn begin_off(&self, device: u8) -> Result<SlotsOff, SwapoffError> {
        self.devices.begin_off(device)
    }

    /// Gives up: the device takes pages again.
    pub fn cancel_off(&self, off: &SlotsOff) {
        self.devices.cancel_off(off);
    }

    /// Takes the empty device out of the table, after [`SlotsOff::is_empty`]. Its descriptors are the caller's to close.
    pub fn end_off(&self, off: SlotsOff) -> Detached {
        self.devices.end_off(off)
    }

    pub(crate) fn infos(&self) -> impl Iterator<Item = DeviceInfo> {
        self.devices.infos()
    }

    /// Free slots of each device that takes pages, by number.
    pub(crate) fn rooms(&self, file_system: Option<u64>) -> impl Iterator<Item = (u8, u64)> {
        self.devices
            .each_open()
            .map(move |(number, device)| (number, device.free_slots(file_system)))
    }

    /// Slots of a device that this process holds. Walks its masks.
    #[must_use]
    pub fn held_on(&self, device: u8) -> u64 {
        self.devices.pin(device).map_or(0, |at| at.held())
    }

    /// Bytes this process holds in slots.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counters.held_slots.get() * PAGE_SIZE as u64
    }

    /// Slots of all devices that take pages together, taken or not. Cheap.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.devices.capacity_bytes() / PAGE_SIZE as u64
    }

    /// Memory that the tables of slots hold: bitmaps and masks.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        let maps: u64 = self.devices.each().map(|(_, at)| at.map_bytes()).sum();
        maps + self.counters.held_slots.get() * size_of::<u64>() as u64
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> &SlotCounters {
        &self.counters
    }

    /// The first error that closed a device for writing, by its number.
    #[must_use]
    pub fn first_error(&self) -> Option<(u8, Errno)> {
        self.devices.first_error()
    }

    /// The laws: every slot named is held and named once, and no other is held.
    /// **Context**: at rest; allocates.
    #[must_use]
    pub fn check(&self, mut named: Vec<Slot>) -> Vec<String> {
        let mut laws = Vec::new();
        let count = named.len() as u64;
        named.sort_unstable();
        for pair in named.windows(2) {
            if let [one, other] = pair
                && one == other
            {
                laws.push(format!("two pages are in {one:?}"));
            }
        }
        for slot in &named {
            let device = self.devices.pin(slot.device);
            if !device.is_some_and(|at| at.holds(slot.index)) {
                laws.push(format!("{slot:?} is named but not held"));
            }
        }
        let held: u64 = self.devices.each().map(|(_, at)| at.held()).sum();
        let counted = self.counters.held_slots.get();
        if held != count || counted != count {
            laws.push(format!(
                "{count} slots are named, {held} are held, {counted} are counted"
            ));
        }
        laws
    }

    pub(crate) fn descriptors(&self) -> Vec<i32> {
        self.devices.descriptors()
    }

    pub(crate) fn kept_by(&self, tid: i32) {
        self.devices.kept_by(tid);
    }

    /// Frees what processes that are gone still held.
    pub fn reap(&self) {
        self.devices.reap();
    }

    /// Before the locks are taken for a fork: room, and descriptors good in the
    /// calling thread's table, which is what the child gets.
    pub fn before_fork(&self) {
        self.devices.before_fork();
    }

    /// Before a fork: room for the child on every device. **Context**: as
    /// [`crate::Store::fork_prepare`]; nobody takes or frees a slot until after.
    pub fn fork_prepare(&self) {
        self.devices.expect_child();
        for (_, device) in self.devices.each() {
            device.holders().grant_child_all();
        }
    }

    /// In the parent; `forked`: there is a child.
    pub fn fork_parent(&self, forked: bool) {
        self.devices.parent_after_fork(forked);
    }

    /// In the child, which holds what its parent held.
    pub fn fork_child(&self) {
        self.devices.child_after_fork();
    }
}
