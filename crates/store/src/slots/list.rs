//! The slots devices: a fixed table of rows that come and go, as the one of devices for segments.
//!
//! A row's lock is held only to look into it, never over I/O: whoever wants to touch a device pins it under the lock and goes
//! on without. A device is taken out when this process holds no slot of it; those who had pinned it are waited for. Its number
//! is in the names of its slots, so nobody who has such a name, under the pin of its entry, finds another device under it.

use core::cmp::Reverse;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::rank;

use super::MAX_SLOT_DEVICES;
use super::device::{Pinned, SlotDevice};
use crate::device::{DeviceOptions, SwapDevice};
use crate::swapoff::SwapoffError;

type Row = RankedMutex<Option<Arc<SlotDevice>>, { rank::DEVICE }>;

pub(super) struct SlotDevices {
    rows: [Row; MAX_SLOT_DEVICES],
    /// The priority given last to a device without one.
    lowest: AtomicI32,
    /// Devices that take pages, a bit each, and the slots they have together.
    open: AtomicU32,
    capacity: AtomicU64,
    /// Bytes of all bitmaps.
    map_bytes: AtomicU64,
}

impl Default for SlotDevices {
    fn default() -> Self {
        Self {
            rows: [const { RankedMutex::new(None) }; MAX_SLOT_DEVICES],
            lowest: AtomicI32::new(0),
            open: AtomicU32::new(0),
            capacity: AtomicU64::new(0),
            map_bytes: AtomicU64::new(0),
        }
    }
}

impl SlotDevices {
    pub(super) fn attach(
        &self,
        device: Box<dyn SwapDevice>,
        options: DeviceOptions,
    ) -> Result<u8, Errno> {
        let priority = options
            .priority
            .unwrap_or_else(|| self.lowest.fetch_sub(1, Ordering::Relaxed) - 1);
        let attached = Arc::new(SlotDevice::new(device, options, priority)?);
        for (number, row) in (0_u8..).zip(&self.rows) {
            let mut row = row.lock();
            if row.is_none() {
                *row = Some(attached);
                drop(row);
                self.recount();
                return Ok(number);
            }
        }
        Err(Errno::ENOSPC)
    }

    pub(super) fn pin(&self, number: u8) -> Option<Pinned> {
        let row = self.rows.get(usize::from(number))?.lock();
        row.as_ref().map(SlotDevice::pin)
    }

    /// Every device, pinned one after the other.
    pub(super) fn each(&self) -> impl Iterator<Item = (u8, Pinned)> {
        (0..MAX_SLOT_DEVICES as u8).filter_map(|number| Some((number, self.pin(number)?)))
    }

    /// Devices that take pages now.
    pub(super) fn recount(&self) {
        let (mut open, mut slots, mut bytes) = (0, 0, 0);
        for (number, device) in self.each() {
            bytes += device.map_bytes();
            if device.is_open() {
                open |= 1 << number;
                slots += u64::from(device.capacity());
            }
        }
        self.open.store(open, Ordering::Relaxed);
        self.capacity.store(slots, Ordering::Relaxed);
        self.map_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Does any device but those of `forbidden` (a bit each) take pages? Cheap.
    pub(super) fn any_open_but(&self, forbidden: u8) -> bool {
        self.open.load(Ordering::Relaxed) & !u32::from(forbidden) != 0
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn map_bytes(&self) -> u64 {
        self.map_bytes.load(Ordering::Relaxed)
    }

    /// The device to write to: the highest priority, of equal ones the first.
    pub(super) fn next_to_write(&self, left_out: u8) -> Option<(u8, Pinned)> {
        let open = self.open.load(Ordering::Relaxed);
        (0..MAX_SLOT_DEVICES as u8)
            .filter(|number| left_out >> number & 1 == 0 && open >> number & 1 != 0)
            .filter_map(|number| Some((number, self.pin(number)?)))
            .filter(|(_, device)| device.is_open())
            .max_by_key(|(number, device)| (device.priority(), Reverse(*number)))
    }

    pub(super) fn begin_off(&self, number: u8) -> Result<SlotsOff, SwapoffError> {
        let row = self.rows.get(usize::from(number));
        let device = row.and_then(|row| row.lock().clone());
        let device = device.ok_or(SwapoffError::NotOn)?;
        if !device.begin_draining() {
            return Err(SwapoffError::Draining);
        }
        self.recount();
        Ok(SlotsOff { number, device })
    }

    pub(super) fn cancel_off(&self, off: &SlotsOff) {
        off.device.end_draining();
        self.recount();
    }

    pub(super) fn detach(&self, off: SlotsOff) -> DetachedSlots {
        if let Some(row) = self.rows.get(usize::from(off.number)) {
            let mut row = row.lock();
            if row
                .as_ref()
                .is_some_and(|there| Arc::ptr_eq(there, &off.device))
            {
                *row = None;
            }
        }
        self.recount();
        off.device.leave();
        DetachedSlots(off.device)
    }

    /// A thread of the parent may have held a row's lock, to look into it.
    pub(super) fn child_after_fork(&self) {
        self.rows.iter().for_each(RankedMutex::reset_in_child);
        for row in &self.rows {
            let device = row.lock().clone();
            if let Some(device) = device {
                device.fork_child();
            }
        }
        self.recount();
    }
}

/// A slots device on its way off: it takes no more pages.
pub struct SlotsOff {
    number: u8,
    device: Arc<SlotDevice>,
}

impl SlotsOff {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Does this process hold none of its slots, and never will again?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.device.is_left()
    }

    pub(crate) fn file_system(&self) -> Option<u64> {
        self.device.file_system()
    }
}

/// A slots device that was taken off. Its descriptors are closed in the table of each thread that calls
/// [`DetachedSlots::close`].
pub struct DetachedSlots(Arc<SlotDevice>);

impl DetachedSlots {
    /// Closes what it has open in the calling thread's descriptor table.
    pub fn close(&self) {
        self.0.close();
    }
}
