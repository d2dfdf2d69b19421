//! The devices of a store: a fixed table of slots that come and go.
//!
//! A slot's lock is held only to look into it, never over I/O: whoever wants to
//! touch a device pins it under the lock and goes on without. A device is taken
//! out of its slot when no segment names it; those who had pinned it are waited
//! for. A reader whose word names a slot that is empty by now, or has another
//! device, finds its word changed and looks again.
//!
//! A slot's number is in the words of the segments there, so a device keeps it
//! while it is attached, and priorities order numbers, not slots.

use core::cmp::Reverse;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;
use vswap_units::rank;

use super::SwapDevice;
use super::attached::{Attached, Detached, Pinned, Written};
use super::info::{DeviceInfo, DeviceOptions};
use crate::SEGMENT_BYTES;
use crate::error::StoreError;
use crate::word::{MAX_DEVICES, Place};

type Slot = RankedMutex<Option<Arc<Attached>>, { rank::DEVICE }>;

/// The devices of a store.
pub(crate) struct Devices {
    slots: [Slot; MAX_DEVICES],
    /// Writes so far, to give equal devices turns.
    turn: AtomicU64,
    /// The priority given last to a device without one.
    lowest: AtomicI32,
    /// Devices that take writes, a bit each, and the bytes they hold together.
    open: AtomicU32,
    capacity: AtomicU64,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            slots: [const { RankedMutex::new(None) }; MAX_DEVICES],
            turn: AtomicU64::new(0),
            lowest: AtomicI32::new(0),
            open: AtomicU32::new(0),
            capacity: AtomicU64::new(0),
        }
    }
}

