//! The end of a slots device: its pages go elsewhere, one by one.
//!
//! A segment's place is named by the segment table, so a device of segments is emptied without looking at an entry. A slot is
//! named by its entry alone, so every entry has to be looked at, and every page of the device read and stored again. That is
//! the cost of swap without the log; `vswap bench layers` measures it.
//!
//! 1. The device takes no more pages. Pages on their way there still arrive.
//! 2. Whose pages are there? One look at every entry. Does all of it fit elsewhere? If not, nothing has been touched.
//! 3. Entry by entry, under its pin. Entries keep their ids, and other threads do what they like meanwhile.
//! 4. When this process holds no slot and nobody is inside, the device leaves the table. Until then the entries are gone
//!    through again: what was on its way has arrived.
//!
//! Given up at any point, or failing, the device takes pages again; what has moved stays where it is now.

use crate::descriptor::Backing;
use crate::entry::{CLUSTER_ENTRIES, EntryId};
use crate::layer::SwapLayer;
use std::collections::BTreeMap;
use vswap_store::device::Detached;
use vswap_store::{GroupId, Progress, SlotsOff, Step, StoreError, SwapoffError, Workspace};
use vswap_units::Bytes;

/// Pages moved per step: others wait for the thread meanwhile.
const STEP_PAGES: u32 = 16;

/// A slots device on its way off.
pub struct Emptying {
    off: SlotsOff,
    /// The entry looked at next.
    cluster: usize,
    offset: usize,
    visited: u64,
    progress: Progress,
}

impl Emptying {
    /// Pages moved so far, and how many there were.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Entries looked at so far.
    #[must_use]
    pub const fn visited(&self) -> u64 {
        self.visited
    }
}

impl SwapLayer {
    /// The slots devices that pages of this group may not go to, a bit each; `None` if it may go to none that is on.
    #[inline]
    pub(crate) fn forbidden_slots(&self, group: GroupId) -> Option<u8> {
        let slots = self.store.slots();
        if !slots.is_open() {
            return None;
        }
        let forbidden = self.store.groups().forbidden_slots(group)?;
        slots.is_open_but(forbidden).then_some(forbidden)
    }

    /// Begins to take a slots device off, if all of it fits on other devices and in `ram` more bytes of RAM.
    ///
    /// # Errors
    /// See [`SwapoffError`]; nothing was changed.
    pub fn slots_off_begin(&self, device: u8, ram: Bytes) -> Result<Emptying, SwapoffError> {
        let off = self.store.slots().begin_off(device)?;
        let held = self.held_in_slots(device);
        let excess = self.store.excess_of_pages(&off, &held, ram);
        if excess.0 > 0 {
            self.store.slots().cancel_off(&off);
            return Err(SwapoffError::DoesNotFit { excess });
        }
        let total: u64 = held.iter().map(|(_, pages)| pages).sum();
        Ok(Emptying {
            off,
            cluster: 0,
            offset: 0,
            visited: 0,
            progress: Progress {
                moved: 0,
                total: u32::try_from(total).unwrap_or(u32::MAX),
            },
        })
    }

    /// Moves the next pages of a slots device into the log or to another slots device. `page` is a buffer of one page; `ram`
    /// says whether there is room for a page in RAM at that moment. **Context**: no pin is held; waits for I/O.
    ///
    /// # Errors
    /// `Store`: the page stays; the step may be tried again, or given up.
    pub fn slots_off_step(
        &self,
        emptying: &mut Emptying,
        page: &mut [u8],
        workspace: &mut Workspace,
        ram: &mut dyn FnMut() -> bool,
    ) -> Result<Step, SwapoffError> {
        let mut moved = 0;
        let from = emptying.cluster;
        for cluster in self.allocator.inhabited().skip_while(|&at| at < from) {
            if cluster != emptying.cluster {
                (emptying.cluster, emptying.offset) = (cluster, 0);
            }
            while emptying.offset < CLUSTER_ENTRIES {
                if moved == STEP_PAGES {
                    return Ok(Step::Moved);
                }
                moved += self.move_next(emptying, page, workspace, ram)?;
            }
        }
        (emptying.cluster, emptying.offset) = (0, 0);
        Ok(match moved {
            0 if emptying.off.is_empty() => Step::Empty,
            0 => Step::Waiting,
            _ => Step::Moved,
        })
    }

    /// Looks at one entry; 1 if its page was there and has moved.
    fn move_next(
        &self,
        emptying: &mut Emptying,
        page: &mut [u8],
        workspace: &mut Workspace,
        ram: &mut dyn FnMut() -> bool,
    ) -> Result<u32, SwapoffError> {
        let moved = match EntryId::from_parts(emptying.cluster, emptying.offset) {
            Some(entry) => self
                .move_out_of_slot(entry, emptying.off.number(), page, workspace, ram)
                .map_err(SwapoffError::Store)?,
            None => false,
        };
        emptying.offset += 1;
        emptying.visited += 1;
        emptying.progress.moved += u32::from(moved);
        Ok(moved.into())
    }

    /// Takes the empty device out of the table, after [`Step::Empty`]. Its descriptors are the caller's to close.
    pub fn slots_off_end(&self, emptying: Emptying) -> Detached {
        self.store.slots().end_off(emptying.off)
    }

    /// Gives up: the device takes pages again.
    pub fn slots_off_cancel(&self, emptying: &Emptying) {
        self.store.slots().cancel_off(&emptying.off);
    }

    fn is_in_slot_of(&self, entry: EntryId, device: u8) -> bool {
        matches!(self.hint(entry), Backing::Slot(slot) if slot.device == device)
    }

    /// Pages on a slots device by who pays for their entries.
    fn held_in_slots(&self, device: u8) -> Vec<(GroupId, u64)> {
        let mut held = BTreeMap::new();
        for cluster in self.allocator.inhabited() {
            let entries = (0..CLUSTER_ENTRIES).filter_map(|at| EntryId::from_parts(cluster, at));
            let there = entries.filter(|entry| self.is_in_slot_of(*entry, device));
            let pages = there.count() as u64;
            if pages > 0 {
                *held.entry(self.allocator.payer(cluster)).or_default() += pages;
            }
        }
        held.into_iter().collect()
    }

    /// True if the page was there.
    fn move_out_of_slot(
        &self,
        entry: EntryId,
        device: u8,
        page: &mut [u8],
        workspace: &mut Workspace,
        ram: &mut dyn FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        if !self.is_in_slot_of(entry, device) {
            return Ok(false);
        }
        let has_room = ram();
        let Some(mut pin) = self.pin(entry) else {
            return Ok(false);
        };
        let Backing::Slot(slot) = pin.backing() else {
            return Ok(false);
        };
        if slot.device != device {
            return Ok(false);
        }
        if !has_room {
            return Err(StoreError::NoRoom);
        }
        self.store.slots().read(slot, page)?;
        pin.swap_out(page, workspace)?;
        Ok(true)
    }
}
