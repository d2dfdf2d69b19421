//! The slots devices: which is written to, and how one goes.
//!
//! A device is taken out when this process holds no slot of it. Its number is in the names of its slots, so nobody who has
//! such a name, under the pin of its entry, finds another device under it.

use core::cmp::Reverse;
use std::sync::Arc;

use super::MAX_SLOT_DEVICES;
use super::device::SlotDevice;
use crate::device::{Detached, DeviceTable, Pinned};
use crate::swapoff::SwapoffError;

pub(super) type SlotDevices = DeviceTable<SlotDevice, MAX_SLOT_DEVICES>;

impl SlotDevices {
    /// The device to write to: the highest priority, of equal ones the first.
    pub(super) fn next_to_write(&self, left_out: u8) -> Option<(u8, Pinned<SlotDevice>)> {
        self.each_open()
            .filter(|(number, _)| left_out >> number & 1 == 0)
            .max_by_key(|(number, device)| (device.priority, Reverse(*number)))
    }

    pub(super) fn begin_off(&self, number: u8) -> Result<SlotsOff, SwapoffError> {
        let device = self.get(number).ok_or(SwapoffError::NotOn)?;
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

    pub(super) fn end_off(&self, off: SlotsOff) -> Detached {
        self.detach(off.number, off.device)
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

    pub(crate) fn frees_space_on(&self) -> Option<u64> {
        self.device.frees_space_on()
    }
}
