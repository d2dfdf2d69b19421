//! The end of a slots device: its pages go elsewhere, one by one.
//!
//! A segment's place is named by the segment table, so a device of segments is emptied without looking at an entry. A slot is
//! named by its entry alone, so every entry has to be looked at, and every page of the device read and stored again. That is
//! the cost of swap without the log; `vswap bench layers` measures it.

use crate::descriptor::Backing;
use crate::entry::{CLUSTER_ENTRIES, EntryId};
use crate::layer::SwapLayer;
use core::fmt;
use vswap_store::{GroupId, Resource, StoreError, Workspace};

/// Why a slots device could not be emptied. It takes pages again, and every page is somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyError {
    /// There is no such device.
    NoDevice,
    /// Somebody said to stop.
    Stopped,
    /// A page could not be read, or found no other place.
    Store(StoreError),
}

impl fmt::Display for EmptyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("there is no such slots device"),
            Self::Stopped => f.write_str("stopped: the device holds what had not been moved yet"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EmptyError {}

/// How far the emptying of a slots device has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Entries looked at.
    pub visited: u64,
    /// Pages moved.
    pub moved: u64,
}

impl SwapLayer {
    /// May pages of this group go to slots? Only where nothing restricts what it may hold on devices: slots are charged to nobody.
    #[inline]
    pub(crate) fn may_use_slots(&self, group: GroupId) -> bool {
        let groups = self.store.groups();
        self.store.slots().is_open()
            && groups.forbidden_devices(group) == Some(0)
            && groups
                .chain(group)
                .all(|at| groups.limit(at, Resource::Device).is_none())
    }

    /// Moves every page of a slots device into the log or to another slots device. Entries keep their ids; `page` is a buffer of
    /// one page. `go_on` is asked after each cluster. Other threads may do anything meanwhile.
    ///
    /// # Errors
    /// See [`EmptyError`]. What was moved stays moved.
    pub fn empty_slots(
        &self,
        device: u8,
        page: &mut [u8],
        workspace: &mut Workspace,
        go_on: &mut dyn FnMut(Emptied) -> bool,
    ) -> Result<Emptied, EmptyError> {
        let slots = self.store.slots();
        if !slots.set_closed(device, true) {
            return Err(EmptyError::NoDevice);
        }
        let mut done = Emptied::default();
        // A page may have been on its way there when the device closed: once more, until none was found.
        loop {
            let before = done.moved;
            if let Err(error) = self.empty_once(device, page, workspace, &mut done, go_on) {
                slots.set_closed(device, false);
                return Err(error);
            }
            if done.moved == before {
                return Ok(done);
            }
        }
    }

    fn empty_once(
        &self,
        device: u8,
        page: &mut [u8],
        workspace: &mut Workspace,
        done: &mut Emptied,
        go_on: &mut dyn FnMut(Emptied) -> bool,
    ) -> Result<(), EmptyError> {
        for cluster in self.allocator.inhabited() {
            for offset in 0..CLUSTER_ENTRIES {
                let Some(entry) = EntryId::from_parts(cluster, offset) else {
                    continue;
                };
                done.visited += 1;
                let moved = self.move_out_of_slot(entry, device, page, workspace);
                done.moved += u64::from(moved.map_err(EmptyError::Store)?);
            }
            if !go_on(*done) {
                return Err(EmptyError::Stopped);
            }
        }
        Ok(())
    }

    /// True if the page was there.
    fn move_out_of_slot(
        &self,
        entry: EntryId,
        device: u8,
        page: &mut [u8],
        workspace: &mut Workspace,
    ) -> Result<bool, StoreError> {
        let is_there = |backing| matches!(backing, Backing::Slot(slot) if slot.device == device);
        if !is_there(self.hint(entry)) {
            return Ok(false);
        }
        let Some(mut pin) = self.pin(entry) else {
            return Ok(false);
        };
        let Backing::Slot(slot) = pin.backing() else {
            return Ok(false);
        };
        if slot.device != device {
            return Ok(false);
        }
        self.store.slots().read(slot, page)?;
        pin.swap_out(page, workspace).map(|_| true)
    }
}