impl Devices {
    pub(crate) fn attach(
        &self,
        device: Box<dyn SwapDevice>,
        options: DeviceOptions,
    ) -> Result<u8, Errno> {
        let priority = options
            .priority
            .unwrap_or_else(|| self.lowest.fetch_sub(1, Ordering::Relaxed) - 1);
        let attached = Arc::new(Attached::new(device, options, priority)?);
        for (number, slot) in (0_u8..).zip(&self.slots) {
            let mut slot = slot.lock();
            if slot.is_none() {
                *slot = Some(attached);
                drop(slot);
                self.recount();
                return Ok(number);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Takes a device out that no segment names any more.
    pub(crate) fn detach(&self, number: u8, device: Arc<Attached>) -> Detached {
        if let Some(slot) = self.slots.get(usize::from(number)) {
            let mut slot = slot.lock();
            if slot
                .as_ref()
                .is_some_and(|there| Arc::ptr_eq(there, &device))
            {
                *slot = None;
            }
        }
        self.recount();
        device.leave();
        Detached::new(device)
    }

    /// The device in a slot, without keeping it there.
    pub(crate) fn get(&self, number: u8) -> Option<Arc<Attached>> {
        self.slots.get(usize::from(number))?.lock().clone()
    }

    /// The number of the device of that name.
    pub(crate) fn find(&self, name: &str) -> Option<u8> {
        self.each()
            .find(|(_, device)| device.name() == name)
            .map(|(number, _)| number)
    }

    pub(crate) fn pin(&self, number: u8) -> Option<Pinned> {
        let slot = self.slots.get(usize::from(number))?.lock();
        slot.as_ref().map(Attached::pin)
    }

    /// Every device, pinned one after the other.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u8, Pinned)> {
        (0..MAX_DEVICES as u8).filter_map(|number| Some((number, self.pin(number)?)))
    }

    /// Other devices take writes now.
    pub(crate) fn recount(&self) {
        let (mut open, mut places) = (0, 0);
        for (number, device) in self.each().filter(|(_, device)| device.is_open()) {
            open |= 1 << number;
            places += u64::from(device.capacity());
        }
        self.open.store(open, Ordering::Relaxed);
        self.capacity
            .store(places * SEGMENT_BYTES as u64, Ordering::Relaxed);
    }

    /// Bytes that devices which take writes hold together.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Writes a segment to the first device that takes it, but none of
    /// `forbidden` (a bit each): the highest priority first, equal ones in turn.
    pub(crate) fn write(&self, bytes: &[u8], forbidden: u16) -> Result<Written, StoreError> {
        let mut why = StoreError::Closed;
        let mut left_out = forbidden;
        while let Some((number, device)) = self.next_to_write(left_out) {
            left_out |= 1 << number;
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
            match device.write(number, turn, bytes) {
                Ok(written) => return Ok(written),
                // Of several reasons the most telling one: failed, full, closed.
                Err(StoreError::Closed) => {}
                Err(StoreError::Full) if why != StoreError::Closed => {}
                Err(error) => why = error,
            }
            if device.error().is_some() {
                self.recount();
            }
        }
        Err(why)
    }

    fn next_to_write(&self, left_out: u16) -> Option<(u8, Arc<Attached>)> {
        (0..MAX_DEVICES as u8)
            .filter(|number| left_out >> number & 1 == 0)
            .filter_map(|number| Some((number, self.get(number)?)))
            .filter(|(_, device)| device.is_open())
            .max_by_key(|(_, device)| (device.priority(), Reverse(device.turn())))
    }

    pub(crate) fn read(&self, place: Place, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        let device = self.pin(place.device).ok_or(Errno::ENODEV)?;
        device.read(place.index, offset, out)
    }

    /// A read failed and the segment still is there.
    pub(crate) fn count_error(&self, place: Place) {
        if let Some(device) = self.pin(place.device) {
            device.count_error();
        }
    }

    /// Lets go of a place; the last holder also gives its space back.
    pub(crate) fn give_back(&self, place: Place) {
        if let Some(device) = self.pin(place.device) {
            device.give_back(place.index);
        }
    }

    /// The first error that closed a device for writing, by its number.
    pub(crate) fn first_error(&self) -> Option<(usize, Errno)> {
        self.each()
            .find_map(|(number, device)| Some((usize::from(number), device.error()?)))
    }

    /// Does any device but those of `forbidden` take writes? Cheap.
    pub(crate) fn any_open_but(&self, forbidden: u16) -> bool {
        self.open.load(Ordering::Relaxed) & !u32::from(forbidden) != 0
    }

    /// Places this process holds on all devices, for the self-check.
    pub(crate) fn held_places(&self) -> u64 {
        self.each().map(|(_, device)| device.places.held()).sum()
    }

    /// Does this process hold that place?
    pub(crate) fn holds(&self, place: Place) -> bool {
        self.pin(place.device)
            .is_some_and(|device| device.places.holds(place.index))
    }

    /// Does this process hold that place, and no other one?
    pub(crate) fn is_ours_alone(&self, place: Place) -> bool {
        self.pin(place.device)
            .is_some_and(|device| device.places.is_ours_alone(place.index))
    }

    /// Frees what processes that are gone still held.
    pub(crate) fn reap(&self) {
        self.each().for_each(|(_, device)| device.reap());
    }

    pub(crate) fn descriptors(&self) -> Vec<i32> {
        self.each()
            .filter_map(|(_, device)| device.descriptor())
            .collect()
    }

    pub(crate) fn kept_by(&self, tid: i32) {
        self.each().for_each(|(_, device)| device.kept_by(tid));
    }

    pub(crate) fn infos(&self) -> impl Iterator<Item = DeviceInfo> {
        self.each().map(|(number, device)| device.info(number))
    }

    /// Before the locks are taken for a fork: room for the child, and descriptors
    /// good in the calling thread's table, which is what the child gets.
    pub(crate) fn before_fork(&self) {
        for (_, device) in self.each() {
            device.reap();
            let _ = device.descriptor();
        }
    }

    /// Before a fork: a slot for the child on every device.
    pub(crate) fn expect_child(&self) {
        self.each()
            .for_each(|(_, device)| device.places.expect_child());
    }

    /// The child will need this place too.
    pub(crate) fn grant_child(&self, place: Place) {
        if let Some(device) = self.pin(place.device) {
            device.places.grant_child(place.index);
        }
    }

    pub(crate) fn parent_after_fork(&self, forked: bool) {
        self.each()
            .for_each(|(_, device)| device.places.parent_after_fork(forked));
    }

    /// A thread of the parent may have held a slot's lock, to look into it.
    pub(crate) fn child_after_fork(&self) {
        self.slots.iter().for_each(RankedMutex::reset_in_child);
        for slot in &self.slots {
            let device = slot.lock().clone();
            if let Some(device) = device {
                device.child_after_fork();
            }
        }
        self.recount();
    }
}
