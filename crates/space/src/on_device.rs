//! Which device a page is on, by a look without the pin: true at that moment, and perhaps no longer.

use crate::descriptor::Backing;
use crate::entry::EntryId;
use crate::layer::SwapLayer;
use vswap_store::Stored;

/// A device, by its number among those of its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDevice {
    /// In a segment on it.
    Segments(u8),
    /// In a slot of it.
    Slots(u8),
}

impl SwapLayer {
    /// Whether reading the page would need I/O, other than from a slot.
    #[must_use]
    pub fn is_on_device(&self, entry: EntryId) -> bool {
        self.needs_device(self.hint(entry))
    }

    /// The same of what [`SwapLayer::hint`] said.
    #[must_use]
    pub fn needs_device(&self, backing: Backing) -> bool {
        self.object_in(backing)
            .is_some_and(|object| !self.store.is_in_ram(object))
    }

    /// What [`SwapLayer::hint`] said is about to be read: brings it near, if it is in RAM.
    pub fn prefetch(&self, backing: Backing) {
        if let Some(object) = self.object_in(backing) {
            self.store.prefetch(object);
        }
    }

    /// The device the page is on.
    #[must_use]
    pub fn device_of(&self, entry: EntryId) -> Option<OnDevice> {
        if let Backing::Slot(slot) = self.hint(entry) {
            return Some(OnDevice::Slots(slot.device));
        }
        self.store
            .device_of(self.object_in(self.hint(entry))?)
            .map(OnDevice::Segments)
    }

    fn object_in(&self, backing: Backing) -> Option<Stored> {
        match backing {
            Backing::Stored(object) => Some(object),
            Backing::Shared(id) => self.shared_place(id),
            _ => None,
        }
    }
}
