//! The devices of a store for segments.
//!
//! A device is taken out when no segment names it. A reader whose word names a row that is empty by now, or has another
//! device, finds its word changed and looks again.

use core::cmp::Reverse;
use std::sync::Arc;

use vswap_platform::errno::Errno;

use super::SwapDevice;
use super::attached::{Attached, Written};
use super::info::DeviceOptions;
use super::table::DeviceTable;
use crate::error::StoreError;
use crate::word::{MAX_DEVICES, Place};

/// The devices of a store.
pub(crate) type Devices = DeviceTable<Attached, MAX_DEVICES>;

impl Devices {
    pub(crate) fn attach_for_segments(
        &self,
        device: Box<dyn SwapDevice>,
        options: DeviceOptions,
    ) -> Result<u8, Errno> {
        let asked = options.clone();
        self.attach(&asked, |priority| Attached::new(device, options, priority))
    }

    /// The number of the device of that name.
    pub(crate) fn find(&self, name: &str) -> Option<u8> {
        self.each()
            .find(|(_, device)| device.name == name)
            .map(|(number, _)| number)
    }

    /// Writes a segment to the first device that takes it, but none of
    /// `forbidden` (a bit each): the highest priority first, equal ones in turn.
    pub(crate) fn write(&self, bytes: &[u8], forbidden: u16) -> Result<Written, StoreError> {
        let mut why = StoreError::Closed;
        let mut left_out = forbidden;
        while let Some((number, device)) = self.next_to_write(left_out) {
            left_out |= 1 << number;
            match device.write(number, self.next_turn(), bytes) {
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
            .max_by_key(|(_, device)| (device.priority, Reverse(device.turn())))
    }

    /// Later than all turns so far.
    fn next_turn(&self) -> u64 {
        self.each()
            .map(|(_, device)| device.turn())
            .max()
            .unwrap_or(0)
            + 1
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

    /// The child will need this place too.
    pub(crate) fn grant_child(&self, place: Place) {
        if let Some(device) = self.pin(place.device) {
            device.places.grant_child(place.index);
        }
    }
}
